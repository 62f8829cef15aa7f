"""Correcting events: a batch of corrections is stored with its receipt; what it changes of closed periods is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass
from functools import partial

from services.metering.app import late, ordinals
from services.metering.app.guarding import CorrectionGuard, Guarding, rated_anew
from services.metering.app.metering import new_receipt_id
from services.metering.app.skus import SkuMemory
from services.metering.domain.corrections import (
    Change,
    CorrectionBatch,
    EventVersion,
    correct,
    refuse_closed,
)
from services.metering.domain.events import EVENT_NOT_FOUND, Policy, digest
from services.metering.domain.receipts import Receipt, ReceiptKind, counted
from services.metering.domain.settings import LatePolicy
from services.metering.domain.spool import RETRY_MS, SpoolNotDrained
from services.metering.domain.times import microseconds
from services.metering.store import closings as closings_store
from services.metering.store import corrections as store
from services.metering.store import receipts as receipts_store
from services.metering.store import settings as settings_store
from services.runtime.clock import Clock
from services.runtime.commands import Commands, Request, ResponseT, UseCase
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.money import format_decimal

# A correction may reach back as far as usage does: what a charge has billed is to be corrected too.
_EVER_US = -(10**18)

Judge = Callable[[Policy], Awaitable[CorrectionBatch]]
"""Judges the corrections of one batch by the rules that need nothing stored."""


MayHold = Callable[[], Awaitable[bool]]
"""Tells whether events of the tenant may be held that are not stored yet."""


class EventMissing(Exception):
    """A correction names an event that is not stored."""


@dataclass(frozen=True, slots=True)
class Correct:
    """A judged batch of corrections to be carried out.

    Attributes:
        batch: the corrections.
        kind: what they do.
        guard: counts them against budgets.
        judges_missing: events that are not stored are rejected; else nothing is done while there are some.
    """

    batch: CorrectionBatch
    kind: ReceiptKind
    guard: CorrectionGuard
    judges_missing: bool = True


class Corrections:
    """The use cases.

    Args:
        database: what is read.
        commands: runs what changes something.
        skus: which SKUs exist.
        clock: business time, against which event times are held.
        guarding: counts corrections against budgets.
        may_hold: tells whether an event that is not stored may be held; None where nothing is.
    """

    def __init__(
        self,
        database: Database,
        commands: Commands,
        skus: SkuMemory,
        clock: Clock,
        guarding: Guarding,
        may_hold: MayHold | None = None,
    ) -> None:
        self._may_hold = may_hold
        self._database = database
        self._commands = commands
        self._skus = skus
        self._clock = clock
        self._guarding = guarding

    async def amend(
        self,
        use_case: UseCase[Correct, Receipt, ResponseT],
        request: Request,
        skus: Set[str],
        judge: Judge,
    ) -> ResponseT:
        """Give events another content; the catalogue and prices are asked before any transaction begins.

        Raises:
            DependencyUnavailable: the catalogue or pricing is needed and cannot be reached.
            SpoolNotDrained: an event is not stored, and may be held.
        """
        known = await self._skus.known(current().tenant_id, skus)
        async with self._database.read() as work:
            settings = await settings_store.read_settings(work)
        _, latest_us = settings.bounds_us(self._clock.now())
        batch = await judge(Policy(_EVER_US, latest_us, known, settings.allowed_keys))
        return await self._run(use_case, request, batch, ReceiptKind.AMEND)

    async def cancel(
        self,
        use_case: UseCase[Correct, Receipt, ResponseT],
        request: Request,
        batch: CorrectionBatch,
    ) -> ResponseT:
        """Have events count nowhere.

        Raises:
            DependencyUnavailable: pricing is needed and cannot be reached.
            SpoolNotDrained: an event is not stored, and may be held.
        """
        return await self._run(use_case, request, batch, ReceiptKind.CANCEL)

    async def _run(
        self,
        use_case: UseCase[Correct, Receipt, ResponseT],
        request: Request,
        batch: CorrectionBatch,
        kind: ReceiptKind,
    ) -> ResponseT:
        async def attempt(*, judges_missing: bool) -> ResponseT:
            guard = await self._guarding.correction_guard(batch)
            command = Correct(batch, kind, guard, judges_missing)
            return await self._commands.run(use_case, command, request)

        if self._may_hold is None:
            return await rated_anew(partial(attempt, judges_missing=True))
        try:
            return await rated_anew(partial(attempt, judges_missing=False))
        except EventMissing:
            # Asked only now, and outside of the transaction: few corrections name what is not there.
            if await self._may_hold():
                raise SpoolNotDrained(
                    "an event that is not stored may be in the spool, which holds batches from while the database was "
                    "away; repeat the same call once they are stored",
                    retry_after_ms=RETRY_MS,
                ) from None
        return await rated_anew(partial(attempt, judges_missing=True))

    async def event(self, request_id: str) -> Sequence[EventVersion]:
        """Return the versions of an event, from the first, each with its ordinal.

        Raises:
            NotFound: no such event was stored.
        """
        await ordinals.reached(self._database, None)
        async with self._database.read() as work:
            found = await store.versions(work, digest(request_id))
        if not found:
            raise NotFound("usage event", request_id)
        return found


async def carry_out(command: Correct, work: UnitOfWork) -> Receipt:
    """Store the versions that corrections make, and their receipt; audited."""
    batch = command.batch
    await store.lock_corrections(work)
    held = await store.newest(work, [item.key for item in batch.items])
    corrected = correct(batch, held)
    if not command.judges_missing and any(
        problem.reason == EVENT_NOT_FOUND for problem in corrected.problems
    ):
        raise EventMissing
    await command.guard.lock(work, corrected.changes)
    await closings_store.hold_closings(work)
    if corrected.changes and (await settings_store.read_settings(work)).late is LatePolicy.REJECT:
        places = [place for change in corrected.changes for place in change.places]
        corrected = refuse_closed(corrected, await closings_store.charges_of(work, places))
    corrected = command.guard.count(work, corrected)
    changes = corrected.changes
    problems = sorted(corrected.problems, key=lambda problem: problem.index)
    receipt = counted(new_receipt_id(), batch.size, problems)
    assert receipt.accepted == len(changes), "a correction has no verdict"
    if changes:
        await store.insert_versions(work, receipt.receipt_id, changes)
        await late.report_changed(work, receipt.receipt_id, changes)
    for change in changes:
        _audit(work, change)
    moments = [place.event_time for change in changes for place in change.places]
    receipts_store.insert_receipt(work, receipt, moments, current().principal_id, command.kind)
    return receipt


def _audit(work: UnitOfWork, change: Change) -> None:
    item = change.correction
    after: dict[str, object] = {"version": change.version, "reason": item.reason}
    if item.row is None:
        after["cancelled"] = True
    else:
        org_id, project_id, sku, quantity, at_us, source = item.row[1][:-1].split("\t")
        after |= {"org_id": org_id, "project_id": project_id, "sku": sku, "quantity": quantity}
        after |= {"event_time_us": int(at_us), "source": int(source), "metadata": item.row[2]}
    before = change.before.content
    said: dict[str, object] = {
        "version": change.before.version,
        "org_id": before.org_id,
        "project_id": before.project_id,
        "sku": before.sku,
        "quantity": format_decimal(before.quantity),
        "event_time_us": microseconds(before.event_time),
    }
    work.audit("usage_event", item.request_id, said, after)
