"""Kill -9 at every crash point of metering: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import signal
import uuid
from typing import Any

import grpc
import psycopg
import pytest
from payments.metering.v1 import metering_service_pb2
from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

from tests.support.billing.metering import batch, event, outcomes
from tests.support.billing.metering_process import SKUS, MeteringProcess, serving
from tests.support.postgres.server import DatabaseUrls

EVENTS = 500


def usage_batch(first: int = 0) -> metering_service_pb2.IngestEventsRequest:
    """Make a batch of which one event is wrong."""
    events = [event(f"e-{first + number}", sku=SKUS[0], quantity="1") for number in range(EVENTS)]
    return batch(*events, event(f"wrong-{first}", sku=SKUS[0], quantity="-1"))


def stored(database: DatabaseUrls, tenant: str) -> tuple[int, int, int, int]:
    """Count events, receipts, rejections and published facts of a tenant."""
    with psycopg.connect(database.owner_admin) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM metering.usage_event WHERE tenant_id = %(t)s),"
            " (SELECT count(*) FROM metering.receipt WHERE tenant_id = %(t)s),"
            " (SELECT count(*) FROM metering.rejected_event WHERE tenant_id = %(t)s),"
            " (SELECT count(*) FROM mesh.event WHERE tenant_id = %(t)s AND subject = 'usage.reported')",
            {"t": tenant},
        ).fetchone()
    assert row is not None
    return row[0], row[1], row[2], row[3]


async def open_window(process: MeteringProcess, stub: Any, tenant: str, request_id: str) -> Any:
    """Let events of any recent year in."""
    request = metering_service_pb2.UpdateIngestSettingsRequest(request_id=request_id)
    request.accept_past.FromSeconds(3660 * 86_400)
    request.accept_future.FromSeconds(31 * 86_400)
    return await stub.UpdateIngestSettings(request, metadata=process.headers(tenant))


async def died(process: MeteringProcess, call: Any) -> None:
    """Assert that the call got no answer because the process was killed."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await asyncio.to_thread(process.process.wait, 10) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("crashpoint", "survives"),
    [("metering.ingest.before_commit", False), ("metering.ingest.after_commit", True)],
)
async def test_a_batch_whose_answer_was_lost_is_stored_once(
    database: DatabaseUrls, crashpoint: str, survives: bool
) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    # The second batch dies: what was acknowledged before must be there in any case.
    with serving(database, crashpoint=f"{crashpoint}:2") as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            stub: Any = MeteringServiceStub(channel)
            await open_window(process, stub, tenant, str(uuid.uuid4()))
            headers = process.headers(tenant)
            first = await stub.IngestEvents(usage_batch(), metadata=headers)
            assert outcomes(first)["accepted"] == EVENTS
            await died(process, stub.IngestEvents(usage_batch(EVENTS), metadata=headers))
    batches = 2 if survives else 1
    assert stored(database, tenant) == (batches * EVENTS, batches, batches, batches)
    with serving(database) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            stub = MeteringServiceStub(channel)
            again = await stub.IngestEvents(usage_batch(EVENTS), metadata=process.headers(tenant))
    assert outcomes(again) == {
        "accepted": 0 if survives else EVENTS,
        "duplicate": EVENTS if survives else 0,
        "conflict": 0,
        "rejected": 1,
    }
    events, _, _, published = stored(database, tenant)
    assert events == 2 * EVENTS
    assert published == 2


@pytest.mark.parametrize(
    ("crashpoint", "survives"),
    [
        ("metering.update_ingest_settings.before_commit", False),
        ("metering.update_ingest_settings.after_commit", True),
    ],
)
async def test_settings_whose_answer_was_lost_are_set_once(
    database: DatabaseUrls, crashpoint: str, survives: bool
) -> None:
    tenant, request_id = f"t-{uuid.uuid4().hex[:12]}", str(uuid.uuid4())
    with serving(database, crashpoint=crashpoint) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            stub: Any = MeteringServiceStub(channel)
            await died(process, open_window(process, stub, tenant, request_id))
    assert audited(database, tenant) == (1 if survives else 0)
    with serving(database) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            stub = MeteringServiceStub(channel)
            answer = await open_window(process, stub, tenant, request_id)
    assert answer.ingest_settings.accept_past.seconds == 3660 * 86_400
    assert audited(database, tenant) == 1


def audited(database: DatabaseUrls, tenant: str) -> int:
    """Count audit entries of a tenant."""
    with psycopg.connect(database.owner_admin) as connection:
        row = connection.execute(
            "SELECT count(*) FROM mesh.audit WHERE tenant_id = %s", (tenant,)
        ).fetchone()
    assert row is not None
    return int(row[0])
