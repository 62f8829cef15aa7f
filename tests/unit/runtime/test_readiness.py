"""What is told of a process's services while its database, its feed or its timers are away."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.runtime.conditions import Conditions
from services.runtime.config import Settings, SettingsUnfit
from services.runtime.process.readiness import ALL, TIMERS, Feed, Readiness

LEDGER, EVENTS = "LedgerService", "EventService"


@dataclass
class Place:
    """Surroundings that a test changes."""

    now: float = 100.0
    gone: str = ""
    stalled: float = 0.1
    failing: float = 0.0
    timers_stalled: float = 0.1
    reconnected: int = 0
    told: dict[str, bool] = field(default_factory=dict)
    changes: int = 0
    conditions: Conditions = field(default_factory=Conditions)
    ledger_taken: bool = False

    async def set_serving(self, name: str, serving: bool) -> None:
        self.told[name] = serving
        self.changes += 1

    def reconnect(self) -> None:
        self.reconnected += 1

    def readiness(self) -> Readiness:
        feed = Feed(lambda: self.stalled, lambda: self.failing, self.reconnect, 2.0)
        return Readiness(
            self.set_serving,
            [LEDGER, EVENTS],
            [EVENTS],
            why_gone=lambda: self.gone,
            conditions=self.conditions,
            feed=feed,
            timers_stalled_seconds=lambda: self.timers_stalled,
            outlasting={LEDGER: lambda: self.ledger_taken},
            clock=lambda: self.now,
        )


async def test_all_follow_the_database_down_and_up_again_with_a_line_each() -> None:
    place = Place()
    readiness = place.readiness()
    with capture_logs() as lines:
        await readiness.look()
        assert place.told == {ALL: True, TIMERS: True, LEDGER: True, EVENTS: True}
        place.gone = "no answer for 2.1 s"
        for _ in range(100):
            # What follows from it is no news.
            place.now += 0.2
            place.stalled += 0.2
            place.timers_stalled += 0.2
            await readiness.look()
        assert place.told == {ALL: False, TIMERS: False, LEDGER: False, EVENTS: False}
        assert place.conditions.database_gone
        place.gone = ""
        await readiness.look()
        assert place.told == {ALL: False, TIMERS: False, LEDGER: True, EVENTS: False}
        place.stalled = place.timers_stalled = 0.1
        await readiness.look()
    assert place.told == {ALL: True, TIMERS: True, LEDGER: True, EVENTS: True}
    assert place.changes == 4 * 3, "each name: served, gone, back"
    assert [line["event"].partition(":")[0] for line in lines] == ["database gone", "database back"]
    assert lines[1]["gone_s"] == 19.8


@pytest.mark.parametrize("fault", [{"stalled": 2.1}, {"failing": 1.6}])
async def test_those_that_answer_by_the_feed_follow_it_and_the_whole_with_them(
    fault: dict[str, float],
) -> None:
    place = Place()
    readiness = place.readiness()
    await readiness.look()
    with capture_logs() as lines:
        for name, value in fault.items():
            setattr(place, name, value)
        for _ in range(10):
            await readiness.look()
        assert place.told == {ALL: False, TIMERS: True, LEDGER: True, EVENTS: False}
        place.stalled, place.failing = 0.1, 0.0
        for _ in range(10):
            await readiness.look()
    assert place.told[EVENTS] and place.told[ALL]
    assert [line["event"] for line in lines] == [
        "event feed stands still",
        "event feed moves again",
    ]


async def test_a_session_of_the_feed_that_survived_an_outage_and_hangs_is_replaced_once() -> None:
    place = Place()
    readiness = place.readiness()
    await readiness.look()
    place.gone = "no answer"
    await readiness.look()
    place.gone, place.stalled = "", 30.0
    await readiness.look()
    assert place.reconnected == 0, "it may just have been late"
    place.now += 1.1
    await readiness.look()
    await readiness.look()
    assert place.reconnected == 1
    place.now += 1.1
    with capture_logs() as lines:
        await readiness.look()
        await readiness.look()
    assert place.reconnected == 1
    assert [line["event"] for line in lines] == ["event feed stands still"]


async def test_late_timers_make_no_service_unfit() -> None:
    place = Place(timers_stalled=15.1)
    readiness = place.readiness()
    await readiness.look()
    assert place.told == {ALL: True, LEDGER: True, EVENTS: True}, "timers were never serving"
    place.timers_stalled = 1.0
    await readiness.look()
    assert place.told[TIMERS]


async def test_a_process_without_the_feed_asks_nothing_of_it() -> None:
    place = Place(stalled=1000.0, failing=1000.0)
    readiness = place.readiness()
    readiness._following = frozenset()
    await readiness.look()
    assert place.told[ALL] and place.told[EVENTS]


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


@pytest.mark.parametrize("name", ["TOLLMESH_LOOP_HOLDS_FILE", "TOLLMESH_STORAGE_DIR"])
def test_an_empty_path_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    settings: Any = Settings.load()
    assert getattr(settings, name.removeprefix("TOLLMESH_").lower()) is None


async def test_a_service_whose_calls_are_taken_all_the_same_outlasts_the_database() -> None:
    place = Place(gone="refused", ledger_taken=True)
    readiness = place.readiness()
    with capture_logs():
        await readiness.look()
        assert readiness.states == {ALL: False, TIMERS: False, LEDGER: True, EVENTS: False}
        place.ledger_taken = False
        await readiness.look()
        assert not readiness.states[LEDGER]
        place.gone = ""
        await readiness.look()
    assert readiness.states[LEDGER]
