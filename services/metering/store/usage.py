"""Usage, aggregated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby, islice
from types import MappingProxyType
from typing import Any
from uuid import UUID

from services.metering.domain.aggregations import (
    PERCENTS,
    Aggregation,
    LevelPart,
    average,
    held,
)
from services.metering.domain.events import EventContent
from services.metering.domain.usage import EventPlace, EventsQuery, UsageQuery, UsageRow
from services.metering.store import ordinals
from services.metering.store.rows import PART_ROWS, content_of, rows_of, rows_of_all
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql
from services.runtime.postgres.sql import Statements
from services.runtime.turns import aside, in_slices

_SQL = sql.load("services.metering", "queries/usage.sql")
_BEGINNING = datetime.min.replace(tzinfo=UTC)

_STATEMENTS: Mapping[Aggregation, tuple[str, Callable[[Any], Decimal]]] = MappingProxyType(
    {
        Aggregation.SUM: ("summed", lambda row: row.quantity),
        Aggregation.COUNT: ("summed", lambda row: Decimal(row.event_count)),
        Aggregation.AVG: ("summed", lambda row: average(row.quantity, row.event_count)),
        Aggregation.MAX: ("extremes", lambda row: row.largest),
        Aggregation.MIN: ("extremes", lambda row: row.smallest),
        Aggregation.LATEST: ("latest", lambda row: row.quantity),
        Aggregation.UNIQUE: ("ranked", lambda row: Decimal(row.value_count)),
        **dict.fromkeys(PERCENTS, ("ranked", lambda row: row.quantity)),
    }
)
"""Of each aggregation of the events of a window alone: the statement, and how a row of it becomes the value."""


async def skus_of_org(work: UnitOfWork, org_id: str) -> list[str]:
    """Return the SKUs that an organisation ever used, sorted."""
    (rows,) = await rows_of_all(work, asking_skus(org_id))
    return [row.sku for row in rows]


def asking_skus(org_id: str) -> tuple[Statements, str, dict[str, object]]:
    """Return the statement that finds the SKUs of an organisation, to be run with others."""
    return _SQL, "skus_of_org", {"org_id": org_id}


async def query_usage(
    work: UnitOfWork,
    query: UsageQuery,
    ordinal: int,
    skus: Sequence[str],
    window_starts: Sequence[datetime],
    rows_max: int,
) -> list[UsageRow]:
    """Aggregate what receipts up to an ordinal brought; of more rows than `rows_max` the first ones.

    Args:
        ordinal: the tenant's newest in this snapshot, or one before.
        window_starts: ascending, from the start of the period on.
    """
    edges = [*window_starts, query.end_at]
    if query.aggregation is Aggregation.WEIGHTED_SUM:
        # A row of the answer is made of at most two: of the events of its window, and of all before the period.
        rows = await _rows(
            work,
            "levels",
            query,
            ordinal,
            skus,
            start_at=_BEGINNING,
            window_starts=list(window_starts),
            window_ends=edges[1:],
            rows_max=2 * rows_max,
        )
        return await aside(rows_max, _level_rows, query, rows, edges, rows_max)
    name, value = _STATEMENTS[query.aggregation]
    more = {"percent": PERCENTS.get(query.aggregation, 0)} if name == "ranked" else {}
    rows = await _rows(
        work,
        name,
        query,
        ordinal,
        skus,
        start_at=query.start_at,
        window_starts=list(window_starts),
        rows_max=rows_max,
        **more,
    )
    return [
        _usage_row(query, row, edges, row.window_number, value(row))
        async for row in in_slices(rows, PART_ROWS)
    ]


async def _rows(
    work: UnitOfWork,
    name: str,
    query: UsageQuery,
    ordinal: int,
    skus: Sequence[str],
    *,
    start_at: datetime,
    **parameters: object,
) -> list[Any]:
    """Run the statement of an aggregation over the events from an instant to the end of the period."""
    found = {
        "org_id": query.org_id,
        "skus": list(skus),
        "start_at": start_at,
        "end_at": query.end_at,
    }
    is_whole = (await ordinals.position(work)).is_whole(ordinal)
    (corrected,) = await rows_of(work, _SQL, "is_corrected", **found)
    is_plain = is_whole and not corrected.is_corrected
    keys = [*query.group_by, None, None, None]
    return await rows_of(
        work,
        _SQL,
        f"{name}_of_placed_of_usage_{'now' if is_plain else 'at'}",
        ordinal=ordinal,
        **found,
        project_id=query.project_id,
        metadata=json.dumps(dict(query.metadata)) if query.metadata else None,
        key_1=keys[0],
        key_2=keys[1],
        key_3=keys[2],
        **parameters,
    )


def _level_rows(
    query: UsageQuery, rows: Sequence[Any], edges: Sequence[datetime], rows_max: int
) -> list[UsageRow]:
    """Make the rows of levels, in the order of all answers; a series is a SKU, a project and a group."""
    found: list[tuple[tuple[str, str, int, int], UsageRow]] = []
    for number, (_, series) in enumerate(groupby(rows, key=_series_of)):
        windows = _level_windows(query, list(series), edges)
        for at, row in islice(windows, rows_max - len(found)):
            found.append(((row.sku, row.project_id, at, number), row))
        if len(found) == rows_max:
            break
    found.sort(key=lambda item: item[0])
    return [row for _, row in found]


def _level_windows(
    query: UsageQuery, rows: Sequence[Any], edges: Sequence[datetime]
) -> Iterator[tuple[int, UsageRow]]:
    by_number = {row.window_number: row for row in rows}
    unused = _Unused(rows[0])
    for window in held([_level_part(row) for row in rows], edges):
        row = by_number[window.window_number] if window.part else unused
        yield (
            window.window_number,
            _usage_row(query, row, edges, window.window_number, window.hours),
        )


class _Unused:
    """Stands for the events of a window that has none, of the series of a row."""

    event_count = 0
    first_event_at = None
    last_event_at = None

    def __init__(self, row: Any) -> None:
        self.sku, self.project_id = row.sku, row.project_id
        self.group_1, self.group_2, self.group_3 = row.group_1, row.group_2, row.group_3


def _series_of(row: Any) -> tuple[object, ...]:
    return row.sku, row.project_id, row.group_1, row.group_2, row.group_3


def _level_part(row: Any) -> LevelPart:
    return LevelPart(
        row.window_number,
        row.level_microseconds,
        row.event_count,
        row.first_event_at,
        row.last_event_at,
        row.closing_level,
    )


def _usage_row(
    query: UsageQuery, row: Any, edges: Sequence[datetime], window_number: int, value: Decimal
) -> UsageRow:
    values = zip(query.group_by, (row.group_1, row.group_2, row.group_3), strict=False)
    return UsageRow(
        sku=row.sku,
        project_id=row.project_id,
        window_start_at=edges[window_number - 1],
        window_end_at=edges[window_number],
        group={key: value for key, value in values if value is not None},
        value=value,
        event_count=row.event_count,
        first_event_at=row.first_event_at,
        last_event_at=row.last_event_at,
    )


async def list_events(
    work: UnitOfWork,
    query: EventsQuery,
    ordinal: int,
    skus: Sequence[str],
    after: EventPlace | None,
    limit: int,
) -> list[tuple[EventPlace, EventContent]]:
    """Return the next events behind a place, as they count at an ordinal."""
    rows = await rows_of(
        work,
        _SQL,
        "events_at",
        org_id=query.org_id,
        skus=list(skus),
        from_at=query.start_at if after is None else after.event_time,
        # A key of zeros is nobody's.
        after_key=UUID(int=0) if after is None else after.event_key,
        end_at=query.end_at,
        ordinal=ordinal,
        limit=limit,
    )
    return [
        (EventPlace(row.event_time, row.event_key), content_of(row))
        async for row in in_slices(rows, PART_ROWS)
    ]
