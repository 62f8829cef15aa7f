"""Where a page of a list ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of agreements ended."""

    created_at: datetime
    agreement_id: str
