"""Postgres is stopped under load, and metering killed at each point of holding and draining: exact totals."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from payments.metering.v1 import metering_service_pb2
from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

from services.local.postgres.server import EmbeddedPostgres
from services.runtime import migrations
from services.runtime.events.jetstream.options import Options
from services.runtime.events.jetstream.spool import SpoolStream
from services.runtime.postgres import roles
from services.runtime.postgres.roles import DatabaseUrls, Passwords
from tests.support.billing.metering import batch, event
from tests.support.billing.metering_process import SKUS, MeteringProcess, serving
from tests.support.jetstream import nats
from tests.support.jetstream.nats import Nats
from tests.support.jetstream.sites import eventually

# `make chaos` leaves Postgres away for as long as a failover takes.
OUTAGE_SECONDS = 30.0 if os.environ.get("TOLLMESH_CRASH_POINTS") == "all" else 3.0
SENDERS = 3
EVENTS = 10
PAUSE_SECONDS = 0.15
AT = datetime.now(UTC)
_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


@dataclass(slots=True)
class Machine:
    """A Postgres that can be stopped, and a NATS.

    Attributes:
        postgres: stopped and started by the tests, from the main thread.
        urls: of a database of metering's, the same after each start.
        nats: holds the spool.
    """

    postgres: EmbeddedPostgres
    urls: DatabaseUrls
    nats: Nats

    def settings(self, site: str, *, spool: bool = True) -> Mapping[str, str]:
        """Variables of a process that has a spool, or none."""
        url = self.nats.url if spool else ""
        return {
            "TOLLMESH_SPOOL_URL": url,
            "TOLLMESH_NATS_SITE": site,
            "TOLLMESH_SPOOL_BYTES_MAX": str(32 * 1024**2),
        }

    def count(self, statement: str, tenant: str) -> int:
        """Count rows of a tenant as the owner."""
        with psycopg.connect(self.urls.owner_admin) as connection:
            row = connection.execute(
                f"SELECT count(*) FROM {statement} WHERE tenant_id = %s".encode(), (tenant,)
            ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    # A short path: the socket lies in it, and its address stays the same after a stop.
    with (
        tempfile.TemporaryDirectory(prefix="spool-") as folder,
        nats.serving(tmp_path_factory.mktemp("nats")) as servers,
    ):
        postgres = EmbeddedPostgres(Path(folder) / "pg", settings=_SETTINGS)
        postgres.start()
        try:
            admin = postgres.create_database("spool")
            urls = roles.prepare_now(admin, passwords=Passwords.generate())
            migrations.upgrade(urls.owner_admin, ["services.metering.migrations"])
            yield Machine(postgres, urls, servers)
        finally:
            postgres.stop()


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def site() -> str:
    return f"s-{uuid.uuid4().hex[:12]}"


# ---- Under load


@dataclass(slots=True)
class Load:
    """What senders were told.

    Attributes:
        answers: batches by what they were answered with.
        acknowledged: events of batches that were taken, each counted once.
    """

    answers: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0


async def send(
    process: MeteringProcess, tenant: str, name: str, until: asyncio.Event, load: Load
) -> None:
    """Send batch after batch; one that fails is sent again until it is taken."""
    async with grpc.aio.insecure_channel(process.address) as channel:
        stub: Any = MeteringServiceStub(channel)
        number = 0
        while not until.is_set():
            at = datetime.now(UTC)
            request = batch(
                *(
                    event(f"{name}-{number}-{index}", sku=SKUS[0], quantity="1", at=at)
                    for index in range(EVENTS)
                )
            )
            number += 1
            while True:
                try:
                    answer = await stub.IngestEvents(request, metadata=process.headers(tenant))
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                    load.answers["unavailable"] += 1
                    await asyncio.sleep(0.1)
                else:
                    break
            told = answer.accepted + answer.duplicate + answer.enqueued
            assert told == EVENTS, answer
            load.acknowledged += EVENTS
            load.answers["enqueued" if answer.enqueued else "stored"] += 1
            await asyncio.sleep(PAUSE_SECONDS)


@pytest.mark.parametrize("spool", [True, False], ids=["with a spool", "without a spool"])
async def test_postgres_is_stopped_under_load(
    machine: Machine, tenant: str, site: str, spool: bool
) -> None:
    load, until = Load(), asyncio.Event()
    with serving(machine.urls, settings=machine.settings(site, spool=spool)) as process:
        async with asyncio.TaskGroup() as senders:
            for number in range(SENDERS):
                senders.create_task(send(process, tenant, f"s{number}", until, load))
            await eventually(_exceeds(load, 2 * SENDERS * EVENTS))
            before = load.acknowledged
            machine.postgres.stop()
            try:
                await asyncio.sleep(OUTAGE_SECONDS)
                meanwhile = load.acknowledged
            finally:
                machine.postgres.start()
            await eventually(_exceeds(load, before + 2 * SENDERS * EVENTS))
            until.set()

        async def all_is_stored() -> bool:
            return machine.count("metering.usage_event", tenant) == load.acknowledged

        await eventually(all_is_stored)
        if spool:
            await eventually(_is_empty(machine, site))
    assert before > 0
    assert machine.count("metering.usage_event", tenant) == load.acknowledged
    assert machine.count("metering.rejected_event", tenant) == 0
    if spool:
        assert load.answers["unavailable"] == 0, load
        assert meanwhile - before > EVENTS * SENDERS
        assert machine.count("metering.spooled_batch", tenant) == load.answers["enqueued"] > 0
    else:
        assert load.answers["unavailable"] > 0
        assert load.answers["enqueued"] == 0
        # What was on its way when it stopped may have been stored.
        assert meanwhile - before <= EVENTS * SENDERS


def _exceeds(load: Load, wanted: int) -> Any:
    async def is_more() -> bool:
        return load.acknowledged > wanted

    return is_more


def _is_empty(machine: Machine, site: str) -> Any:
    async def is_empty() -> bool:
        stream = SpoolStream(Options(tuple(machine.nats.url.split(",")), site), "")
        state = await stream.look()
        await stream.close()
        return state is not None and state.messages == 0

    return is_empty


# ---- Killed


async def ingest(process: MeteringProcess, tenant: str, number: int) -> Any:
    """Send a batch of which one event is wrong."""
    events = [
        event(f"e-{number}-{index}", sku=SKUS[0], quantity="1", at=AT) for index in range(EVENTS)
    ]
    request: metering_service_pb2.IngestEventsRequest = batch(
        *events, event(f"wrong-{number}", sku=SKUS[0], quantity="-1", at=AT)
    )
    async with grpc.aio.insecure_channel(process.address) as channel:
        stub: Any = MeteringServiceStub(channel)
        return await stub.IngestEvents(request, metadata=process.headers(tenant))


async def await_stored(machine: Machine, tenant: str, batches: int) -> None:
    async def are_stored() -> bool:
        return machine.count("metering.usage_event", tenant) >= batches * EVENTS

    await eventually(are_stored)


def check(machine: Machine, tenant: str, batches: int) -> None:
    """Everything of so many batches is there, once."""
    assert machine.count("metering.usage_event", tenant) == batches * EVENTS
    assert machine.count("metering.rejected_event", tenant) == batches
    assert machine.count("metering.receipt", tenant) == batches


@pytest.mark.parametrize("point", ["spool.before_publish", "spool.after_publish"])
async def test_who_dies_before_the_answer_has_promised_nothing_and_doubles_nothing(
    machine: Machine, tenant: str, site: str, point: str
) -> None:
    settings = machine.settings(site)
    with serving(machine.urls, crashpoint=point, settings=settings) as process:
        machine.postgres.stop()
        try:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await ingest(process, tenant, 0)
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert await asyncio.to_thread(process.process.wait, 10) == -signal.SIGKILL
        finally:
            machine.postgres.start()
    with serving(machine.urls, settings=settings) as process:
        again = await ingest(process, tenant, 0)
        assert again.enqueued == 0
        assert again.accepted + again.duplicate == EVENTS
        await eventually(_is_empty(machine, site))
    check(machine, tenant, 1)
    assert machine.count("metering.spooled_batch", tenant) == (point == "spool.after_publish")


@pytest.mark.parametrize(
    "point",
    [
        "metering.drain.before_commit",
        "metering.drain.after_commit",
        "metering.drain.before_removal",
    ],
)
async def test_who_dies_while_it_drains_leaves_each_batch_stored_once(
    machine: Machine, tenant: str, site: str, point: str
) -> None:
    settings, batches = machine.settings(site), 3
    with serving(machine.urls, crashpoint=f"{point}:2", settings=settings) as process:
        machine.postgres.stop()
        try:
            answers = [await ingest(process, tenant, number) for number in range(batches)]
        finally:
            machine.postgres.start()
        assert [answer.enqueued for answer in answers] == [EVENTS + 1] * batches
        assert await asyncio.to_thread(process.process.wait, 30) == -signal.SIGKILL
    stored = 1 if point.endswith("before_commit") else 2
    check(machine, tenant, stored)
    with serving(machine.urls, settings=settings):
        await await_stored(machine, tenant, batches)
        await eventually(_is_empty(machine, site))
    check(machine, tenant, batches)
    assert machine.count("metering.spooled_batch", tenant) == batches
    with psycopg.connect(machine.urls.owner_admin) as connection:
        rows = connection.execute(
            "SELECT 'rcp_' || receipt_id FROM metering.spooled_batch WHERE tenant_id = %s"
            " AND stored_receipt_id = receipt_id ORDER BY received_at",
            (tenant,),
        ).fetchall()
    assert [row[0] for row in rows] == [answer.receipt_id for answer in answers]


async def test_two_processes_that_drain_store_each_batch_once(
    machine: Machine, tenant: str, site: str
) -> None:
    settings, batches = machine.settings(site), 30
    with (
        serving(machine.urls, settings=settings) as one,
        serving(machine.urls, settings=settings) as other,
    ):
        machine.postgres.stop()
        try:
            for number in range(batches):
                answer = await ingest((one, other)[number % 2], tenant, number)
                assert answer.enqueued == EVENTS + 1
        finally:
            machine.postgres.start()
        started = time.monotonic()
        await await_stored(machine, tenant, batches)
        await eventually(_is_empty(machine, site))
        assert time.monotonic() - started < 30
    check(machine, tenant, batches)
    with psycopg.connect(machine.urls.owner_admin) as connection:
        order = connection.execute(
            "SELECT array_agg(receipt_id ORDER BY received_at) = array_agg(receipt_id ORDER BY drained_at)"
            " FROM metering.spooled_batch WHERE tenant_id = %s",
            (tenant,),
        ).fetchone()
    assert order == (True,)
