"""What every call passes through, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.access import manifest as access
from services.access import store as access_store
from services.runtime.commands import fingerprint
from services.runtime.context import CallContext, acting, current
from services.runtime.edge import methods
from services.runtime.edge.status import from_status
from services.runtime.errors import DomainError, RequestIdReused
from services.runtime.postgres.roles import DatabaseUrls
from tests.support.mesh.serving import Mesh, running

LIST = "/payments.access.v1.AccessService/ListApiKeys"
CREATE = "/payments.access.v1.AccessService/CreateApiKey"


@pytest.fixture(scope="module")
async def mesh(database_url: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database_url, [access.SERVICE]) as started:
        yield started


def stub(mesh: Mesh, tenant: str, *scopes: str) -> Any:
    # Keys are made by the operator, or with another key.
    channel = mesh.channel(tenant, scopes or ("*", "mesh:admin"))
    return access_service_pb2_grpc.AccessServiceStub(channel)


def create(**values: Any) -> access_service_pb2.CreateApiKeyRequest:
    fields: dict[str, Any] = {"request_id": str(uuid4()), "name": "k", "scopes": ["ledger:read"]}
    return access_service_pb2.CreateApiKeyRequest(**(fields | values))


def typed(error: grpc.aio.AioRpcError) -> DomainError:
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    found = from_status(status_pb2.Status.FromString(details))
    assert found is not None, "every error carries ErrorInfo"
    return found


async def refused(call: Any) -> tuple[grpc.StatusCode, DomainError]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), typed(caught.value)


async def bare(mesh: Mesh, path: str, data: bytes, *metadata: tuple[str, str]) -> bytes:
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        call: Any = channel.unary_unary(path)
        answer: bytes = await call(data, metadata=metadata)
        return answer


async def test_a_call_without_key_is_unauthenticated(mesh: Mesh) -> None:
    code, error = await refused(bare(mesh, LIST, b""))
    assert (code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert error.metadata == {"cause": "no_key"}


@pytest.mark.parametrize(
    ("header", "cause"),
    [("Bearer tmk_wrong", "unknown_key"), ("Basic abc", "scheme"), ("Mesh a.b.c", "mesh_token")],
)
async def test_wrong_credentials_are_unauthenticated(mesh: Mesh, header: str, cause: str) -> None:
    code, error = await refused(bare(mesh, LIST, b"", ("authorization", header)))
    assert (code, error.metadata["cause"]) == (grpc.StatusCode.UNAUTHENTICATED, cause)


async def test_a_key_works_until_it_is_revoked(mesh: Mesh) -> None:
    tenant = f"t-{uuid4()}"
    made = await stub(mesh, tenant).CreateApiKey(create(scopes=["access:read"]))
    header = ("authorization", f"Bearer {made.secret}")
    listed = access_service_pb2.ListApiKeysResponse.FromString(await bare(mesh, LIST, b"", header))
    assert [key.key_id for key in listed.api_keys] == [made.api_key.key_id]
    assert listed.api_keys[0].tenant_id == tenant

    request = access_service_pb2.RevokeApiKeyRequest(
        request_id=str(uuid4()), key_id=made.api_key.key_id
    )
    revoked = await stub(mesh, tenant).RevokeApiKey(request)
    assert revoked.api_key.HasField("revoked_at")
    keys = mesh.node.keys
    keys.forget()
    code, error = await refused(bare(mesh, LIST, b"", header))
    assert (code, error.metadata["cause"]) == (grpc.StatusCode.UNAUTHENTICATED, "revoked_key")


async def test_an_expired_key_is_refused(mesh: Mesh, database_url: DatabaseUrls) -> None:
    made = await stub(mesh, f"t-{uuid4()}").CreateApiKey(create())
    import psycopg

    async with await psycopg.AsyncConnection.connect(database_url.owner_admin) as connection:
        await connection.execute(
            "UPDATE mesh.api_key SET expires_at = now() - interval '1 s' WHERE key_id = %s",
            [made.api_key.key_id],
        )
    code, error = await refused(bare(mesh, LIST, b"", ("authorization", f"Bearer {made.secret}")))
    assert (code, error.metadata["cause"]) == (grpc.StatusCode.UNAUTHENTICATED, "expired_key")


async def test_no_key_outlives_the_key_that_made_it(mesh: Mesh) -> None:
    maker = create(scopes=["access:admin", "access:read"], lifetime=Duration(seconds=3600))
    made = await stub(mesh, f"t-{uuid4()}").CreateApiKey(maker)
    header = ("authorization", f"Bearer {made.secret}")
    for lifetime, ends_with_it in ((None, True), (7200, True), (60, False)):
        asked = create(scopes=["access:read"])
        if lifetime is not None:
            asked.lifetime.seconds = lifetime
        answer = access_service_pb2.CreateApiKeyResponse.FromString(
            await bare(mesh, CREATE, asked.SerializeToString(), header)
        )
        ends = answer.api_key.expires_at
        assert (ends == made.api_key.expires_at) is ends_with_it
        assert 0 < ends.seconds <= made.api_key.expires_at.seconds


async def test_a_missing_scope_is_named(mesh: Mesh) -> None:
    code, error = await refused(stub(mesh, "a", "access:read").CreateApiKey(create()))
    assert (code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
    assert error.metadata == {"scope": "access:admin", "method": CREATE}


async def test_scopes_beyond_ones_own_cannot_be_given(mesh: Mesh) -> None:
    weak = stub(mesh, "a", "access:admin")
    code, error = await refused(weak.CreateApiKey(create(scopes=["ledger:write"])))
    assert (code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_NOT_GRANTABLE")
    code, error = await refused(stub(mesh, "a", "*").CreateApiKey(create()))
    assert (code, error.metadata) == (grpc.StatusCode.PERMISSION_DENIED, {"scope": "mesh:admin"})
    assert "not by a service" in error.message


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ("nonsense", "a scope such as metering:write"),
        ("ledger:*", "a scope such as metering:write"),
        ("nonsense:read", "there is no scope nonsense:read"),
        ("ledgr:write", "Did you mean ledger:write?"),
        ("billing:admin", "Did you mean billing:"),
        ("mesh:read", "The scopes are: *, access:admin"),
    ],
)
async def test_scopes_that_no_rpc_needs_are_refused(mesh: Mesh, scope: str, told: str) -> None:
    code, error = await refused(stub(mesh, "a").CreateApiKey(create(scopes=["*", scope])))
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [item.field for item in error.fields] == ["scopes[1]"]
    assert told in error.fields[0].description


async def test_every_scope_of_the_release_can_be_given(mesh: Mesh) -> None:
    """Of services too that do not run in this process."""
    assert {"billing:write", "metering:read", "events:admin"} <= set(methods.scopes())
    made = await stub(mesh, "a").CreateApiKey(create(scopes=list(methods.scopes())))
    assert list(made.api_key.scopes) == list(methods.scopes())


async def test_only_the_operator_makes_keys_for_another_tenant(mesh: Mesh) -> None:
    code, error = await refused(stub(mesh, "a", "*").CreateApiKey(create(tenant_id="b")))
    assert (code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "TENANT_MISMATCH")
    made = await stub(mesh, "a", "*", "mesh:admin").CreateApiKey(create(tenant_id="b"))
    assert made.api_key.tenant_id == "b"


async def test_bytes_that_do_not_decode_are_invalid(mesh: Mesh) -> None:
    call: Any = mesh.channel("a").unary_unary(CREATE)
    code, error = await refused(call(b"\xff\xff\xff", timeout=5))
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNDECODABLE_REQUEST")


async def test_broken_rules_name_their_fields(mesh: Mesh) -> None:
    request = create(request_id="no uuid", name="", scopes=["x"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(mesh, "a").CreateApiKey(request)
    error = typed(caught.value)
    assert error.reason == "INVALID_FIELD"
    assert [f.field for f in error.fields] == ["request_id", "name", "scopes[0]"]
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    names = [item.TypeName() for item in status_pb2.Status.FromString(details).details]
    assert names == [error_details_pb2.ErrorInfo.DESCRIPTOR.full_name, "google.rpc.BadRequest"]


async def test_a_refused_request_reaches_the_contract_monitor(mesh: Mesh) -> None:
    before = mesh.node.violations.reported
    await refused(stub(mesh, f"t-{uuid4()}").CreateApiKey(create(name="")))
    assert mesh.node.violations.reported == before + 1


async def test_the_same_request_gets_the_same_answer_without_the_secret(mesh: Mesh) -> None:
    access_stub, request = stub(mesh, f"t-{uuid4()}"), create()
    first = await access_stub.CreateApiKey(request)
    second = await access_stub.CreateApiKey(request)
    assert second.api_key == first.api_key
    assert (bool(first.secret), second.secret) == (True, "")


async def test_the_same_request_id_with_another_body_is_refused(mesh: Mesh) -> None:
    access_stub, request = stub(mesh, f"t-{uuid4()}"), create()
    await access_stub.CreateApiKey(request)
    request.name = "another"
    code, error = await refused(access_stub.CreateApiKey(request))
    assert (code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, RequestIdReused.reason)


async def test_two_at_once_make_one(mesh: Mesh) -> None:
    access_stub, request = stub(mesh, f"t-{uuid4()}"), create()
    answers = await asyncio.gather(*(access_stub.CreateApiKey(request) for _ in range(8)))
    assert len({answer.api_key.key_id for answer in answers}) == 1
    assert sum(bool(answer.secret) for answer in answers) == 1
    listed = await access_stub.ListApiKeys(access_service_pb2.ListApiKeysRequest())
    assert len(listed.api_keys) == 1


async def test_a_refusal_that_depends_on_state_is_no_answer_for_good(mesh: Mesh) -> None:
    """What is missing may be there at the next call; nor does the refusal bind the request_id to its body."""
    tenant = f"t-{uuid4()}"
    access_stub = stub(mesh, tenant)
    key_id = f"key_{uuid4()}"
    request = access_service_pb2.RevokeApiKeyRequest(request_id=str(uuid4()), key_id=key_id)
    for _ in range(2):
        code, error = await refused(access_stub.RevokeApiKey(request))
        assert code is grpc.StatusCode.NOT_FOUND
        assert error.metadata == {"resource": "api_key", "id": key_id}
    request.key_id = (await access_stub.CreateApiKey(create())).api_key.key_id
    assert (await access_stub.RevokeApiKey(request)).api_key.HasField("revoked_at")


@pytest.mark.parametrize("calls", [1, 4])
async def test_a_request_that_was_opened_again_is_carried_out_once(
    mesh: Mesh, database_url: DatabaseUrls, calls: int
) -> None:
    """The migration leaves such records: claimed, with the refusal that used to be the answer."""
    tenant = f"t-{uuid4()}"
    request = create()
    with psycopg.connect(database_url.owner_admin) as connection:
        connection.execute(
            "INSERT INTO mesh.idempotency (tenant_id, name, request_id, fingerprint, status, error)"
            " VALUES (%s, 'access.create_api_key', %s, %s, 'CLAIMED', %s)",
            (tenant, request.request_id, fingerprint(request), b'{"code": "PERMISSION_DENIED"}'),
        )
    access_stub = stub(mesh, tenant)
    answers = await asyncio.gather(*(access_stub.CreateApiKey(request) for _ in range(calls)))
    assert len({answer.api_key.key_id for answer in answers}) == 1
    assert sum(bool(answer.secret) for answer in answers) == 1


async def test_the_header_fills_the_request_id_and_must_agree_with_it(mesh: Mesh) -> None:
    access_stub = stub(mesh, f"t-{uuid4()}")
    header = (("idempotency-key", "order 7"),)
    first = await access_stub.CreateApiKey(create(request_id=""), metadata=header)
    second = await access_stub.CreateApiKey(create(request_id=""), metadata=header)
    assert first.api_key == second.api_key
    code, error = await refused(access_stub.CreateApiKey(create(), metadata=header))
    assert (code, error.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "IDEMPOTENCY_KEY_MISMATCH",
    )


async def test_pages_follow_one_another(mesh: Mesh) -> None:
    access_stub = stub(mesh, f"t-{uuid4()}")
    made = [(await access_stub.CreateApiKey(create())).api_key.key_id for _ in range(5)]
    found, token = [], ""
    while True:
        request = access_service_pb2.ListApiKeysRequest(page_size=2, page_token=token)
        page = await access_stub.ListApiKeys(request)
        found += [key.key_id for key in page.api_keys]
        token = page.next_page_token
        if not token:
            break
    assert found == made
    code, error = await refused(
        access_stub.ListApiKeys(access_service_pb2.ListApiKeysRequest(page_token="zz"))
    )
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_tenants_do_not_see_one_another(mesh: Mesh) -> None:
    one, other = f"t-{uuid4()}", f"t-{uuid4()}"
    made = await stub(mesh, one).CreateApiKey(create())
    assert not (
        await stub(mesh, other).ListApiKeys(access_service_pb2.ListApiKeysRequest())
    ).api_keys
    request = access_service_pb2.RevokeApiKeyRequest(
        request_id=str(uuid4()), key_id=made.api_key.key_id
    )
    code, _ = await refused(stub(mesh, other).RevokeApiKey(request))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_changes_of_keys_are_audited(mesh: Mesh, database_url: DatabaseUrls) -> None:
    tenant = f"t-{uuid4()}"
    made = await stub(mesh, tenant).CreateApiKey(create(name="audited"))
    call = CallContext(tenant, "test", frozenset(), "r", "c")
    with acting(call):
        async with mesh.node.database.read() as work:
            row = (
                await work.execute(
                    "SELECT actor, before, after FROM mesh.audit"
                    " WHERE tenant_id = %(tenant_id)s AND entity_id = %(key_id)s",
                    {"tenant_id": tenant, "key_id": made.api_key.key_id},
                )
            ).one()
    assert (row.actor, row.before, row.after["name"]) == (f"test:{tenant}", None, "audited")
    assert made.secret not in str(row.after)


async def test_health_and_reflection_need_no_key(mesh: Mesh) -> None:
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "payments.access.v1.AccessService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        untyped: Any = channel
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection.ServerReflectionInfo(iter([asked]))
        answers = [answer async for answer in call]
        names = {item.name for item in answers[0].list_services_response.service}
        assert "payments.access.v1.AccessService" in names


async def test_channelz_is_the_operators(mesh: Mesh) -> None:
    request = channelz_pb2.GetServersRequest()
    for scopes in ((), ("*",)):
        channel = mesh.channel("a", scopes)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channelz_pb2_grpc.ChannelzStub(channel).GetServers(request)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    operator = mesh.channel("a", ("mesh:admin",))
    assert (await channelz_pb2_grpc.ChannelzStub(operator).GetServers(request)).server


async def test_a_port_in_use_is_an_error(mesh: Mesh, database_url: DatabaseUrls) -> None:
    from services.runtime.edge.server import PortInUse

    with pytest.raises(PortInUse, match=mesh.address):
        async with running(database_url, [access.SERVICE], listen=mesh.address):
            pytest.fail("two servers on one port")


async def test_calls_one_after_another_never_reach_the_limit_of_calls_at_once(
    database_url: DatabaseUrls,
) -> None:
    async with running(database_url, [access.SERVICE], concurrent_rpcs_max=4) as small:
        access_stub = stub(small, "a")
        for _ in range(400):
            await access_stub.ListApiKeys(access_service_pb2.ListApiKeysRequest(), timeout=10)


async def test_more_calls_at_once_than_the_limit_are_refused(
    database_url: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, begun, proceed = access_store.page, asyncio.Semaphore(0), asyncio.Event()

    async def held(*arguments: Any) -> Any:
        begun.release()
        await proceed.wait()
        return await page(*arguments)

    monkeypatch.setattr(access_store, "page", held)
    request = access_service_pb2.ListApiKeysRequest()
    async with running(database_url, [access.SERVICE], concurrent_rpcs_max=5) as small:
        access_stub = stub(small, f"t-{uuid4()}")
        taken = [asyncio.ensure_future(access_stub.ListApiKeys(request)) for _ in range(5)]
        for _ in taken:
            await begun.acquire()
        for _ in range(3):
            _, error = await refused(access_stub.ListApiKeys(request))
            assert (error.reason, error.metadata["limit"]) == ("OVERLOADED", "5")
        proceed.set()
        await asyncio.gather(*taken)
        await access_stub.ListApiKeys(request)


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[CallContext]:
    """The contexts under which keys were listed: what events and calls to other services are marked with."""
    contexts: list[CallContext] = []
    page = access_store.page

    async def noted(*arguments: Any) -> Any:
        contexts.append(current())
        return await page(*arguments)

    monkeypatch.setattr(access_store, "page", noted)
    return contexts


async def traced(mesh: Mesh, seen: list[CallContext], *headers: tuple[str, str]) -> CallContext:
    """Make a call with these headers; returns the context that it ran in."""
    request = access_service_pb2.ListApiKeysRequest()
    await stub(mesh, f"t-{uuid4()}").ListApiKeys(request, metadata=headers)
    return seen[-1]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f"cc-{TRACE}-{SPAN}-00-what-ever", f"00-{TRACE}-{SPAN}-00"),
        (f"01-{TRACE}-{SPAN}-01-{'x' * 500}", f"00-{TRACE}-{SPAN}-01"),
    ],
)
async def test_a_caller_s_trace_is_continued_as_it_was_sampled(
    mesh: Mesh, seen: list[CallContext], sent: str, kept: str
) -> None:
    context = await traced(
        mesh, seen, ("traceparent", sent), ("tracestate", "a=1"), ("tracestate", "b=2")
    )
    assert (context.traceparent, context.tracestate) == (kept, "a=1,b=2")


@pytest.mark.parametrize(
    "sent",
    [
        (f"ff-{TRACE}-{SPAN}-01",),
        (f"00-{TRACE}-{SPAN}-01-more",),
        (f"00-{TRACE}-{SPAN}-zz",),
    ],
)
async def test_what_is_no_trace_context_begins_a_new_trace(
    mesh: Mesh, seen: list[CallContext], sent: tuple[str, ...]
) -> None:
    headers = (("traceparent", value) for value in sent)
    context = await traced(mesh, seen, *headers, ("tracestate", "a=1"))
    assert context.traceparent.startswith("00-")
    assert TRACE not in context.traceparent
    # The state of a trace that is not continued is nobody's.
    assert context.tracestate == ""


async def test_an_idempotency_key_that_comes_twice_must_be_one_key(mesh: Mesh) -> None:
    access_stub = stub(mesh, f"t-{uuid4()}")
    request = create(request_id="")
    two = (("idempotency-key", "a"), ("idempotency-key", "b"))
    code, error = await refused(access_stub.CreateApiKey(request, metadata=two))
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_MISMATCH")
    same = (("idempotency-key", "a"), ("idempotency-key", "a"))
    first = await access_stub.CreateApiKey(request, metadata=same)
    again = await access_stub.CreateApiKey(request, metadata=same[:1])
    assert first.api_key.key_id == again.api_key.key_id


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("my-call-1", True), ("card-4242424242424242", False), ("%36011000990139424", False)],
)
async def test_an_answer_names_the_id_that_its_call_has(
    mesh: Mesh, seen: list[CallContext], sent: str, kept: bool
) -> None:
    headers = (("x-request-id", sent),)
    keys = stub(mesh, f"t-{uuid4()}")
    call = keys.ListApiKeys(access_service_pb2.ListApiKeysRequest(), metadata=headers)
    await call
    named = dict(await call.trailing_metadata())["x-request-id"]
    assert named == seen[-1].request_id
    assert (named == sent) is kept
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await keys.CreateApiKey(create(name=""), metadata=headers)
    assert (dict(caught.value.trailing_metadata() or ())["x-request-id"] == sent) is kept


async def test_a_call_without_a_key_is_told_of_the_header(mesh: Mesh) -> None:
    access_stub = stub(mesh, "a")
    code, error = await refused(access_stub.CreateApiKey(create(request_id="")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    [fault] = error.fields
    assert fault.field == "request_id"
    assert "header Idempotency-Key" in fault.description


async def test_two_credentials_are_none(mesh: Mesh) -> None:
    headers = (("authorization", "Bearer a"), ("authorization", "Bearer b"))
    code, error = await refused(bare(mesh, LIST, b"", *headers))
    assert (code, error.metadata["cause"]) == (grpc.StatusCode.UNAUTHENTICATED, "several_keys")


@pytest.mark.parametrize("nanos", [-1, 10**9])
async def test_a_time_span_that_is_none_is_the_caller_s_fault(mesh: Mesh, nanos: int) -> None:
    request = create(lifetime=Duration(seconds=60, nanos=nanos))
    code, error = await refused(stub(mesh, "a").CreateApiKey(request))
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [fault.field for fault in error.fields] == ["lifetime"]
