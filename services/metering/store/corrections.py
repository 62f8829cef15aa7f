"""Versions of events that were corrected."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from services.metering.domain.corrections import VERSIONS_SHOWN_MAX, Change, EventVersion, Newest
from services.metering.domain.events import EventContent
from services.metering.domain.receipts import RECEIPT_PREFIX
from services.metering.domain.times import instant
from services.metering.store.rows import bare, content_of, rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/corrections.sql")


async def lock_corrections(work: UnitOfWork) -> None:
    """Let nobody else correct events of the tenant until the commit."""
    await rows_of(work, _SQL, "lock_corrections")


async def newest(work: UnitOfWork, event_keys: Sequence[str]) -> dict[str, Newest]:
    """Return the newest versions of those events that were stored, by key."""
    rows = await rows_of(work, _SQL, "newest", event_keys=list(event_keys))
    found = [
        Newest(
            key=row.event_key.replace("-", ""),
            version=row.version,
            fingerprint=row.fingerprint.replace("-", ""),
            cancelled=row.cancelled,
            content=content_of(row),
        )
        for row in rows
    ]
    return {item.key: item for item in found}


async def insert_versions(work: UnitOfWork, receipt_id: str, changes: Sequence[Change]) -> None:
    """Store what corrections make of their events."""
    keys = [change.before.key for change in changes]
    await rows_of(work, _SQL, "copy_originals", event_keys=keys)
    columns = zip(*map(_values, changes), strict=True)
    names = (
        "event_keys",
        "versions",
        "cancelled",
        "org_ids",
        "project_ids",
        "skus",
        "quantities",
        "event_times",
        "sources",
        "metadata",
        "fingerprints",
        "reasons",
    )
    parameters: dict[str, Any] = dict(zip(names, map(list, columns), strict=True))
    await rows_of(work, _SQL, "insert_versions", receipt_id=bare(receipt_id), **parameters)


def _values(change: Change) -> list[Any]:
    correction, before = change.correction, change.before
    if correction.row is None:
        return [
            before.key,
            change.version,
            True,
            *_content_values(before.content),
            before.fingerprint,
            correction.reason,
        ]
    _, content, metadata, key, fingerprint = correction.row
    org_id, project_id, sku, quantity, at_us, source = content[:-1].split("\t")
    moment = instant(int(at_us))
    said = [org_id, project_id, sku, quantity, moment, int(source), metadata or None]
    return [key, change.version, False, *said, fingerprint, correction.reason]


def _content_values(content: EventContent) -> list[Any]:
    return [
        content.org_id,
        content.project_id,
        content.sku,
        content.quantity,
        content.event_time,
        content.source,
        json.dumps(dict(content.metadata)) if content.metadata else None,
    ]


async def versions(work: UnitOfWork, event_key: str) -> list[EventVersion]:
    """Return the last versions of an event, from the first of them; none when it was not stored."""
    rows = await rows_of(work, _SQL, "versions", event_key=event_key, limit=VERSIONS_SHOWN_MAX)
    return [
        EventVersion(
            version=row.version,
            content=content_of(row),
            cancelled=row.cancelled,
            reason=row.reason,
            receipt_id=f"{RECEIPT_PREFIX}{row.receipt_id}",
            ordinal=row.ordinal,
            recorded_at=row.recorded_at.astimezone(UTC),
            recorded_by=row.recorded_by,
        )
        for row in reversed(rows)
    ]
