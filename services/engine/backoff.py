"""How long a connection waits after a failure before it asks again. Pure, but for chance."""

from __future__ import annotations

import random

from config import Settings
from oauth.vocabulary import FailureClass, OAuthFailure


def count(failures: int, before: FailureClass | None, failure: OAuthFailure) -> int:
    """Failures in a row, this one included, after `failures` of the class `before`.

    Being asked to slow down is another matter than failing, so each counts for itself.
    """
    slower = failure.failure_class is FailureClass.THROTTLED
    return failures + 1 if slower is (before is FailureClass.THROTTLED) else 1


def wait(settings: Settings, failures: int, failure: OAuthFailure) -> float:
    """Seconds until the next try after `failures` in a row, `count`'s answer.

    As long as the provider asks, up to `retry_longest`, but longer each time where it asks for little again and
    again (RFC 9110 §10.2.3). Otherwise doubling. Chance moves each a little, so that they do not come together.
    """
    doubled = 2.0 ** min(max(0, failures - 1), 30)
    if failure.failure_class is FailureClass.UNKNOWN and failures <= 1:
        return settings.tick  # within the time for which a provider may still take the old token
    if failure.retry_after is not None:
        asked = max(failure.retry_after, settings.tick * doubled)
        return min(settings.retry_longest, asked) * random.uniform(1.0, 1.1) + random.uniform(0, settings.tick)
    return min(settings.retry_longest, settings.retry_first * doubled) * random.uniform(0.75, 1.0)
