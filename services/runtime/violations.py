"""Reports broken contracts to the contract monitor without delaying the caller.

Inside a unit of work use `UnitOfWork.violation`: the violation commits with the state that it judges. Where there
is none (a refused request), the reporter queues it and a background task publishes it in batches.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass, replace

from services.runtime.context import CallContext, acting, current
from services.runtime.database import Database
from services.runtime.errors import DomainError
from services.runtime.loops import Backoff, Loop
from services.runtime.telemetry import log

QUEUE_MAX = 10_000
BATCH_MAX = 500
RETRY_SECONDS = 1.0
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken contract, with whom it concerns.

    Attributes:
        call: the call in which it was seen.
        contract_id: e.g. `mesh/request-validation`.
        severity: LOW, MEDIUM, HIGH or CRITICAL.
        message: what was seen.
        subject_id: the thing at fault, e.g. the path of the RPC.
    """

    call: CallContext
    contract_id: str
    severity: str
    message: str
    subject_id: str = ""


class ViolationReporter:
    """Queues violations and publishes them in the background; bounded, and counts what it drops."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: asyncio.Queue[Violation] = asyncio.Queue(QUEUE_MAX)
        # Taken from the queue, by tenant, and not published yet.
        self._batches: list[list[Violation]] = []
        self._loop = Loop(
            "reporting of violations",
            self._publish_queued,
            conditions=database.conditions,
            writes=True,
            backoff=Backoff(RETRY_SECONDS, RETRY_SECONDS),
        )
        self.reported = 0
        self.dropped = 0

    def report(self, violation: Violation) -> None:
        """Queue a violation; returns at once, always."""
        try:
            self._queue.put_nowait(violation)
            self.reported += 1
            self._loop.wake()
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped % 1000 == 1:
                log.warning("violations_dropped", dropped=self.dropped)

    def tell(self, contract_id: str, severity: str, message: str, subject_id: str) -> None:
        """Report for the running call that a contract was broken."""
        self.report(Violation(current(), contract_id, severity, message[:1000], subject_id))

    async def start(self) -> None:
        """Start to publish."""
        self._loop.start()

    async def drain(self) -> None:
        """Wait until all that was queued is published."""
        await self._queue.join()

    async def stop(self) -> None:
        """Publish what is queued, five seconds at most, and end."""
        if self._loop.started:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._queue.join(), timeout=STOP_SECONDS)
        await self._loop.stop()

    async def _publish_queued(self) -> float | None:
        """Publish what is queued, a transaction for each tenant."""
        if not self._batches:
            self._batches = self._taken()
        while self._batches:
            violations = self._batches[0]
            try:
                await self._publish(violations)
            except Exception as error:
                if isinstance(error, DomainError) and error.transient:
                    # The database is away: wait with the batch in hand, the queue is bounded.
                    raise
                # What cannot be published at all must not hold up the rest.
                self.dropped += len(violations)
                log.error("violations_lost", count=len(violations), exc_info=error)
            del self._batches[0]
            for _ in violations:
                self._queue.task_done()
        return None if self._queue.empty() else 0

    def _taken(self) -> list[list[Violation]]:
        by_tenant: dict[str, list[Violation]] = defaultdict(list)
        for _ in range(min(self._queue.qsize(), BATCH_MAX)):
            violation = self._queue.get_nowait()
            by_tenant[violation.call.tenant_id].append(violation)
        return list(by_tenant.values())

    async def _publish(self, violations: list[Violation]) -> None:
        # The caller has its answer: its deadline must not end what is done on its behalf later.
        with acting(replace(violations[0].call, deadline_at=None)):
            async with self._database.unit_of_work("runtime.violations") as work:
                for item in violations:
                    work.violation(
                        item.contract_id,
                        item.severity,
                        item.message,
                        request_id=item.call.request_id,
                        subject_id=item.subject_id,
                    )
