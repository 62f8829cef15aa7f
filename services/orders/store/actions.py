"""Statements of external actions, and of what the ledger is to make of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.orders.domain.actions import ExternalAction
from services.orders.domain.listing import ActionPlace
from services.orders.store import SQL
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.money import Money
from services.runtime.work import Claim, Lag, claims, lag

_FIRST = ActionPlace(datetime(1, 1, 1, tzinfo=UTC), "")


def insert(work: UnitOfWork, action: ExternalAction) -> None:
    """Store an action, and have it posted, with the next statement."""
    row = {
        "tenant_id": work.tenant_id,
        "external_action_id": action.external_action_id,
        "order_id": action.order_id,
        "person_id": action.person_id,
        "organization_id": action.organization_id,
        "action": action.action,
        "payment_method": action.payment_method,
        "payment_path": action.payment_path,
        "provider_ref": action.provider_ref,
        "currency_code": action.amount.currency_code,
        "amount_minor": action.amount.minor_units,
        "operator": action.operator,
        "principal_id": action.principal_id,
        "check_number": action.check_number,
        "request_sha256": action.request_sha256,
        "occurred_at": action.occurred_at,
        "recorded_at": action.recorded_at,
        "refund_id": action.refund_id,
        "refunded_action_id": action.refunded_action_id,
    }
    work.later(SQL["insert_action"], row)
    call = current()
    queued = {
        "tenant_id": work.tenant_id,
        "external_action_id": action.external_action_id,
        "correlation_id": call.correlation_id,
        "causation_id": call.causation_id,
        "traceparent": call.traceparent,
        "now": work.now,
    }
    work.later(SQL["insert_posting"], queued)


async def read(work: UnitOfWork, external_action_id: str) -> ExternalAction | None:
    """Return an action."""
    key = {"tenant_id": work.tenant_id, "external_action_id": external_action_id}
    row = (await work.execute(SQL["read_action"], key)).first()
    return None if row is None else action_of(row)


async def recorded_check(
    work: UnitOfWork, order_id: str, check_number: str
) -> ExternalAction | None:
    """Return the action by which a check was recorded for an order that is locked."""
    key = {"tenant_id": work.tenant_id, "order_id": order_id, "check_number": check_number}
    row = (await work.execute(SQL["recorded_check"], key)).first()
    return None if row is None else action_of(row)


async def of_order(
    work: UnitOfWork, order_id: str, after: ActionPlace | None, limit: int
) -> list[ExternalAction]:
    """List the actions of an order behind `after`, the earliest first."""
    place = after or _FIRST
    asked = {
        "tenant_id": work.tenant_id,
        "order_id": order_id,
        "after_time": place.recorded_at,
        "after_action": place.external_action_id,
        "limit": limit,
    }
    return [action_of(row) for row in await work.execute(SQL["actions_of_order"], asked)]


async def settle(work: UnitOfWork, external_action_id: str, posting_id: UUID) -> None:
    """Store what the ledger made of an action, unless somebody else has done so."""
    row = {
        "tenant_id": work.tenant_id,
        "external_action_id": external_action_id,
        "posting_id": posting_id,
        "now": work.now,
    }
    await work.execute(SQL["settle_posting"], row)


async def claim_due(work: UnitOfWork, owner: str, lease_ms: int, limit: int) -> list[Claim]:
    """Lease what of any tenant is to be posted and held by nobody."""
    return await claims(work, SQL["claim_posting"], owner=owner, lease_ms=lease_ms, batch=limit)


async def due_lag(database: Database) -> Lag:
    """Tell how much waits to be posted."""
    return await lag(database, SQL["posting_lag"])


async def put_off(work: UnitOfWork, claim: Claim, due_at: datetime) -> None:
    """Give a posting back, due later; one that was made meanwhile, or is another's, stays as it is."""
    key = {"tenant_id": work.tenant_id, "item_id": claim.item_id, "epoch": claim.epoch}
    await work.execute(SQL["put_off_posting"], {**key, "due_at": due_at})


def action_of(row: Any) -> ExternalAction:
    """Read an action."""
    return ExternalAction(
        external_action_id=row.external_action_id,
        order_id=row.order_id,
        person_id=row.person_id,
        organization_id=row.organization_id,
        action=row.action,
        payment_method=row.payment_method,
        payment_path=row.payment_path,
        provider_ref=row.provider_ref,
        amount=Money(row.currency_code, row.amount_minor),
        operator=row.operator,
        principal_id=row.principal_id,
        check_number=row.check_number,
        request_sha256=bytes(row.request_sha256),
        occurred_at=row.occurred_at.astimezone(UTC),
        recorded_at=row.recorded_at.astimezone(UTC),
        posting_id=row.posting_id,
        refund_id=row.refund_id,
        refunded_action_id=row.refunded_action_id,
    )
