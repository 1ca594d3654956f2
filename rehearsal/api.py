"""The API that wants the token: a shop's customers and their orders (RFC 6750 for its refusals)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import wraps

from flask import Blueprint, Response, jsonify, request

from rehearsal.authorize import state
from rehearsal.state import State, digest

blueprint = Blueprint("api", __name__, url_prefix="/api")
Reply = Response | tuple[Response, int] | tuple[Response, int, dict[str, str]]

GOODS = ("Walnut desk lamp", "Linen notebook", "Enamel mug", "Wool throw", "Oak monitor stand", "Cork board")
STATUSES = ("delivered", "shipped", "being packed", "returned")
NAMES = {"ada@example.com": "Ada Lovelace", "alan@example.com": "Alan Turing", "grace@example.com": "Grace Hopper"}


def scope_required(scope: str) -> Callable[[Callable[[], Reply]], Callable[[], Reply]]:
    """A live Bearer token with `scope`, or the refusal RFC 6750 §3.1 gives."""

    def decorate(view: Callable[[], Reply]) -> Callable[[], Reply]:
        @wraps(view)
        def checked() -> Reply:
            memory = state()
            memory.counts["api"] += 1
            token = memory.access.get(digest(request.headers.get("Authorization", "").removeprefix("Bearer ")))
            turned_down, failure = _odd(memory)
            if failure is not None:
                return failure
            if token is None or turned_down or not memory.alive(token):
                challenge = 'Bearer realm="rehearsal", error="invalid_token"'
                words = "The access token is missing, unknown or expired."
                return jsonify(error="invalid_token", message=words), 401, {"WWW-Authenticate": challenge}
            if scope not in token.scope.split():
                challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
                words = f"This needs the scope {scope}."
                return jsonify(error="insufficient_scope", message=words), 403, {"WWW-Authenticate": challenge}
            return view()

        return checked

    return decorate


def _odd(memory: State) -> tuple[bool, Reply | None]:
    """Whether the token is to be turned down whatever it is, and an answer to give instead of the API's."""
    odd, argument = memory.switched("api")
    if odd == "delay":
        time.sleep(float(argument))
    if odd == "401_once":
        with memory.change():
            return memory.behaviours.pop("api", None) is not None, None
    if odd == "status" and argument != "401":
        return False, (jsonify(message="The rehearsal API was told to fail."), int(argument))
    return odd == "status", None


@blueprint.get("/orders")
@scope_required("orders.read")
def orders() -> Reply:
    """A customer's orders by e-mail; made from the address, so that every customer has some."""
    email = request.args.get("email", "").strip().lower()
    if "@" not in email:
        return jsonify(error="bad_request", message="Give a customer's address as ?email="), 400
    seed = hashlib.sha256(email.encode()).digest()
    found = [
        {
            "number": f"R-{10000 + seed[place] * 17 + place}",
            "item": GOODS[seed[place + 3] % len(GOODS)],
            "status": STATUSES[seed[place + 6] % len(STATUSES)],
            "total": f"{19 + seed[place + 9] % 180}.00",
            "currency": "EUR",
            "ordered_on": f"2026-{1 + seed[place + 12] % 12:02}-{1 + seed[place + 15] % 28:02}",
        }
        for place in range(2 + seed[0] % 2)
    ]
    name = NAMES.get(email, email.partition("@")[0].replace(".", " ").title())
    return jsonify(customer={"name": name, "email": email, "since": 2019 + seed[1] % 7}, orders=found)


@blueprint.get("/customers")
@scope_required("customers.read")
def customers() -> Reply:
    """Everybody there is."""
    return jsonify(customers=[{"email": email, "name": name} for email, name in NAMES.items()])
