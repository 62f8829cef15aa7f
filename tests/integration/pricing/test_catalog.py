"""CatalogService on a real server with a real Postgres."""

from __future__ import annotations

import asyncio
import copy
import uuid
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import json_format
from payments.events.v1 import pricing_events_pb2
from payments.pricing.v1 import catalog_service_pb2, catalog_service_pb2_grpc

from services.runtime.errors import Code
from tests.support.billing.pricing import declaration, demo, recorded, refusal
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls

Kind = catalog_service_pb2.CatalogChange.Kind
AUDIT = "SELECT entity, entity_id, before, after, actor FROM mesh.audit WHERE tenant_id = %s ORDER BY audit_id"
EVENTS = "SELECT subject, key, payload FROM mesh.event WHERE tenant_id = %s ORDER BY seq"
# Everything that a catalogue may hold, each with all that it names.
FULL: dict[str, Any] = {
    "skus": [
        {
            "sku": "sms",
            "type": "SKU_TYPE_ACTION",
            "unit": "message",
            "aggregation": "AGGREGATION_COUNT",
            "cost": "0.004",
            "retail": "0.01",
            "tax_code": "T1",
            "metadata": {"team": "messaging", "note": ""},
        }
    ],
    "business_models": [
        {
            "model_id": "m1",
            "code": "api",
            "name": "API",
            "status": "STATUS_ACTIVE",
            "version": 2,
            "currency_code": "KWD",
            "default_plan_id": "basic",
        }
    ],
    "plans": [
        {
            "plan_id": "basic",
            "model_id": "m1",
            "name": "Basic",
            "tier": "entry",
            "currency_code": "KWD",
            "status": "STATUS_ACTIVE",
            "notes": "for everybody",
            "prices": [{"sku": "sms", "price": {"per_unit": {"unit_amount": "0.0105"}}}],
        }
    ],
    "org_business_models": [
        {
            "org_id": "acme",
            "model_id": "m1",
            "plan_id": "basic",
            "assigned_by": "eve",
            "assigned_at": "2026-01-02T03:04:05.000006Z",
            "notes": "by contract",
        }
    ],
    "entitlements": [
        {
            "org_id": "acme",
            "plan_id": "basic",
            "effective_at": "2026-02-01T00:00:00Z",
            "overrides": [{"sku": "sms", "price": {"flat": {"amount": "12"}}}],
        }
    ],
    "partners": [{"partner_id": "north", "name": "Northwind", "tier": "gold"}],
    "partners_of_record": [
        {
            "org_id": "acme",
            "partner_id": "north",
            "start_at": "2026-01-01T00:00:00Z",
            "end_at": "2027-01-01T00:00:00Z",
            "status": "STATUS_ACTIVE",
        }
    ],
    "commission_rates": [{"partner_tier": "gold", "sku": "sms", "pct": "12.5"}],
    "tax_rates": [
        {
            "jurisdiction": "CA-QC",
            "tax": "QST",
            "tax_code": "T1",
            "effective_at": "2026-01-01T00:00:00Z",
            "treatment": "TAX_TREATMENT_TAXED",
            "rate_percent": "9.975",
            "inclusive": True,
            "compound": True,
            "position": 2,
            "authority": "revenu-quebec",
            "reason": "by law",
        }
    ],
    "tax_profiles": [
        {
            "org_id": "acme",
            "effective_at": "2026-01-01T00:00:00Z",
            "country": "CA",
            "region": "QC",
            "tax_id": "123456789 RT0001",
            "reverse_charge": True,
            "exemptions": [{"jurisdiction": "CA-QC", "certificate": "cert-7"}],
        }
    ],
    "tax_policies": [
        {
            "country": "CA",
            "missing": "TAX_MISSING_UNTAXED",
            "rounding": "TAX_ROUNDING_DOCUMENT",
        }
    ],
    "billing_account_orgs": [
        {
            "billing_account_id": "group-1",
            "org_id": "acme",
            "start_at": "2026-01-01T00:00:00Z",
            "end_at": "2027-01-01T00:00:00Z",
        }
    ],
    "billing_account_partners": [
        {
            "billing_account_id": "group-1",
            "partner_id": "north",
            "start_at": "2026-01-01T00:00:00Z",
            "end_at": "2027-01-01T00:00:00Z",
            "status": "STATUS_ACTIVE",
        }
    ],
}
FULL_IDS = [
    ("sku", "sms"),
    ("business_model", "m1"),
    ("plan", "basic"),
    ("org_business_model", "acme"),
    ("entitlement", "acme/2026-02-01T00:00:00Z"),
    ("partner", "north"),
    ("partner_of_record", "acme/north/2026-01-01T00:00:00Z"),
    ("commission_rate", "gold/sms"),
    ("tax_rate", "CA-QC/QST/T1/2026-01-01T00:00:00Z"),
    ("tax_profile", "acme/2026-01-01T00:00:00Z"),
    ("tax_policy", "CA"),
    ("billing_account_org", "acme/group-1/2026-01-01T00:00:00Z"),
    ("billing_account_partner", "group-1/north/2026-01-01T00:00:00Z"),
]


def kinds(response: catalog_service_pb2.ApplyCatalogResponse) -> list[str]:
    return [Kind.Name(change.kind).removeprefix("KIND_") for change in response.changes]


def changed(catalog: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of a catalogue with one value replaced, e.g. at `plans.0.name`."""
    copied = copy.deepcopy(catalog)
    *parents, last = path.split(".")
    place: Any = copied
    for step in parents:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return copied


async def plan_of(catalog: Any, plan_id: str, version: int = 0) -> dict[str, Any]:
    request = catalog_service_pb2.GetPlanRequest(plan_id=plan_id, version=version)
    answer = await catalog.GetPlan(request)
    return json_format.MessageToDict(answer.plan, preserving_proto_field_name=True)


async def test_all_is_created_audited_and_told(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    response = await catalog.ApplyCatalog(declaration(FULL))
    assert kinds(response) == ["CREATED"] * len(FULL_IDS)
    assert [(change.entity, change.id) for change in response.changes] == FULL_IDS
    audit = recorded(database, AUDIT, tenant)
    assert [(entity, entity_id) for entity, entity_id, *_ in audit] == FULL_IDS
    for (_, _, before, after, actor), change in zip(audit, response.changes, strict=True):
        assert before is None
        assert after == json_format.MessageToDict(change.after)
        assert actor == f"test:{tenant}"
    ((subject, key, payload),) = recorded(database, EVENTS, tenant)
    assert (subject, key) == ("plan.created", "basic")
    event = pricing_events_pb2.PlanCreated.FromString(payload)
    assert (event.plan_version, event.plan.prices[0].sku) == (1, "sms")


async def test_applying_the_same_again_changes_nothing(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    before = recorded(database, AUDIT, tenant)
    response = await catalog.ApplyCatalog(declaration(FULL))
    assert kinds(response) == ["UNCHANGED"] * len(FULL_IDS)
    assert not any(change.HasField("after") for change in response.changes)
    assert recorded(database, AUDIT, tenant) == before
    assert len(recorded(database, EVENTS, tenant)) == 1


async def test_validate_only_says_what_would_change_and_changes_nothing(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    request_id = str(uuid.uuid4())
    trial = declaration(FULL, validate_only=True, request_id=request_id)
    assert kinds(await catalog.ApplyCatalog(trial)) == ["CREATED"] * len(FULL_IDS)
    assert recorded(database, AUDIT, tenant) == []
    assert recorded(database, EVENTS, tenant) == []
    listed = await catalog.ListSkus(catalog_service_pb2.ListSkusRequest())
    assert list(listed.skus) == []
    # It finds the same faults, and does not use up the request_id.
    bad = declaration(changed(FULL, "plans.0.currency_code", "USD"), validate_only=True)
    assert (await refusal(catalog.ApplyCatalog(bad))).reason == "CURRENCY_MISMATCH"
    real = declaration(FULL, request_id=request_id)
    assert kinds(await catalog.ApplyCatalog(real)) == ["CREATED"] * len(FULL_IDS)


async def test_what_is_read_back_is_what_was_declared(catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    assert await plan_of(catalog, "basic") == {
        **FULL["plans"][0],
        "version": 1,
        "effective_at": "1970-01-01T00:00:00Z",
    }
    skus = await catalog.ListSkus(catalog_service_pb2.ListSkusRequest())
    (sku,) = [
        json_format.MessageToDict(item, preserving_proto_field_name=True) for item in skus.skus
    ]
    assert sku == FULL["skus"][0]
    request = catalog_service_pb2.ListEntitlementsRequest(org_id="acme")
    (entitlement,) = (await catalog.ListEntitlements(request)).entitlements
    found = json_format.MessageToDict(entitlement, preserving_proto_field_name=True)
    assert found == FULL["entitlements"][0]


@pytest.mark.parametrize(
    ("path", "value", "entity"),
    [
        ("skus.0.unit", "text", "sku"),
        ("business_models.0.name", "API 2", "business_model"),
        ("org_business_models.0.notes", "renewed", "org_business_model"),
        ("entitlements.0.overrides", [], "entitlement"),
        ("partners.0.tier", "silver", "partner"),
        ("partners_of_record.0.status", "STATUS_DISPUTED", "partner_of_record"),
        ("commission_rates.0.pct", "13", "commission_rate"),
    ],
)
async def test_each_update_shows_before_and_after(
    catalog: Any, tenant: str, database: DatabaseUrls, path: str, value: Any, entity: str
) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    response = await catalog.ApplyCatalog(declaration(changed(FULL, path, value)))
    (change,) = [item for item in response.changes if item.kind == Kind.KIND_UPDATED]
    assert change.entity == entity
    group, _, field = path.split(".")
    assert json_format.MessageToDict(change.before).get(field) == FULL[group][0][field]
    assert json_format.MessageToDict(change.after).get(field, []) == value
    written = recorded(database, AUDIT, tenant)[-1]
    assert written[:2] == (entity, change.id)
    assert (written[2], written[3]) == (
        json_format.MessageToDict(change.before),
        json_format.MessageToDict(change.after),
    )
    assert kinds(await catalog.ApplyCatalog(declaration(changed(FULL, path, value)))) == [
        "UNCHANGED"
    ] * len(FULL_IDS)


async def test_a_changed_price_list_is_a_new_version_and_the_old_one_stays(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    dearer = [{"sku": "sms", "price": {"per_unit": {"unit_amount": "0.02"}}}]
    new = changed(FULL, "plans.0.prices", dearer)
    await catalog.ApplyCatalog(declaration(new))
    assert (await plan_of(catalog, "basic"))["prices"] == dearer
    first, second = [await plan_of(catalog, "basic", version) for version in (1, 2)]
    assert first["prices"] == FULL["plans"][0]["prices"]
    assert second["prices"] == dearer
    assert second["effective_at"] == "2026-11-20T09:30:00Z"
    await catalog.ApplyCatalog(declaration(changed(new, "plans.0.status", "STATUS_DEPRECATED")))
    told = recorded(database, EVENTS, tenant)
    assert [subject for subject, *_ in told] == ["plan.created", "plan.updated", "plan.deprecated"]
    updated = pricing_events_pb2.PlanUpdated.FromString(told[1][2])
    assert (updated.previous_plan_version, updated.plan_version) == (1, 2)
    deprecated = pricing_events_pb2.PlanDeprecated.FromString(told[2][2])
    assert (deprecated.plan_id, deprecated.plan_version) == ("basic", 2)


async def test_published_lists_cannot_be_changed_by_any_service(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    for statement in (
        "UPDATE pricing.plan_price SET price = '{}'",
        "DELETE FROM pricing.plan_version",
    ):
        with psycopg.connect(database.service) as connection:
            connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


async def test_a_catalogue_that_is_too_heavy_is_refused(catalog: Any) -> None:
    notes = {f"note{number}": "x" * 500 for number in range(30)}
    skus = [{"sku": f"s{number}", "metadata": notes} for number in range(40)]
    failed = await refusal(catalog.ApplyCatalog(declaration({"skus": skus})))
    assert [field.field for field in failed.fields] == ["catalog"]
    await catalog.ApplyCatalog(declaration({"skus": skus[:30]}))


def breaking(path: str, value: Any) -> dict[str, Any]:
    return changed(FULL, path, value)


@pytest.mark.parametrize(
    ("wrong", "reason", "code"),
    [
        (breaking("plans.0.version", 1), "PLAN_VERSION_FROZEN", Code.FAILED_PRECONDITION),
        (
            breaking("entitlements.0.plan_id", "gold"),
            "CATALOG_REFERENCE_MISSING",
            Code.FAILED_PRECONDITION,
        ),
        (breaking("plans.0.currency_code", "USD"), "CURRENCY_MISMATCH", Code.INVALID_ARGUMENT),
        (breaking("plans.0.currency_code", "XXQ"), "UNKNOWN_CURRENCY", Code.INVALID_ARGUMENT),
        (breaking("business_models.0.model_id", "m2"), "MODEL_CODE_TAKEN", Code.ALREADY_EXISTS),
        (
            breaking("partners_of_record.0.start_at", "2026-03-01T00:00:00Z"),
            "PARTNERS_OVERLAP",
            Code.FAILED_PRECONDITION,
        ),
        (
            breaking("billing_account_orgs.0.billing_account_id", "group-2"),
            "BILLING_ACCOUNTS_OVERLAP",
            Code.FAILED_PRECONDITION,
        ),
        (
            breaking("billing_account_partners.0.start_at", "2026-03-01T00:00:00Z"),
            "ACCOUNT_PARTNERS_OVERLAP",
            Code.FAILED_PRECONDITION,
        ),
        (
            breaking("billing_account_orgs.0.end_at", "2026-01-01T00:00:00Z"),
            "INVALID_FIELD",
            Code.INVALID_ARGUMENT,
        ),
        (breaking("skus.0.sku", "two words"), "INVALID_FIELD", Code.INVALID_ARGUMENT),
        (breaking("skus.0.aggregation", 99), "INVALID_FIELD", Code.INVALID_ARGUMENT),
        (breaking("commission_rates.0.pct", "100.5"), "INVALID_FIELD", Code.INVALID_ARGUMENT),
        (breaking("skus", FULL["skus"] * 2), "INVALID_FIELD", Code.INVALID_ARGUMENT),
        (breaking("skus", FULL["skus"] * 1001), "INVALID_FIELD", Code.INVALID_ARGUMENT),
        (
            breaking("plans.0.prices.0.price", {"per_unit": {"unit_amount": "-1"}}),
            "INVALID_FIELD",
            Code.INVALID_ARGUMENT,
        ),
        (breaking("plans.0.prices.0.price", {}), "INVALID_FIELD", Code.INVALID_ARGUMENT),
        (
            breaking("plans.0.prices.0.price", {"graduated": {"tiers": [{"up_to": "5"}]}}),
            "INVALID_FIELD",
            Code.INVALID_ARGUMENT,
        ),
    ],
)
async def test_a_refused_declaration_changes_nothing(
    catalog: Any,
    tenant: str,
    database: DatabaseUrls,
    wrong: dict[str, Any],
    reason: str,
    code: Code,
) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    # A version that is frozen needs another list to differ from.
    if reason == "PLAN_VERSION_FROZEN":
        wrong = changed(wrong, "plans.0.prices", [])
    before = recorded(database, AUDIT, tenant)
    failed = await refusal(catalog.ApplyCatalog(declaration(wrong)))
    assert (failed.reason, failed.code) == (reason, code)
    assert recorded(database, AUDIT, tenant) == before


async def test_a_deprecated_plan_takes_nobody_new(catalog: Any) -> None:
    closed = changed(FULL, "plans.0.status", "STATUS_DEPRECATED")
    await catalog.ApplyCatalog(declaration(FULL))
    assert kinds(await catalog.ApplyCatalog(declaration(closed))).count("UPDATED") == 1
    newcomer = {"entitlements": [{"org_id": "beta", "plan_id": "basic"}]}
    failed = await refusal(catalog.ApplyCatalog(declaration(newcomer)))
    assert (failed.reason, failed.metadata) == ("PLAN_NOT_ACTIVE", {"plan_id": "basic"})


async def test_a_request_id_gets_its_first_answer_again(catalog: Any) -> None:
    request = declaration(FULL, request_id=str(uuid.uuid4()))
    first = await catalog.ApplyCatalog(request)
    await catalog.ApplyCatalog(declaration(changed(FULL, "plans.0.prices", [])))
    assert await catalog.ApplyCatalog(request) == first
    assert "prices" not in await plan_of(catalog, "basic")
    other = declaration(demo(), request_id=request.request_id)
    assert (await refusal(catalog.ApplyCatalog(other))).reason == "REQUEST_ID_REUSED"


async def test_two_applies_at_once_take_turns(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    lists = [
        [{"sku": "sms", "price": {"per_unit": {"unit_amount": f"0.0{number}"}}}]
        for number in range(1, 9)
    ]
    requests = [declaration(changed(FULL, "plans.0.prices", prices)) for prices in lists]
    await asyncio.gather(*(catalog.ApplyCatalog(request) for request in requests))
    assert (await plan_of(catalog, "basic"))["version"] == 9
    stored = [(await plan_of(catalog, "basic", version))["prices"] for version in range(2, 10)]
    assert sorted(map(str, stored)) == sorted(map(str, lists))
    assert len(recorded(database, EVENTS, tenant)) == 9


async def test_an_unknown_plan_or_version_is_not_found(catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    for request in (
        catalog_service_pb2.GetPlanRequest(plan_id="gold"),
        catalog_service_pb2.GetPlanRequest(plan_id="basic", version=2),
    ):
        failed = await refusal(catalog.GetPlan(request))
        assert (failed.reason, failed.metadata["resource"]) == ("NOT_FOUND", "plan")


async def pages(call: Any, request: Any, field: str) -> list[list[Any]]:
    """Read all pages of a List."""
    found = []
    while True:
        answer = await call(request)
        found.append(list(getattr(answer, field)))
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def test_lists_page_through_everything_once(catalog: Any) -> None:
    skus = [{"sku": f"s{number}"} for number in range(7)]
    plans = [{"plan_id": f"p{number}", "currency_code": "USD"} for number in range(7)]
    entitlements = [
        {
            "org_id": f"o{number // 3}",
            "plan_id": "p0",
            "effective_at": f"2026-01-0{number + 1}T00:00:00Z",
        }
        for number in range(7)
    ]
    catalog_of = {"skus": skus, "plans": plans, "entitlements": entitlements}
    await catalog.ApplyCatalog(declaration(catalog_of))
    found = await pages(catalog.ListSkus, catalog_service_pb2.ListSkusRequest(page_size=3), "skus")
    assert [[item.sku for item in page] for page in found] == [
        ["s0", "s1", "s2"],
        ["s3", "s4", "s5"],
        ["s6"],
    ]
    found = await pages(
        catalog.ListPlans, catalog_service_pb2.ListPlansRequest(page_size=4), "plans"
    )
    assert [len(page) for page in found] == [4, 3]
    found = await pages(
        catalog.ListEntitlements,
        catalog_service_pb2.ListEntitlementsRequest(page_size=2),
        "entitlements",
    )
    listed = [(item.org_id, item.effective_at.ToJsonString()) for page in found for item in page]
    assert listed == [(item["org_id"], item["effective_at"]) for item in entitlements]
    assert [len(page) for page in found] == [2, 2, 2, 1]


async def test_filters_narrow_a_list(catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    await catalog.ApplyCatalog(declaration(demo()))
    wanted = ["sms", "llm.requests", "nothing"]
    answer = await catalog.ListSkus(catalog_service_pb2.ListSkusRequest(skus=wanted))
    assert [item.sku for item in answer.skus] == ["llm.requests", "sms"]
    plans = await catalog.ListPlans(catalog_service_pb2.ListPlansRequest(model_id="m1"))
    assert [item.plan_id for item in plans.plans] == ["basic"]
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await catalog.ListPlans(catalog_service_pb2.ListPlansRequest(model_id="m0"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    entitlements = await catalog.ListEntitlements(
        catalog_service_pb2.ListEntitlementsRequest(org_id="chat")
    )
    assert [item.org_id for item in entitlements.entitlements] == ["chat"]


async def test_pages_stay_small_whatever_the_lists_hold(catalog: Any) -> None:
    skus = [{"sku": f"s{number:03}"} for number in range(500)]
    prices = [{"sku": item["sku"], "price": {"flat": {"amount": "1"}}} for item in skus]
    plans = [
        {"plan_id": f"p{number:02}", "currency_code": "USD", "prices": prices}
        for number in range(12)
    ]
    await catalog.ApplyCatalog(declaration({"skus": skus, "plans": plans}))
    found = await pages(catalog.ListPlans, catalog_service_pb2.ListPlansRequest(), "plans")
    assert [len(page) for page in found] == [9, 3]


async def test_a_page_token_belongs_to_its_list(catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(demo()))
    token = (
        await catalog.ListSkus(catalog_service_pb2.ListSkusRequest(page_size=1))
    ).next_page_token
    for call, request in (
        (catalog.ListPlans, catalog_service_pb2.ListPlansRequest(page_token=token)),
        (catalog.ListSkus, catalog_service_pb2.ListSkusRequest(page_token="AAAA")),
        (catalog.ListEntitlements, catalog_service_pb2.ListEntitlementsRequest(page_token="?")),
    ):
        assert (await refusal(call(request))).reason == "INVALID_PAGE_TOKEN"


async def test_no_tenant_sees_or_touches_anothers_catalogue(mesh: Mesh, catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    other = catalog_service_pb2_grpc.CatalogServiceStub(mesh.channel(f"t-{uuid.uuid4().hex[:12]}"))
    assert not (await other.ListSkus(catalog_service_pb2.ListSkusRequest())).skus
    assert not (await other.ListPlans(catalog_service_pb2.ListPlansRequest())).plans
    request = catalog_service_pb2.ListEntitlementsRequest()
    assert not (await other.ListEntitlements(request)).entitlements
    plan = catalog_service_pb2.GetPlanRequest(plan_id="basic")
    assert (await refusal(other.GetPlan(plan))).reason == "NOT_FOUND"
    newcomer = {"entitlements": [{"org_id": "acme", "plan_id": "basic"}]}
    failed = await refusal(other.ApplyCatalog(declaration(newcomer)))
    assert failed.reason == "CATALOG_REFERENCE_MISSING"
    assert kinds(await other.ApplyCatalog(declaration(FULL))) == ["CREATED"] * len(FULL_IDS)


async def test_writing_needs_its_scope(mesh: Mesh, tenant: str) -> None:
    reader = catalog_service_pb2_grpc.CatalogServiceStub(mesh.channel(tenant, {"pricing:read"}))
    await reader.ListSkus(catalog_service_pb2.ListSkusRequest())
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await reader.ApplyCatalog(declaration(FULL))
    assert failed.value.code() is grpc.StatusCode.PERMISSION_DENIED
