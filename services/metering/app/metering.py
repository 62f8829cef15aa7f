"""Use cases of metering: take a batch in, set how far from now events may lie."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from services.metering import facts
from services.metering.app import late, ordinals
from services.metering.app.books import BookMemory
from services.metering.app.guarding import Guard, Guarding, rated_anew
from services.metering.app.sharing import (
    GROUP_BATCHES_MAX,
    Shared,
    can_share,
    store_together,
)
from services.metering.app.skus import SkuMemory
from services.metering.domain.events import (
    BY_SETTINGS,
    Batch,
    Policy,
    Refuse,
    StoreBatch,
    StoredEvent,
    batch_digest,
    rejections_by_reason,
    rejections_message,
)
from services.metering.domain.late import LateEvent, LateFilter, LatePlace
from services.metering.domain.measures import EVENTS_ANSWERED, EVENTS_REJECTED
from services.metering.domain.receipts import (
    RECEIPT_PREFIX,
    Receipt,
    ReceiptKind,
    Stored,
    Verdict,
    receipt_of,
)
from services.metering.domain.settings import ChangeSettings, IngestSettings, LatePolicy
from services.metering.store import events as events_store
from services.metering.store import late as late_store
from services.metering.store import receipts as receipts_store
from services.metering.store import rejected as rejected_store
from services.metering.store import settings as settings_store
from services.runtime.clock import Clock
from services.runtime.commands import Commands
from services.runtime.context import acting_tenant, current
from services.runtime.contracts import REQUEST_VALIDATION
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import Overloaded
from services.runtime.fair_turns import FairTurns, PushedOut
from services.runtime.groups import Groups
from services.runtime.ids import new_id

BATCHES_MAX = 6
"""Batches worked on at a time: more than two cores need, and ten connections are left to others."""
WAITING_MAX = 64
"""Batches that may wait for their turn; each holds its message in memory."""
SHARING_MAX = 1_000
"""Small batches that may be in groups or wait for one at a time."""
SETTINGS_SECONDS = 1.0
"""How long settings are remembered. Before an event is refused by them they are read anew."""
TENANTS_MAX = 1_000


Judge = Callable[[Policy], Awaitable[Batch]]
"""Judges the events of one batch; called again when the policy turns out to have changed."""


class Turns:
    """Lets a bounded number of batches work and a bounded number wait; each tenant has its share of both.

    A place goes to the tenant that has fewest of those that wait. Where no more may wait, a tenant of which fewer do
    takes the room of the last batch of the one of which most do.
    """

    def __init__(self, working_max: int = BATCHES_MAX, waiting_max: int = WAITING_MAX) -> None:
        self._places = FairTurns(working_max)
        self._waiting_max = waiting_max

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn.

        Raises:
            Overloaded: too many wait already.
        """
        tenant_id = acting_tenant()
        if self._places.waiting >= self._waiting_max and not self._places.make_room(tenant_id):
            raise self._overloaded()
        try:
            await self._places.take(tenant_id)
        except PushedOut as error:
            raise self._overloaded() from error
        try:
            yield
        finally:
            self._places.give_back(tenant_id)

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"{self._waiting_max} batches are already waiting; send this one again shortly",
            retry_after_ms=500,
            limit=self._waiting_max,
        )


class SettingsMemory:
    """Remembers ingest settings for a second, for a bounded number of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, tuple[float, IngestSettings]] = OrderedDict()

    async def recent(self, tenant_id: str) -> IngestSettings:
        """Return settings that were in force at most a second ago."""
        kept = self._kept.get(tenant_id)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        return await self.fresh(tenant_id)

    async def fresh(self, tenant_id: str) -> IngestSettings:
        """Return the settings in force now."""
        async with self._database.read() as work:
            settings = await settings_store.read_settings(work)
        self._kept[tenant_id] = (time.monotonic() + SETTINGS_SECONDS, settings)
        self._kept.move_to_end(tenant_id)
        while len(self._kept) > TENANTS_MAX:
            self._kept.popitem(last=False)
        return settings

    def forget(self, tenant_id: str) -> None:
        """Read the settings anew next time."""
        self._kept.pop(tenant_id, None)


class Metering:
    """The use cases.

    Args:
        database: what is read.
        commands: runs what changes something.
        skus: which SKUs exist.
        clock: business time, against which event times are held.
        guarding: counts events against budgets.
        memory: which budgets there are.
    """

    def __init__(
        self,
        database: Database,
        commands: Commands,
        skus: SkuMemory,
        clock: Clock,
        guarding: Guarding,
        memory: BookMemory,
    ) -> None:
        self._database = database
        self._commands = commands
        self._skus = skus
        self._clock = clock
        self._guarding = guarding
        self._memory = memory
        self._settings = SettingsMemory(database)
        self._turns = Turns()
        self._sharing = Turns(SHARING_MAX, WAITING_MAX)
        self._groups: Groups[Shared, Receipt] = Groups(
            "groups of batches", self._store_group, items_max=GROUP_BATCHES_MAX
        )

    async def ingest(self, skus: Set[str], judge: Judge, refuse: Refuse) -> Receipt:
        """Take a batch in; returns after the commit.

        The catalogue is asked before the transaction begins, so that none is held open across a call.

        Args:
            skus: that the batch names.
            judge: applies the rules to its events.
            refuse: makes a refusal of an event that has no fault of its own.

        Raises:
            Overloaded: too many batches wait.
            DependencyUnavailable: the catalogue is needed and cannot be reached; nothing was stored.
            DatabaseUnavailable: the same batch may be sent again, whether it was stored or not.
        """
        async with self._turns.turn():
            batch, settings = await self.judged(skus, judge)
            refuses_late = settings.late is LatePolicy.REJECT
            command = StoreBatch(new_receipt_id(), batch, refuse, refuses_late)
            if not can_share(command) or await self._guarding.watches():
                return await self._store_alone(command)
        async with self._sharing.turn():
            (receipt,) = await self._groups.apply([Shared(command, current())])
            return receipt

    async def _store_alone(self, command: StoreBatch) -> Receipt:
        async def attempt() -> Receipt:
            guard = await self._guarding.guard(command.batch, command.refuse)
            run = partial(store_batch, guard)
            return await self._commands.apply("metering.ingest", run, command)

        return await rated_anew(attempt)

    async def _store_group(self, shared: Sequence[Shared]) -> Sequence[Receipt]:
        if len(shared) > 1:
            return await store_together(self._commands, self._memory, shared)
        return [await self._store_alone(shared[0].command)]

    async def judged(
        self, skus: Set[str], judge: Judge, received_at: datetime | None = None
    ) -> tuple[Batch, IngestSettings]:
        """Judge the events of a batch; returns the settings that it was judged by.

        Args:
            received_at: against which event times are held; None for now.
        """
        tenant_id = current().tenant_id
        known = await self._skus.known(tenant_id, skus)
        settings = await self._settings.recent(tenant_id)
        received_at = received_at or self._clock.now()
        batch = await judge(_policy(settings, known, received_at))
        if any(item.reason in BY_SETTINGS for item in batch.rejections):
            fresh = await self._settings.fresh(tenant_id)
            if fresh != settings:
                return await judge(_policy(fresh, known, received_at)), fresh
        return batch, settings

    async def list_late(
        self, wanted: LateFilter, after: LatePlace | None, limit: int
    ) -> list[LateEvent]:
        """List the first late events behind `after`, each with its ordinal."""
        await ordinals.reached(self._database, None)
        async with self._database.read() as work:
            return await late_store.list_late(work, wanted, after, limit)

    async def ingest_settings(self) -> IngestSettings:
        """Return the tenant's settings."""
        async with self._database.read() as work:
            return await settings_store.read_settings(work)

    async def change_settings(self, command: ChangeSettings, work: UnitOfWork) -> IngestSettings:
        """Set what is given, leave the rest; audited."""
        before = await settings_store.lock_settings(work)
        after = replace(
            before,
            accept_past=before.accept_past if command.past is None else command.past,
            accept_future=before.accept_future if command.future is None else command.future,
            late=before.late if command.late is None else command.late,
            metadata_allowed=(
                before.metadata_allowed
                if command.metadata_allowed is None
                else command.metadata_allowed
            ),
            rollup_keys=before.rollup_keys if command.rollup_keys is None else command.rollup_keys,
            updated_at=work.now,
        )
        await settings_store.update_settings(work, after)
        work.audit("ingest_settings", work.tenant_id, _audited(before), _audited(after))
        # The tenant's next batch reads them anew.
        work.after_commit(partial(self._settings.forget, work.tenant_id))
        return after


def _policy(settings: IngestSettings, known: Set[str], at: datetime) -> Policy:
    return Policy(*settings.bounds_us(at), known, settings.allowed_keys)


def new_receipt_id() -> str:
    """Return the id of a receipt to come."""
    return new_id(RECEIPT_PREFIX.rstrip("_"))


async def store_batch(
    guard: Guard, command: StoreBatch, work: UnitOfWork, kind: ReceiptKind = ReceiptKind.INGEST
) -> Receipt:
    """Store a judged batch but for what budgets and closed periods refuse, its receipt and its event."""
    receipt_id, batch = command.receipt_id, command.batch
    await guard.lock(work, batch)
    if command.refuses_late:
        batch = await late.refuse_stored(work, batch, command.refuse, command.received_at)
    batch = await guard.count(work, batch)
    stored = Stored()
    known: list[StoredEvent] = []
    if batch.rows:
        stored = await events_store.store_events(work, receipt_id, batch)
        if stored.event_count < len(batch.rows):
            known = await events_store.known_events(work, receipt_id, batch)
    guard.end(work, known)
    totals = stored.totals
    receipt = receipt_of(receipt_id, batch, known)
    said = batch_digest(command.batch) if kind is ReceiptKind.INGEST and batch.size else None
    if said is not None and not stored.event_count:
        # Sent again whole, e.g. because the reply was lost. A statement of its own: it sees whom the storing one waited
        # for.
        before = await receipts_store.receipts_of_batches(work, [said], receipt.rejected)
        if said in before:
            _count(work, receipt, batch)
            return replace(receipt, receipt_id=before[said])
    await late.report_stored(work, receipt_id, batch, stored)
    assert receipt.accepted == stored.event_count, "an event has no verdict"
    if batch.rejections and command.keeps_refused:
        await rejected_store.insert_rejected(work, receipt_id, batch.rejections)
        work.violation(REQUEST_VALIDATION, "LOW", rejections_message(batch), subject_id=receipt_id)
        work.publish(facts.rejected(receipt_id, batch, work.now))
    receipts_store.insert_receipt(work, receipt, stored.moments, current().principal_id, kind, said)
    if totals:
        work.publish(facts.reported(receipt, totals))
    _count(work, receipt, batch)
    return receipt


def _count(work: UnitOfWork, receipt: Receipt, batch: Batch) -> None:
    for verdict in Verdict:
        outcome = verdict.value.lower()
        work.count(EVENTS_ANSWERED, getattr(receipt, outcome), outcome=outcome)
    for reason, count in rejections_by_reason(batch).items():
        work.count(EVENTS_REJECTED, count, reason=reason)


def _audited(settings: IngestSettings) -> dict[str, object]:
    return {
        "accept_past_seconds": settings.accept_past.total_seconds(),
        "accept_future_seconds": settings.accept_future.total_seconds(),
        "late": settings.late.value,
        "metadata_allowed": list(settings.metadata_allowed),
        "rollup_keys": list(settings.rollup_keys),
        "updated_at": _text(settings.updated_at),
    }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
