"""The page of switches: what a newcomer needs to see how Cardkey fares when a provider or an API fails."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from rehearsal.authorize import state

blueprint = Blueprint("failures", __name__, url_prefix="/failures")

WORKS = "works as it should"
SWITCHES = {
    "token": (
        "Token endpoint",
        {
            "": WORKS,
            "status:503": "answers 503, as when it is down",
            "status:429": "asks to slow down (429)",
            "delay:10": "answers after 10 seconds",
            "delay:60": "answers after a minute, when nobody waits any more",
            "invalid_grant": "says that the authorization has ended",
            "renamed": "answers in a form of its own, which nobody can read",
            "without:refresh_token": "gives no refresh token",
        },
    ),
    "api": (
        "API",
        {
            "": WORKS,
            "401_once": "turns the token down once",
            "status:401": "turns every token down",
            "status:503": "answers 503",
            "delay:15": "answers after 15 seconds",
        },
    ),
    "authorize": (
        "Authorization endpoint",
        {
            "": WORKS,
            "deny": "refuses",
            "never": "does not lead back",
            "wrong_state": "leads back with a state of its own",
        },
    ),
}
"""For each endpoint its name and its switches, each as `State.behaviours` has it and in words."""


def switched_on() -> list[str]:
    """What fails now, in words; also what was switched on by other means than the page."""
    found = []
    for endpoint, value in sorted(state().behaviours.items()):
        name, choices = SWITCHES.get(endpoint, (endpoint, {}))
        found.append(f"{name}: {choices.get(value, value)}")
    return found


def is_foreign() -> bool:
    """Whether another site's page sent this; none may change anything here."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")


@blueprint.get("/")
def show() -> str:
    """The switches as they are."""
    return render_template("failures.html", switches=SWITCHES, now=state().behaviours, ended=request.args.get("ended"))


@blueprint.post("/")
def change() -> AnyResponse | tuple[str, int]:
    """Set those that are known to what was chosen; others stay."""
    if is_foreign():
        return "Use the form on this server's own page.", 403
    memory = state()
    with memory.change():
        for endpoint, (_name, choices) in SWITCHES.items():
            chosen = request.form.get(endpoint)
            if chosen == "":
                memory.behaviours.pop(endpoint, None)
            elif chosen in choices:
                memory.behaviours[endpoint] = str(chosen)
    return redirect("/failures/", 303)


@blueprint.post("/end")
def end() -> AnyResponse | tuple[str, int]:
    """End every authorization, as a person does who revokes it at the provider."""
    if is_foreign():
        return "Use the form on this server's own page.", 403
    memory = state()
    with memory.change():
        ended = memory.end_all()
        memory.note("revoked", f"{ended} authorizations were ended")
    return redirect(f"/failures/?ended={ended}", 303)
