"""Sweeps: what parties are owed, paid to all of them, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from services.runtime.ids import derived_id

# Balances that are looked at in one transaction.
PAGE_BALANCES = 500


class SweepStatus(IntEnum):
    """How far a sweep has come; numbers as in payments.settlement.v1.SweepStatus."""

    WAITING = 1
    RUNNING = 2
    DONE = 3


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep of what parties are owed.

    Attributes:
        scheduled: the policy's schedule made it.
        created_at: when it was made; one by schedule waits from then on.
        due_at: when it is to begin; None once it has begun, and while sweeps are paused.
        through_at: what was earned up to this instant is paid; None until it begins.
        after: party and currency that it has come to; empty before the first.
        totals: what it paid, by currency, in minor units.
    """

    sweep_id: str
    status: SweepStatus
    scheduled: bool
    created_at: datetime
    due_at: datetime | None = None
    through_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    after: tuple[str, str] = ("", "")
    payout_count: int = 0
    totals: Mapping[str, int] | None = None


def sweep_id_of(tenant_id: str, request_id: str) -> str:
    """Return the id of the sweep that a request makes: the same for a retry after whatever happened."""
    return derived_id("swp", tenant_id, request_id.lower())


def payout_id_of(tenant_id: str, sweep_id: str, party: str, currency_code: str) -> str:
    """Return the id of what a sweep pays a party."""
    return derived_id("po", tenant_id, sweep_id, party, currency_code)
