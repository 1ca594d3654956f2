"""“Lifetime and expiry” of a connection: typed with units, refused at the field, told on the page in plain words."""

import re
from datetime import timedelta

import pytest

from blueprints import durations
from blueprints.connections import lives
from models import Connection, Priority
from oauth.vocabulary import LifetimeRung
from tests.blueprints.test_cards import inputs
from tests.blueprints.test_connections import FORM

TYPED = {
    "connection-assumed_lifetime": "1 h 30 min",
    "connection-longest_lifetime": "30 d",
    "connection-earliest_refresh": "3600",
    "connection-idle_limit": "2 weeks",
    "connection-expires_in_unit": "milliseconds",
    "connection-introspection_endpoint": "https://login.example.com/introspect",
    "connection-dead_statuses": "401, 403",
    "connection-dead_expression": "error.code == 'INVALID_TOKEN'",
}


@pytest.fixture
def alice(app, world):
    return world.client(world.alice)


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("3600", 3600),
        ("55 min", 3300),
        ("55min", 3300),
        (" 55 Minutes ", 3300),
        ("30 d", 2592000),
        ("1,5 h", 5400),
        ("1.5 h", 5400),
        ("1 h 30 min", 5400),
        ("1 week, 2 days", 777600),
        ("90.5", 90.5),
    ],
)
def test_a_length_of_time_is_typed_with_its_unit_and_shown_so_that_it_reads_back_the_same(typed, seconds):
    assert durations.parse(typed) == seconds
    assert durations.parse(durations.short(seconds)) == seconds


@pytest.mark.parametrize(
    "typed", ["soon", "-5 min", "5 months", "5 min 1 h", "5 5", "min", "1e9", "0", "0.5", "11000 d", "٣ min", "9" * 99]
)
def test_what_is_no_length_of_time_is_refused_with_an_example(typed):
    with pytest.raises(ValueError, match=r"55 min|a second at least|Ten years"):
        durations.parse(typed)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (3300, "55 minutes"),
        (5400, "1 hour 30 minutes"),
        (86400 * 30, "30 days"),
        (1201, "20 minutes 1 second"),
    ],
)
def test_a_length_of_time_is_told_in_words(seconds, words):
    assert durations.words(seconds) == words


def test_everything_typed_is_stored_shown_again_and_leaves_the_authorization_as_it_is(alice, world):
    connection = world.connection(client_id="client")
    assert alice.post_form(f"/connections/{connection.id}", {**FORM, "connection-version": "1"}).status_code == 303
    world.authorize(connection, lifetime=None)
    answer = alice.post_form(f"/connections/{connection.id}", {**FORM, **TYPED, "connection-version": "2"})
    assert answer.status_code == 303, text_of(answer.text)
    row = world.reread(connection)
    assert (row.assumed_lifetime, row.longest_lifetime, row.earliest_refresh) == (5400, 2592000, 3600)
    assert (row.idle_limit, row.expires_in_unit) == (1209600, "milliseconds")
    assert (row.dead_statuses, row.dead_expression) == ([401, 403], TYPED["connection-dead_expression"])
    assert row.introspection_endpoint == TYPED["connection-introspection_endpoint"]
    assert not row.authorization_out_of_date
    token = world.token(connection)
    assert (token.lifetime, token.lifetime_rung, token.introspection_due) == (5400, LifetimeRung.PRESET, True)
    page = alice.get(f"/connections/{connection.id}").text
    shown = inputs(page)
    assert shown["connection-idle_limit"] == "14 d"
    assert shown["connection-earliest_refresh"] == "1 h"
    assert "Lifetime 1 hour 30 minutes: nobody said; set under Advanced" in text_of(page)
    assert shown["connection-dead_statuses"] == "401, 403"


def test_what_nobody_set_stays_as_usual(alice, world):
    alice.post_form("/connections/new", FORM)
    (row,) = world.all(Connection)
    assert (row.assumed_lifetime, row.longest_lifetime, row.earliest_refresh, row.idle_limit) == (None,) * 4
    assert (row.dead_statuses, row.dead_expression, row.expires_in_unit) == ([401], "", "seconds")
    assert "<summary>Lifetime and expiry</summary>" in alice.get(f"/connections/{row.id}").text


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("assumed_lifetime", "an hour or so", "such as 55 min, 12 h or 30 d"),
        ("idle_limit", "0", "a second at least"),
        ("longest_lifetime", "20 years", "such as 55 min"),
        ("dead_statuses", "401 and 403", "statuses from 400 to 599"),
        ("dead_statuses", "200", "statuses from 400 to 599"),
        ("dead_expression", "error.code ==", "no JMESPath"),
        ("dead_expression", "[@, @]", "does more"),
        ("introspection_endpoint", "provider/introspect", "the whole address"),
        ("expires_in_unit", "weeks", "Not a valid choice"),
    ],
)
def test_a_mistake_is_told_at_its_field_and_nothing_typed_is_lost(alice, world, field, typed, words):
    answer = alice.post_form("/connections/new", {**FORM, **TYPED, f"connection-{field}": typed})
    assert answer.status_code == 422
    assert world.all(Connection) == []
    error = re.search(rf'id="connection-{field}-error"[^>]*>([^<]*)', answer.text)
    assert words in error[1].replace("&#39;", "'"), error[1]
    shown = inputs(answer.text)
    expected = {name: value for name, value in TYPED.items() if name != f"connection-{field}"}
    assert {name: shown.get(name, expected[name]) for name in expected} == expected
    if field != "expires_in_unit":
        assert shown[f"connection-{field}"].replace("&#39;", "'") == typed
    assert answer.text.count('<details class="advanced" open>') == answer.text.count('<details class="more" open>') == 1


def test_times_that_cannot_all_be_kept_are_refused(alice):
    def refused(**changes):
        typed = {f"connection-{name}": value for name, value in changes.items()}
        return text_of(alice.post_form("/connections/new", {**FORM, **typed}).text)

    assert "shorter than the longest lifetime" in refused(earliest_refresh="1 h", longest_lifetime="1 h")
    assert "half at most" in refused(earliest_refresh="20 d", idle_limit="30 d")


def test_the_other_flow_has_no_idle_limit_and_gives_back_what_was_typed(alice):
    other = {**FORM, **TYPED, "connection-grant_type": "client_credentials"}
    page = alice.post_form("/connections/fields", other, headers={"HX-Request": "true"}).text
    assert "ends when unused for" not in page
    shown = inputs(page)
    assert {name: shown[name] for name in ("connection-idle_limit", "connection-assumed_lifetime")} == {
        "connection-idle_limit": "2 weeks",
        "connection-assumed_lifetime": "1 h 30 min",
    }


def test_no_status_at_all_can_be_meant(alice, world):
    alice.post_form("/connections/new", {**FORM, "connection-dead_statuses": "none"})
    (row,) = world.all(Connection)
    assert row.dead_statuses == []
    assert inputs(alice.get(f"/connections/{row.id}").text)["connection-dead_statuses"] == "none"


def test_a_new_unit_makes_what_was_said_a_guess_until_the_next_reply(alice, world):
    connection = world.connection(client_id="client")
    alice.post_form(f"/connections/{connection.id}", {**FORM, "connection-version": "1"})
    world.authorize(connection, lifetime=3_600_000)
    unit = {"connection-expires_in_unit": "milliseconds", "connection-version": "2"}
    assert alice.post_form(f"/connections/{connection.id}", {**FORM, **unit}).status_code == 303
    assert (world.token(connection).lifetime, world.token(connection).lifetime_rung) == (3300, LifetimeRung.DEFAULT)


# --- How it is told


@pytest.mark.parametrize(
    ("rung", "words"),
    [
        (LifetimeRung.REPLY, "55 minutes: said in the provider's reply"),
        (LifetimeRung.JWT, "55 minutes: said in the token itself"),
        (LifetimeRung.INTROSPECTION, "55 minutes: said by the provider's introspection endpoint"),
        (LifetimeRung.LEARNED, "55 minutes: nobody said; learned from when the API refused one"),
        (LifetimeRung.PRESET, "55 minutes: nobody said; set under Advanced"),
        (LifetimeRung.DEFAULT, "55 minutes: nobody said; assumed"),
    ],
)
def test_the_page_says_how_long_the_token_lives_and_who_says_so(alice, world, rung, words):
    connection = world.connection()
    world.authorize(connection, lifetime=3300)
    world.set_token(connection, lifetime_rung=rung, introspection_problem="It was asked and did not say.")
    page = text_of(alice.get(f"/connections/{connection.id}/status").text).replace("&#39;", "'")
    assert f"Lifetime {words}" in page
    assert "It was asked and did not say." in page


def test_a_lifetime_that_was_cut_says_so(alice, world):
    connection = world.connection(longest_lifetime=600.0)
    world.authorize(connection, lifetime=3300)
    page = text_of(alice.get(f"/connections/{connection.id}/status").text)
    assert "Lifetime 10 minutes: cut to the longest lifetime set under Advanced" in page


def test_a_token_of_which_nobody_knows_anything_is_used_until_it_is_refused(alice, world):
    connection = world.connection()
    world.authorize(connection, lifetime=None, refresh_token=None)
    page = text_of(alice.get(f"/connections/{connection.id}/status").text)
    assert "Lifetime unknown: the token is used until the API refuses it" in page


@pytest.mark.parametrize(
    ("columns", "token", "words"),
    [
        ({}, {}, r"after (6[5-9]|7[0-5])\u00a0% of its lifetime"),
        ({"idle_limit": 86400.0 * 30}, {"priority": Priority.KEEP_ALIVE}, "ends when unused for 30 days"),
        ({}, {"priority": Priority.MANUAL}, "asked for by hand"),
        ({}, {"failures": 2}, "the last try failed"),
        ({"earliest_refresh": 3500.0}, {}, "gives no new token before 58 minutes"),
    ],
)
def test_the_page_says_why_the_next_refresh_is_when_it_is(world, columns, token, words):
    connection = world.connection(**columns)
    world.authorize(connection)
    world.set_token(connection, **token)
    assert re.search(words, lives.why_then(connection, world.token(connection)))


def test_a_token_due_before_it_came_needs_no_reason(world):
    connection = world.connection()
    token = world.authorize(connection)
    world.set_token(connection, next_refresh_at=token.received_at - timedelta(seconds=1))
    assert lives.why_then(connection, world.token(connection)) == ""
