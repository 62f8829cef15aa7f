"""Commissions: the lines of a charge are taken in once, and what is above the threshold is paid at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.ids import derived_id
from services.runtime.turns import aside
from services.settlement.app import schedule
from services.settlement.domain.earnings import Earning, due_at_once
from services.settlement.domain.listing import BalanceRow, EarningFilter, EarningPlace
from services.settlement.domain.payouts import at_once
from services.settlement.ports import Charges
from services.settlement.store import earnings as store
from services.settlement.store import payouts, policies


class Commissions:
    """What parties of the running call's tenant earn.

    Args:
        database: where it is.
        charges: what is earned on them.
        wake: tells the worker of this process that payouts are to be posted.
    """

    def __init__(self, database: Database, charges: Charges, wake: Callable[[], None]) -> None:
        self._database = database
        self._charges = charges
        self._wake = wake

    async def take_in(self, charge_id: str) -> None:
        """Take a settled charge in: balances, lines, and payouts of what is above the threshold, in one transaction.

        Raises:
            DomainError: billing could not be reached.
        """
        found = await self._charges.earnings(charge_id)
        crashpoint("settlement.take_in.read")
        async with self._database.unit_of_work("settlement.take_in") as work:
            # Of two that have read the same charge one gets this far.
            taken = await store.take_in(work, charge_id)
            if taken and found and await _earned(work, charge_id, found):
                work.after_commit(self._wake)

    async def list_lines(
        self, wanted: EarningFilter, after: EarningPlace | None, limit: int
    ) -> list[Earning]:
        """List what is earned line by line behind `after`, the latest first."""
        async with self._database.read() as work:
            return await store.list_earnings(work, wanted, after, limit)

    async def balances(self, party: str, after: tuple[str, str], limit: int) -> list[BalanceRow]:
        """List how parties stand behind a party and currency."""
        async with self._database.read() as work:
            return await store.list_balances(work, party, after, limit)


async def _earned(work: UnitOfWork, charge_id: str, found: Sequence[Earning]) -> bool:
    """Write what is earned on a charge; says whether some of it is paid at once."""
    rules = await policies.holding(work, {each.party for each in found})
    await schedule.keep(work)
    standings = await store.earn(work, found)
    due = await aside(len(found), due_at_once, found, standings, rules)
    made = {
        earning.line_no: at_once(
            derived_id("po", work.tenant_id, charge_id, str(earning.line_no)),
            earning,
            amount,
            work.now,
        )
        for earning, amount in due
    }
    claimed: dict[tuple[str, str], int] = {}
    for payout in made.values():
        key = (payout.party, payout.amount.currency_code)
        claimed[key] = claimed.get(key, 0) + payout.amount.minor_units
    store.move(work, claimed)
    payouts.insert(work, [*made.values()])
    paid = {line_no: payout.payout_id for line_no, payout in made.items()}
    lines = [replace(each, payout_id=paid.get(each.line_no, "")) for each in found]
    store.insert(work, charge_id, lines)
    return bool(made)
