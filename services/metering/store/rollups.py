"""Rollups of usage: what is read from them, and how they are kept up."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from services.metering.domain.aggregations import Aggregation
from services.metering.domain.ordinals import Position
from services.metering.domain.receipts import CORRECTING, ReceiptKind
from services.metering.domain.rollups import (
    DELTA_EVENTS_MAX,
    DELTA_RECEIPTS_MAX,
    GROUP_KEYS_MAX,
    STRETCHES_MAX,
    Delta,
    Opening,
    Part,
    Plan,
    RollupFinding,
    StaleHour,
    Standing,
    VerifyPlace,
    hour_of,
    plan,
)
from services.metering.domain.usage import Freshness, UsageQuery
from services.metering.store import ordinals, usage
from services.metering.store.rows import PART_ROWS, rows_of, rows_of_all
from services.runtime.database import UnitOfWork
from services.runtime.money import format_decimal
from services.runtime.postgres import sql
from services.runtime.postgres.sql import Statements
from services.runtime.turns import in_slices

_SQL = sql.load("services.metering", "queries/rollups.sql")
_USAGE = sql.load("services.metering", "queries/usage.sql")
_HOUR = timedelta(hours=1)


async def standing(work: UnitOfWork) -> Standing | None:
    """Return where the rollups of the tenant stand; None while there are none."""
    rows = await rows_of(work, _SQL, "standing")
    return _standing(rows[0]) if rows else None


def _standing(row: Any) -> Standing:
    return Standing(
        row.generation, row.oldest_generation, row.rolled_ordinal, tuple(row.group_keys)
    )


async def opening(work: UnitOfWork, query: UsageQuery) -> Opening:
    """Return what the answer to a query starts from."""
    asked = _SQL, "opening", {"with_behind": query.freshness is Freshness.ROLLED_UP}
    if query.skus:
        (rows,) = await rows_of_all(work, asked)
        skus = query.skus
    else:
        rows, used = await rows_of_all(work, asked, usage.asking_skus(query.org_id))
        skus = [row.sku for row in used]
    (row,) = rows
    return Opening(
        row.snapshot,
        Position(row.last_ordinal, row.unsequenced),
        None if row.generation is None else _standing(row),
        None if row.behind_since is None else row.behind_since.astimezone(UTC),
        skus,
    )


async def delta(
    work: UnitOfWork, query: UsageQuery, rolled_ordinal: int, ordinal: int
) -> Delta | None:
    """Return the receipts from behind the rollups up to an ordinal that may concern a query; None: too many."""
    if ordinal <= rolled_ordinal:
        return Delta((), ())
    rows = await rows_of(
        work,
        _SQL,
        "receipts_behind_rollups",
        after=rolled_ordinal,
        up_to=ordinal,
        start_at=query.start_at,
        end_at=query.end_at,
        limit=DELTA_RECEIPTS_MAX + 1,
    )
    if len(rows) > DELTA_RECEIPTS_MAX or sum(row.accepted for row in rows) > DELTA_EVENTS_MAX:
        return None
    corrected = [row.receipt_id for row in rows if ReceiptKind(row.kind) in CORRECTING]
    added = [row.receipt_id for row in rows if ReceiptKind(row.kind) not in CORRECTING]
    return Delta(added, corrected)


async def buckets(
    work: UnitOfWork,
    query: UsageQuery,
    skus: Sequence[str],
    at: Standing,
    ordinal: int,
    corrected: Sequence[str],
    window_starts: Sequence[datetime],
    rows_max: int,
) -> tuple[Plan, list[Part], datetime | None] | None:
    """Return how an answer is put together, what the buckets of that come to, and when its ordinal was recorded.

    Of more parts than `rows_max` the first ones. None where too much of it is to be read from the events.
    """
    edges = [*window_starts, query.end_at]
    made = plan(edges, frozenset())
    if made is None:
        return None
    asked = {
        "generation": at.generation,
        "rolled_ordinal": at.rolled_ordinal,
        "ordinal": ordinal,
        "org_id": query.org_id,
        "skus": list(skus),
        "from_at": hour_of(query.start_at),
        "start_at": query.start_at,
        "end_at": query.end_at,
        "corrected": list(corrected),
        "limit": STRETCHES_MAX + 1,
    }
    # In one go: nearly always no hour is broken, and else the buckets are asked for once more.
    broken_rows, recorded, rows = await rows_of_all(
        work,
        (_SQL, "broken_hours", asked),
        _asking_when(ordinal),
        _asking_buckets(query, skus, at, made, window_starts, rows_max),
    )
    if broken_rows:
        broken = {row.hour_at.astimezone(UTC) for row in broken_rows}
        replanned = plan(edges, broken) if len(broken) <= STRETCHES_MAX else None
        if replanned is None:
            return None
        made = replanned
        (rows,) = await rows_of_all(
            work, _asking_buckets(query, skus, at, made, window_starts, rows_max)
        )
    return made, await _parts_of(query, rows), _when(recorded)


def _asking_buckets(
    query: UsageQuery,
    skus: Sequence[str],
    at: Standing,
    made: Plan,
    window_starts: Sequence[datetime],
    rows_max: int,
) -> tuple[Statements, str, dict[str, object]]:
    positions = [at.position(key) for key in query.group_by] + [None] * 3
    wanted: list[str | None] = [None] * GROUP_KEYS_MAX
    for key, value in query.metadata.items():
        wanted[at.position(key) - 1] = value
    parameters: dict[str, object] = {
        "org_id": query.org_id,
        "skus": list(skus),
        "project_id": query.project_id,
        "generation": at.generation,
        # Of all values together, unless they are asked for: as few rows as there can be.
        "keyed": bool(query.group_by or query.metadata),
        "minutes": made.minutes,
        "from_at": made.from_at,
        "until_at": made.until_at,
        "cut": list(made.cut),
        "quarters": list(made.quarters),
        "window_starts": list(window_starts),
        "with_latest": query.aggregation is Aggregation.LATEST,
        "rows_max": rows_max,
        **{f"position_{number + 1}": positions[number] for number in range(3)},
        **{f"wanted_{number + 1}": each for number, each in enumerate(wanted)},
    }
    return _USAGE, "rolled", parameters


async def from_stretches(
    work: UnitOfWork,
    query: UsageQuery,
    skus: Sequence[str],
    made: Plan,
    ordinal: int,
    window_starts: Sequence[datetime],
    rows_max: int,
) -> list[Part]:
    """Return what the events of a plan's stretches come to at an ordinal; of more parts than `rows_max` the first."""
    firsts, untils = zip(*made.stretches, strict=True)
    found: dict[str, object] = {"org_id": query.org_id, "skus": list(skus)}
    is_whole = (await ordinals.position(work)).is_whole(ordinal)
    (corrected,) = await rows_of(
        work, _USAGE, "is_corrected", **found, start_at=firsts[0], end_at=untils[-1]
    )
    source = "stretches_now" if is_whole and not corrected.is_corrected else "stretches_at"
    rows = await rows_of(
        work,
        _USAGE,
        f"parts_of_placed_of_{source}",
        **found,
        firsts=list(firsts),
        untils=list(untils),
        stretch_edges=_edges(made),
        ordinal=ordinal,
        **_placing(query, window_starts, rows_max),
    )
    return await _parts_of(query, rows)


async def from_delta(
    work: UnitOfWork,
    query: UsageQuery,
    skus: Sequence[str],
    made: Plan,
    receipt_ids: Sequence[str],
    window_starts: Sequence[datetime],
    rows_max: int,
) -> list[Part]:
    """Return what receipts brought outside of a plan's stretches; of more parts than `rows_max` the first ones."""
    rows = await rows_of(
        work,
        _USAGE,
        "parts_of_placed_of_delta",
        org_id=query.org_id,
        skus=list(skus),
        start_at=query.start_at,
        end_at=query.end_at,
        receipt_ids=list(receipt_ids),
        stretch_edges=_edges(made),
        **_placing(query, window_starts, rows_max),
    )
    return await _parts_of(query, rows)


def _edges(made: Plan) -> list[datetime]:
    return [edge for stretch in made.stretches for edge in stretch]


def _placing(
    query: UsageQuery, window_starts: Sequence[datetime], rows_max: int
) -> dict[str, object]:
    keys = [*query.group_by, None, None, None]
    return {
        "project_id": query.project_id,
        "metadata": json.dumps(dict(query.metadata)) if query.metadata else None,
        "window_starts": list(window_starts),
        "with_latest": query.aggregation is Aggregation.LATEST,
        "rows_max": rows_max,
        **{f"key_{number + 1}": keys[number] for number in range(3)},
    }


async def _parts_of(query: UsageQuery, rows: Sequence[Any]) -> list[Part]:
    """Read parts of an answer."""
    count = len(query.group_by)
    return [
        Part(
            row.sku,
            row.project_id,
            row.window_number,
            (row.group_1, row.group_2, row.group_3)[:count],
            row.event_count,
            row.quantity,
            row.smallest,
            row.largest,
            row.latest,
            row.first_event_at,
            row.last_event_at,
        )
        async for row in in_slices(rows, PART_ROWS)
    ]


async def recorded_at(work: UnitOfWork, ordinal: int) -> datetime | None:
    """Return when the receipt with an ordinal was recorded; None when nothing has it."""
    return _when((await rows_of_all(work, _asking_when(ordinal)))[0])


def _asking_when(ordinal: int) -> tuple[Statements, str, dict[str, object]]:
    return _SQL, "recorded_at", {"ordinal": ordinal}


def _when(rows: Sequence[Any]) -> datetime | None:
    return rows[0].recorded_at.astimezone(UTC) if rows else None


async def lock_state(work: UnitOfWork) -> Standing:
    """Return where the rollups stand, and keep others from changing them until the commit."""
    (row,) = await rows_of(work, _SQL, "lock_state")
    return _standing(row)


async def begin_generation(work: UnitOfWork, group_keys: Sequence[str]) -> None:
    """Begin anew, by other keys."""
    await rows_of(work, _SQL, "begin_generation", group_keys=list(group_keys))
    await rows_of(work, _SQL, "forget_stale")


async def clear(work: UnitOfWork, at: Standing, limit: int) -> bool:
    """Delete some rows of a generation that counts no more; says whether there may be more of it."""
    names = {"oldest_generation": at.oldest_generation}
    gone = await rows_of(work, _SQL, "clear_generations", limit=limit, **names)
    if len(gone) < limit:
        await rows_of(work, _SQL, "forget_generation", **names)
    return len(gone) == limit


async def add(
    work: UnitOfWork, at: Standing, receipt_ids: Collection[str], up_to_ordinal: int
) -> None:
    """Add the events that receipts brought to their buckets."""
    await rows_of(
        work,
        _SQL,
        "add_of_buckets_of_quarters_of_brought",
        receipt_ids=list(receipt_ids),
        generation=at.generation,
        up_to=up_to_ordinal,
        **_keys(at),
    )


def _keys(at: Standing) -> dict[str, str | None]:
    keys = [*at.group_keys, *[None] * GROUP_KEYS_MAX]
    return {f"key_{number + 1}": keys[number] for number in range(GROUP_KEYS_MAX)}


async def mark_stale(work: UnitOfWork, receipt_ids: Collection[str]) -> None:
    """Mark the hours that corrections of receipts take events out of, and bring them into."""
    await rows_of(work, _SQL, "mark_stale", corrected=list(receipt_ids))


async def advance(work: UnitOfWork, ordinal: int) -> None:
    """Keep that rollups hold what receipts up to an ordinal brought."""
    await rows_of(work, _SQL, "advance", rolled_ordinal=ordinal)


async def stale_hours(
    work: UnitOfWork, at: Standing, limit: int, events_max: int
) -> list[StaleHour]:
    """Return the first hours that are to be rolled up anew, but for those of more events than that."""
    rows = await rows_of(
        work, _SQL, "stale_hours", generation=at.generation, limit=limit, events_max=events_max
    )
    return [
        StaleHour(row.org_id, row.sku, row.hour_at.astimezone(UTC), row.event_count) for row in rows
    ]


async def renew(work: UnitOfWork, at: Standing, hour: StaleHour) -> None:
    """Roll an hour up anew, from its events as they are at the ordinal of the rollups."""
    names: dict[str, object] = {
        "org_id": hour.org_id,
        "sku": hour.sku,
        "from_at": hour.hour_at,
        "until_at": hour.hour_at + _HOUR,
        "ordinal": at.rolled_ordinal,
        "generation": at.generation,
    }
    bound = {"tenant_id": work.tenant_id, **names, **_keys(at)}
    statement = "fill_hour_of_buckets_of_quarters_of_counted_of_counting"
    for name in ("empty_hour", statement):
        # With the next one, and as unprepared as `rows_of` has it.
        work.later(_SQL[name], bound, prepare=False)
    await rows_of(
        work,
        _SQL,
        "forget_stale_hour",
        org_id=hour.org_id,
        sku=hour.sku,
        hour_at=hour.hour_at,
    )


async def next_pair(
    work: UnitOfWork, at: Standing, after_org: str, after_sku: str
) -> tuple[str, str] | None:
    """Return the next organisation and SKU that have events or buckets; None behind the last."""
    rows = await rows_of(
        work,
        _SQL,
        "next_pair",
        generation=at.generation,
        after_org=after_org,
        after_sku=after_sku,
    )
    return (rows[0].org_id, rows[0].sku) if rows else None


async def hours_of(
    work: UnitOfWork, at: Standing, place: VerifyPlace, limit: int
) -> list[tuple[datetime, int]]:
    """Return the next hours that a SKU of an organisation has buckets of, with how many events by them."""
    rows = await rows_of(
        work,
        _SQL,
        "hours_of_pair",
        generation=at.generation,
        org_id=place.org_id,
        sku=place.sku,
        from_at=place.from_at,
        limit=limit,
    )
    return [(row.bucket_at.astimezone(UTC), row.event_count) for row in rows]


async def differing(
    work: UnitOfWork, at: Standing, place: VerifyPlace, until_at: datetime, limit: int
) -> list[RollupFinding]:
    """Return the buckets of a SKU of an organisation that are not what their events come to."""
    rows = await rows_of(
        work,
        _SQL,
        "differing_of_buckets_of_quarters_of_counted_of_counting",
        generation=at.generation,
        ordinal=at.rolled_ordinal,
        org_id=place.org_id,
        sku=place.sku,
        from_at=place.from_at,
        until_at=until_at,
        limit=limit,
        **_keys(at),
    )
    return [
        RollupFinding(
            place.org_id,
            place.sku,
            row.minutes,
            row.bucket_at.astimezone(UTC),
            row.project_id,
            _said(row, "expected_"),
            _said(row, ""),
        )
        for row in rows
    ]


def _said(row: Any, prefix: str) -> str:
    def of(name: str) -> Any:
        return getattr(row, prefix + name)

    if of("event_count") is None:
        return "nothing"
    numbers = ", ".join(
        f"{name} {format_decimal(of(name))}"
        for name in ("quantity", "smallest", "largest", "latest")
    )
    times = " to ".join(
        of(name).astimezone(UTC).isoformat() for name in ("first_event_at", "last_event_at")
    )
    values = [value for value in of("group_values") if value is not None]
    return f"{of('event_count')} events, {numbers}, {times}, values {json.dumps(values)}"


async def unrolled_tenants(work: UnitOfWork, after: str, limit: int) -> list[str]:
    """Return the tenants behind one whose rollups have something left to do; across tenants."""
    found = await work.execute(_SQL["unrolled"], {"after": after, "tenants": limit})
    return [row.tenant_id for row in found]
