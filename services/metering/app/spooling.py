"""While the database is away: batches are held in the spool, and stored from there in the order in which they came.

A batch is acknowledged once the spool has it in a file. What is held is stored once: the row that says so commits with
the events, and only then the spool lets go of it. So whoever dies between two steps leaves a batch that is found again,
and either stored or known to be.

Of one tenant one process drains at a time, the first batch first; a batch that fails holds up those behind it of its
own tenant, for as long as it is tried, and nobody else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import islice

from services.metering.app.guarding import Guard, Guarding, rated_anew
from services.metering.app.metering import Metering, new_receipt_id, store_batch
from services.metering.domain.events import (
    EVENT_KEY_ENDED,
    EVENT_NOT_STORED,
    StoreBatch,
    all_refused,
)
from services.metering.domain.measures import EVENTS_ENQUEUED
from services.metering.domain.receipts import Receipt
from services.metering.domain.settings import LatePolicy
from services.metering.domain.spool import (
    RETRY_MS,
    HeldBatch,
    HeldCall,
    SpooledBatch,
    SpoolUnavailable,
    enqueued,
)
from services.metering.ports import HeldCalls, ReadCall, Spool, SpoolAway, SpoolRefused
from services.metering.store import spool as store
from services.runtime.access import KeyRing
from services.runtime.clock import Clock
from services.runtime.commands import Commands
from services.runtime.context import CallContext, acting, current
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import (
    DatabaseUnavailable,
    DependencyUnavailable,
    DomainError,
    NotFound,
)
from services.runtime.telemetry import Telemetry

LOOK_SECONDS = 0.2
"""How often a call that the database does not answer looks whether that is known to be away."""
REMEMBERED_MAX = 10_000
"""Batches that this process was told are held, and has not found stored yet."""
LOOKED_AT_ONCE = 100
PRINCIPAL = "mesh:metering.spool"
_DATABASE_AWAY = DatabaseUnavailable.reason


class TurnTaken(Exception):
    """Another process drains the tenant."""


class Spooling:
    """The use cases.

    Args:
        spool: holds batches; None: nothing is held, and a call fails as it did.
        database: tells whether it is away.
        metering: judges what was held.
        guarding: counts it against budgets.
        commands: store it.
        clock: business time.
        keys: of callers, looked up again before what they sent is stored.
        held_calls: reads requests again.
        telemetry: counts what is held.
    """

    def __init__(
        self,
        spool: Spool | None,
        database: Database,
        metering: Metering,
        guarding: Guarding,
        commands: Commands,
        clock: Clock,
        keys: KeyRing,
        held_calls: HeldCalls,
        telemetry: Telemetry,
    ) -> None:
        self._spool = spool
        self._database = database
        self._metering = metering
        self._guarding = guarding
        self._commands = commands
        self._clock = clock
        self._keys = keys
        self._held_calls = held_calls
        self._telemetry = telemetry
        # Batches that were acknowledged and are not known to be stored, with whose they are.
        self._promised: OrderedDict[str, str] = OrderedDict()

    # ---- On the way in

    async def take(self, call: HeldCall, content: Callable[[], bytes], read: ReadCall) -> Receipt:
        """Store a batch, or hold it while the database is away.

        Args:
            call: that brought it.
            content: writes the request, byte for byte the same each time.
            read: the batch.

        Raises:
            SpoolUnavailable: the database is away, and so is the spool, or it cannot hold the batch.
            DomainError: as `Metering.ingest`; DatabaseUnavailable where there is no spool.
        """
        if self._spool is None:
            return await self._metering.ingest(read.skus, read.judge, read.refuse)
        received_at = self._clock.now()
        away: DomainError | None = None
        if self._may_store():
            try:
                return await self._stored_soon(read)
            except DomainError as error:
                if not self._tells_away(error):
                    raise
                away = error
        return await self._held(self._spool, call, content, read, received_at, away)

    def _may_store(self) -> bool:
        credential = current().credential
        confirmed = credential is None or credential.confirmed
        return confirmed and not self._database.conditions.database_gone

    async def _stored_soon(self, read: ReadCall) -> Receipt:
        """Store a batch; given up once the database is known to be away, whatever it was waiting for.

        Raises:
            DatabaseUnavailable: it is away; the batch may have been stored, which shows when it is drained.
        """
        storing = asyncio.ensure_future(self._metering.ingest(read.skus, read.judge, read.refuse))
        try:
            while True:
                done, _ = await asyncio.wait({storing}, timeout=LOOK_SECONDS)
                if done:
                    return storing.result()
                if self._database.conditions.database_gone:
                    raise DatabaseUnavailable(
                        "the database went away while the batch was being stored",
                        retry_after_ms=RETRY_MS,
                    )
        finally:
            if not storing.done():
                storing.cancel()
                # Whatever it ends with is nobody's answer any more.
                await asyncio.gather(storing, return_exceptions=True)

    def _tells_away(self, error: DomainError) -> bool:
        """Whether a refusal says that the database is away: here, or where the catalogue is."""
        if isinstance(error, DependencyUnavailable):
            return self._database.conditions.database_gone
        return error.reason == _DATABASE_AWAY

    async def _held(
        self,
        spool: Spool,
        call: HeldCall,
        content: Callable[[], bytes],
        read: ReadCall,
        received_at: datetime,
        away: DomainError | None,
    ) -> Receipt:
        who = current()
        held = HeldBatch(
            receipt_id=new_receipt_id(),
            call=call,
            tenant_id=who.tenant_id,
            principal_id=who.principal_id,
            key_sha256=b"" if who.credential is None else who.credential.key_sha256,
            received_at=received_at,
            authenticated_at=datetime.now(UTC),
            request_id=who.request_id,
            correlation_id=who.correlation_id,
            causation_id=who.causation_id,
            traceparent=who.traceparent,
            tracestate=who.tracestate,
            events=read.size,
            content=content(),
        )
        try:
            receipt_id = await spool.hold(held)
        except SpoolRefused as error:
            raise SpoolUnavailable(
                f"the database is away, and {error}, or send the batch as it is once the database is back",
                retry_after_ms=RETRY_MS,
                batch_bytes=error.size_bytes,
                batch_bytes_max=error.bytes_max,
            ) from away
        except SpoolAway as error:
            raise SpoolUnavailable(
                f"the database is away, and the spool does not hold the batch: {error}; send the same batch again",
                retry_after_ms=RETRY_MS,
            ) from error
        self._promise(receipt_id, who.tenant_id)
        self._telemetry.count(EVENTS_ENQUEUED, read.size, {})
        return enqueued(receipt_id, read.request_ids())

    def _promise(self, receipt_id: str, tenant_id: str) -> None:
        self._promised[receipt_id] = tenant_id
        while len(self._promised) > REMEMBERED_MAX:
            self._promised.popitem(last=False)

    # ---- On the way out

    async def drain(self, held: HeldBatch, failure: str = "") -> bool:
        """Store a batch that was held, once; False when it had been stored already.

        Args:
            held: the batch.
            failure: why storing it was given up: its events are kept as rejected for that.

        Raises:
            TurnTaken: another process drains the tenant.
            DomainError: as `Metering.ingest`.
        """
        with acting(_context(held)):
            why = ("", "")
            if failure:
                why = (
                    EVENT_NOT_STORED,
                    f"its batch was held while the database was away, and could not be stored: {failure}",
                )
            elif not await self._key_counts(held):
                why = (
                    EVENT_KEY_ENDED,
                    "it was held while the database was away, and its key had been revoked or had expired before; "
                    "replay it with another key if it counts",
                )
            read = await self._held_calls.read(held.call, held.content)
            command = await self._judged(held, read, *why)

            async def attempt() -> Receipt | None:
                guard = await self._guarding.guard(command.batch, command.refuse)
                run: Callable[[StoreBatch, UnitOfWork], Awaitable[Receipt | None]]
                run = partial(_store_held, guard, held)
                return await self._commands.apply("metering.drain", run, command)

            stored = await rated_anew(attempt)
        crashpoint("metering.drain.before_removal")
        self._promised.pop(held.receipt_id, None)
        return stored is not None

    async def _judged(
        self, held: HeldBatch, read: ReadCall, reason: str, message: str
    ) -> StoreBatch:
        if reason:
            batch = all_refused(read.size, reason, message, read.refuse)
            return StoreBatch(held.receipt_id, batch, read.refuse)
        batch, settings = await self._metering.judged(read.skus, read.judge, held.received_at)
        return StoreBatch(
            held.receipt_id,
            batch,
            read.refuse,
            refuses_late=settings.late is LatePolicy.REJECT,
            received_at=held.received_at,
        )

    async def _key_counts(self, held: HeldBatch) -> bool:
        """Whether the key that a batch came with was good when it came, by what the database knows now."""
        if not held.key_sha256:
            return True
        key = await self._keys.state(held.key_sha256)
        return (
            key is not None
            and (key.tenant_id, key.key_id) == (held.tenant_id, held.principal_id)
            and key.worked_at(held.authenticated_at)
        )

    # ---- For those who ask

    async def batch(self, receipt_id: str) -> SpooledBatch:
        """Tell what became of a batch that was held.

        Raises:
            NotFound: none was held under this id.
            SpoolUnavailable: it was not stored, and the spool cannot be asked whether it waits.
        """
        found = await self._drained(receipt_id)
        if found is not None:
            return found
        waiting = await self._waiting(receipt_id)
        if waiting is not None:
            return SpooledBatch(receipt_id, waiting.events, waiting.received_at)
        # It may have been stored between the two looks.
        found = await self._drained(receipt_id)
        if found is None:
            raise NotFound("spooled batch", receipt_id)
        return found

    async def _drained(self, receipt_id: str) -> SpooledBatch | None:
        async with self._database.read() as work:
            return await store.find_drained(work, receipt_id)

    async def _waiting(self, receipt_id: str) -> HeldBatch | None:
        if self._spool is None:
            return None
        try:
            return await self._spool.find(current().tenant_id, receipt_id)
        except SpoolAway as error:
            raise SpoolUnavailable(
                f"the spool cannot be asked: {error}; ask again", retry_after_ms=RETRY_MS
            ) from error

    async def may_hold(self) -> bool:
        """Whether batches of the tenant may wait; also when the spool cannot be asked."""
        if self._spool is None:
            return False
        try:
            return await self._spool.holds_any(current().tenant_id)
        except SpoolAway:
            return True

    async def take_lost(self) -> Mapping[str, str]:
        """Look at some of the batches that this process acknowledged, first those that were not looked at for long.

        Returns those that are neither stored nor held any more, with whose they are; each once.

        Raises:
            DatabaseUnavailable, SpoolAway: it cannot be told now.
        """
        if self._spool is None:
            return {}
        by_tenant: dict[str, list[str]] = {}
        for receipt_id, tenant_id in islice(self._promised.items(), LOOKED_AT_ONCE):
            by_tenant.setdefault(tenant_id, []).append(receipt_id)
        lost: dict[str, str] = {}
        for tenant_id, receipt_ids in by_tenant.items():
            missing = [id_ for id_ in receipt_ids if not await self._spool.find(tenant_id, id_)]
            # After the look into the spool, which lets go of nothing that is not stored.
            with acting(_background(tenant_id)):
                async with self._database.read() as work:
                    stored = await store.which_are_drained(work, missing)
            for receipt_id in receipt_ids:
                if receipt_id not in missing:
                    self._promised.move_to_end(receipt_id)
                    continue
                # Unless it was stored by this process meanwhile.
                if self._promised.pop(receipt_id, None) and receipt_id not in stored:
                    lost[receipt_id] = tenant_id
        return lost


async def _store_held(
    guard: Guard, held: HeldBatch, command: StoreBatch, work: UnitOfWork
) -> Receipt | None:
    """Store a batch and that it is stored; None when it is."""
    if not await store.take_turn(work):
        raise TurnTaken
    if await store.find_drained(work, held.receipt_id) is not None:
        return None
    receipt = await store_batch(guard, command, work)
    await store.insert_drained(work, held, receipt)
    return receipt


def _context(held: HeldBatch) -> CallContext:
    """Act as who sent a batch, in the chain of the call that brought it."""
    return CallContext(
        tenant_id=held.tenant_id,
        principal_id=held.principal_id,
        scopes=frozenset(),
        request_id=held.request_id,
        correlation_id=held.correlation_id,
        causation_id=held.causation_id,
        traceparent=held.traceparent,
        tracestate=held.tracestate,
    )


def _background(tenant_id: str) -> CallContext:
    return CallContext(tenant_id, PRINCIPAL, frozenset(), PRINCIPAL, PRINCIPAL)
