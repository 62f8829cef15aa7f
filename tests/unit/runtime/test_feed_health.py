"""Health of what answers by the feed, and how long the feed is kept."""

from __future__ import annotations

import pytest

from services.runtime.config import Settings, SettingsUnfit
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


@pytest.mark.parametrize("days", ["0", "7", "90"])
def test_events_are_kept_for_ever_or_for_a_week_at_least(
    monkeypatch: pytest.MonkeyPatch, days: str
) -> None:
    monkeypatch.setenv("TOLLMESH_EVENT_RETENTION_DAYS", days)
    assert Settings.load().event_retention_days == int(days)


@pytest.mark.parametrize("days", ["1", "6", "-1"])
def test_a_shorter_retention_is_refused(monkeypatch: pytest.MonkeyPatch, days: str) -> None:
    monkeypatch.setenv("TOLLMESH_EVENT_RETENTION_DAYS", days)
    with pytest.raises(SettingsUnfit, match="TOLLMESH_EVENT_RETENTION_DAYS"):
        Settings.load()
