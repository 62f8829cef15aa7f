"""Stored events, one by one."""

from __future__ import annotations

from datetime import UTC, datetime

from services.metering.domain.listing import (
    CORRECTED,
    LAST_SKU,
    EventsAsked,
    Listed,
    ListedEvent,
    ListedOrgs,
    ListPlace,
    OrgPlace,
    behind,
)
from services.metering.store.rows import content_of, rows_of
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.metering", "queries/listing.sql")
PAIRS_MAX = 500
"""Pairs of organisation and SKU that one page looks at: most have no event in a short period."""


async def list_plain(
    work: UnitOfWork, asked: EventsAsked, ordinal: int, after: ListPlace, limit: int
) -> Listed:
    """List events that were never corrected behind a place; those that were follow."""
    rows = await rows_of(
        work,
        _SQL,
        "list_plain",
        org_id=asked.org_id,
        sku=asked.sku,
        start_at=asked.start_at,
        end_at=asked.end_at,
        ordinal=ordinal,
        after_org=after.org_id,
        after_sku=after.sku,
        after_at=after.at,
        after_key=after.key,
        limit=limit,
        pairs_max=PAIRS_MAX,
    )
    events = []
    place = after
    for row in rows:
        if row.event_key is None:
            place = behind(row.pair_org_id, row.pair_sku, asked.end_at)
            continue
        at = row.event_time.astimezone(UTC)
        place = ListPlace(org_id=row.org_id, sku=row.sku, at=at, key=row.event_key)
        if row.is_listed:
            events.append(ListedEvent(content_of(row), 0, False, place))
    last = rows[-1]
    is_more = last.total >= limit or last.looked >= PAIRS_MAX
    return Listed(events, place if is_more else CORRECTED)


async def list_corrected(
    work: UnitOfWork, asked: EventsAsked, ordinal: int, after: ListPlace, limit: int
) -> Listed:
    """List events that were corrected behind a place, by their keys."""
    rows = await rows_of(
        work,
        _SQL,
        "list_corrected",
        org_id=asked.org_id,
        sku=asked.sku,
        start_at=asked.start_at,
        end_at=asked.end_at,
        include_cancelled=asked.include_cancelled,
        ordinal=ordinal,
        after_key=after.key,
        limit=limit,
    )
    events = [
        ListedEvent(
            content_of(row),
            row.version,
            row.cancelled,
            ListPlace(corrected=True, key=row.event_key),
        )
        for row in rows
        if row.is_listed
    ]
    end = ListPlace(corrected=True, key=rows[-1].event_key) if len(rows) == limit else None
    return Listed(events, end)


async def list_orgs(
    work: UnitOfWork, start_at: datetime, end_at: datetime, after: OrgPlace, limit: int
) -> ListedOrgs:
    """List organisations with an event in a period, behind a place."""
    rows = await rows_of(
        work,
        _SQL,
        "list_orgs",
        start_at=start_at,
        end_at=end_at,
        after_org=after.org_id,
        after_sku=after.sku,
        last_sku=LAST_SKU,
        limit=limit,
        pairs_max=PAIRS_MAX,
    )
    org_ids = [row.org_id for row in rows if row.is_used]
    if len(org_ids) < limit and len(rows) < PAIRS_MAX:
        return ListedOrgs(org_ids, None)
    last = rows[-1]
    return ListedOrgs(org_ids, OrgPlace(last.org_id, LAST_SKU if last.is_used else last.sku))
