"""Aggregating usage, as of an ordinal."""

from __future__ import annotations

from collections.abc import Set

from services.metering.app import ordinals, rollups
from services.metering.app.log import ReceiptLog
from services.metering.app.skus import SkuMemory
from services.metering.domain.events import EventContent
from services.metering.domain.usage import (
    ROWS_MAX,
    EventPlace,
    EventsQuery,
    UnknownSkuAsked,
    Usage,
    UsageQuery,
    UsageTooWide,
    window_starts,
)
from services.metering.store import usage as store
from services.runtime.context import current
from services.runtime.database import Database


class Usages:
    """Usage of the tenant that the running call acts for.

    Args:
        skus: which SKUs exist.
        log: of the receipts that usage is made of.
    """

    def __init__(self, database: Database, skus: SkuMemory, log: ReceiptLog) -> None:
        self._database = database
        self._skus = skus
        self._log = log

    async def query(self, query: UsageQuery) -> Usage:
        """Aggregate usage; all rows come from one snapshot, and hold what it has up to one ordinal.

        Raises:
            UnknownTimeZone: the zone does not exist.
            UnknownSkuAsked: neither the catalogue nor usage has a SKU that was asked for.
            UsageTooWide: the answer would have too many windows or rows.
            UsageOrdinalAhead: nothing has the ordinal that is asked for.
        """
        starts = window_starts(query)
        ordinal = await rollups.rolled_up(self._database, query)
        if ordinal is None:
            ordinal = await ordinals.reached(self._database, query.at_ordinal)
        async with self._database.read() as work:
            snapshot = await store.read_snapshot(work)
            skus = query.skus or await store.skus_of_org(work, query.org_id)
            found = await rollups.answer(work, query, ordinal, skus, starts, ROWS_MAX + 1)
            if found is None:
                rows = await store.query_usage(work, query, ordinal, skus, starts, ROWS_MAX + 1)
                found = rows, 0
            rows, rolled_ordinal = found
            recorded_at = await rollups.recorded_at(work, ordinal)
        await self._check_skus(set(query.skus) - {row.sku for row in rows})
        if len(rows) > ROWS_MAX:
            raise UsageTooWide(
                f"the answer has more than {ROWS_MAX} rows; ask for a shorter period, a longer"
                " window, fewer SKUs or fewer keys",
                limit=ROWS_MAX,
            )
        log_root = await self._log.root_at(ordinal) if query.with_log_root else None
        return Usage(rows, snapshot, ordinal, log_root, rolled_ordinal, recorded_at)

    async def reached(self, at_ordinal: int | None) -> int:
        """Return the ordinal that a list of events is read at. Raises UsageOrdinalAhead: nothing has it yet."""
        return await ordinals.reached(self._database, at_ordinal)

    async def events(
        self, query: EventsQuery, ordinal: int, after: EventPlace | None, limit: int
    ) -> list[tuple[EventPlace, EventContent]]:
        """List the events behind a place as they count at an ordinal.

        Raises:
            UnknownSkuAsked: neither the catalogue nor usage has the SKU that was asked for.
        """
        async with self._database.read() as work:
            skus = [query.sku] if query.sku else await store.skus_of_org(work, query.org_id)
            found = await store.list_events(work, query, ordinal, skus, after, limit)
        if query.sku and not found:
            await self._check_skus({query.sku})
        return found

    async def _check_skus(self, unused: Set[str]) -> None:
        """Refuse SKUs without usage that do not exist; what was used once existed, and is not asked for."""
        if not unused:
            return
        known = await self._skus.known(current().tenant_id, unused)
        unknown = sorted(unused - known)
        if unknown:
            raise UnknownSkuAsked(
                f"the catalogue has no SKU {', '.join(unknown[:20])}; ListSkus lists the SKUs",
                sku=",".join(unknown[:20]),
            )
