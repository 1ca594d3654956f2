"""What is learned about a provider from its refreshes: does it replace refresh tokens, and what becomes of an old one.

Pure: values in, values out. `services.engine.settle` asks after each refresh, the connection's page shows the words.
"""

from __future__ import annotations

from pydantic import SecretStr

from oauth.vocabulary import FailureClass, OAuthFailure, Reuse, Rotation

CAUTION = (Reuse.UNSEEN, Reuse.ACCEPTED, Reuse.REFUSED, Reuse.ENDS_GRANT)
"""What was seen of old refresh tokens, the more careful belief last. Belief only ever moves to the right: an old
token that worked may never have been replaced, since nobody knows whether the interrupted request had arrived."""


def learn(
    rotation: Rotation,
    reuse: Reuse,
    *,
    sent: SecretStr | None,
    received: SecretStr | None,
    failure: OAuthFailure | None,
    after_unknown: bool,
    sent_before: bool = False,
) -> tuple[Rotation, Reuse]:
    """What is known of a provider after one refresh more.

    `sent` and `received` are refresh tokens, `received` None when the reply brought none. `after_unknown`: the same
    refresh token had been sent before, and what became of that is not known. `sent_before`: the token that `sent`
    replaced was sent once more after it had been replaced, and this is the first use of `sent` since.

    Nothing is learned where no refresh token was sent, nor from failures that say nothing about it. A new one in a
    reply that could not be used was not stored, but it came.
    """
    if sent is None or not sent.get_secret_value():
        return rotation, reuse
    if failure is None:
        replaced = is_replaced(sent, received)
        # A token that was not replaced is no old one: that it goes on working is no habit.
        worked = after_unknown and replaced
        return _rotation(rotation, replaced), _more_careful(reuse, Reuse.ACCEPTED) if worked else reuse
    if failure.brings_refresh_token:
        return _rotation(rotation, True), reuse
    if failure.failure_class is not FailureClass.GRANT_DEAD or rotation is Rotation.NEVER:
        return rotation, reuse
    if after_unknown:
        return rotation, _more_careful(reuse, Reuse.REFUSED)
    return rotation, _more_careful(reuse, Reuse.ENDS_GRANT) if sent_before else reuse


def is_replaced(sent: SecretStr | None, received: SecretStr | None) -> bool | None:
    """Whether a reply brought another refresh token than the one sent; None when none was sent."""
    if sent is None or not sent.get_secret_value():
        return None
    new = received.get_secret_value() if received is not None else ""
    return bool(new) and new != sent.get_secret_value()


def is_strict(rotation: Rotation, reuse: Reuse) -> bool:
    """Whether a refresh that is cut short may cost the grant: few of these should be in flight at once."""
    return rotation is Rotation.ALWAYS and reuse is not Reuse.ACCEPTED


def words(rotation: Rotation, reuse: Reuse) -> str:
    """What is known, as a sentence for the connection's page; empty while there has been no refresh."""
    if rotation is Rotation.NEVER:
        return "Kept: the provider has not replaced the refresh token so far, so an interrupted refresh costs nothing."
    if rotation is Rotation.UNSEEN:
        return _OLD[reuse].capitalize() if reuse is not Reuse.UNSEEN else ""
    often = "at every refresh" if rotation is Rotation.ALWAYS else "now and then"
    return f"Replaced {often}; {_OLD[reuse]}"


_OLD = {
    Reuse.UNSEEN: (
        "whether the old one goes on working is not known yet, so an interrupted refresh may need a new authorization."
    ),
    Reuse.ACCEPTED: "the old one has worked once more after an interruption, so an interrupted refresh mends itself.",
    Reuse.REFUSED: "the old one stops working at once, so an interrupted refresh may need a new authorization.",
    Reuse.ENDS_GRANT: (
        "sending the old one again ends the whole grant, so an interrupted refresh may need a new authorization."
    ),
}


def _rotation(known: Rotation, replaced: bool | None) -> Rotation:
    seen = Rotation.ALWAYS if replaced else Rotation.NEVER
    return seen if known in (Rotation.UNSEEN, seen) else Rotation.SOMETIMES


def _more_careful(known: Reuse, seen: Reuse) -> Reuse:
    return max(known, seen, key=CAUTION.index)
