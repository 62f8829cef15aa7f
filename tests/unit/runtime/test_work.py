"""The queue of due work: how many pieces at once, for whom, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.runtime.conditions import Conditions
from services.runtime.context import CallContext, current
from services.runtime.leases import RENEW_SHARE, TRANSACTION_SHARE, LeaseLost, Term
from services.runtime.telemetry import Silent
from services.runtime.work import LAG_SECONDS, Claim, Lag, LagGauge, Worker, backoff

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Due:
    """A queue in memory; pieces are served as a test says.

    Attributes:
        waiting: what is due.
        asked: limits of the claims so far.
        calls: for whom pieces were served.
        put_off: what failed, with what.
    """

    def __init__(
        self, pieces: int, serve: Callable[[Claim], Awaitable[None]] | None = None
    ) -> None:
        self.waiting = [claim(number) for number in range(pieces)]
        self.asked: list[int] = []
        self.calls: list[CallContext] = []
        self.put_off: list[tuple[str, str]] = []
        self.fails: Exception | None = None
        self._serve = serve

    async def claim(self, owner: str, limit: int) -> tuple[list[Claim], bool]:
        """Hand pieces out."""
        assert owner == "me"
        self.asked.append(limit)
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken, len(taken) == limit

    async def serve(self, piece: Claim) -> None:
        """Do what the test says."""
        self.calls.append(current())
        if self._serve is not None:
            await self._serve(piece)

    async def failed(self, piece: Claim, error: Exception) -> None:
        """Take down what failed."""
        assert current().tenant_id == piece.tenant_id
        self.put_off.append((piece.item_id, str(error)))
        if self.fails is not None:
            raise self.fails

    async def lag(self) -> Lag:
        """Nothing waits but what was not claimed."""
        return Lag(len(self.waiting), NOW - timedelta(seconds=90) if self.waiting else None)


def claim(number: int) -> Claim:
    return Claim(f"t{number}", f"i{number}", 1, f"chain-{number}", f"cause-{number}")


def worker_of(queue: Due, **options: Any) -> Worker[Claim]:
    database: Any = SimpleNamespace(conditions=Conditions(), now=lambda: NOW)
    options = {"places": 3, "batch": 2, "poll_seconds": 60.0, "stop_seconds": 0.05, **options}
    return Worker(
        "digging",
        queue,
        database,
        claiming="claims",
        serving="digging",
        principal_id="mesh:dig",
        owner="me",
        **options,
    )


async def turns(until: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not until():  # noqa: ASYNC110 - what it waits for rings no bell
            await asyncio.sleep(0.001)


async def test_a_piece_is_served_as_its_tenant_in_its_chain() -> None:
    queue = Due(2)
    clock = SimpleNamespace(now=100.0)
    worker = worker_of(queue, serve_seconds=30.0, clock=lambda: clock.now)
    assert await worker.sweep() == 2
    first, second = queue.calls
    assert (first.tenant_id, first.correlation_id, first.causation_id) == (
        "t0",
        "chain-0",
        "cause-0",
    )
    assert (second.tenant_id, second.correlation_id) == ("t1", "chain-1")
    assert (first.principal_id, first.scopes, first.deadline_at) == (
        "mesh:dig",
        frozenset(),
        130.0,
    )
    assert first.request_id != second.request_id
    with pytest.raises(LookupError):
        current()


async def test_a_piece_without_a_chain_begins_its_own() -> None:
    queue = Due(0)
    queue.waiting = [Claim("t", "i", 1, "")]
    await worker_of(queue).sweep()
    [call] = queue.calls
    assert call.correlation_id == call.request_id != ""
    assert call.deadline_at is None


async def test_a_sweep_serves_all_that_is_due_and_claims_what_there_is_room_for() -> None:
    queue = Due(7)
    assert await worker_of(queue).sweep() == 7
    assert queue.asked == [2, 2, 2, 2]
    assert sorted(call.tenant_id for call in queue.calls) == [f"t{n}" for n in range(7)]


async def test_no_more_is_served_at_once_than_there_are_places_and_the_rest_stays_unclaimed() -> (
    None
):
    go_on, at_once, most = asyncio.Event(), 0, 0

    async def serve(_: Claim) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await go_on.wait()
        at_once -= 1

    queue = Due(10, serve)
    worker = worker_of(queue)
    await worker.start()
    await turns(lambda: at_once == 3)
    assert (queue.asked, len(queue.waiting)) == ([2, 1], 7)
    go_on.set()
    # The polls are a minute apart: that a place is free wakes it.
    await turns(lambda: not queue.waiting and not at_once)
    assert most == 3
    await worker.stop()


async def test_what_is_begun_from_outside_waits_for_a_place_too() -> None:
    go_on, served = asyncio.Event(), []

    async def slow(piece: Claim) -> None:
        served.append(piece.item_id)
        await go_on.wait()

    worker = worker_of(Due(0), places=1)
    tasks = [worker.begin(claim(number), slow) for number in range(3)]
    await turns(lambda: len(served) == 1)
    await asyncio.sleep(0)
    assert (served, worker.under_way) == (["i0"], 3)
    go_on.set()
    await asyncio.gather(*tasks)
    assert (served, worker.under_way) == (["i0", "i1", "i2"], 0)


async def test_what_fails_is_put_off_and_the_others_go_on() -> None:
    async def serve(piece: Claim) -> None:
        if piece.item_id in ("i0", "i3"):
            raise OSError(f"rock in {piece.item_id}")
        if piece.item_id == "i1":
            raise LeaseLost(piece.item_id)

    queue = Due(5, serve)
    with capture_logs() as lines:
        assert await worker_of(queue).sweep() == 5
    assert queue.put_off == [("i0", "rock in i0"), ("i3", "rock in i3")]
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
        "digging interrupted"
    ]


@pytest.mark.parametrize("error", [OSError("the database is away"), LeaseLost("another's")])
async def test_what_cannot_be_put_off_is_left_to_its_lease(error: Exception) -> None:
    async def serve(_: Claim) -> None:
        raise OSError("rock")

    queue = Due(1, serve)
    queue.fails = error
    assert await worker_of(queue).sweep() == 1
    assert queue.put_off == [("i0", "rock")]


async def test_a_stop_gives_what_is_under_way_its_time_and_claims_no_more() -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def serve(piece: Claim) -> None:
        begun.set()
        try:
            await asyncio.sleep(0.01 if piece.item_id == "i0" else 60)
            ended.append(f"{piece.item_id} done")
        except asyncio.CancelledError:
            ended.append(f"{piece.item_id} cancelled")
            raise

    queue = Due(2, serve)
    worker = worker_of(queue, stop_seconds=5.0)
    worker._stop_seconds = 0.2
    await worker.start()
    await begun.wait()
    queue.waiting = [claim(9)]
    await worker.stop()
    assert ended == ["i0 done", "i1 cancelled"]
    assert len(queue.waiting) == 1 and worker.under_way == 0


async def test_a_wake_from_outside_makes_it_look_until_what_is_about_to_commit_is_there() -> None:
    queue = Due(0)
    worker = worker_of(queue, eager_seconds=60.0)
    await worker.start()
    await turns(lambda: queue.asked == [2])
    worker.wake()
    await turns(lambda: len(queue.asked) >= 3)
    queue.waiting = [claim(1)]
    await turns(lambda: len(queue.calls) == 1)
    await worker.stop()


async def test_the_end_of_a_piece_wakes_it_when_that_may_free_another() -> None:
    queue = Due(1)
    worker = worker_of(queue, wakes_itself=True)
    await worker.start()
    await turns(lambda: len(queue.asked) >= 2)
    await worker.stop()


async def test_how_far_it_is_behind_is_looked_at_now_and_then() -> None:
    told: list[tuple[str, float, str]] = []

    def tell(name: str, value: float, **attributes: str) -> None:
        told.append((name, value, attributes["queue"]))

    clock = SimpleNamespace(now=0.0)
    telemetry: Any = SimpleNamespace(gauge=tell)
    gauge = LagGauge("digging", telemetry, lambda: clock.now)
    queue = Due(4)
    await gauge.tell(queue.lag, lambda: NOW)
    await gauge.tell(queue.lag, lambda: NOW)
    expected = [("tollmesh.work.due", 4, "digging"), ("tollmesh.work.oldest_s", 90.0, "digging")]
    assert told == expected
    clock.now, queue.waiting = LAG_SECONDS, []
    await gauge.tell(queue.lag, lambda: NOW)
    assert told[2:] == [
        ("tollmesh.work.due", 0, "digging"),
        ("tollmesh.work.oldest_s", 0.0, "digging"),
    ]

    async def never() -> Lag:
        raise AssertionError("nobody is told")

    await LagGauge("digging", Silent()).tell(never, lambda: NOW)


@given(st.integers(1, 1000))
def test_tries_are_put_off_twice_as_long_up_to_a_limit(tries: int) -> None:
    first, most = timedelta(minutes=1), timedelta(hours=1)
    assert backoff(tries, first, most) == (
        most if tries > 6 else timedelta(minutes=2 ** (tries - 1))
    )


def test_a_term_says_what_is_left_of_a_lease() -> None:
    clock = SimpleNamespace(now=50.0)
    term = Term(10_000, lambda: clock.now)
    assert term.covers(9.9) and not term.covers(10.0)
    assert not term.is_to_renew()
    clock.now += 10 * RENEW_SHARE
    assert not term.is_to_renew() and term.covers(7.4) and not term.covers(7.5)
    clock.now += 0.001
    assert term.is_to_renew()
    # What begins just before the renewal ends before the lease does.
    assert RENEW_SHARE + TRANSACTION_SHARE < 1
