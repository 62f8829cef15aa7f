"""A bounded number of batches work, a bounded number wait, the rest are told to come back."""

from __future__ import annotations

import asyncio

import pytest

from services.metering.app.metering import Turns
from services.runtime.errors import Overloaded


async def test_work_and_waiting_are_bounded() -> None:
    turns = Turns(working_max=2, waiting_max=3)
    working = most = 0
    go = asyncio.Event()

    async def work() -> None:
        nonlocal working, most
        async with turns.turn():
            working += 1
            most = max(most, working)
            await go.wait()
            working -= 1

    tasks = [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await work()
    assert refused.value.retry_after_ms
    assert refused.value.metadata == {"limit": "3"}
    go.set()
    await asyncio.gather(*tasks)
    assert most == 2
    await work()


async def test_a_caller_that_gives_up_waiting_leaves_its_place() -> None:
    turns = Turns(working_max=1, waiting_max=1)
    go = asyncio.Event()

    async def work() -> None:
        async with turns.turn():
            await go.wait()

    first = asyncio.create_task(work())
    await asyncio.sleep(0)
    for _ in range(3):
        second = asyncio.create_task(work())
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    go.set()
    await first
    await work()
