"""Readings as Prometheus sees them, under the names that deploy/alerts.yaml asks for."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from asyncio import Event
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.events.domain.measures import ATTEMPTS
from services.runtime import loops, telemetry
from services.runtime.conditions import Conditions
from services.runtime.config import Settings
from services.runtime.loops import Loop
from services.runtime.work import Lag, LagGauge

ALERTS = Path(__file__).parents[3] / "deploy/alerts.yaml"


def _scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_a_gauge_stands_at_its_last_reading() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recorder = telemetry.build(Settings(metrics_listen=f"127.0.0.1:{port}"))
    try:
        for value in (1.0, 0.0):
            recorder.gauge("tollmesh.events.alarm", value, alarm="no_tick")
        recorder.gauge("tollmesh.events.dead_letters", 3.0)
        text = _scraped(port)
    finally:
        recorder.close()
    lines = [line for line in text.splitlines() if line.startswith("tollmesh_events_")]
    (alarm,) = [line for line in lines if line.startswith("tollmesh_events_alarm{")]
    assert 'alarm="no_tick"' in alarm and alarm.endswith(" 0.0")
    (letters,) = [line for line in lines if line.startswith("tollmesh_events_dead_letters")]
    assert letters.endswith(" 3.0")
    for name in ("tollmesh_events_alarm", "tollmesh_events_dead_letters"):
        assert name in ALERTS.read_text()


def test_what_nobody_brings_up_to_date_is_not_shown_and_ages_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recorder = telemetry.build(Settings(metrics_listen=f"127.0.0.1:{port}"))
    ages = iter([5.0, 35.0])
    try:
        recorder.gauge("tollmesh.test.dead_letters", 3.0)
        recorder.observe("tollmesh.test.tick_age_s", lambda: [(next(ages), {})])
        first = _scraped(port)
        monkeypatch.setattr(telemetry, "GAUGE_SECONDS_MAX", -1.0)
        second = _scraped(port)
    finally:
        recorder.close()
    assert "tollmesh_test_dead_letters" in first and "tollmesh_test_dead_letters" not in second
    for text, age in ((first, " 5.0"), (second, " 35.0")):
        (line,) = [line for line in text.splitlines() if line.startswith("tollmesh_test_tick_age")]
        assert line.endswith(age), "it is read at each scrape"


async def test_loops_and_queues_are_shown_under_the_names_that_the_rules_ask_for() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recorder = telemetry.build(Settings(metrics_listen=f"127.0.0.1:{port}"))
    conditions = Conditions()
    hanging = Loop("digging", Event().wait, conditions=conditions, fields={"site": "b"})
    hanging.start()

    async def behind() -> Lag:
        return Lag(7, datetime(2026, 3, 1, tzinfo=UTC))

    try:
        loops.observe(recorder, conditions)
        await LagGauge("charges", recorder).tell(behind, lambda: datetime(2026, 3, 2, tzinfo=UTC))
        text = await asyncio.to_thread(_scraped, port)
    finally:
        await hanging.stop()
        recorder.close()
    for name, labels in (
        ("tollmesh_loop_stalled_s", ('loop="digging"', 'site="b"')),
        ("tollmesh_loop_failing_s", ('loop="digging"', 'site="b"')),
        ("tollmesh_work_oldest_s", ('queue="charges"',)),
    ):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        assert all(label in line for label in labels), line
        assert name in ALERTS.read_text()
    (due,) = [line for line in text.splitlines() if line.startswith("tollmesh_work_due{")]
    assert due.endswith(" 7.0")


def test_a_duration_is_counted_by_what_came_of_it() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recorder = telemetry.build(Settings(metrics_listen=f"127.0.0.1:{port}"))
    try:
        for outcome in ("succeeded", "refused", "succeeded"):
            recorder.duration(ATTEMPTS.name, 0.25, outcome=outcome, status="")
        text = _scraped(port)
    finally:
        recorder.close()
    name = "tollmesh_webhooks_attempt_duration_seconds"
    counted = {
        outcome: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        for outcome in ("succeeded", "refused")
        if line.startswith(f"{name}_count{{") and f'outcome="{outcome}"' in line
    }
    assert counted == {"succeeded": 2, "refused": 1}
    assert 'le="0.25"' in text, "its buckets are for seconds"
    assert name in ALERTS.read_text()


def test_without_an_endpoint_nothing_is_recorded() -> None:
    recorder = telemetry.build(Settings())
    recorder.gauge("tollmesh.events.alarm", 1.0, alarm="no_tick")
    recorder.duration(ATTEMPTS.name, 0.25, outcome="succeeded")
    recorder.observe("tollmesh.events.tick_age_s", lambda: [(1.0, {})])
    recorder.close()
