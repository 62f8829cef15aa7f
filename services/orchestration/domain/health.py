"""How processors have fared lately."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.orchestration.domain.breaker import Standing


@dataclass(frozen=True, slots=True)
class Fared:
    """How a processor has fared lately, by attempts to take an amount.

    Attributes:
        attempts: how many were looked at.
        done: how many it carried out.
        failed: how many failed by its fault, or have an outcome that is not known.
        latency_p50_ms, latency_p95_ms: of what it answered; 0 where it answered nothing.
        last_at: when the last one was made.
    """

    processor_id: str
    window: timedelta
    attempts: int
    done: int
    failed: int
    latency_p50_ms: int
    latency_p95_ms: int
    last_at: datetime | None
    breaker: Standing
