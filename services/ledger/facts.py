"""What the ledger publishes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from payments.events.v1.ledger_events_pb2 import (
    LedgerBatchPosted,
    LedgerPeriodClosed,
    LedgerPeriodReopened,
)

from services.ledger.domain.periods import AccountingPeriod
from services.ledger.domain.posting import Posting
from services.ledger.domain.transfers import moved
from services.runtime.edge.values import stamp, stamp_or_none
from services.runtime.money import MINOR_UNITS_MAX


def batch_posted(
    postings: Sequence[Posting], batch_no: int, account_count: int, now: datetime
) -> LedgerBatchPosted:
    """Tell what a batch posted."""
    sums: dict[str, int] = defaultdict(int)
    for posting in postings:
        if posting.legs:
            sums[posting.transfer.currency_code] += moved(posting.transfer)
    event = LedgerBatchPosted(
        batch_no=batch_no, transfer_count=len(postings), account_count=account_count
    )
    for currency_code, total in sorted(sums.items()):
        # A sum beyond 64 bits is possible where every single balance still fits: then it is left out.
        if total <= MINOR_UNITS_MAX:
            event.totals.add(currency_code=currency_code, minor_units=total)
    event.recorded_at.FromDatetime(now)
    return event


def period_closed(before: AccountingPeriod | None, after: AccountingPeriod) -> LedgerPeriodClosed:
    """Tell that the books of a currency were closed further."""
    return LedgerPeriodClosed(
        currency_code=after.currency_code,
        closed_through=stamp_or_none(after.closed_through),
        closed_through_before=stamp_or_none(before.closed_through if before else None),
        recorded_at=stamp(after.updated_at),
    )


def period_reopened(before: AccountingPeriod, after: AccountingPeriod) -> LedgerPeriodReopened:
    """Tell that the books of a currency were opened again."""
    return LedgerPeriodReopened(
        currency_code=after.currency_code,
        closed_through=stamp_or_none(after.closed_through),
        closed_through_before=stamp_or_none(before.closed_through),
        reason=after.reason,
        recorded_at=stamp(after.updated_at),
    )
