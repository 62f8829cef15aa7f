"""Keys end with the key that made them: transitively, in every process, on open streams, whoever is faster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from payments.access.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc
from payments.events.v1 import events_service_pb2, events_service_pb2_grpc
from payments.metering.v1 import metering_service_pb2_grpc

from services.access import app
from services.access import manifest as access
from services.access.domain import CreateKey, MakerEnded, RevokeKey
from services.events import manifest as events
from services.metering import manifest as metering
from services.runtime import access as runtime_access
from services.runtime import migrations
from services.runtime.access import CACHE_SECONDS
from services.runtime.context import CallContext, acting
from services.runtime.edge import interceptors
from services.runtime.postgres.roles import DatabaseUrls
from tests.support.mesh.serving import Mesh, running

GIVE_UP_SECONDS = 20
BUILDS = [access.SERVICE, events.SERVICE, metering.SERVICE]


@pytest.fixture(scope="module")
async def mesh(database_url: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database_url, BUILDS) as started:
        yield started


@pytest.fixture(scope="module")
async def another(database_url: DatabaseUrls) -> AsyncIterator[Mesh]:
    """Another process on the same database."""
    async with running(database_url, BUILDS) as started:
        yield started


class Caller:
    """Who calls with a key."""

    def __init__(self, mesh: Mesh, key: access_pb2.ApiKey, secret: str) -> None:
        self.key_id = key.key_id
        self.secret = secret
        self.metadata = (("authorization", f"Bearer {secret}"),)
        self._mesh = mesh

    def channel(self, mesh: Mesh | None = None) -> Any:
        return grpc.aio.insecure_channel((mesh or self._mesh).address)

    async def makes(self, tenant: str = "", *scopes: str) -> Caller:
        async with self.channel() as channel:
            stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)
            made = await stub.CreateApiKey(asked(tenant, *scopes), metadata=self.metadata)
        return Caller(self._mesh, made.api_key, made.secret)

    async def revokes(self, key_id: str, *, keep: bool = False) -> access_pb2.ApiKey:
        request = access_service_pb2.RevokeApiKeyRequest(
            request_id=str(uuid4()), key_id=key_id, keep_made_keys=keep
        )
        async with self.channel() as channel:
            stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)
            answer = await stub.RevokeApiKey(request, metadata=self.metadata)
        key: access_pb2.ApiKey = answer.api_key
        return key

    async def keys(self, mesh: Mesh | None = None) -> dict[str, access_pb2.ApiKey]:
        async with self.channel(mesh) as channel:
            stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)
            listed = await stub.ListApiKeys(
                access_service_pb2.ListApiKeysRequest(page_size=1000), metadata=self.metadata
            )
        return {key.key_id: key for key in listed.api_keys}

    async def ends(self, mesh: Mesh | None = None) -> str:
        """Wait until the key is refused; returns the cause."""
        until = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                await self.keys(mesh)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                return error.details() or ""
            assert time.monotonic() < until, "it works on"
            await asyncio.sleep(0.05)


def asked(tenant: str = "", *scopes: str) -> access_service_pb2.CreateApiKeyRequest:
    return access_service_pb2.CreateApiKeyRequest(
        request_id=str(uuid4()), name="k", scopes=scopes or ["*", "mesh:admin"], tenant_id=tenant
    )


async def root(mesh: Mesh) -> Caller:
    """A key that no key has made."""
    channel = mesh.channel(f"t-{uuid4()}", {"*", "mesh:admin"})
    stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)
    made = await stub.CreateApiKey(asked())
    return Caller(mesh, made.api_key, made.secret)


async def root_of(mesh: Mesh, caller: Caller) -> Caller:
    """A key of a caller's tenant that no key has made."""
    tenant = (await caller.keys())[caller.key_id].tenant_id
    stub: Any = access_service_pb2_grpc.AccessServiceStub(mesh.channel(tenant, {"*", "mesh:admin"}))
    made = await stub.CreateApiKey(asked())
    return Caller(mesh, made.api_key, made.secret)


def test_a_second_is_enough() -> None:
    assert CACHE_SECONDS + interceptors.RECHECK_SECONDS < 0.9


async def test_keys_end_with_the_key_that_made_them(mesh: Mesh, another: Mesh) -> None:
    operator = await root(mesh)
    first = await operator.makes()
    second = await first.makes()
    elsewhere = await second.makes(f"t-{uuid4()}", "*")
    last = await elsewhere.makes("", "*")
    beside = await operator.makes()
    for caller in (second, elsewhere, last, beside):
        await caller.keys(another)  # it is remembered there
    ended = await operator.revokes(first.key_id)
    assert ended.keys_ended == 3
    assert (await operator.revokes(first.key_id)).keys_ended == 3  # again changes nothing
    for caller in (first, second, elsewhere, last):
        for process in (mesh, another):
            assert "revoked" in await caller.ends(process)
    listed = await operator.keys()
    assert set(await beside.keys(another)) == set(listed)
    assert listed[second.key_id].parent_key_id == first.key_id
    assert listed[second.key_id].revoked_with_key_id == first.key_id
    assert listed[second.key_id].HasField("revoked_at")
    assert listed[first.key_id].revoked_with_key_id == ""
    assert not listed[beside.key_id].HasField("revoked_at")
    with psycopg.connect(mesh.node._settings.database_url) as connection:  # whoever looks
        connection.execute("SELECT set_config('mesh.tenant', 'nobody', true)")
        assert connection.execute(
            "SELECT mesh.end_keys_made_by('x', now(), 'a', 'r')"
        ).fetchone() == (0,)


async def test_every_key_that_ends_leaves_an_audit_entry(
    mesh: Mesh, database_url: DatabaseUrls
) -> None:
    operator = await root(mesh)
    first = await operator.makes()
    second = await first.makes(f"t-{uuid4()}", "*")
    await operator.revokes(first.key_id)
    with psycopg.connect(database_url.owner_admin) as admin:
        found = admin.execute(
            "SELECT actor, before ->> 'revoked_at', after ->> 'revoked_with', after ->> 'revoked_at' IS NOT NULL"
            " FROM mesh.audit WHERE entity_id = %s ORDER BY recorded_at",
            [second.key_id],
        ).fetchall()
    assert found[1:] == [(operator.key_id, None, first.key_id, True)]


async def test_a_key_that_is_replaced_leaves_what_it_made(mesh: Mesh) -> None:
    operator = await root(mesh)
    first = await operator.makes()
    second = await first.makes()
    assert (await operator.revokes(first.key_id, keep=True)).keys_ended == 0
    await first.ends()
    listed = await second.keys()
    assert listed[second.key_id].parent_key_id == operator.key_id
    # It ends with who stands above it now.
    third = await second.makes()
    await second.revokes(operator.key_id)
    await third.ends()


async def test_what_a_replaced_key_left_ends_once_it_is_known_to_have_leaked(
    mesh: Mesh, another: Mesh
) -> None:
    operator = await root(mesh)
    first = await operator.makes()
    second = await first.makes(f"t-{uuid4()}", "*", "mesh:admin")
    third = await second.makes()
    beside = await operator.makes()
    await operator.revokes(first.key_id, keep=True)
    assert (await operator.revokes(first.key_id, keep=True)).keys_ended == 0
    await third.keys(another)
    # Its own keys may have been replaced as well: the line goes through what has ended.
    await (await second.makes("", "*")).revokes(third.key_id, keep=True)
    fourth = await second.makes()
    replacing = await root_of(mesh, second)
    await replacing.revokes(second.key_id, keep=True)
    await fourth.keys(another)
    ended = await operator.revokes(first.key_id)
    assert ended.keys_ended == 2  # the one that replaced the third, and the fourth
    for process in (mesh, another):
        assert "revoked" in await fourth.ends(process)
    assert (await operator.revokes(first.key_id)).keys_ended == 2  # again changes nothing
    listed = await replacing.keys()
    assert listed[fourth.key_id].revoked_with_key_id == first.key_id
    await beside.keys(another)
    # Of one's own tenant alone.
    with psycopg.connect(mesh.node._settings.database_url) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 'nobody', true)")
        taken = connection.execute("SELECT mesh.take_back_keys_made_by(%s)", [first.key_id])
        assert taken.fetchone() == (0,)


async def test_who_holds_a_key_cannot_free_from_it_what_it_made(mesh: Mesh) -> None:
    operator = await root(mesh)
    leaked = await operator.makes()
    child = await leaked.makes()
    for caller in (leaked, child):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.revokes(leaked.key_id, keep=True)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "KEEP_NOT_ALLOWED" in str(refused.value.trailing_metadata())
    assert (await operator.revokes(leaked.key_id)).keys_ended == 1
    await child.ends()


async def test_what_a_key_makes_while_it_is_revoked_ends_too(mesh: Mesh) -> None:
    operator = await root(mesh)
    maker = await operator.makes()
    tenant = (await operator.keys())[maker.key_id].tenant_id
    call = CallContext(tenant, maker.key_id, frozenset({"*"}), "r", "c")
    with acting(call):
        async with mesh.node.database.unit_of_work("test.create") as work:
            made = await app.create(CreateKey("late", ["*"], None), work)
            revoking = asyncio.create_task(operator.revokes(maker.key_id))
            await waits(mesh, "FOR UPDATE")
            assert not revoking.done()
    assert (await revoking).keys_ended == 1
    assert (await operator.keys())[made.key.key_id].revoked_with_key_id == maker.key_id


async def test_a_key_that_is_being_revoked_makes_none(mesh: Mesh) -> None:
    operator = await root(mesh)
    maker = await operator.makes()
    await maker.keys()
    tenant = (await operator.keys())[maker.key_id].tenant_id
    by_operator = CallContext(tenant, operator.key_id, frozenset({"*"}), "r", "c")
    request = asked()
    async with maker.channel() as channel:
        stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)
        with acting(by_operator):
            async with mesh.node.database.unit_of_work("test.revoke") as work:
                await app.revoke(RevokeKey(maker.key_id, keep_made_keys=False), work)
                making = asyncio.ensure_future(stub.CreateApiKey(request, metadata=maker.metadata))
                await waits(mesh, "hold_api_key")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await making
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        # That was no answer to the request: another key may make it.
        made = await stub.CreateApiKey(request, metadata=operator.metadata)
    assert made.api_key.parent_key_id == operator.key_id
    with (
        acting(CallContext(tenant, maker.key_id, frozenset({"*"}), "r", "c")),
        pytest.raises(MakerEnded),
    ):
        async with mesh.node.database.unit_of_work("test.create") as work:
            await app.create(CreateKey("later", ["*"], None), work)


async def waits(mesh: Mesh, statement: str) -> None:
    """Wait until a session of the server waits for a lock with such a statement."""
    async with await psycopg.AsyncConnection.connect(
        mesh.node._settings.database_url, autocommit=True
    ) as connection:
        until = time.monotonic() + GIVE_UP_SECONDS
        while True:
            found = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' AND position(%s IN query) > 0",
                [statement],
            )
            if (await found.fetchone() or (0,))[0]:
                return
            assert time.monotonic() < until
            await asyncio.sleep(0.02)


async def test_revocations_in_one_family_do_not_wait_for_each_other_in_a_circle(mesh: Mesh) -> None:
    operator = await root(mesh)
    family = [operator]
    for _ in range(4):
        family.append(await family[-1].makes())
        await family[-2].makes()
    others = [await family[2].makes() for _ in range(3)]
    key_ids = [caller.key_id for caller in (*family[1:], *others)]
    await asyncio.gather(*(operator.revokes(key_id) for key_id in reversed(key_ids)))
    listed = await operator.keys()
    works = [key.key_id for key in listed.values() if not key.HasField("revoked_at")]
    made_by_operator = [k.key_id for k in listed.values() if k.parent_key_id == operator.key_id]
    assert set(works) <= {operator.key_id, *made_by_operator}
    assert len(works) == 2


@pytest.mark.parametrize("kind", ["tail", "upload"])
async def test_an_idle_stream_ends_with_its_key(mesh: Mesh, kind: str) -> None:
    operator = await root(mesh)
    maker = await operator.makes()
    reader = await maker.makes("", "events:read", "metering:write")
    async with reader.channel(mesh) as channel:
        if kind == "tail":
            stub: Any = events_service_pb2_grpc.EventServiceStub(channel)
            stream = stub.TailEvents(
                events_service_pb2.TailEventsRequest(), metadata=reader.metadata
            )
        else:
            stub = metering_service_pb2_grpc.MeteringServiceStub(channel)
            stream = stub.StreamEvents(metadata=reader.metadata)
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(3 * interceptors.RECHECK_SECONDS)
        assert not reading.done()
        await operator.revokes(maker.key_id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(reading, GIVE_UP_SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("kind", ["tail", "upload"])
async def test_a_stream_ends_with_its_mesh_token(
    mesh: Mesh, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that leaked would read on for good, whatever life it was given."""
    monkeypatch.setattr(runtime_access, "MESH_TOKEN_SECONDS", 1)
    monkeypatch.setattr(runtime_access, "MESH_LEEWAY_SECONDS", 0)
    channel = mesh.channel(f"t-{uuid4()}")
    if kind == "tail":
        stub: Any = events_service_pb2_grpc.EventServiceStub(channel)
        stream = stub.TailEvents(events_service_pb2.TailEventsRequest())
    else:
        stub = metering_service_pb2_grpc.MeteringServiceStub(channel)
        stream = stub.StreamEvents()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(stream.read(), GIVE_UP_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_upgrade_ends_what_revoked_keys_have_made(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    migrations.downgrade(urls.owner_admin, migrations.MESH, "0008")
    rows = [
        # id, made by, revoked
        ("key_run", "operator", True),
        ("key_of_run", "key_run", False),
        ("key_leaked", "key_of_run", True),
        ("key_a", "key_leaked", False),
        ("key_b", "key_a", False),
        ("key_other", "key_of_run", False),
    ]
    with psycopg.connect(urls.owner_admin) as admin:
        for number, (key_id, made_by, revoked) in enumerate(rows):
            admin.execute(
                "INSERT INTO mesh.api_key VALUES ('t', %s, 'p', %s, 'n', '{*}', now(), %s, NULL, %s)",
                [key_id, bytes([number]) * 32, made_by, "2026-01-01Z" if revoked else None],
            )
        for key_id, actor in (("key_run", "operator"), ("key_leaked", "key_of_run")):
            admin.execute(
                "INSERT INTO mesh.audit VALUES"
                " ('t', gen_random_uuid(), 'api_key', %s, %s, '{}', '{\"revoked_at\": \"2026-01-01\"}')",
                [key_id, actor],
            )
    migrations.upgrade(urls.owner_admin, [])
    query = (
        "SELECT key_id, parent_key_id, revoked_at IS NOT NULL, revoked_with, keys_ended"
        " FROM mesh.api_key ORDER BY secret_sha256"
    )
    with psycopg.connect(urls.owner_admin) as admin:
        assert admin.execute(query).fetchall() == [
            ("key_run", None, True, None, 0),
            ("key_of_run", None, False, None, 0),
            ("key_leaked", "key_of_run", True, None, 2),
            ("key_a", "key_leaked", True, "key_leaked", 0),
            ("key_b", "key_a", True, "key_leaked", 0),
            ("key_other", "key_of_run", False, None, 0),
        ]
    migrations.downgrade(urls.owner_admin, migrations.MESH, "0008")
    with psycopg.connect(urls.owner_admin) as admin:
        found = admin.execute("SELECT key_id FROM mesh.api_key WHERE revoked_at IS NULL ORDER BY 1")
        assert found.fetchall() == [("key_of_run",), ("key_other",)]
