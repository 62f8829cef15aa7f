"""Late usage: stored for a period after a charge had closed it. Each event is marked and reported once.

An event is late when it counts in a charge's period and has a greater ordinal than the usage that the charge saw. It
counts in the period of its time; where a charge reads levels, it also does in those that begin before the next event of
its series, so that one event may be late for many charges, and is until each of them has it.
Metering hears of the charge a while after that. It then waits for the batches that are under way (by a lock that
batches share), gives ordinals to all there is, and keeps the period with the newest, which parts what is late in two:
what is up to this ordinal is looked for afterwards (`report_unseen`); everything else is stored by batches that see the
period as closed, and they tell of it themselves (`report_stored`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby

from services.metering import facts
from services.metering.domain.corrections import Change, closed_message
from services.metering.domain.events import PERIOD_CLOSED, Batch, Refuse, place_of, without
from services.metering.domain.late import Closing, LateTotal, late_message
from services.metering.domain.receipts import Stored
from services.metering.store import closings as closings_store
from services.metering.store import events as events_store
from services.metering.store import late as late_store
from services.metering.store import ordinals as ordinals_store
from services.metering.store import usage as usage_store
from services.runtime.database import UnitOfWork

CONTRACT = "metering/late-usage"


async def close_period(work: UnitOfWork, closing: Closing) -> None:
    """Keep a period as closed, and say so; does nothing when it was."""
    if await closings_store.is_closed(work, closing.charge_id):
        return
    await closings_store.wait_for_batches(work)
    heard_ordinal = await ordinals_store.sequence(work)
    closing = await _with_ordinal(work, closing)
    if not await closings_store.close_period(work, closing, heard_ordinal):
        return
    await closings_store.carry_skus(work, closing.charge_id, closing.carried_skus)
    work.publish(facts.period_closed(closing))


async def adjusted(work: UnitOfWork, charge_id: str, seen: Closing) -> None:
    """Take what an adjustment of a charge has seen as billed; what comes behind it is late.

    Args:
        seen: the adjustment, as a closing of its own.
    """
    await closings_store.wait_for_batches(work)
    await ordinals_store.sequence(work)
    seen = await _with_ordinal(work, seen)
    assert seen.usage_ordinal is not None, "it was looked up"
    await closings_store.carry_skus(work, charge_id, seen.carried_skus)
    await closings_store.advance_closing(work, charge_id, seen.usage_ordinal)


async def _with_ordinal(work: UnitOfWork, closing: Closing) -> Closing:
    """Look up the ordinal of a charge from before ordinals; all receipts that are visible have theirs."""
    if closing.usage_ordinal is not None:
        return closing
    ordinal = await ordinals_store.ordinal_of_snapshot(work, closing.usage_snapshot)
    return replace(closing, usage_ordinal=ordinal)


async def taken_back(work: UnitOfWork, charge_id: str) -> None:
    """Open the period of a charge that was reversed: its usage waits for the next charge, and none of it is late."""
    await closings_store.wait_for_batches(work)
    await closings_store.reopen_period(work, charge_id)


async def report_unseen(work: UnitOfWork, charge_id: str, org_id: str) -> None:
    """Mark and tell what a charge did not see although it was stored before its closing was known."""
    skus = await usage_store.skus_of_org(work, org_id)
    _tell(work, await late_store.mark_unseen(work, charge_id, skus), "")
    _tell(work, await late_store.mark_unseen_changes(work, charge_id, skus), "")


async def report_stored(work: UnitOfWork, receipt_id: str, batch: Batch, stored: Stored) -> None:
    """Mark and tell what a batch has just stored for closed periods; the last that it does before its receipt."""
    if stored.totals and stored.touches_closed:
        _tell(work, await late_store.mark_stored(work, receipt_id, batch), receipt_id)


async def report_changed(work: UnitOfWork, receipt_id: str, changes: Sequence[Change]) -> None:
    """Mark and tell what a batch of corrections has just changed of closed periods."""
    keys = [change.before.key for change in changes]
    _tell(work, await late_store.mark_changed(work, receipt_id, keys), receipt_id)


async def refuse_stored(
    work: UnitOfWork, batch: Batch, refuse: Refuse, received_at: datetime | None = None
) -> Batch:
    """Refuse the events that count in closed periods, save those that were stored before: they are duplicates.

    From here to the commit no period of the tenant is closed.

    Args:
        received_at: when the batch was taken, where that was before it is stored: what was closed after it had come is
            no reason to refuse it, it is late.
    """
    await closings_store.hold_closings(work)
    places = {row[0]: place_of(row) for row in batch.rows}
    asked = list(places.values())
    charges = await closings_store.charges_of(work, asked, received_at) if places else {}
    late = [row for row in batch.rows if places[row[0]] in charges]
    if not late:
        return batch
    stored = await events_store.stored_keys(work, [key for *_, key, _ in late])
    refused = {
        request_id: (PERIOD_CLOSED, closed_message(charges[places[request_id]]))
        for request_id, *_, key, _ in late
        if key not in stored
    }
    return without(batch, refused, refuse)


def _tell(work: UnitOfWork, totals: Sequence[LateTotal], receipt_id: str) -> None:
    """Publish one fact and one violation for each charge; totals come sorted by it."""
    for closing, of_charge in groupby(totals, key=lambda total: total.closing):
        told = [item.total for item in of_charge]
        work.publish(facts.usage_late(closing, told, receipt_id))
        work.violation(
            CONTRACT,
            "MEDIUM",
            late_message(closing, sum(total.event_count for total in told), receipt_id),
            subject_id=closing.charge_id,
        )
