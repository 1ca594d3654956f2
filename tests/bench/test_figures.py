"""What the benchmark says is what it measured: goals, ratios, percentiles, and the file they are kept in."""

import json

import pytest

from bench import __main__ as command
from bench.figures import REPORTED, Figure, Goal, Wanted, compare, keep, markdown, percentile


def figure(name="one", value=1.0, **more):
    return Figure(name, value, "ms", "here", **more)


@pytest.mark.parametrize(
    ("goal", "reached", "missed"), [(Goal(200), 200, 199.9), (Goal(at_most=6), 6, 6.1), (Goal(0.9, 1.1), 1.05, 0.89)]
)
def test_a_goal_is_reached_at_its_bound_and_not_beyond(goal, reached, missed):
    assert goal.holds(reached)
    assert not goal.holds(missed)


def test_what_is_only_reported_cannot_miss():
    assert REPORTED.holds(float("inf"))
    assert str(REPORTED) == "reported"


def test_a_ratio_is_the_median_of_the_rounds_and_not_of_the_sums():
    made = compare("x", "1/s", "here", Goal(2), [10, 30, 20], "theirs", [10, 10, 10])
    assert (made.value, made.reference_value, made.ratio, made.spread) == (20, 10, 2, (1, 3))
    assert made.holds


def test_a_value_without_a_reference_is_judged_itself():
    assert not figure(value=3.0, goal=Goal(at_most=2)).holds


def test_percentiles_are_values_that_were_measured():
    assert [percentile(range(1, 101), share) for share in (0.5, 0.99, 1.0)] == [51, 100, 100]


def test_new_figures_take_the_place_of_old_ones_and_leave_the_others(tmp_path):
    path = tmp_path / "results.json"
    keep([figure("b", 1.0), figure("a", 2.0)], path)
    keep([figure("b", 3.0, reference="theirs", reference_value=1.5, ratio=2.0)], path)
    entries = json.loads(path.read_text())
    assert [(entry["name"], entry["value"], entry["ratio"]) for entry in entries] == [("a", 2.0, None), ("b", 3.0, 2.0)]
    assert set(entries[0]) >= {"name", "value", "unit", "reference", "reference_value", "ratio", "setup"}


def test_names_are_stable_and_each_is_given_once():
    names = [name for part in command.all_parts() for name in part.names]
    assert len(names) == len(set(names))
    assert {"rate-fork-postgresql", "rate-fork-sqlite", "peek-snapshot-postgresql", "tls", "preview", "page"} <= set(
        names
    )


def test_a_quick_run_leaves_the_long_figures_out_unless_they_are_named():
    def chosen(wanted):
        return {name for part in command.all_parts() if part.is_wanted(wanted) for name in part.names}

    assert "clock-million-sqlite" not in chosen(Wanted(quick=True))
    assert "clock-million-sqlite" in chosen(Wanted(only=("clock",), quick=True))
    assert chosen(Wanted(only=("tls",))) == {"tls"}


def test_a_figure_nobody_knows_ends_with_the_list_of_those_there_are():
    with pytest.raises(SystemExit, match="rate-fork-postgresql"):
        command.main(["--only", "speed"])


def test_the_table_for_the_documents_tells_every_figure(tmp_path):
    path = tmp_path / "results.json"
    keep(
        [compare("x", "1/s", "here", Goal(2), [20, 30], "theirs", [10, 10]), figure("y", goal=Goal(at_most=0.5))], path
    )
    shown = markdown(path).splitlines()
    assert shown[2] == "| `x` | 25 1/s | 10: theirs | **2.5** (2 … 3) | ≥ 2 | yes |"
    assert shown[3] == "| `y` | 1 ms |  |  | ≤ 0.5 | **no** |"
