"""Closing and reopening periods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.ledger import facts
from services.ledger.domain.periods import AccountingPeriod, Closing, Reopening, close, reopen
from services.ledger.store import periods as store
from services.runtime import moments
from services.runtime.database import UnitOfWork


async def close_period(command: Closing, work: UnitOfWork) -> AccountingPeriod:
    """Close the books of a currency through an instant, once all batches that are being posted have ended.

    Raises:
        PeriodInFuture: the instant is still to come.
        PeriodAlreadyClosed: they are closed further.
    """
    before = await store.own(work, command.currency_code)
    after = close(before, command, work.now)
    if after != before:
        await _put(work, before, after)
        work.publish(facts.period_closed(before, after))
    return after


async def reopen_period(command: Reopening, work: UnitOfWork) -> AccountingPeriod:
    """Open the books of a currency behind an earlier instant, or wholly.

    Raises:
        PeriodNotClosed: they are not closed, or not beyond that instant.
    """
    before = await store.own(work, command.currency_code)
    after = reopen(before, command, work.now)
    assert before is not None
    await _put(work, before, after)
    work.publish(facts.period_reopened(before, after))
    return after


async def _put(work: UnitOfWork, before: AccountingPeriod | None, after: AccountingPeriod) -> None:
    await store.put(work, after)
    work.audit(
        "ledger.period", after.currency_code, _shown(before) if before else None, _shown(after)
    )


def _shown(period: AccountingPeriod) -> Mapping[str, Any]:
    through = period.closed_through
    return {"closed_through": through and moments.written(through), "reason": period.reason}
