"""Batches of a few events, which share a transaction with those that come at the same time.

Each gets its own receipt and its own verdicts, as if it had come alone: of several events with one id the first to come
is stored, and the others are judged by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from services.metering import facts
from services.metering.app import late
from services.metering.app.books import BookMemory
from services.metering.app.guarding import Unguarded
from services.metering.domain.events import Row, StoreBatch, StoredEvent, batch_digest
from services.metering.domain.measures import EVENTS_ANSWERED
from services.metering.domain.receipts import Receipt, Stored, Total, Verdict, receipt_of
from services.metering.store import events as events_store
from services.metering.store import receipts as receipts_store
from services.runtime.commands import Commands
from services.runtime.context import CallContext
from services.runtime.database import UnitOfWork
from services.runtime.money import CONTEXT

EVENTS_MAX = 10
"""Events of a batch that may share a transaction: beyond, what a transaction costs is a small part."""
GROUP_BATCHES_MAX = 200


@dataclass(frozen=True, slots=True)
class Shared:
    """A judged batch, and the call that brought it."""

    command: StoreBatch
    call: CallContext


@dataclass(frozen=True, slots=True)
class Cause:
    """The call that a fact follows from."""

    event_id: str
    correlation_id: str


def can_share(command: StoreBatch) -> bool:
    """Whether a batch can be stored with others: a few events, and none is refused."""
    batch = command.batch
    return 0 < batch.size <= EVENTS_MAX and not batch.rejections and not command.refuses_late


async def store_together(
    commands: Commands, memory: BookMemory, shared: Sequence[Shared]
) -> Sequence[Receipt]:
    """Store batches in one transaction; returns the receipt of each.

    Raises:
        BudgetsWatch: the tenant has budgets by now, so each batch must be counted by itself.
    """
    unguarded = Unguarded(memory)

    async def run(items: Sequence[Shared], work: UnitOfWork) -> Sequence[Receipt]:
        await unguarded.hold(work)
        return await _store(items, work)

    return await commands.apply("metering.ingest", run, shared)


async def _store(shared: Sequence[Shared], work: UnitOfWork) -> list[Receipt]:
    rows: dict[str, tuple[Row, str]] = {}
    for item in shared:
        for row in item.command.batch.rows:
            rows.setdefault(row[3], (row, item.command.receipt_id))
    new, touches_closed = await events_store.store_shared(work, list(rows.values()))
    known = await events_store.stored_fingerprints(work, [key for key in rows if key not in new])
    answers = [_judged(item.command, rows, new, known) for item in shared]
    said = [batch_digest(item.command.batch) for item in shared]
    again = [of for of, (receipt, _) in zip(said, answers, strict=True) if not receipt.accepted]
    # Sent again whole: in this transaction or before.
    before = await receipts_store.receipts_of_batches(work, again, 0)
    receipts: list[Receipt] = []
    made: list[_Made] = []
    for item, of, (receipt, totals) in zip(shared, said, answers, strict=True):
        if not receipt.accepted and of in before:
            receipts.append(replace(receipt, receipt_id=before[of]))
            continue
        before.setdefault(of, receipt.receipt_id)
        receipts.append(receipt)
        made.append(_Made(item, receipt, Stored(totals, touches_closed), of))
    await _write(work, made)
    for verdict in Verdict:
        outcome = verdict.value.lower()
        count = sum(getattr(receipt, outcome) for receipt in receipts)
        work.count(EVENTS_ANSWERED, count, outcome=outcome)
    return receipts


@dataclass(frozen=True, slots=True)
class _Made:
    """A batch that gets a receipt of its own."""

    shared: Shared
    receipt: Receipt
    stored: Stored
    said: str


def _judged(
    command: StoreBatch,
    rows: Mapping[str, tuple[Row, str]],
    new: Mapping[str, tuple[str, str, Decimal, datetime]],
    known: Mapping[str, str],
) -> tuple[Receipt, list[Total]]:
    """Return the receipt of a batch, and what it adds."""
    batch, receipt_id = command.batch, command.receipt_id
    seen_before = []
    totals: dict[tuple[str, str], Total] = {}
    for request_id, *_, key, _ in batch.rows:
        first, stored_by = rows[key]
        if key not in new:
            seen_before.append(StoredEvent(request_id, known[key]))
        elif stored_by != receipt_id:
            seen_before.append(StoredEvent(request_id, first[4]))
        else:
            _add(totals, *new[key])
    receipt = receipt_of(receipt_id, batch, seen_before)
    found = [totals[place] for place in sorted(totals)]
    assert receipt.accepted == Stored(found).event_count, "an event has no verdict"
    return receipt, found


async def _write(work: UnitOfWork, made: Sequence[_Made]) -> None:
    """Store receipts, and tell what they add."""
    for item in made:
        receipt, stored, call = item.receipt, item.stored, item.shared.call
        await late.report_stored(work, receipt.receipt_id, item.shared.command.batch, stored)
        if stored.totals:
            cause = Cause(call.causation_id, call.correlation_id)
            work.publish(facts.reported(receipt, stored.totals), cause=cause)
    if made:
        receipts_store.insert_receipts(
            work,
            [item.receipt for item in made],
            [item.stored.moments for item in made],
            [item.shared.call.principal_id for item in made],
            [item.said for item in made],
        )


def _add(
    totals: dict[tuple[str, str], Total],
    org_id: str,
    sku: str,
    quantity: Decimal,
    event_time: datetime,
) -> None:
    held = totals.get((org_id, sku))
    if held is None:
        totals[org_id, sku] = Total(org_id, sku, 1, quantity, event_time, event_time)
        return
    totals[org_id, sku] = Total(
        org_id,
        sku,
        held.event_count + 1,
        CONTEXT.add(held.quantity, quantity),
        min(held.first_event_at, event_time),
        max(held.last_event_at, event_time),
    )
