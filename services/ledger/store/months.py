"""The partitions of the books."""

from __future__ import annotations

from services.ledger.domain.months import month_after
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/months.sql")


async def make_months(work: UnitOfWork, months: int) -> int:
    """Make the partitions that are missing of so many months to come; returns how many were made."""
    parameters = {"from": month_after(work.now), "months": months}
    answer = await work.execute(_SQL["make_months"], parameters)
    return int(answer.scalar_one())
