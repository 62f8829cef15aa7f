"""Every statement of metering, run in the caller's unit of work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from services.metering.domain import (
    EPOCH,
    Aggregation,
    Batch,
    Closing,
    IngestSettings,
    LateEvent,
    LateFilter,
    LatePlace,
    LateTotal,
    Receipt,
    Rejection,
    Row,
    Stored,
    StoredEvent,
    Total,
    UsageQuery,
    UsageRow,
    instant,
)
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql
from services.runtime.turns import in_slices

ItemT = TypeVar("ItemT")

RECEIPT_PREFIX = "rcp_"
# Rows that are made before others have their turn.
_PART_ROWS = 500
_PART_BYTES = 256 * 1024
# Events that are stored without the staging table.
FEW_MAX = 50
_NULL = "\\N"
# The backslash first: the others bring theirs.
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))

_SQL = sql.load("services.metering", "queries.sql")


async def store_events(work: UnitOfWork, receipt_id: str, batch: Batch) -> Stored:
    """Store the events of a batch whose ids are new. From here to the commit no period of the tenant is closed."""
    if len(batch.rows) <= FEW_MAX:
        return await _store_few(work, receipt_id, batch.rows)
    await _stage(work, batch.rows)
    rows = await _rows(work, "store_events", receipt_id=_bare(receipt_id))
    totals = [Total(**row._asdict()) for row in rows]
    if not totals:
        return Stored()
    await hold_closings(work)
    return Stored(totals, await touches_closed(work, totals))


async def _store_few(work: UnitOfWork, receipt_id: str, rows: Sequence[Row]) -> Stored:
    """Store a handful in one go, with what follows."""
    columns = list(zip(*map(_values, rows), strict=True))
    names = (
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
    parameters: dict[str, Any] = dict(zip(names, map(list, columns), strict=True))
    parameters |= {"tenant_id": work.tenant_id, "receipt_id": _bare(receipt_id)}
    moments = [instant(int(at_us)) for at_us in parameters["event_times_us"]]
    stored, _, touched = await work.execute_all(
        (_SQL["store_few"], parameters),
        _closings(work),
        _touching(work, parameters["org_ids"], moments, moments),
    )
    return Stored([Total(**row._asdict()) for row in stored], bool(touched.scalar_one()))


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
    await _rows(work, "create_staging")
    connection = await work.raw()
    async with connection.cursor() as cursor, cursor.copy(_SQL["copy_staging"].encode()) as copy:
        async for part in in_slices(_light_parts(rows, _row_weight), 1):
            await copy.write(copy_text(part))


def _row_weight(row: Row) -> int:
    request_id, content, metadata, *_ = row
    return len(request_id) + len(content) + len(metadata)


async def known_events(work: UnitOfWork, receipt_id: str, batch: Batch) -> list[StoredEvent]:
    """Return the events of a batch that `store_events` found stored before."""
    rows = await _rows(
        work,
        "known_events",
        receipt_id=_bare(receipt_id),
        request_ids=list(batch.first_index),
        event_keys=batch.event_keys,
    )
    return [StoredEvent(row.request_id, row.fingerprint.replace("-", "")) for row in rows]


async def hold_closings(work: UnitOfWork) -> None:
    """Let no period of the tenant be closed until the commit."""
    await work.execute(*_closings(work))


async def touches_closed(work: UnitOfWork, totals: Sequence[Total]) -> bool:
    """Whether stored usage may lie in closed periods."""
    asked = _touching(
        work,
        [total.org_id for total in totals],
        [total.first_event_at for total in totals],
        [total.last_event_at for total in totals],
    )
    return bool((await work.execute(*asked)).scalar_one())


def _closings(work: UnitOfWork) -> tuple[str, Mapping[str, object]]:
    return _SQL["hold_closings"], {"tenant_id": work.tenant_id}


def _touching(
    work: UnitOfWork,
    org_ids: Sequence[str],
    firsts: Sequence[datetime],
    lasts: Sequence[datetime],
) -> tuple[str, Mapping[str, object]]:
    """Ask whether usage may lie in closed periods: by first and last event of each organisation."""
    return _SQL["touches_closed"], {
        "tenant_id": work.tenant_id,
        "org_ids": org_ids,
        "firsts": firsts,
        "lasts": lasts,
    }


async def wait_for_batches(work: UnitOfWork) -> None:
    """Let every batch of the tenant that is under way end, and others wait, until the commit."""
    await _rows(work, "wait_for_batches")


async def is_closed(work: UnitOfWork, charge_id: str) -> bool:
    """Whether the period of a charge is kept as closed."""
    return bool(await _rows(work, "is_closed", charge_id=charge_id))


async def close_period(work: UnitOfWork, closing: Closing) -> bool:
    """Keep a period as closed; False when it was."""
    rows = await _rows(
        work,
        "close_period",
        charge_id=closing.charge_id,
        org_id=closing.org_id,
        start_at=closing.start_at,
        end_at=closing.end_at,
        usage_snapshot=closing.usage_snapshot,
        heard_at=work.now,
    )
    return bool(rows)


async def advance_closing(work: UnitOfWork, charge_id: str, usage_snapshot: str) -> None:
    """Keep that usage up to a snapshot is billed for the period of a charge, and none of it late any more."""
    names = {"charge_id": charge_id, "usage_snapshot": usage_snapshot}
    await _rows(work, "advance_closing", **names)
    await _rows(work, "forget_billed", **names)


async def reopen_period(work: UnitOfWork, charge_id: str) -> None:
    """Forget that a charge closed its period, and what was late by it."""
    await _rows(work, "forget_late", charge_id=charge_id)
    await _rows(work, "forget_closing", charge_id=charge_id)


async def mark_stored(work: UnitOfWork, receipt_id: str, batch: Batch) -> list[LateTotal]:
    """Mark what this transaction stored for closed periods; returns it by charge and SKU."""
    keys = batch.event_keys
    return _late_totals(
        await _rows(work, "mark_stored", receipt_id=_bare(receipt_id), event_keys=keys)
    )


async def mark_unseen(work: UnitOfWork, charge_id: str, skus: Sequence[str]) -> list[LateTotal]:
    """Mark what a charge did not see although it was stored before its closing was heard of."""
    return _late_totals(await _rows(work, "mark_unseen", charge_id=charge_id, skus=list(skus)))


def _late_totals(rows: Sequence[Any]) -> list[LateTotal]:
    return [
        LateTotal(
            Closing(row.charge_id, row.org_id, row.start_at, row.end_at),
            Total(
                row.org_id,
                row.sku,
                row.event_count,
                row.quantity,
                row.first_event_at,
                row.last_event_at,
            ),
        )
        for row in rows
    ]


async def list_late(
    work: UnitOfWork, wanted: LateFilter, after: LatePlace | None, limit: int
) -> list[LateEvent]:
    """List late events behind `after`, by organisation and event_time."""
    rows = await _rows(
        work,
        "list_late",
        org_id=wanted.org_id,
        start_at=wanted.start_at,
        end_at=wanted.end_at,
        after_org=after.org_id if after else "",
        after_time=after.event_time if after else EPOCH,
        after_key=after.event_key if after else str(UUID(int=0)),
        limit=limit,
    )
    return [
        LateEvent(
            request_id=row.request_id,
            project_id=row.project_id,
            sku=row.sku,
            quantity=row.quantity,
            source=row.source,
            metadata=row.metadata or {},
            charge_id=row.charge_id,
            receipt_id=f"{RECEIPT_PREFIX}{row.receipt_id}",
            recorded_at=row.recorded_at.astimezone(UTC),
            place=LatePlace(row.org_id, row.event_time.astimezone(UTC), row.event_key),
        )
        for row in rows
    ]


async def insert_rejected(
    work: UnitOfWork, receipt_id: str, rejections: Sequence[Rejection]
) -> None:
    """Keep refused events with their reasons."""
    for part in _light_parts(rejections, lambda item: len(item.content)):
        await _rows(
            work,
            "insert_rejected",
            receipt_id=_bare(receipt_id),
            indexes=[item.index for item in part],
            # Postgres stores no NUL in a text; the content has it.
            request_ids=[item.request_id.replace("\0", "") for item in part],
            reasons=[item.reason for item in part],
            messages=[item.message.replace("\0", "") for item in part],
            contents=[item.content for item in part],
        )


def _light_parts(items: Iterable[ItemT], weigh: Callable[[ItemT], int]) -> Iterator[list[ItemT]]:
    """Cut by rows and by bytes: how long the driver takes to write a part follows from both."""
    part: list[ItemT] = []
    weight = 0
    for item in items:
        bytes_ = weigh(item)
        if part and (len(part) >= _PART_ROWS or weight + bytes_ > _PART_BYTES):
            yield part
            part, weight = [], 0
        part.append(item)
        weight += bytes_
    if part:
        yield part


def insert_receipt(
    work: UnitOfWork, receipt: Receipt, totals: Sequence[Total], recorded_by: str
) -> None:
    """Store the answer to a batch, with the commit."""
    work.later(
        _SQL["insert_receipt"],
        {
            "tenant_id": work.tenant_id,
            "receipt_id": _bare(receipt.receipt_id),
            "accepted": receipt.accepted,
            "duplicate": receipt.duplicate,
            "conflict": receipt.conflict,
            "rejected": receipt.rejected,
            "first_event_at": min((total.first_event_at for total in totals), default=None),
            "last_event_at": max((total.last_event_at for total in totals), default=None),
            "recorded_at": work.now,
            "recorded_by": recorded_by,
        },
    )


async def skus_of_org(work: UnitOfWork, org_id: str) -> list[str]:
    """Return the SKUs that an organisation ever used, sorted."""
    return [row.sku for row in await _rows(work, "skus_of_org", org_id=org_id)]


async def query_usage(
    work: UnitOfWork,
    query: UsageQuery,
    skus: Sequence[str],
    window_starts: Sequence[datetime],
    rows_max: int,
) -> list[UsageRow]:
    """Aggregate events; `window_starts` are ascending, from the start of the period on."""
    keys = [*query.group_by, None, None, None]
    rows = await _rows(
        work,
        "query_usage",
        org_id=query.org_id,
        project_id=query.project_id,
        skus=list(skus),
        start_at=query.start_at,
        end_at=query.end_at,
        window_starts=list(window_starts),
        key_1=keys[0],
        key_2=keys[1],
        key_3=keys[2],
        rows_max=rows_max,
    )
    window_ends = [*window_starts[1:], query.end_at]
    return [
        _usage_row(query, row, window_starts, window_ends)
        async for row in in_slices(rows, _PART_ROWS)
    ]


def _usage_row(
    query: UsageQuery, row: Any, window_starts: Sequence[datetime], window_ends: Sequence[datetime]
) -> UsageRow:
    values = zip(query.group_by, (row.group_1, row.group_2, row.group_3), strict=False)
    return UsageRow(
        sku=row.sku,
        project_id=row.project_id,
        window_start_at=window_starts[row.window_number - 1],
        window_end_at=window_ends[row.window_number - 1],
        group={key: value for key, value in values if value is not None},
        value=row.event_count if query.aggregation is Aggregation.COUNT else row.quantity,
        event_count=row.event_count,
        first_event_at=row.first_event_at,
        last_event_at=row.last_event_at,
    )


async def read_snapshot(work: UnitOfWork) -> str:
    """Return the snapshot of the transaction, as Postgres writes it."""
    return str((await _rows(work, "read_snapshot"))[0].snapshot)


async def read_settings(work: UnitOfWork) -> IngestSettings:
    """Return the tenant's settings; the defaults while nobody has set them."""
    rows = await _rows(work, "read_settings")
    return _settings(rows[0]) if rows else IngestSettings()


async def lock_settings(work: UnitOfWork) -> IngestSettings:
    """Return the tenant's settings and keep others from changing them until the commit."""
    await _rows(work, "ensure_settings", **_durations(IngestSettings()))
    return _settings((await _rows(work, "lock_settings"))[0])


async def update_settings(work: UnitOfWork, settings: IngestSettings) -> None:
    """Set the tenant's settings."""
    await _rows(work, "update_settings", updated_at=settings.updated_at, **_durations(settings))


def _settings(row: Any) -> IngestSettings:
    return IngestSettings(
        accept_past=timedelta(microseconds=row.accept_past_us),
        accept_future=timedelta(microseconds=row.accept_future_us),
        updated_at=row.updated_at,
    )


def _durations(settings: IngestSettings) -> dict[str, int]:
    microsecond = timedelta(microseconds=1)
    return {
        "accept_past_us": settings.accept_past // microsecond,
        "accept_future_us": settings.accept_future // microsecond,
    }


def _bare(receipt_id: str) -> str:
    return receipt_id.removeprefix(RECEIPT_PREFIX)


async def _rows(work: UnitOfWork, name: str, **parameters: object) -> list[Any]:
    """Run a named statement of ours for the tenant.

    Never prepared: a plan kept from when the tables were small would read all of them once they are large,
    and a batch costs a hundred times what planning does.
    """
    bound: Mapping[str, object] = {"tenant_id": work.tenant_id, **parameters}
    answer = await work.execute(_SQL[name], bound, prepare=False)
    rows = answer.part(0, _PART_ROWS)
    while len(rows) < len(answer):
        # They are here already: reading them waits for nothing, so others get their turn by hand.
        await asyncio.sleep(0)
        rows += answer.part(len(rows), len(rows) + _PART_ROWS)
    return rows
