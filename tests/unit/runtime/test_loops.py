"""The loop under all background work: its rests, its failures, its end, and what it tells of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.runtime import loops
from services.runtime.conditions import Conditions
from services.runtime.loops import JITTER, Backoff, Loop, stop_all, wait_for
from services.runtime.telemetry import Silent


class Time:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.rings: dict[int, float] = {}

    def __call__(self) -> float:
        return self.now

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait in no time, unless the event is set."""
        await asyncio.sleep(0)
        if not event.is_set():
            self.waits.append(seconds)
            self.now += seconds
        return event.is_set()


def made(
    time: Time, rounds: list[Any], conditions: Conditions | None = None, **options: Any
) -> tuple[Loop, list[float]]:
    """A loop that does these rounds, an error raises, then ends; and the times at which they began."""
    began: list[float] = []
    left = list(rounds)

    async def work() -> Any:
        began.append(time.now)
        if not left:
            return loop.end()
        found = left.pop(0)
        if isinstance(found, BaseException):
            raise found
        if callable(found):
            return await found()
        return found

    options = {"draw": lambda: 0.0, **options}
    loop = Loop("digging", work, conditions=conditions, clock=time, wait=time.wait, **options)
    return loop, began


async def test_it_rests_as_long_as_it_usually_does_unless_its_round_says_otherwise() -> None:
    time = Time()
    loop, began = made(time, [None, 5.0, 0, 0, None], rest_seconds=2.0, first_seconds=1.0)
    await loop.run()
    assert began == [1.0, 3.0, 8.0, 8.0, 8.0, 10.0]


async def test_a_wake_ends_its_rest_after_the_gap_and_one_in_a_round_is_not_lost() -> None:
    time = Time()

    async def woken() -> None:
        loop.wake()

    loop, began = made(time, [woken, None], rest_seconds=100.0, gap_seconds=0.5)
    await loop.run()
    assert began == [0.0, 0.5, 100.5]


async def test_what_fails_is_tried_again_ever_more_seldom_and_told_of_once() -> None:
    time = Time()
    loop, began = made(
        time, [OSError("rock")] * 6 + [None, None], rest_seconds=10.0, backoff=Backoff(1.0, 4.0)
    )
    with capture_logs() as lines:
        await loop.run()
    assert began == [0.0, 1.0, 3.0, 7.0, 11.0, 15.0, 19.0, 29.0, 39.0]
    assert [(line["event"], line["failures"]) for line in lines] == [
        ("digging interrupted", 1),
        ("digging works again", 6),
    ]


async def test_a_wake_does_not_shorten_the_wait_after_a_failure() -> None:
    time = Time()

    async def fail() -> None:
        loop.wake()
        raise OSError("rock")

    loop, began = made(time, [fail, fail], backoff=Backoff(1.0, 4.0))
    await loop.run()
    assert began == [0.0, 1.0, 3.0]


async def test_what_works_and_fails_by_turns_has_not_recovered() -> None:
    time = Time()
    error = OSError("rock")
    loop, began = made(time, [error, 0, error, 0, error, 9.0, error], backoff=Backoff(1.0, 4.0))
    await loop.run()
    # The last one comes long after the others: it is the first again.
    assert began == [0.0, 1.0, 1.0, 3.0, 3.0, 7.0, 16.0, 17.0]


async def test_a_cancellation_from_within_is_a_failure_and_one_from_outside_the_end() -> None:
    time = Time()
    loop, began = made(time, [asyncio.CancelledError()])
    with capture_logs() as lines:
        await loop.run()
    assert len(began) == 2 and lines[0]["event"] == "digging interrupted"
    hangs = Loop("hanging", asyncio.Event().wait)
    task = asyncio.create_task(hangs.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_writes_waits_for_room() -> None:
    time, conditions = Time(), Conditions(storage_low=True)

    async def room(event: asyncio.Event, seconds: float) -> bool:
        conditions.storage_low = time.now < 3.0
        return await time.wait(event, seconds)

    loop, began = made(time, [None], conditions, writes=True, rest_seconds=2.0)
    loop._wait = room
    await loop.run()
    assert began == [6.0, 8.0]
    assert loop.failing_seconds == 0


async def test_it_stalls_while_a_round_takes_long_and_not_while_it_rests() -> None:
    time = Time()
    seen: list[tuple[float, float]] = []

    async def long() -> None:
        time.now += 7.0
        seen.append((loop.stalled_seconds, loop.failing_seconds))
        loop.works()
        seen.append((loop.stalled_seconds, loop.failing_seconds))

    async def broken() -> None:
        raise OSError("rock")

    async def after() -> None:
        seen.append((loop.stalled_seconds, loop.failing_seconds))

    loop, _ = made(time, [None, long, broken, broken, after], rest_seconds=50.0)
    await loop.run()
    # A tenth and two tenths of a second it waited after its failures.
    assert seen[:2] == [(7.0, 0.0), (0.0, 0.0)]
    assert seen[2] == pytest.approx((0.3, 0.3))


def _endless(began: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    return work


async def test_starts_and_stops_may_be_repeated_and_loops_are_known_while_they_run() -> None:
    conditions, began = Conditions(), asyncio.Event()
    loop = Loop("digging", _endless(began), conditions=conditions)
    await loop.stop()
    for _ in range(2):
        began.clear()
        loop.start()
        loop.start()
        assert conditions.loops == {loop} and loop.started
        await began.wait()
        await asyncio.gather(loop.stop(), loop.stop())
        await loop.stop()
        assert not conditions.loops and not loop.started


async def test_a_stop_lets_a_round_end_and_cancels_one_that_does_not() -> None:
    began = asyncio.Event()
    ended: list[bool] = []

    async def work() -> None:
        began.set()
        while not loop.is_stopping():
            await loop.pause(60)
        await asyncio.sleep(0)
        ended.append(True)

    rung: list[bool] = []
    loop = Loop("digging", work, stop_seconds=60, ring=lambda: rung.append(True))
    hangs = Loop("hanging", _endless(asyncio.Event()), stop_seconds=0.01, fields={"site": "b"})
    loop.start()
    hangs.start()
    await began.wait()
    with capture_logs() as lines:
        await stop_all(loop, hangs)
    assert ended == [True] and rung == [True]
    assert lines == [
        {"event": "loop cancelled", "loop": "hanging", "site": "b", "log_level": "warning"}
    ]


async def test_gauges_tell_how_each_loop_fares() -> None:
    read: dict[str, Any] = {}

    class Telemetry(Silent):
        def observe(self, name: str, read_: Any) -> None:
            read[name] = read_

    conditions, began = Conditions(), asyncio.Event()
    loops.observe(Telemetry(), conditions)
    assert read["tollmesh.loop.stalled_s"]() == []
    time = Time()
    loop = Loop("digging", _endless(began), conditions=conditions, fields={"site": "b"}, clock=time)
    loop.start()
    await began.wait()
    time.now = 3.0
    assert read["tollmesh.loop.stalled_s"]() == [(3.0, {"loop": "digging", "site": "b"})]
    assert read["tollmesh.loop.failing_s"]() == [(0.0, {"loop": "digging", "site": "b"})]
    await loop.stop()


@given(
    failures=st.integers(1, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
    first=st.floats(0.001, 1),
    factor=st.floats(1, 1000),
)
def test_waits_grow_to_their_limit_and_are_never_longer(
    failures: int, draw: float, first: float, factor: float
) -> None:
    backoff = Backoff(first, first * factor)
    wait_s, next_s = backoff.after(failures, draw), backoff.after(failures + 1, draw)
    assert 0 < wait_s <= next_s <= first * factor
    assert wait_s >= min(first * 2.0 ** min(failures - 1, 60), first * factor) * (1 - JITTER)
    if failures > 10:
        assert backoff.after(failures, 0.0) == first * factor


async def test_a_wait_ends_with_its_event_or_its_time() -> None:
    event = asyncio.Event()
    assert not await wait_for(event, 0.001)
    event.set()
    async with asyncio.timeout(5):
        assert await wait_for(event, 3600)
