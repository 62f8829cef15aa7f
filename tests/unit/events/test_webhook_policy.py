"""What follows from an attempt: schedule, Retry-After, circuit breaker, disabling."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.events.domain import webhooks_policy as policy
from services.events.domain.webhooks import (
    Answer,
    DeliveryStatus,
    DisabledReason,
    Health,
    Outcome,
)
from services.events.domain.webhooks_policy import Settlement, settle

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
REFUSED = Answer(Outcome.REFUSED, 500)
MINUTE = timedelta(minutes=1)


def judged(
    answer: Answer = REFUSED,
    tries: int = 1,
    health: Health | None = None,
    *,
    now: datetime = NOW,
    draw: float = 0.5,
    is_test: bool = False,
) -> Settlement:
    return settle(answer, tries, health or Health(), now, lambda: draw, is_test=is_test)


def wait(settlement: Settlement, now: datetime = NOW) -> timedelta:
    assert settlement.next_at is not None
    return settlement.next_at - now


def test_ten_attempts_within_some_75_hours() -> None:
    waits = [wait(judged(tries=tries)).total_seconds() for tries in range(1, 10)]
    assert waits == [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert sum(waits) / 3600 == pytest.approx(75.6, abs=0.1)
    last = judged(tries=10)
    assert (last.status, last.next_at) == (DeliveryStatus.FAILED, None)


def test_waits_are_drawn_out_or_cut_short_by_a_fifth() -> None:
    assert wait(judged(tries=2, draw=0.0)).total_seconds() == pytest.approx(240)
    assert wait(judged(tries=2, draw=1.0)).total_seconds() == pytest.approx(360)


def test_a_success_forgets_every_failure() -> None:
    bad = Health(9, NOW - MINUTE, NOW + MINUTE)
    done = judged(Answer(Outcome.SUCCEEDED, 204), health=bad)
    assert (done.status, done.health) == (DeliveryStatus.DELIVERED, Health())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("999999", 86_400),
        ("9" * 400, 86_400),
        ("Mon, 04 May 2026 12:02:00 GMT", 120),
        ("Mon, 04 May 2026 14:02:00 +0200", 120),
        ("Mon, 04 May 2026 12:02:00", 120),
        ("Mon, 04 May 2026 11:00:00 GMT", 0),
        ("Mon, 04 May 2099 11:00:00 GMT", 86_400),
        ("", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("٣", 0),
        ("Mon, 99 May 2026 99:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(header: str, seconds: int) -> None:
    assert policy.retry_after(header, NOW) == timedelta(seconds=seconds)


def test_retry_after_puts_off_but_never_forward() -> None:
    later = replace(REFUSED, status_code=503, retry_after="90")
    assert wait(judged(later, tries=1)) == timedelta(seconds=90)
    assert wait(judged(later, tries=2)) == timedelta(seconds=300)


@pytest.mark.parametrize("status", [429, 502, 504])
def test_who_is_overloaded_is_paused(status: int) -> None:
    health = judged(Answer(Outcome.REFUSED, status)).health
    assert health.paused_until == NOW + policy.THROTTLE_PAUSE
    asked = judged(Answer(Outcome.REFUSED, status, retry_after="600")).health
    assert asked.paused_until == NOW + timedelta(seconds=600)
    far = judged(Answer(Outcome.REFUSED, status, retry_after="80000")).health
    assert far.paused_until == NOW + policy.THROTTLE_PAUSE_MAX
    assert judged(Answer(Outcome.REFUSED, 500)).health.paused_until is None


def test_the_breaker_opens_after_five_failures_and_doubles_its_pause() -> None:
    health, now, pauses = Health(), NOW, []
    for _ in range(12):
        if health.paused_until is not None:
            now = health.paused_until
        health = judged(health=health, now=now).health
        pauses.append((health.paused_until or now) - now)
    assert pauses[:4] == [timedelta(0)] * 4
    assert [pause / MINUTE for pause in pauses[4:]] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert health.failing_since == NOW


def test_stragglers_neither_lengthen_nor_double_a_pause() -> None:
    health = Health(policy.BREAKER_FAILURES, NOW - MINUTE, NOW + MINUTE)
    assert judged(health=health).health == health


def test_a_short_failure_does_not_shorten_a_throttle() -> None:
    throttled = Health(1, NOW, NOW + 30 * MINUTE)
    assert judged(health=throttled).health.paused_until == NOW + 30 * MINUTE


def test_410_disables_and_ends_the_delivery() -> None:
    gone = judged(Answer(Outcome.REFUSED, 410))
    assert (gone.disable, gone.status) == (DisabledReason.GONE, DeliveryStatus.FAILED)


def test_five_days_of_failures_disable() -> None:
    since = NOW - timedelta(days=5)
    assert judged(health=Health(50, since, None)).disable is DisabledReason.FAILING
    almost = Health(50, since + timedelta(seconds=1), None)
    assert judged(health=almost).disable is DisabledReason.NONE


def test_a_fault_of_ours_counts_against_nobody() -> None:
    health = Health(3, NOW, None)
    ours = judged(Answer(Outcome.NOT_SENT), tries=10, health=health)
    assert (ours.status, ours.counts, ours.health) == (DeliveryStatus.PENDING, False, health)
    assert wait(ours) == policy.OURS_PAUSE


def test_a_test_is_tried_once_and_its_failure_says_nothing_of_deliveries() -> None:
    health = Health(3, NOW, None)
    failed = judged(health=health, is_test=True)
    assert (failed.status, failed.health) == (DeliveryStatus.FAILED, health)
    assert judged(Answer(Outcome.SUCCEEDED, 200), health=health, is_test=True).health == Health()
