"""What is asked for in lists, and where a page of one ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders to list; what is empty means any."""

    person_id: str = ""
    organization_id: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of orders ended."""

    created_at: datetime
    order_id: str


@dataclass(frozen=True, slots=True)
class ActionPlace:
    """Where a page of external actions ended."""

    recorded_at: datetime
    external_action_id: str


@dataclass(frozen=True, slots=True)
class RefundPlace:
    """Where a page of refunds ended."""

    completed_at: datetime
    refund_id: str


@dataclass(frozen=True, slots=True)
class GrantFilter:
    """Which grants to list; what is empty means any."""

    owner_id: str = ""
    unit: str = ""
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class GrantPlace:
    """Where a page of grants ended."""

    granted_at: datetime
    grant_id: str
