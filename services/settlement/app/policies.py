"""Policies: put as a whole, and read with all that they leave out."""

from __future__ import annotations

from dataclasses import replace

from services.runtime.database import Database, UnitOfWork
from services.settlement.app import schedule
from services.settlement.domain.policy import Policy, in_force
from services.settlement.store import policies as store


class Policies:
    """The policies of the tenant that the running call acts for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    async def put(policy: Policy, work: UnitOfWork) -> Policy:
        """Store a policy, with an audit entry when it says something else than before.

        Raises:
            ScheduleInvalid: its expression or time zone cannot be used.
        """
        await store.lock(work)
        before = (await store.read(work, [policy.seller])).get(policy.seller)
        after = replace(policy, updated_at=work.now)
        if not policy.seller:
            await schedule.move(work, in_force("", None, after))
        await store.put(work, after)
        said = None if before is None else before.as_audited()
        if said != after.as_audited():
            work.audit("settlement_policy", policy.seller or "default", said, after.as_audited())
        return after

    async def get(self, seller: str) -> Policy:
        """Return what holds for a seller."""
        async with self._database.read() as work:
            return (await store.holding(work, [seller]))[seller]
