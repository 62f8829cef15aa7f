"""Behind a connection pooler in transaction mode: each transaction may meet another session of the server.

The pooler of these tests gives a client another session whenever one is free and resets nothing in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.cli.client import Session
from services.runtime import manifests
from services.runtime.context import acting
from services.runtime.database import Database
from services.runtime.secrets import new_key
from tests.chaos.mesh.scenario import Scenario
from tests.support.events.lab import Lab, call, effects_reaction, inversions, new_tenant
from tests.support.mesh.serving import running
from tests.support.postgres.pooler import Pooler, pooling
from tests.support.postgres.server import DatabaseUrls, Server

WITHIN_S = 60


@pytest.fixture
async def urls(postgres_server: Server) -> AsyncIterator[DatabaseUrls]:
    """A database of the test's own, straight."""
    urls = postgres_server.new_database("pooled")
    yield urls
    postgres_server.drop_database(urls)


@pytest.fixture
async def pooler(urls: DatabaseUrls) -> AsyncIterator[Pooler]:
    """Three sessions for each login."""
    async with pooling([urls.service, urls.relay]) as pooler:
        yield pooler


def through(pooler: Pooler, urls: DatabaseUrls) -> DatabaseUrls:
    return DatabaseUrls(urls.owner_admin, pooler.url(urls.service), pooler.url(urls.relay))


# ---- the pooler is what it is meant to be


async def test_each_transaction_meets_another_session(pooler: Pooler, urls: DatabaseUrls) -> None:
    async with await psycopg.AsyncConnection.connect(
        pooler.url(urls.service), prepare_threshold=None
    ) as connection:
        met = []
        for _ in range(4):
            pids = set()
            for _ in range(3):
                cursor = await connection.execute("SELECT pg_backend_pid()")
                pids.add(await cursor.fetchone())
            await connection.commit()
            assert len(pids) == 1, "a transaction stays where it began"
            met.append(pids.pop())
    assert all(one != other for one, other in pairwise(met))


async def test_what_a_session_remembers_is_lost_or_somebody_else_s(
    pooler: Pooler, urls: DatabaseUrls
) -> None:
    # The proof that the tests below would notice.
    async with await psycopg.AsyncConnection.connect(
        pooler.url(urls.service), autocommit=True
    ) as connection:
        await connection.execute("SELECT set_config('mesh.tenant', 'mine', false)", prepare=False)
        cursor = await connection.execute("SELECT current_setting('mesh.tenant', true)")
        assert await cursor.fetchone() != ("mine",)
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            for _ in range(3):
                await connection.execute("SELECT 1", prepare=True)


async def test_a_statement_that_takes_too_long_is_cancelled(
    pooler: Pooler, urls: DatabaseUrls
) -> None:
    async with await psycopg.AsyncConnection.connect(
        pooler.url(urls.service), prepare_threshold=None
    ) as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.execute("SELECT pg_sleep(30)")
        await connection.rollback()
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


# ---- the mesh behind it


async def test_events_are_published_sequenced_and_handled_once_and_in_order(
    pooler: Pooler, urls: DatabaseUrls
) -> None:
    tenant = new_tenant()
    lab = Lab(urls)
    await lab.prepare()
    behind = through(pooler, urls)
    database = Database(behind.service, lab.clock, wake=lab.bus.wake, pooled=True)
    lab.urls, straight, lab.database = behind, lab.database, database
    try:
        async with (
            asyncio.timeout(WITHIN_S),
            lab.reacting(effects_reaction(), pooled=True) as one,
            lab.reacting(effects_reaction(), pooled=True),
        ):
            for version in range(20):
                await asyncio.gather(*(lab.publish(tenant, f"k{key}", version) for key in range(5)))
            await one.drain()
        effects = await lab.effects(tenant)
        assert len({effect.event_id for effect in effects}) == len(effects) == 100
        assert inversions(effects) == []
        assert pooler.switches[True] > 100
    finally:
        await database.close()
        await straight.close()


async def test_no_setting_of_a_transaction_outlives_it(pooler: Pooler, urls: DatabaseUrls) -> None:
    names = [
        "mesh.tenant",
        "role",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "enable_seqscan",
        "transaction_isolation",
        "transaction_read_only",
    ]
    asked = " || ' ' || ".join(f"coalesce(current_setting('{name}', true), '')" for name in names)
    seen: set[str] = set()
    lab = Lab(urls)
    await lab.prepare()
    straight, lab.urls = lab.database, through(pooler, urls)
    lab.database = Database(lab.urls.service, lab.clock, wake=lab.bus.wake, pooled=True)
    try:
        tenant = new_tenant()
        async with asyncio.timeout(WITHIN_S), lab.reacting(effects_reaction(), pooled=True) as one:
            await lab.publish(tenant, "k", *range(10))
            with acting(call(tenant)):
                async with lab.database.read() as work:
                    await work.execute("SELECT 1")
            await one.drain()
        for url in (lab.urls.service, lab.urls.relay):
            async with await psycopg.AsyncConnection.connect(
                url, prepare_threshold=None, autocommit=True
            ) as plain:
                for _ in range(8):
                    cursor = await plain.execute(f"SELECT {asked}".encode())
                    row = await cursor.fetchone()
                    assert row is not None
                    seen.add(row[0])
    finally:
        await lab.database.close()
        await straight.close()
    assert seen == {" none 0 0 0 on read committed off"}


async def test_the_whole_chain_from_usage_to_settled_money(
    pooler: Pooler, urls: DatabaseUrls
) -> None:
    tenant = f"t-{uuid4().hex[:12]}"
    settings: dict[str, Any] = {"pooled": True, "secrets_keys": new_key()}
    async with running(through(pooler, urls), manifests.found(), **settings) as mesh:
        stub = access_service_pb2_grpc.AccessServiceStub(mesh.channel(tenant, {"*", "mesh:admin"}))
        request = access_service_pb2.CreateApiKeyRequest(
            request_id=str(uuid4()), name="first", scopes=["*"]
        )
        secret = (await stub.CreateApiKey(request)).secret
        scenario = Scenario(tenant)
        # Twice: the second run finds sessions on which the first has left what it would.
        for _ in range(2):
            await asyncio.wait_for(
                asyncio.to_thread(scenario.run, Session(mesh.address, secret)), WITHIN_S
            )
        await asyncio.wait_for(mesh.drain_events(), WITHIN_S)
    assert pooler.switches[True] > pooler.switches[False]
    await asyncio.to_thread(scenario.check, urls.service)
