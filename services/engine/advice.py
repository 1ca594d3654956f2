"""What there is to say of how a connection stands: what to do about a failure, and what became of saved settings.

Reads the rows it is given, changes nothing.
"""

from __future__ import annotations

from models import Connection, ConnectionState, Token
from models.types import utc_now
from services.engine import states

USE_REPLY = (
    "An admin says under Reply mapping where in the reply the token is, saves, and presses Use this reply. Nothing is "
    "sent until then."
)
TRIED_NOW = "Nothing to do for now: the settings were saved since, and Cardkey tries them now."
TRIED_LATER = "The settings were saved since: they are tried as soon as the connection is resumed."
STRANGE = (
    "There is an authorization for another client. It is used for nothing, and rests until that client is configured "
    "again; Authorize gets one for this client instead."
)
OTHER_TOKEN = "Settings changed since the token was fetched. The next token request uses them."
OTHER_SETTINGS = "Settings changed since the authorization was given."
ENDED = f"{OTHER_SETTINGS} The next one is given for them as they are now."
OUT_OF_DATE = f"{OTHER_SETTINGS} Authorize brings it up to date."
STILL_USED = f"{OTHER_SETTINGS} Press Authorize to bring it up to date; until then the old grant is used."


def is_untried(connection: Connection, token: Token) -> bool:
    """Whether what failed was sent with other settings than are saved now, and these are the next to be tried."""
    if connection.failed_at is None or (connection.paused_from or connection.state) not in states.FAILING:
        return False
    now, due = utc_now(), token.next_refresh_at
    is_next = token.held or connection.state is ConnectionState.PAUSED or token.is_leased(now)
    is_next = is_next or (due is not None and due <= now)
    return is_next and token.failures == 0 and connection.updated_at > connection.failed_at


def next_step(connection: Connection, token: Token) -> str:
    """What a person should do about its failure; empty while there is none."""
    if connection.failure_class is None:
        return ""
    if connection.awaits_replay:
        return USE_REPLY
    if is_untried(connection, token):
        return TRIED_LATER if connection.state is ConnectionState.PAUSED else TRIED_NOW
    return connection.next_step


def settings_note(connection: Connection, token: Token) -> str:
    """What to know where the grant was given for other settings than are saved now; empty where it was not."""
    if not connection.authorized_fingerprint or connection.authorized_fingerprint == connection.fingerprint():
        return ""
    if connection.has_strange_grant:
        return STRANGE
    if not connection.grant.needs_person:
        used = token.received_at is not None and token.received_at > connection.updated_at
        return "" if used else OTHER_TOKEN
    stands = connection.paused_from or connection.state
    if stands is ConnectionState.REAUTH_REQUIRED:
        return ENDED
    return OUT_OF_DATE if connection.state is ConnectionState.PAUSED else STILL_USED
