"""Charges. A charge goes: request claimed → frozen (PENDING) → posted by the ledger → SETTLED.

Each arrow is a transaction of its own or a call that may be repeated; none is open while another service is asked.
Whoever comes after a crash, the same caller or the sweep, goes on from the last arrow that was passed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from services.billing import facts, store
from services.billing.domain import frozen, measures, postings
from services.billing.domain.charges import (
    Charge,
    ChargeFilter,
    ChargeKind,
    ChargeOverlaps,
    ChargeStatus,
    Order,
    PeriodNotEnded,
    Place,
    Span,
    charge_id_of,
    chargeable,
    freeze,
    overlaps,
    totals_of,
)
from services.billing.ports import Books, Rater
from services.runtime.commands import AnsweredMeanwhile, Claimed
from services.runtime.context import current
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError, NotFound
from services.runtime.turns import aside


class Charges:
    """The charges of the tenant that the running call acts for."""

    def __init__(self, database: Database, rater: Rater, books: Books) -> None:
        self._database = database
        self._rater = rater
        self._books = books

    async def create(self, order: Order, claimed: Claimed[Charge]) -> None:
        """Make the charge of a request, or go on with the one that it made before.

        Raises:
            ChargeOverlaps, ChargeTooLarge, AmountOverflow: not the request's answer, like pricing's refusals; the same
                call is carried out once what it depends on was changed.
            PeriodNotEnded: likewise, once the period has ended.
            PostingRefused: likewise, once the account was put right.
            DomainError: another service could not be reached; the same call goes on from here.
        """
        crashpoint("billing.after_claim")
        async with claimed.refusing("billing.refuse_charge", partial(self._refused, order)):
            charge = await self._frozen(order, claimed)
        await self.finish(charge, claimed)

    async def finish(self, charge: Charge, claimed: Claimed[Charge]) -> None:
        """Post a frozen charge, settle it, and make it the answer of its request.

        Raises:
            PostingRefused: the ledger does not take it.
            DomainError: the ledger could not be reached.
        """
        posted = await self._posted(charge)
        async with claimed.step("billing.settle_charge") as work:
            await claimed.finish(work, await self._settled(work, posted))

    async def preview(self, org_id: str, period: Span, *, allow_open: bool) -> Charge:
        """Return the charge that would be made now; nothing is stored. Its id is empty.

        Raises:
            ChargeOverlaps, ChargeTooLarge, AmountOverflow, PeriodNotEnded, DomainError: as making it would.
        """
        async with self._database.read() as work:
            period = chargeable(org_id, period, work.now, allow_open=allow_open)
            other = await store.overlapping(work, org_id, period)
        if other is not None:
            raise overlaps(org_id, other)
        rating = await self._rater.rate(org_id, period)
        now = self._database.now()
        return await aside(len(rating.lines), lambda: freeze("", org_id, period, rating, now))

    async def resume(self, charge_id: str) -> None:
        """Finish a charge that its caller left behind. Its request gets its answer when it comes again.

        Raises:
            PostingRefused: the ledger does not take it.
            DomainError: the ledger could not be reached.
        """
        charge = await self.get(charge_id)
        if charge.status is ChargeStatus.PENDING:
            posted = await self._posted(charge)
            async with self._database.unit_of_work("billing.resume_charge") as work:
                await self._settled(work, posted)

    async def get(self, charge_id: str) -> Charge:
        """Return a charge. Raises NotFound."""
        async with self._database.read() as work:
            return await _existing(work, charge_id)

    async def list(
        self, wanted: ChargeFilter, after: Place | None, limit: int
    ) -> tuple[list[Charge], bool]:
        """List charges without proofs behind `after`, the latest period first; says whether there are more.

        Raises:
            NotFound: there is no charge whose corrections they would be.
        """
        async with self._database.read() as work:
            found, more = await store.list_charges(work, wanted, after, limit)
            corrected = wanted.adjusts_charge_id
            if corrected and not found and await store.read_charge(work, corrected) is None:
                raise NotFound("charge", corrected)
            return found, more

    async def _frozen(self, order: Order, claimed: Claimed[Charge]) -> Charge:
        """Return the charge of an order with its lines stored for good; rate them when nobody did."""
        charge_id = charge_id_of(current().tenant_id, order.request_id)
        async with self._database.read() as work:
            charge = await store.read_charge(work, charge_id)
            if charge is not None:
                # Whatever the clock says by now, and of an open period the end that it was given.
                return charge
            period = chargeable(order.org_id, order.period, work.now, allow_open=order.allow_open)
            other = await store.overlapping(work, order.org_id, period)
        if other is not None:
            raise overlaps(order.org_id, other)
        rating = await self._rater.rate(order.org_id, period)
        # Before the transaction, which is not to wait for it.
        charge = await aside(
            len(rating.lines),
            lambda: freeze(charge_id, order.org_id, period, rating, self._database.now()),
        )
        async with claimed.step("billing.freeze_charge") as work:
            if await store.insert_charge(work, charge):
                totals = totals_of(charge)
                work.publish(facts.usage_aggregated(charge, totals, rating.carried_skus))
                work.publish(facts.usage_rated(charge, totals))
                return charge
            winner = await store.read_charge(work, charge_id)
            if winner is not None:
                return winner
            other = await store.overlapping(work, order.org_id, period)
            assert other is not None, "a charge that cannot be stored overlaps another one"
            raise overlaps(order.org_id, other)

    @staticmethod
    async def _refused(order: Order, error: DomainError, work: UnitOfWork, is_new: bool) -> None:
        """Tell of a refusal that the request did not get before.

        Raises:
            AnsweredMeanwhile: another call of the request has frozen its charge.
        """
        if (
            await store.read_charge(work, charge_id_of(work.tenant_id, order.request_id))
            is not None
        ):
            raise AnsweredMeanwhile
        if is_new and not isinstance(error, ChargeOverlaps | PeriodNotEnded):
            work.publish(
                facts.rating_failed(order.request_id, order.org_id, order.period, error, work.now)
            )

    async def _posted(self, charge: Charge) -> Charge:
        """Have the ledger post a charge; returns it with what was posted. Sent again, nothing is posted twice."""
        if charge.status is not ChargeStatus.PENDING:
            return charge
        if charge.frozen and await self._post_frozen(charge):
            charge = replace(charge, transfers=charge.frozen)
        elif postings.moves_money(charge):
            charge = postings.posted(charge, *await self._books.post_recipe(charge))
        crashpoint("billing.after_posting")
        return charge

    async def _post_frozen(self, charge: Charge) -> bool:
        """Post what an earlier release stored with a charge; False when it is not in the books and never can be.

        Raises:
            PostingRefused: the ledger does not take it, but may later.
        """
        for account_id, result in await self._books.create_accounts(frozen.accounts(charge.frozen)):
            raise postings.posting_refused(charge.charge_id, account_id, result)
        verdict = frozen.refusal(await self._books.post(charge.frozen))
        if verdict is not None and not frozen.is_final(verdict):
            account_id = frozen.account_at_fault(verdict)
            raise postings.posting_refused(charge.charge_id, account_id, verdict.result)
        return verdict is None

    @staticmethod
    async def _settled(work: UnitOfWork, charge: Charge) -> Charge:
        """Mark a posted charge as settled and tell the mesh, once whoever gets there first."""
        if charge.status is ChargeStatus.PENDING and await store.settle(work, charge):
            _tell_settled(work, charge)
            if charge.kind is ChargeKind.USAGE and not charge.frozen:
                # As it would be read; a correction's proofs are put together when it is stored.
                return replace(charge, status=ChargeStatus.SETTLED, settled_at=work.now)
        return await _existing(work, charge.charge_id)


def _tell_settled(work: UnitOfWork, charge: Charge) -> None:
    currency = charge.total.currency_code
    if charge.kind is ChargeKind.USAGE:
        work.publish(facts.rating_completed(charge))
        work.count(measures.CHARGES, 1, currency=currency)
        work.count(measures.CHARGED, charge.total.minor_units, currency=currency)
    else:
        work.count(measures.CORRECTIONS, 1, currency=currency, kind=charge.kind.name.lower())
    work.publish(facts.charge_created(charge))


async def _existing(work: UnitOfWork, charge_id: str) -> Charge:
    charge = await store.read_charge(work, charge_id)
    if charge is None:
        raise NotFound("charge", charge_id)
    return charge
