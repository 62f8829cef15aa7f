"""What applying a declaration changes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from services.pricing.domain.catalog import (
    Aggregation,
    BusinessModel,
    Catalog,
    CommissionRate,
    Dispute,
    Entitlement,
    Evidence,
    OrgBusinessModel,
    Partner,
    PartnerOfRecord,
    Plan,
    PlanPrice,
    RecordStatus,
    Resolution,
    Sku,
    Status,
    entity_id,
)
from services.pricing.domain.changes import (
    ChangeKind,
    PricedAt,
    StoredEntities,
    check,
    decide,
    entity_key,
    reaggregated,
)
from services.pricing.domain.errors import (
    AggregationNotPriceable,
    CatalogReferenceMissing,
    DisputeConflict,
    ModelCodeTaken,
    PartnersOverlap,
    PlanNotActive,
    PlanVersionFrozen,
)
from services.pricing.domain.models.dynamic import Dynamic
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.matrix import Matrix
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.models.table import MODELS
from services.pricing.domain.models.tiers import Tier
from services.pricing.domain.pairs import TAKES
from services.pricing.domain.prices import Price
from services.pricing.domain.values import BEGINNING, document
from services.runtime.errors import CurrencyMismatch, InvalidField, UnknownCurrency

D = Decimal

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


def price(amount: str) -> Price:
    return Price(flat=Flat(D(amount)))


SKU = Sku("fee")
PLAN = Plan("p", "USD", prices=(PlanPrice("fee", price("1")),))
PUBLISHED = replace(PLAN, version=3, effective_at=JANUARY)


def shelf(*entities: object) -> StoredEntities:
    return {entity_key(entity): entity for entity in entities}  # type: ignore[arg-type, misc]


def decided_plan(plan: Plan, stored: Plan | None) -> Plan:
    known = shelf(SKU) if stored is None else shelf(SKU, stored)
    (change,) = decide(Catalog(plans=(plan,)), known, NOW)
    assert isinstance(change.after, Plan)
    return change.after


def test_the_first_list_holds_from_the_beginning() -> None:
    plan = decided_plan(PLAN, None)
    assert (plan.version, plan.effective_at) == (1, BEGINNING)
    assert decided_plan(replace(PLAN, version=7), None).version == 7


def test_the_same_list_is_the_same_version() -> None:
    for version in (0, 3):
        known = shelf(SKU, PUBLISHED)
        (change,) = decide(Catalog(plans=(replace(PLAN, version=version),)), known, NOW)
        assert change.kind is ChangeKind.UNCHANGED


def test_a_list_that_differs_is_the_next_version_and_holds_from_now() -> None:
    dearer = replace(PLAN, prices=(PlanPrice("fee", price("2")),))
    plan = decided_plan(dearer, PUBLISHED)
    assert (plan.version, plan.effective_at) == (4, NOW)
    plan = decided_plan(replace(dearer, effective_at=JANUARY, version=9), PUBLISHED)
    assert (plan.version, plan.effective_at) == (9, JANUARY)


def test_a_new_name_is_no_new_version() -> None:
    plan = decided_plan(replace(PLAN, name="Standard"), PUBLISHED)
    assert (plan.name, plan.version, plan.effective_at) == ("Standard", 3, JANUARY)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_published_version_never_changes(version: int) -> None:
    dearer = replace(PLAN, prices=(PlanPrice("fee", price("2")),), version=version)
    with pytest.raises(PlanVersionFrozen) as caught:
        decided_plan(dearer, PUBLISHED)
    assert caught.value.metadata == {
        "plan_id": "p",
        "version": str(version),
        "newest_version": "3",
    }


def test_a_stale_version_is_refused_even_with_the_newest_list() -> None:
    with pytest.raises(PlanVersionFrozen):
        decided_plan(replace(PLAN, version=2), PUBLISHED)


def test_equal_lists_are_equal_in_any_order_and_notation() -> None:
    first, second = PlanPrice("a", price("1.0")), PlanPrice("b", price("2"))
    left = Plan("p", "USD", prices=(second, first))
    right = Plan("p", "USD", prices=(PlanPrice("a", price("1")), second))
    assert left == right
    assert document(left) == document(right)


def test_everything_missing_is_named_at_once() -> None:
    catalog = Catalog(
        plans=(PLAN, replace(PLAN, plan_id="q", model_id="m", prices=())),
        entitlements=(Entitlement("acme", "gold"),),
        partners_of_record=(PartnerOfRecord("acme", "north"),),
        commission_rates=(CommissionRate("gold", D(10), "other"),),
    )
    with pytest.raises(CatalogReferenceMissing) as caught:
        decide(catalog, {}, NOW)
    missing = "business_model:m,partner:north,plan:gold,sku:fee,sku:other"
    assert caught.value.metadata == {"missing": missing}
    assert [field.field for field in caught.value.fields] == [
        "catalog.plans[0].prices",
        "catalog.plans[1].model_id",
        "catalog.entitlements[0].plan_id",
        "catalog.partners_of_record[0].partner_id",
        "catalog.commission_rates[0].sku",
    ]


def test_a_deprecated_plan_keeps_its_own_and_takes_nobody_new() -> None:
    closed = replace(PUBLISHED, status=Status.DEPRECATED)
    mine = Entitlement("acme", "p")
    known = shelf(SKU, closed, mine)
    dearer = replace(mine, overrides=(PlanPrice("fee", price("5")),))
    for unchanged in (mine, dearer):
        decide(Catalog(entitlements=(unchanged,)), known, NOW)
    model = BusinessModel("m", "USD")
    for newcomer in (
        Catalog(entitlements=(Entitlement("beta", "p"),)),
        Catalog(business_models=(replace(model, default_plan_id="p"),)),
        Catalog(business_models=(model,), org_business_models=(OrgBusinessModel("b", "m", "p"),)),
    ):
        with pytest.raises(PlanNotActive):
            decide(newcomer, known, NOW)


def test_a_plan_is_in_the_currency_of_its_model() -> None:
    model = BusinessModel("m", "EUR", code="m")
    foreign = replace(PLAN, model_id="m")
    with pytest.raises(CurrencyMismatch):
        decide(Catalog(plans=(foreign,)), shelf(SKU, model), NOW)
    with pytest.raises(CurrencyMismatch):
        stored = replace(PUBLISHED, model_id="m")
        decide(Catalog(business_models=(model,)), shelf(SKU, stored), NOW)


def test_codes_of_business_models_are_unique() -> None:
    known = shelf(BusinessModel("m", "USD", code="api"))
    with pytest.raises(ModelCodeTaken):
        decide(Catalog(business_models=(BusinessModel("n", "USD", code="api"),)), known, NOW)
    (change,) = decide(Catalog(business_models=(BusinessModel("n", "USD"),)), known, NOW)
    assert document(change.after)["code"] == "n"


def test_active_partners_of_one_organisation_never_overlap() -> None:
    partners = (Partner("north", "gold"), Partner("south", "gold"))
    north = PartnerOfRecord("acme", "north", JANUARY)
    south = PartnerOfRecord("acme", "south", NOW)
    known = shelf(*partners, north)
    with pytest.raises(PartnersOverlap):
        decide(Catalog(partners_of_record=(south,)), known, NOW)
    fine: list[tuple[PartnerOfRecord, ...]] = [
        (replace(north, end_at=NOW), south),
        (replace(south, status=RecordStatus.DISPUTED),),
        (replace(south, org_id="beta"),),
    ]
    for records in fine:
        assert len(decide(Catalog(partners_of_record=records), known, NOW)) == len(records)


DISPUTE = Dispute("d-1", JANUARY, evidence=(Evidence("contract 7"),))


def test_disputed_records_that_earn_do_not_overlap_with_others() -> None:
    partners = (Partner("north", "gold"), Partner("south", "gold"))
    known = shelf(*partners, PartnerOfRecord("acme", "north", JANUARY))
    south = PartnerOfRecord("acme", "south", NOW, None, RecordStatus.DISPUTED, DISPUTE)
    with pytest.raises(PartnersOverlap):
        decide(Catalog(partners_of_record=(south,)), known, NOW)


def test_a_dispute_stays_on_record_and_ends_once() -> None:
    north = PartnerOfRecord("acme", "north", JANUARY, None, RecordStatus.DISPUTED, DISPUTE)
    ended = replace(north, dispute=replace(DISPUTE, resolution=Resolution(NOW, "south")))
    partners = (Partner("north", "gold"), Partner("south", "gold"))
    known = shelf(*partners, north)
    for after in (
        ended,
        replace(north, end_at=NOW),
        replace(north, dispute=replace(DISPUTE, evidence=())),
        replace(ended, status=RecordStatus.EXPIRED),
    ):
        assert len(decide(Catalog(partners_of_record=(after,)), known, NOW)) == 1
    for before, after in (
        (north, replace(north, dispute=None)),
        (north, replace(north, dispute=replace(DISPUTE, dispute_id="d-2"))),
        (ended, north),
        (ended, replace(ended, dispute=replace(DISPUTE, resolution=Resolution(NOW, "north")))),
    ):
        with pytest.raises(DisputeConflict) as caught:
            decide(Catalog(partners_of_record=(after,)), shelf(*partners, before), NOW)
        assert caught.value.metadata == {
            "dispute_id": "d-1",
            "record": "acme/north/2026-01-01T00:00:00Z",
        }


def test_a_dispute_is_about_one_record_and_ends_for_a_partner_there_is() -> None:
    north = PartnerOfRecord("acme", "north", JANUARY, None, RecordStatus.DISPUTED, DISPUTE)
    known = shelf(Partner("north", "gold"), north)
    with pytest.raises(DisputeConflict):
        decide(Catalog(partners_of_record=(replace(north, org_id="beta"),)), known, NOW)
    west = replace(north, dispute=replace(DISPUTE, resolution=Resolution(NOW, "west")))
    with pytest.raises(CatalogReferenceMissing) as caught:
        decide(Catalog(partners_of_record=(west,)), known, NOW)
    assert caught.value.metadata["missing"] == "partner:west"
    nobody = replace(north, dispute=replace(DISPUTE, resolution=Resolution(NOW)))
    assert len(decide(Catalog(partners_of_record=(nobody,)), known, NOW)) == 1


def test_faults_of_a_dispute_are_named() -> None:
    early = replace(DISPUTE, opened_at=NOW, resolution=Resolution(JANUARY))
    north = PartnerOfRecord("acme", "north", JANUARY, None, RecordStatus.ACTIVE, early)
    with pytest.raises(InvalidField) as caught:
        check(Catalog(partners_of_record=(north,)))
    assert [each.field for each in caught.value.fields] == [
        "catalog.partners_of_record[0].dispute",
        "catalog.partners_of_record[0].dispute.resolution.resolved_at",
    ]


def test_every_fault_is_named() -> None:
    tiers = Price(graduated=Graduated((Tier(D(5)), Tier(D(4)))))
    catalog = Catalog(
        skus=(SKU, SKU),
        plans=(replace(PLAN, prices=(PlanPrice("fee", price("1")), PlanPrice("fee", price("2")))),),
        entitlements=(Entitlement("acme", "p", (PlanPrice("fee", tiers),)),),
        partners_of_record=(PartnerOfRecord("acme", "north", NOW, JANUARY),),
    )
    with pytest.raises(InvalidField) as caught:
        check(catalog)
    assert [field.field for field in caught.value.fields] == [
        "catalog.skus[1]",
        "catalog.plans[0].prices[fee]",
        "catalog.entitlements[0].overrides[fee].price.graduated.tiers[1].up_to",
        "catalog.partners_of_record[0].end_at",
    ]


def test_a_price_list_is_bounded() -> None:
    ends = [*(Tier(D(end)) for end in range(1, 100)), Tier()]
    long = Price(graduated=Graduated(tuple(ends)))
    prices = tuple(PlanPrice(f"s{number}", long) for number in range(21))
    check(Catalog(plans=(replace(PLAN, prices=prices[:20]),)))
    with pytest.raises(InvalidField):
        check(Catalog(plans=(replace(PLAN, prices=prices),)))


def test_currencies_are_of_iso_4217() -> None:
    for catalog in (
        Catalog(plans=(replace(PLAN, currency_code="XXQ"),)),
        Catalog(business_models=(BusinessModel("m", "XXQ"),)),
    ):
        with pytest.raises(UnknownCurrency):
            check(catalog)


def test_ids_join_the_parts_of_a_key() -> None:
    assert entity_id(Entitlement("acme", "p", (), JANUARY)) == "acme/2026-01-01T00:00:00Z"
    assert entity_id(CommissionRate("gold", D(1))) == "gold/"


def test_empty_notes_of_a_sku_survive() -> None:
    assert document(Sku("fee", metadata={"k": ""}))["metadata"] == {"k": ""}


PERCENTAGE = Price(percentage=Percentage(D(2)))


def test_a_pair_that_cannot_work_is_refused_wherever_it_is_declared() -> None:
    counted = Sku("fee", aggregation=Aggregation.COUNT)
    listed = (PlanPrice("fee", PERCENTAGE),)
    bad = [
        Catalog(skus=(counted,), plans=(replace(PLAN, prices=listed),)),
        Catalog(skus=(counted,), entitlements=(Entitlement("acme", "p", listed),)),
    ]
    for catalog in bad:
        with pytest.raises(AggregationNotPriceable) as caught:
            decide(catalog, shelf(PUBLISHED), NOW)
        assert caught.value.metadata == {
            "sku": "fee",
            "aggregation": "COUNT",
            "model": "percentage",
        }
    with pytest.raises(AggregationNotPriceable):
        decide(Catalog(plans=(replace(PLAN, prices=listed),)), shelf(counted), NOW)
    assert decide(Catalog(plans=(replace(PLAN, prices=listed),)), shelf(SKU), NOW)


@pytest.mark.parametrize("aggregation", Aggregation)
@pytest.mark.parametrize("name", ["percentage", "dynamic", "matrix"])
def test_prices_that_need_events_or_parts_take_no_aggregate_of_another_kind(
    name: str, aggregation: Aggregation
) -> None:
    priced = {
        "percentage": PERCENTAGE,
        "dynamic": Price(dynamic=Dynamic()),
        "matrix": Price(matrix=Matrix("region", {}, D(1))),
    }[name]
    catalog = Catalog(
        skus=(Sku("fee", aggregation=aggregation),),
        plans=(replace(PLAN, prices=(PlanPrice("fee", priced),)),),
    )
    if aggregation in TAKES[name]:
        assert decide(catalog, {}, NOW)
        return
    with pytest.raises(AggregationNotPriceable) as caught:
        decide(catalog, {}, NOW)
    assert caught.value.metadata["aggregation"] == aggregation.value.removeprefix("AGGREGATION_")


def test_a_sku_whose_aggregation_changes_must_fit_the_prices_that_are_stored() -> None:
    counted = Catalog(skus=(Sku("fee", aggregation=Aggregation.COUNT),))
    assert reaggregated(counted, shelf(SKU)) == {"fee"}
    assert reaggregated(counted, shelf(*counted.skus)) == reaggregated(counted, {}) == set()
    fits = PricedAt("plan p version 1", "fee", price("1"))
    assert decide(counted, shelf(SKU), NOW, [fits])
    with pytest.raises(AggregationNotPriceable, match="plan p version 1"):
        decide(counted, shelf(SKU), NOW, [fits, replace(fits, price=PERCENTAGE)])


def test_every_pair_is_allowed_or_refused_by_one_table() -> None:
    assert TAKES.keys() == MODELS.keys()
    assert all(Aggregation.SUM in takes for takes in TAKES.values())
