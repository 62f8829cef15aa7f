"""Two tenants on one mesh, each with something of everything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.cli.client import Session
from services.runtime.clock import SystemClock
from services.runtime.context import acting
from services.runtime.database import Database
from services.runtime.journeys.runner import PostgresJourneys
from tests.integration.tenancy.estate import Estate
from tests.support.events import call
from tests.support.process import MeshProcess, start
from tests.support.seasoning import seasoning


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshProcess]:
    """A mesh as its users run it; what it prints is all that a client has."""
    with start(tmp_path_factory.mktemp("tenancy") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def amber(mesh: MeshProcess) -> Estate:
    """The tenant that is looked for."""
    return made(mesh, "amberwood", uses=7)


@pytest.fixture(scope="session")
def birch(mesh: MeshProcess) -> Estate:
    """The tenant that looks."""
    return made(mesh, "birchwood", uses=11)


def made(mesh: MeshProcess, marker: str, uses: int) -> Estate:
    request = access_service_pb2.CreateApiKeyRequest(
        request_id=str(uuid4()), name=marker, scopes=["*"], tenant_id=f"{marker}-tenant"
    )
    with mesh.client() as operator:
        stub = operator.stub(access_service_pb2_grpc.AccessServiceStub)
        secret = operator.call(stub.CreateApiKey, request).secret
    estate = Estate(marker, uses, Session(mesh.ready["grpc"], secret))
    estate.build()
    asyncio.run(_set_out(estate, mesh.ready["database_url"]))
    return estate


async def _set_out(estate: Estate, url: str) -> None:
    """Start a journey, as a service of this tenant would: none of the release runs one yet."""
    database = Database(url, SystemClock())
    try:
        with acting(call(estate.tenant)):
            async with database.unit_of_work("lab.start") as work:
                data = {"payment_id": estate.name("payment"), "reminders": 0}
                journeys = PostgresJourneys([seasoning()])
                assert await journeys.start(work, "seasoning", estate.name("journey"), data)
                await work.execute(
                    "INSERT INTO mesh.schedule_fire VALUES (%(tenant)s, 'tick', now(), %(id)s)",
                    {"tenant": estate.tenant, "id": estate.name("fire")},
                )
    finally:
        await database.close()
