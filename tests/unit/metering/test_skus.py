"""The memory of SKUs asks once, shares its questions and stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from services.metering.app import skus as catalogue
from services.metering.app.skus import UNKNOWN_SECONDS, SkuMemory
from services.runtime.errors import DependencyUnavailable


class Shop:
    """A catalogue, a clock, and a note of every question."""

    def __init__(self, *skus: str) -> None:
        self.skus = set(skus)
        self.asked: list[list[str]] = []
        self.seconds = 0.0
        self.memory = SkuMemory(self._lookup, lambda: self.seconds)

    async def _lookup(self, skus: Collection[str]) -> set[str]:
        self.asked.append(list(skus))
        await asyncio.sleep(0)
        return self.skus & set(skus)


async def test_what_was_found_is_never_asked_for_again() -> None:
    shop = Shop("a", "b")
    assert {"a"} <= await shop.memory.known("t", {"a"})
    shop.seconds = 10**6
    assert {"a", "b"} <= await shop.memory.known("t", {"a", "b"})
    assert shop.asked == [["a"], ["b"]]


async def test_what_was_missing_is_asked_for_again_after_a_moment() -> None:
    shop = Shop()
    for _ in range(3):
        assert "a" not in await shop.memory.known("t", {"a"})
    assert shop.asked == [["a"]]
    shop.skus.add("a")
    shop.seconds = UNKNOWN_SECONDS
    assert "a" in await shop.memory.known("t", {"a"})


async def test_concurrent_batches_share_one_question() -> None:
    shop = Shop("a")
    await asyncio.gather(*(shop.memory.known("t", {"a", "x"}) for _ in range(20)))
    assert shop.asked == [["a", "x"]]


async def test_tenants_are_kept_apart() -> None:
    shop = Shop("a")
    await shop.memory.known("t", {"a"})
    shop.skus.clear()
    assert "a" not in await shop.memory.known("u", {"a"})


async def test_names_outside_the_grammar_are_not_asked_for() -> None:
    shop = Shop()
    await shop.memory.known("t", {"", "a b", "x" * 65})
    assert not shop.asked


async def test_a_failed_question_is_asked_again() -> None:
    async def fail(skus: Collection[str]) -> set[str]:
        raise DependencyUnavailable("down", service="pricing")

    memory = SkuMemory(fail)
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await memory.known("t", {"a"})


async def test_a_full_memory_starts_anew_with_what_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogue, "SKUS_MAX", 3)
    monkeypatch.setattr(catalogue, "TENANTS_MAX", 2)
    shop = Shop("a", "b", "c", "d")
    await shop.memory.known("t", {"a", "b", "c"})
    assert {"a", "d"} == await shop.memory.known("t", {"a", "d"})
    for tenant in ("u", "v", "t"):
        await shop.memory.known(tenant, {"a"})
    assert shop.asked[-1] == ["a"]
    assert len(shop.memory._tenants) == 2
