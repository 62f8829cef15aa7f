"""Aggregating usage, as of an ordinal."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from datetime import datetime

from services.metering.app import ordinals, rollups
from services.metering.app.log import ReceiptLog
from services.metering.app.skus import SkuMemory
from services.metering.domain.events import EventContent
from services.metering.domain.ordinals import Position
from services.metering.domain.rollups import Opening
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
from services.metering.store import rollups as rollups_store
from services.metering.store import usage as store
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork


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
        async with self._database.read() as work:
            opening = await rollups_store.opening(work, query)
            ordinal = opening.ordinal_of(query, work.now)
            if ordinal is not None:
                usage = await self._read(work, query, opening, ordinal, starts)
        if ordinal is None:
            newest = Position(await ordinals.sequence(self._database), unsequenced=False)
            ordinal = newest.checked(query.at_ordinal)
            async with self._database.read() as work:
                opening = await rollups_store.opening(work, query)
                usage = await self._read(work, query, opening, ordinal, starts)
        await self._check_skus(set(query.skus) - {row.sku for row in usage.rows})
        if len(usage.rows) > ROWS_MAX:
            raise UsageTooWide(
                f"the answer has more than {ROWS_MAX} rows; ask for a shorter period, a longer"
                " window, fewer SKUs or fewer keys",
                limit=ROWS_MAX,
            )
        if not query.with_log_root:
            return usage
        return replace(usage, log_root=await self._log.root_at(ordinal))

    async def _read(
        self,
        work: UnitOfWork,
        query: UsageQuery,
        opening: Opening,
        ordinal: int,
        starts: Sequence[datetime],
    ) -> Usage:
        """Answer at an ordinal; of more rows than an answer may have one more."""
        found = await rollups.answer(work, query, opening, ordinal, starts, ROWS_MAX + 1)
        if found is None:
            rows = await store.query_usage(work, query, ordinal, opening.skus, starts, ROWS_MAX + 1)
            found = rows, 0, await rollups.recorded_at(work, ordinal)
        rows, rolled_ordinal, recorded_at = found
        return Usage(
            rows, opening.snapshot, ordinal, rolled_ordinal=rolled_ordinal, recorded_at=recorded_at
        )

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
