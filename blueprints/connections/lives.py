"""The part of a connection's form about the lives of its tokens, and how these are told on its page."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from wtforms import SelectField, StringField
from wtforms.validators import ValidationError

from blueprints.durations import DurationField, words
from blueprints.forms import VersionedForm
from models import Connection, Priority, Token
from oauth.vocabulary import LifetimeRung, LifetimeUnit
from services.engine import advice

LIVES = (
    "assumed_lifetime",
    "longest_lifetime",
    "earliest_refresh",
    "idle_limit",
    "expires_in_unit",
    "introspection_endpoint",
    "dead_statuses",
    "dead_expression",
)
"""Fields under “Lifetime and expiry”, in their order."""
LIVES_LABEL = "Lifetime and expiry"
NO_STATUS = "none"
SAID_BY = {
    LifetimeRung.REPLY: "said in the provider's reply",
    LifetimeRung.JWT: "said in the token itself",
    LifetimeRung.INTROSPECTION: "said by the provider's introspection endpoint",
    LifetimeRung.LEARNED: "nobody said; learned from when the API refused one",
    LifetimeRung.PRESET: "nobody said; set under Advanced",
    LifetimeRung.DEFAULT: "nobody said; assumed",
}
CAPPED = "cut to the longest lifetime set under Advanced"
UNKNOWN = "unknown: the token is used until the API refuses it"


class StatusesField(StringField):
    """HTTP statuses, separated by commas or blanks; `statuses` holds them as numbers."""

    statuses: tuple[int, ...] = (401,)

    def process_data(self, value: Any) -> None:
        """Show the numbers, or the word for none of them."""
        self.statuses = (401,) if value is None else tuple(value)
        self.data = ", ".join(map(str, self.statuses)) or NO_STATUS

    def pre_validate(self, form: Any) -> None:
        """Read what was typed; nothing means what is usual."""
        typed = re.split(r"[\s,;]+", (self.data or "").strip().lower())
        self.statuses = () if typed == [NO_STATUS] else (401,)
        if typed in ([""], [NO_STATUS]):
            return
        if not all(re.fullmatch(r"[45][0-9]{2}", part, re.ASCII) for part in typed) or len(typed) > 20:
            words = "Write statuses from 400 to 599, separated by commas, such as 401, 403; or the word none."
            raise ValidationError(words)
        self.statuses = tuple(dict.fromkeys(map(int, typed)))


class LivesForm(VersionedForm):
    """Fields about how long tokens live and how their end shows."""

    assumed_lifetime = DurationField(
        "Token lifetime when the provider does not say",
        description="Such as 55 min, 12 h or 30 d. Empty: what experience shows, or else 55 min.",
    )
    longest_lifetime = DurationField(
        "Longest lifetime",
        description="A token counts as run out after that time, whatever the provider says. Such as 30 d.",
    )
    earliest_refresh = DurationField(
        "Provider gives no new token before",
        description="For a provider that hands out the old token again until shortly before its end. Counted from when "
        "the token came.",
    )
    idle_limit = DurationField(
        "Refresh token ends when unused for",
        description="Cardkey then refreshes by half of that time at the latest, even if no card is used. Such as 30 d.",
    )
    expires_in_unit = SelectField(
        "The provider counts lifetimes in",
        choices={
            LifetimeUnit.SECONDS.value: "seconds, as the standard says",
            LifetimeUnit.MILLISECONDS.value: "milliseconds",
        },
        default=LifetimeUnit.SECONDS.value,
    )
    introspection_endpoint = StringField(
        "Introspection Endpoint",
        description="Asked how long a token lives, where neither the provider's reply nor the token says.",
    )
    dead_statuses = StatusesField(
        "Statuses that mean the token is dead",
        description="When the API answers so, the token is refreshed once and the call made once more. Usually 401.",
        default=(401,),
    )
    dead_expression = StringField(
        "Reply expression that means the token is dead",
        description="For an API that says so in its reply, whatever the status: a JMESPath that is then true, such as "
        "error.code == 'INVALID_TOKEN'",
    )

    left_out: tuple[str, ...] = ()
    """Fields that mean nothing in this flow; what was typed into them travels hidden."""

    def lives(self) -> dict[str, Any]:
        """What was typed, by column; call after `validate`."""
        return {
            "assumed_lifetime": self.assumed_lifetime.seconds,
            "longest_lifetime": self.longest_lifetime.seconds,
            "earliest_refresh": self.earliest_refresh.seconds,
            "idle_limit": self.idle_limit.seconds,
            "expires_in_unit": LifetimeUnit(self.expires_in_unit.data),
            "introspection_endpoint": (self.introspection_endpoint.data or "").strip(),
            "dead_statuses": self.dead_statuses.statuses,
            "dead_expression": (self.dead_expression.data or "").strip(),
        }

    def lives_in_use(self) -> list[str]:
        """Labels of what differs from the usual."""
        usual = (None, "", "401", LifetimeUnit.SECONDS.value)
        return [field.label.text for field in self.life_fields() if field.data not in usual]

    def life_fields(self) -> list[Any]:
        """The fields of this flow, in their order."""
        return [self._fields[name] for name in LIVES if name not in self.left_out]

    def lives_are_wrong(self) -> bool:
        """Whether one of them has to be corrected, so that they should be open."""
        return any(field.errors for field in self.life_fields())


def lifetime_words(connection: Connection, token: Token) -> str:
    """How long the token lives and who says so."""
    if token.lifetime is None or token.lifetime_rung is None:
        return UNKNOWN
    capped = connection.longest_lifetime is not None and abs(token.lifetime - connection.longest_lifetime) < 0.01
    return f"{words(token.lifetime)}: {CAPPED if capped else SAID_BY.get(token.lifetime_rung, UNKNOWN)}"


def why_then(connection: Connection, token: Token) -> str:
    """Why the next refresh is when it is; empty where that needs no words."""
    if token.next_refresh_at is None or token.received_at is None:
        return ""
    if token.priority == Priority.MANUAL:
        return "asked for by hand"
    if token.failures:
        return "the last try failed"
    if advice.is_untried(connection, token):
        return "with the settings as they are now"
    if token.priority == Priority.KEEP_ALIVE:
        return f"to keep the refresh token alive, which ends when unused for {words(connection.idle_limit or 0)}"
    return _share(connection, token, token.received_at, token.next_refresh_at)


def _share(connection: Connection, token: Token, received_at: datetime, due: datetime) -> str:
    after, lifetime = (due - received_at).total_seconds(), token.lifetime
    earliest = connection.earliest_refresh
    if earliest is not None and earliest <= after and lifetime is not None and earliest > 0.65 * lifetime:
        return f"the provider gives no new token before {words(earliest)}"
    if not lifetime or after <= 0:
        return ""
    return f"after {round(100 * after / lifetime)}\u00a0% of its lifetime"
