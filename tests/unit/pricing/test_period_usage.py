"""Reading the usage of a period as its prices ask for it: several readings, all of the same events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing.app.usage import READINGS_MAX, PeriodUsage
from services.pricing.domain.catalog import Aggregation
from services.pricing.domain.errors import (
    DimensionNotPriced,
    PlanChangesInPeriod,
    PriceInputMissing,
    UsageMoved,
)
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.matrix import Matrix
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.models.stairstep import Stair, Stairstep
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.models.volume import Volume
from services.pricing.domain.prices import Price
from services.pricing.domain.rating import (
    Line,
    PartTerms,
    PlanSource,
    Span,
    Term,
    Terms,
    Usage,
    check_parts,
    estimate,
    rate,
)
from services.pricing.domain.readings import Reading, ValueUsage
from services.pricing.ports import UsageSnapshot
from tests.support.pricing import slow

D = Decimal
START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
CARD = Percentage(D(2), D("0.30"), free_events=2, free_amount=D(50), maximum_per_event=D(3))
TERMS = Terms(
    plan_id="p",
    plan_version=1,
    currency_code="USD",
    source=PlanSource.ENTITLEMENT,
    entitlement_at=None,
    by_sku={
        "calls": Term(
            Price(matrix=Matrix("region", {"eu": D(1), "us": D(2)})), aggregation=Aggregation.COUNT
        ),
        "card": Term(Price(percentage=CARD, minimum_amount=D(1))),
        "compute": Term(Price(matrix=Matrix("region", {"eu": D(2)}, D(3)), maximum_amount=D(100))),
        "peak": Term(Price(per_unit=PerUnit(D(5))), aggregation=Aggregation.MAX),
        "seats": Term(
            Price(
                stairstep=Stairstep(
                    (Stair(D(10), {"dev": D(2), "ops": D(1)}), Stair(D(99))), "role"
                )
            ),
            aggregation=Aggregation.MAX,
        ),
        "storage": Term(Price(volume=Volume((Tier(D(10), D(2)), Tier(None, D(1)))))),
    },
)


@dataclass(frozen=True)
class Event:
    """A usage event."""

    sku: str
    project_id: str
    quantity: Decimal
    value: str = ""


@dataclass
class Store:
    """Metering, kept in a list; more events arrive before the next readings.

    Attributes:
        tells_ordinals: its readings can be made as of an earlier state.
    """

    events: list[Event]
    arriving: list[Event] = field(default_factory=list)
    readings: int = 0
    page_events: int = 2
    tells_ordinals: bool = False

    async def read(
        self, org_id: str, start_at: datetime, end_at: datetime, at_ordinal: int | None
    ) -> UsageSnapshot:
        """Sum up everything."""
        self.readings += 1
        found = []
        for sku, project_id in sorted({(item.sku, item.project_id) for item in self.events}):
            chosen = self._of(sku, project_id, at_ordinal)
            total = sum((item.quantity for item in chosen), D(0))
            found.append(Usage(sku, project_id, total, len(chosen)))
        ordinal = (at_ordinal or len(self.events)) if self.tells_ordinals else None
        return UsageSnapshot(tuple(found), f"s{self.readings}", ordinal)

    async def read_values(
        self,
        org_id: str,
        start_at: datetime,
        end_at: datetime,
        reading: Reading,
        skus: Sequence[str],
        at_ordinal: int | None,
    ) -> list[ValueUsage]:
        """Aggregate by value."""
        self._arrive()
        found = []
        events = self.events[:at_ordinal]
        places = sorted({(e.sku, e.project_id, e.value) for e in events if e.sku in skus})
        if not reading.dimension:
            places = sorted({(sku, project_id, "") for sku, project_id, _ in places})
        for sku, project_id, value in places:
            chosen = [
                item
                for item in self._of(sku, project_id, at_ordinal)
                if not reading.dimension or item.value == value
            ]
            quantities = [item.quantity for item in chosen]
            peak = reading.aggregation is Aggregation.MAX
            total = max(quantities) if peak else sum(quantities, D(0))
            found.append(ValueUsage(sku, project_id, value, total, len(chosen)))
        return found

    async def amounts(
        self, org_id: str, sku: str, start_at: datetime, end_at: datetime, at_ordinal: int | None
    ) -> AsyncIterator[list[tuple[str, Decimal]]]:
        """Give events as they came, a few at a time."""
        self._arrive()
        events = self.events[:at_ordinal]
        chosen = [(item.project_id, item.quantity) for item in events if item.sku == sku]
        for start in range(0, len(chosen), self.page_events):
            yield chosen[start : start + self.page_events]

    def _of(self, sku: str, project_id: str, at_ordinal: int | None = None) -> list[Event]:
        events = self.events[:at_ordinal]
        return [e for e in events if (e.sku, e.project_id) == (sku, project_id)]

    def _arrive(self) -> None:
        if self.arriving:
            self.events.append(self.arriving.pop(0))


async def rated(store: Store) -> list[Line]:
    seen = await PeriodUsage(store).read(TERMS, "acme", START, END)
    return rate(TERMS, seen.usages)


def amounts(lines: list[Line]) -> dict[tuple[str, str], Decimal]:
    return {(line.usage.sku, line.usage.project_id): line.evaluation.exact for line in lines}


async def test_each_price_gets_the_usage_that_it_reads() -> None:
    store = Store(
        [
            Event("calls", "a", D(7), "eu"),
            Event("calls", "a", D(7), "us"),
            Event("calls", "a", D(7), "us"),
            Event("compute", "a", D(30), "eu"),
            Event("compute", "b", D(1), ""),
            Event("compute", "b", D(20), "eu"),
            Event("peak", "a", D(4)),
            Event("peak", "a", D(9)),
            Event("peak", "b", D(5)),
            Event("seats", "a", D(2), "dev"),
            Event("seats", "b", D(1), "dev"),
            Event("storage", "a", D(6)),
            Event("storage", "b", D(6)),
        ]
    )
    assert amounts(await rated(store)) == {
        ("calls", "a"): D(5),
        ("card", ""): D(1),
        ("compute", "a"): D(60),
        # 43 more, of which the maximum of 100 leaves 40.
        ("compute", "b"): D(40),
        ("peak", "a"): D(45),
        ("peak", "b"): D(25),
        ("seats", "a"): D(10),
        # A third developer is beyond the first step.
        ("seats", "b"): D(89),
        # Volume has no price of a part: one line prices both projects.
        ("storage", ""): D(12),
    }
    assert store.readings == 1


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.decimals(0, 60, places=2)), min_size=1, max_size=12
    ),
    st.integers(1, 4),
)
def test_events_of_projects_are_one_period_to_an_allowance(
    events: list[tuple[str, Decimal]], page_events: int
) -> None:
    ordered = sorted(events, key=lambda item: item[0])
    # They come by time, of all projects together.
    store = Store([Event("card", *item) for item in events], page_events=page_events)
    lines = [line for line in asyncio.run(rated(store)) if line.usage.sku == "card"]
    whole = slow.Used(amounts=[slow.fraction(amount) for _, amount in ordered])
    assert sum(amounts(lines).values()) == slow.cost(TERMS.by_sku["card"].price, whole)
    for line in lines:
        assert sum((step.amount for step in line.evaluation.steps), D(0)) == line.evaluation.exact


@pytest.mark.parametrize("sku", ["compute", "card", "peak"])
async def test_usage_that_moves_between_readings_is_read_again(sku: str) -> None:
    late = Event(sku, "a", D(5), "eu")
    store = Store([Event(sku, "a", D(4), "eu")], arriving=[late])
    (line,) = [line for line in await rated(store) if line.usage.sku == sku]
    assert (line.usage.event_count, store.readings) == (2, 2)
    # One of a project that the first reading did not see.
    store = Store([Event(sku, "a", D(4), "eu")], arriving=[Event(sku, "b", D(4), "eu")])
    assert len([line for line in await rated(store) if line.usage.sku == sku]) == 2


@pytest.mark.parametrize("sku", ["peak", "calls", "card"])
async def test_readings_as_of_one_ordinal_are_of_the_same_events(sku: str) -> None:
    arriving = [Event(sku, "a", D(5), "eu"), Event(sku, "b", D(5), "eu")]
    store = Store([Event(sku, "a", D(4), "eu")], arriving, tells_ordinals=True)
    seen = await PeriodUsage(store).read(TERMS, "acme", START, END)
    assert [(usage.total, usage.event_count) for usage in seen.usages] == [(D(4), 1)]
    assert (seen.ordinal, store.readings) == (1, 1)


@dataclass
class Levels(Store):
    """Metering of a SKU that is aggregated as a level: what holds in a project, with or without events."""

    held: dict[str, Decimal] = field(default_factory=dict)
    asked: list[Sequence[str]] = field(default_factory=list)

    async def read_values(
        self,
        org_id: str,
        start_at: datetime,
        end_at: datetime,
        reading: Reading,
        skus: Sequence[str],
        at_ordinal: int | None,
    ) -> list[ValueUsage]:
        """Tell what holds, and the events of the period."""
        self.asked.append(skus)
        self._arrive()
        return [
            ValueUsage(sku, project_id, "", hours, len(self._of(sku, project_id)))
            for sku in skus
            for project_id, hours in self.held.items()
        ]


def levels_of(count: int = 1) -> Terms:
    price = Price(per_unit=PerUnit(D(2)))
    terms = {
        f"disk{number}": Term(price, aggregation=Aggregation.WEIGHTED_SUM)
        for number in range(count)
    }
    return replace(TERMS, by_sku={"other": Term(price), **terms})


async def test_a_level_from_before_the_period_is_priced_without_an_event_of_it() -> None:
    store = Levels([Event("disk0", "a", D(4))], held={"a": D(30), "old": D(720)})
    seen = await PeriodUsage(store).read(levels_of(), "acme", START, END)
    lines = rate(levels_of(), seen.usages)
    assert amounts(lines) == {("disk0", "a"): D(60), ("disk0", "old"): D(1440)}
    assert [line.usage.event_count for line in lines] == [1, 0]
    # Not even the SKU has an event.
    store = Levels([Event("other", "a", D(4))], held={"old": D(720)})
    seen = await PeriodUsage(store).read(levels_of(), "acme", START, END)
    assert amounts(rate(levels_of(), seen.usages)) == {
        ("disk0", "old"): D(1440),
        ("other", "a"): D(8),
    }
    # An event of a project that the first reading did not see is noticed all the same.
    store = Levels([], arriving=[Event("disk0", "a", D(4))], held={"a": D(30)})
    seen = await PeriodUsage(store).read(levels_of(), "acme", START, END)
    assert ([usage.event_count for usage in seen.usages], store.readings) == ([1], 2)


async def test_many_skus_are_read_in_as_many_queries_as_they_need() -> None:
    store = Levels([], held={"a": D(1)})
    seen = await PeriodUsage(store).read(levels_of(1001), "acme", START, END)
    assert [len(skus) for skus in store.asked] == [1000, 1]
    assert len(seen.usages) == 1001


async def test_usage_that_never_stands_still_is_not_rated() -> None:
    store = Store([Event("compute", "a", D(4))], arriving=[Event("compute", "a", D(1))] * 9)
    with pytest.raises(UsageMoved) as caught:
        await rated(store)
    assert caught.value.metadata == {"org_id": "acme", "sku": "compute"}
    assert (store.readings, caught.value.retry_after_ms) == (READINGS_MAX, 1_000)


async def test_a_value_without_an_amount_names_its_sku() -> None:
    with pytest.raises(DimensionNotPriced) as caught:
        await rated(Store([Event("calls", "a", D(1), "mars")]))
    assert caught.value.metadata == {"dimension": "region", "values": "'mars'", "sku": "calls"}


def test_an_estimate_has_no_events_and_no_values() -> None:
    for sku, needs in (("card", "amounts"), ("compute", "quantities")):
        with pytest.raises(PriceInputMissing) as caught:
            estimate([PartTerms(Span(START, END), TERMS)], {sku: D(1)}, D(1))
        assert caught.value.metadata["needs"] == needs
        assert caught.value.metadata["sku"] == sku
    base, (line,) = estimate([PartTerms(Span(START, END), TERMS)], {"storage": D(2)}, D(6))
    # The minimum of card, and the first steps of seats.
    assert (base.minor_units, line.total.minor_units) == (1_100, 1_200)


HALF = [
    PartTerms(Span(START, START + (END - START) / 2), TERMS),
    PartTerms(Span(START + (END - START) / 2, END), TERMS),
]


@dataclass
class Halves(Store):
    """Metering whose events all lie in the first half of the period, and come to be seen between the readings."""

    late: int = 0

    async def read(
        self, org_id: str, start_at: datetime, end_at: datetime, at_ordinal: int | None
    ) -> UsageSnapshot:
        """Sum up the events of the first half."""
        seen = await super().read(org_id, start_at, end_at, at_ordinal)
        if self.late and start_at == START and end_at == END:
            self.late -= 1
            self.events.append(Event("storage", "a", D(1)))
        return seen if start_at == START else UsageSnapshot((), seen.snapshot)


@pytest.mark.parametrize("aggregation", Aggregation)
def test_parts_of_a_period_are_priced_where_they_make_up_the_whole(
    aggregation: Aggregation,
) -> None:
    """A peak of each half, priced as that of a month each, would cost twice as much as that of the month."""
    priced = Term(Price(per_unit=PerUnit(D(5))), aggregation=aggregation)
    flat = Term(Price(flat=Flat(D(5))), aggregation=aggregation)
    terms = replace(TERMS, by_sku={"base": flat, "bandwidth": priced, "peak": priced})
    parts = [PartTerms(part.span, terms) for part in HALF]
    apart = [Usage("base", "", D(1), 1), Usage("peak", "", D(4), 1)]
    check_parts("acme", parts, [apart, [apart[0], Usage("bandwidth", "", D(4), 1)]])
    both = [[Usage("peak", "a", D(4), 1)], [Usage("peak", "b", D(4), 1)]]
    if aggregation in {Aggregation.SUM, Aggregation.COUNT, Aggregation.WEIGHTED_SUM}:
        check_parts("acme", parts, both)
        return
    with pytest.raises(PlanChangesInPeriod, match="peak in its parts does not add up") as caught:
        check_parts("acme", parts, both)
    assert caught.value.metadata == {"org_id": "acme", "change_at": "2026-11-16T00:00:00Z"}


async def test_parts_are_read_of_the_same_events() -> None:
    store = Halves([Event("storage", "a", D(4))])
    (first, second), whole = await PeriodUsage(store).read_parts(HALF, "acme")
    assert ([usage.total for usage in first.usages], second.usages) == ([D(4)], ())
    assert whole.snapshot == "s1"
    moving = Halves([Event("storage", "a", D(4))], late=1)
    (first, _), whole = await PeriodUsage(moving).read_parts(HALF, "acme")
    assert ([usage.total for usage in first.usages], whole.snapshot) == ([D(5)], "s4")
    # As of an ordinal nothing moves.
    numbered = Halves([Event("storage", "a", D(4))], late=READINGS_MAX, tells_ordinals=True)
    (first, _), whole = await PeriodUsage(numbered).read_parts(HALF, "acme")
    assert ([usage.total for usage in first.usages], whole.ordinal) == ([D(4)], 1)
    with pytest.raises(UsageMoved) as caught:
        restless = Halves([Event("storage", "a", D(4))], late=READINGS_MAX)
        await PeriodUsage(restless).read_parts(HALF, "acme")
    assert caught.value.metadata == {"org_id": "acme", "sku": "storage"}
