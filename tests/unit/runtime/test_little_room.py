"""While little room is left on the disk, what would begin new work in the background waits, and goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from services.billing.work import Resumable, resuming
from services.events.work import WebhookWorker
from services.runtime.clock import SystemClock
from services.runtime.context import CallContext
from services.runtime.events import subscriptions
from services.runtime.events.bus import EventBus
from services.runtime.events.jetstream import source as source_module
from services.runtime.events.jetstream.source import Source
from services.runtime.events.subscriptions import BackFill
from services.runtime.leases import Term
from services.runtime.timers import pump as pump_module
from services.runtime.timers.pump import TimerPump
from services.runtime.violations import Violation, ViolationReporter

LOOKS = 3
WITHIN_S = 20.0
NOWHERE = "postgresql://x@/x?host=/nowhere"


class Room:
    """Conditions of a process whose storage is low for the first looks, and then is not any more."""

    database_gone = False

    def __init__(self) -> None:
        self.looks = 0
        self.begun: list[int] = []
        self.began = asyncio.Event()

    @property
    def storage_low(self) -> bool:
        """Low at first."""
        self.looks += 1
        return self.looks <= LOOKS

    def begin(self) -> None:
        """Take down that work was begun, and after how many looks."""
        self.begun.append(self.looks)
        self.began.set()


class Base:
    """Stands in for the database: what is begun there is work."""

    def __init__(self, room: Room) -> None:
        self.conditions = room

    @asynccontextmanager
    async def unit_of_work(self, _name: str) -> AsyncIterator[Any]:
        """Begin work."""
        self.conditions.begin()
        yield self

    def violation(self, *_: object, **__: object) -> None:
        """Take a violation."""


def claiming(room: Room) -> Callable[..., Awaitable[Any]]:
    """Take down that work was claimed; there is none."""

    async def claim(*_: object) -> tuple[list[Any], bool]:
        room.begin()
        return [], False

    return claim


Loop = Callable[[Room, pytest.MonkeyPatch], Coroutine[Any, Any, None]]


async def timers(room: Room, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pump_module, "IDLE_MS_MAX", 1)
    pump = TimerPump(NOWHERE, bus=EventBus(), clock=SystemClock(), conditions=_any(room))

    async def fire(*_: object) -> int:
        room.begin()
        return 0

    patch.setattr(pump, "_due_in_ms", _giving(0.0))
    patch.setattr(pump, "_round", fire)
    await pump._work(_any(None))


async def webhooks(room: Room, patch: pytest.MonkeyPatch) -> None:
    given = _any(None)
    worker = WebhookWorker(_any(Base(room)), given, given, given, telemetry=given)

    patch.setattr(worker, "claim", claiming(room))
    await worker.sending.loop.run()


async def charges(room: Room, patch: pytest.MonkeyPatch) -> None:
    base = _any(Base(room))
    claims = Resumable.claim

    async def claim(charges: Resumable, owner: str, limit: int) -> Any:
        # A mesh of another test may run in this process.
        if charges._database is not base:
            return await claims(charges, owner, limit)
        room.begin()
        return [], False

    worker = resuming(base, _any(None), _any(None))
    patch.setattr(Resumable, "claim", claim)
    worker.loop._rest_seconds = 0.001
    await worker.loop.run()


async def back_fills(room: Room, patch: pytest.MonkeyPatch) -> None:
    relay = _any(Base(room))

    fills = subscriptions.fill_page

    async def control(**_: object) -> Any:
        return contextlib.nullcontext(room)

    async def fill_page(session: Any) -> bool:
        # A mesh of another test may run in this process.
        if session is not room:
            return await fills(session)
        room.begin()
        return False

    relay.control = control
    patch.setattr(subscriptions, "POLL_SECONDS", 0.001)
    patch.setattr(subscriptions, "fill_page", fill_page)
    await BackFill(relay, EventBus()).loop.run()


async def reports(room: Room, patch: pytest.MonkeyPatch) -> None:
    reporter = ViolationReporter(_any(Base(room)))
    who = CallContext("t", "p", frozenset(), "r", "c")
    reporter.report(Violation(who, "router/timeout", "HIGH", "took 3 s"))
    await reporter._loop.run()


async def other_sites(room: Room, patch: pytest.MonkeyPatch) -> None:
    class Reader:
        async def batch(self) -> list[Any]:
            room.begin()
            await asyncio.Event().wait()
            return []

        async def close(self) -> None:
            pass

    broker = SimpleNamespace(reader=_giving(Reader()))
    share = SimpleNamespace(share=0, lease={})
    relay = SimpleNamespace(conditions=room, lease_ms=10_000)
    source = Source(*map(_any, (relay, broker, "b", EventBus(), None)))
    patch.setattr(source_module, "MISSING_SECONDS", 0.001)
    patch.setattr(source_module, "renew", _giving(Term(10_000)))
    patch.setattr(source, "_position", _giving(SimpleNamespace(sequence=0)))
    await source._read(_any(None), _any(share), _any(None), "role")


@pytest.mark.parametrize(
    "loop",
    [timers, webhooks, charges, back_fills, reports, other_sites],
    ids=lambda it: it.__name__,
)
async def test_what_begins_new_work_waits_for_room(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room()
    running = asyncio.create_task(loop(room, monkeypatch))
    try:
        async with asyncio.timeout(WITHIN_S):
            await room.began.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert room.begun[0] > LOOKS, "it was begun while there was little room"


def _any(value: object) -> Any:
    return value


def _giving(value: Any) -> Callable[..., Awaitable[Any]]:
    async def give(*_: object, **__: object) -> Any:
        return value

    return give
