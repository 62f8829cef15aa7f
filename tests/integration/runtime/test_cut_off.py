"""Whatever await a unit of work is cut off at, the next user of the pool finds a connection that is as new."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import psycopg
import pytest
from payments.access.v1 import access_service_pb2
from psycopg import waiting

from services.runtime import database as database_module
from services.runtime.access import KeyRing
from services.runtime.clock import SystemClock
from services.runtime.commands import Commands, UseCase
from services.runtime.context import CallContext, acting
from services.runtime.database import Database, UnitOfWork, connect_arguments
from services.runtime.errors import Unauthenticated
from services.runtime.events import relay as relay_module
from services.runtime.events.bus import EventBus
from services.runtime.events.handling import Handling
from services.runtime.events.jetstream.statements import fenced
from services.runtime.events.relay import Relay, rows
from services.runtime.leases import LeaseLost
from services.runtime.postgres.pool import transaction
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.postgres.session import Session
from services.runtime.telemetry import Silent
from tests.support.mesh.cutting import cut_at

# The driver's pipeline, cut off twice, complains of its closed connection when its generator is collected. It is
# collected here, so that no other test has to hear it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

POOL_SIZE = 2
AWAITS_MAX = 400
STATE = """
SELECT current_setting('transaction_read_only'), current_setting('transaction_isolation'),
       coalesce(current_setting('mesh.tenant', true), ''), current_setting('statement_timeout'),
       current_user = session_user,
       (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
       (SELECT count(*) FROM pg_cursors WHERE name <> '')
"""
AS_NEW = ("off", "read committed", "", "0", True, 0, 0)
SESSIONS = """
SELECT state, query FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = %s
"""


@dataclass(frozen=True, slots=True)
class Shared:
    """Pools of a test's own, whose sessions can be told from those of others."""

    database: Database
    relay: Relay
    role: str
    name: str


@pytest.fixture
async def shared(
    database_url: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shared]:
    name = f"cut-{uuid4()}"
    # The driver yields to a busy loop wherever it need not wait, too. Here every time.
    monkeypatch.setattr(waiting, "MAX_BUSY_TIME", 0.0)

    def named(_name: str, *, pooled: bool) -> dict[str, Any]:
        return connect_arguments(name, pooled=pooled)

    monkeypatch.setattr(database_module, "connect_arguments", named)
    monkeypatch.setattr(relay_module, "connect_arguments", named)
    database = Database(database_url.service, SystemClock(), pool_size=POOL_SIZE)
    relay = Relay(database_url.relay, workers=POOL_SIZE // 2)  # may overflow by as many
    role = unquote(urlsplit(database_url.service).username or "")
    yield Shared(database, relay, role, name)
    await database.close()
    await relay.close()
    gc.collect()


def call() -> CallContext:
    return CallContext(f"t-{uuid4()}", "test", frozenset(), "r", "c")


async def read(shared: Shared) -> None:
    async with shared.database.read() as work:
        await work.execute("SELECT count(*) FROM mesh.audit")
        await work.execute("SELECT pg_advisory_xact_lock_shared(7)")


async def write(shared: Shared) -> None:
    async with shared.database.unit_of_work("test.cut") as work:
        await work.execute("SELECT pg_advisory_xact_lock_shared(7)")
        work.audit("test", "1", None, {"n": 1})
        work.violation("test/cut", "LOW", "seen")


async def copy(shared: Shared) -> None:
    async with shared.database.unit_of_work("test.cut") as work:
        await work.execute("CREATE TEMP TABLE staging (line text) ON COMMIT DROP")
        driver = await work.raw()
        async with driver.cursor() as cursor, cursor.copy("COPY staging FROM STDIN") as lines:
            for _ in range(3):
                await lines.write("x" * 10_000 + "\n")
        await driver.execute("SELECT count(*) FROM staging", prepare=True)


async def savepoint(shared: Shared) -> None:
    request = access_service_pb2.RevokeApiKeyRequest(request_id=str(uuid4()), key_id="key_1")

    async def run(answer: access_service_pb2.RevokeApiKeyResponse, work: UnitOfWork) -> Any:
        work.audit("test", "1", None, {"n": 1})
        await work.execute("SELECT 1")
        return answer

    answer = access_service_pb2.RevokeApiKeyResponse()
    use_case = UseCase("test.cut", run, lambda made: made, type(answer))
    await Commands(shared.database).run(use_case, answer, request)


async def fails(shared: Shared) -> None:
    async with shared.database.unit_of_work("test.cut") as work:
        work.audit("test", "1", None, {"n": 1})
        await work.flush()
        raise ValueError("rolled back")


async def many_rows(shared: Shared) -> None:
    async with shared.database.unit_of_work("test.cut") as work:
        for _ in range(3):
            work.audit("test", "1", None, {"n": 1})  # executemany: the driver's pipeline


async def look_up_key(shared: Shared) -> None:
    with pytest.raises(Unauthenticated):
        await KeyRing(shared.database).resolve("tmk_nobody")


async def handle(shared: Shared) -> None:
    """What a dispatcher does with its connections."""
    handling = Handling(shared.relay, EventBus(), SystemClock(), shared.role, Silent())
    async with handling.session() as session, transaction(session):
        await rows(session, "limit_transaction", limit_ms="5000")
        await session.execute("SAVEPOINT event", prepare=False)
        await session.execute(f'SET LOCAL ROLE "{shared.role}"'.encode(), prepare=False)
        await session.execute("SELECT set_config('mesh.tenant', 't', true)")
        await session.execute("SELECT pg_advisory_xact_lock_shared(7)")
        await session.execute("RELEASE SAVEPOINT event; SET LOCAL ROLE NONE", prepare=False)


async def fence(shared: Shared) -> None:
    """What a sink or a source does with its connections."""
    with pytest.raises(LeaseLost):
        async with fenced(shared.relay, {"consumer": "nobody", "lane": 0, "epoch": 1}):
            pass


OF_CALLS: list[Callable[[Shared], Coroutine[Any, Any, None]]] = [
    read,
    write,
    copy,
    savepoint,
    fails,
    many_rows,
    look_up_key,
]
# Of the relay's pool, which has a connection for each of those that use it.
WORKS = [*OF_CALLS, handle, fence]


async def all_are_as_new(shared: Shared) -> None:
    """Take every connection that the pools have, at once, and look at each."""
    for pool in (shared.database.pool, shared.relay.pool):
        assert pool.taken == 0
        async with AsyncExitStack() as taken:
            for _ in range(POOL_SIZE):
                session = await taken.enter_async_context(pool.session())
                assert await state_of(session) == AS_NEW


async def state_of(session: Session) -> tuple[Any, ...]:
    found = await (await session.execute(STATE.encode())).fetchone()
    assert found is not None
    return tuple(found)


async def no_session_is_stuck(shared: Shared, database_url: DatabaseUrls) -> None:
    """Wait until the server has no more sessions than the pools, and each of them is idle."""
    async with await psycopg.AsyncConnection.connect(
        database_url.owner_admin, autocommit=True
    ) as admin:
        until = time.monotonic() + 20
        while True:
            found = await (await admin.execute(SESSIONS, [shared.name])).fetchall()
            if len(found) <= 2 * POOL_SIZE and all(state == "idle" for state, _ in found):
                return
            assert time.monotonic() < until, found
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("work", WORKS)
async def test_a_call_that_is_cut_off_leaves_nothing_on_a_connection(
    shared: Shared, database_url: DatabaseUrls, work: Callable[[Shared], Any], times: int
) -> None:
    with acting(call()):
        for number in range(AWAITS_MAX):
            came_so_far = await cut_at(work(shared), number, times)
            await all_are_as_new(shared)
            if not came_so_far:
                break
        assert 0 < number < AWAITS_MAX - 1
        await write(shared)
    await no_session_is_stuck(shared, database_url)


async def test_a_pool_does_not_run_dry(shared: Shared, database_url: DatabaseUrls) -> None:
    numbers = random.Random(22)

    async def cut_somewhere() -> None:
        await cut_at(
            numbers.choice(OF_CALLS)(shared),
            int(60 * numbers.random() ** 3),
            numbers.choice((1, 2)),
        )

    with acting(call()):
        for _ in range(5):
            await asyncio.gather(*(cut_somewhere() for _ in range(200)))
        await all_are_as_new(shared)
        await write(shared)
    await no_session_is_stuck(shared, database_url)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda driver: driver.set_read_only(True),
        lambda driver: driver.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE),
        lambda driver: driver.set_deferrable(True),
        lambda driver: driver.set_autocommit(False),
    ],
)
async def test_a_connection_that_is_not_as_new_is_never_handed_out(
    shared: Shared, spoil: Callable[[Any], Any]
) -> None:
    async with shared.database.session() as session:
        await spoil(session)
        spoilt = session.info.backend_pid
    async with shared.database.session() as session:
        assert session.info.backend_pid != spoilt
        assert await state_of(session) == AS_NEW


async def test_a_reader_has_one_snapshot_and_cannot_write(shared: Shared) -> None:
    with acting(call()):
        async with shared.database.read() as work:
            for _ in range(2):
                counted = await work.execute("SELECT count(*) FROM mesh.audit")
                assert counted.scalar_one() == 0
                await write(shared)
            with pytest.raises(
                psycopg.errors.ReadOnlySqlTransaction, match="read-only transaction"
            ):
                await work.execute(
                    "INSERT INTO mesh.audit (tenant_id, audit_id, entity, entity_id, actor)"
                    " VALUES (mesh.current_tenant(), gen_random_uuid(), '', '', '')"
                )


@pytest.mark.parametrize("tenant", ["it's", "a\\b", "$$; DROP TABLE mesh.audit; --", "é\n%s{}"])
async def test_a_tenant_of_any_text_is_only_a_text(shared: Shared, tenant: str) -> None:
    with acting(replace(call(), tenant_id=tenant)):
        for transaction in (shared.database.read(), shared.database.unit_of_work("test.odd")):
            async with transaction as work:
                shown = await work.execute("SELECT mesh.current_tenant()")
                assert shown.scalar_one() == tenant
