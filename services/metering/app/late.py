"""Late usage: stored for a period after a charge had closed it. Each event is marked and reported once.

An event is late when it lies in a charge's period and not in the snapshot of usage that the charge saw. Metering hears
of the charge a while after that. It then waits for the batches that are under way (by a lock that batches share) and
keeps the period with the snapshot of that moment, which parts what is late in two: what this snapshot has is looked for
afterwards (`report_unseen`); everything else is stored by batches that see the period as closed, and they tell of it
themselves (`report_stored`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from services.metering import domain, facts, store
from services.metering.domain import Batch, Closing, LateTotal, Stored
from services.runtime.database import UnitOfWork

CONTRACT = "metering/late-usage"


async def close_period(work: UnitOfWork, closing: Closing) -> None:
    """Keep a period as closed, and say so; does nothing when it was."""
    if await store.is_closed(work, closing.charge_id):
        return
    await store.wait_for_batches(work)
    if not await store.close_period(work, closing):
        return
    work.publish(facts.period_closed(closing))


async def adjusted(work: UnitOfWork, charge_id: str, usage_snapshot: str) -> None:
    """Take what an adjustment of a charge has seen as billed; what comes behind it is late."""
    await store.wait_for_batches(work)
    await store.advance_closing(work, charge_id, usage_snapshot)


async def taken_back(work: UnitOfWork, charge_id: str) -> None:
    """Open the period of a charge that was reversed: its usage waits for the next charge, and none of it is late."""
    await store.wait_for_batches(work)
    await store.reopen_period(work, charge_id)


async def report_unseen(work: UnitOfWork, charge_id: str, org_id: str) -> None:
    """Mark and tell what a charge did not see although it was stored before its closing was known."""
    skus = await store.skus_of_org(work, org_id)
    _tell(work, await store.mark_unseen(work, charge_id, skus), "")


async def report_stored(work: UnitOfWork, receipt_id: str, batch: Batch, stored: Stored) -> None:
    """Mark and tell what a batch has just stored for closed periods; the last that it does before its receipt."""
    if stored.totals and stored.touches_closed:
        _tell(work, await store.mark_stored(work, receipt_id, batch), receipt_id)


def _tell(work: UnitOfWork, totals: Sequence[LateTotal], receipt_id: str) -> None:
    """Publish one fact and one violation for each charge; totals come sorted by it."""
    for closing, of_charge in groupby(totals, key=lambda total: total.closing):
        told = [item.total for item in of_charge]
        work.publish(facts.usage_late(closing, told, receipt_id))
        work.violation(
            CONTRACT,
            "MEDIUM",
            domain.late_message(closing, sum(total.event_count for total in told), receipt_id),
            subject_id=closing.charge_id,
        )
