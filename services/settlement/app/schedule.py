"""When commissions are swept by themselves: of a tenant that has any, one sweep always waits for its time."""

from __future__ import annotations

from datetime import datetime

from services.runtime.database import UnitOfWork
from services.runtime.ids import new_id
from services.runtime.timers.cron import Cron
from services.settlement.domain.policy import Policy
from services.settlement.domain.sweeps import Sweep, SweepStatus
from services.settlement.store import policies, sweeps


def next_at(policy: Policy, now: datetime) -> datetime | None:
    """Return when the next sweep of a policy in force is due; None while sweeps are paused.

    Raises:
        ScheduleInvalid: its expression or time zone cannot be used.
    """
    found = Cron(policy.sweep, policy.time_zone).next_after(now)
    return None if policy.sweep_paused else found


async def keep(work: UnitOfWork) -> None:
    """Have a sweep wait for its time, unless one does."""
    if await sweeps.has_waiting(work):
        return
    rules = await policies.holding(work, {""})
    await _wait(work, next_at(rules[""], work.now))


async def move(work: UnitOfWork, policy: Policy) -> None:
    """Have the sweep that waits come when a policy in force says. Raises ScheduleInvalid."""
    due_at = next_at(policy, work.now)
    if not await sweeps.schedule_waiting(work, due_at):
        await _wait(work, due_at)
        # One that began to wait meanwhile, by the policy before, was not seen at first, and is the one that waits.
        await sweeps.schedule_waiting(work, due_at)


async def _wait(work: UnitOfWork, due_at: datetime | None) -> None:
    sweep = Sweep(new_id("swp"), SweepStatus.WAITING, True, work.now, due_at=due_at)
    await sweeps.insert(work, sweep)
