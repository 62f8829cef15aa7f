"""A mesh whose database is cut off, hangs, or has no room: what it says of itself, and what it still does."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc
from payments.contracts.v1 import contracts_pb2, contracts_service_pb2
from payments.contracts.v1.contracts_service_pb2_grpc import ContractMonitorServiceStub
from structlog.testing import capture_logs

from services.runtime import manifests, migrations
from services.runtime.config import Settings
from services.runtime.edge.status import RemoteError
from services.runtime.events.sequencer import IDLE_MS_MAX
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.process import readiness
from services.runtime.process.readiness import DatabaseProbe
from services.runtime.storage import Room
from tests.support.http.rest import REPOSITORY
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import Server, service_environments
from tests.support.postgres.wire import Wire, wired

STATES = health_pb2.HealthCheckResponse
# The product's bound is three seconds; a machine that runs eight suites gets more.
SEEN_WITHIN_S = 20.0
MIB = 1024**2


@pytest.fixture(scope="module")
async def far(postgres_server: Server) -> AsyncIterator[tuple[Wire, Mesh]]:
    """A whole mesh at the end of a wire, with two connections for its calls.

    Nobody else's books or webhooks are in its database: what it logs is of its own.
    """
    database = postgres_server.new_database("far")
    async with (
        wired(database) as (wire, urls),
        running(urls, manifests.found(), pool_size=2) as mesh,
    ):
        yield wire, mesh
    postgres_server.drop_database(database)


def health(mesh: Mesh) -> Any:
    return health_pb2_grpc.HealthStub(mesh.channel("nobody", set()))


async def states(mesh: Mesh) -> dict[str, bool]:
    """What the health service says of each name."""
    stub = health(mesh)
    found = {}
    for name in mesh.node.readiness.states:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        found[name] = answer.status == STATES.SERVING
    return found


async def become(mesh: Mesh, serving: bool) -> None:
    give_up_at = time.monotonic() + SEEN_WITHIN_S
    while set((await states(mesh)).values()) != {serving}:
        assert time.monotonic() < give_up_at, await states(mesh)
        await asyncio.sleep(0.02)


def asked_seconds() -> float:
    """What /readyz adds: how long it asks, and remembers."""
    probes = (REPOSITORY / "services/gateway/internal/rest/probes.go").read_text()
    found = re.findall(r"^\tready(?:Timeout|Memory) *= (\d+) \* time.Millisecond$", probes, re.M)
    assert len(found) == 2
    return sum(map(int, found)) / 1000


def test_a_change_is_seen_at_readyz_within_three_seconds_with_room_to_spare() -> None:
    seen_s = readiness.LOOK_SECONDS + asked_seconds()
    stall_s = Settings.model_fields["feed_stall_seconds"].default
    # What hangs is known by the age of its last answer or success.
    assert readiness.ANSWER_SECONDS_MAX + seen_s <= 2.8
    assert stall_s + seen_s <= 2.8
    # What refuses, once it is asked.
    assert readiness.PROBE_SECONDS + seen_s <= 2.3
    assert IDLE_MS_MAX / 1000 + readiness.FEED_FAILING_SECONDS_MAX + seen_s <= 2.3


async def test_the_whole_follows_a_feed_whose_role_is_gone(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    # Databases made from the template share its roles: this one has its own.
    urls = new_database(empty=True)
    await asyncio.to_thread(migrations.upgrade, urls.owner_admin, service_environments())
    relay = urlsplit(urls.relay).username
    events = "payments.events.v1.EventService"
    async with (
        await psycopg.AsyncConnection.connect(urls.owner_admin, autocommit=True) as owner,
        running(urls, manifests.found()) as mesh,
    ):
        await become(mesh, True)
        await owner.execute(f'ALTER ROLE "{relay}" NOLOGIN'.encode())
        try:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
            await owner.execute(ended, (relay,))
            give_up_at = time.monotonic() + SEEN_WITHIN_S
            while (told := await states(mesh))[""]:
                assert time.monotonic() < give_up_at, told
                await asyncio.sleep(0.02)
            assert [name for name, serving in told.items() if not serving] == ["", events]
        finally:
            await owner.execute(f'ALTER ROLE "{relay}" LOGIN'.encode())
        await become(mesh, True)


@pytest.mark.parametrize("fault", [Wire.cut, Wire.hang])
async def test_every_service_follows_the_database_and_watchers_are_told(
    far: tuple[Wire, Mesh], fault: Callable[[Wire], None]
) -> None:
    wire, mesh = far
    await become(mesh, True)
    watched: list[int] = []
    seen = asyncio.Event()

    async def watch() -> None:
        request = health_pb2.HealthCheckRequest(service="payments.ledger.v1.LedgerService")
        async for answer in health(mesh).Watch(request):
            watched.append(answer.status)
            seen.set()

    watching = asyncio.create_task(watch())
    try:
        await seen.wait()
        with capture_logs() as lines:
            fault(wire)
            await become(mesh, False)
            # The loops of the process go on failing.
            await asyncio.sleep(1)
            wire.mend()
            await become(mesh, True)
        told = [line["event"].partition(":")[0] for line in lines if line["log_level"] != "info"]
        assert told == ["database gone", "database back"], lines
        await asyncio.sleep(0.05)
        assert watched == [STATES.SERVING, STATES.NOT_SERVING, STATES.SERVING]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_pool_that_is_used_up_is_no_database_that_is_gone(far: tuple[Wire, Mesh]) -> None:
    _, mesh = far
    await become(mesh, True)
    async with contextlib.AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(mesh.node.database.session())
        await asyncio.sleep(readiness.ANSWER_SECONDS_MAX + readiness.PROBE_SECONDS)
        assert set((await states(mesh)).values()) == {True}


def test_the_probe_tells_a_server_that_is_full_from_one_that_lets_nobody_in(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    database = new_database(empty=True)
    probe = DatabaseProbe(database.service)
    probe.look()
    assert probe.why_gone() == ""
    with psycopg.connect(database.owner_admin, autocommit=True) as owner:
        role = urlsplit(database.service).username
        try:
            owner.execute(f'ALTER ROLE "{role}" CONNECTION LIMIT 0'.encode())
            probe.look()
            assert probe.why_gone() == "", "it is there, and its places are taken"
            owner.execute(f'ALTER ROLE "{role}" CONNECTION LIMIT -1 NOLOGIN'.encode())
            probe.look()
            assert "not permitted to log in" in probe.why_gone()
        finally:
            owner.execute(f'ALTER ROLE "{role}" CONNECTION LIMIT -1 LOGIN'.encode())
    probe.look()
    assert probe.why_gone() == ""
    for wrong in ("postgresql://x@127.0.0.1:1/x", "postgresql://x@/x?host=/nowhere"):
        probe = DatabaseProbe(wrong)
        probe.look()
        assert probe.why_gone()


def test_an_answer_grows_old() -> None:
    probe = DatabaseProbe("postgresql://x@/x?host=/nowhere", answer_seconds_max=-1.0)
    assert probe.why_gone().startswith("no answer for")


# ---- room


@pytest.fixture
async def roomy(database: DatabaseUrls) -> AsyncIterator[tuple[Mesh, Callable[[int], None]]]:
    """A mesh, and how to say what room its database has."""
    async with running(database, manifests.found()) as mesh:

        def free(mib: int) -> None:
            mesh.node.storage._measure = lambda: Room(mib * MIB, 10_000 * MIB)
            mesh.node.storage.look()

        yield mesh, free


def violation() -> contracts_service_pb2.RecordViolationsRequest:
    item = contracts_pb2.ContractViolation(
        contract_id="router/timeout", request_id=str(uuid4()), severity="HIGH", message="took 3 s"
    )
    return contracts_service_pb2.RecordViolationsRequest(violations=[item])


async def test_writes_are_refused_while_there_is_little_room_and_reads_go_on(
    roomy: tuple[Mesh, Callable[[int], None]],
) -> None:
    mesh, free = roomy
    tenant = str(uuid4())
    monitor: Any = ContractMonitorServiceStub(mesh.channel(tenant))
    access: Any = access_service_pb2_grpc.AccessServiceStub(
        mesh.channel(tenant, {"*", "mesh:admin"})
    )
    request = violation()
    free(100)
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await monitor.RecordViolations(request)
        error = RemoteError.of(refused.value, "monitoring")
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (error.reason, error.retry_after_ms) == ("STORAGE_LOW", 10_000)
        assert error.metadata["free_bytes"] == str(100 * MIB)
    listed = await monitor.ListViolations(contracts_service_pb2.ListViolationsRequest())
    assert list(listed.violations) == []
    # Who must be locked out is, and an operator gets in.
    key = access_service_pb2.CreateApiKeyRequest(
        request_id=str(uuid4()), name="operator", scopes=["ledger:read"]
    )
    made = await access.CreateApiKey(key)
    revoke = access_service_pb2.RevokeApiKeyRequest(
        request_id=str(uuid4()), key_id=made.api_key.key_id
    )
    await access.RevokeApiKey(revoke)
    # Nothing is unfit: what reads is served.
    await mesh.node.readiness.look()
    assert mesh.node.readiness.states[""]
    free(600)
    with pytest.raises(grpc.aio.AioRpcError):
        await monitor.RecordViolations(request)
    free(640)
    assert (await monitor.RecordViolations(request)).accepted == 1, "the refusal was not its answer"


async def test_without_a_key_nothing_is_told_of_the_disk(
    roomy: tuple[Mesh, Callable[[int], None]],
) -> None:
    mesh, free = roomy
    free(1)
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        monitor: Any = ContractMonitorServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await monitor.RecordViolations(violation())
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    free(1000)


async def test_a_database_elsewhere_that_takes_no_writes_is_told_and_tried_again(
    new_database: Callable[[], DatabaseUrls],
) -> None:
    urls = new_database()
    async with (
        await psycopg.AsyncConnection.connect(urls.owner_admin, autocommit=True) as owner,
        running(urls, manifests.found()) as mesh,
    ):
        monitor: Any = ContractMonitorServiceStub(mesh.channel("t"))
        request = violation()
        for code, reason, words in (
            ("53100", "STORAGE_LOW", "disk is full"),
            # A standby, be it one that was the primary a moment ago.
            ("25006", "DATABASE_UNAVAILABLE", "read-only"),
            ("25P04", "DATABASE_UNAVAILABLE", "unavailable"),
        ):
            await owner.execute(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$".encode()
            )
            await owner.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON monitoring.violation EXECUTE FUNCTION refuse()"
            )
            with pytest.raises(grpc.aio.AioRpcError, match=words) as refused:
                await monitor.RecordViolations(request)
            error = RemoteError.of(refused.value, "monitoring")
            assert (error.reason, error.transient) == (reason, True)
            assert error.retry_after_ms
            await owner.execute("DROP TRIGGER refuse ON monitoring.violation")
        assert (await monitor.RecordViolations(request)).accepted == 1
