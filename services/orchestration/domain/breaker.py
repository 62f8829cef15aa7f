"""The circuit breaker of a processor: a pure function of the attempts that all processes store anyway.

It opens after so many faults in a row, closes with the first answer, and lets one payment try the processor again after
a wait that doubles with each try that fails. A refusal is an answer: only what never arrived, or whose outcome is not
known, is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.orchestration.domain.payment import AttemptStatus
from services.runtime.ids import derived_uuid

# Faults in a row that open it.
FAULTS_TO_OPEN = 5
# Waits before a payment tries the processor again; a tenth more or less, so that meshes do not try in step.
WAIT_FIRST = timedelta(seconds=15)
WAIT_MAX = timedelta(minutes=5)
# So many attempts that ended are looked at: more faults than the longest wait needs.
RECENT_MAX = 40
# A try counts for as long as a call may take.
PROBE_MAX = timedelta(seconds=30)

_FAULTS = frozenset(
    {
        AttemptStatus.UNKNOWN,
        AttemptStatus.MANUAL,
        AttemptStatus.NOT_SENT,
        AttemptStatus.NOT_CHARGED,
    }
)
_UNDER_WAY = frozenset({AttemptStatus.CREATED, AttemptStatus.SENT, AttemptStatus.PENDING})


@dataclass(frozen=True, slots=True)
class Recent:
    """An attempt to take an amount, as the breaker sees it."""

    status: AttemptStatus
    created_at: datetime


class BreakerState(StrEnum):
    """Whether payments are let through; the names of the proto."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a breaker stands.

    Attributes:
        faults: since the last answer.
        again_at: when the next payment may try; None while it is closed.
        is_tried: some payment tries it at the moment.
    """

    state: BreakerState
    faults: int
    again_at: datetime | None = None
    is_tried: bool = False

    @property
    def rests(self) -> bool:
        """Whether the processor is to be asked last."""
        return self.state is BreakerState.OPEN or self.is_tried


def standing(processor_id: str, recent: Sequence[Recent], now: datetime) -> Standing:
    """Return how the breaker of a processor stands.

    Args:
        processor_id: spreads the waits.
        recent: its attempts, the newest first: the last that ended, and at least the last one that is under way.
        now: when that is asked.
    """
    faults = list(_in_a_row(recent))
    if len(faults) < FAULTS_TO_OPEN:
        return Standing(BreakerState.CLOSED, len(faults))
    again_at = faults[0].created_at + wait(processor_id, len(faults), faults[0].created_at)
    if now < again_at:
        return Standing(BreakerState.OPEN, len(faults), again_at)
    is_tried = any(
        each.status in _UNDER_WAY
        and each.created_at >= again_at
        and now - each.created_at < PROBE_MAX
        for each in recent
    )
    return Standing(BreakerState.HALF_OPEN, len(faults), again_at, is_tried)


def rests(processor_id: str, recent: Sequence[Recent], now: datetime) -> bool:
    """Say whether a processor is to be asked last; see `standing`."""
    return standing(processor_id, recent, now).rests


def wait(processor_id: str, faults: int, last_at: datetime) -> timedelta:
    """Return how long after the last of so many faults a payment may try the processor again."""
    doubled = min(faults - FAULTS_TO_OPEN, 16)
    whole = min(WAIT_FIRST * float(2**doubled), WAIT_MAX)
    fraction = derived_uuid(processor_id, last_at.isoformat()).int % 1000
    return whole * (900 + fraction / 5) / 1000


def _in_a_row(recent: Sequence[Recent]) -> Iterator[Recent]:
    """Yield the faults since the last answer, the newest first."""
    for each in recent:
        if each.status in _FAULTS:
            yield each
        elif each.status not in _UNDER_WAY and each.status is not AttemptStatus.VOIDED_UNSENT:
            return
