"""Every statement of payments."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.orchestration.domain import retries
from services.orchestration.domain.config import Capture
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.payment import (
    Attempt,
    AttemptStatus,
    Instruction,
    PaymentStatus,
    Policy,
    Progress,
)
from services.orchestration.domain.plan import Plan, Step
from services.orchestration.domain.record import Filter, Payment
from services.orchestration.store import codec
from services.orchestration.tables import PAYMENT
from services.runtime.context import CallContext, acting
from services.runtime.database import NOBODY, Database, UnitOfWork
from services.runtime.leases import LeaseLost
from services.runtime.postgres import sql
from services.runtime.work import Claim, Lag, claims, lag

_SQL = sql.load("services.orchestration", "queries.sql")
# Captured by itself, but not at once: a process that does not know how must not take such a payment.
_AUTHORIZE_FIRST = "AUTHORIZE_FIRST"


@dataclass(frozen=True, slots=True)
class Leasing:
    """To whom a payment is leased when it is stored, by which call, and for how long."""

    call: CallContext
    owner: str
    lease_ms: int


def insert_payment(work: UnitOfWork, payment: Payment, leasing: Leasing) -> int:
    """Store a payment with its plan, leased to its maker; returns the epoch."""
    first = {
        "request_key": payment.request_key,
        "merchant_id": payment.merchant_id,
        "order_id": payment.order_id,
    }
    work.later(_SQL["insert_payment"], first | _planned(work, payment, leasing))
    _insert_steps(work, payment)
    return 1


async def plan_again(work: UnitOfWork, payment: Payment, leasing: Leasing) -> int | None:
    """Give a refused payment its plan, leased to who asked again; None when another call was first."""
    asked = _planned(work, payment, leasing)
    epoch: int | None = (await work.execute(_SQL["plan_again"], asked)).scalar()
    if epoch is not None:
        _insert_steps(work, payment)
    return epoch


def _planned(work: UnitOfWork, payment: Payment, leasing: Leasing) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "payment_id": payment.payment_id,
        "person_id": payment.person_id,
        "org_id": payment.org_id,
        "currency": payment.currency,
        "total_minor": payment.total_minor,
        "context": json.dumps(codec.context_to_json(payment.context)),
        "plan_id": payment.plan.plan_id if payment.plan else "",
        "plan_hash": payment.plan.plan_hash if payment.plan else "",
        "capture": _capture_of(payment.plan),
        "config_version": payment.config_version,
        "status": payment.status.value,
        "correlation_id": leasing.call.correlation_id,
        "causation_id": leasing.call.causation_id,
        "traceparent": leasing.call.traceparent,
        "under_way": payment.plan is not None,
        "lease_owner": leasing.owner,
        "lease_ms": leasing.lease_ms,
        "now": work.now,
    }


def _capture_of(plan: Plan | None) -> str:
    if plan is None:
        return Capture.AUTOMATIC.value
    return _AUTHORIZE_FIRST if any(step.holds for step in plan.steps) else plan.capture.value


def _insert_steps(work: UnitOfWork, payment: Payment) -> None:
    if payment.plan is None:
        return
    steps = [
        {
            "step_index": index,
            "method": step.method,
            "amount_minor": step.amount_minor,
            "processors": step.processors,
            "token": step.token,
            "holds": step.holds,
        }
        for index, step in enumerate(payment.plan.steps)
    ]
    asked = {
        "tenant_id": work.tenant_id,
        "payment_id": payment.payment_id,
        "steps": json.dumps(steps),
    }
    work.later(_SQL["insert_steps"], asked)


async def lock_order(work: UnitOfWork, order_id: str) -> None:
    """Let one transaction at a time look at what an order's payments take, until it ends."""
    await work.execute(_SQL["lock_order"], {"tenant_id": work.tenant_id, "order_id": order_id})


async def list_ids(work: UnitOfWork, wanted: Filter, *, before: str, limit: int) -> list[str]:
    """Return ids of payments, the newest first, before an id (empty: from the newest)."""
    table = PAYMENT
    query = sa.select(table.c.payment_id).where(table.c.tenant_id == work.tenant_id)
    for column, value in (
        (table.c.merchant_id, wanted.merchant_id),
        (table.c.order_id, wanted.order_id),
        (table.c.status, wanted.status),
    ):
        if value:
            query = query.where(column == value)
    if before:
        query = query.where(table.c.payment_id < before)
    rows = await work.execute(query.order_by(table.c.payment_id.desc()).limit(limit))
    return [row.payment_id for row in rows]


async def load(work: UnitOfWork, payment_ids: Sequence[str]) -> list[Payment]:
    """Return payments with steps, attempts and policy, in the order of the ids; unknown ids are left out.

    In a transaction that writes, each statement sees what is committed by then. Payments are read first, so that an
    end is never seen without the attempts that led to it.
    """
    steps: dict[str, list[Step]] = defaultdict(list)
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    instructions: dict[str, list[Instruction]] = defaultdict(list)
    asked = {"tenant_id": work.tenant_id, "payment_ids": list(payment_ids)}
    payments, of_steps, of_attempts, given = await work.execute_all(
        *(
            (_SQL[f"load_{what}"], asked)
            for what in ("payments", "steps", "attempts", "instructions")
        )
    )
    for row in of_steps:
        steps[row.payment_id].append(
            Step(row.method, row.amount_minor, tuple(row.processors), row.token, row.holds)
        )
    for row in of_attempts:
        attempts[row.payment_id].append(_attempt(row))
    for row in given:
        instructions[row.payment_id].append(_instruction(row))
    found = {
        row.payment_id: _payment(
            row, steps[row.payment_id], attempts[row.payment_id], instructions[row.payment_id]
        )
        for row in payments
    }
    return [found[payment_id] for payment_id in payment_ids if payment_id in found]


def _payment(
    row: Any, steps: list[Step], attempts: list[Attempt], instructions: list[Instruction]
) -> Payment:
    status = PaymentStatus(row.status)
    plan = progress = None
    if steps:
        capture = Capture.AUTOMATIC if row.capture == _AUTHORIZE_FIRST else Capture(row.capture)
        plan = Plan(
            row.plan_id, row.currency, row.total_minor, tuple(steps), capture, row.plan_hash
        )
        policy = Policy(
            row.attempts_per_processor_max,
            row.call_timeout_ms,
            row.partial_allowed,
            row.backoff_ms,
        )
        progress = Progress(
            status,
            plan.steps,
            tuple(attempts),
            policy,
            capture is Capture.MANUAL,
            tuple(instructions),
        )
    return Payment(
        row.payment_id,
        str(row.request_key),
        row.merchant_id,
        row.order_id,
        row.person_id,
        row.org_id,
        row.currency,
        row.total_minor,
        codec.context_from_json(row.context),
        status,
        row.config_version,
        row.created_at,
        row.updated_at,
        plan,
        progress,
    )


def _attempt(row: Any) -> Attempt:
    values = row._asdict()
    del values["payment_id"]
    values["operation"] = Operation(values["operation"])
    values["status"] = AttemptStatus(values["status"])
    return Attempt(**values)


def _instruction(row: Any) -> Instruction:
    values = row._asdict()
    del values["payment_id"]
    values["operation"] = Operation(values["operation"])
    return Instruction(**values)


# ---- transitions


async def reopen(work: UnitOfWork, payment_id: str, leasing: Leasing) -> int | None:
    """Lease a payment at rest to who gives it an instruction; returns the epoch, None when it is not at rest."""
    asked = _leased(work, payment_id, leasing)
    epoch: int | None = (await work.execute(_SQL["reopen"], asked)).scalar()
    return epoch


def _leased(work: UnitOfWork, payment_id: str, leasing: Leasing) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "payment_id": payment_id,
        "lease_owner": leasing.owner,
        "lease_ms": leasing.lease_ms,
        "correlation_id": leasing.call.correlation_id,
        "causation_id": leasing.call.causation_id,
        "traceparent": leasing.call.traceparent,
        "now": work.now,
    }


def insert_instruction(
    work: UnitOfWork, payment_id: str, ordinal: int, instruction: Instruction
) -> None:
    """Store an instruction, with the commit."""
    place = {"tenant_id": work.tenant_id, "payment_id": payment_id, "ordinal": ordinal}
    work.later(_SQL["insert_instruction"], asdict(instruction) | place)


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease payments of any tenant whose work is due and which nobody holds."""
    return await claims(work, _SQL["claim_due"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how many payments are due and held by nobody."""
    return await lag(database, _SQL["due_lag"])


async def lock_by_attempt(work: UnitOfWork, attempt_id: str) -> tuple[str, bool] | None:
    """Lock the payment of an attempt; returns its id, and whether a worker holds it. None: there is no such attempt."""
    asked = {"tenant_id": work.tenant_id, "attempt_id": attempt_id}
    row = (await work.execute(_SQL["lock_by_attempt"], asked)).first()
    return None if row is None else (row.payment_id, row.leased)


async def seize(work: UnitOfWork, payment_id: str, leasing: Leasing) -> int:
    """Lease a payment that is locked and that no worker holds; returns the epoch."""
    epoch: int = (
        await work.execute(_SQL["seize"], _leased(work, payment_id, leasing))
    ).scalar_one()
    return epoch


async def manual_outcomes(database: Database) -> int:
    """Tell how many attempts of all tenants wait for an operator."""
    with acting(NOBODY):
        manual: int = (await database.ask(_SQL["manual_outcomes"], {})).one().manual
    return manual


async def unknown_outcomes(database: Database) -> tuple[int, float]:
    """Tell how many attempts of all tenants have an unknown outcome, and for how many seconds the oldest has."""
    with acting(NOBODY):
        found = (await database.ask(_SQL["unknown_outcomes"], {})).one()
    age = 0.0 if found.oldest_at is None else (database.now() - found.oldest_at).total_seconds()
    return found.unknown, max(age, 0.0)


async def hold(work: UnitOfWork, lease: Claim, status: PaymentStatus, lease_ms: int) -> None:
    """Lock the payment, renew its lease and set its status. Raises LeaseLost."""
    parameters = {
        "lease_ms": lease_ms,
        "status": status.value,
        "now": work.now,
        **_key(work, lease),
    }
    if (await work.execute(_SQL["hold"], parameters)).first() is None:
        raise LeaseLost(lease.item_id)


async def release(
    work: UnitOfWork, lease: Claim, status: PaymentStatus, due_at: datetime | None
) -> None:
    """Hand the payment back, due at a time or never again. Raises LeaseLost."""
    parameters = {"due_at": due_at, "status": status.value, "now": work.now, **_key(work, lease)}
    if (await work.execute(_SQL["release"], parameters)).first() is None:
        raise LeaseLost(lease.item_id)


def insert_attempt(work: UnitOfWork, payment_id: str, ordinal: int, attempt: Attempt) -> None:
    """Store an attempt, with the commit; the guard indexes refuse a second live one for its step."""
    place = {"payment_id": payment_id, "ordinal": ordinal}
    work.later(_SQL["insert_attempt"], _attempt_values(work, attempt) | place)


async def tried(
    work: UnitOfWork, instrument: str, since_at: datetime, limit: int
) -> list[retries.Tried]:
    """Return the last tries with an instrument that did not succeed, the newest first.

    Others that would try it wait until this transaction ends.
    """
    asked = {
        "tenant_id": work.tenant_id,
        "instrument": instrument,
        "since_at": since_at,
        "limit": limit,
    }
    _, found = await work.execute_all((_SQL["lock_instrument"], asked), (_SQL["tried"], asked))
    return [retries.Tried(row.created_at, row.never_again, row.failure_code) for row in found]


def update_attempt(work: UnitOfWork, attempt: Attempt) -> None:
    """Store an attempt's new state, with the commit."""
    work.later(_SQL["update_attempt"], _attempt_values(work, attempt))


def _attempt_values(work: UnitOfWork, attempt: Attempt) -> dict[str, Any]:
    return asdict(attempt) | {"tenant_id": work.tenant_id}


def _key(work: UnitOfWork, lease: Claim) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "payment_id": lease.item_id,
        "epoch": lease.epoch,
    }
