"""`flask worker` and `flask scheduler`: the two processes beside the portal, any number of each."""

from __future__ import annotations

import click

from commands.console import Report, reporting
from services.resources import Resources
from workers import runtime, schedule


@click.command("worker")
@reporting
def worker(resources: Resources) -> Report:
    """Refresh tokens as they are asked for, until interrupted."""
    runtime.main(resources)
    return Report("The worker has ended.")


@click.command("scheduler")
@reporting
def scheduler(resources: Resources) -> Report:
    """Look for due tokens and ring for the workers, until interrupted."""
    schedule.main(resources)
    return Report("The scheduler has ended.")
