"""Telling the contract monitor where usage and a provider's log differ."""

from __future__ import annotations

from services.metering.domain.drift import SEVERITY, ReportDrift, message_of, request_id_of
from services.runtime.database import UnitOfWork

CONTRACT = "metering/usage-drift"


async def report(command: ReportDrift, work: UnitOfWork) -> int:
    """Tell of findings; returns how many. The monitor knows each again by what it says."""
    for finding in command.findings:
        work.violation(
            CONTRACT,
            SEVERITY[finding.kind],
            message_of(command.provider, finding),
            request_id=request_id_of(command.provider, finding),
            subject_id=finding.subject_id,
        )
    return len(command.findings)
