"""Reads the usage of a period as the prices of an organisation ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from services.pricing.domain import readings
from services.pricing.domain.errors import UsageMoved
from services.pricing.domain.rating import PartTerms, Terms, Usage, check_parts
from services.pricing.domain.readings import Events, Sorting, count_paid
from services.pricing.ports import UsageReader, UsageSnapshot
from services.runtime.turns import aside

# Usage of a period that has ended moves rarely: it must do so this often in a row before rating gives up.
READINGS_MAX = 4
# In one query of usage.
SKUS_MAX = 1000


class PeriodUsage:
    """Reads sums and counts of all SKUs in one go, and more where a price asks for it."""

    def __init__(self, usage: UsageReader) -> None:
        self._usage = usage

    async def read(
        self,
        terms: Terms,
        org_id: str,
        start_at: datetime,
        end_at: datetime,
        at_ordinal: int | None = None,
    ) -> UsageSnapshot:
        """Read the usage of an organisation, all readings of the same events; as of an ordinal, or of now.

        Raises:
            UsageMoved: usage became visible between the readings, each time that they were made.
            DomainError: metering's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """
        moved = ""
        for _ in range(READINGS_MAX):
            first = await self._usage.read(org_id, start_at, end_at, at_ordinal)
            found = await self._more(terms, first, org_id, start_at, end_at)
            if not isinstance(found, str):
                return replace(first, usages=tuple(found))
            moved = found
        raise _kept_moving(org_id, moved)

    async def read_parts(
        self, parts: Sequence[PartTerms], org_id: str
    ) -> tuple[list[UsageSnapshot], UsageSnapshot]:
        """Read the usage of each part of a period, all of the same events, and that of the whole.

        Raises:
            PlanChangesInPeriod: what is used in several parts is not priced in parts.
            UsageMoved, DomainError: as `read`.
        """
        start_at, end_at = parts[0].span.start_at, parts[-1].span.end_at
        if len(parts) == 1:
            seen = await self.read(parts[0].terms, org_id, start_at, end_at)
            return [seen], seen
        moved = ""
        for _ in range(READINGS_MAX):
            whole = await self._usage.read(org_id, start_at, end_at, None)
            found = [
                await self.read(part.terms, org_id, *part.span, whole.ordinal) for part in parts
            ]
            moved = readings.moved_between(whole.usages, [seen.usages for seen in found])
            if not moved:
                check_parts(org_id, parts, [seen.usages for seen in found])
                return found, whole
        raise _kept_moving(org_id, moved)

    async def _more(
        self,
        terms: Terms,
        first: UsageSnapshot,
        org_id: str,
        start_at: datetime,
        end_at: datetime,
    ) -> Sequence[Usage] | str:
        """Read what else the prices ask for; the name of a SKU whose usage moved meanwhile, if any did."""
        usages: Sequence[Usage] = first.usages
        wanted = readings.wanted(terms, usages)
        for reading, all_skus in wanted.readings.items():
            for at in range(0, len(all_skus), SKUS_MAX):
                skus = all_skus[at : at + SKUS_MAX]
                rows = await self._usage.read_values(
                    org_id, start_at, end_at, reading, skus, first.ordinal
                )
                found = await aside(len(rows), readings.with_values, usages, reading, skus, rows)
                if isinstance(found, str):
                    return found
                usages = found
        for sku in wanted.by_event:
            events = await self._tallies(
                terms, usages, sku, org_id, start_at, end_at, first.ordinal
            )
            found = readings.with_events(usages, sku, events)
            if isinstance(found, str):
                return found
            usages = found
        return usages

    async def _tallies(
        self,
        terms: Terms,
        usages: Sequence[Usage],
        sku: str,
        org_id: str,
        start_at: datetime,
        end_at: datetime,
        at_ordinal: int | None,
    ) -> dict[str, Events]:
        """Sort the events of a SKU, page by page; only sums are held.

        An allowance is used up project by project. What the projects before had of it follows from their sums, and
        where it has a number of events, from counting these first.
        """
        price = terms.by_sku[sku].price.percentage
        assert price is not None, "the only model of events"
        projects = [(usage.project_id, usage.total) for usage in usages if usage.sku == sku]
        paid: dict[str, int] = {}
        if price.free_events and len(projects) > 1:
            async for page in self._usage.amounts(org_id, sku, start_at, end_at, at_ordinal):
                await aside(len(page), count_paid, page, paid)
        sorting = Sorting(price, projects, paid)
        async for page in self._usage.amounts(org_id, sku, start_at, end_at, at_ordinal):
            await aside(len(page), sorting.add, page)
        return sorting.close()


def _kept_moving(org_id: str, sku: str) -> UsageMoved:
    return UsageMoved(
        f"usage of {sku} kept coming in while the period of {org_id} was read; try again in a moment",
        org_id=org_id,
        sku=sku,
        retry_after_ms=1_000,
    )
