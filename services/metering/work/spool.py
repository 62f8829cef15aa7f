"""Stores what the spool holds, in the order in which it came, and tells what the spool holds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from services.metering.app.spooling import PRINCIPAL, Spooling, TurnTaken
from services.metering.domain import measures
from services.metering.domain.spool import TRIES_MAX, HeldBatch, SpoolLevel, fails_alone
from services.metering.ports import Spool, SpoolAway, Waiting
from services.runtime.context import CallContext
from services.runtime.database import Database
from services.runtime.errors import DatabaseUnavailable
from services.runtime.interruptions import error_summary
from services.runtime.loops import Backoff, Loop
from services.runtime.telemetry import Telemetry
from services.runtime.violations import Violation, ViolationReporter

REST_SECONDS = 0.5
CONTRACT = "metering/spool"
# Between two looks whether what was acknowledged is still there.
PROMISES_SECONDS = 5.0
STOP_SECONDS_MAX = 10.0
# After failures of one tenant's batch: what is wrong for half a minute, e.g. while a release goes out, rejects nothing.
BACKOFF = Backoff(first_seconds=5.0, max_seconds=300.0)
# Before a batch that can be neither stored nor rejected is tried again.
STUCK_SECONDS = 600.0
# Read in one round behind a batch that another process is at work on: that one comes to them too.
TAKEN_MAX = 200
_LOOKING = Backoff(first_seconds=0.2, max_seconds=2.0)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Trouble:
    """A batch that could not be stored; its tenant's others wait behind it.

    Attributes:
        sequence: its place in the spool.
        failures: how often.
        own: how often it was its own fault.
        until: when it is tried again, in monotonic seconds.
    """

    sequence: int
    failures: int = 0
    own: int = 0
    until: float = 0.0


class Draining:
    """Drains round after round; any number of processes may, each batch is stored once.

    Args:
        spool: what is drained.
        spooling: stores a batch.
        database: nothing is tried while it is away.
        violations: told of batches that were lost.
        telemetry: told what the spool holds.
        clock: monotonic seconds.
        draw: randomness of the waits, from 0 up to 1.
    """

    def __init__(
        self,
        spool: Spool,
        spooling: Spooling,
        database: Database,
        violations: ViolationReporter,
        telemetry: Telemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._spool = spool
        self._spooling = spooling
        self._conditions = database.conditions
        self._violations = violations
        self._telemetry = telemetry
        self._clock = clock
        self._draw = draw
        self._troubles: dict[str, _Trouble] = {}
        self._unreadable: set[int] = set()
        # Batches that can be neither stored nor rejected, and when they are tried again.
        self._stuck: dict[int, float] = {}
        self._promises_at = 0.0
        self._made_at: datetime | None = None
        self.level: SpoolLevel | None = None
        self.loop = Loop(
            "spool",
            self.go_round,
            conditions=database.conditions,
            rest_seconds=REST_SECONDS,
            backoff=_LOOKING,
            stop_seconds=STOP_SECONDS_MAX,
        )
        for measure, read in (
            (measures.SPOOL_BATCHES, lambda level: level.batches),
            (measures.SPOOL_BYTES, lambda level: level.size_bytes),
            (measures.SPOOL_OLDEST, _age_seconds),
        ):
            telemetry.observe(measure.name, _reading(self, read))
        telemetry.observe(measures.SPOOL_TAKES.name, lambda: [(float(self.takes()), {})])
        telemetry.observe(
            measures.SPOOL_STUCK.name,
            lambda: [(float(len(self._unreadable) + len(self._stuck)), {})],
        )

    def takes(self) -> bool:
        """Whether the spool could be reached when it was last looked at, and had room."""
        return self.level is not None and self.level.takes_more

    async def start(self) -> None:
        """Begin."""
        self.loop.start()

    async def stop(self) -> None:
        """End after the batch that is being stored."""
        await self.loop.stop()
        await self._spool.close()

    async def go_round(self) -> float | None:
        """Look at the spool, and store all that it holds; asks to go on at once where that was something.

        Raises:
            SpoolAway: it cannot be reached, or used.
            DatabaseUnavailable: what is left waits.
        """
        try:
            self._look(await self._spool.level())
        except SpoolAway:
            self.level = None
            raise
        if self._conditions.database_gone or self._conditions.storage_low:
            return None
        await self._tell_lost()
        return 0 if await self._drain() else None

    def _look(self, level: SpoolLevel) -> None:
        if self._made_at is not None and level.made_at != self._made_at:
            self._forget()
            self._promises_at = 0.0
            _log.error(
                "the spool was made anew: what the one before it held and was not stored is lost",
                made_at=level.made_at.isoformat(),
                before=self._made_at.isoformat(),
            )
        self._made_at = level.made_at
        self.level = level

    async def _drain(self) -> int:
        """Store what can be stored of every tenant; returns how many batches that were."""
        assert self.level is not None
        if not self.level.batches:
            self._forget()
            return 0
        stored, passed, unreadable = 0, set[str](), set[int]()
        sequence = others = 0
        taken = False
        while not self.loop.is_stopping():
            item = await self._spool.next(sequence)
            if item is None:
                break
            sequence = item.sequence
            if item.batch is None:
                unreadable.add(sequence)
                self._tell_unreadable(item)
            elif item.group in passed:
                others += taken
                if others > TAKEN_MAX:
                    return stored
            elif sequence in self._stuck:
                # Left where it lies, and nobody waits for it.
                stored += await self._tried_again(item, item.batch)
            else:
                try:
                    settled = await self._settled(item, item.batch)
                except TurnTaken:
                    settled, taken = False, True
                stored += settled
                if not settled and sequence not in self._stuck:
                    # Behind one of its tenant that waits, for the rest of this round.
                    passed.add(item.group)
        else:
            return stored
        self._unreadable = unreadable
        return stored

    async def _settled(self, item: Waiting, batch: HeldBatch) -> bool:
        """Store a batch and take it out of the spool; False when it waits.

        Raises:
            DatabaseUnavailable, SpoolAway: everything waits.
            TurnTaken: another process drains the tenant.
        """
        trouble = self._troubles.get(item.group)
        if trouble is not None and trouble.sequence != item.sequence:
            # Another process has stored that one.
            del self._troubles[item.group]
            trouble = None
        if trouble is not None and trouble.until > self._clock():
            return False
        try:
            was_stored = await self._spooling.drain(batch)
        except (TurnTaken, DatabaseUnavailable):
            raise
        except Exception as error:
            # Whatever it is, it must not hold up other tenants.
            if not await self._given_up(item, batch, error):
                return False
            was_stored = True
        self._troubles.pop(item.group, None)
        await self._done(item, was_stored=was_stored)
        return True

    async def _tried_again(self, item: Waiting, batch: HeldBatch) -> bool:
        """Try one that can be neither stored nor rejected, if it is time for that.

        Raises:
            DatabaseUnavailable, SpoolAway: everything waits.
        """
        if self._stuck[item.sequence] > self._clock():
            return False
        try:
            was_stored = await self._spooling.drain(batch)
        except DatabaseUnavailable:
            raise
        except Exception:
            # It was told of.
            self._stuck[item.sequence] = self._clock() + STUCK_SECONDS
            return False
        del self._stuck[item.sequence]
        await self._done(item, was_stored=was_stored)
        return True

    async def _done(self, item: Waiting, *, was_stored: bool) -> None:
        await self._spool.remove(item.sequence)
        if was_stored:
            self._telemetry.count(measures.BATCHES_DRAINED, 1, {})

    async def _given_up(self, item: Waiting, batch: HeldBatch, error: Exception) -> bool:
        """Note a failure; when the batch failed often enough by itself, keep its events as rejected instead."""
        trouble = self._troubles.setdefault(item.group, _Trouble(item.sequence))
        trouble.failures += 1
        trouble.own += fails_alone(error)
        trouble.until = self._clock() + BACKOFF.after(trouble.failures, self._draw())
        said = {"receipt_id": batch.receipt_id, "tenant_id": batch.tenant_id}
        if trouble.failures == 1:
            _log.warning("a batch of the spool waits", error=error_summary(error), **said)
        if trouble.own < TRIES_MAX:
            return False
        try:
            await self._spooling.drain(batch, failure=error_summary(error))
        except (TurnTaken, DatabaseUnavailable):
            raise
        except Exception as failed:
            # It stays in the spool, whole; those of its tenant behind it go on.
            self._stuck[item.sequence] = self._clock() + STUCK_SECONDS
            del self._troubles[item.group]
            _log.error(
                "a batch of the spool can be neither stored nor kept as rejected: it stays there",
                sequence=item.sequence,
                error=error_summary(failed),
                **said,
            )
            return False
        _log.error(
            "a batch of the spool was kept as rejected events: it could not be stored",
            error=error_summary(error),
            **said,
        )
        return True

    def _forget(self) -> None:
        self._troubles.clear()
        self._unreadable.clear()
        self._stuck.clear()

    def _tell_unreadable(self, item: Waiting) -> None:
        if item.sequence not in self._unreadable:
            self._unreadable.add(item.sequence)
            _log.error(
                "the spool holds what is no batch of this mesh; it stays there until somebody takes it out",
                sequence=item.sequence,
                fault=item.fault,
            )

    async def _tell_lost(self) -> None:
        now = self._clock()
        if now < self._promises_at:
            return
        lost = await self._spooling.take_lost()
        self._promises_at = now + PROMISES_SECONDS
        for receipt_id, tenant_id in lost.items():
            _log.error(
                "the spool lost a batch that was acknowledged: it has to be sent again",
                receipt_id=receipt_id,
                tenant_id=tenant_id,
            )
            call = CallContext(tenant_id, PRINCIPAL, frozenset(), receipt_id, receipt_id)
            self._violations.report(
                Violation(
                    call,
                    CONTRACT,
                    "CRITICAL",
                    f"batch {receipt_id} was acknowledged while the database was away, and NATS lost it before it was "
                    "stored; send it again",
                    receipt_id,
                )
            )
        if lost:
            self._telemetry.count(measures.BATCHES_LOST, len(lost), {})


def _reading(
    draining: Draining, read: Callable[[SpoolLevel], float]
) -> Callable[[], list[tuple[float, Mapping[str, str]]]]:
    def reading() -> list[tuple[float, Mapping[str, str]]]:
        level = draining.level
        return [] if level is None else [(float(read(level)), {})]

    return reading


def _age_seconds(level: SpoolLevel) -> float:
    if level.oldest_at is None:
        return 0.0
    return max((datetime.now(UTC) - level.oldest_at).total_seconds(), 0.0)
