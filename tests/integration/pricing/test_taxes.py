"""Taxes by the catalogue's table: on what is rated, on estimates, and on amounts that somebody asks about."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from payments.metering.v1 import metering_pb2, metering_service_pb2
from payments.pricing.v1 import catalog_service_pb2, pricing_pb2, pricing_service_pb2
from payments.type.v1.type_pb2 import Money, Period

from tests.support.billing.metering import NOW
from tests.support.billing.pricing import declaration, refusal

PERIOD = Period()
PERIOD.start_at.FromDatetime(datetime(NOW.year, NOW.month - 1, 1, tzinfo=UTC))
PERIOD.end_at.FromDatetime(datetime(NOW.year, NOW.month, 1, tzinfo=UTC))
LAST = PERIOD.end_at.ToDatetime(tzinfo=UTC)


def moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def shelf(**more: Any) -> Any:
    """Two SKUs, one of which has a tax code; acme is taxed in Quebec."""
    prices = [
        {"sku": "calls", "price": {"per_unit": {"unit_amount": "0.033"}}},
        {"sku": "seats", "price": {"flat": {"amount": "10"}}},
    ]
    declared = {
        "skus": [{"sku": "calls", "tax_code": "saas"}, {"sku": "seats"}],
        "plans": [{"plan_id": "p", "currency_code": "CAD", "prices": prices}],
        "entitlements": [{"org_id": "acme", "plan_id": "p"}],
        "tax_rates": [
            {"jurisdiction": "CA", "tax": "GST", "rate_percent": "5"},
            {"jurisdiction": "CA-QC", "tax": "QST", "rate_percent": "9.975"},
            {
                "jurisdiction": "CA-QC",
                "tax": "QST",
                "tax_code": "saas",
                "treatment": "TAX_TREATMENT_EXEMPT",
            },
        ],
        "tax_profiles": [{"org_id": "acme", "country": "CA", "region": "QC", "tax_id": "1"}],
    }
    return declaration({**declared, **more})


async def use(metering_stub: Any, quantity: str = "1000") -> None:
    settings = metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid.uuid4()))
    settings.accept_past.FromSeconds(90 * 86_400)
    await metering_stub.UpdateIngestSettings(settings)
    event = metering_pb2.UsageEvent(
        request_id=str(uuid.uuid4()), org_id="acme", sku="calls", quantity=quantity
    )
    event.event_time.FromDatetime(PERIOD.start_at.ToDatetime(tzinfo=UTC))
    answer = await metering_stub.IngestEvents(
        metering_service_pb2.IngestEventsRequest(events=[event])
    )
    assert answer.accepted == 1, answer


async def rated(pricing_stub: Any) -> pricing_service_pb2.RateUsageResponse:
    request = pricing_service_pb2.RateUsageRequest(org_id="acme", period=PERIOD)
    found: pricing_service_pb2.RateUsageResponse = await pricing_stub.RateUsage(request)
    return found


def told(taxes: Any) -> list[tuple[str, str, int, int]]:
    return [
        (
            each.tax,
            pricing_pb2.TaxTreatment.Name(each.treatment).removeprefix("TAX_TREATMENT_"),
            each.taxable_amount.minor_units,
            each.amount.minor_units,
        )
        for each in taxes
    ]


async def test_lines_bear_the_taxes_of_the_country_and_of_the_region(
    catalog: Any, pricing_stub: Any, metering_stub: Any
) -> None:
    await catalog.ApplyCatalog(shelf())
    await use(metering_stub)
    found = await rated(pricing_stub)
    assert [told(line.taxes) for line in found.lines] == [
        [("GST", "TAXED", 3300, 165), ("QST", "EXEMPT", 3300, 0)],
        [("GST", "TAXED", 1000, 50), ("QST", "TAXED", 1000, 100)],
    ]
    assert found.total.minor_units == 4300
    assert found.total_with_tax.minor_units == 4615
    proof = found.lines[0].proof.tax
    assert (proof.tax_code, proof.country, proof.region, proof.tax_id) == ("saas", "CA", "QC", "1")
    assert proof.taxed_at.ToNanoseconds() == PERIOD.end_at.ToNanoseconds() - 1000
    assert [*proof.taxes] == [*found.lines[0].taxes]
    again = await rated(pricing_stub)
    for line, same in zip(found.lines, again.lines, strict=True):
        assert same.proof.tax.SerializeToString() == line.proof.tax.SerializeToString()


async def test_an_estimate_comes_to_what_rating_the_same_usage_does(
    catalog: Any, pricing_stub: Any, metering_stub: Any
) -> None:
    await catalog.ApplyCatalog(shelf())
    await use(metering_stub, "1234.5")
    found = await rated(pricing_stub)
    asked: dict[str, Any] = {"org_id": "acme", "skus": {"calls": "12.345"}, "leads": "100"}
    for more in ({}, {"period": PERIOD}):
        request = pricing_service_pb2.EstimateRequest(**{**asked, **more})
        answer = await pricing_stub.Estimate(request)
        assert answer.grand_total == found.total
        assert [*answer.taxes] == [*found.taxes]
        assert answer.grand_total_with_tax == found.total_with_tax


async def test_the_end_of_the_period_decides(
    catalog: Any, pricing_stub: Any, metering_stub: Any
) -> None:
    rise = {"jurisdiction": "CA", "tax": "GST", "rate_percent": "6"}
    # From the next period on it is another rate, which this one does not know.
    await catalog.ApplyCatalog(shelf())
    await use(metering_stub)
    await catalog.ApplyCatalog(declaration({"tax_rates": [rise | {"effective_at": moment(LAST)}]}))
    assert (await rated(pricing_stub)).lines[0].taxes[0].rate_percent == "5"
    # Inside it, the rate at its end is that of all of it.
    inside = moment(LAST - timedelta(days=10))
    await catalog.ApplyCatalog(declaration({"tax_rates": [rise | {"effective_at": inside}]}))
    assert (await rated(pricing_stub)).lines[0].taxes[0].rate_percent == "6"


async def test_without_a_rate_in_force_nothing_is_taxed(
    catalog: Any, pricing_stub: Any, metering_stub: Any
) -> None:
    later = [
        {"jurisdiction": "CA", "tax": "GST", "rate_percent": "5", "effective_at": moment(LAST)}
    ]
    await catalog.ApplyCatalog(shelf(tax_rates=later, tax_profiles=[]))
    await use(metering_stub)
    found = await rated(pricing_stub)
    assert not found.taxes
    assert not found.HasField("total_with_tax")
    assert not any(line.taxes or line.proof.HasField("tax") for line in found.lines)


async def test_what_is_not_known_is_refused_or_left_untaxed(
    catalog: Any, pricing_stub: Any, metering_stub: Any
) -> None:
    await catalog.ApplyCatalog(shelf(tax_profiles=[]))
    await use(metering_stub)
    failed = await refusal(rated(pricing_stub))
    assert (failed.reason, failed.metadata["org_id"]) == ("TAX_PROFILE_MISSING", "acme")
    profile = {"org_id": "acme", "country": "DE"}
    await catalog.ApplyCatalog(declaration({"tax_profiles": [profile]}))
    failed = await refusal(rated(pricing_stub))
    assert (failed.reason, failed.metadata["jurisdiction"]) == ("TAX_RATE_MISSING", "DE")
    assert failed.metadata["tax_codes"] == ",saas"
    asked = pricing_service_pb2.EstimateRequest(org_id="acme", skus={"calls": "1"}, leads="1")
    failed = await refusal(pricing_stub.Estimate(asked))
    assert failed.reason == "TAX_RATE_MISSING"
    # A policy of another country says nothing of this one; the one for all does.
    for country in ("FR", ""):
        policy = {"country": country, "missing": "TAX_MISSING_UNTAXED"}
        await catalog.ApplyCatalog(declaration({"tax_policies": [policy]}))
        if country:
            assert (await refusal(rated(pricing_stub))).reason == "TAX_RATE_MISSING"
    found = await rated(pricing_stub)
    assert not found.taxes
    assert all(line.proof.tax.country == "DE" and not line.taxes for line in found.lines)


async def test_an_estimate_is_not_remembered_beyond_a_change_of_taxes(
    catalog: Any, pricing_stub: Any
) -> None:
    await catalog.ApplyCatalog(shelf())
    asked = pricing_service_pb2.EstimateRequest(org_id="acme", skus={"calls": "1"}, leads="100")
    before = await pricing_stub.Estimate(asked)
    assert before.grand_total_with_tax.minor_units == 1330 + 67 + 100
    changes: list[tuple[dict[str, Any], int]] = [
        (
            {"tax_rates": [{"jurisdiction": "CA", "tax": "GST", "rate_percent": "10"}]},
            1330 + 133 + 100,
        ),
        ({"tax_profiles": [{"org_id": "acme", "country": "CA"}]}, 1330 + 133),
        (
            {"tax_policies": [{"country": "CA", "rounding": "TAX_ROUNDING_DOCUMENT"}]},
            1330 + 133,
        ),
    ]
    for declared, expected in changes:
        await catalog.ApplyCatalog(declaration(declared))
        answer = await pricing_stub.Estimate(asked)
        assert answer.grand_total_with_tax.minor_units == expected


async def test_amounts_are_taxed_for_whoever_asks(catalog: Any, pricing_stub: Any) -> None:
    await catalog.ApplyCatalog(shelf())
    items = [
        pricing_service_pb2.TaxableItem(
            tax_code=code, amount=Money(currency_code="CAD", minor_units=minor)
        )
        for code, minor in (("saas", 3300), ("", 1000), ("", -1000))
    ]
    request = pricing_service_pb2.CalculateTaxRequest(org_id="acme", items=items)
    answer = await pricing_stub.CalculateTax(request)
    owed = [each.amount_with_tax.minor_units for each in answer.items]
    assert owed == [3465, 1150, -1150]
    assert answer.total_with_tax.minor_units == 3465
    items[0].amount.currency_code = "USD"
    request = pricing_service_pb2.CalculateTaxRequest(org_id="acme", items=items)
    assert (await refusal(pricing_stub.CalculateTax(request))).reason == "CURRENCY_MISMATCH"
    # Of a tenant without a tax table.
    empty = pricing_service_pb2.CalculateTaxRequest(org_id="acme", items=items[1:])
    empty.taxed_at.FromSeconds(0)
    assert (await pricing_stub.CalculateTax(empty)).total_with_tax.minor_units == 0


async def test_taxes_are_listed_page_by_page(catalog: Any) -> None:
    profiles = [{"org_id": f"org-{number}", "country": "CA"} for number in range(3)]
    policies = [{}, {"country": "CA"}, {"country": "DE"}]
    await catalog.ApplyCatalog(shelf(tax_profiles=profiles, tax_policies=policies))
    for method, kind, name, count in (
        ("ListTaxRates", catalog_service_pb2.ListTaxRatesRequest, "tax_rates", 3),
        ("ListTaxProfiles", catalog_service_pb2.ListTaxProfilesRequest, "tax_profiles", 3),
        ("ListTaxPolicies", catalog_service_pb2.ListTaxPoliciesRequest, "tax_policies", 3),
    ):
        found: list[Any] = []
        token = ""
        while True:
            answer = await getattr(catalog, method)(kind(page_size=2, page_token=token))
            found += getattr(answer, name)
            token = answer.next_page_token
            if not token:
                break
        assert len(found) == count
    only = catalog_service_pb2.ListTaxRatesRequest(jurisdiction="CA-QC")
    assert {each.tax for each in (await catalog.ListTaxRates(only)).tax_rates} == {"QST"}
    one = catalog_service_pb2.ListTaxProfilesRequest(org_id="org-1")
    assert len((await catalog.ListTaxProfiles(one)).tax_profiles) == 1


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"tax_rates": [{"jurisdiction": "ca", "tax": "GST", "rate_percent": "5"}]}, "INVALID"),
        ({"tax_rates": [{"jurisdiction": "CA", "tax": "GST", "rate_percent": "101"}]}, "INVALID"),
        ({"tax_rates": [{"jurisdiction": "CA", "tax": "GST"}]}, "INVALID"),
        ({"tax_profiles": [{"org_id": "acme", "country": "Canada"}]}, "INVALID"),
        (
            {
                "tax_rates": [
                    {"jurisdiction": "CA", "tax": f"T{number}", "rate_percent": "1"}
                    for number in range(5)
                ]
            },
            "TAXES_TOO_MANY",
        ),
    ],
)
async def test_what_no_tax_table_may_hold_is_refused(
    catalog: Any, declared: dict[str, Any], reason: str
) -> None:
    failed = await refusal(catalog.ApplyCatalog(declaration(declared)))
    assert failed.reason.startswith(reason)
