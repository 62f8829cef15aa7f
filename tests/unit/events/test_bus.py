"""The bell inside a process."""

from __future__ import annotations

import asyncio

import pytest

from services.runtime.events.bus import EventBus


async def test_a_cancellation_that_meets_the_bell_is_not_lost() -> None:
    for steps in range(4):
        bus = EventBus()
        with bus.listener() as bell:
            waiting = asyncio.create_task(bell.wait(60))
            for _ in range(3):
                await asyncio.sleep(0)
            bus.moved()
            for _ in range(steps):
                await asyncio.sleep(0)
            asked = waiting.cancel()
            if asked:
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            else:
                assert waiting.result() is True
