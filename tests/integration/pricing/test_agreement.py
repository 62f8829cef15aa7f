"""The contract that an estimate is what is charged: it holds, and a plant that breaks it is seen by the monitor."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from payments.contracts.v1 import contracts_service_pb2, contracts_service_pb2_grpc
from payments.metering.v1 import metering_service_pb2_grpc
from payments.pricing.v1 import (
    catalog_service_pb2_grpc,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)

from services.access import manifest as access
from services.metering import manifest as metering
from services.monitoring import manifest as monitoring
from services.pricing import manifest as pricing
from services.pricing import store
from services.pricing.app import pricing as app
from services.pricing.domain import rating
from services.runtime.clock import ManualClock
from services.runtime.money import Money
from tests.integration.pricing.test_parts import CHANGE, START, period, shelf, use
from tests.integration.pricing.test_parts import rating as asked
from tests.support.billing.metering import NOW
from tests.support.billing.pricing import declaration
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import Server

CONTRACT = "pricing/estimate-is-charge"


@pytest_asyncio.fixture(scope="module")
async def watched(postgres_server: Server, worker_id: str) -> AsyncIterator[Mesh]:
    """Pricing with a monitor beside it."""
    builds = [pricing.SERVICE, metering.SERVICE, access.SERVICE, monitoring.SERVICE]
    database = postgres_server.new_database(f"agreement_{worker_id}")
    async with running(database, builds, clock=ManualClock(NOW)) as served:
        yield served


class World:
    """A tenant of the mesh with a monitor."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        channel = mesh.channel(f"t-{uuid.uuid4().hex[:12]}")
        self.catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self.metering: Any = metering_service_pb2_grpc.MeteringServiceStub(channel)
        self.pricing: Any = pricing_service_pb2_grpc.PricingServiceStub(channel)
        self.monitor: Any = contracts_service_pb2_grpc.ContractMonitorServiceStub(channel)

    async def violations(self) -> list[Any]:
        """Return what the monitor has of the contract."""
        await self.mesh.drain_events()
        answer = await self.monitor.ListViolations(
            contracts_service_pb2.ListViolationsRequest(contract_id=CONTRACT)
        )
        return list(answer.violations)


@pytest_asyncio.fixture
async def world(watched: Mesh, monkeypatch: pytest.MonkeyPatch) -> World:
    """One that each rating of is also asked for as an estimate."""
    monkeypatch.setattr(app, "RATINGS_AN_ESTIMATE", 1)
    return World(watched)


async def test_what_is_charged_is_what_an_estimate_says(world: World) -> None:
    await world.catalog.ApplyCatalog(declaration(shelf()))
    await use(world.metering, (START, "31"), (CHANGE, "89.5"))
    for bounds in ({}, {"end_at": CHANGE}, {"start_at": CHANGE}):
        await world.pricing.RateUsage(asked(**bounds))
    assert await world.violations() == []


async def test_a_price_that_estimates_go_by_otherwise_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.catalog.ApplyCatalog(declaration(shelf()))
    await use(world.metering, (START, "31"))
    right = rating._estimate_line

    def wrong(terms: Any, sku: str, quantity: Any) -> rating.EstimateLine:
        line = right(terms, sku, quantity)
        return replace(line, total=line.total + Money("USD", sku == "calls"))

    monkeypatch.setattr(rating, "_estimate_line", wrong)
    rated = await world.pricing.RateUsage(asked(end_at=CHANGE))
    # The charge is what it is.
    assert rated.total.minor_units == 1000 + 1050
    (found,) = await world.violations()
    assert found.contract_registered
    assert (found.subject_id, found.service) == ("acme/calls", "pricing")
    assert found.message == (
        "an estimate of 31 units of calls comes to 10.51 USD, and 10.50 is charged to acme from"
        " 2026-11-19T00:00:00+00:00 on"
    )


async def test_an_estimate_that_was_remembered_too_long_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.catalog.ApplyCatalog(declaration(shelf()))
    await use(world.metering, (START, "31"))
    # As if the catalogue's stamp did not notice changes.
    monkeypatch.setattr(store, "catalog_stamp", _never_changing())
    request = pricing_service_pb2.EstimateRequest(
        org_id="acme", skus={"calls": "31", "fee": "0"}, leads="1", period=period(START, CHANGE)
    )
    assert (await world.pricing.Estimate(request)).grand_total.minor_units == 2050
    dearer = shelf()
    dearer["entitlements"][0]["overrides"] = [{"sku": "fee", "price": {"flat": {"amount": "12"}}}]
    await world.catalog.ApplyCatalog(declaration(dearer))
    rated = await world.pricing.RateUsage(asked(end_at=CHANGE))
    assert rated.total.minor_units == 1200 + 1050
    (found,) = await world.violations()
    assert found.subject_id == "acme"
    assert found.message == (
        "an estimate for acme goes by other terms than its charge: the base is 10.00 USD, and by the terms of a"
        " charge 12.00 USD"
    )


def _never_changing() -> Callable[..., Any]:
    async def same(_: Any) -> int:
        return 1

    return same
