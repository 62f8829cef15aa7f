"""When the event log calls for a person."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.runtime.events.alarms import Alarm, Condition, Growth, judge

SOUND = Condition(
    tick_age_s=3600,
    unsequenced=False,
    transaction_s=1,
    xmin_age=100,
    prepared=1,
    prepared_s=2,
    slot_xmin_age=0,
    slot_wal_bytes=1024,
    strays=0,
    dead_letters=3,
    waiting={"a": 5},
)


def alarms(condition: Condition) -> list[Alarm]:
    return judge(condition, Growth())


def test_a_sound_log_calls_nobody() -> None:
    # An idle log has no ticks, and a dead letter is the business of its consumer.
    assert alarms(SOUND) == []


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("old_transaction", {"transaction_s": 301}),
        ("old_snapshot", {"xmin_age": 5_000_001}),
        ("prepared_transaction", {"prepared_s": 301}),
        ("replication_slot", {"slot_xmin_age": 5_000_001}),
        ("replication_slot", {"slot_wal_bytes": 8 * 1024**3 + 1}),
        ("default_partition", {"strays": 1}),
        ("no_tick", {"unsequenced": True, "tick_age_s": 61}),
    ],
)
def test_each_trouble_has_its_alarm(name: str, fields: dict[str, float]) -> None:
    (alarm,) = alarms(replace(SOUND, **fields))  # type: ignore[arg-type]
    assert alarm.name == name
    assert alarm.advice
    for field, value in fields.items():
        if field != "unsequenced":
            assert alarm.details[field] == value


def test_events_that_were_just_published_are_no_stall() -> None:
    assert alarms(replace(SOUND, unsequenced=True, tick_age_s=1)) == []


def test_a_queue_that_grows_look_by_look_is_told_of_and_then_not() -> None:
    growth = Growth()
    names = []
    for waiting in (1000, 2000, 3000, 4000, 5000, 4999, 5000):
        found = judge(replace(SOUND, waiting={"a": waiting, "b": waiting // 100}), growth)
        names.append([alarm.name for alarm in found])
    assert names == [[], [], [], ["backlog:a"], ["backlog:a"], [], []]


def test_a_queue_too_long_to_count_is_told_of_though_it_seems_to_stand() -> None:
    growth = Growth()
    for _ in range(3):
        assert judge(replace(SOUND, waiting={"a": 100_000}), growth) == []
    (alarm,) = judge(replace(SOUND, waiting={"a": 100_000}), growth)
    assert alarm.details == {"waiting": 100_000}


def test_every_number_is_a_reading() -> None:
    readings = SOUND.readings()
    assert readings["dead_letters"] == 3
    assert "waiting" not in readings
    assert all(isinstance(value, float) for value in readings.values())
