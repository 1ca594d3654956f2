"""`flask doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from commands.console import Report, reporting
from services.operating import doctor
from services.operating.doctor import Verdict
from services.resources import Resources


@click.command("doctor")
@reporting
def examine(resources: Resources) -> Report:
    """Look the installation over; succeeds when nothing is bad."""
    findings = doctor.examine(resources)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict.value:<4}  {finding.what}: {finding.words}")
        if finding.next_step:
            lines.append(f"      {finding.next_step}")
    ok = not any(finding.verdict is Verdict.BAD for finding in findings)
    return Report("\n".join(lines), {"findings": [asdict(finding) for finding in findings]}, ok=ok)
