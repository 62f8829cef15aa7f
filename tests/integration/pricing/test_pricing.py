"""PricingService on a real server with a real Postgres and the real metering."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf import json_format
from payments.metering.v1 import (
    metering_pb2,
    metering_service_pb2,
    metering_service_pb2_grpc,
    receipts_pb2,
)
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_pb2,
    pricing_service_pb2,
)
from payments.pricing.v1 import pricing_service_pb2_grpc as grpc_stubs
from payments.type.v1 import type_pb2

from services.pricing import manifest
from services.runtime.clock import ManualClock
from services.runtime.errors import Code, DependencyUnavailable
from services.runtime.service import Runtime, Service, Servicer
from tests.support.billing.metering import NOW, batch, event
from tests.support.billing.pricing import TOKEN_TIERS, declaration, demo, refusal
from tests.support.mesh.serving import Mesh, Served, running
from tests.support.postgres.server import DatabaseUrls

DAY = timedelta(days=1)
TODAY = datetime(2026, 11, 20, tzinfo=UTC)
Step = pricing_pb2.PriceStep
Proof = pricing_pb2.LineProof


def evaluation(price: dict[str, Any], **inputs: str) -> pricing_service_pb2.EvaluatePriceRequest:
    written = {"currency_code": inputs.pop("currency_code", "USD"), "price": price, "input": inputs}
    return json_format.ParseDict(written, pricing_service_pb2.EvaluatePriceRequest())


def rating(
    org_id: str, start_at: datetime = TODAY, length: timedelta = DAY
) -> pricing_service_pb2.RateUsageRequest:
    request = pricing_service_pb2.RateUsageRequest(org_id=org_id)
    request.period.start_at.FromDatetime(start_at)
    request.period.end_at.FromDatetime(start_at + length)
    return request


def used(org_id: str, sku: str, *quantities: str, project_id: str = "web") -> list[Any]:
    """Make an event for each quantity, a microsecond apart."""
    return [
        event(
            f"{org_id}-{sku}-{project_id}-{number}",
            org_id=org_id,
            project_id=project_id,
            sku=sku,
            quantity=quantity,
            at=NOW - timedelta(microseconds=number),
        )
        for number, quantity in enumerate(quantities)
    ]


async def ingested(metering_stub: Any, *events: Any) -> None:
    answer = await metering_stub.IngestEvents(batch(*events))
    assert answer.accepted == len(events), answer


GRADUATED = {"graduated": {"tiers": TOKEN_TIERS}}


@pytest.mark.parametrize(
    ("price", "inputs", "exact", "minor_units", "billable"),
    [
        (GRADUATED, {"quantity": "18059974"}, "50.149935000000000000", 5015, "18059974"),
        (
            {"per_unit": {"unit_amount": "0.000015"}, "included_qty": "100000"},
            {"quantity": "245896"},
            "2.188440000000000000",
            219,
            "145896",
        ),
        (
            {"package": {"package_size": "1000", "package_amount": "0.50"}},
            {"quantity": "8819"},
            "4.500000000000000000",
            450,
            "8819",
        ),
        (
            {"per_unit": {"unit_amount": "0.005"}},
            {"quantity": "0.999999999999999999"},
            "0.005000000000000000",
            0,
            "0.999999999999999999",
        ),
        ({"flat": {"amount": "9.99"}}, {"quantity": "0"}, "9.990000000000000000", 999, "0"),
        (
            {"flat": {"amount": "1.2345"}},
            {"quantity": "1", "currency_code": "KWD"},
            "1.234500000000000000",
            1235,
            "1",
        ),
        (
            {"flat": {"amount": "100.5"}},
            {"quantity": "1", "currency_code": "JPY"},
            "100.500000000000000000",
            101,
            "1",
        ),
        (
            {"graduated": {"tiers": [{"up_to": "5", "flat_amount": "3"}, {"flat_amount": "4"}]}},
            {"quantity": "1", "prior_quantity": "5"},
            "4.000000000000000000",
            400,
            "1",
        ),
        (
            {"flat": {"amount": "3"}},
            {"quantity": "1", "prior_quantity": "5"},
            "0.000000000000000000",
            0,
            "1",
        ),
    ],
)
async def test_a_price_is_evaluated(
    pricing_stub: Any,
    price: dict[str, Any],
    inputs: dict[str, str],
    exact: str,
    minor_units: int,
    billable: str,
) -> None:
    currency_code = inputs.get("currency_code", "USD")
    answer = await pricing_stub.EvaluatePrice(evaluation(price, **inputs))
    assert answer.exact_amount == exact
    assert answer.amount == type_pb2.Money(currency_code=currency_code, minor_units=minor_units)
    assert answer.billable_quantity == billable


async def test_an_evaluation_shows_its_arithmetic(pricing_stub: Any) -> None:
    price = {**GRADUATED, "included_qty": "5"}
    answer = await pricing_stub.EvaluatePrice(
        evaluation(price, quantity="3", prior_quantity="10000003")
    )
    assert list(answer.lines) == [
        Step(
            kind=Step.KIND_TIER,
            from_quantity="9999998",
            to_quantity="10000000",
            units="2",
            unit_amount="0.000003",
            flat_amount="0",
            amount="0.000006",
        ),
        Step(
            kind=Step.KIND_TIER,
            from_quantity="10000000",
            to_quantity="10000001",
            units="1",
            unit_amount="0.0000025",
            flat_amount="0",
            amount="0.0000025",
        ),
    ]


@pytest.mark.parametrize(
    ("request_", "reason", "code", "fields"),
    [
        (
            evaluation({"graduated": {"tiers": [{"up_to": "5"}]}}, quantity="1"),
            "INVALID_FIELD",
            Code.INVALID_ARGUMENT,
            ["price.graduated.tiers[0].up_to"],
        ),
        (
            evaluation({"package": {"package_size": "0", "package_amount": "1"}}, quantity="1"),
            "INVALID_FIELD",
            Code.INVALID_ARGUMENT,
            ["price.package.package_size"],
        ),
        (evaluation({}, quantity="1"), "INVALID_FIELD", Code.INVALID_ARGUMENT, None),
        (
            evaluation({"flat": {"amount": "1"}}, quantity="-1"),
            "INVALID_FIELD",
            Code.INVALID_ARGUMENT,
            ["input.quantity"],
        ),
        (
            evaluation({"flat": {"amount": "1e5"}}, quantity="1"),
            "INVALID_FIELD",
            Code.INVALID_ARGUMENT,
            ["price.flat.amount"],
        ),
        (
            evaluation({"flat": {"amount": "1"}}, quantity="1", currency_code="XXQ"),
            "UNKNOWN_CURRENCY",
            Code.INVALID_ARGUMENT,
            [],
        ),
        (
            evaluation({"flat": {"amount": "99999999999999999999"}}, quantity="1"),
            "AMOUNT_OVERFLOW",
            Code.OUT_OF_RANGE,
            [],
        ),
    ],
)
async def test_what_cannot_be_evaluated_is_refused(
    pricing_stub: Any, request_: Any, reason: str, code: Code, fields: list[str] | None
) -> None:
    failed = await refusal(pricing_stub.EvaluatePrice(request_))
    assert (failed.reason, failed.code) == (reason, code)
    if fields is not None:
        assert [field.field for field in failed.fields] == fields


async def test_the_demo_is_rated_to_the_cent(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    await catalog.ApplyCatalog(declaration(demo()))
    traces = {
        "code-assist": ("18059974", "245896", 8819, [5015, 219, 450], 5684),
        "chat": ("22361870", "4088665", 19366, [5972, 5983, 1000], 12955),
    }
    for org_id, (tokens_in, tokens_out, calls, amounts, total) in traces.items():
        await ingested(
            metering_stub,
            *used(org_id, "llm.input_tokens", "4", str(int(tokens_in) - 4)),
            *used(org_id, "llm.output_tokens", tokens_out),
            *used(org_id, "llm.requests", str(calls)),
        )
        rated = await pricing_stub.RateUsage(rating(org_id))
        found = [(line.sku, line.amount.minor_units) for line in rated.lines]
        skus = ["llm.input_tokens", "llm.output_tokens", "llm.requests"]
        assert found == list(zip(skus, amounts, strict=True))
        assert rated.total == type_pb2.Money(currency_code="USD", minor_units=total)
        earning = {(line.partner_id, line.partner_pct) for line in rated.lines}
        assert earning == ({("northwind", "10")} if org_id == "code-assist" else {("", "")})


async def test_a_line_carries_its_whole_proof(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    written = demo()
    written["entitlements"][1] = {
        "org_id": "chat",
        "plan_id": "standard-usd",
        "effective_at": "2026-11-01T00:00:00Z",
        "overrides": [
            {
                "sku": "llm.requests",
                "price": {"per_unit": {"unit_amount": "0.0333"}, "included_qty": "4"},
            }
        ],
    }
    await catalog.ApplyCatalog(declaration(written))
    await ingested(
        metering_stub,
        *used("chat", "llm.requests", "1", "2", project_id="app"),
        *used("chat", "llm.requests", "2.5"),
    )
    request = rating("chat")
    rated = await pricing_stub.RateUsage(request)
    first, second = rated.lines
    assert (first.project_id, first.quantity, first.amount.minor_units) == ("app", "3", 0)
    assert (second.project_id, second.quantity, second.amount.minor_units) == ("web", "2.5", 5)
    assert second.exact_amount == "0.049950000000000000"
    proof = second.proof
    assert rated.usage_snapshot == proof.usage_snapshot != ""
    assert rated.usage_ordinal > 0
    assert (rated.plan_id, rated.plan_version) == ("standard-usd", 1)
    head = await metering_stub.GetLogHead(
        receipts_pb2.GetLogHeadRequest(tree_size=rated.usage_ordinal)
    )
    expected = Proof(
        period=request.period,
        aggregation=type_pb2.AGGREGATION_SUM,
        usage_snapshot=rated.usage_snapshot,
        usage_ordinal=rated.usage_ordinal,
        usage_log_root=head.head.root_hash,
        event_count=1,
        plan_source=Proof.PLAN_SOURCE_ENTITLEMENT,
        plan_id="standard-usd",
        plan_version=1,
        overridden=True,
        prior_quantity="3",
        included_qty_used="1",
        billable_quantity="1.5",
        unrounded="0.04995",
        rounding=pricing_pb2.ROUNDING_HALF_UP,
        rounding_places=2,
        prior_amount="0",
        part_no=2,
        quantity="2.5",
    )
    expected.first_event_at.FromDatetime(NOW)
    expected.last_event_at.FromDatetime(NOW)
    expected.entitlement_effective_at.FromJsonString("2026-11-01T00:00:00Z")
    expected.price.per_unit.unit_amount = "0.0333"
    expected.price.included_qty = "4"
    expected.steps.add(
        kind=Step.KIND_INCLUDED,
        from_quantity="3",
        to_quantity="4",
        units="1",
        unit_amount="0",
        flat_amount="0",
        amount="0",
    )
    expected.steps.add(
        kind=Step.KIND_PER_UNIT,
        from_quantity="0",
        to_quantity="1.5",
        units="1.5",
        unit_amount="0.0333",
        flat_amount="0",
        amount="0.04995",
    )
    assert proof == expected
    assert first.proof.event_count == 2
    assert first.proof.first_event_at.ToDatetime(tzinfo=UTC) == NOW - timedelta(microseconds=1)


async def test_rating_is_the_same_each_time_and_stores_nothing(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    await catalog.ApplyCatalog(declaration(demo()))
    await ingested(metering_stub, *used("chat", "llm.requests", "1"))
    first = await pricing_stub.RateUsage(rating("chat"))
    second = await pricing_stub.RateUsage(rating("chat"))
    assert [line.amount for line in first.lines] == [line.amount for line in second.lines]


async def test_an_organisation_without_a_plan_is_refused(catalog: Any, pricing_stub: Any) -> None:
    await catalog.ApplyCatalog(declaration(demo()))
    failed = await refusal(pricing_stub.RateUsage(rating("stranger")))
    assert (failed.reason, failed.code) == ("NO_PLAN", Code.FAILED_PRECONDITION)
    assert failed.metadata["org_id"] == "stranger"
    asked = {"org_id": "stranger", "skus": {"llm.requests": "1"}, "leads": "1"}
    estimate = json_format.ParseDict(asked, pricing_service_pb2.EstimateRequest())
    assert (await refusal(pricing_stub.Estimate(estimate))).reason == "NO_PLAN"


def on_model(default_plan_id: str = "", plan_id: str = "") -> dict[str, Any]:
    """Return the demo's catalogue with `chat` on a business model instead of an entitlement."""
    written = demo()
    written["entitlements"] = []
    other = copy.deepcopy(written["plans"][0])
    other["plan_id"] = "other-usd"
    written["plans"].append(other)
    model = {"model_id": "m", "currency_code": "USD", "default_plan_id": default_plan_id}
    written["business_models"] = [model]
    written["org_business_models"] = [{"org_id": "chat", "model_id": "m", "plan_id": plan_id}]
    return written


@pytest.mark.parametrize(
    ("written", "plan_id", "source"),
    [
        (on_model("standard-usd"), "standard-usd", Proof.PLAN_SOURCE_MODEL_DEFAULT),
        (on_model("standard-usd", "other-usd"), "other-usd", Proof.PLAN_SOURCE_ORG_BUSINESS_MODEL),
    ],
)
async def test_a_business_model_gives_the_plan_where_no_entitlement_does(
    catalog: Any,
    metering_stub: Any,
    pricing_stub: Any,
    written: dict[str, Any],
    plan_id: str,
    source: Proof.PlanSource.ValueType,
) -> None:
    await catalog.ApplyCatalog(declaration(written))
    await ingested(metering_stub, *used("chat", "llm.requests", "1"))
    rated = await pricing_stub.RateUsage(rating("chat"))
    assert rated.plan_id == plan_id
    assert [line.proof.plan_source for line in rated.lines] == [source]
    assert not rated.lines[0].proof.HasField("entitlement_effective_at")


async def test_a_model_without_a_default_plan_gives_none(catalog: Any, pricing_stub: Any) -> None:
    await catalog.ApplyCatalog(declaration(on_model()))
    assert (await refusal(pricing_stub.RateUsage(rating("chat")))).reason == "NO_PLAN"


async def test_usage_that_the_plan_does_not_price_is_named(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    written = demo()
    written["skus"] += [{"sku": "gpu.seconds"}, {"sku": "disk.bytes"}]
    await catalog.ApplyCatalog(declaration(written))
    await ingested(
        metering_stub,
        *used("chat", "llm.requests", "1"),
        *used("chat", "gpu.seconds", "1"),
        *used("chat", "disk.bytes", "1"),
    )
    failed = await refusal(pricing_stub.RateUsage(rating("chat")))
    assert (failed.reason, failed.code) == ("SKU_NOT_PRICED", Code.FAILED_PRECONDITION)
    assert failed.metadata == {
        "skus": "disk.bytes,gpu.seconds",
        "plan_id": "standard-usd",
        "plan_version": "1",
    }


async def test_a_counted_sku_counts_events(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    written = demo()
    written["skus"][2]["aggregation"] = "AGGREGATION_COUNT"
    await catalog.ApplyCatalog(declaration(written))
    await ingested(metering_stub, *used("chat", "llm.requests", "5000", "7000"))
    (line,) = (await pricing_stub.RateUsage(rating("chat"))).lines
    assert (line.quantity, line.amount.minor_units) == ("2", 50)
    assert line.proof.aggregation == type_pb2.AGGREGATION_COUNT


async def test_a_later_entitlement_supersedes_and_a_change_inside_is_refused(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    written = demo()
    written["plans"].append(
        {
            "plan_id": "dear-usd",
            "currency_code": "USD",
            "prices": [{"sku": "llm.requests", "price": {"per_unit": {"unit_amount": "3"}}}],
        }
    )
    noon = TODAY + timedelta(hours=12)
    moved = {"org_id": "chat", "plan_id": "dear-usd", "effective_at": noon.isoformat()}
    written["entitlements"].append(moved)
    await catalog.ApplyCatalog(declaration(written))
    await ingested(metering_stub, *used("chat", "llm.requests", "1"))
    failed = await refusal(pricing_stub.RateUsage(rating("chat")))
    assert (failed.reason, failed.code) == ("PLAN_CHANGES_IN_PERIOD", Code.FAILED_PRECONDITION)
    assert failed.metadata == {"org_id": "chat", "change_at": "2026-11-20T12:00:00Z"}
    before = await pricing_stub.RateUsage(rating("chat", TODAY, timedelta(hours=12)))
    after = await pricing_stub.RateUsage(rating("chat", noon, timedelta(hours=12)))
    assert (before.plan_id, before.total.minor_units) == ("standard-usd", 50)
    assert (after.plan_id, list(after.lines)) == ("dear-usd", [])


async def test_a_period_is_rated_by_the_list_that_holds_at_its_start(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    written = demo()
    await catalog.ApplyCatalog(declaration(written))
    await ingested(metering_stub, *used("chat", "llm.requests", "1"))
    price = {"package": {"package_size": "1000", "package_amount": "2"}}
    written["plans"][0]["prices"][2]["price"] = price
    await catalog.ApplyCatalog(declaration(written))
    # Published at 09:30: the day began under the first list, half past nine under the second.
    rated = await pricing_stub.RateUsage(rating("chat"))
    assert (rated.plan_version, rated.total.minor_units) == (1, 50)
    rated = await pricing_stub.RateUsage(rating("chat", NOW))
    assert (rated.plan_version, rated.total.minor_units) == (2, 200)
    # A list that is to hold in the past must say so.
    written["plans"][0]["prices"][2]["price"]["package"]["package_amount"] = "3"
    written["plans"][0]["effective_at"] = TODAY.isoformat()
    await catalog.ApplyCatalog(declaration(written))
    rated = await pricing_stub.RateUsage(rating("chat"))
    assert (rated.plan_version, rated.total.minor_units) == (3, 300)


async def test_a_plan_without_a_list_at_that_time_rates_nothing(
    catalog: Any, pricing_stub: Any
) -> None:
    written = demo()
    written["plans"][0]["effective_at"] = "2026-12-01T00:00:00Z"
    await catalog.ApplyCatalog(declaration(written))
    failed = await refusal(pricing_stub.RateUsage(rating("chat")))
    assert (failed.reason, failed.metadata["plan_id"]) == ("NO_PLAN", "standard-usd")


@pytest.mark.parametrize(
    ("record", "shares"),
    [
        ({}, [("northwind", 5000)]),
        ({"start_at": "2026-11-20T06:00:00Z"}, [("", 1250), ("northwind", 3750)]),
        ({"end_at": "2026-11-20T06:00:00Z"}, [("northwind", 1250), ("", 3750)]),
        # The microsecond has less than half a minor unit.
        ({"end_at": "2026-11-20T00:00:00.000001Z"}, [("northwind", 0), ("", 5000)]),
    ],
)
async def test_a_line_is_shared_out_where_who_earns_changes(
    catalog: Any,
    metering_stub: Any,
    pricing_stub: Any,
    record: dict[str, str],
    shares: list[tuple[str, int]],
) -> None:
    written = demo()
    written["partners_of_record"][0].update(record)
    await catalog.ApplyCatalog(declaration(written))
    await ingested(metering_stub, *used("code-assist", "llm.requests", "99999.5"))
    rated = await pricing_stub.RateUsage(rating("code-assist"))
    assert [(line.partner_id, line.amount.minor_units) for line in rated.lines] == shares
    assert rated.total.minor_units == 5000
    rules = [line.proof.commission for line in rated.lines]
    assert [bool(rule.stretches) for rule in rules] == [len(shares) > 1] * len(shares)
    earned = [rule for rule in rules if rule.partner_tier]
    assert [(rule.partner_tier, rule.rate_sku) for rule in earned] == [("gold", "")]
    assert {line.proof.quantity for line in rated.lines} == {"99999.5"}


async def test_a_dispute_is_named_until_it_ends_and_then_who_it_ended_for_earns(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    written = demo()
    (record,) = written["partners_of_record"]
    record["status"] = "STATUS_DISPUTED"
    record["dispute"] = {"dispute_id": "d-1", "opened_at": "2026-11-01T00:00:00Z"}
    written["partners"].append({"partner_id": "south", "tier": "blue"})
    written["commission_rates"].append({"partner_tier": "blue", "sku": "llm.requests", "pct": "7"})
    await catalog.ApplyCatalog(declaration(written))
    await ingested(metering_stub, *used("code-assist", "llm.requests", "1"))

    async def told() -> list[tuple[str, str, str]]:
        lines = (await pricing_stub.RateUsage(rating("code-assist"))).lines
        return [(line.partner_id, line.partner_pct, line.dispute_id) for line in lines]

    assert await told() == [("northwind", "10", "d-1")]
    record["dispute"]["resolution"] = {
        "partner_id": "south",
        "resolved_at": "2026-11-19T00:00:00Z",
    }
    await catalog.ApplyCatalog(declaration(written))
    assert await told() == [("south", "7", "")]
    record["dispute"]["resolution"]["partner_id"] = "northwind"
    failed = await refusal(catalog.ApplyCatalog(declaration(written)))
    assert failed.reason == "DISPUTE_CONFLICT"


async def test_more_changes_of_partners_than_a_period_may_have_are_refused(
    catalog: Any, pricing_stub: Any
) -> None:
    written = demo()
    written["partners_of_record"] = [
        {
            "org_id": "code-assist",
            "partner_id": "northwind",
            "start_at": f"2026-11-20T00:{minute:02}:00Z",
            "end_at": f"2026-11-20T00:{minute:02}:30Z",
        }
        for minute in range(33)
    ]
    await catalog.ApplyCatalog(declaration(written))
    failed = await refusal(pricing_stub.RateUsage(rating("code-assist")))
    assert failed.reason == "PLAN_CHANGES_IN_PERIOD"


async def test_a_dispute_may_end_for_nobody(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    written = demo()
    (record,) = written["partners_of_record"]
    record["status"] = "STATUS_DISPUTED"
    at = "2026-11-01T00:00:00Z"
    record["dispute"] = {"dispute_id": "d", "opened_at": at, "resolution": {"resolved_at": at}}
    await catalog.ApplyCatalog(declaration(written))
    await ingested(metering_stub, *used("code-assist", "llm.requests", "1"))
    (line,) = (await pricing_stub.RateUsage(rating("code-assist"))).lines
    assert (line.partner_id, line.partner_pct, line.dispute_id) == ("", "", "")
    assert not line.proof.HasField("commission")
    # Under an id that is taken.
    record_of_another = {**record, "org_id": "chat"}
    catalogue = {"partners_of_record": [record_of_another]}
    failed = await refusal(catalog.ApplyCatalog(declaration(catalogue)))
    assert (failed.reason, failed.metadata["dispute_id"]) == ("DISPUTE_CONFLICT", "d")


@pytest.mark.parametrize(
    ("record", "earns"),
    [
        ({"start_at": "2026-11-20T00:00:00Z"}, True),
        ({"end_at": "2026-11-20T00:00:00Z"}, False),
        ({"status": "STATUS_DISPUTED"}, False),
        ({"status": "STATUS_EXPIRED"}, False),
    ],
)
async def test_the_partner_of_the_whole_period_earns(
    catalog: Any, metering_stub: Any, pricing_stub: Any, record: dict[str, str], earns: bool
) -> None:
    written = demo()
    written["partners_of_record"][0].update(record)
    written["commission_rates"].append(
        {"partner_tier": "gold", "sku": "llm.requests", "pct": "12.50"}
    )
    await catalog.ApplyCatalog(declaration(written))
    await ingested(
        metering_stub,
        *used("code-assist", "llm.requests", "1"),
        *used("code-assist", "llm.input_tokens", "1"),
    )
    lines = (await pricing_stub.RateUsage(rating("code-assist"))).lines
    found = [(line.sku, line.partner_id, line.partner_pct) for line in lines]
    partner = "northwind" if earns else ""
    assert found == [
        ("llm.input_tokens", partner, "10" if earns else ""),
        ("llm.requests", partner, "12.5" if earns else ""),
    ]


async def test_the_partner_of_a_billing_account_earns_before_the_organisations_own(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    written = demo()
    written["partners"].append({"partner_id": "group-partner", "name": "G", "tier": "group"})
    written["commission_rates"].append({"partner_tier": "group", "pct": "4"})
    written["billing_account_orgs"] = [{"billing_account_id": "group-1", "org_id": "code-assist"}]
    account: dict[str, str] = {"billing_account_id": "group-1", "partner_id": "group-partner"}
    written["billing_account_partners"] = [account]
    await catalog.ApplyCatalog(declaration(written))
    await ingested(metering_stub, *used("code-assist", "llm.requests", "1"))

    async def earning() -> list[tuple[str, str, str]]:
        lines = (await pricing_stub.RateUsage(rating("code-assist"))).lines
        return [
            (line.partner_id, line.partner_pct, line.proof.commission.billing_account_id)
            for line in lines
        ]

    assert await earning() == [("group-partner", "4", "group-1")]
    # Over, or the organisation paid for by nobody: its own partner again.
    account["status"] = "STATUS_EXPIRED"
    await catalog.ApplyCatalog(declaration({"billing_account_partners": [account]}))
    own = [("northwind", "10", "")]
    assert await earning() == own
    account["status"] = "STATUS_ACTIVE"
    left = {**written["billing_account_orgs"][0], "end_at": "2020-01-01T00:00:00Z"}
    over = {"billing_account_partners": [account], "billing_account_orgs": [left]}
    await catalog.ApplyCatalog(declaration(over))
    assert await earning() == own
    found = await catalog.ListBillingAccountOrgs(
        catalog_service_pb2.ListBillingAccountOrgsRequest()
    )
    assert [each.org_id for each in found.billing_account_orgs] == ["code-assist"]
    partners = await catalog.ListBillingAccountPartners(
        catalog_service_pb2.ListBillingAccountPartnersRequest()
    )
    assert len(partners.billing_account_partners) == 1


async def test_an_estimate_previews_the_bill(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    written = demo()
    written["skus"].append({"sku": "seat"})
    written["plans"][0]["prices"].append({"sku": "seat", "price": {"flat": {"amount": "25"}}})
    await catalog.ApplyCatalog(declaration(written))
    asked = {
        "org_id": "chat",
        "project_id": "web",
        "skus": {"llm.output_tokens": "812.5", "llm.requests": "3"},
        "leads": "500",
    }
    request = json_format.ParseDict(asked, pricing_service_pb2.EstimateRequest())
    answer = await pricing_stub.Estimate(request)
    assert json_format.MessageToDict(answer, preserving_proto_field_name=True) == {
        "base": {"currency_code": "USD", "minor_units": "2500"},
        "lines": [
            {
                "sku": "llm.output_tokens",
                "included": "100000",
                "overage": "306250",
                "total": {"currency_code": "USD", "minor_units": "459"},
                "exact_total": "4.593750000000000000",
            },
            {
                "sku": "llm.requests",
                "included": "0",
                "overage": "1500",
                "total": {"currency_code": "USD", "minor_units": "100"},
                "exact_total": "1.000000000000000000",
            },
        ],
        "grand_total": {"currency_code": "USD", "minor_units": "3059"},
    }
    await ingested(
        metering_stub,
        *used("chat", "llm.output_tokens", "406250"),
        *used("chat", "llm.requests", "1500"),
    )
    rated = await pricing_stub.RateUsage(rating("chat"))
    assert rated.total == answer.grand_total


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"org_id": "chat", "skus": {"gpu": "1"}, "leads": "1"}, "SKU_NOT_PRICED"),
        ({"org_id": "chat", "skus": {"llm.requests": "-1"}, "leads": "1"}, "INVALID_FIELD"),
        ({"org_id": "chat", "skus": {}, "leads": "1"}, "INVALID_FIELD"),
        (
            {"org_id": "chat", "skus": {"llm.requests": "0.0000000001"}, "leads": "0.0000000001"},
            "INVALID_FIELD",
        ),
        (
            {
                "org_id": "chat",
                "skus": {"llm.requests": "9999999999"},
                "leads": "9999999999",
            },
            "AMOUNT_OVERFLOW",
        ),
    ],
)
async def test_what_cannot_be_estimated_is_refused(
    catalog: Any, pricing_stub: Any, asked: dict[str, Any], reason: str
) -> None:
    written = demo()
    written["plans"][0]["prices"][2]["price"]["package"]["package_amount"] = "5000"
    await catalog.ApplyCatalog(declaration(written))
    request = json_format.ParseDict(asked, pricing_service_pb2.EstimateRequest())
    assert (await refusal(pricing_stub.Estimate(request))).reason == reason


async def test_no_tenant_rates_by_anothers_catalogue(
    mesh: Mesh, catalog: Any, metering_stub: Any
) -> None:
    await catalog.ApplyCatalog(declaration(demo()))
    await ingested(metering_stub, *used("chat", "llm.requests", "1"))
    other = grpc_stubs.PricingServiceStub(mesh.channel("t-somebody-else"))
    assert (await refusal(other.RateUsage(rating("chat")))).reason == "NO_PLAN"


class FakeMetering(metering_service_pb2_grpc.MeteringServiceServicer):
    """Answers QueryUsage with the rows that a test gives it, or not at all."""

    def __init__(self) -> None:
        self.rows: list[metering_pb2.UsageRow] = []
        self.down = False

    async def QueryUsage(  # noqa: N802
        self, request: metering_service_pb2.QueryUsageRequest, context: Any
    ) -> metering_service_pb2.QueryUsageResponse:
        """Answer."""
        if self.down:
            raise DependencyUnavailable("metering is down", service="metering")
        return metering_service_pb2.QueryUsageResponse(rows=self.rows, usage_snapshot="7:9:")

    def build(self, runtime: Runtime) -> Service:
        """Build it as a service of the mesh."""
        add = metering_service_pb2_grpc.add_MeteringServiceServicer_to_server
        return Service([Servicer(add, self, "payments.metering.v1.MeteringService")])


@pytest.fixture
async def fake_metering(
    database: DatabaseUrls, tenant: str
) -> AsyncIterator[tuple[FakeMetering, Any]]:
    """A metering of the test's own, and pricing that asks it; the demo's catalogue is applied."""
    fake = FakeMetering()  # type: ignore[abstract] # it answers only what pricing asks
    builds: Served = [manifest.SERVICE, fake.build]
    async with running(database, builds, clock=ManualClock(NOW)) as served:
        channel = served.channel(tenant)
        catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        await catalog.ApplyCatalog(declaration(demo()))
        yield fake, grpc_stubs.PricingServiceStub(channel)


async def test_a_sum_below_zero_is_not_rated(fake_metering: tuple[FakeMetering, Any]) -> None:
    fake, pricing_stub = fake_metering
    fake.rows = [
        metering_pb2.UsageRow(sku="llm.requests", project_id="web", value="-3", event_count=1)
    ]
    failed = await refusal(pricing_stub.RateUsage(rating("chat")))
    assert (failed.reason, failed.code) == ("USAGE_NOT_RATEABLE", Code.FAILED_PRECONDITION)
    assert failed.metadata == {"sku": "llm.requests", "project_id": "web", "quantity": "-3"}


async def test_metering_that_is_down_is_said_to_be(fake_metering: tuple[FakeMetering, Any]) -> None:
    fake, pricing_stub = fake_metering
    fake.down = True
    failed = await refusal(pricing_stub.RateUsage(rating("chat")))
    assert (failed.reason, failed.code) == ("DEPENDENCY_UNAVAILABLE", Code.UNAVAILABLE)
    fake.down = False
    assert (await pricing_stub.RateUsage(rating("chat"))).usage_snapshot == "7:9:"


EVERY_MODEL: dict[str, dict[str, Any]] = {
    "flat": {"flat": {"amount": "9.99"}, "minimum_amount": "1", "maximum_amount": "20"},
    "per_unit": {
        "per_unit": {"unit_amount": "2"},
        "unit_conversion": {
            "operation": "OPERATION_DIVIDE",
            "factor": "1000",
            "rounding": "ROUNDING_CEILING",
        },
        "included_qty": "1",
        "discount_percent": "12.5",
    },
    "graduated": GRADUATED,
    "volume": {"volume": {"tiers": [{"up_to": "10", "unit_amount": "2"}, {"unit_amount": "1"}]}},
    "package": {"package": {"package_size": "10", "package_amount": "12"}},
    "percentage": {
        "percentage": {
            "rate_percent": "1.5",
            "fixed_per_event": "0.30",
            "free_events": "3",
            "free_amount": "100",
            "minimum_per_event": "0.50",
            "maximum_per_event": "10",
        }
    },
    "graduated_percentage": {
        "graduated_percentage": {
            "tiers": [{"up_to": "100", "rate_percent": "3", "flat_amount": "1"}, {}]
        }
    },
    "stairstep": {
        "stairstep": {
            "dimension": "resource",
            "steps": [{"limits": {"cpu": "2", "disk": "50"}, "amount": "20"}, {"amount": "60"}],
        }
    },
    "matrix": {
        "matrix": {
            "dimension": "region",
            "cells": {"eu": "0.02", "": "1"},
            "default_unit_amount": "0.03",
        }
    },
    "dynamic": {"dynamic": {}},
}


def with_prices(prices: dict[str, dict[str, Any]], **aggregations: str) -> dict[str, Any]:
    """Return a catalogue whose SKUs are called like the models of their prices."""
    return {
        "skus": [
            {"sku": sku, "aggregation": f"AGGREGATION_{aggregations.get(sku, 'SUM')}"}
            for sku in prices
        ],
        "plans": [
            {
                "plan_id": "all",
                "currency_code": "USD",
                "prices": [{"sku": sku, "price": price} for sku, price in prices.items()],
            }
        ],
        "entitlements": [{"org_id": "acme", "plan_id": "all"}],
    }


async def test_a_catalogue_keeps_every_model_as_it_was_declared(catalog: Any) -> None:
    oneof = pricing_pb2.Price.DESCRIPTOR.oneofs_by_name["model"]
    assert [field.name for field in oneof.fields] == list(EVERY_MODEL)
    written = with_prices(EVERY_MODEL)
    await catalog.ApplyCatalog(declaration(written))
    again = await catalog.ApplyCatalog(declaration(written))
    assert {change.kind for change in again.changes} == {
        catalog_service_pb2.CatalogChange.KIND_UNCHANGED
    }
    answer = await catalog.GetPlan(catalog_service_pb2.GetPlanRequest(plan_id="all"))
    read = {item.sku: item.price for item in answer.plan.prices}
    assert read.keys() == EVERY_MODEL.keys()
    assert read["dynamic"].WhichOneof("model") == "dynamic"
    stairs = read["stairstep"].stairstep
    assert dict(stairs.steps[0].limits) == {"cpu": "2", "disk": "50"}
    assert dict(read["matrix"].matrix.cells) == {"eu": "0.02", "": "1"}
    assert read["percentage"].percentage.free_events == 3
    assert read["per_unit"].unit_conversion.factor == "1000"
    # What is read is a declaration that changes nothing.
    plan = json_format.MessageToDict(answer.plan, preserving_proto_field_name=True)
    back = await catalog.ApplyCatalog(declaration({"plans": [plan]}))
    assert [change.kind for change in back.changes] == [
        catalog_service_pb2.CatalogChange.KIND_UNCHANGED
    ]


async def test_usage_is_rated_by_value_over_all_projects_and_as_money(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    chosen = ("matrix", "stairstep", "volume", "dynamic", "graduated_percentage")
    await catalog.ApplyCatalog(declaration(with_prices({sku: EVERY_MODEL[sku] for sku in chosen})))
    events = []
    for sku, project_id, quantity, metadata in (
        ("matrix", "a", "100", {"region": "eu"}),
        ("matrix", "a", "2", {}),
        ("matrix", "b", "10", {"region": "mars"}),
        ("stairstep", "a", "2", {"resource": "cpu"}),
        ("stairstep", "b", "51", {"resource": "disk"}),
        ("volume", "a", "6", {}),
        ("volume", "b", "6", {}),
        ("dynamic", "a", "1.25", {}),
        ("dynamic", "a", "0.333", {}),
        ("graduated_percentage", "a", "250", {}),
    ):
        made = used("acme", sku, quantity, project_id=project_id)[0]
        made.request_id = f"{made.request_id}-{quantity}"
        made.metadata.update(metadata)
        events.append(made)
    await ingested(metering_stub, *events)
    rated = await pricing_stub.RateUsage(rating("acme"))
    found = {(line.sku, line.project_id): line.proof.unrounded for line in rated.lines}
    assert found == {
        ("dynamic", "a"): "1.583",
        ("graduated_percentage", "a"): "4",
        ("matrix", "a"): "4",
        ("matrix", "b"): "0.3",
        ("stairstep", "a"): "20",
        ("stairstep", "b"): "40",
        ("volume", ""): "12",
    }
    lines = {(line.sku, line.project_id): line for line in rated.lines}
    matrix = lines["matrix", "a"].proof
    assert [(step.kind, step.label, step.amount) for step in matrix.steps] == [
        (Step.KIND_CELL, "", "2"),
        (Step.KIND_CELL, "eu", "2"),
    ]
    assert dict(matrix.quantities) == {"": "2", "eu": "100"}
    last = lines["stairstep", "b"].proof
    assert dict(last.prior_quantities) == {"cpu": "2"}
    assert (last.prior_amount, last.steps[0].label) == ("20", "2")
    assert lines["volume", ""].quantity == "12"


async def test_a_price_by_event_sorts_each_event_in_the_order_of_its_time(
    catalog: Any, metering_stub: Any, pricing_stub: Any
) -> None:
    prices = {"percentage": EVERY_MODEL["percentage"]}
    await catalog.ApplyCatalog(declaration(with_prices(prices)))
    # `used` goes back in time: of the first project 60 come before 60, of which 20 are beyond the free amount.
    await ingested(
        metering_stub,
        *used("acme", "percentage", "0", "60", "60", project_id="a"),
        *used("acme", "percentage", "1", "1000", project_id="b"),
    )
    rated = await pricing_stub.RateUsage(rating("acme"))
    assert [(line.project_id, line.quantity, line.exact_amount) for line in rated.lines] == [
        ("a", "120", "0.600000000000000000"),
        # At the most that an event costs, and at the least.
        ("b", "1001", "10.500000000000000000"),
    ]
    whole = {"amounts": ["60", "60", "0", "1000", "1"]}
    asked = {"currency_code": "USD", "price": prices["percentage"], "input": whole}
    evaluated = await pricing_stub.EvaluatePrice(
        json_format.ParseDict(asked, pricing_service_pb2.EvaluatePriceRequest())
    )
    assert evaluated.exact_amount == "11.100000000000000000"


async def test_an_evaluation_takes_events_and_values(pricing_stub: Any) -> None:
    def asked(name: str, given: dict[str, Any]) -> pricing_service_pb2.EvaluatePriceRequest:
        written = {"currency_code": "USD", "price": EVERY_MODEL[name], "input": given}
        return json_format.ParseDict(written, pricing_service_pb2.EvaluatePriceRequest())

    events = asked("percentage", {"amounts": ["60", "60", "0", "1000"]})
    answer = await pricing_stub.EvaluatePrice(events)
    # 20 beyond the free amount cost 0.60; the third event stays at its maximum.
    assert answer.exact_amount == "10.600000000000000000"
    behind = {"amounts": ["1"], "prior_quantity": "120", "prior_event_count": "2"}
    answer = await pricing_stub.EvaluatePrice(asked("percentage", behind))
    assert answer.exact_amount == "0.500000000000000000"
    answer = await pricing_stub.EvaluatePrice(asked("matrix", {"quantities": {"eu": "100"}}))
    assert (answer.exact_amount, answer.billable_quantity) == ("2.000000000000000000", "100")
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("matrix", {"quantity": "1"}, "PRICE_INPUT_MISSING"),
        ("stairstep", {"quantities": {"gpu": "1"}}, "DIMENSION_NOT_PRICED"),
        ("volume", {"quantity": "1", "prior_quantity": "1"}, "PRICE_NOT_SPLITTABLE"),
        ("flat", {}, "INVALID_FIELD"),
    ]
    for name, given, reason in refused:
        assert (await refusal(pricing_stub.EvaluatePrice(asked(name, given)))).reason == reason


async def test_a_pair_that_cannot_work_is_refused_also_when_the_sku_changes(catalog: Any) -> None:
    prices = {"percentage": EVERY_MODEL["percentage"], "matrix": EVERY_MODEL["matrix"]}
    failed = await refusal(
        catalog.ApplyCatalog(declaration(with_prices(prices, percentage="COUNT")))
    )
    assert failed.reason == "AGGREGATION_NOT_PRICEABLE"
    await catalog.ApplyCatalog(declaration(with_prices(prices, matrix="COUNT")))
    # A newer version no longer prices it by event, but the published one does.
    newer = with_prices({"percentage": {"flat": {"amount": "1"}}, "matrix": prices["matrix"]})
    newer["skus"] = []
    await catalog.ApplyCatalog(declaration(newer))
    counted = {"skus": [{"sku": "percentage", "aggregation": "AGGREGATION_UNIQUE"}]}
    failed = await refusal(catalog.ApplyCatalog(declaration(counted)))
    assert failed.metadata == {
        "sku": "percentage",
        "aggregation": "UNIQUE",
        "model": "percentage",
    }
    overrides = [{"sku": "matrix", "price": EVERY_MODEL["dynamic"]}]
    held = {"entitlements": [{"org_id": "acme", "plan_id": "all", "overrides": overrides}]}
    assert (await refusal(catalog.ApplyCatalog(declaration(held)))).reason == failed.reason
