"""Callers that come while a group is under way are the next group, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.runtime.context import CallContext, acting, current
from services.runtime.errors import DatabaseUnavailable
from services.runtime.groups import Groups


class Desk:
    """Carries items out when it is told to, and remembers how they came."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.groups: list[list[str]] = []
        self.calls: list[CallContext] = []
        self.fails: dict[str, Exception] = {}

    async def run(self, items: Sequence[str]) -> list[str]:
        self.groups.append(list(items))
        self.calls.append(current())
        await self.open.wait()
        for item in items:
            if item in self.fails:
                raise self.fails[item]
        return [item.upper() for item in items]


def call(tenant: str = "t", correlation: str = "c", deadline: float | None = None) -> CallContext:
    return CallContext(tenant, "p", frozenset(), "r", correlation, deadline_at=deadline)


def send(
    groups: Groups[str, str], *items: str, by: CallContext | None = None
) -> asyncio.Task[Sequence[str]]:
    async def ask() -> Sequence[str]:
        with acting(by or call()):
            return await groups.apply(items)

    return asyncio.get_running_loop().create_task(ask())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_caller_alone_waits_for_nobody_and_keeps_its_trail() -> None:
    desk = Desk()
    desk.open.set()
    groups = Groups[str, str]("g", desk.run, items_max=10)
    assert await send(groups, "a", "b", by=call(correlation="own")) == ["A", "B"]
    assert desk.calls[0].correlation_id == "own"


async def test_who_comes_meanwhile_is_one_group_in_the_order_of_coming() -> None:
    desk = Desk()
    groups = Groups[str, str]("g", desk.run, items_max=10)
    first = send(groups, "a")
    await settle()
    others = [send(groups, *items, by=call(deadline=at)) for items, at in (("bc", 5), ("d", 9))]
    await settle()
    assert desk.groups == [["a"]]
    desk.open.set()
    assert await first == ["A"]
    assert [await other for other in others] == [["B", "C"], ["D"]]
    assert desk.groups == [["a"], ["b", "c", "d"]]
    of_group = desk.calls[1]
    assert of_group.correlation_id != "c", "it belongs to no caller's chain"
    assert of_group.deadline_at == 9


async def test_a_group_is_bounded_and_none_is_left_behind() -> None:
    desk = Desk()
    groups = Groups[str, str]("g", desk.run, items_max=3)
    waiting = [send(groups, "a")]
    await settle()
    waiting += [send(groups, *items) for items in ("bc", "de", "f", "ghijk")]
    await settle()
    desk.open.set()
    await asyncio.gather(*waiting)
    assert desk.groups == [["a"], ["b", "c"], ["d", "e", "f"], ["g", "h", "i", "j", "k"]]


async def test_one_that_fails_fails_alone() -> None:
    desk = Desk()
    desk.fails["x"] = ValueError("x")
    groups = Groups[str, str]("g", desk.run, items_max=10)
    waiting = [send(groups, "a")]
    await settle()
    waiting += [send(groups, item, by=call(correlation=item)) for item in "bxc"]
    await settle()
    desk.open.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert found[:2] == [["A"], ["B"]]
    assert isinstance(found[2], ValueError)
    assert found[3] == ["C"]
    assert desk.groups == [["a"], ["b", "x", "c"], ["b"], ["x"], ["c"]]
    assert [each.correlation_id for each in desk.calls[2:]] == ["b", "x", "c"]


async def test_where_the_outcome_is_unknown_nobody_is_tried_again() -> None:
    desk = Desk()
    desk.fails["b"] = DatabaseUnavailable("gone")
    groups = Groups[str, str]("g", desk.run, items_max=10)
    waiting = [send(groups, "a")]
    await settle()
    waiting += [send(groups, item) for item in "bc"]
    await settle()
    desk.open.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in found[1:]] == [DatabaseUnavailable, DatabaseUnavailable]
    assert desk.groups == [["a"], ["b", "c"]]


async def test_who_goes_away_leaves_the_waiting_and_takes_nobody_with_it() -> None:
    desk = Desk()
    groups = Groups[str, str]("g", desk.run, items_max=10)
    first = send(groups, "a")
    await settle()
    gone, stays = send(groups, "b"), send(groups, "c")
    await settle()
    first.cancel()
    gone.cancel()
    await settle()
    desk.open.set()
    assert await stays == ["C"]
    assert desk.groups == [["a"], ["c"]], "what is under way is carried out"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_tenants_do_not_share() -> None:
    desk = Desk()
    groups = Groups[str, str]("g", desk.run, items_max=10)
    waiting = [send(groups, "a", by=call("one")), send(groups, "b", by=call("other"))]
    await settle()
    assert desk.groups == [["a"], ["b"]]
    assert [each.tenant_id for each in desk.calls] == ["one", "other"]
    desk.open.set()
    await asyncio.gather(*waiting)


async def test_the_last_of_a_tenant_leaves_nothing() -> None:
    desk = Desk()
    desk.open.set()
    groups = Groups[str, str]("g", desk.run, items_max=10)
    for _ in range(3):
        await asyncio.gather(*[send(groups, item) for item in "abc"])
    await settle()
    assert vars(groups)["_lanes"] == {}
