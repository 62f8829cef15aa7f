"""Sweeps: what parties are owed is paid page by page, each page a transaction, so that a death loses nothing.

A page holds its balances before it reads them. Two sweeps, or a sweep and a charge that is taken in, wait for one
another there, and the second finds what the first has left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from services.runtime.commands import Claimed
from services.runtime.context import current
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.money import Money
from services.settlement import facts
from services.settlement.app import schedule
from services.settlement.domain.earnings import swept
from services.settlement.domain.listing import Place
from services.settlement.domain.payouts import Payout, PayoutKind, PayoutStatus
from services.settlement.domain.sweeps import (
    PAGE_BALANCES,
    Sweep,
    SweepStatus,
    payout_id_of,
    sweep_id_of,
)
from services.settlement.store import earnings, payouts, policies
from services.settlement.store import sweeps as store

# Whoever asked for a sweep goes on with it; after so long without its end the worker does too, which harms nothing.
CALLER_MS = 60_000


@dataclass(frozen=True, slots=True)
class Order:
    """What SweepCommissions was asked for; `through_at` is None for now."""

    request_id: str
    through_at: datetime | None


class Sweeps:
    """The sweeps of the tenant that the running call acts for.

    Args:
        database: where they are.
        wake: tells the worker of this process that payouts are to be posted.
        page: balances that are swept in one transaction.
    """

    def __init__(
        self, database: Database, wake: Callable[[], None], *, page: int = PAGE_BALANCES
    ) -> None:
        self._database = database
        self._wake = wake
        self._page = page

    async def sweep(self, order: Order, claimed: Claimed[Sweep]) -> None:
        """Pay out what is owed, or go on with the sweep that the request made before."""
        sweep_id = sweep_id_of(current().tenant_id, order.request_id)
        async with claimed.step("settlement.sweep.make") as work:
            now = work.now
            through_at = min(order.through_at or now, now)
            sweep = Sweep(sweep_id, SweepStatus.RUNNING, False, now, now, through_at, now)
            await store.insert(work, sweep, lease_ms=CALLER_MS)
        await self.run(sweep_id)
        async with claimed.step("settlement.sweep.answer") as work:
            await claimed.finish(work, _existing(await store.read(work, sweep_id), sweep_id))

    async def run(self, sweep_id: str) -> None:
        """Go on with a sweep to its end."""
        more = True
        while more:
            crashpoint("settlement.sweep.before_page")
            more = await self._on(sweep_id)

    async def get(self, sweep_id: str) -> Sweep:
        """Return a sweep. Raises NotFound."""
        async with self._database.read() as work:
            return _existing(await store.read(work, sweep_id), sweep_id)

    async def list(self, after: Place | None, limit: int) -> list[Sweep]:
        """List sweeps behind `after`, the latest made first."""
        async with self._database.read() as work:
            return await store.list_sweeps(work, after, limit)

    async def _on(self, sweep_id: str) -> bool:
        """Pay the next page; False when there is none."""
        async with self._database.unit_of_work("settlement.sweep.page") as work:
            sweep = _existing(await store.lock(work, sweep_id), sweep_id)
            if sweep.status is SweepStatus.WAITING:
                if sweep.due_at is None or sweep.due_at > work.now:
                    return False  # put off, or paused, since it was claimed
                sweep = await store.begin(work, sweep)
            if sweep.status is SweepStatus.DONE:
                return False
            assert sweep.through_at is not None, "it has begun"
            owed = await earnings.lock_owed(work, sweep.after, sweep.through_at, self._page)
            rules = await policies.holding(work, {standing.party for standing, _ in owed})
            made = []
            for standing, later_minor in owed:
                minor = swept(standing, later_minor, rules[standing.party])
                if minor:
                    amount = Money(standing.currency_code, minor)
                    made.append(_payout(work, sweep, standing.party, amount))
            if made:
                earnings.move(work, {_key(each): each.amount.minor_units for each in made})
                payouts.insert(work, made)
                work.after_commit(self._wake)
            if owed:
                last = owed[-1][0]
                sweep = _with(sweep, made, (last.party, last.currency_code))
                await store.advance(work, sweep)
            if len(owed) == self._page:
                return True
            await self._end(work, sweep)
        return False

    @staticmethod
    async def _end(work: UnitOfWork, sweep: Sweep) -> None:
        sweep = await store.end(work, sweep)
        if sweep.scheduled:
            await schedule.keep(work)
        work.publish(facts.commissions_swept(sweep))


def _with(sweep: Sweep, made: list[Payout], after: tuple[str, str]) -> Sweep:
    totals = dict(sweep.totals or {})
    for each in made:
        currency = each.amount.currency_code
        totals[currency] = totals.get(currency, 0) + each.amount.minor_units
    return replace(sweep, after=after, totals=totals, payout_count=sweep.payout_count + len(made))


def _payout(work: UnitOfWork, sweep: Sweep, party: str, amount: Money) -> Payout:
    payout_id = payout_id_of(work.tenant_id, sweep.sweep_id, party, amount.currency_code)
    return Payout(
        payout_id,
        party,
        amount,
        PayoutKind.SWEEP,
        PayoutStatus.PENDING,
        work.now,
        sweep_id=sweep.sweep_id,
    )


def _key(payout: Payout) -> tuple[str, str]:
    return payout.party, payout.amount.currency_code


def _existing(sweep: Sweep | None, sweep_id: str) -> Sweep:
    if sweep is None:
        raise NotFound("sweep", sweep_id)
    return sweep
