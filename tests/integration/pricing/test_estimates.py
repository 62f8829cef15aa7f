"""Estimates are remembered, and never after the catalogue changed: in whichever process, and as time goes by."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)

from services.metering import manifest as metering
from services.pricing import manifest as pricing
from services.pricing import store
from services.runtime.clock import ManualClock
from tests.support.billing.metering import NOW
from tests.support.billing.pricing import declaration, recorded
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

STAMP = "SELECT stamp FROM pricing.catalog_stamp WHERE tenant_id = %s"


def shelf(amount: str, **more: Any) -> dict[str, Any]:
    price = {"per_unit": {"unit_amount": amount}}
    plan = {"plan_id": "p", "currency_code": "USD", "prices": [{"sku": "calls", "price": price}]}
    held = {"org_id": "acme", "plan_id": "p"}
    return {"skus": [{"sku": "calls"}], "plans": [plan | more], "entitlements": [held]}


@pytest_asyncio.fixture
async def clock() -> ManualClock:
    """Of the other process."""
    return ManualClock(NOW)


@pytest_asyncio.fixture
async def other(database: DatabaseUrls, mesh: Mesh, clock: ManualClock) -> AsyncIterator[Mesh]:
    """Another process of the mesh, on the same database."""
    async with running(database, [pricing.SERVICE, metering.SERVICE], clock=clock) as served:
        yield served


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose plans were looked up."""
    found: list[str] = []
    read = store.entitlements_of_period

    async def noted(work: Any, org_id: str, *bounds: Any) -> Any:
        found.append(org_id)
        return await read(work, org_id, *bounds)

    monkeypatch.setattr(store, "entitlements_of_period", noted)
    return found


async def total(channel: Any, **more: Any) -> int:
    stub: Any = pricing_service_pb2_grpc.PricingServiceStub(channel)
    given = {"org_id": "acme", "skus": {"calls": "2"}, "leads": "50", **more}
    answer = await stub.Estimate(pricing_service_pb2.EstimateRequest(**given))
    found: int = answer.grand_total.minor_units
    return found


async def test_the_same_question_is_computed_once(
    mesh: Mesh, catalog: Any, tenant: str, readings: list[str]
) -> None:
    await catalog.ApplyCatalog(declaration(shelf("1")))
    channel = mesh.channel(tenant)
    assert [await total(channel) for _ in range(3)] == [10_000] * 3
    assert readings == ["acme"]
    # Another question is another one, and another tenant's is its own.
    assert await total(channel, leads="51") == 10_200
    assert await total(channel, skus={"calls": "3"}) == 15_000
    assert len(readings) == 3
    stranger = mesh.channel(f"t-{uuid.uuid4().hex[:12]}")
    await catalog_service_pb2_grpc.CatalogServiceStub(stranger).ApplyCatalog(
        declaration(shelf("9"))
    )
    assert await total(stranger) == 90_000
    assert await total(channel) == 10_000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (shelf("3"), 30_000),
        (
            {
                "entitlements": [
                    {
                        "org_id": "acme",
                        "plan_id": "p",
                        "overrides": [{"sku": "calls", "price": {"flat": {"amount": "7"}}}],
                    }
                ]
            },
            700,
        ),
    ],
)
async def test_what_another_process_changes_is_seen_at_once(
    mesh: Mesh, other: Mesh, catalog: Any, tenant: str, change: dict[str, Any], expected: int
) -> None:
    await catalog.ApplyCatalog(declaration(shelf("1")))
    both = (mesh.channel(tenant), other.channel(tenant))
    assert [await total(channel) for channel in both] == [10_000] * 2
    elsewhere: Any = catalog_service_pb2_grpc.CatalogServiceStub(both[1])
    await elsewhere.ApplyCatalog(declaration(change))
    assert [await total(channel) for channel in both] == [expected] * 2


async def test_migrations_and_assignments_are_seen_too(
    mesh: Mesh, other: Mesh, catalog: Any, tenant: str
) -> None:
    catalogue = shelf("1")
    dear = {**catalogue["plans"][0], "plan_id": "q"}
    dear["prices"] = [{"sku": "calls", "price": {"per_unit": {"unit_amount": "4"}}}]
    catalogue["plans"].append(dear)
    catalogue["business_models"] = [
        {"model_id": "m", "currency_code": "USD", "default_plan_id": "p"}
    ]
    catalogue["entitlements"] = []
    await catalog.ApplyCatalog(declaration(catalogue))
    channel = other.channel(tenant)
    assign = catalog_service_pb2.AssignBusinessModelRequest(
        request_id=str(uuid.uuid4()), org_id="acme", model_id="m"
    )
    await catalog.AssignBusinessModel(assign)
    assert await total(channel) == 10_000
    move = catalog_service_pb2.MigratePlanRequest(
        request_id=str(uuid.uuid4()), plan_id="p", to_plan_id="q"
    )
    move.effective_at.FromDatetime(NOW - timedelta(days=1))
    await catalog.MigratePlan(move)
    assert await total(channel) == 40_000


async def test_other_terms_begin_as_time_goes_by(
    other: Mesh, clock: ManualClock, catalog: Any, tenant: str
) -> None:
    await catalog.ApplyCatalog(declaration(shelf("1")))
    later = {
        "plans": shelf("2", effective_at=(NOW + timedelta(hours=1)).isoformat())["plans"],
        "entitlements": [
            {
                "org_id": "acme",
                "plan_id": "p",
                "effective_at": (NOW + timedelta(hours=2)).isoformat(),
                "overrides": [{"sku": "calls", "price": {"per_unit": {"unit_amount": "3"}}}],
            }
        ],
    }
    await catalog.ApplyCatalog(declaration(later))
    channel = other.channel(tenant)
    found = []
    for _ in range(3):
        found += [await total(channel), await total(channel)]
        clock.advance(timedelta(hours=1))
    assert found == [10_000, 10_000, 20_000, 20_000, 30_000, 30_000]


async def test_a_declaration_changes_the_stamp_once_and_only_if_it_changes_something(
    catalog: Any, tenant: str, database: DatabaseUrls
) -> None:
    await catalog.ApplyCatalog(declaration(shelf("1")))
    assert recorded(database, STAMP, tenant) == [(1,)]
    await catalog.ApplyCatalog(declaration(shelf("1")))
    await catalog.ApplyCatalog(declaration(shelf("2"), validate_only=True))
    await catalog.ApplyCatalog(declaration({"partners": [{"partner_id": "n", "tier": "gold"}]}))
    assert recorded(database, STAMP, tenant) == [(1,)]
    skus = [{"sku": f"s{number}"} for number in range(300)]
    await catalog.ApplyCatalog(declaration({"skus": skus}))
    assert recorded(database, STAMP, tenant) == [(2,)]
