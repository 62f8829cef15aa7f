"""Deliveries at work: made from events, claimed, settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.events.domain.feed import FeedEvent, Progress
from services.events.domain.webhooks import TEST_SUBJECT, Answer
from services.events.domain.webhooks_policy import BREAKER_FAILURES, Settlement
from services.runtime.database import Database, UnitOfWork
from services.runtime.events.envelope import Envelope
from services.runtime.postgres import sql
from services.runtime.work import Lag, lag

# Endpoints with something waiting that one claim looks at.
STEPS_MAX = 200

_SQL = sql.load("services.events", "queries.sql")
_UNKNOWN = Progress(0, 0, 0, None, "")


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process is about to send.

    Attributes:
        position: where the event stands in the feed.
        tries: which attempt this is, from 1.
        fence: names this claim; a later one has another.
    """

    tenant_id: str
    endpoint_id: str
    event_id: str
    position: int
    subject: str
    tries: int
    fence: int
    attempt_id: str

    @property
    def is_test(self) -> bool:
        """True for what TestWebhookEndpoint asked for."""
        return self.subject == TEST_SUBJECT


Place = tuple[str, str]
"""Tenant and endpoint behind which the next claim begins to look."""


async def add(work: UnitOfWork, envelopes: Sequence[Envelope]) -> int:
    """Make the deliveries of events of the transaction's tenant; returns how many there are."""
    # A replay may bring an event beside its first delivery; one row cannot be written twice in a statement.
    latest = {e.event_id: e for e in sorted(envelopes, key=lambda e: e.generation)}
    asked = {
        "tenant_id": work.tenant_id,
        "now": work.now,
        "test_subject": TEST_SUBJECT,
        "event_id": list(latest),
        "position": [e.position for e in latest.values()],
        "subject": [e.subject for e in latest.values()],
        "key": [e.key for e in latest.values()],
        "generation": [e.generation for e in latest.values()],
    }
    return (await work.execute(_SQL["add_webhook_deliveries"], asked)).rowcount


async def claim(
    work: UnitOfWork, attempt_ids: Sequence[str], lease_ms: int, tenant_max: int, after: Place
) -> tuple[list[Claim], Place | None]:
    """Take deliveries of any tenant that are due, one for each id at most.

    No tenant has more than `tenant_max` under way over all processes. Returns them, and where to go on; None when
    everything behind `after` was looked at.
    """
    asked = {
        "now": work.now,
        "lease_ms": lease_ms,
        "attempt_ids": list(attempt_ids),
        "breaker": BREAKER_FAILURES,
        "tenant_max": tenant_max,
        "steps": STEPS_MAX,
        "after_tenant": after[0],
        "after_endpoint": after[1],
    }
    claims: list[Claim] = []
    place = None
    for row in (await work.execute(_SQL["claim_webhooks"], asked)).mappings():
        if row["event_id"] is None:
            place = (row["tenant_id"], row["endpoint_id"])
        else:
            claims.append(Claim(**row))
    return claims, place


async def due_lag(database: Database) -> Lag:
    """Tell how many deliveries of all tenants are due, counted up to 100 an endpoint."""
    return await lag(database, _SQL["webhooks_lag"])


async def events(work: UnitOfWork, claims: Sequence[Claim]) -> Mapping[str, FeedEvent]:
    """Return the events of deliveries, by id; what the log does not keep any more is left out."""
    positions = [claimed.position for claimed in claims]
    asked = {"tenant_id": work.tenant_id, "positions": positions}
    rows = (await work.execute(_SQL["events_of_webhooks"], asked)).mappings()
    return {
        row["event_id"]: FeedEvent(**{**row, "payload": bytes(row["payload"])}, progress=_UNKNOWN)
        for row in rows
    }


async def finish(work: UnitOfWork, claimed: Claim, answer: Answer) -> None:
    """Write down what came of an attempt."""
    values: dict[str, Any] = {
        "tenant_id": work.tenant_id,
        "attempt_id": claimed.attempt_id,
        "outcome": answer.outcome.value,
        "status_code": answer.status_code,
        "response": answer.response,
        "error": answer.error,
        "latency_ms": answer.latency_ms,
    }
    await work.execute(_SQL["finish_webhook_attempt"], values)


async def settle(work: UnitOfWork, claimed: Claim, settlement: Settlement) -> bool:
    """Write down what becomes of a delivery; False when it is another process's by now, or gone."""
    values = {
        "tenant_id": work.tenant_id,
        "endpoint_id": claimed.endpoint_id,
        "event_id": claimed.event_id,
        "fence": claimed.fence,
        "status": settlement.status.value,
        "next_at": settlement.next_at,
        "counts": settlement.counts,
        "now": work.now,
    }
    return (await work.execute(_SQL["settle_webhook_delivery"], values)).first() is not None


async def prune(work: UnitOfWork, before: datetime, limit: int) -> int:
    """Remove attempts and settled deliveries from before a moment, of every tenant; returns how many."""
    result = await work.execute(_SQL["prune_webhooks"], {"before": before, "limit": limit})
    return int(result.scalar_one())
