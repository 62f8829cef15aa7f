"""Periods in which an organisation moves from plan to plan: rated part by part, estimated alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from payments.pricing.v1 import catalog_service_pb2, pricing_pb2, pricing_service_pb2
from payments.type.v1 import type_pb2

from tests.support.billing.metering import batch, event
from tests.support.billing.pricing import declaration, refusal

START = datetime(2026, 11, 19, tzinfo=UTC)
DAYS = 5
END = START + timedelta(days=DAYS)
CHANGE = START + timedelta(days=1, hours=7)


def plan(plan_id: str, fee: str, unit: str, **more: Any) -> dict[str, Any]:
    """A fee by the period, and usage beyond included units."""
    calls = {"per_unit": {"unit_amount": unit}, "included_qty": "10"}
    return {
        "plan_id": plan_id,
        "currency_code": "USD",
        "proration": "PRORATION_DAY",
        "prices": [
            {"sku": "fee", "price": {"flat": {"amount": fee}}},
            {"sku": "calls", "price": calls},
        ],
        **more,
    }


def shelf(old: dict[str, Any] | None = None, new: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "skus": [{"sku": "fee"}, {"sku": "calls"}],
        "plans": [plan("old", "10", "0.5") | (old or {}), plan("new", "30", "0.25") | (new or {})],
        "entitlements": [
            {"org_id": "acme", "plan_id": "old"},
            {"org_id": "acme", "plan_id": "new", "effective_at": CHANGE.isoformat()},
        ],
    }


def period(start_at: datetime = START, end_at: datetime = END) -> type_pb2.Period:
    found = type_pb2.Period()
    found.start_at.FromDatetime(start_at)
    found.end_at.FromDatetime(end_at)
    return found


def rating(**bounds: datetime) -> pricing_service_pb2.RateUsageRequest:
    return pricing_service_pb2.RateUsageRequest(org_id="acme", period=period(**bounds))


async def use(metering_stub: Any, *used: tuple[datetime, str]) -> None:
    events = [
        event(f"u{number}", org_id="acme", project_id="web", sku="calls", quantity=quantity, at=at)
        for number, (at, quantity) in enumerate(used)
    ]
    answer = await metering_stub.IngestEvents(batch(*events))
    assert answer.accepted == len(events), answer


def told(line: pricing_pb2.RatedLine) -> tuple[str, str, str, int]:
    return line.sku, line.proof.plan_id, line.quantity, line.amount.minor_units


async def test_each_part_is_rated_by_its_own_plan(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    await catalog.ApplyCatalog(declaration(shelf()))
    await use(
        metering_stub, (START, "12"), (CHANGE - timedelta(microseconds=1), "2"), (CHANGE, "11")
    )
    rated = await pricing_stub.RateUsage(rating())
    # One of five days of the old plan: 2 of 10 included units and 2.00 of 10.00; four of the new one.
    assert [told(line) for line in rated.lines] == [
        ("calls", "old", "14", 600),
        ("calls", "new", "11", 75),
        ("fee", "old", "0", 200),
        ("fee", "new", "0", 2400),
    ]
    assert rated.total.minor_units == 3275
    assert (rated.plan_id, rated.plan_version) == ("old", 1)
    assert list(rated.parts) == [
        pricing_pb2.RatedPart(period=period(START, CHANGE), plan_id="old", plan_version=1),
        pricing_pb2.RatedPart(period=period(CHANGE, END), plan_id="new", plan_version=1),
    ]


async def test_a_proof_names_the_part_its_share_and_both_prices(
    catalog: Any, pricing_stub: Any
) -> None:
    await catalog.ApplyCatalog(declaration(shelf()))
    old, new = (await pricing_stub.RateUsage(rating())).lines
    assert (old.proof.period, new.proof.period) == (period(START, CHANGE), period(CHANGE, END))
    assert new.proof.proration == pricing_pb2.ProrationShare(
        unit=pricing_pb2.PRORATION_DAY, from_units=1, until_units=5, period_units=5
    )
    assert new.proof.whole_price.flat.amount == "30"
    assert new.proof.price.flat.amount == "24"
    assert (new.exact_amount, new.proof.unrounded) == ("24.000000000000000000", "24")
    (step,) = new.proof.steps
    assert (step.kind, step.amount) == (pricing_pb2.PriceStep.KIND_FLAT, "24")
    # Anybody can do the sum again: the price in the proof, applied to the quantity, is the amount.
    again = await pricing_stub.EvaluatePrice(
        pricing_service_pb2.EvaluatePriceRequest(
            currency_code="USD",
            price=new.proof.price,
            input=pricing_service_pb2.PriceInput(quantity=new.quantity),
        )
    )
    assert again.amount == new.amount


async def test_a_period_of_one_plan_is_rated_as_ever(catalog: Any, pricing_stub: Any) -> None:
    await catalog.ApplyCatalog(declaration(shelf()))
    rated = await pricing_stub.RateUsage(rating(end_at=CHANGE))
    (line,) = rated.lines
    assert (line.amount.minor_units, len(rated.parts)) == (1000, 1)
    assert not line.proof.HasField("proration")
    assert not line.proof.HasField("whole_price")


@pytest.mark.parametrize(
    ("proration", "fees"),
    [
        # By days 1 and 4 of 5; by seconds 31 and 89 of 120 hours.
        ("PRORATION_DAY", (200, 2400)),
        ("PRORATION_SECOND", (258, 2225)),
        ("PRORATION_NONE", (1000, 3000)),
    ],
)
async def test_a_plan_says_by_what_it_is_prorated(
    catalog: Any, pricing_stub: Any, proration: str, fees: tuple[int, int]
) -> None:
    setting = {"proration": proration}
    await catalog.ApplyCatalog(declaration(shelf(setting, setting)))
    rated = await pricing_stub.RateUsage(rating())
    assert tuple(line.amount.minor_units for line in rated.lines) == fees


async def test_what_no_plan_says_is_not_guessed(catalog: Any, pricing_stub: Any) -> None:
    silent = {"proration": "PRORATION_UNSPECIFIED"}
    await catalog.ApplyCatalog(declaration(shelf(new=silent)))
    failed = await refusal(pricing_stub.RateUsage(rating()))
    assert (failed.reason, failed.metadata["change_at"]) == (
        "PLAN_CHANGES_IN_PERIOD",
        "2026-11-20T07:00:00Z",
    )
    assert "plan new does not say" in failed.message
    # To say it is another version of the list; it holds from now on, and for the past when it says so.
    said = plan("new", "30", "0.25", effective_at="2026-11-01T00:00:00Z")
    (change,) = (await catalog.ApplyCatalog(declaration({"plans": [said]}))).changes
    assert change.after["version"] == 2
    assert len((await pricing_stub.RateUsage(rating())).parts) == 2


async def test_parts_in_different_currencies_are_not_added_up(
    catalog: Any, pricing_stub: Any
) -> None:
    await catalog.ApplyCatalog(declaration(shelf(new={"currency_code": "EUR"})))
    failed = await refusal(pricing_stub.RateUsage(rating()))
    assert failed.reason == "PLAN_CHANGES_IN_PERIOD"
    assert "different currencies" in failed.message


async def test_own_prices_begin_and_end_inside_a_period(catalog: Any, pricing_stub: Any) -> None:
    own = [{"sku": "fee", "price": {"flat": {"amount": "5"}}}]
    catalogue = shelf()
    catalogue["entitlements"] = [
        {"org_id": "acme", "plan_id": "old"},
        {
            "org_id": "acme",
            "plan_id": "old",
            "overrides": own,
            "effective_at": (START + timedelta(days=2)).isoformat(),
        },
        {
            "org_id": "acme",
            "plan_id": "old",
            "effective_at": (START + timedelta(days=4)).isoformat(),
        },
    ]
    await catalog.ApplyCatalog(declaration(catalogue))
    rated = await pricing_stub.RateUsage(rating())
    found = [(line.amount.minor_units, line.proof.overridden) for line in rated.lines]
    assert found == [(400, False), (200, True), (200, False)]


async def test_amounts_of_parts_sum_exactly_to_the_whole(catalog: Any, pricing_stub: Any) -> None:
    # Only the other price differs, so that the fee of 10 is due once, in sevenths of it.
    week = {"start_at": START, "end_at": START + timedelta(days=7)}
    dearer = [{"sku": "calls", "price": {"per_unit": {"unit_amount": "1"}}}]
    catalogue = shelf()
    catalogue["entitlements"] = [
        {
            "org_id": "acme",
            "plan_id": "old",
            "overrides": dearer if day % 2 else [],
            "effective_at": (START + timedelta(days=day)).isoformat(),
        }
        for day in range(7)
    ]
    await catalog.ApplyCatalog(declaration(catalogue))
    rated = await pricing_stub.RateUsage(rating(**week))
    exact = [Decimal(line.exact_amount) for line in rated.lines]
    assert len(exact) == 7
    assert sum(exact) == 10
    assert exact[0] == Decimal("1.428571428571428571")


async def test_an_organisation_comes_from_its_business_model(
    catalog: Any, pricing_stub: Any
) -> None:
    catalogue = shelf()
    catalogue["business_models"] = [
        {"model_id": "m", "currency_code": "USD", "default_plan_id": "old"}
    ]
    catalogue["org_business_models"] = [{"org_id": "acme", "model_id": "m"}]
    catalogue["entitlements"] = []
    await catalog.ApplyCatalog(declaration(catalogue))
    moving = catalog_service_pb2.MigratePlanRequest(
        request_id="0190c1de-0000-7000-8000-000000000001", plan_id="old", to_plan_id="new"
    )
    moving.effective_at.FromDatetime(CHANGE)
    assert (await catalog.MigratePlan(moving)).remaining == 0
    rated = await pricing_stub.RateUsage(rating())
    sources = [line.proof.plan_source for line in rated.lines]
    assert sources == [
        pricing_pb2.LineProof.PLAN_SOURCE_MODEL_DEFAULT,
        pricing_pb2.LineProof.PLAN_SOURCE_ENTITLEMENT,
    ]
    assert rated.total.minor_units == 2600


async def test_an_estimate_of_a_period_is_what_is_charged_for_it(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    await catalog.ApplyCatalog(declaration(shelf()))
    # 31 of 120 hours lie before the change: 31 units of 120, spread evenly.
    await use(metering_stub, (START, "31"), (CHANGE, "89"))
    charged = await pricing_stub.RateUsage(rating())
    request = pricing_service_pb2.EstimateRequest(
        org_id="acme", skus={"calls": "1.5"}, leads="80", period=period()
    )
    found = await pricing_stub.Estimate(request)
    assert found.grand_total == charged.total
    assert found.base.minor_units == 2600
    (line,) = found.lines
    assert (line.included, line.overage) == ("10", "110")
    exact = [Decimal(item.exact_amount) for item in charged.lines if item.sku == "calls"]
    assert Decimal(line.exact_total) == sum(exact)
    # Without a period it is one like any, on the plan of now.
    request.ClearField("period")
    assert (await pricing_stub.Estimate(request)).base.minor_units == 3000


async def test_a_peak_of_parts_is_refused_and_a_level_adds_up(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    catalogue = shelf()
    catalogue["skus"][1]["aggregation"] = "AGGREGATION_P95"
    await catalog.ApplyCatalog(declaration(catalogue))
    await use(metering_stub, (START - timedelta(days=2), "2"), (CHANGE, "3"))
    lines = (await pricing_stub.RateUsage(rating())).lines
    assert [line.quantity for line in lines if line.sku == "calls"] == ["3"]
    estimated = pricing_service_pb2.EstimateRequest(
        org_id="acme", skus={"calls": "1"}, leads="1", period=period()
    )
    failed = await refusal(pricing_stub.Estimate(estimated))
    assert failed.reason == "PLAN_CHANGES_IN_PERIOD"
    more = event("more", org_id="acme", project_id="web", sku="calls", quantity="9", at=START)
    await metering_stub.IngestEvents(batch(more))
    failed = await refusal(pricing_stub.RateUsage(rating()))
    assert (failed.reason, failed.metadata["org_id"]) == ("PLAN_CHANGES_IN_PERIOD", "acme")
    assert "the P95 of calls in its parts does not add up" in str(failed)
    # A level of 9 for the 31 hours before the change, and of 3 for the 89 behind it.
    catalogue["skus"][1]["aggregation"] = "AGGREGATION_WEIGHTED_SUM"
    await catalog.ApplyCatalog(declaration(catalogue))
    lines = (await pricing_stub.RateUsage(rating())).lines
    found = [(line.quantity, line.proof.event_count) for line in lines if line.sku == "calls"]
    assert found == [("279", 1), ("267", 1)]


async def test_too_many_changes_are_refused(catalog: Any, pricing_stub: Any) -> None:
    catalogue = shelf()
    catalogue["entitlements"] = [
        {
            "org_id": "acme",
            "plan_id": "new" if hour % 2 else "old",
            "effective_at": (START + timedelta(hours=hour)).isoformat(),
        }
        for hour in range(33)
    ]
    await catalog.ApplyCatalog(declaration(catalogue))
    failed = await refusal(pricing_stub.RateUsage(rating()))
    assert failed.reason == "PLAN_CHANGES_IN_PERIOD"
    assert "more than 31 times" in failed.message
    assert (
        len((await pricing_stub.RateUsage(rating(end_at=START + timedelta(hours=32)))).parts) == 32
    )
