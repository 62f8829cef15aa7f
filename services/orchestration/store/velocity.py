"""Every statement that counts payments against limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from services.orchestration.domain.limits import Bound, Counted, Slots
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.orchestration", "queries.sql")


async def lock(work: UnitOfWork, merchant_id: str, places: Collection[Slots]) -> None:
    """Make other payments that count there wait until this transaction ends; always in the same order."""
    for scope, subject in sorted({(each.scope, each.subject) for each in places}):
        key = f"{merchant_id}:{scope.value}:{subject}"
        await work.execute(_SQL["lock_velocity"], {"tenant_id": work.tenant_id, "key": key})


async def count(work: UnitOfWork, merchant_id: str, bound: Bound, currency: str) -> Counted:
    """Return what was counted within a limit's window."""
    if not bound.limit.window_s:
        return Counted()
    asked = _place(work, merchant_id, bound.slots) | {
        "currency": currency,
        "since_at": bound.since(work.now),
    }
    row = (await work.execute(_SQL["velocity"], asked)).one()
    return Counted(row.payments, int(row.amount_minor))


def add(
    work: UnitOfWork,
    merchant_id: str,
    currency: str,
    windows: Mapping[Slots, int],
    amounts: Mapping[Slots, int],
) -> None:
    """Count a payment, with the commit, and forget a few counts that nobody needs any more."""
    for slots, window_s in sorted(windows.items()):
        slot_at = slots.slot_at(work.now)
        asked = _place(work, merchant_id, slots) | {
            "slot_at": slot_at,
            "currency": currency,
            "amount_minor": amounts[slots],
            "expires_at": slot_at + timedelta(seconds=window_s + 2 * slots.slot_s),
        }
        work.later(_SQL["count_velocity"], asked)
    if windows:
        work.later(_SQL["forget_velocity"], {"tenant_id": work.tenant_id, "now": work.now})


def _place(work: UnitOfWork, merchant_id: str, slots: Slots) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "merchant_id": merchant_id,
        "scope": slots.scope.value,
        "subject": slots.subject,
        "slot_s": slots.slot_s,
    }
