"""Use cases of metering: take a batch in, sum usage up, set how far from now events may lie."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from services.metering import domain, facts, store
from services.metering.app import late
from services.metering.app.skus import SkuMemory
from services.metering.domain import (
    Batch,
    ChangeSettings,
    IngestSettings,
    LateEvent,
    LateFilter,
    LatePlace,
    Policy,
    Receipt,
    StoreBatch,
    Usage,
    UsageQuery,
    Verdict,
)
from services.runtime.clock import Clock
from services.runtime.commands import Commands
from services.runtime.context import current
from services.runtime.contracts import REQUEST_VALIDATION
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import Overloaded
from services.runtime.ids import new_id

BATCHES_MAX = 6
"""Batches worked on at a time: more than two cores need, and ten connections are left to others."""
WAITING_MAX = 64
"""Batches that may wait for their turn; each holds its message in memory."""
SETTINGS_SECONDS = 1.0
"""How long settings are remembered. Before an event is refused by them they are read anew."""
TENANTS_MAX = 1_000


Judge = Callable[[Policy], Awaitable[Batch]]
"""Judges the events of one batch; called again when the policy turns out to have changed."""


class Turns:
    """Lets a bounded number of batches work and a bounded number wait."""

    def __init__(self, working_max: int = BATCHES_MAX, waiting_max: int = WAITING_MAX) -> None:
        self._working = asyncio.Semaphore(working_max)
        self._waiting_max = waiting_max
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn.

        Raises:
            Overloaded: too many wait already.
        """
        if self._waiting >= self._waiting_max:
            raise Overloaded(
                f"{self._waiting_max} batches are already waiting; send this one again shortly",
                retry_after_ms=500,
                limit=self._waiting_max,
            )
        self._waiting += 1
        try:
            await self._working.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._working.release()


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
            settings = await store.read_settings(work)
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
    """

    def __init__(
        self, database: Database, commands: Commands, skus: SkuMemory, clock: Clock
    ) -> None:
        self._database = database
        self._commands = commands
        self._skus = skus
        self._clock = clock
        self._settings = SettingsMemory(database)
        self._turns = Turns()

    async def ingest(self, skus: Set[str], judge: Judge) -> Receipt:
        """Take a batch in; returns after the commit.

        The catalogue is asked before the transaction begins, so that none is held open across a call.

        Args:
            skus: that the batch names.
            judge: applies the rules to its events.

        Raises:
            Overloaded: too many batches wait.
            DependencyUnavailable: the catalogue is needed and cannot be reached; nothing was stored.
            DatabaseUnavailable: the same batch may be sent again, whether it was stored or not.
        """
        async with self._turns.turn():
            batch = await self._judged(skus, judge)
            receipt_id = new_id(store.RECEIPT_PREFIX.rstrip("_"))
            command = StoreBatch(receipt_id, batch)
            return await self._commands.apply("metering.ingest", store_batch, command)

    async def _judged(self, skus: Set[str], judge: Judge) -> Batch:
        tenant_id = current().tenant_id
        known = await self._skus.known(tenant_id, skus)
        settings = await self._settings.recent(tenant_id)
        batch = await judge(self._policy(settings, known))
        if any(item.reason in domain.OUTSIDE_WINDOW for item in batch.rejections):
            fresh = await self._settings.fresh(tenant_id)
            if fresh != settings:
                return await judge(self._policy(fresh, known))
        return batch

    def _policy(self, settings: IngestSettings, known: Set[str]) -> Policy:
        return Policy(*settings.bounds_us(self._clock.now()), known)

    async def query_usage(self, query: UsageQuery) -> Usage:
        """Aggregate usage; all rows come from one snapshot.

        Raises:
            UnknownTimeZone: the zone does not exist.
            UnknownSkuAsked: neither the catalogue nor usage has a SKU that was asked for.
            UsageTooWide: the answer would have too many windows or rows.
        """
        starts = domain.window_starts(query)
        async with self._database.read() as work:
            snapshot = await store.read_snapshot(work)
            skus = query.skus or await store.skus_of_org(work, query.org_id)
            rows = await store.query_usage(work, query, skus, starts, domain.ROWS_MAX + 1)
        await self._check_skus(set(query.skus) - {row.sku for row in rows})
        if len(rows) > domain.ROWS_MAX:
            raise domain.UsageTooWide(
                f"the answer has more than {domain.ROWS_MAX} rows; ask for a shorter period, a longer"
                " window, fewer SKUs or fewer keys",
                limit=domain.ROWS_MAX,
            )
        return Usage(rows, snapshot)

    async def _check_skus(self, unused: Set[str]) -> None:
        """Refuse SKUs without usage that do not exist; what was used once existed, and is not asked for."""
        if not unused:
            return
        known = await self._skus.known(current().tenant_id, unused)
        unknown = sorted(unused - known)
        if unknown:
            raise domain.UnknownSkuAsked(
                f"the catalogue has no SKU {', '.join(unknown[:20])}; ListSkus lists the SKUs",
                sku=",".join(unknown[:20]),
            )

    async def list_late(
        self, wanted: LateFilter, after: LatePlace | None, limit: int
    ) -> list[LateEvent]:
        """List the first late events behind `after`."""
        async with self._database.read() as work:
            return await store.list_late(work, wanted, after, limit)

    async def ingest_settings(self) -> IngestSettings:
        """Return the tenant's settings."""
        async with self._database.read() as work:
            return await store.read_settings(work)

    async def change_settings(self, command: ChangeSettings, work: UnitOfWork) -> IngestSettings:
        """Set what is given, leave the rest; audited."""
        before = await store.lock_settings(work)
        after = replace(
            before,
            accept_past=before.accept_past if command.past is None else command.past,
            accept_future=before.accept_future if command.future is None else command.future,
            updated_at=work.now,
        )
        await store.update_settings(work, after)
        work.audit("ingest_settings", work.tenant_id, _audited(before), _audited(after))
        # The tenant's next batch reads them anew.
        work.after_commit(partial(self._settings.forget, work.tenant_id))
        return after


async def store_batch(command: StoreBatch, work: UnitOfWork) -> Receipt:
    """Store a judged batch, its receipt and its event."""
    receipt_id, batch = command.receipt_id, command.batch
    stored = domain.Stored()
    known: list[domain.StoredEvent] = []
    if batch.rows:
        stored = await store.store_events(work, receipt_id, batch)
        if stored.event_count < len(batch.rows):
            known = await store.known_events(work, receipt_id, batch)
    totals = stored.totals
    receipt = domain.receipt_of(receipt_id, batch, known)
    await late.report_stored(work, receipt_id, batch, stored)
    assert receipt.accepted == stored.event_count, "an event has no verdict"
    if batch.rejections:
        await store.insert_rejected(work, receipt_id, batch.rejections)
        work.violation(
            REQUEST_VALIDATION, "LOW", domain.rejections_message(batch), subject_id=receipt_id
        )
        work.publish(facts.rejected(receipt_id, batch, work.now))
    store.insert_receipt(work, receipt, totals, current().principal_id)
    if totals:
        work.publish(facts.reported(receipt, totals))
    for verdict in Verdict:
        outcome = verdict.value.lower()
        work.count(domain.EVENTS_ANSWERED, getattr(receipt, outcome), outcome=outcome)
    for reason, count in domain.rejections_by_reason(batch).items():
        work.count(domain.EVENTS_REJECTED, count, reason=reason)
    return receipt


def _audited(settings: IngestSettings) -> dict[str, object]:
    return {
        "accept_past_seconds": settings.accept_past.total_seconds(),
        "accept_future_seconds": settings.accept_future.total_seconds(),
        "updated_at": _text(settings.updated_at),
    }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
