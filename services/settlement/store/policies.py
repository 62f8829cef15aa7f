"""Statements of policies."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from typing import Any

from services.runtime.database import UnitOfWork
from services.settlement.domain.policy import Policy, in_force
from services.settlement.store import SQL


async def lock(work: UnitOfWork) -> None:
    """Wait until nobody else puts a policy of the tenant."""
    await work.execute(SQL["lock_policies"], {"tenant_id": work.tenant_id})


async def read(work: UnitOfWork, sellers: Iterable[str]) -> dict[str, Policy]:
    """Return the policies that these sellers have of their own, by seller; the empty one is that of all others."""
    asked = {"tenant_id": work.tenant_id, "sellers": sorted(set(sellers))}
    return {row.seller: _policy(row) for row in await work.execute(SQL["policies"], asked)}


async def holding(work: UnitOfWork, sellers: Iterable[str]) -> dict[str, Policy]:
    """Return what holds for each of these sellers."""
    wanted = set(sellers)
    found = await read(work, wanted | {""})
    return {seller: in_force(seller, found.get(seller), found.get("")) for seller in wanted}


async def put(work: UnitOfWork, policy: Policy) -> None:
    """Store a policy, or replace that of its seller."""
    row = {
        "tenant_id": work.tenant_id,
        "seller": policy.seller,
        "threshold_currencies": list(policy.thresholds),
        "thresholds_minor": list(policy.thresholds.values()),
        "threshold_first": policy.threshold_first,
        "minimum_currencies": list(policy.minimums),
        "minimums_minor": list(policy.minimums.values()),
        "sweep": policy.sweep,
        "time_zone": policy.time_zone,
        "sweep_paused": policy.sweep_paused,
        "updated_at": policy.updated_at,
    }
    await work.execute(SQL["put_policy"], row)


def _policy(row: Any) -> Policy:
    return Policy(
        seller=row.seller,
        thresholds=dict(zip(row.threshold_currencies, row.thresholds_minor, strict=True)),
        minimums=dict(zip(row.minimum_currencies, row.minimums_minor, strict=True)),
        threshold_first=row.threshold_first,
        sweep=row.sweep,
        time_zone=row.time_zone,
        sweep_paused=row.sweep_paused,
        updated_at=row.updated_at.astimezone(UTC),
    )
