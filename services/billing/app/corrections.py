"""Corrections of charges: frozen against all that was billed before, then posted and settled like any charge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from services.billing import facts, store
from services.billing.app.charges import Charges
from services.billing.domain.charges import Charge, ChargeKind, ChargeStatus
from services.billing.domain.corrections import (
    Adjustment,
    Billed,
    Reversal,
    adjusted,
    check_correctable,
    reversed_by,
    totals_after,
)
from services.billing.ports import Rater
from services.runtime.commands import Claimed
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import Internal, RequestInProgress
from services.runtime.ids import derived_id
from services.runtime.turns import aside

_TRIES_MAX = 8


class _Made(NamedTuple):
    """A correction, and the SKUs that it read as levels."""

    charge: Charge
    carried_skus: tuple[str, ...] = ()


_Make = Callable[[str, Billed], Awaitable[_Made]]


class Corrections:
    """The corrections of the tenant that the running call acts for."""

    def __init__(self, database: Database, charges: Charges, rater: Rater) -> None:
        self._database = database
        self._charges = charges
        self._rater = rater

    async def adjust(self, order: Adjustment, claimed: Claimed[Charge]) -> None:
        """Charge the difference between what was billed for a period and what its usage comes to now.

        Raises:
            NotFound: there is no such charge.
            ChargeNotCorrectable, NothingToAdjust, ChargeTooLarge, AmountOverflow: not the request's answer; the same
                call is carried out once what it depends on was changed.
            PostingRefused: likewise, once the account was put right.
            DomainError: another service could not be reached; the same call goes on from here.
        """
        charge_id = derived_id("chg", current().tenant_id, "adjust", order.request_id.lower())
        async with claimed.refusing("billing.refuse_adjustment", _untold):
            charge = await self._frozen(
                charge_id, order.charge_id, order.request_id, claimed, self._adjusted
            )
        await self._charges.finish(charge, claimed)

    async def preview(self, charge_id: str) -> Charge:
        """Return the charge that adjusting another one would make now; nothing is stored. Its id is empty.

        Raises:
            NotFound, ChargeNotCorrectable, NothingToAdjust, ChargeTooLarge, AmountOverflow, DomainError: as making it
                would.
        """
        return (await self._adjusted("", await self._read(charge_id))).charge

    async def reverse(self, order: Reversal, claimed: Claimed[Charge]) -> None:
        """Take back what was billed for a period, and free the period.

        Raises:
            NotFound: there is no such charge.
            ChargeNotCorrectable: not the request's answer.
            PostingRefused: likewise; the same call goes on once the account was put right.
            DomainError: another service could not be reached; the same call goes on from here.
        """
        charge_id = derived_id("chg", current().tenant_id, "reverse", order.request_id.lower())

        async def make(charge_id: str, billed: Billed) -> _Made:
            return _Made(reversed_by(charge_id, billed, order.cause, self._database.now()))

        async with claimed.refusing("billing.refuse_reversal", _untold):
            charge = await self._frozen(charge_id, order.charge_id, order.request_id, claimed, make)
        await self._charges.finish(charge, claimed)

    async def _adjusted(self, charge_id: str, billed: Billed) -> _Made:
        base = billed.base
        rating = await self._rater.rate(base.org_id, base.period)
        lines = sum(len(charge.lines) for charge in billed.charges) + len(rating.lines)
        now = self._database.now()
        charge = await aside(lines, lambda: adjusted(charge_id, billed, rating, now))
        return _Made(charge, rating.carried_skus)

    async def _billed(self, charge_id: str) -> Billed:
        """Read what was billed; what is not in the books yet is posted first."""
        while True:
            billed = await self._read(charge_id)
            pending = [each for each in billed.charges if each.status is ChargeStatus.PENDING]
            if not pending:
                return billed
            for charge in pending:
                await self._charges.resume(charge.charge_id)

    async def _read(self, charge_id: str) -> Billed:
        base = await self._charges.get(charge_id)
        check_correctable(base)
        async with self._database.read() as work:
            return await store.read_billed(work, base)

    async def _frozen(
        self,
        charge_id: str,
        base_id: str,
        request_id: str,
        claimed: Claimed[Charge],
        make: _Make,
    ) -> Charge:
        """Return the correction of a request with its lines stored for good; make it when nobody did."""
        for _ in range(_TRIES_MAX):
            async with self._database.read() as work:
                stored = await store.read_charge(work, charge_id)
            if stored is not None:
                return stored
            billed = await self._billed(base_id)
            correction = await make(charge_id, billed)
            async with claimed.step("billing.freeze_correction") as work:
                if await _stored(work, billed, correction):
                    return correction.charge
        raise RequestInProgress(
            f"other corrections of charge {base_id} keep getting in first; repeat the same call",
            request_id=request_id,
            retry_after_ms=100,
        )


async def _stored(work: UnitOfWork, billed: Billed, made: _Made) -> bool:
    """Store a correction and tell of it; False when what it corrects is not what was billed any more."""
    correction = made.charge
    if not await store.is_as_billed(work, billed):
        return False
    if not await store.insert_charge(work, correction):
        return False
    if correction.kind is ChargeKind.REVERSAL:
        if not await store.mark_reversed(work, billed, correction.charge_id):
            raise Internal(f"charge {billed.base.charge_id} was settled, and is not any more")
        work.publish(facts.charge_reversed(billed.base, correction))
        return True
    totals = totals_after(billed, correction)
    work.publish(facts.usage_aggregated(correction, totals, made.carried_skus))
    work.publish(facts.usage_rated(correction, totals))
    return True


async def _untold(_error: Exception, _work: UnitOfWork, _is_new: bool) -> None:
    """Tell nobody else: a correction that was refused leaves all as it was."""
