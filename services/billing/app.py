"""Use cases of billing. A charge goes: request claimed → frozen (PENDING) → posted by the ledger → SETTLED.

Each arrow is a transaction of its own or a call that may be repeated; none is open while another service is asked.
Whoever comes after a crash, the same caller or the sweep, goes on from the last arrow that was passed.
"""

from __future__ import annotations

from functools import partial

from services.billing import facts, store
from services.billing.domain import measures, postings
from services.billing.domain.charges import (
    Charge,
    ChargeFilter,
    ChargeOverlaps,
    ChargeStatus,
    Order,
    PeriodNotEnded,
    Place,
    charge_id_of,
    chargeable,
    freeze,
    overlaps,
)
from services.billing.domain.postings import PostingVerdict
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
        await self._post(charge)
        async with claimed.step("billing.settle_charge") as work:
            await claimed.finish(work, await self._settled(work, charge))

    async def resume(self, charge_id: str) -> None:
        """Finish a charge that its caller left behind. Its request gets its answer when it comes again.

        Raises:
            PostingRefused: the ledger does not take it.
            DomainError: the ledger could not be reached.
        """
        charge = await self.get(charge_id)
        if charge.status is ChargeStatus.PENDING:
            await self._post(charge)
            async with self._database.unit_of_work("billing.resume_charge") as work:
                await self._settled(work, charge)

    async def get(self, charge_id: str) -> Charge:
        """Return a charge. Raises NotFound."""
        async with self._database.read() as work:
            return await _existing(work, charge_id)

    async def list(
        self, wanted: ChargeFilter, after: Place | None, limit: int
    ) -> tuple[list[Charge], bool]:
        """List charges without proofs behind `after`, the latest period first; says whether there are more."""
        async with self._database.read() as work:
            return await store.list_charges(work, wanted, after, limit)

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
            lambda: postings.planned(
                freeze(charge_id, order.org_id, period, rating, self._database.now())
            ),
        )
        async with claimed.step("billing.freeze_charge") as work:
            winner = await store.read_charge(work, charge_id)
            if winner is not None:
                return winner
            if await store.insert_charge(work, charge):
                work.publish(facts.usage_aggregated(charge))
                work.publish(facts.usage_rated(charge))
                return charge
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

    async def _post(self, charge: Charge) -> None:
        """Have the ledger post a charge. Sent again, the same ids post nothing twice."""
        if charge.status is ChargeStatus.SETTLED:
            return
        if charge.transfers:
            accounts = postings.accounts(charge.transfers)
            for account_id, result in await self._books.create_accounts(accounts):
                raise postings.posting_refused(charge, account_id, result)
            verdict = postings.refusal(await self._books.post(charge.transfers))
            if verdict is not None:
                await self._posting_refused(charge, verdict)
        crashpoint("billing.after_posting")

    async def _posting_refused(self, charge: Charge, verdict: PostingVerdict) -> None:
        if postings.is_final(verdict):
            async with self._database.unit_of_work("billing.next_round") as work:
                await store.next_round(work, postings.next_round(charge))
        account_id = postings.account_at_fault(verdict)
        raise postings.posting_refused(charge, account_id, verdict.original or verdict.result)

    @staticmethod
    async def _settled(work: UnitOfWork, charge: Charge) -> Charge:
        """Mark a posted charge as settled and tell the mesh, once whoever gets there first."""
        if charge.status is ChargeStatus.PENDING and await store.settle(work, charge.charge_id):
            work.publish(facts.rating_completed(charge))
            work.publish(facts.charge_created(charge))
            currency = charge.total.currency_code
            work.count(measures.CHARGES, 1, currency=currency)
            work.count(measures.CHARGED, charge.total.minor_units, currency=currency)
        return await _existing(work, charge.charge_id)


async def _existing(work: UnitOfWork, charge_id: str) -> Charge:
    charge = await store.read_charge(work, charge_id)
    if charge is None:
        raise NotFound("charge", charge_id)
    return charge
