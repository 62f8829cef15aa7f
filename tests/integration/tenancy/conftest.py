"""Two tenants on one mesh, each with something of everything."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.cli.client import Session
from services.metering.domain.rollups import EVENTS_OF_HOUR_MAX
from tests.integration.tenancy.estate import Estate
from tests.support.billing.spooled import leave_spooled
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
    hear_a_processor(url, estate.tenant, estate.name("word"))
    guard_a_fire(url, estate.tenant, estate.name("fire"))
    leave_an_hour_stale(url, estate.tenant, estate.name("org"))
    estate.ids["spooled"] = leave_spooled(url, estate.tenant, estate.name("held"))
    return estate


def hear_a_processor(url: str, tenant: str, event_id: str) -> None:
    """Leave the trace of what a processor told, which nothing but its signature could make."""
    with psycopg.connect(url) as service:
        service.execute("SELECT set_config('mesh.tenant', %s, true)", [tenant])
        service.execute(
            "INSERT INTO orchestration.processor_event VALUES (%s, 'stripe', %s, '', now())",
            [tenant, event_id],
        )


def guard_a_fire(url: str, tenant: str, event_id: str) -> None:
    """Leave the trace of a schedule's fire, which would be a minute's wait."""
    with psycopg.connect(url) as service:
        service.execute("SELECT set_config('mesh.tenant', %s, true)", [tenant])
        service.execute(
            "INSERT INTO mesh.schedule_fire VALUES (%s, 'tick', now(), %s)", [tenant, event_id]
        )


def leave_an_hour_stale(url: str, tenant: str, org_id: str) -> None:
    """Leave an hour that waits to be rolled up anew, by its buckets of more events than are: so it goes on waiting."""
    with psycopg.connect(url) as service:
        service.execute("SELECT set_config('mesh.tenant', %s, true)", [tenant])
        service.execute(
            "INSERT INTO metering.usage_rollup (tenant_id, generation, org_id, sku, keyed, minutes, bucket_at, series,"
            " project_id, group_values, event_count, quantity, smallest, largest, latest, first_event_at,"
            " last_event_at, last_ordinal) SELECT %(tenant)s, 1, %(org)s, 'stale', false, 60, at, gen_random_uuid(),"
            " '', '{}', %(events)s, 1, 1, 1, 1, at, at, 1 FROM (SELECT timestamptz '2001-01-01Z' AS at) AS hour",
            {"tenant": tenant, "org": org_id, "events": EVENTS_OF_HOUR_MAX + 1},
        )
        service.execute(
            "INSERT INTO metering.rollup_stale (tenant_id, org_id, sku, hour_at)"
            " VALUES (%s, %s, 'stale', '2001-01-01Z')",
            [tenant, org_id],
        )
