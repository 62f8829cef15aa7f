"""A bounded number of batches work, a bounded number wait, the rest are told to come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from services.metering.app.metering import Turns
from services.runtime.context import CallContext, acting
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


def acting_for(tenant: str) -> Any:
    return acting(CallContext(tenant, "p", frozenset(), "r", "c"))


async def test_a_flood_of_one_tenant_neither_goes_first_nor_takes_all_the_room() -> None:
    """Counted: what of it has begun when another's batch does, and who is told to come back."""
    turns = Turns(working_max=2, waiting_max=6)
    begun: list[str] = []
    refused: list[str] = []
    go = asyncio.Event()

    async def work(tenant: str) -> None:
        with acting_for(tenant):
            try:
                async with turns.turn():
                    begun.append(tenant)
                    await go.wait()
            except Overloaded:
                refused.append(tenant)

    async def come(tenant: str, count: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(work(tenant)) for _ in range(count)]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks

    tasks = await come("flood", 12)
    assert (begun, refused) == (["flood"] * 2, ["flood"] * 4)
    # Six of the flood wait: another has room, up to as many as are left of it.
    tasks += await come("other", 5)
    assert Counter(refused) == {"flood": 4 + 3, "other": 2}
    tasks += await come("third", 1)
    assert Counter(refused) == {"flood": 4 + 3 + 1, "other": 2}
    assert begun == ["flood"] * 2
    go.set()
    await asyncio.gather(*tasks)
    # Each of the others among the next three.
    assert {"other", "third"} <= set(begun[2:5])
    assert sorted(begun) == ["flood"] * 4 + ["other"] * 3 + ["third"]


async def test_who_is_told_to_make_room_has_not_begun_and_holds_no_place() -> None:
    turns = Turns(working_max=1, waiting_max=1)
    go = asyncio.Event()

    async def work(tenant: str) -> None:
        with acting_for(tenant):
            async with turns.turn():
                await go.wait()

    tasks = [asyncio.create_task(work("a")) for _ in range(2)]
    await asyncio.sleep(0)
    # One of each: nobody has more than the other would have.
    with pytest.raises(Overloaded):
        await work("b")
    go.set()
    await asyncio.gather(*tasks)
    await work("b")
