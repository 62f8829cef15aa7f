"""Webhook endpoints, their secrets, and the log of what was sent to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from services.events import tables
from services.events.domain.webhooks import (
    TEST_SUBJECT,
    Attempt,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    Endpoint,
    Format,
    Health,
    Outcome,
    Secret,
    Signing,
)
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.events", "queries.sql")


async def lock(work: UnitOfWork) -> None:
    """Hold off the tenant's other new endpoints until the end of the transaction."""
    await work.execute(_SQL["lock_webhooks"], {"tenant_id": work.tenant_id})


async def count(work: UnitOfWork) -> int:
    """Return how many endpoints the tenant has."""
    result = await work.execute(_SQL["count_webhook_endpoints"], {"tenant_id": work.tenant_id})
    return int(result.scalar_one())


async def insert(work: UnitOfWork, endpoint: Endpoint) -> None:
    """Store a new endpoint."""
    await work.execute(_SQL["insert_webhook_endpoint"], _columns(work, endpoint))


async def update(work: UnitOfWork, endpoint: Endpoint) -> None:
    """Store what an endpoint is now."""
    await work.execute(_SQL["update_webhook_endpoint"], _columns(work, endpoint))


async def delete(work: UnitOfWork, endpoint_id: str) -> None:
    """Remove an endpoint with its secrets."""
    await work.execute(_SQL["delete_webhook_endpoint"], _key(work, endpoint_id))


async def find(work: UnitOfWork, endpoint_id: str, *, hold: bool = False) -> Endpoint | None:
    """Return an endpoint, or None; `hold` keeps others from changing it until the transaction ends."""
    query = _SQL["hold_webhook_endpoint" if hold else "webhook_endpoint"]
    row = (await work.execute(query, _key(work, endpoint_id))).mapping()
    return None if row is None else _endpoint(row)


async def page(work: UnitOfWork, after: str, limit: int) -> list[Endpoint]:
    """Return the tenant's first endpoints behind one."""
    asked = {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    rows = (await work.execute(_SQL["webhook_endpoints_after"], asked)).mappings()
    return [_endpoint(row) for row in rows]


async def insert_secret(work: UnitOfWork, endpoint_id: str, secret: Secret) -> None:
    """Store a new secret."""
    values = {
        "secret_id": secret.secret_id,
        "signing": secret.signing.value,
        "sealed": secret.sealed,
        "public_key": secret.public_key,
        "created_at": secret.created_at,
    }
    await work.execute(_SQL["insert_webhook_secret"], {**_key(work, endpoint_id), **values})


async def end_secrets(work: UnitOfWork, endpoint_id: str, ends: Mapping[str, datetime]) -> None:
    """Let earlier secrets end, each at its time; those whose time has passed are removed."""
    key = _key(work, endpoint_id)
    for secret_id, expires_at in ends.items():
        values = {"secret_id": secret_id, "expires_at": expires_at}
        await work.execute(_SQL["end_webhook_secret"], {**key, **values})
    await work.execute(_SQL["drop_webhook_secrets"], {**key, "now": work.now})


async def secrets(
    work: UnitOfWork, endpoint_ids: Collection[str]
) -> Mapping[str, Sequence[Secret]]:
    """Return the secrets that sign now, by endpoint, the newest first."""
    asked = {
        "tenant_id": work.tenant_id,
        "endpoint_ids": sorted(endpoint_ids),
        "now": work.now,
    }
    found: dict[str, list[Secret]] = {endpoint_id: [] for endpoint_id in endpoint_ids}
    for row in (await work.execute(_SQL["webhook_secrets"], asked)).mappings():
        values = dict(row)
        endpoint_id = values.pop("endpoint_id")
        values |= {"signing": Signing(row["signing"]), "sealed": bytes(row["sealed"])}
        found[endpoint_id].append(Secret(**values))
    return found


async def deliveries(
    work: UnitOfWork,
    endpoint_id: str,
    statuses: Sequence[DeliveryStatus],
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[Delivery]:
    """Return the newest deliveries of an endpoint, older than one."""
    moment, event_id = before or (None, "")
    asked = {
        **_key(work, endpoint_id),
        "statuses": [status.value for status in statuses],
        "before": moment,
        "before_event": event_id,
        "limit": limit,
    }
    rows = (await work.execute(_SQL["webhook_deliveries_of"], asked)).mappings()
    return [Delivery(**{**row, "status": DeliveryStatus(row["status"])}) for row in rows]


async def attempts(
    work: UnitOfWork,
    *,
    endpoint_id: str = "",
    event_id: str = "",
    outcome: Outcome | None = None,
    before: str = "",
    limit: int,
) -> list[Attempt]:
    """Return the newest attempts of some kind, older than one."""
    table = tables.webhook_attempt
    # Composed, so that each choice of filters is planned by itself.
    query = select(*(c for c in table.c if c is not table.c.tenant_id)).where(
        table.c.tenant_id == work.tenant_id
    )
    for column, wanted in ((table.c.endpoint_id, endpoint_id), (table.c.event_id, event_id)):
        query = query.where(column == wanted) if wanted else query
    if outcome is not None:
        query = query.where(table.c.outcome == outcome.value)
    if before:
        query = query.where(table.c.attempt_id < before)
    rows = (await work.execute(query.order_by(table.c.attempt_id.desc()).limit(limit))).mappings()
    return [Attempt(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows]


async def redeliver_event(work: UnitOfWork, endpoint_id: str, event_id: str) -> bool:
    """Restart a delivery; False when there is none."""
    asked = {**_key(work, endpoint_id), "event_id": event_id, "now": work.now}
    return (await work.execute(_SQL["redeliver_webhook_event"], asked)).first() is not None


async def redeliver_period(
    work: UnitOfWork,
    endpoint_id: str,
    statuses: Sequence[DeliveryStatus],
    start_at: datetime,
    end_at: datetime,
    limit: int,
) -> tuple[int, bool]:
    """Restart deliveries created in a period; returns how many, and whether there are more."""
    asked = {
        **_key(work, endpoint_id),
        "statuses": [status.value for status in statuses],
        "start_at": start_at,
        "end_at": end_at,
        "limit": limit,
        "now": work.now,
        "test_subject": TEST_SUBJECT,
    }
    row = (await work.execute(_SQL["redeliver_webhook_period"], asked)).one()
    return row.redelivered, row.more


def _key(work: UnitOfWork, endpoint_id: str) -> dict[str, Any]:
    return {"tenant_id": work.tenant_id, "endpoint_id": endpoint_id}


def _columns(work: UnitOfWork, endpoint: Endpoint) -> dict[str, Any]:
    return {
        **_key(work, endpoint.endpoint_id),
        "url": endpoint.url,
        "subjects": list(endpoint.subjects),
        "description": endpoint.description,
        "format": endpoint.format.value,
        "concurrency": endpoint.concurrency,
        "disabled_reason": endpoint.disabled_reason.value,
        "disabled_at": endpoint.disabled_at,
        "failures": endpoint.health.failures,
        "failing_since": endpoint.health.failing_since,
        "paused_until": endpoint.health.paused_until,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
    }


def _endpoint(row: Any) -> Endpoint:
    values = dict(row)
    health = Health(*(values.pop(name) for name in ("failures", "failing_since", "paused_until")))
    values |= {
        "subjects": tuple(row["subjects"]),
        "format": Format(row["format"]),
        "disabled_reason": DisabledReason(row["disabled_reason"]),
    }
    return Endpoint(**values, health=health)
