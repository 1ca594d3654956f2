"""What is swept up, and what is kept."""

from datetime import timedelta

import pytest

from models import Outcome, Refresh, Trigger
from models.types import utc_now
from services import housekeeping


def journal(session, connection, number, outcome, days=0):
    moment = utc_now() - timedelta(days=days, seconds=1000 - number)
    session.add(
        Refresh(
            workspace_id=connection.workspace_id,
            connection_id=connection.id,
            trigger=Trigger.SCHEDULED,
            generation=number,
            outcome=outcome,
            sent_at=moment,
            closed_at=None if outcome is Outcome.SENT else moment,
        )
    )


@pytest.mark.settings(journal_keep=3, journal_failures_days=30)
def test_the_journal_keeps_the_last_rows_of_each_connection_and_recent_failures(session, settings, world):
    busy, quiet = world.connection(), world.connection()
    for number in range(10):
        journal(session, busy, number, Outcome.STORED)
    journal(session, quiet, 1, Outcome.STORED, days=400)
    journal(session, busy, 100, Outcome.FAILED, days=29)
    journal(session, busy, 101, Outcome.UNKNOWN, days=29)
    journal(session, busy, 102, Outcome.FAILED, days=31)
    journal(session, busy, 103, Outcome.SENT, days=31)
    session.commit()
    assert housekeeping.journal(session, settings) == 8
    kept = {(row.connection_id, row.generation) for row in world.all(Refresh)}
    assert kept == {(busy.id, number) for number in (7, 8, 9, 100, 101, 103)} | {(quiet.id, 1)}
    assert housekeeping.journal(session, settings) == 0
