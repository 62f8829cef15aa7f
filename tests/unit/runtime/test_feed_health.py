"""Health of what answers by the feed."""

from __future__ import annotations

from services.runtime.feed_health import FeedHealth


async def test_only_who_follows_the_feed_is_not_serving_while_it_stands_still() -> None:
    told: list[tuple[str, bool]] = []
    stalled = 0.0

    async def set_serving(name: str, serving: bool) -> None:
        told.append((name, serving))

    health = FeedHealth(set_serving, ["EventService"], lambda: stalled, stall_seconds_max=5)
    assert await health.look()
    assert told == []
    stalled = 5.1
    assert not await health.look()
    assert not await health.look()
    assert told == [("EventService", False)]
    stalled = 0.1
    assert await health.look()
    assert told == [("EventService", False), ("EventService", True)]


async def test_without_such_a_service_nothing_runs() -> None:
    async def set_serving(name: str, serving: bool) -> None:
        raise AssertionError(name)

    health = FeedHealth(set_serving, [], lambda: 1000.0)
    health.start()
    await health.stop()
