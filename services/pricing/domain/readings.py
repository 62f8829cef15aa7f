"""What has to be read of the usage of a period beyond sums and counts, and how the readings are put together.

All are made as of the ordinal of the first. The events behind them are counted, so that readings between which usage
became visible are noticed and made again where metering tells no ordinals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from services.pricing.domain.catalog import Aggregation
from services.pricing.domain.models.parts import EXACT, Source, Tally
from services.pricing.domain.models.percentage import Percentage, Tallying
from services.pricing.domain.rating import Terms, Usage
from services.pricing.domain.values import ZERO

# One reading brings both: every row carries its number of events.
_READ_FIRST = frozenset({Aggregation.SUM, Aggregation.COUNT})


@dataclass(frozen=True, slots=True)
class Reading:
    """Usage of some SKUs by one aggregation, by value of a dimension where one is named."""

    aggregation: Aggregation
    dimension: str = ""


@dataclass(frozen=True, slots=True)
class ValueUsage:
    """Metered usage of one SKU in one project with one value of a dimension.

    Attributes:
        value: "" for events without the dimension, and in a reading without one.
        total: what the aggregation makes of it.
    """

    sku: str
    project_id: str
    value: str
    total: Decimal
    event_count: int


@dataclass(frozen=True, slots=True)
class Events:
    """The events of one SKU in one project: how many there are, and how the price sorts them."""

    event_count: int
    tally: Tally


class Sorting:
    """Sorts the events of a SKU by its price, project by project, as they come; holds sums only.

    Args:
        projects: the projects with the sum of each, in the order in which an allowance is used up.
        paid: how many events above zero each has; needed where the allowance has a number of events.
    """

    def __init__(
        self, price: Percentage, projects: Iterable[tuple[str, Decimal]], paid: Mapping[str, int]
    ) -> None:
        self._price = price
        self._tallyings: dict[str, Tallying] = {}
        self._counts: dict[str, int] = defaultdict(int)
        events, amount = 0, ZERO
        for project_id, total in projects:
            self._tallyings[project_id] = Tallying(price, events, amount)
            events += paid.get(project_id, 0)
            amount = EXACT.add(amount, total)

    def add(self, page: Iterable[tuple[str, Decimal]]) -> None:
        """Sort events: the project and the amount of each."""
        for project_id, amount in page:
            self._counts[project_id] += 1
            tallying = self._tallyings.get(project_id)
            if tallying is not None:
                tallying.add((amount,))

    def close(self) -> dict[str, Events]:
        """Return the events by project, also of projects that were not expected, whose tally is empty."""
        found = {}
        for project_id, count in self._counts.items():
            tallying = self._tallyings.get(project_id) or Tallying(self._price)
            found[project_id] = Events(count, tallying.close())
        return found


def count_paid(page: Iterable[tuple[str, Decimal]], paid: dict[str, int]) -> None:
    """Add the events above zero to those of their projects."""
    for project_id, amount in page:
        if amount > ZERO:
            paid[project_id] = paid.get(project_id, 0) + 1


@dataclass(slots=True)
class Wanted:
    """What is to be read besides sums and counts: SKUs by reading, and those whose price looks at events."""

    readings: dict[Reading, list[str]] = field(default_factory=lambda: defaultdict(list))
    by_event: list[str] = field(default_factory=list)


def carried_skus(terms: Terms) -> set[str]:
    """Name the SKUs whose levels hold on from before a period."""
    return {sku for sku, term in terms.by_sku.items() if term.aggregation.carries_over}


def wanted(terms: Terms, usages: Iterable[Usage]) -> Wanted:
    """Tell what the prices of the used SKUs ask for, and of those of which a level may hold without any event."""
    found = Wanted()
    used = {usage.sku for usage in usages} & set(terms.by_sku)
    for sku in sorted(used | carried_skus(terms)):
        term = terms.by_sku[sku]
        source = term.price.source
        if source is Source.AMOUNTS:
            found.by_event.append(sku)
        elif source is Source.QUANTITIES:
            found.readings[Reading(term.aggregation, term.price.dimension)].append(sku)
        elif term.aggregation not in _READ_FIRST:
            found.readings[Reading(term.aggregation)].append(sku)
    return found


def with_values(
    usages: Sequence[Usage], reading: Reading, skus: Iterable[str], rows: Iterable[ValueUsage]
) -> list[Usage] | str:
    """Put a reading to the usages of its SKUs; the name of a SKU whose usage moved meanwhile, if any did."""
    by_project: dict[tuple[str, str], list[ValueUsage]] = defaultdict(list)
    for row in rows:
        by_project[row.sku, row.project_id].append(row)
    chosen = set(skus)
    put = []
    for usage in usages:
        if usage.sku in chosen:
            found = by_project.pop((usage.sku, usage.project_id), [])
            if sum(row.event_count for row in found) != usage.event_count:
                return usage.sku
            put.append(_with_values(usage, reading, found))
        else:
            put.append(usage)
    for (sku, project_id), found in by_project.items():
        if any(row.event_count for row in found):
            # A project that the first reading did not see.
            return sku
        put.append(_with_values(Usage(sku, project_id, ZERO, 0), reading, found))
    return put


def _with_values(usage: Usage, reading: Reading, rows: Sequence[ValueUsage]) -> Usage:
    counts = reading.aggregation is Aggregation.COUNT
    quantities: dict[str, Decimal] = {}
    for row in rows:
        units = Decimal(row.event_count) if counts else row.total
        quantities[row.value] = EXACT.add(quantities.get(row.value, ZERO), units)
    total = ZERO
    for units in quantities.values():
        total = EXACT.add(total, units)
    # What is counted keeps its sum: the number of events is its quantity already.
    kept = usage.total if counts else total
    return replace(usage, total=kept, quantities=quantities if reading.dimension else None)


def with_events(
    usages: Sequence[Usage], sku: str, by_project: Mapping[str, Events]
) -> list[Usage] | str:
    """Put the events of a SKU to its usages; its name, if its usage moved meanwhile."""
    put = []
    seen = set()
    for usage in usages:
        if usage.sku == sku:
            found = by_project.get(usage.project_id)
            if found is None or found.event_count != usage.event_count:
                return sku
            if found.tally.amount != usage.total:
                return sku
            seen.add(usage.project_id)
            put.append(replace(usage, tally=found.tally))
        else:
            put.append(usage)
    return sku if set(by_project) - seen else put


def moved_between(whole: Iterable[Usage], parts: Iterable[Iterable[Usage]]) -> str:
    """Return the SKU of which the parts of a period have not the events of the whole; "" when all have them."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for usage in whole:
        counts[usage.sku, usage.project_id] += usage.event_count
    for part in parts:
        for usage in part:
            counts[usage.sku, usage.project_id] -= usage.event_count
    return next((sku for (sku, _), count in sorted(counts.items()) if count), "")
