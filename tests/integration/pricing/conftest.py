"""A running mesh of pricing, the real metering and access."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from payments.metering.v1 import metering_service_pb2_grpc
from payments.pricing.v1 import catalog_service_pb2_grpc, pricing_service_pb2_grpc

from services.access import manifest as access
from services.metering import manifest as metering
from services.pricing import manifest as pricing
from services.runtime.clock import ManualClock
from tests.support.billing.metering import NOW
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls, Server


@pytest.fixture(scope="session")
def database(postgres_server: Server, worker_id: str) -> DatabaseUrls:
    """Of this folder alone: its mesh lives until the run ends, and its clock would serve what is due by another's."""
    return postgres_server.new_database(f"pricing_{worker_id}")


@pytest_asyncio.fixture(scope="session")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    """Pricing, metering and access on one port; it is NOW there."""
    builds = [pricing.SERVICE, metering.SERVICE, access.SERVICE]
    async with running(database, builds, clock=ManualClock(NOW)) as served:
        yield served


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test writes to."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def catalog(mesh: Mesh, tenant: str) -> catalog_service_pb2_grpc.CatalogServiceAsyncStub:
    """The catalogue, called by the tenant with every scope."""
    return catalog_service_pb2_grpc.CatalogServiceStub(mesh.channel(tenant))


@pytest.fixture
def pricing_stub(mesh: Mesh, tenant: str) -> pricing_service_pb2_grpc.PricingServiceAsyncStub:
    """Pricing, called by the tenant with every scope."""
    return pricing_service_pb2_grpc.PricingServiceStub(mesh.channel(tenant))


@pytest.fixture
def metering_stub(mesh: Mesh, tenant: str) -> metering_service_pb2_grpc.MeteringServiceAsyncStub:
    """Metering, called by the tenant with every scope."""
    return metering_service_pb2_grpc.MeteringServiceStub(mesh.channel(tenant))
