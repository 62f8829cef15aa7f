"""A page of a list is written in turns: whoever waits meanwhile is served."""

from __future__ import annotations

import asyncio
import threading

from google.protobuf.wrappers_pb2 import StringValue

from services.runtime.edge.paging import PAGE_BYTES_MAX, Page
from services.runtime.turns import ASIDE_ITEMS


def _place(item: int) -> dict[str, str | int]:
    return {"item": item}


async def test_others_have_turns_while_a_page_is_written() -> None:
    turns = 0
    seen: list[int] = []

    async def another() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def written(item: int) -> StringValue:
        seen.append(turns)
        return StringValue(value=str(item))

    waiting = asyncio.create_task(another())
    messages, token = await Page("things", {}, 1000).cut(range(1001), written, _place)
    waiting.cancel()
    assert [message.value for message in messages] == [str(item) for item in range(1000)]
    assert token
    assert len(set(seen)) >= 10, "all items were written in one turn"


async def test_an_item_with_many_parts_is_written_beside_the_loop() -> None:
    threads: dict[int, int] = {}

    def written(item: int) -> StringValue:
        threads[item] = threading.get_ident()
        return StringValue(value=str(item))

    parts = (1, ASIDE_ITEMS)
    await Page("things", {}, 10).cut([0, 1], written, _place, parts.__getitem__)
    assert threads[0] == threading.get_ident()
    assert threads[1] != threading.get_ident()


async def test_a_page_of_heavy_items_ends_before_its_size() -> None:
    heavy = "x" * (PAGE_BYTES_MAX // 2)
    page = Page("things", {}, 10)
    messages, token = await page.cut(
        range(3), lambda item: StringValue(value=heavy if item else ""), _place
    )
    assert [bool(message.value) for message in messages] == [False, True]
    assert token == page.token([0, 1], _place, more=True)
    messages, token = await page.cut([0], lambda _: StringValue(value=heavy * 3), _place)
    assert len(messages) == 1, "the first item is given, whatever it weighs"
    assert token == ""
