"""The client's ingester against the bare stub: the same usage, from the values of a row to the mesh's verdict."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from payments.metering.v1 import metering_pb2, metering_service_pb2
from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from payments_sdk.payments.metering.v1 import Source, UsageEvent
from tollmesh_client import Client, IngestOptions, SpoolOptions, UsageIngester

from tests.support.billing.metering_process import SKUS, MeteringProcess
from tests.support.measures.figures import tell

BATCH = 2_000
EVENTS = 20_000
ROUNDS = 3
RATIO_MIN = 0.9
"""Of the rate of the bare stub; a run on a machine that others use is told, not failed, down to two thirds of it."""
RATIO_FLOOR = 0.6
SINCE = datetime.now(UTC) - timedelta(days=2)


class Row(NamedTuple):
    """What a program knows of a use."""

    request_id: str
    sku: str
    quantity: str
    at: datetime


def rows(name: str) -> list[Row]:
    prefix = f"{name}-{uuid.uuid4().hex[:8]}"
    return [
        Row(
            f"{prefix}-{number}",
            SKUS[number % 3],
            str(number % 7000),
            SINCE + timedelta(microseconds=number * 1_234_567),
        )
        for number in range(EVENTS)
    ]


async def bare_rate(bench: MeteringProcess) -> float:
    """Return the events per second of IngestEvents by the generated stub, four calls at a time."""
    given = rows("bare")
    waiting = iter(range(0, EVENTS, BATCH))
    headers = bench.headers("bench")

    async def send(stub: Any) -> None:
        for start in waiting:
            request = metering_service_pb2.IngestEventsRequest(
                events=[
                    metering_pb2.UsageEvent(
                        request_id=row.request_id,
                        org_id="code-assist",
                        project_id="ide",
                        sku=row.sku,
                        quantity=row.quantity,
                        event_time=row.at,  # type: ignore[arg-type] # newer than its types
                        source=metering_pb2.SOURCE_BACKEND,
                        metadata={"region": "eu"},
                    )
                    for row in given[start : start + BATCH]
                ]
            )
            answer = await stub.IngestEvents(request, metadata=headers)
            assert answer.accepted == BATCH

    async with grpc.aio.insecure_channel(bench.address) as channel:
        stub = MeteringServiceStub(channel)
        started = time.perf_counter()
        await asyncio.gather(*(send(stub) for _ in range(4)))
        return EVENTS / (time.perf_counter() - started)


def events(given: list[Row]) -> Iterator[UsageEvent]:
    for row in given:
        yield UsageEvent(
            request_id=row.request_id,
            org_id="code-assist",
            project_id="ide",
            sku=row.sku,
            quantity=row.quantity,
            event_time=row.at,
            source=Source.BACKEND,
            metadata={"region": "eu"},
        )


def ingester_rate(bench: MeteringProcess, spool: Path | None, *, one_by_one: bool) -> float:
    """Return the events per second of an ingester, until the last verdict."""
    given = rows("ingester")
    token = bench.headers("bench")[0][1]
    with Client(bench.address) as client:
        # The bench has no keys: its tenant comes by a token of the mesh.
        client.transport._headers = (("authorization", token),)
        kept = None if spool is None else SpoolOptions(spool)
        with UsageIngester(client, IngestOptions(batch_rows=BATCH), spool=kept) as ingester:
            started = time.perf_counter()
            if one_by_one:
                for event in events(given):
                    ingester.add(event)
            else:
                ingester.add_many(events(given))
            ingester.flush()
            seconds = time.perf_counter() - started
            assert ingester.stats.accepted == EVENTS
    return EVENTS / seconds


async def test_the_ingester_keeps_up_with_the_bare_stub(
    bench: MeteringProcess, tmp_path: Path
) -> None:
    await bare_rate(bench)
    kinds: dict[str, tuple[Path | None, bool]] = {
        "add_many, memory": (None, False),
        "add, memory": (None, True),
        "add_many, spool": (tmp_path / "many", False),
        "add, spool": (tmp_path / "one", True),
    }
    rates: dict[str, list[float]] = {name: [] for name in ("bare", *kinds)}
    for _ in range(ROUNDS):  # in turn, so that what else runs on the machine hits all alike
        rates["bare"].append(await bare_rate(bench))
        for name, (spool, one_by_one) in kinds.items():
            rate = await asyncio.to_thread(ingester_rate, bench, spool, one_by_one=one_by_one)
            rates[name].append(rate)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    for name in kinds:
        tell(
            "sdk",
            f"usage by the Python client's ingester: {name}",
            f"{middle[name]:,.0f} events/s",
            floor=f"bare stub: {middle['bare']:,.0f}/s",
            ratio=f"{middle[name] / middle['bare']:.2f}",
            target=f"≥ {RATIO_MIN:.2f}",
        )
    for name in kinds:
        assert middle[name] >= RATIO_FLOOR * middle["bare"], name
