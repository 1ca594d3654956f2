"""Every route of the portal, with a value in each place: what walkers walk."""

import uuid

SAMPLES = {"token": "not-a-token", "filename": "app.css", "path": "app.css"}
FROM_ELSEWHERE = {"authorization.callback"}
"""Called by providers' pages: `state` is the guard."""


def unsafe_routes(app):
    """Pairs of method and URL for everything that may change something."""
    return [(rule, method) for rule in app.url_map.iter_rules() for method in sorted(rule.methods & UNSAFE)]


def address(rule, **ids) -> str:
    """The rule's URL, with `ids` where they fit and absent ones elsewhere."""
    values = {name: ids.get(name, SAMPLES.get(name, uuid.uuid4())) for name in rule.arguments}
    built = rule.build(values, append_unknown=False)
    assert built is not None, rule
    return built[1]


UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
