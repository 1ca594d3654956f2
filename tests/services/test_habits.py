"""What is learned about a provider's refresh tokens, from nothing but what refreshes show."""

import pytest
from pydantic import SecretStr

from oauth.vocabulary import FailureClass, OAuthFailure, Reuse, Rotation
from services.engine import habits

DEAD = OAuthFailure("refresh", FailureClass.GRANT_DEAD, "The provider ended the authorization.", code="invalid_grant")
DOWN = OAuthFailure("refresh", FailureClass.PROVIDER_DOWN, "The provider cannot be reached.")


def seen(rotation=Rotation.UNSEEN, reuse=Reuse.UNSEEN, *, sent="old", received=None, **more):
    """One refresh more, as it looks from here."""
    received = None if received is None else SecretStr(received)
    known = {"failure": None, "after_unknown": False, **more}
    return habits.learn(rotation, reuse, sent=SecretStr(sent) if sent else None, received=received, **known)


@pytest.mark.parametrize(
    ("known", "received", "learned"),
    [
        (Rotation.UNSEEN, "new", Rotation.ALWAYS),
        (Rotation.UNSEEN, None, Rotation.NEVER),
        (Rotation.UNSEEN, "", Rotation.NEVER),
        (Rotation.UNSEEN, "old", Rotation.NEVER),
        (Rotation.ALWAYS, "new", Rotation.ALWAYS),
        (Rotation.ALWAYS, "old", Rotation.SOMETIMES),
        (Rotation.NEVER, "new", Rotation.SOMETIMES),
        (Rotation.SOMETIMES, "new", Rotation.SOMETIMES),
    ],
)
def test_a_success_tells_whether_refresh_tokens_are_replaced(known, received, learned):
    assert seen(known, received=received) == (learned, Reuse.UNSEEN)


def test_a_new_refresh_token_in_a_reply_that_cannot_be_used_has_come_all_the_same():
    unusable = OAuthFailure("refresh", FailureClass.REPLY_UNUSABLE, "No token.", brings_refresh_token=True)
    assert seen(Rotation.NEVER, failure=unusable) == (Rotation.SOMETIMES, Reuse.UNSEEN)
    assert seen(Rotation.UNSEEN, failure=unusable) == (Rotation.ALWAYS, Reuse.UNSEEN)


def test_a_flow_without_refresh_tokens_teaches_nothing():
    assert seen(sent=None, received="first") == (Rotation.UNSEEN, Reuse.UNSEEN)
    assert seen(sent="", failure=DEAD, after_unknown=True) == (Rotation.UNSEEN, Reuse.UNSEEN)
    assert habits.is_replaced(None, SecretStr("first")) is None


def test_an_old_token_that_works_after_an_interruption_shows_an_overlap():
    assert seen(Rotation.ALWAYS, received="new", after_unknown=True) == (Rotation.ALWAYS, Reuse.ACCEPTED)
    assert seen(Rotation.NEVER, received=None, after_unknown=True) == (Rotation.NEVER, Reuse.UNSEEN)


def test_an_old_token_that_is_refused_after_an_interruption_shows_a_strict_provider():
    assert seen(Rotation.ALWAYS, failure=DEAD, after_unknown=True) == (Rotation.ALWAYS, Reuse.REFUSED)
    assert seen(Rotation.ALWAYS, failure=DEAD) == (Rotation.ALWAYS, Reuse.UNSEEN)
    assert seen(Rotation.ALWAYS, failure=DOWN, after_unknown=True) == (Rotation.ALWAYS, Reuse.UNSEEN)


def test_a_grant_of_a_provider_that_never_rotates_was_ended_by_somebody():
    assert seen(Rotation.NEVER, failure=DEAD, after_unknown=True) == (Rotation.NEVER, Reuse.UNSEEN)


def test_a_new_token_that_is_dead_after_the_old_one_was_sent_again_shows_that_reuse_ends_the_grant():
    assert seen(Rotation.ALWAYS, failure=DEAD, sent_before=True) == (Rotation.ALWAYS, Reuse.ENDS_GRANT)
    assert seen(Rotation.ALWAYS, failure=DOWN, sent_before=True) == (Rotation.ALWAYS, Reuse.UNSEEN)
    unclear = seen(Rotation.ALWAYS, failure=DEAD, sent_before=True, after_unknown=True)
    assert unclear == (Rotation.ALWAYS, Reuse.REFUSED)


def test_belief_moves_only_towards_more_care():
    assert seen(Rotation.ALWAYS, Reuse.ACCEPTED, failure=DEAD, after_unknown=True)[1] is Reuse.REFUSED
    assert seen(Rotation.ALWAYS, Reuse.REFUSED, received="new", after_unknown=True)[1] is Reuse.REFUSED
    assert seen(Rotation.ALWAYS, Reuse.ENDS_GRANT, failure=DEAD, after_unknown=True)[1] is Reuse.ENDS_GRANT


def test_only_a_provider_that_always_replaces_and_was_not_seen_to_overlap_is_strict():
    strict = {(rotation, reuse) for rotation in Rotation for reuse in Reuse if habits.is_strict(rotation, reuse)}
    assert strict == {(Rotation.ALWAYS, reuse) for reuse in (Reuse.UNSEEN, Reuse.REFUSED, Reuse.ENDS_GRANT)}


def test_everything_that_is_known_is_a_sentence_and_nothing_known_is_none():
    for rotation in Rotation:
        for reuse in Reuse:
            sentence = habits.words(rotation, reuse)
            assert bool(sentence) == ((rotation, reuse) != (Rotation.UNSEEN, Reuse.UNSEEN))
            assert not sentence or (sentence[0].isupper() and sentence.endswith("."))
