"""Moving organisations from plan to plan: which entitlements change, and how many fit into a batch."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from services.pricing.domain.catalog import Entitlement, PlanPrice
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.moves import WEIGHT_MAX, Leaving, Migration, batch, move
from services.pricing.domain.prices import Price

D = Decimal
OWN = (PlanPrice("fee", Price(flat=Flat(D(1)))),)


def at(month: int) -> datetime:
    return datetime(2026, month, 1, tzinfo=UTC)


def leaving(version: int = 0, to: str = "q", to_version: int = 0, **more: bool) -> Leaving:
    drop = more.get("drop", False)
    wanted = Migration("p", version, to, to_version, at(6), drop, 100)
    return Leaving(wanted, unpinned=more.get("unpinned", version == 0))


def held(plan_id: str, month: int, version: int = 0) -> Entitlement:
    return Entitlement("acme", plan_id, OWN, at(month), version)


def test_what_holds_at_the_instant_ends_and_what_comes_later_names_the_other_plan() -> None:
    found = move(leaving(), "acme", [held("p", 1), held("p", 8), held("r", 9)], by_model=False)
    assert found.before == held("p", 1)
    assert found.after == held("q", 6)
    assert [(change.before, change.after) for change in found.changes] == [
        (None, held("q", 6)),
        (held("p", 8), held("q", 8)),
    ]
    assert found.later_count == 1


def test_what_begins_at_the_instant_is_changed() -> None:
    found = move(leaving(drop=True), "acme", [held("r", 1), held("p", 6)], by_model=False)
    (change,) = found.changes
    assert change.before == held("p", 6)
    assert change.after == Entitlement("acme", "q", (), at(6))


def test_who_is_on_the_plan_by_its_model_gets_an_entitlement() -> None:
    found = move(leaving(), "acme", [held("p", 8)], by_model=True)
    assert (found.before, found.after) == (None, Entitlement("acme", "q", (), at(6)))
    assert found.later_count == 1
    # Without it only what comes later is moved.
    found = move(leaving(), "acme", [held("p", 8)], by_model=False)
    assert (found.after, found.later_count) == (None, 1)


def test_versions_are_told_apart() -> None:
    pinned = leaving(version=2, to="p", to_version=3)
    assert [pinned.holds(held("p", 1, version)) for version in (0, 1, 2, 3)] == [
        False,
        False,
        True,
        False,
    ]
    also_unpinned = leaving(version=2, to="p", to_version=3, unpinned=True)
    assert also_unpinned.holds(held("p", 1))
    anybody = leaving(to="p", to_version=3)
    assert [anybody.holds(held("p", 1, version)) for version in (0, 2, 3)] == [True, True, False]


def test_a_batch_is_bounded_by_what_its_prices_weigh() -> None:
    ladder = Price(graduated=Graduated((Tier(D(1)),) * 997 + (Tier(),)))
    heavy = Entitlement("acme", "p", (PlanPrice("calls", ladder),), at(1))
    found = [(f"o{number}", [heavy], False) for number in range(9)]
    assert [item.org_id for item in batch(leaving(), found)] == ["o0", "o1", "o2", "o3", "o4"]
    light = [(f"o{number}", [held("p", 1)], False) for number in range(9)]
    assert len(batch(leaving(), light)) == 9
    (alone,) = batch(leaving(), [("o", [heavy] * (WEIGHT_MAX // 500), False), *found])
    assert alone.org_id == "o"
