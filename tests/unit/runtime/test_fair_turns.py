"""Places are shared out evenly, none is lost or given twice, and a flood of one key costs others one turn at most."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.fair_turns import FairTurns


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


class Room:
    """Takes places by tasks, and gives them back when it is told to."""

    def __init__(self, places: int, each_max: int | None = None) -> None:
        self.turns = FairTurns(places, each_max)
        self.inside: list[str] = []
        self.waiting: list[tuple[str, asyncio.Task[None]]] = []

    def come(self, key: str) -> None:
        async def take() -> None:
            await self.turns.take(key)
            self.inside.append(key)

        self.waiting.append((key, asyncio.get_running_loop().create_task(take())))

    def leave(self, key: str) -> None:
        self.inside.remove(key)
        self.turns.give_back(key)


async def test_who_comes_behind_a_flood_has_the_next_place() -> None:
    room = Room(4)
    for _ in range(1000):
        room.come("flood")
    room.come("small")
    await settle()
    assert Counter(room.inside) == {"flood": 4}
    room.leave("flood")
    await settle()
    assert Counter(room.inside) == {"flood": 3, "small": 1}


async def test_of_two_floods_each_has_half_of_the_turns_whoever_came_first() -> None:
    room = Room(4)
    for key in ("one", "two"):
        for _ in range(200):
            room.come(key)
    await settle()
    served: Counter[str] = Counter()
    for _ in range(200):
        key = room.inside[0]
        room.leave(key)
        served[key] += 1
        await settle()
    # The first four were there alone.
    assert served == {"one": 102, "two": 98}
    assert Counter(room.inside) == {"one": 2, "two": 2}


async def test_of_many_that_wait_each_has_its_turn_before_one_has_another() -> None:
    room = Room(1)
    keys = [f"k{number}" for number in range(7)]
    for key in keys * 3:
        room.come(key)
    order = []
    await settle()
    while room.inside:
        order.append(room.inside[0])
        room.leave(room.inside[0])
        await settle()
    assert order == keys * 3


async def test_one_key_waits_for_its_own_while_places_are_free() -> None:
    room = Room(4, each_max=2)
    for _ in range(5):
        room.come("slow")
    await settle()
    assert (room.inside, room.turns.waiting_of("slow")) == (["slow"] * 2, 3)
    for key in ("b", "c", "d"):
        room.come(key)
    await settle()
    assert Counter(room.inside) == {"slow": 2, "b": 1, "c": 1}
    room.leave("slow")
    await settle()
    assert Counter(room.inside) == {"slow": 1, "b": 1, "c": 1, "d": 1}
    room.leave("b")
    await settle()
    assert Counter(room.inside) == {"slow": 2, "c": 1, "d": 1}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("abc")),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("cancel when given"), st.integers(0, 9)),
    ),
    max_size=60,
)


@given(places=st.integers(1, 3), each_max=st.integers(1, 3), made=steps)
@settings(max_examples=150)
def test_no_place_is_lost_or_given_twice(
    places: int, each_max: int, made: list[tuple[str, str | int]]
) -> None:
    asyncio.run(_go_through(places, each_max, made))


async def _go_through(places: int, each_max: int, made: list[tuple[str, str | int]]) -> None:
    room = Room(places, each_max)
    for step, which in made:
        if step == "come":
            room.come(str(which))
        elif step == "cancel" and room.waiting:
            room.waiting[int(which) % len(room.waiting)][1].cancel()
        elif step != "cancel" and room.inside:
            room.leave(room.inside[int(which) % len(room.inside)])
            if step == "cancel when given":
                for _, task in room.waiting:
                    task.cancel()
        await settle()
        room.waiting = [(key, task) for key, task in room.waiting if not task.done()]
        idle = [key for key, _ in room.waiting if room.inside.count(key) < each_max]
        assert len(room.inside) == places or not idle, "a place is free, and somebody waits"
        assert max(Counter(room.inside).values(), default=0) <= each_max
        assert len(room.inside) <= places
        for key, _ in room.waiting:
            assert room.turns.held(key) == room.inside.count(key)
    for _, task in room.waiting:
        task.cancel()
    await settle()
    for key in list(room.inside):
        room.leave(key)
    assert all(room.turns.take_free(f"last {number}") for number in range(places))
    assert not room.turns.take_free("one more")
