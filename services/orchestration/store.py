"""Every statement of payments and merchant configurations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.orchestration import codec
from services.orchestration.domain.config import MerchantConfig
from services.orchestration.domain.payment import (
    Attempt,
    AttemptStatus,
    Operation,
    PaymentStatus,
    Policy,
    Progress,
)
from services.orchestration.domain.plan import Plan, Step
from services.orchestration.domain.record import Payment
from services.orchestration.tables import ATTEMPT, MERCHANT_CONFIG, PAYMENT, STEP
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.orchestration", "queries.sql")


class LeaseLost(Exception):
    """Another worker took the payment over; whoever held it must stop and write nothing."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a payment.

    Attributes:
        fence: counts the holders; a stale one writes nothing.
        correlation_id: chain of calls that the payment belongs to.
    """

    tenant_id: str
    payment_id: str
    fence: int
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Filter:
    """What ListPayments selects; empty texts let everything pass."""

    merchant_id: str = ""
    order_id: str = ""
    status: str = ""


# ---- merchant configurations


async def lock_merchant(work: UnitOfWork, merchant_id: str) -> None:
    """Make other writers of this merchant's configuration wait until this transaction ends."""
    await work.execute(
        _SQL["lock_merchant"], {"tenant_id": work.tenant_id, "merchant_id": merchant_id}
    )


async def insert_config(work: UnitOfWork, config: MerchantConfig, created_by: str) -> None:
    """Store a version."""
    await work.execute(
        insert(MERCHANT_CONFIG).values(
            tenant_id=work.tenant_id,
            merchant_id=config.merchant_id,
            version=config.version,
            methods=codec.methods_to_json(config.methods),
            attempts_per_processor_max=config.attempts_per_processor_max,
            call_timeout_ms=config.call_timeout_ms,
            partial_allowed=config.partial_allowed,
            created_at=work.now,
            created_by=created_by,
        )
    )


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """A version, with when and by whom it was stored."""

    config: MerchantConfig
    created_at: datetime
    created_by: str


async def find_configs(
    work: UnitOfWork, merchant_id: str, *, version: int = 0, before: int = 0, limit: int = 1
) -> list[StoredConfig]:
    """Return versions of a merchant, the newest first; `version` picks one, `before` pages."""
    table = MERCHANT_CONFIG
    query = sa.select(table).where(
        table.c.tenant_id == work.tenant_id, table.c.merchant_id == merchant_id
    )
    if version:
        query = query.where(table.c.version == version)
    if before:
        query = query.where(table.c.version < before)
    rows = await work.execute(query.order_by(table.c.version.desc()).limit(limit))
    return [_config(row) for row in rows]


def _config(row: Any) -> StoredConfig:
    config = MerchantConfig(
        row.merchant_id,
        row.version,
        codec.methods_from_json(row.methods),
        row.attempts_per_processor_max,
        row.call_timeout_ms,
        row.partial_allowed,
    )
    return StoredConfig(config, row.created_at, row.created_by)


# ---- payments


async def insert_payment(
    work: UnitOfWork,
    payment: Payment,
    request_hash: bytes,
    *,
    correlation_id: str,
    lease_owner: str,
    lease_ms: int,
) -> int | None:
    """Store a payment with its plan, leased to its maker; returns the fence, None when its key was used before.

    A concurrent call with the same key waits here until the first one ends.
    """
    statement = insert(PAYMENT).values(
        tenant_id=work.tenant_id,
        payment_id=payment.payment_id,
        request_key=payment.request_key,
        request_hash=request_hash,
        merchant_id=payment.merchant_id,
        order_id=payment.order_id,
        fence=1,
        created_at=work.now,
        **_planned(work, payment, correlation_id, lease_owner, lease_ms),
    )
    conflict = statement.on_conflict_do_nothing(index_elements=["tenant_id", "request_key"])
    inserted = (await work.execute(conflict.returning(PAYMENT.c.fence))).scalar()
    return _with_steps(work, payment, inserted)


async def plan_again(
    work: UnitOfWork,
    payment: Payment,
    *,
    correlation_id: str,
    lease_owner: str,
    lease_ms: int,
) -> int | None:
    """Give a refused payment its plan, leased to who asked again; None when another call was first."""
    statement = (
        sa.update(PAYMENT)
        .where(
            PAYMENT.c.tenant_id == work.tenant_id,
            PAYMENT.c.payment_id == payment.payment_id,
            PAYMENT.c.status == PaymentStatus.REFUSED.value,
        )
        .values(
            fence=PAYMENT.c.fence + 1,
            **_planned(work, payment, correlation_id, lease_owner, lease_ms),
        )
    )
    updated = (await work.execute(statement.returning(PAYMENT.c.fence))).scalar()
    return _with_steps(work, payment, updated)


def _planned(
    work: UnitOfWork, payment: Payment, correlation_id: str, lease_owner: str, lease_ms: int
) -> dict[str, Any]:
    under_way = payment.plan is not None
    lease_until = sa.func.clock_timestamp() + sa.func.make_interval(
        0, 0, 0, 0, 0, 0, lease_ms / 1000
    )
    return {
        "person_id": payment.person_id,
        "currency": payment.currency,
        "total_minor": payment.total_minor,
        "context": codec.context_to_json(payment.context),
        "plan_id": payment.plan.plan_id if payment.plan else "",
        "config_version": payment.config_version,
        "status": payment.status.value,
        "correlation_id": correlation_id,
        "due_at": work.now if under_way else None,
        "lease_owner": lease_owner if under_way else None,
        "lease_until": lease_until if under_way else None,
        "updated_at": work.now,
    }


def _with_steps(work: UnitOfWork, payment: Payment, fence: int | None) -> int | None:
    if fence is not None and payment.plan is not None:
        _insert_steps(work, payment.payment_id, payment.plan)
    return fence


def _insert_steps(work: UnitOfWork, payment_id: str, plan: Plan) -> None:
    rows = [
        {
            "tenant_id": work.tenant_id,
            "payment_id": payment_id,
            "step_index": index,
            "method": step.method,
            "amount_minor": step.amount_minor,
            "processors": list(step.processors),
            "token": step.token,
        }
        for index, step in enumerate(plan.steps)
    ]
    work.later(insert(STEP), rows)


async def find_by_key(work: UnitOfWork, request_key: str) -> tuple[str, bytes]:
    """Return id and request hash of the payment that a key stands for."""
    query = sa.select(PAYMENT.c.payment_id, PAYMENT.c.request_hash).where(
        PAYMENT.c.tenant_id == work.tenant_id, PAYMENT.c.request_key == request_key
    )
    row = (await work.execute(query)).one()
    return row.payment_id, bytes(row.request_hash)


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
    """Return payments with steps, attempts and policy, in the order of the ids; unknown ids are left out."""
    steps: dict[str, list[Step]] = defaultdict(list)
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    of_steps, of_attempts, payments = await work.execute_all(
        (_of(work, STEP, payment_ids, STEP.c.step_index), None),
        (_of(work, ATTEMPT, payment_ids, ATTEMPT.c.ordinal), None),
        (_with_policy(work, payment_ids), None),
    )
    for row in of_steps:
        steps[row.payment_id].append(
            Step(row.method, row.amount_minor, tuple(row.processors), row.token)
        )
    for row in of_attempts:
        attempts[row.payment_id].append(_attempt(row))
    found = {
        row.payment_id: _payment(row, steps[row.payment_id], attempts[row.payment_id])
        for row in payments
    }
    return [found[payment_id] for payment_id in payment_ids if payment_id in found]


def _of(
    work: UnitOfWork, table: sa.Table, payment_ids: Sequence[str], order: sa.Column[Any]
) -> sa.Select[Any]:
    return (
        sa.select(table)
        .where(table.c.tenant_id == work.tenant_id, _one_of(table.c.payment_id, payment_ids))
        .order_by(order)
    )


def _one_of(column: sa.Column[Any], texts: Sequence[str]) -> sa.ColumnElement[bool]:
    return column == sa.any_(sa.literal(list(texts), ARRAY(sa.Text)))


def _with_policy(work: UnitOfWork, payment_ids: Sequence[str]) -> sa.Select[Any]:
    config = MERCHANT_CONFIG
    same_version = sa.and_(
        config.c.tenant_id == PAYMENT.c.tenant_id,
        config.c.merchant_id == PAYMENT.c.merchant_id,
        config.c.version == PAYMENT.c.config_version,
    )
    policy = (
        config.c.attempts_per_processor_max,
        config.c.call_timeout_ms,
        config.c.partial_allowed,
    )
    return (
        sa.select(PAYMENT, *policy)
        .select_from(PAYMENT.outerjoin(config, same_version))
        .where(PAYMENT.c.tenant_id == work.tenant_id, _one_of(PAYMENT.c.payment_id, payment_ids))
    )


def _payment(row: Any, steps: list[Step], attempts: list[Attempt]) -> Payment:
    status = PaymentStatus(row.status)
    plan = progress = None
    if steps:
        plan = Plan(row.plan_id, row.currency, row.total_minor, tuple(steps))
        policy = Policy(row.attempts_per_processor_max, row.call_timeout_ms, row.partial_allowed)
        progress = Progress(status, plan.steps, tuple(attempts), policy)
    return Payment(
        row.payment_id,
        str(row.request_key),
        row.merchant_id,
        row.order_id,
        row.person_id,
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
    for name in ("tenant_id", "payment_id", "ordinal"):
        del values[name]
    values["operation"] = Operation(values["operation"])
    values["status"] = AttemptStatus(values["status"])
    return Attempt(**values)


# ---- transitions


async def claim_due(work: UnitOfWork, *, owner: str, lease_ms: int, batch: int) -> list[Lease]:
    """Take the lease of payments of any tenant whose work is due and whose lease has run out."""
    rows = await work.execute(
        _SQL["claim_due"],
        {"due_at": work.now, "owner": owner, "lease_ms": lease_ms, "batch": batch},
    )
    return [Lease(r.tenant_id, r.payment_id, r.fence, r.correlation_id) for r in rows]


async def hold(work: UnitOfWork, lease: Lease, status: PaymentStatus, lease_ms: int) -> None:
    """Lock the payment, renew its lease and set its status. Raises LeaseLost."""
    parameters = {
        "lease_ms": lease_ms,
        "status": status.value,
        "now": work.now,
        **_key(work, lease),
    }
    if (await work.execute(_SQL["hold"], parameters)).first() is None:
        raise LeaseLost(lease.payment_id)


async def release(
    work: UnitOfWork, lease: Lease, status: PaymentStatus, due_at: datetime | None
) -> None:
    """Hand the payment back, due at a time or never again. Raises LeaseLost."""
    parameters = {"due_at": due_at, "status": status.value, "now": work.now, **_key(work, lease)}
    if (await work.execute(_SQL["release"], parameters)).first() is None:
        raise LeaseLost(lease.payment_id)


def insert_attempt(work: UnitOfWork, payment_id: str, ordinal: int, attempt: Attempt) -> None:
    """Store an attempt, with the commit; the guard indexes refuse a second live one for its step."""
    values = asdict(attempt) | {
        "tenant_id": work.tenant_id,
        "payment_id": payment_id,
        "ordinal": ordinal,
    }
    work.later(insert(ATTEMPT).values(values))


def update_attempt(work: UnitOfWork, attempt: Attempt) -> None:
    """Store an attempt's new state, with the commit."""
    values = asdict(attempt)
    del values["attempt_id"]
    work.later(
        sa.update(ATTEMPT)
        .where(ATTEMPT.c.tenant_id == work.tenant_id, ATTEMPT.c.attempt_id == attempt.attempt_id)
        .values(values)
    )


def _key(work: UnitOfWork, lease: Lease) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "payment_id": lease.payment_id,
        "fence": lease.fence,
    }
