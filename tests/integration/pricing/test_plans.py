"""Drafts, archives and migrations of plans, on a real server with a real Postgres."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from payments.events.v1 import pricing_events_pb2
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_pb2,
    pricing_service_pb2,
)
from payments.type.v1 import type_pb2

from services.runtime.errors import Code
from tests.support.billing.metering import NOW
from tests.support.billing.pricing import declaration, recorded, refusal
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls

AUDIT = "SELECT entity, entity_id, before, after, actor FROM mesh.audit WHERE tenant_id = %s ORDER BY audit_id"
EVENTS = "SELECT subject, key, payload FROM mesh.event WHERE tenant_id = %s ORDER BY seq"
DRAFTS = "SELECT plan_id FROM pricing.plan_draft WHERE tenant_id = %s"
SKU = {"sku": "seat"}
JANUARY = "2027-01-01T00:00:00Z"


def flat(amount: str, **more: Any) -> list[dict[str, Any]]:
    return [{"sku": "seat", "price": {"flat": {"amount": amount}}, **more}]


def plan(plan_id: str, amount: str = "10", currency: str = "USD", **more: Any) -> dict[str, Any]:
    return {"plan_id": plan_id, "currency_code": currency, "prices": flat(amount), **more}


def draft(amount: str = "10", **more: Any) -> dict[str, Any]:
    return {"skus": [SKU], "plans": [plan("p", amount, status="STATUS_DRAFT", **more)]}


def at(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


async def read(catalog: Any, plan_id: str = "p", version: int = 0) -> pricing_pb2.Plan:
    request = catalog_service_pb2.GetPlanRequest(plan_id=plan_id, version=version)
    found: pricing_pb2.Plan = (await catalog.GetPlan(request)).plan
    return found


def publishing(plan_id: str = "p", **more: Any) -> catalog_service_pb2.PublishPlanRequest:
    return catalog_service_pb2.PublishPlanRequest(
        request_id=str(uuid.uuid4()), plan_id=plan_id, **more
    )


def archiving(plan_id: str = "p") -> catalog_service_pb2.ArchivePlanRequest:
    return catalog_service_pb2.ArchivePlanRequest(request_id=str(uuid.uuid4()), plan_id=plan_id)


def migrating(**fields: Any) -> catalog_service_pb2.MigratePlanRequest:
    given = {"plan_id": "p", "to_plan_id": "q", "effective_at": at(JANUARY), **fields}
    return catalog_service_pb2.MigratePlanRequest(request_id=str(uuid.uuid4()), **given)


async def entitled(catalog: Any) -> list[tuple[str, str, int, str]]:
    answer = await catalog.ListEntitlements(catalog_service_pb2.ListEntitlementsRequest())
    return [
        (item.org_id, item.plan_id, item.plan_version, item.effective_at.ToJsonString()[:10])
        for item in answer.entitlements
    ]


async def test_a_draft_changes_freely_and_is_published_once(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    await catalog.ApplyCatalog(declaration(draft("10", name="First")))
    changed = draft("25", name="Second")
    (_, change) = (await catalog.ApplyCatalog(declaration(changed))).changes
    assert change.kind == catalog_service_pb2.CatalogChange.KIND_UPDATED
    found = await read(catalog)
    assert (found.version, found.name, found.status) == (0, "Second", pricing_pb2.Plan.STATUS_DRAFT)
    assert found.prices[0].price.flat.amount == "25"
    (listed,) = (await catalog.ListPlans(catalog_service_pb2.ListPlansRequest())).plans
    assert listed == found
    assert recorded(database, EVENTS, tenant) == []
    published = (await catalog.PublishPlan(publishing())).plan
    assert (published.version, published.status) == (1, pricing_pb2.Plan.STATUS_ACTIVE)
    assert published == await read(catalog) == await read(catalog, version=1)
    ((subject, key, payload),) = recorded(database, EVENTS, tenant)
    assert (subject, key) == ("plan.created", "p")
    assert pricing_events_pb2.PlanCreated.FromString(payload).plan == published
    assert recorded(database, DRAFTS, tenant) == []
    # Once more is nothing, and what is published is no draft again.
    assert (await catalog.PublishPlan(publishing())).plan == published
    assert len(recorded(database, EVENTS, tenant)) == 1
    failed = await refusal(catalog.ApplyCatalog(declaration(draft("30"))))
    assert (failed.reason, failed.metadata["newest_version"]) == ("PLAN_VERSION_FROZEN", "1")


async def test_a_draft_is_published_by_a_declaration_too(catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(draft("10")))
    await catalog.ApplyCatalog(declaration({"plans": [plan("p", "12", effective_at=JANUARY)]}))
    found = await read(catalog)
    assert (found.version, found.effective_at.ToJsonString()) == (1, JANUARY)
    assert found.prices[0].price.flat.amount == "12"


async def test_publishing_says_from_when_a_list_holds(catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(draft()))
    published = (await catalog.PublishPlan(publishing(effective_at=at(JANUARY)))).plan
    assert published.effective_at.ToJsonString() == JANUARY


async def test_nobody_is_on_a_draft_and_nothing_is_charged_by_it(
    catalog: Any, pricing_stub: Any
) -> None:
    await catalog.ApplyCatalog(declaration(draft()))
    for wrong in (
        {"entitlements": [{"org_id": "acme", "plan_id": "p"}]},
        {"business_models": [{"model_id": "m", "currency_code": "USD", "default_plan_id": "p"}]},
    ):
        failed = await refusal(catalog.ApplyCatalog(declaration(wrong)))
        assert (failed.reason, failed.metadata) == ("PLAN_NOT_ACTIVE", {"plan_id": "p"})
    held = {"entitlements": [{"org_id": "acme", "plan_id": "p", "plan_version": 1}]}
    failed = await refusal(catalog.ApplyCatalog(declaration(held)))
    assert failed.reason == "CATALOG_REFERENCE_MISSING"
    versioned = draft()
    versioned["plans"][0]["version"] = 2
    failed = await refusal(catalog.ApplyCatalog(declaration(versioned)))
    assert [field.field for field in failed.fields] == ["catalog.plans[0].version"]


async def test_prices_of_drafts_have_to_fit_their_skus(catalog: Any) -> None:
    percentage = [{"sku": "seat", "price": {"percentage": {"rate_percent": "1"}}}]
    shelf = {"skus": [SKU], "plans": [plan("p", status="STATUS_DRAFT") | {"prices": percentage}]}
    await catalog.ApplyCatalog(declaration(shelf))
    counted = {"skus": [{"sku": "seat", "aggregation": "AGGREGATION_COUNT"}]}
    failed = await refusal(catalog.ApplyCatalog(declaration(counted)))
    assert failed.reason == "AGGREGATION_NOT_PRICEABLE"


async def test_a_draft_that_is_archived_is_given_up(catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(draft()))
    given_up = (await catalog.ArchivePlan(archiving())).plan
    assert (given_up.version, given_up.status) == (0, pricing_pb2.Plan.STATUS_ARCHIVED)
    assert (await refusal(catalog.PublishPlan(publishing()))).reason == "PLAN_NOT_ACTIVE"
    same = json_format.MessageToDict(given_up, preserving_proto_field_name=True)
    (change,) = (await catalog.ApplyCatalog(declaration({"plans": [same]}))).changes
    assert change.kind == catalog_service_pb2.CatalogChange.KIND_UNCHANGED
    await catalog.ApplyCatalog(declaration(draft("11")))
    assert (await catalog.PublishPlan(publishing())).plan.version == 1


async def test_a_plan_in_use_is_not_archived(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    shelf = {
        "skus": [SKU],
        "plans": [plan("p"), plan("q")],
        "entitlements": [
            {"org_id": "now", "plan_id": "p"},
            {"org_id": "was", "plan_id": "p", "effective_at": "2026-01-01T00:00:00Z"},
            {"org_id": "was", "plan_id": "q", "effective_at": "2026-02-01T00:00:00Z"},
            {"org_id": "will", "plan_id": "p", "effective_at": JANUARY},
        ],
    }
    await catalog.ApplyCatalog(declaration(shelf))
    before = recorded(database, AUDIT, tenant)
    failed = await refusal(catalog.ArchivePlan(archiving()))
    assert (failed.reason, failed.code) == ("PLAN_IN_USE", Code.FAILED_PRECONDITION)
    assert failed.metadata == {"plan_id": "p", "user": "now"}
    closed = {"plans": [plan("p", status="STATUS_ARCHIVED")]}
    assert (await refusal(catalog.ApplyCatalog(declaration(closed)))).reason == "PLAN_IN_USE"
    assert recorded(database, AUDIT, tenant) == before
    # Who leaves it in the same declaration is no hindrance.
    leaving = {
        "entitlements": [
            {"org_id": "now", "plan_id": "q"},
            {"org_id": "will", "plan_id": "q", "effective_at": JANUARY},
        ]
    }
    await catalog.ApplyCatalog(declaration(closed | leaving))
    assert (await read(catalog)).status == pricing_pb2.Plan.STATUS_ARCHIVED
    newcomer = {"entitlements": [{"org_id": "new", "plan_id": "p"}]}
    failed = await refusal(catalog.ApplyCatalog(declaration(newcomer)))
    assert failed.reason == "PLAN_NOT_ACTIVE"
    dearer = {"plans": [plan("p", "99", status="STATUS_ARCHIVED")]}
    assert (await refusal(catalog.ApplyCatalog(declaration(dearer)))).reason == "PLAN_NOT_ACTIVE"
    subjects = [subject for subject, *_ in recorded(database, EVENTS, tenant)]
    assert subjects == ["plan.created", "plan.created", "plan.deprecated"]


async def test_the_default_of_a_business_model_is_in_use(catalog: Any) -> None:
    model = {"model_id": "m", "currency_code": "USD", "default_plan_id": "p"}
    await catalog.ApplyCatalog(
        declaration({"skus": [SKU], "plans": [plan("p")], "business_models": [model]})
    )
    failed = await refusal(catalog.ArchivePlan(archiving()))
    assert (failed.reason, failed.metadata["user"]) == ("PLAN_IN_USE", "business model m")
    closed = {"business_models": [model | {"status": "STATUS_DEPRECATED"}]}
    await catalog.ApplyCatalog(declaration(closed))
    assert (await catalog.ArchivePlan(archiving())).plan.status == pricing_pb2.Plan.STATUS_ARCHIVED


def subscribers() -> dict[str, Any]:
    """Plans p (two versions in time) and q, and organisations in every relation to p."""
    return {
        "skus": [SKU],
        "plans": [plan("p"), plan("q", "20")],
        "business_models": [{"model_id": "m", "currency_code": "USD", "default_plan_id": "p"}],
        "org_business_models": [
            {"org_id": "by-default", "model_id": "m"},
            {"org_id": "by-model", "model_id": "m", "plan_id": "p"},
            {"org_id": "elsewhere", "model_id": "m", "plan_id": "q"},
        ],
        "entitlements": [
            {"org_id": "a", "plan_id": "p", "overrides": flat("7")},
            {"org_id": "at", "plan_id": "p", "effective_at": JANUARY},
            {"org_id": "by-model", "plan_id": "p", "effective_at": "2027-03-01T00:00:00Z"},
            {"org_id": "gone", "plan_id": "p"},
            {"org_id": "gone", "plan_id": "q", "effective_at": "2026-12-01T00:00:00Z"},
            {"org_id": "later", "plan_id": "q"},
            {"org_id": "later", "plan_id": "p", "effective_at": "2027-02-01T00:00:00Z"},
        ],
    }


async def test_everybody_on_a_plan_is_moved_in_bounded_batches(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    await catalog.ApplyCatalog(declaration(subscribers()))
    trial = migrating(limit=2)
    trial.validate_only = True
    assert (await catalog.MigratePlan(trial)).remaining == 3
    seen, left = [], []
    while True:
        before = len(recorded(database, AUDIT, tenant))
        answer = await catalog.MigratePlan(migrating(limit=2))
        seen.append([(move.org_id, move.later_count) for move in answer.moves])
        left.append(answer.remaining)
        written = recorded(database, AUDIT, tenant)[before:]
        moved = sum(move.HasField("after") + move.later_count for move in answer.moves)
        assert [entity for entity, *_ in written] == ["entitlement"] * moved
        assert all(entry[-1] == f"test:{tenant}" for entry in written)
        if not answer.remaining:
            break
    assert seen == [[("a", 0), ("at", 0)], [("by-default", 0), ("by-model", 1)], [("later", 1)]]
    assert left == [3, 1, 0]
    assert await entitled(catalog) == [
        ("a", "p", 0, "1970-01-01"),
        ("a", "q", 0, "2027-01-01"),
        ("at", "q", 0, "2027-01-01"),
        ("by-default", "q", 0, "2027-01-01"),
        ("by-model", "q", 0, "2027-01-01"),
        ("by-model", "q", 0, "2027-03-01"),
        ("gone", "p", 0, "1970-01-01"),
        ("gone", "q", 0, "2026-12-01"),
        ("later", "q", 0, "1970-01-01"),
        ("later", "q", 0, "2027-02-01"),
    ]
    # Nobody is left, so that once more moves nobody.
    assert list((await catalog.MigratePlan(migrating())).moves) == []


async def test_a_move_shows_both_terms_and_keeps_own_prices_unless_told(catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(subscribers()))
    (kept,) = (await catalog.MigratePlan(migrating(limit=1))).moves
    assert (kept.before.plan_id, kept.after.plan_id) == ("p", "q")
    assert kept.after.overrides == kept.before.overrides
    assert kept.after.effective_at.ToJsonString() == JANUARY
    back = migrating(plan_id="q", to_plan_id="p", drop_overrides=True, limit=1)
    (dropped,) = (await catalog.MigratePlan(back)).moves
    assert (dropped.before, dropped.org_id) == (kept.after, "a")
    assert list(dropped.after.overrides) == []


async def test_a_batch_whose_answer_was_lost_is_answered_again(catalog: Any) -> None:
    await catalog.ApplyCatalog(declaration(subscribers()))
    request = migrating(limit=2)
    first = await catalog.MigratePlan(request)
    assert await catalog.MigratePlan(request) == first


async def test_versions_are_left_and_held_to(catalog: Any, pricing_stub: Any) -> None:
    shelf = subscribers() | {"business_models": [], "org_business_models": []}
    shelf["entitlements"] = [
        {"org_id": "held", "plan_id": "p", "plan_version": 1},
        {"org_id": "unheld", "plan_id": "p"},
    ]
    await catalog.ApplyCatalog(declaration(shelf))
    await catalog.ApplyCatalog(declaration({"plans": [plan("p", "15")]}))
    january = type_pb2.Period(start_at=at(JANUARY), end_at=at("2027-02-01T00:00:00Z"))

    async def costs(org_id: str) -> tuple[int, int]:
        request = pricing_service_pb2.RateUsageRequest(org_id=org_id, period=january)
        rated = await pricing_stub.RateUsage(request)
        return rated.plan_version, rated.total.minor_units

    assert [await costs("held"), await costs("unheld")] == [(1, 1000), (2, 1500)]
    answer = await catalog.MigratePlan(migrating(version=1, to_plan_id="p", to_version=2))
    assert [move.org_id for move in answer.moves] == ["held"]
    assert await costs("held") == (2, 1500)
    # Those that are held to no version are on the one in force.
    answer = await catalog.MigratePlan(migrating(version=2, to_plan_id="p", to_version=1))
    assert [move.org_id for move in answer.moves] == ["held", "unheld"]
    assert await costs("unheld") == (1, 1000)
    failed = await refusal(catalog.MigratePlan(migrating(to_plan_id="p", to_version=3)))
    assert (failed.reason, failed.metadata["id"]) == ("NOT_FOUND", "p version 3")


async def test_a_migration_needs_a_plan_that_takes_them(catalog: Any) -> None:
    shelf = subscribers()
    shelf["plans"] += [
        plan("euro", currency="EUR"),
        plan("old", status="STATUS_DEPRECATED"),
        plan("new", status="STATUS_DRAFT"),
        plan("soon", effective_at="2027-06-01T00:00:00Z"),
    ]
    await catalog.ApplyCatalog(declaration(shelf))
    for target, reason in (
        ("euro", "CURRENCY_MISMATCH"),
        ("old", "PLAN_NOT_ACTIVE"),
        ("new", "PLAN_NOT_ACTIVE"),
        ("soon", "INVALID_FIELD"),
        ("none", "NOT_FOUND"),
    ):
        failed = await refusal(catalog.MigratePlan(migrating(to_plan_id=target)))
        assert failed.reason == reason, target
    assert len(await entitled(catalog)) == len(shelf["entitlements"])


async def test_a_migration_that_came_before_the_prices_is_judged_anew(catalog: Any) -> None:
    shelf = subscribers()
    shelf["plans"].append(plan("soon", effective_at="2027-06-01T00:00:00Z"))
    await catalog.ApplyCatalog(declaration(shelf))
    request = migrating(to_plan_id="soon", limit=1)
    assert (await refusal(catalog.MigratePlan(request))).reason == "INVALID_FIELD"
    shelf["plans"][-1] = plan("soon", "11", effective_at="2026-12-01T00:00:00Z")
    await catalog.ApplyCatalog(declaration(shelf))
    assert len((await catalog.MigratePlan(request)).moves) == 1


async def test_migrations_and_catalogues_at_once_take_turns(catalog: Any) -> None:
    shelf = subscribers()
    shelf["entitlements"] += [{"org_id": f"o{number}", "plan_id": "p"} for number in range(20)]
    await catalog.ApplyCatalog(declaration(shelf))
    newcomers = [
        declaration({"entitlements": [{"org_id": f"z{number}", "plan_id": "p"}]})
        for number in range(5)
    ]
    answers = await asyncio.gather(
        *(catalog.MigratePlan(migrating(limit=3)) for _ in range(10)),
        *(catalog.ApplyCatalog(newcomer) for newcomer in newcomers),
    )
    moved = [move.org_id for answer in answers[:10] for move in answer.moves]
    assert len(moved) == len(set(moved))
    assert (await catalog.MigratePlan(migrating(limit=500))).remaining == 0
    at_last = {org_id: plan_id for org_id, plan_id, *_ in await entitled(catalog)}
    assert set(at_last.values()) == {"q"}


async def test_plans_of_one_tenant_are_in_several_currencies(
    catalog: Any, pricing_stub: Any
) -> None:
    shelf = {
        "skus": [SKU],
        "plans": [plan("usd", "10.50"), plan("jpy", "1500", "JPY"), plan("kwd", "3.125", "KWD")],
        "entitlements": [
            {"org_id": f"of-{code}", "plan_id": code} for code in ("usd", "jpy", "kwd")
        ],
    }
    await catalog.ApplyCatalog(declaration(shelf))
    found = []
    for code in ("usd", "jpy", "kwd"):
        request = pricing_service_pb2.RateUsageRequest(
            org_id=f"of-{code}",
            period=type_pb2.Period(
                start_at=at("2026-10-01T00:00:00Z"), end_at=at("2026-11-01T00:00:00Z")
            ),
        )
        total = (await pricing_stub.RateUsage(request)).total
        found.append((total.currency_code, total.minor_units))
    assert found == [("USD", 1050), ("JPY", 1500), ("KWD", 3125)]


async def test_tax_codes_of_prices_are_kept_with_their_version(catalog: Any) -> None:
    shelf = {"skus": [{"sku": "seat", "tax_code": "S1"}], "plans": [plan("p")]}
    await catalog.ApplyCatalog(declaration(shelf))
    taxed = {
        "plans": [{"plan_id": "p", "currency_code": "USD", "prices": flat("10", tax_code="T9")}]
    }
    await catalog.ApplyCatalog(declaration(taxed))
    assert [(await read(catalog, version=version)).prices[0].tax_code for version in (1, 2)] == [
        "",
        "T9",
    ]
    held = {
        "entitlements": [{"org_id": "a", "plan_id": "p", "overrides": flat("9", tax_code="T8")}]
    }
    await catalog.ApplyCatalog(declaration(held))
    (found,) = (
        await catalog.ListEntitlements(catalog_service_pb2.ListEntitlementsRequest())
    ).entitlements
    assert found.overrides[0].tax_code == "T8"


async def test_only_a_scope_that_may_assign_puts_somebody_on_a_model(
    mesh: Mesh, catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    await catalog.ApplyCatalog(declaration(subscribers()))
    writer = catalog_service_pb2_grpc.CatalogServiceStub(mesh.channel(tenant, {"pricing:write"}))
    # What stands there already may be declared again, and everything else may be changed.
    await writer.ApplyCatalog(declaration(subscribers()))
    new = {"org_business_models": [{"org_id": "new", "model_id": "m"}]}
    moved = {"org_business_models": [{"org_id": "by-model", "model_id": "m", "plan_id": "q"}]}
    for wrong in (new, moved):
        for validate_only in (False, True):
            failed = await refusal(
                writer.ApplyCatalog(declaration(wrong, validate_only=validate_only))
            )
            assert (failed.reason, failed.metadata["scope"]) == ("SCOPE_MISSING", "pricing:admin")
    request = catalog_service_pb2.AssignBusinessModelRequest(
        request_id=str(uuid.uuid4()), org_id="new", model_id="m", plan_id="q", notes="by contract 7"
    )
    with pytest.raises(grpc.aio.AioRpcError) as denied:
        await writer.AssignBusinessModel(request)
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assigned = (await catalog.AssignBusinessModel(request)).org_business_model
    assert (assigned.assigned_by, assigned.assigned_at.ToDatetime(UTC)) == (f"test:{tenant}", NOW)
    assert (assigned.plan_id, assigned.notes) == ("q", "by contract 7")
    entity, entity_id, before, after, actor = recorded(database, AUDIT, tenant)[-1]
    assert (entity, entity_id, before, actor) == (
        "org_business_model",
        "new",
        None,
        f"test:{tenant}",
    )
    assert after == json_format.MessageToDict(assigned, preserving_proto_field_name=True)


async def test_who_assigned_and_when_stays_until_somebody_moves(catalog: Any) -> None:
    first = {
        "org_id": "acme",
        "model_id": "m",
        "assigned_by": "eve",
        "assigned_at": "2026-01-02T03:04:05Z",
    }
    shelf = subscribers() | {"org_business_models": [first], "entitlements": []}
    await catalog.ApplyCatalog(declaration(shelf))

    async def assigned(**fields: Any) -> tuple[str, datetime]:
        item = {"org_id": "acme", "model_id": "m", **fields}
        await catalog.ApplyCatalog(declaration({"org_business_models": [item]}))
        answer = await catalog.ListOrgBusinessModels(
            catalog_service_pb2.ListOrgBusinessModelsRequest()
        )
        (found,) = answer.org_business_models
        return found.assigned_by, found.assigned_at.ToDatetime(UTC)

    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert await assigned(notes="renewed") == ("eve", then)
    by, when = await assigned(plan_id="q")
    assert by.startswith("test:")
    assert when == NOW
