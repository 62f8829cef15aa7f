"""Health is told to everybody, whatever one who watches does with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from services.runtime.edge.health import Health

REQUEST = health_pb2.HealthCheckRequest(service="a")
STATES = health_pb2.HealthCheckResponse


class Watcher:
    """A client that watches; a deaf one never takes what it is told."""

    def __init__(self, deaf: bool = False) -> None:
        self.told: list[int] = []
        self.deaf = deaf

    async def write(self, message: Any) -> None:
        self.told.append(message.status)
        if self.deaf:
            await asyncio.Event().wait()

    async def abort(self, code: Any, details: str) -> None:
        raise LookupError(details)


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_watcher_that_takes_nothing_keeps_no_other_from_hearing() -> None:
    health, deaf, other = Health(), Watcher(deaf=True), Watcher()
    health.set("a", serving=False)
    watching = [asyncio.create_task(health.Watch(REQUEST, each)) for each in (deaf, other)]
    await settle()
    health.set("a", serving=True)
    await settle()
    health.set("a", serving=True)
    await settle()
    assert deaf.told == [STATES.NOT_SERVING]
    assert other.told == [STATES.NOT_SERVING, STATES.SERVING]
    assert (await health.Check(REQUEST, other)).status == STATES.SERVING
    for each in watching:
        each.cancel()


async def test_what_changes_while_it_is_told_is_told_next() -> None:
    health, told = Health(), []

    class Meanwhile(Watcher):
        async def write(self, message: Any) -> None:
            told.append(message.status)
            if len(told) == 1:
                health.set("a", serving=True)

    watching = asyncio.create_task(health.Watch(REQUEST, Meanwhile()))
    await settle()
    assert told == [STATES.SERVICE_UNKNOWN, STATES.SERVING]
    watching.cancel()


async def test_who_has_retired_serves_nothing_any_more() -> None:
    health, watcher = Health(), Watcher()
    health.set("a", serving=True)
    health.set("", serving=True)
    health.retire()
    health.set("a", serving=True)
    listed = await health.List(health_pb2.HealthCheckRequest(), watcher)
    assert {name: each.status for name, each in listed.statuses.items()} == {"": 2, "a": 2}
    with pytest.raises(LookupError):
        await health.Check(health_pb2.HealthCheckRequest(service="b"), watcher)
