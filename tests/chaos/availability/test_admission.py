"""Who attacks a mesh is counted and refused; whoever else calls is answered meanwhile.

What is measured here is counts: of streams that are let in, of messages that are read, of calls that wait. Times are
compared by the long form, beside a quiet mesh in the same run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc
from payments.metering.v1 import metering_pb2, metering_service_pb2, metering_service_pb2_grpc

from services.access import manifest as access
from services.access import store as access_store
from services.metering import manifest as metering
from services.runtime.access import MeshTokens, Principal, digest
from services.runtime.edge import admission as admissions
from services.runtime.edge.admission import Admission
from tests.support.billing.metering import catalogue_of
from tests.support.mesh.serving import MESH_SECRET, Mesh, Served, running
from tests.support.postgres.server import DatabaseUrls

LIST = "/payments.access.v1.AccessService/ListApiKeys"
CHECK = "/grpc.health.v1.Health/Check"
MIB = 1024**2
# More than a process lets in of anything.
FLOOD = 1100


@pytest_asyncio.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    builds: Served = [access.SERVICE, metering.SERVICE, catalogue_of("llm.tokens").build]
    async with running(database, builds) as started:
        yield started


@asynccontextmanager
async def connections(
    mesh: Mesh, number: int, **options: Any
) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Connections of their own, without a key."""
    async with AsyncExitStack() as opened:
        yield [
            await opened.enter_async_context(
                grpc.aio.insecure_channel(
                    mesh.address, options=[("grpc.use_local_subchannel_pool", 1), *options.items()]
                )
            )
            for _ in range(number)
        ]


def shown(tenant: str, *scopes: str) -> tuple[tuple[str, str]]:
    """Return the head of a call of a tenant.

    The channels of a mesh write it themselves; but those leave a task of every stream that is broken off.
    """
    principal = Principal(tenant, f"test:{tenant}", frozenset(scopes or ("*",)))
    return (("authorization", f"Mesh {MeshTokens(MESH_SECRET).issue(principal)}"),)


def silent(channel: Any, path: str, head: Any = None) -> Any:
    """Begin a call that sends no message."""
    return channel.stream_unary(path)(metadata=head)


def with_bytes(channel: Any, path: str, data: bytes, key: str = "") -> Any:
    """Make a call with bytes for its message."""
    metadata = (("authorization", f"Bearer {key}"),) if key else None
    return channel.unary_unary(path)(data, metadata=metadata, timeout=60)


def reflection_of(channel: Any) -> Any:
    return reflection_pb2_grpc.ServerReflectionStub(channel)


def admission(mesh: Mesh) -> Admission:
    """Return what lets calls in to this mesh."""
    return mesh.node.pipeline.admission


def refusal(error: grpc.aio.AioRpcError) -> tuple[str, str, float]:
    """Return code, reason, and after how many seconds to come again (0 for never)."""
    status = status_pb2.Status.FromString(
        bytes(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])
    )
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    return error.code().name, info.reason, retry.retry_delay.ToMilliseconds() / 1000


async def others_are_answered(mesh: Mesh) -> None:
    """Make a call as a tenant that does nothing wrong, and ask how the mesh is."""
    channel = mesh.channel("quiet", ("*", "mesh:admin"))
    stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)
    await stub.ListApiKeys(access_service_pb2.ListApiKeysRequest(), timeout=20)
    async with grpc.aio.insecure_channel(mesh.address) as probe:
        health: Any = health_pb2_grpc.HealthStub(probe)
        assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=20)).status == 1


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 # what is awaited is in another process or library
            await asyncio.sleep(0.01)


async def ended(calls: list[Any]) -> Counter[tuple[str, str, float]]:
    """Return how those of the calls ended that were refused; the others go on."""

    async def end(call: Any) -> tuple[str, str, float]:
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            return refusal(error)
        return ("OK", "", 0.0)

    return Counter(await asyncio.gather(*map(end, calls)))


OVERLOADED = ("RESOURCE_EXHAUSTED", "OVERLOADED", 1.0)


async def test_watchers_of_health_have_few_places_on_a_connection_and_none_of_those_who_work(
    mesh: Mesh,
) -> None:
    async with connections(mesh, 4) as channels:
        request = health_pb2.HealthCheckRequest()
        stubs: list[Any] = [health_pb2_grpc.HealthStub(channel) for channel in channels]
        calls = [stubs[number % 4].Watch(request) for number in range(FLOOD)]
        told = await ended(calls)
        allowed = 4 * admissions.CONNECTION_KEYLESS_MAX
        assert told == {("OK", "", 0.0): allowed, OVERLOADED: FLOOD - allowed}
        await others_are_answered(mesh)
        async with connections(mesh, 1) as (other,):
            stub: Any = health_pb2_grpc.HealthStub(other)
            watched = stub.Watch(request, timeout=20)
            assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
            watched.cancel()
    await until(lambda: admission(mesh).watches.total == 0)


async def test_reflection_that_asks_nothing_has_few_places(mesh: Mesh) -> None:
    async with connections(mesh, 2) as channels:
        stubs = [reflection_of(channel) for channel in channels]
        calls = [stubs[number % 2].ServerReflectionInfo() for number in range(FLOOD)]
        allowed = 2 * admissions.CONNECTION_KEYLESS_MAX
        await until(lambda: sum(call.done() for call in calls) == FLOOD - allowed)
        assert admission(mesh).reflections.total == allowed
        await others_are_answered(mesh)
        async with connections(mesh, 1) as (other,):
            stub = reflection_of(other)
            asked = stub.ServerReflectionInfo(timeout=20)
            await asked.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            assert (await asked.read()).list_services_response.service
            asked.cancel()
    await until(lambda: admission(mesh).reflections.total == 0)


async def test_probes_that_send_nothing_make_room_for_those_that_ask(mesh: Mesh) -> None:
    async with connections(mesh, 4) as channels:
        calls = [silent(channels[number % 4], CHECK) for number in range(FLOOD)]
        await until(lambda: sum(call.done() for call in calls) >= FLOOD - 64)
        for _ in range(20):
            await others_are_answered(mesh)
        for call in calls:
            call.cancel()


async def test_a_call_without_a_key_is_refused_before_its_message(mesh: Mesh) -> None:
    async with connections(mesh, 2) as channels:
        calls = [silent(channels[number % 2], LIST) for number in range(FLOOD)]
        ends = [await refused(call) for call in calls]
    assert Counter(ends) == {("UNAUTHENTICATED", "UNAUTHENTICATED", 0.0): FLOOD}


async def refused(call: Awaitable[Any]) -> tuple[str, str, float]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


async def test_no_message_is_read_of_who_shows_a_wrong_key(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    sound = admissions._read

    async def noted(context: Any, method: str) -> bytes:
        data = await sound(context, method)
        read.append(len(data))
        return data

    monkeypatch.setattr(admissions, "_read", noted)
    message = bytes(4 * MIB)
    async with connections(mesh, 2) as channels:
        calls = [
            with_bytes(channels[number % 2], LIST, message, f"tmk_wrong_{number}")
            for number in range(24)
        ]
        ends = Counter([await refused(call) for call in calls])
    assert set(ends) <= {("UNAUTHENTICATED", "UNAUTHENTICATED", 0.0), OVERLOADED}
    assert read == []


async def test_calls_that_never_send_their_message_hold_up_their_own_tenant_alone(
    mesh: Mesh,
) -> None:
    tenant = f"t-{uuid4()}"
    head = shown(tenant)
    async with connections(mesh, 2) as channels:
        calls = [silent(channels[number % 2], LIST, head) for number in range(FLOOD)]
        waiting = admissions.TENANT_READS_WAITING_MAX + admissions.TENANT_READS_MAX
        await until(lambda: sum(call.done() for call in calls) >= FLOOD - waiting)
        over = [await refused(call) for call in calls if call.done()]
        assert Counter(over) == {OVERLOADED: FLOOD - waiting}
        reads = admission(mesh).callers.reads
        assert reads.held(tenant) == admissions.TENANT_READS_MAX
        assert admission(mesh).callers.tenants.held(tenant) == 0, "who sends nothing has no place"
        await others_are_answered(mesh)
        for call in calls:
            call.cancel()
        await until(lambda: reads.held(tenant) == 0 and reads.waiting == 0)


async def test_a_message_that_does_not_come_ends_its_call(database: DatabaseUrls) -> None:
    async with running(database, [access.SERVICE], body_seconds=0.2) as hasty:
        async with connections(hasty, 1) as (channel,):
            end = await refused(silent(channel, LIST, shown("slow")))
            assert end == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 0.0)
            empty = silent(channel, LIST, shown("slow"))
            await empty.done_writing()
            code, reason, _ = await refused(empty)
        assert (code, reason) == ("INVALID_ARGUMENT", "UNDECODABLE_REQUEST")


async def test_idle_streams_of_one_tenant_are_capped_and_take_no_place_of_calls(mesh: Mesh) -> None:
    tenant = f"t-{uuid4()}"
    async with connections(mesh, 1) as (channel,):
        stub: Any = metering_service_pb2_grpc.MeteringServiceStub(channel)
        streams = [stub.StreamEvents(metadata=shown(tenant)) for _ in range(500)]
        allowed = 64
        await until(lambda: sum(call.done() for call in streams) == 500 - allowed)
        ends = await ended([call for call in streams if call.done()])
        assert ends == {OVERLOADED: 500 - allowed}
        assert admission(mesh).callers.streams.held(tenant) == allowed
        assert admission(mesh).callers.tenants.total == 0
        await others_are_answered(mesh)
        # Another tenant has streams of its own, and this one still its calls.
        stream = stub.StreamEvents(metadata=shown("other"))
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        own: Any = access_service_pb2_grpc.AccessServiceStub(
            mesh.channel(tenant, ("*", "mesh:admin"))
        )
        await own.ListApiKeys(access_service_pb2.ListApiKeysRequest(), timeout=20)
        for call in streams:
            call.cancel()
        await until(lambda: admission(mesh).callers.streams.total == 0)


async def test_a_stream_whose_answers_nobody_takes_is_broken_off(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: Served = [metering.SERVICE, catalogue_of("llm.tokens").build]
    # What it takes unread is 64 KiB, and stays so.
    small = {"grpc.http2.lookahead_bytes": 65_536, "grpc.http2.bdp_probe": 0}
    async with (
        running(database, builds, stream_write_seconds=0.3) as hasty,
        connections(hasty, 1, **small) as (channel,),
    ):
        ended, streams = asyncio.Event(), admission(hasty).callers.streams
        give_back = streams.give_back

        def noted(key: str, amount: int = 1) -> None:
            give_back(key, amount)
            ended.set()

        monkeypatch.setattr(streams, "give_back", noted)
        stub: Any = metering_service_pb2_grpc.MeteringServiceStub(channel)
        # Each item is refused with its reasons: the answers are larger than what is taken.
        batch = metering_service_pb2.StreamEventsRequest()
        batch.batch.events.extend(metering_pb2.UsageEvent() for _ in range(500))
        call = stub.StreamEvents(metadata=shown("deaf"))

        async def send() -> None:
            while True:
                await call.write(batch)

        sending = asyncio.create_task(send())
        # What it worked on and its place are free again, although its client goes on.
        async with asyncio.timeout(60):
            await ended.wait()
        assert streams.total == 0
        assert not call.done()
        call.cancel()
        with pytest.raises((asyncio.CancelledError, asyncio.InvalidStateError)):
            await sending


async def test_a_stream_on_which_nothing_is_sent_ends(database: DatabaseUrls) -> None:
    builds: Served = [metering.SERVICE, catalogue_of("llm.tokens").build]
    async with running(database, builds, stream_idle_seconds=0.2) as hasty:
        async with connections(hasty, 1) as (channel,):
            stub: Any = metering_service_pb2_grpc.MeteringServiceStub(channel)
            ends = await ended([stub.StreamEvents(metadata=shown("idle"))])
        assert ends == {("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 0.0): 1}
        assert admission(hasty).callers.streams.total == 0


@pytest.fixture
def held_calls(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Semaphore, asyncio.Event]:
    """Lists of keys begin, and wait for the event."""
    page, begun, proceed = access_store.page, asyncio.Semaphore(0), asyncio.Event()

    async def held(*arguments: Any) -> Any:
        begun.release()
        await proceed.wait()
        return await page(*arguments)

    monkeypatch.setattr(access_store, "page", held)
    return begun, proceed


async def test_the_calls_of_a_tenant_and_of_a_key_leave_places_for_others(
    database: DatabaseUrls, held_calls: tuple[asyncio.Semaphore, asyncio.Event]
) -> None:
    begun, proceed = held_calls
    limits: dict[str, Any] = {"concurrent_rpcs_max": 6, "tenant_rpcs_max": 4, "key_rpcs_max": 3}
    async with running(database, [access.SERVICE], **limits) as small:
        request, keys = access_service_pb2.ListApiKeysRequest(), []
        operator = small.channel("busy", ("*", "mesh:admin"))
        made: Any = access_service_pb2_grpc.AccessServiceStub(operator)
        for number in range(2):
            create = access_service_pb2.CreateApiKeyRequest(
                request_id=str(uuid4()), name=f"k{number}", scopes=["access:read"]
            )
            keys.append((await made.CreateApiKey(create)).secret)
        async with grpc.aio.insecure_channel(small.address) as channel:
            stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)

            def call(key: str) -> Any:
                return stub.ListApiKeys(request, metadata=(("authorization", f"Bearer {key}"),))

            taken = [call(keys[0]) for _ in range(3)]
            for _ in taken:
                await begun.acquire()
            assert await refused(call(keys[0])) == OVERLOADED
            taken.append(call(keys[1]))
            await begun.acquire()
            assert await refused(call(keys[1])) == OVERLOADED, "the tenant has its part"
            stubs: list[Any] = [
                access_service_pb2_grpc.AccessServiceStub(small.channel(tenant, ("*",)))
                for tenant in ("second", "third", "fourth")
            ]
            for other in stubs[:2]:
                taken.append(other.ListApiKeys(request))
                await begun.acquire()
            assert await refused(stubs[2].ListApiKeys(request)) == OVERLOADED, "all have theirs"
            # Services go on with what these calls need of them.
            inner = admission(small).services
            assert inner.tenants.total == 0
            proceed.set()
            await asyncio.gather(*taken)
        assert admission(small).callers.tenants.total == 0


async def test_bytes_of_requests_are_bounded_for_a_tenant(
    database: DatabaseUrls, held_calls: tuple[asyncio.Semaphore, asyncio.Event]
) -> None:
    begun, proceed = held_calls
    # A page token may weigh what it likes until it is looked at: 9 MiB of it are held by each call.
    request = (
        access_service_pb2.ListApiKeysRequest().SerializeToString() + b"\xfa\x01" + _field(9 * MIB)
    )
    async with running(database, [access.SERVICE], tenant_request_bytes_max=16 * MIB) as small:
        one, other = (small.channel(name, ("*",)) for name in ("heavy", "light"))
        first = with_bytes(one, LIST, request)
        await begun.acquire()
        assert admission(small).callers.bytes.held("heavy") == len(request)
        assert await refused(with_bytes(one, LIST, request)) == OVERLOADED
        second = with_bytes(other, LIST, request)
        await begun.acquire()
        proceed.set()
        await asyncio.gather(first, second)
        await until(lambda: admission(small).callers.bytes.total == 0)


def _field(length: int) -> bytes:
    """Return bytes of a field that nobody knows, with their length before them."""
    size, left = b"", length
    while left > 127:
        size += bytes([left & 127 | 128])
        left >>= 7
    return size + bytes([left]) + bytes(length)


async def test_who_guesses_keys_keeps_nobody_waiting_who_has_one(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator: Any = access_service_pb2_grpc.AccessServiceStub(
        mesh.channel("sound", ("*", "mesh:admin"))
    )
    create = access_service_pb2.CreateApiKeyRequest(
        request_id=str(uuid4()), name="sound", scopes=["access:read"]
    )
    key = (await operator.CreateApiKey(create)).secret
    ring = mesh.node.keys
    await ring.resolve(key)
    load, proceed = ring._load, asyncio.Event()

    async def held(hashed: bytes) -> Any:
        if hashed != digest(key):
            await proceed.wait()
        return await load(hashed)

    monkeypatch.setattr(ring, "_load", held)
    async with connections(mesh, 1) as (channel,):
        guesses = [with_bytes(channel, LIST, b"", f"tmk_guess_{number}") for number in range(200)]
        await until(lambda: sum(call.done() for call in guesses) == 200 - 64)
        await asyncio.sleep(0.6)  # so that the sound key is looked up again
        stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)
        await stub.ListApiKeys(
            access_service_pb2.ListApiKeysRequest(),
            metadata=(("authorization", f"Bearer {key}"),),
            timeout=20,
        )
        proceed.set()
        ends = Counter([await refused(call) for call in guesses])
    assert ends == {
        OVERLOADED: 200 - 64,
        ("UNAUTHENTICATED", "UNAUTHENTICATED", 0.0): 64,
    }
