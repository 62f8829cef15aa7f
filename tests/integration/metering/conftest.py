"""A running mesh of metering and a catalogue of the test's own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from payments.metering.v1 import metering_service_pb2_grpc

from services.metering import manifest
from services.runtime.clock import ManualClock
from tests.support.billing.metering import NOW, Catalogue, catalogue_of
from tests.support.mesh.serving import Mesh, Served, running
from tests.support.postgres.server import DatabaseUrls, Server


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """The catalogue of the session; tests use SKUs of their own when they count what it is asked."""
    return catalogue_of("llm.tokens", "llm.requests", "gpu.seconds")


@pytest.fixture(scope="session")
def database(postgres_server: Server, worker_id: str) -> DatabaseUrls:
    """Of this folder alone: its mesh lives until the run ends, and its clock would serve what is due by another's."""
    return postgres_server.new_database(f"metering_{worker_id}")


@pytest_asyncio.fixture(scope="session")
async def mesh(database: DatabaseUrls, catalogue: Catalogue) -> AsyncIterator[Mesh]:
    """Metering and the catalogue on one port; it is NOW there."""
    builds: Served = [manifest.SERVICE, catalogue.build]
    async with running(database, builds, clock=ManualClock(NOW)) as served:
        yield served


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test writes to."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def stub(mesh: Mesh, tenant: str) -> metering_service_pb2_grpc.MeteringServiceAsyncStub:
    """Metering, called by the tenant with every scope."""
    return metering_service_pb2_grpc.MeteringServiceStub(mesh.channel(tenant))
