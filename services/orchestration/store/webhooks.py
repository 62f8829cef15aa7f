"""Every statement of what processors told by themselves."""

from __future__ import annotations

from datetime import timedelta

from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.store import codec
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

# Processors send an event again for a few days; what comes later is asked about once more, and changes nothing.
KEPT_FOR = timedelta(days=30)
# One processor's name may stand for so many accounts of a tenant where an event names nothing that was sent to one.
ACCOUNTS_MAX = 2_000

_SQL = sql.load("services.orchestration", "queries.sql")


async def processors_named(work: UnitOfWork, processor_id: str) -> list[ProcessorConfig]:
    """Return what a tenant's merchants have called so, one for each credential."""
    asked = {"tenant_id": work.tenant_id, "processor_id": processor_id, "limit": ACCOUNTS_MAX}
    rows = await work.execute(_SQL["processors_named"], asked)
    return [codec.processors_from_json([row.processor])[0] for row in rows]


async def processors_sent_to(
    work: UnitOfWork, processor_id: str, attempt_ids: list[str]
) -> list[ProcessorConfig]:
    """Return the accounts that attempts were sent to, as their merchants have them now; none for unknown ones."""
    asked = {
        "tenant_id": work.tenant_id,
        "processor_id": processor_id,
        "attempt_ids": attempt_ids,
    }
    rows = await work.execute(_SQL["processors_sent_to"], asked)
    return list(codec.processors_from_json([row.processor for row in rows]))


async def is_under_way(work: UnitOfWork, payment_id: str) -> bool:
    """Say whether a worker keeps a payment at this moment."""
    asked = {"tenant_id": work.tenant_id, "payment_id": payment_id}
    return bool((await work.execute(_SQL["is_under_way"], asked)).scalar())


async def is_known(work: UnitOfWork, processor_id: str, event_id: str, attempt_id: str) -> bool:
    """Say whether an event about an attempt was taken before."""
    asked = {
        "tenant_id": work.tenant_id,
        "processor_id": processor_id,
        "event_id": event_id,
        "attempt_id": attempt_id,
    }
    return (await work.execute(_SQL["find_processor_event"], asked)).first() is not None


async def take(work: UnitOfWork, processor_id: str, event_id: str, attempt_id: str) -> bool:
    """Store that an event was taken; False when another call has. What is old is forgotten.

    Args:
        attempt_id: empty for none of the account that told of it.
    """
    asked = {
        "tenant_id": work.tenant_id,
        "processor_id": processor_id,
        "event_id": event_id,
        "attempt_id": attempt_id,
        "now": work.now,
    }
    is_new = (await work.execute(_SQL["insert_processor_event"], asked)).first() is not None
    if is_new:
        over = {"tenant_id": work.tenant_id, "before": work.now - KEPT_FOR}
        work.later(_SQL["forget_processor_events"], over)
    return is_new


async def payment_of(work: UnitOfWork, attempt_id: str) -> str | None:
    """Return the payment of an attempt; None for an unknown one."""
    asked = {"tenant_id": work.tenant_id, "attempt_id": attempt_id}
    row = (await work.execute(_SQL["payment_of_attempt"], asked)).first()
    return None if row is None else str(row.payment_id)
