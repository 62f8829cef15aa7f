"""A tick that fails for good, say after a restore into another cluster."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from services.runtime.conditions import Conditions
from services.runtime.events.bus import EventBus
from services.runtime.events.sequencer import Sequencer
from services.runtime.loops import JITTER


class Session:
    """A session on which every statement fails."""

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def cursor(self, **_: object) -> Any:
        raise RuntimeError("the tick row is from another cluster")


class Relay:
    """Opens sessions and counts them."""

    opened = 0
    conditions = Conditions()

    async def control(self, **_: object) -> Session:
        self.opened += 1
        return Session()


async def test_a_tick_that_always_fails_is_tried_ever_more_seldom() -> None:
    relay: Any = Relay()
    bus = EventBus()
    sequencer = Sequencer(relay, bus)
    started = time.monotonic()
    running = asyncio.create_task(sequencer.loop.run())
    while relay.opened < 6 and not running.done():
        bus.wake()  # commits go on meanwhile
        await asyncio.sleep(0.01)
    sequencer.loop.end()
    await running
    # 5, 10, 20, 40 and 80 ms, less a fifth at most, lie between six tries, however slow the machine is.
    assert time.monotonic() - started >= 0.155 * (1 - JITTER)
