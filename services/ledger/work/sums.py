"""Builds the sums that balances as of a time are read from, behind the postings.

Nobody waits for it: what is in no sum yet is read from the entries, so an answer is exact however far it is behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from services.ledger.store import balances as store
from services.runtime.context import CallContext, acting
from services.runtime.database import Database
from services.runtime.ids import new_id
from services.runtime.loops import Loop
from services.runtime.telemetry import log

PRINCIPAL = "mesh:ledger.sums"
# Looked at in one call, and summed in one transaction.
ACCOUNTS_LOOKED_AT = 2_000
ACCOUNTS_SUMMED = 100
ENTRIES_SUMMED = 2_000
REST_SECONDS = 3.0
# Rests so much longer than it has worked, up to a minute: looking at a million accounts takes seconds.
REST_TIMES_WORK = 9
REST_SECONDS_MAX = 60.0
_BEFORE_ALL = ("", "")


class Sums:
    """Goes through the accounts of all tenants again and again; any number of processes may."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._place = _BEFORE_ALL
        self._worked_seconds = 0.0
        self.loop = Loop(
            "sums of the books",
            self._round,
            conditions=database.conditions,
            rest_seconds=REST_SECONDS,
            writes=True,
        )

    async def start(self) -> None:
        """Begin."""
        self.loop.start()

    async def stop(self) -> None:
        """End."""
        await self.loop.stop()

    async def sweep(self) -> None:
        """Go through all accounts once, from the first."""
        self._place = _BEFORE_ALL
        while await self._step():
            pass

    async def _round(self) -> float:
        began = self._clock()
        goes_on = await self._step()
        self._worked_seconds += self._clock() - began
        if goes_on:
            return 0.0
        rest = min(self._worked_seconds * REST_TIMES_WORK, REST_SECONDS_MAX)
        self._worked_seconds = 0.0
        return max(REST_SECONDS, rest)

    async def _step(self) -> bool:
        """Look at the next accounts and sum what they have; False when the last ones have been looked at."""
        async with self._database.across_tenants("ledger.unsummed_accounts") as work:
            behind, place = await store.unsummed_accounts(work, self._place, ACCOUNTS_LOOKED_AT)
        # Moved on first: an account that cannot be summed holds up no other.
        self._place = place or _BEFORE_ALL
        for tenant_id, account_ids in behind.items():
            with acting(_call(tenant_id)):
                for start in range(0, len(account_ids), ACCOUNTS_SUMMED):
                    await self._sum(account_ids[start : start + ACCOUNTS_SUMMED])
        return place is not None

    async def _sum(self, account_ids: Sequence[str]) -> None:
        while account_ids and not self.loop.is_stopping():
            try:
                async with self._database.unit_of_work("ledger.sum_entries") as work:
                    account_ids = await store.sum_entries(work, account_ids, ENTRIES_SUMMED)
            except store.EntriesBroken as broken:
                # Answers add its entries up one by one meanwhile; the others must not wait for it.
                log.error(
                    "account left without sums: verify the books",
                    account_id=broken.account_id,
                    before_seq=broken.before_seq,
                )
                account_ids = [each for each in account_ids if each != broken.account_id]


def _call(tenant_id: str) -> CallContext:
    request_id = new_id("run")
    return CallContext(tenant_id, PRINCIPAL, frozenset(), request_id, correlation_id=request_id)
