"""Answers come in order, early, and never from more than the allowed number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from services.runtime.pipelining import in_order


async def numbers(count: int, fail_at: int = -1) -> AsyncIterator[int]:
    """Yield numbers, or fail at one."""
    for number in range(count):
        await asyncio.sleep(0)
        if number == fail_at:
            raise ValueError(number)
        yield number


async def test_answers_keep_the_order_of_requests_whatever_takes_longest() -> None:
    begun = answered = most = 0

    async def work(number: int) -> int:
        nonlocal begun, most
        begun += 1
        most = max(most, begun - answered)
        await asyncio.sleep(0.003 * (number % 3 == 0))
        return number

    async for answer in in_order(numbers(30), work, 4):
        assert answer == answered
        answered += 1
    assert answered == 30
    assert most == 4


async def test_an_answer_does_not_wait_for_the_next_request() -> None:
    requests: asyncio.Queue[int | None] = asyncio.Queue()

    async def received() -> AsyncIterator[int]:
        while (number := await requests.get()) is not None:
            yield number

    async def work(number: int) -> int:
        return number * 2

    answers = in_order(received(), work, 4)
    for number in range(3):
        await requests.put(number)
        assert await asyncio.wait_for(anext(answers), 1) == number * 2
    await requests.put(None)
    assert [answer async for answer in answers] == []


async def test_failures_come_in_their_place() -> None:
    async def work(number: int) -> int:
        if number == 3:
            raise KeyError(number)
        await asyncio.sleep(0.01)
        return number

    for source, expected in ((numbers(9), KeyError), (numbers(9, fail_at=3), ValueError)):
        answers = []
        with pytest.raises(expected):
            async for answer in in_order(source, work, 4):
                answers.append(answer)
        assert answers == [0, 1, 2]


async def test_closing_ends_what_runs() -> None:
    begun: list[int] = []
    ended: list[int] = []
    beside = asyncio.Event()

    async def work(number: int) -> int:
        begun.append(number)
        if len(begun) == 3:
            beside.set()
        try:
            # The first answer waits until others run beside it; they never end by themselves.
            await (asyncio.Event() if number else beside).wait()
        finally:
            ended.append(number)
        return number

    async with aclosing(in_order(numbers(9), work, 3)) as answers:
        assert await anext(answers) == 0
    assert begun == [0, 1, 2]
    assert sorted(ended) == begun
