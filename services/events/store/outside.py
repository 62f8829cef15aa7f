"""Events of outside producers, on their way into the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.events.domain.outside import Sound
from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.outbox.publish import identity_hash
from services.runtime.outbox.subjects import with_version
from services.runtime.postgres import sql

_SQL = sql.load("services.events", "queries.sql")


async def claim(
    work: UnitOfWork, events: Sequence[Sound]
) -> tuple[list[Sound], Mapping[str, bytes]]:
    """Claim the ids of events, each of which stands once.

    Returns the events whose ids were free, and the fingerprints that stand under the ids that were not.
    """
    hashes = {identity_hash(event.incoming.event_id.encode()): event for event in events}
    asked: dict[str, Any] = {
        "tenant_id": work.tenant_id,
        "id_hash": list(hashes),
        "content_hash": [event.fingerprint for event in events],
    }
    claimed = (await work.execute(_SQL["claim_ids"], asked)).tuples()
    free = {row[0] for row in claimed}
    if len(free) == len(events):
        return list(events), {}
    asked["id_hash"] = [digest for digest in hashes if digest not in free]
    found = (await work.execute(_SQL["known_ids"], asked)).tuples()
    known = {hashes[row[0]].incoming.event_id: bytes(row[1]) for row in found}
    return [event for digest, event in hashes.items() if digest in free], known


async def fingerprint_of(work: UnitOfWork, event_id: str) -> bytes | None:
    """Return the fingerprint stored for an id, or None."""
    asked = {"tenant_id": work.tenant_id, "id_hash": [identity_hash(event_id.encode())]}
    row = (await work.execute(_SQL["known_ids"], asked)).first()
    return bytes(row[1]) if row else None


async def append(work: UnitOfWork, events: Sequence[Sound]) -> None:
    """Write events into the log, in their order: the last statement of the transaction."""
    rows = [_row(work, event) for event in events]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    await work.execute(_SQL["append"], {"tenant_id": work.tenant_id, **columns})


def _row(work: UnitOfWork, event: Sound) -> dict[str, object]:
    sent, call = event.incoming, current()
    return {
        "event_id": sent.event_id,
        "subject": with_version(sent.subject, sent.version),
        "schema_version": sent.version,
        "key": event.key,
        "payload": sent.payload,
        "correlation_id": sent.correlation_id or call.correlation_id,
        "causation_id": sent.causation_id or call.causation_id,
        "traceparent": sent.traceparent or call.traceparent,
        "created_at": sent.created_at or work.now,
    }
