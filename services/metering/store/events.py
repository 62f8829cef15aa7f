"""Usage events on their way in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from services.metering.domain.events import Batch, Row, StoredEvent
from services.metering.domain.receipts import Stored, Total
from services.metering.domain.times import instant
from services.metering.store import closings
from services.metering.store.rows import bare, light_parts, rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql
from services.runtime.turns import in_slices

# Events that are stored without the staging table.
FEW_MAX = 50
_COLUMNS = (
    "request_ids",
    "org_ids",
    "project_ids",
    "skus",
    "quantities",
    "event_times_us",
    "sources",
    "metadata",
    "event_keys",
    "fingerprints",
)
_NULL = "\\N"
# The backslash first: the others bring theirs.
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
_SQL = sql.load("services.metering", "queries/events.sql")


async def store_events(work: UnitOfWork, receipt_id: str, batch: Batch) -> Stored:
    """Store the events of a batch whose ids are new. From here to the commit no period of the tenant is closed."""
    if len(batch.rows) <= FEW_MAX:
        return await _store_few(work, receipt_id, batch.rows)
    await _stage(work, batch.rows)
    rows = await rows_of(work, _SQL, "store_events", receipt_id=bare(receipt_id))
    totals = [Total(**row._asdict()) for row in rows]
    if not totals:
        return Stored()
    await closings.hold_closings(work)
    return Stored(totals, await closings.touches_closed(work, totals))


async def _store_few(work: UnitOfWork, receipt_id: str, rows: Sequence[Row]) -> Stored:
    """Store a handful in one go, with what follows."""
    parameters = _columns(work, rows)
    parameters["receipt_id"] = bare(receipt_id)
    moments = [instant(int(at_us)) for at_us in parameters["event_times_us"]]
    stored, _, touched = await work.execute_all(
        (_SQL["store_few"], parameters),
        closings.hold(work),
        closings.touching(work, parameters["org_ids"], parameters["skus"], moments, moments),
    )
    return Stored([Total(**row._asdict()) for row in stored], bool(touched.scalar_one()))


def _columns(work: UnitOfWork, rows: Sequence[Row]) -> dict[str, Any]:
    columns = map(list, zip(*map(_values, rows), strict=True))
    return {"tenant_id": work.tenant_id, **dict(zip(_COLUMNS, columns, strict=True))}


async def store_shared(
    work: UnitOfWork, rows: Sequence[tuple[Row, str]]
) -> tuple[dict[str, tuple[str, str, Decimal, datetime]], bool]:
    """Store the events of several batches, each with the id of its receipt, whose ids are new.

    From here to the commit no period of the tenant is closed.

    Returns:
        Organisation, SKU, quantity and time of what was stored, by key; and whether some of it may lie in closed
        periods.
    """
    parameters = _columns(work, [row for row, _ in rows])
    parameters["receipt_ids"] = [bare(receipt_id) for _, receipt_id in rows]
    moments = [instant(int(at_us)) for at_us in parameters["event_times_us"]]
    stored, _, touched = await work.execute_all(
        (_SQL["store_shared"], parameters),
        closings.hold(work),
        closings.touching(work, parameters["org_ids"], parameters["skus"], moments, moments),
    )
    new = {
        row.event_key.replace("-", ""): (
            row.org_id,
            row.sku,
            row.quantity,
            row.event_time.astimezone(UTC),
        )
        for row in stored
    }
    return new, bool(touched.scalar_one())


async def stored_fingerprints(work: UnitOfWork, event_keys: Sequence[str]) -> dict[str, str]:
    """Return the fingerprints of events that are stored, by key."""
    if not event_keys:
        return {}
    rows = await rows_of(work, _SQL, "stored_fingerprints", event_keys=list(event_keys))
    return {row.event_key.replace("-", ""): row.fingerprint.replace("-", "") for row in rows}


def _values(row: Row) -> list[str | None]:
    request_id, content, metadata, key, fingerprint = row
    return [request_id, *content[:-1].split("\t"), metadata or None, key, fingerprint]


def copy_text(rows: Iterable[Row]) -> str:
    """Write rows as COPY text, in the order of the columns of `create_staging`."""
    return "".join(
        f"{_escaped(request_id)}\t{content}{_escaped(metadata) or _NULL}\t{key}\t{fingerprint}\n"
        for request_id, content, metadata, key, fingerprint in rows
    )


def _escaped(text: str) -> str:
    if text.isprintable() and "\\" not in text:
        return text
    # Ten times as quick as `str.translate`, where one character becomes two.
    for plain, escape in _ESCAPES:
        text = text.replace(plain, escape)
    return text


async def _stage(work: UnitOfWork, rows: Sequence[Row]) -> None:
    """COPY rows into the staging table, which this transaction's commit empties."""
    await rows_of(work, _SQL, "create_staging")
    connection = await work.raw()
    async with connection.cursor() as cursor, cursor.copy(_SQL["copy_staging"].encode()) as copy:
        async for part in in_slices(light_parts(rows, _row_weight), 1):
            await copy.write(copy_text(part))


def _row_weight(row: Row) -> int:
    request_id, content, metadata, *_ = row
    return len(request_id) + len(content) + len(metadata)


async def known_events(work: UnitOfWork, receipt_id: str, batch: Batch) -> list[StoredEvent]:
    """Return the events of a batch that `store_events` found stored before."""
    rows = await rows_of(
        work,
        _SQL,
        "known_events",
        receipt_id=bare(receipt_id),
        request_ids=list(batch.first_index),
        event_keys=batch.event_keys,
    )
    return [StoredEvent(row.request_id, row.fingerprint.replace("-", "")) for row in rows]


async def stored_keys(work: UnitOfWork, event_keys: Sequence[str]) -> set[str]:
    """Return those keys that events are stored under."""
    rows = await rows_of(work, _SQL, "stored_keys", event_keys=list(event_keys))
    return {row.event_key.replace("-", "") for row in rows}
