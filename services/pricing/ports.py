"""What pricing needs of others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.pricing.domain.rating import Usage


@dataclass(frozen=True, slots=True)
class UsageSnapshot:
    """The usage of an organisation over a period, and which state of the store it is."""

    usages: tuple[Usage, ...]
    snapshot: str


class UsageReader(Protocol):
    """Reads usage: metering."""

    async def read(self, org_id: str, start_at: datetime, end_at: datetime) -> UsageSnapshot:
        """Read sums and counts of all SKUs and projects in one snapshot.

        Raises:
            DomainError: metering's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """
