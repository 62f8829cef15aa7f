"""What is left when a call is cut off: by its caller, its deadline, the database or its key's end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc
from payments.events.v1 import events_service_pb2, events_service_pb2_grpc
from pydantic import SecretStr

from services.access import manifest as access
from services.events import manifest as events
from services.runtime.access import LOOKUPS_MAX, KeyRing, Principal
from services.runtime.clock import SystemClock
from services.runtime.commands import Commands, UseCase
from services.runtime.config import Settings
from services.runtime.context import CallContext, acting
from services.runtime.contracts import REQUEST_VALIDATION
from services.runtime.database import Database, UnitOfWork
from services.runtime.edge import interceptors
from services.runtime.edge.server import PortInUse
from services.runtime.errors import DatabaseUnavailable, DeadlineExceeded, InvalidField
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.process.node import Node
from services.runtime.violations import Violation
from tests.support.mesh.serving import MESH_SECRET, Mesh, running


@pytest.fixture(scope="module")
async def mesh(database_url: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database_url, [access.SERVICE, events.SERVICE]) as started:
        yield started


@pytest.fixture
async def single(database_url: DatabaseUrls) -> AsyncIterator[Database]:
    """A pool of one connection: what one transaction leaves on it meets the next."""
    pool = Database(database_url.service, SystemClock(), pool_size=1)
    yield pool
    await pool.close()


def call(**values: Any) -> CallContext:
    return CallContext(f"t-{uuid4()}", "test", frozenset(), "r", "c", **values)


async def count_audits(single: Database) -> int:
    async with single.read() as work:
        return int((await work.execute("SELECT count(*) FROM mesh.audit")).scalar_one())


async def connection_is_clean(single: Database) -> None:
    """The pool's one connection names no tenant, may write and is in no transaction."""
    async with single.session() as session:
        cursor = await session.execute(
            "SELECT coalesce(current_setting('mesh.tenant', true), '') AS tenant,"
            " current_setting('transaction_read_only') AS read_only,"
            " current_setting('statement_timeout') AS timeout"
        )
        assert await cursor.fetchone() == ("", "off", "0")


@pytest.mark.parametrize("cut_by", ["caller", "deadline"])
async def test_a_transaction_that_is_cut_off_leaves_nothing(single: Database, cut_by: str) -> None:
    async def work_for_long() -> None:
        async with single.unit_of_work("test.long") as work:
            work.audit("test", "1", None, {"n": 1})
            await work.flush()
            await work.execute("SELECT pg_sleep(30)")

    with acting(call()):
        task = asyncio.create_task(work_for_long())
        if cut_by == "caller":
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 0.2)
        await connection_is_clean(single)
        assert await count_audits(single) == 0


async def test_a_reader_that_is_cut_off_leaves_a_connection_that_writes(single: Database) -> None:
    async def read_for_long() -> None:
        async with single.read() as work:
            await work.execute("SELECT pg_sleep(30)")

    with acting(call()):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read_for_long(), 0.2)
        async with single.unit_of_work("test.write") as work:
            work.audit("test", "1", None, {"n": 1})
        await connection_is_clean(single)
        assert await count_audits(single) == 1


async def test_a_statement_that_outlasts_the_deadline_says_so(single: Database) -> None:
    with acting(call(deadline_at=time.monotonic() + 0.1)):
        with pytest.raises(DeadlineExceeded):
            async with single.unit_of_work("test.slow") as work:
                await work.execute("SELECT pg_sleep(30)")
        with pytest.raises(DeadlineExceeded):
            async with single.unit_of_work("test.slow") as work:
                await (await work.raw()).execute("SELECT pg_sleep(30)")


@pytest.mark.parametrize("raw", [False, True])
async def test_a_backend_that_dies_under_a_request_is_the_databases_fault(
    single: Database, database_url: DatabaseUrls, raw: bool
) -> None:
    request = access_service_pb2.RevokeApiKeyRequest(request_id=str(uuid4()), key_id="key_1")
    answer = access_service_pb2.RevokeApiKeyResponse()

    async def run(
        answer: access_service_pb2.RevokeApiKeyResponse, work: UnitOfWork
    ) -> access_service_pb2.RevokeApiKeyResponse:
        work.audit("test", "1", None, {"n": 1})
        if dying:
            pid = (await work.execute("SELECT pg_backend_pid()")).scalar_one()
            async with await psycopg.AsyncConnection.connect(database_url.owner_admin) as admin:
                await admin.execute("SELECT pg_terminate_backend(%s)", [pid])
            await ((await work.raw()).execute("SELECT 1") if raw else work.execute("SELECT 1"))
        return answer

    use_case = UseCase("test.dies", run, lambda answer: answer, type(answer))
    commands = Commands(single)
    with acting(call()):
        dying = True
        with pytest.raises(DatabaseUnavailable):
            await commands.run(use_case, answer, request)
        assert await count_audits(single) == 0
        dying = False
        for _ in range(2):
            await commands.run(use_case, answer, request)
        assert await count_audits(single) == 1


@pytest.mark.parametrize("before", ["a text", {"in": "JSON \0"}])
async def test_a_text_that_cannot_be_stored_is_the_callers_fault(
    single: Database, before: Any
) -> None:
    with acting(call()):
        with pytest.raises(InvalidField, match="NUL"):
            async with single.unit_of_work("test.nul") as work:
                if isinstance(before, dict):
                    work.audit("test", "1", before, None)
                else:
                    await work.execute("SELECT %(text)s::text", {"text": "a\0"})
        assert await count_audits(single) == 0


async def test_parameters_stay_out_of_errors(single: Database) -> None:
    with acting(call()), pytest.raises(Exception, match="division by zero") as caught:
        async with single.unit_of_work("test.fault") as work:
            await work.execute("SELECT %(token)s::text, 1 / 0", {"token": "tok_secret"})
    assert "tok_secret" not in str(caught.value)


async def test_a_violation_outlives_the_deadline_of_its_call(mesh: Mesh) -> None:
    late = call(deadline_at=time.monotonic() - 1)
    reporter = mesh.node.violations
    for _ in range(300):  # in one statement, which takes longer than the least timeout
        reporter.report(Violation(late, REQUEST_VALIDATION, "LOW", "x" * 1000))
    await asyncio.wait_for(reporter.drain(), 5)
    with acting(replace(late, deadline_at=None)):
        async with mesh.node.database.read() as work:
            rows = await work.execute("SELECT count(*) FROM mesh.event")
            assert rows.scalar_one() == 300


async def test_what_cannot_be_published_does_not_end_the_reporter(mesh: Mesh) -> None:
    good, reporter = call(), mesh.node.violations
    before = reporter.dropped
    reporter.report(Violation(call(), "", "LOW", "a contract without an id orders no event"))
    reporter.report(Violation(good, REQUEST_VALIDATION, "LOW", "behind it"))
    await asyncio.wait_for(reporter.drain(), 5)
    assert reporter.dropped == before + 1
    with acting(good):
        async with mesh.node.database.read() as work:
            assert (await work.execute("SELECT count(*) FROM mesh.event")).scalar_one() == 1


async def test_a_stream_ends_with_its_key(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptors, "RECHECK_SECONDS", 0.0)
    tenant = f"t-{uuid4()}"
    keys = access_service_pb2_grpc.AccessServiceStub(mesh.channel(tenant, {"*", "mesh:admin"}))
    made = await keys.CreateApiKey(
        access_service_pb2.CreateApiKeyRequest(
            request_id=str(uuid4()), name="tail", scopes=["events:read"]
        )
    )

    def publish() -> None:
        mesh.node.violations.report(
            Violation(replace(call(), tenant_id=tenant), REQUEST_VALIDATION, "LOW", "seen")
        )

    async with grpc.aio.insecure_channel(mesh.address) as channel:
        tail: Any = events_service_pb2_grpc.EventServiceStub(channel).TailEvents(
            events_service_pb2.TailEventsRequest(),
            metadata=(("authorization", f"Bearer {made.secret}"),),
            timeout=20,
        )
        await asyncio.sleep(0.5)  # it begins with what comes after it
        publish()
        assert (await tail.read()).event.subject == "contract.violated"
        await keys.RevokeApiKey(
            access_service_pb2.RevokeApiKeyRequest(
                request_id=str(uuid4()), key_id=made.api_key.key_id
            )
        )
        mesh.node.keys.forget()
        publish()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tail.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_start_that_fails_half_way_can_be_undone(
    mesh: Mesh, database_url: DatabaseUrls
) -> None:
    settings = Settings(
        database_url=database_url.service,
        relay_url=database_url.relay,
        mesh_secret=SecretStr(MESH_SECRET),
        listen=mesh.address,
    )
    node = Node(settings, [access.SERVICE])
    with pytest.raises(PortInUse):
        await node.start()
    await node.stop()


async def test_a_transaction_whose_process_hangs_is_ended_by_the_database(
    single: Database,
) -> None:
    with acting(call()):
        with pytest.raises(DatabaseUnavailable):
            async with single.unit_of_work("test.hangs") as work:
                shown = await work.execute("SHOW idle_in_transaction_session_timeout")
                assert shown.scalar_one() == "30s"
                await work.execute("SET LOCAL idle_in_transaction_session_timeout = 50")
                work.audit("test", "1", None, {"n": 1})
                await asyncio.sleep(0.3)
        assert await count_audits(single) == 0


async def test_a_use_case_that_reads_and_writes_is_a_fault_of_ours(single: Database) -> None:
    with acting(call()):
        with pytest.raises(AssertionError, match="has written"):
            async with single.read() as work:
                await work.execute("CREATE TEMP SEQUENCE written")
        # The database itself may refuse them: the caller comes again.
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            async with single.unit_of_work("test.standby") as work:
                await work.execute("SET TRANSACTION READ ONLY")
                work.audit("test", "1", None, {"n": 1})
        assert await count_audits(single) == 0


async def test_one_key_is_looked_up_once_however_many_calls_bring_it(mesh: Mesh) -> None:
    tenant = f"t-{uuid4()}"
    stub: Any = access_service_pb2_grpc.AccessServiceStub(mesh.channel(tenant, {"*", "mesh:admin"}))
    request = access_service_pb2.CreateApiKeyRequest(
        request_id=str(uuid4()), name="herd", scopes=["access:read"]
    )
    made = await stub.CreateApiKey(request)
    ring, lookups = KeyRing(mesh.node.database), 0
    load = ring._load

    async def counted(hashed: bytes) -> Principal:
        nonlocal lookups
        lookups += 1
        return await load(hashed)

    ring._load = counted  # type: ignore[method-assign]
    found = await asyncio.gather(*(ring.resolve(made.secret) for _ in range(50)))
    assert {principal.tenant_id for principal in found} == {tenant}
    assert lookups <= LOOKUPS_MAX
