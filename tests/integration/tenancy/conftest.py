"""Two tenants on one mesh, each with something of everything."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.cli.client import Session
from tests.integration.tenancy.estate import Estate
from tests.support.mesh.process import MeshProcess, start
from tests.support.timers.journeys import start_seasoning


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
    url = mesh.ready["database_url"]
    start_seasoning(url, estate.tenant, estate.name("journey"))
    guard_a_fire(url, estate.tenant, estate.name("fire"))
    return estate


def guard_a_fire(url: str, tenant: str, event_id: str) -> None:
    """Leave the trace of a schedule's fire, which would be a minute's wait."""
    with psycopg.connect(url) as service:
        service.execute("SELECT set_config('mesh.tenant', %s, true)", [tenant])
        service.execute(
            "INSERT INTO mesh.schedule_fire VALUES (%s, 'tick', now(), %s)", [tenant, event_id]
        )
