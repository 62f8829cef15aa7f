"""What the ledger publishes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from payments.events.v1.ledger_events_pb2 import (
    LedgerBalanceCrossed,
    LedgerBatchPosted,
    LedgerPeriodClosed,
    LedgerPeriodReopened,
    LedgerScheduledRefused,
    PostedReference,
)
from payments.type.v1.type_pb2 import Money

from services.ledger.domain.monitors import Crossing
from services.ledger.domain.periods import AccountingPeriod
from services.ledger.domain.posting import Posting
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.domain.scheduled import ScheduledView
from services.ledger.domain.transfers import Reference, Transfer, moved
from services.ledger.messages import recipes
from services.runtime.edge.values import stamp, stamp_or_none
from services.runtime.money import MINOR_UNITS_MAX

# Transfers that the event of a batch names by what they are for: an event is a hint, not the books.
REFERENCED_TRANSFERS_MAX = 100


def batch_posted(
    postings: Sequence[Posting], batch_no: int, account_count: int, now: datetime
) -> LedgerBatchPosted:
    """Tell what a batch posted."""
    sums: dict[str, int] = defaultdict(int)
    for posting in postings:
        if posting.debit is not None:
            sums[posting.transfer.currency_code] += moved(posting.transfer)
    event = batch_told(len(postings), sums, batch_no, account_count, now)
    _refer(event, [p.transfer for p in postings if p.transfer.reference is not None])
    return event


def batch_told(
    transfer_count: int,
    sums: Mapping[str, int],
    batch_no: int,
    account_count: int,
    now: datetime,
) -> LedgerBatchPosted:
    """Tell what a batch without references posted; `sums` are what moved, in minor units by currency."""
    event = LedgerBatchPosted(
        batch_no=batch_no, transfer_count=transfer_count, account_count=account_count
    )
    for currency_code, total in sorted(sums.items()):
        # A sum beyond 64 bits is possible where every single balance still fits: then it is left out.
        if total <= MINOR_UNITS_MAX:
            event.totals.add(currency_code=currency_code, minor_units=total)
    event.recorded_at.FromDatetime(now)
    return event


def _refer(event: LedgerBatchPosted, transfers: Sequence[Transfer]) -> None:
    """Name what the first transfers of a batch are for, and count those beyond."""
    by_reference: dict[Reference, PostedReference] = {}
    for transfer in transfers[:REFERENCED_TRANSFERS_MAX]:
        assert transfer.reference is not None
        told = by_reference.setdefault(transfer.reference, _reference(transfer.reference))
        told.transfer_ids.append(str(transfer.transfer_id))
    event.references.extend(by_reference.values())
    event.references_left_out = max(len(transfers) - REFERENCED_TRANSFERS_MAX, 0)


def _reference(reference: Reference) -> PostedReference:
    return PostedReference(kind=reference.kind, id=reference.id, part=reference.part)


def scheduled_refused(
    chain: Sequence[ScheduledView], refused: int, result: str, now: datetime
) -> LedgerScheduledRefused:
    """Tell that a chain was refused when it was due, and at which of its members."""
    transfer = chain[refused].transfer
    event = LedgerScheduledRefused(
        first_transfer_id=str(chain[0].transfer.transfer_id),
        transfer_id=str(transfer.transfer_id),
        result=result,
        transfer_count=len(chain),
    )
    if transfer.not_before is not None:
        event.not_before.FromDatetime(transfer.not_before)
    event.refused_at.FromDatetime(now)
    if transfer.reference is not None:
        told = _reference(transfer.reference)
        told.transfer_ids.append(str(transfer.transfer_id))
        event.reference.CopyFrom(told)
    return event


def balance_crossed(crossing: Crossing, batch_no: int, now: datetime) -> LedgerBalanceCrossed:
    """Tell that a balance has come to satisfy a monitor."""
    monitor = crossing.monitor
    currency_code = monitor.threshold.currency_code

    def money(minor_units: int) -> Money:
        return Money(currency_code=currency_code, minor_units=minor_units)

    rose = crossing.balance_minor > crossing.before_minor
    event = LedgerBalanceCrossed(
        monitor_id=monitor.monitor_id,
        account_id=crossing.account_id,
        side=monitor.side.name.lower(),
        comparison=monitor.comparison.name.lower(),
        direction="rose" if rose else "fell",
        balance=money(crossing.balance_minor),
        balance_before=money(crossing.before_minor),
        threshold=money(monitor.threshold.minor_units),
        batch_no=batch_no,
        transfer_id=str(crossing.transfer_id),
        description=monitor.description,
    )
    event.recorded_at.FromDatetime(now)
    return event


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Write a recipe for the audit log."""
    return recipes.document(recipe)


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
