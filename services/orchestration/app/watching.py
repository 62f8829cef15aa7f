"""Following payments while others work on them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace

from services.orchestration.app.payments import Payments
from services.orchestration.domain.payment import Rest, decide
from services.orchestration.domain.record import Payment
from services.orchestration.ports import Runs
from services.runtime.context import acting, current
from services.runtime.errors import Overloaded

WATCHES_MAX = 64
"""Of one process, whatever they follow."""
WATCHES_OF_TENANT_MAX = 16
WATCH_SECONDS_MAX = 300.0
READ_SECONDS = 10.0
# Between two looks: short while something happens, longer while nothing does.
_GAP_FIRST_SECONDS = 0.05
_GAP_MAX_SECONDS = 1.0


class Watching:
    """Follows payments of the tenant that the running call acts for."""

    def __init__(self, payments: Payments, runs: Runs) -> None:
        self._payments = payments
        self._runs = runs
        self._watches: Counter[str] = Counter()

    async def watch(self, payment_id: str) -> AsyncGenerator[Payment, None]:
        """Give a payment as it stands, and again whenever it has changed, until nothing works on it.

        Raises:
            NotFound: there is no such payment.
            Overloaded: too many are followed.
        """
        tenant_id = current().tenant_id
        _refuse_beyond(WATCHES_MAX, self._watches.total(), "streams")
        _refuse_beyond(WATCHES_OF_TENANT_MAX, self._watches[tenant_id], "streams of this tenant")
        self._watches[tenant_id] += 1
        try:
            seen: Payment | None = None
            gap = _GAP_FIRST_SECONDS
            end_at = time.monotonic() + WATCH_SECONDS_MAX
            while time.monotonic() < end_at:
                payment = await self._read(payment_id)
                gap = min(gap * 1.5, _GAP_MAX_SECONDS) if payment == seen else _GAP_FIRST_SECONDS
                if payment != seen:
                    seen = payment
                    yield payment
                if rests(payment):
                    return
                # What works on it here ends the wait as it stops; another process may work on it as well.
                if not await self._runs.wait(tenant_id, payment_id, gap):
                    await asyncio.sleep(gap)
        finally:
            self._watches -= Counter((tenant_id,))

    async def _read(self, payment_id: str) -> Payment:
        with acting(replace(current(), deadline_at=time.monotonic() + READ_SECONDS)):
            return await self._payments.get(payment_id)


def rests(payment: Payment) -> bool:
    """Say whether nothing is left to do on a payment without an instruction or a verdict."""
    return payment.progress is None or isinstance(decide(payment.progress), Rest)


def _refuse_beyond(limit: int, open_count: int, what: str) -> None:
    if open_count >= limit:
        raise Overloaded(
            f"{limit} {what} are open; close one, or ask with GetPayment",
            retry_after_ms=1000,
            limit=limit,
        )
