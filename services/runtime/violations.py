"""Reports broken contracts to the contract monitor without delaying the caller.

Inside a unit of work use `UnitOfWork.violation`: the violation commits with the state that it judges. Where there
is none (a refused request), the reporter queues it and a background task publishes it in batches.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass, replace

from services.runtime.context import CallContext, acting
from services.runtime.database import Database
from services.runtime.errors import DomainError
from services.runtime.interruptions import Interruptions
from services.runtime.telemetry import log

QUEUE_MAX = 10_000
BATCH_MAX = 500
RETRY_SECONDS = 1.0


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
        self._task: asyncio.Task[None] | None = None
        self.reported = 0
        self.dropped = 0
        self._interruptions = Interruptions("reporting of violations", database.conditions)

    def report(self, violation: Violation) -> None:
        """Queue a violation; returns at once, always."""
        try:
            self._queue.put_nowait(violation)
            self.reported += 1
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped % 1000 == 1:
                log.warning("violations_dropped", dropped=self.dropped)

    async def start(self) -> None:
        """Start to publish."""
        self._task = asyncio.create_task(self._run(), name="violations")

    async def drain(self) -> None:
        """Wait until all that was queued is published."""
        await self._queue.join()

    async def stop(self) -> None:
        """Publish what is queued, five seconds at most, and end."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), timeout=5)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH_MAX and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._publish(batch)
            for _ in batch:
                self._queue.task_done()

    async def _publish(self, batch: list[Violation]) -> None:
        by_tenant: dict[str, list[Violation]] = defaultdict(list)
        for violation in batch:
            by_tenant[violation.call.tenant_id].append(violation)
        for violations in by_tenant.values():
            try:
                await self._publish_tenant(violations)
            except Exception as error:
                # What cannot be published at all must not end the reporter, nor hold up the rest.
                self.dropped += len(violations)
                log.error("violations_lost", count=len(violations), exc_info=error)

    async def _publish_tenant(self, violations: list[Violation]) -> None:
        # The caller has its answer: its deadline must not end what is done on its behalf later.
        call = replace(violations[0].call, deadline_at=None)
        while True:
            if self._database.conditions.storage_low:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                with acting(call):
                    async with self._database.unit_of_work("runtime.violations") as work:
                        for item in violations:
                            work.violation(
                                item.contract_id,
                                item.severity,
                                item.message,
                                request_id=item.call.request_id,
                                subject_id=item.subject_id,
                            )
                self._interruptions.works()
                return
            except DomainError as error:
                if not error.transient:
                    raise
                # The database is away: wait with the batch in hand, the queue is bounded.
                self._interruptions.failed(error)
                await asyncio.sleep(RETRY_SECONDS)
