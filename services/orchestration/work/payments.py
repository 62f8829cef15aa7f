"""Runs payments in the background, and finds abandoned ones: after a crash, or when an inquiry is due."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from services.orchestration.app.engine import LEASE_MARGIN_MS, Engine
from services.orchestration.domain import measures
from services.orchestration.store import payments as store
from services.runtime.context import current
from services.runtime.contracts import INVARIANT
from services.runtime.database import Database
from services.runtime.errors import DomainError
from services.runtime.ids import new_id
from services.runtime.telemetry import Silent, Telemetry
from services.runtime.violations import Violation, ViolationReporter
from services.runtime.work import Claim, Lag, Worker

POLL_SECONDS = 0.5
BATCH = 16
RUNS_MAX = 64
WAITING_MAX = 512
STOP_SECONDS = 5.0
PRINCIPAL = "mesh:orchestration"


class DuePayments:
    """The payments whose work is due."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        violations: ViolationReporter,
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
        self._database = database
        self._engine = engine
        self._violations = violations

    async def claim(self, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        """Lease payments of any tenant whose work is due."""
        async with self._database.across_tenants("orchestration.payment.claim") as work:
            leases = await store.claim_due(work, owner, LEASE_MARGIN_MS, limit)
        return leases, len(leases) == limit

    async def serve(self, lease: Claim, *, waited_for: bool = False) -> None:
        """Carry a payment on."""
        await self._engine.run(lease, waited_for=waited_for)

    async def failed(self, lease: Claim, error: Exception) -> None:
        """Report an internal error. The lease expires, and the payment continues from its stored state."""
        if not isinstance(error, DomainError):
            message = f"{type(error).__name__} while working on a payment"
            self._violations.report(
                Violation(current(), INVARIANT, "CRITICAL", message, lease.item_id)
            )

    async def lag(self) -> Lag:
        """Tell how many payments wait, and show how many outcomes are unknown."""
        unknown, oldest_s = await store.unknown_outcomes(self._database)
        self._telemetry.gauge(measures.UNKNOWN.name, unknown)
        self._telemetry.gauge(measures.UNKNOWN_OLDEST.name, oldest_s)
        self._telemetry.gauge(measures.MANUAL.name, await store.manual_outcomes(self._database))
        return await store.due_lag(self._database)


class Runs:
    """The payments that this process works on, at most 64 at once; more wait in the table.

    Attributes:
        owner: names this process in leases.
        worker: finds what is due and works on it.
    """

    def __init__(
        self,
        database: Database,
        engine: Engine,
        violations: ViolationReporter,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.owner = new_id("orc")
        telemetry = telemetry or Silent()
        self._queue = DuePayments(database, engine, violations, telemetry)
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.worker = Worker(
            "payments",
            self._queue,
            database,
            claiming="sweep of payments",
            serving="work on payments",
            principal_id=PRINCIPAL,
            telemetry=telemetry,
            places=RUNS_MAX,
            batch=BATCH,
            poll_seconds=POLL_SECONDS,
            stop_seconds=STOP_SECONDS,
            owner=self.owner,
        )

    @property
    def full(self) -> bool:
        """True when so many payments wait for a place that a further one is left to the worker."""
        return self.worker.under_way >= WAITING_MAX

    def begin(self, lease: Claim) -> asyncio.Task[None]:
        """Work on a payment that its caller waits for."""
        key = (lease.tenant_id, lease.item_id)
        task = self.worker.begin(lease, partial(self._queue.serve, waited_for=True))
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

    def _forget(self, key: tuple[str, str], done: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is done:
            del self._tasks[key]
