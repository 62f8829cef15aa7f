"""Runs payments in the background, and finds those that nobody works on: after a death, or when a question is due."""

from __future__ import annotations

import asyncio
import contextlib

from services.orchestration import store
from services.orchestration.engine import LEASE_MARGIN_MS, Engine
from services.orchestration.store import Lease, LeaseLost
from services.runtime.context import CallContext, acting
from services.runtime.contracts import INVARIANT
from services.runtime.database import Database
from services.runtime.errors import DomainError
from services.runtime.ids import new_id
from services.runtime.interruptions import Interruptions
from services.runtime.telemetry import log
from services.runtime.violations import Violation, ViolationReporter

SWEEP_SECONDS = 0.5
SWEEP_BATCH = 16
RUNS_MAX = 64
WAITING_MAX = 512
STOP_SECONDS = 5.0
PRINCIPAL = "mesh:orchestration"


class Runs:
    """The payments that this process works on, at most 64 at once; more wait in the table.

    Args:
        owner: names this process in leases.
    """

    def __init__(
        self, database: Database, engine: Engine, violations: ViolationReporter, owner: str
    ) -> None:
        self._database = database
        self._violations = violations
        self._engine = engine
        self.owner = owner
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(RUNS_MAX)
        self._sweeping = Interruptions("sweep of payments", database.conditions)
        self._running = Interruptions("work on payments", database.conditions)

    @property
    def full(self) -> bool:
        """True when so many payments wait for a place that a further one is left to the sweeper."""
        return len(self._tasks) >= WAITING_MAX

    def begin(self, lease: Lease, *, waited_for: bool = True) -> asyncio.Task[None]:
        """Work on a payment in a task of its own, which its caller's cancellation does not touch."""
        key = (lease.tenant_id, lease.payment_id)
        task = asyncio.create_task(self._run(lease, waited_for), name=f"payment:{lease.payment_id}")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))
        return task

    async def wait(self, tenant_id: str, payment_id: str, seconds: float) -> bool:
        """Wait until this process stops to work on a payment; False when it does not, or not in time."""
        task = self._tasks.get((tenant_id, payment_id))
        if task is None or seconds <= 0:
            return False
        done, _ = await asyncio.wait({task}, timeout=seconds)
        return bool(done)

    async def start(self) -> None:
        """Begin to sweep; the first sweep continues what a death left behind."""
        self._sweeper = asyncio.create_task(self._sweep_forever(), name="orchestration.sweeper")

    async def stop(self) -> None:
        """Stop to sweep, give running payments five seconds, and leave the rest to the next start."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        running = set(self._tasks.values())
        if running:
            _, late = await asyncio.wait(running, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def sweep(self) -> int:
        """Continue payments that are due; returns how many were taken, once each stopped or ended."""
        tasks = await self._take_due()
        if tasks:
            await asyncio.wait(tasks)
        return len(tasks)

    async def _take_due(self) -> list[asyncio.Task[None]]:
        free = min(SWEEP_BATCH, RUNS_MAX - len(self._tasks))
        if free <= 0:
            return []
        with acting(_acting_for("mesh", "")):
            async with self._database.unit_of_work("orchestration.payment.claim") as work:
                leases = await store.claim_due(
                    work, owner=self.owner, lease_ms=LEASE_MARGIN_MS, batch=free
                )
        return [self.begin(lease, waited_for=False) for lease in leases]

    async def _sweep_forever(self) -> None:
        while True:
            try:
                # Not waited for: a slow processor must not hold up the payments of the others.
                busy = len(await self._take_due()) == SWEEP_BATCH
                self._sweeping.works()
            except (
                Exception
            ) as error:  # whatever it is, payments that are due must not wait for a restart
                self._sweeping.failed(error)
                busy = False
            if not busy:
                await asyncio.sleep(SWEEP_SECONDS)

    async def _run(self, lease: Lease, waited_for: bool) -> None:
        with acting(_acting_for(lease.tenant_id, lease.correlation_id)):
            try:
                async with self._places:
                    await self._engine.run(lease, waited_for=waited_for)
                self._running.works()
            except LeaseLost:
                log.info("lease_lost", payment_id=lease.payment_id)
            except DomainError as error:
                # The lease runs out and the sweeper continues from what is stored.
                self._running.failed(error, payment_id=lease.payment_id)

    def _forget(self, key: tuple[str, str], done: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is done:
            del self._tasks[key]
        if not done.cancelled() and (error := done.exception()) is not None:
            # A fault of ours. The payment is tried again once its lease has run out, and somebody is told.
            log.error("payment_run_failed", payment_id=key[1], error=repr(error))
            call = _acting_for(key[0], "")
            message = f"{type(error).__name__} while working on a payment"
            self._violations.report(Violation(call, INVARIANT, "CRITICAL", message, key[1]))


def _acting_for(tenant_id: str, correlation_id: str) -> CallContext:
    request_id = new_id("run")
    return CallContext(
        tenant_id=tenant_id,
        principal_id=PRINCIPAL,
        scopes=frozenset(),
        request_id=request_id,
        correlation_id=correlation_id or request_id,
    )
