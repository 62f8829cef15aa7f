"""What follows from an attempt: when the next one is due, whether the endpoint is paused or disabled. Pure.

The schedule is that of Standard Webhooks: ten attempts within some 75 hours. The circuit breaker lives in two columns
of the endpoint: after BREAKER_FAILURES failures in a row it is paused, then one request tries it, and each further
failure doubles the pause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from services.events.domain.webhooks import (
    Answer,
    DeliveryStatus,
    DisabledReason,
    Health,
    Outcome,
)

SCHEDULE_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Waits after each failed attempt; the first attempt is made at once."""
TRIES_MAX = len(SCHEDULE_SECONDS) + 1
JITTER = 0.2
RETRY_AFTER_MAX = timedelta(hours=24)
BREAKER_FAILURES = 5
BREAKER_PAUSE = timedelta(seconds=60)
BREAKER_PAUSE_MAX = timedelta(minutes=30)
# What asks for less load gets none for a while, over all its deliveries.
THROTTLED = frozenset({429, 502, 504})
THROTTLE_PAUSE = timedelta(seconds=30)
THROTTLE_PAUSE_MAX = timedelta(hours=1)
FAILING_MAX = timedelta(days=5)
GONE = 410
# After a fault of our own: it is mended by an operator, not by waiting long.
OURS_PAUSE = timedelta(minutes=5)

Draw = Callable[[], float]
"""Gives a number from 0 up to 1."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a delivery and its endpoint after an attempt.

    Attributes:
        next_at: when the next attempt is due; None when there is none.
        counts: whether the attempt counts as one of the ten.
        health: how the endpoint fares now.
        disable: why the endpoint is disabled now; NONE leaves it.
    """

    status: DeliveryStatus
    next_at: datetime | None
    counts: bool
    health: Health
    disable: DisabledReason = DisabledReason.NONE


def settle(
    answer: Answer, tries: int, health: Health, now: datetime, draw: Draw, *, is_test: bool
) -> Settlement:
    """Conclude what follows from the answer to the `tries`-th attempt."""
    if answer.outcome is Outcome.SUCCEEDED:
        return Settlement(DeliveryStatus.DELIVERED, None, True, Health())
    if answer.outcome is Outcome.NOT_SENT:
        return _put_off(health, now, is_test=is_test)
    asked = retry_after(answer.retry_after, now)
    # A test is somebody trying things out; its failures say nothing about deliveries.
    fared = health if is_test else _failed(health, answer, asked, now, draw)
    disable = _disable(answer, fared, now)
    if is_test or tries >= TRIES_MAX or answer.status_code == GONE:
        return Settlement(DeliveryStatus.FAILED, None, True, fared, disable)
    wait = max(_jittered(timedelta(seconds=SCHEDULE_SECONDS[tries - 1]), draw), asked)
    return Settlement(DeliveryStatus.PENDING, now + wait, True, fared, disable)


def retry_after(header: str, now: datetime) -> timedelta:
    """Return how long the header asks to wait: seconds or a date, at most 24 hours; 0 when it cannot be read."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        # A number of any length reads; what is beyond the bound does not matter.
        wait = timedelta(seconds=min(int(text[:9]), RETRY_AFTER_MAX.total_seconds()))
        return wait if len(text) <= 9 else RETRY_AFTER_MAX
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return timedelta(0)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(moment - now, timedelta(0)), RETRY_AFTER_MAX)


def _put_off(health: Health, now: datetime, *, is_test: bool) -> Settlement:
    """Nothing was sent, by a fault of ours: the attempt does not count, the endpoint is not to blame."""
    if is_test:
        return Settlement(DeliveryStatus.FAILED, None, False, health)
    return Settlement(DeliveryStatus.PENDING, now + OURS_PAUSE, False, health)


def _failed(health: Health, answer: Answer, asked: timedelta, now: datetime, draw: Draw) -> Health:
    since = health.failing_since or now
    paused = health.paused_until is not None and health.paused_until > now
    if paused and health.failures >= BREAKER_FAILURES:
        # A straggler, sent before the pause began: it tells nothing new.
        return Health(health.failures, since, health.paused_until)
    failures = health.failures + 1
    pause = max(_breaker_pause(failures, draw), _throttle_pause(answer, asked))
    until = now + pause if pause else None
    if paused and health.paused_until is not None:
        until = max(health.paused_until, until or health.paused_until)
    return Health(failures, since, until)


def _breaker_pause(failures: int, draw: Draw) -> timedelta:
    if failures < BREAKER_FAILURES:
        return timedelta(0)
    doublings = min(failures - BREAKER_FAILURES, 10)
    return _jittered(min(BREAKER_PAUSE * 2**doublings, BREAKER_PAUSE_MAX), draw)


def _throttle_pause(answer: Answer, asked: timedelta) -> timedelta:
    if answer.status_code not in THROTTLED and not asked:
        return timedelta(0)
    return min(asked or THROTTLE_PAUSE, THROTTLE_PAUSE_MAX)


def _disable(answer: Answer, health: Health, now: datetime) -> DisabledReason:
    if answer.status_code == GONE:
        return DisabledReason.GONE
    if health.failing_since is not None and now - health.failing_since >= FAILING_MAX:
        return DisabledReason.FAILING
    return DisabledReason.NONE


def _jittered(wait: timedelta, draw: Draw) -> timedelta:
    return wait * (1 - JITTER + 2 * JITTER * draw())
