"""Where usage and a provider's log differ, and how the contract monitor is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DriftKind(StrEnum):
    """In which way they differ."""

    MISSING = "MISSING"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    EXTRA = "EXTRA"
    DIFFERING = "DIFFERING"
    REPEATED = "REPEATED"
    SPIKE = "SPIKE"
    DROP = "DROP"


# A day that is unlike others may be right; what the two sides do not agree on is wrong on one of them.
SEVERITY = {kind: "HIGH" for kind in DriftKind} | {
    DriftKind.SPIKE: "MEDIUM",
    DriftKind.DROP: "MEDIUM",
}
_SAID = {
    DriftKind.MISSING: "{count} in the log of {provider}, never stored",
    DriftKind.REJECTED: "{count} in the log of {provider}, rejected and not taken in since",
    DriftKind.CANCELLED: "{count} in the log of {provider}, cancelled here",
    DriftKind.EXTRA: "{count} stored, not in the log of {provider}",
    DriftKind.DIFFERING: "{count} stored with other contents than the log of {provider} has",
    DriftKind.REPEATED: "{count} in the log of {provider} more than once, with different contents",
    DriftKind.SPIKE: "far more usage than the days before let expect",
    DriftKind.DROP: "far less usage than the days before let expect",
}
_UNUSUAL = frozenset({DriftKind.SPIKE, DriftKind.DROP})


@dataclass(frozen=True, slots=True)
class DriftFinding:
    """What is wrong with the usage of one SKU by one organisation on one day.

    Attributes:
        quantity: what the log says, or the days before let expect, as it was told; empty where nothing does.
        stored_quantity: what is stored, likewise.
        detail: more, for people.
    """

    kind: DriftKind
    org_id: str
    sku: str
    start_at: datetime
    event_count: int
    quantity: str
    stored_quantity: str
    detail: str

    @property
    def day(self) -> str:
        """The day, in UTC."""
        return f"{self.start_at:%Y-%m-%d}"

    @property
    def subject_id(self) -> str:
        """What it is about."""
        return f"{self.org_id}/{self.sku}/{self.day}"


@dataclass(frozen=True, slots=True)
class ReportDrift:
    """Findings of one comparison with the log of a provider."""

    provider: str
    findings: Sequence[DriftFinding]


def request_id_of(provider: str, finding: DriftFinding) -> str:
    """Return the request that a finding belongs to: the same whenever it is told, so that it is one violation."""
    return f"usage-drift/{provider}/{finding.day}"


def message_of(provider: str, finding: DriftFinding) -> str:
    """Say in words what was found; the same finding is said in the same words."""
    noun = "event" if finding.event_count == 1 else "events"
    said = _SAID[finding.kind].format(count=f"{finding.event_count} {noun}", provider=provider)
    unusual = finding.kind in _UNUSUAL
    amounts = [
        f"{'expected' if unusual else 'logged'} {finding.quantity}" if finding.quantity else "",
        f"stored {finding.stored_quantity}" if finding.stored_quantity else "",
    ]
    parts = [f"{finding.org_id}, {finding.sku}, {finding.day}: {said}", *filter(None, amounts)]
    return "; ".join([*parts, finding.detail] if finding.detail else parts)
