"""Payouts: asked for, brought into the books, paid, returned.

A payout is taken off the party's balance in the transaction that makes it. What the ledger is to make of it waits in a
row beside it until it is posted; the ledger knows each step again by recipe and reference, so who dies behind it, or
loses the answer, posts it once more and gets the posting that stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from services.runtime.cards import remark
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import InvalidField, NotFound
from services.runtime.ids import derived_id
from services.runtime.money import Money
from services.settlement import facts
from services.settlement.domain import measures
from services.settlement.domain.listing import PayoutFilter, Place
from services.settlement.domain.payouts import (
    Leg,
    Payout,
    PayoutKind,
    PayoutStatus,
    Posting,
    check_destination,
    check_moment,
    check_order,
    check_status,
    exceeds_balance,
)
from services.settlement.ports import Books
from services.settlement.store import earnings, sweeps
from services.settlement.store import payouts as store


@dataclass(frozen=True, slots=True)
class Order:
    """What CreatePayout was asked for."""

    request_id: str
    party: str
    amount: Money
    destination: str


@dataclass(frozen=True, slots=True)
class Payment:
    """What is known of the payment of a payout; `paid_at` is None for now."""

    payout_id: str
    payment_reference: str
    paid_at: datetime | None


@dataclass(frozen=True, slots=True)
class Return:
    """What is known of the return of a payout; `returned_at` is None for now."""

    payout_id: str
    return_code: str
    returned_at: datetime | None


class Payouts:
    """The payouts of the tenant that the running call acts for.

    Args:
        database: where they are.
        books: what posts their steps.
        wake: tells the worker of this process that a step is to be posted.
    """

    def __init__(self, database: Database, books: Books, wake: Callable[[], None]) -> None:
        self._database = database
        self._books = books
        self._wake = wake

    async def create(self, order: Order, work: UnitOfWork) -> Payout:
        """Take an amount off what a party is owed, and have it claimed.

        Raises:
            InvalidField: the amount is not above zero, or the destination holds the number of a card.
            PayoutExceedsBalance: the party is owed less.
        """
        amount = order.amount
        if amount.minor_units <= 0:
            raise InvalidField.one("amount", "must be above zero")
        check_destination(order.destination)
        standing = await earnings.lock_standing(work, order.party, amount.currency_code)
        if amount.minor_units > standing.carried_minor:
            raise exceeds_balance(order.party, amount.currency_code, standing.carried_minor)
        payout_id = derived_id("po", work.tenant_id, "requested", order.request_id.lower())
        payout = Payout(
            payout_id,
            order.party,
            amount,
            PayoutKind.REQUESTED,
            PayoutStatus.PENDING,
            work.now,
            destination=order.destination,
        )
        earnings.move(work, {(order.party, amount.currency_code): amount.minor_units})
        store.insert(work, [payout])
        work.after_commit(self._wake)
        return replace(payout, postings=(payout.claim,))

    async def pay(self, payment: Payment, work: UnitOfWork) -> Payout:
        """Mark a payout as paid, and have it booked.

        Raises:
            NotFound: there is no such payout.
            UnfitNow: it is said to be paid in the future.
            PayoutStatusConflict: its claim is not in the books, or it was paid or returned before.
        """
        paid_at = payment.paid_at or work.now
        check_moment("paid_at", paid_at, work.now)
        reference = remark(payment.payment_reference)
        payout = _existing(await store.lock(work, payment.payout_id), payment.payout_id)
        check_status(payout, PayoutStatus.CLAIMED)
        key = await _held(work, payout)
        await store.paid(work, payout.payout_id, reference, paid_at)
        work.after_commit(self._wake)
        minor = payout.amount.minor_units
        earnings.move(work, {key: -minor}, {key: minor})
        posting = Posting(payout.payout_id, Leg.PAID, paid_at)
        store.book(work, [posting])
        payout = replace(
            payout,
            status=PayoutStatus.PAID,
            paid_at=paid_at,
            payment_reference=reference,
            postings=(*payout.postings, posting),
        )
        work.publish(facts.payout_paid(payout))
        return payout

    async def take_back(self, given: Return, work: UnitOfWork) -> Payout:
        """Mark a payout as returned: it is owed again. Have it booked.

        Raises:
            NotFound: there is no such payout.
            UnfitNow: it is said to be returned in the future, or before it was paid.
            PayoutStatusConflict: its claim is not in the books, or it was returned before.
        """
        at = given.returned_at or work.now
        check_moment("returned_at", at, work.now)
        return_code = remark(given.return_code)
        payout = _existing(await store.lock(work, given.payout_id), given.payout_id)
        check_status(payout, PayoutStatus.CLAIMED, PayoutStatus.PAID)
        check_order(payout, at)
        key = await _held(work, payout)
        was_paid = payout.status is PayoutStatus.PAID
        await store.returned(work, payout.payout_id, return_code, at)
        work.after_commit(self._wake)
        minor = payout.amount.minor_units
        earnings.move(work, {key: 0 if was_paid else -minor}, {key: -minor if was_paid else 0})
        posting = Posting(payout.payout_id, Leg.RETURNED, at, was_paid)
        store.book(work, [posting])
        payout = replace(
            payout,
            status=PayoutStatus.RETURNED,
            returned_at=at,
            return_code=return_code,
            postings=(*payout.postings, posting),
        )
        work.publish(facts.payout_returned(payout))
        work.count(measures.RETURNED, 1, currency=payout.amount.currency_code)
        return payout

    async def get(self, payout_id: str) -> Payout:
        """Return a payout. Raises NotFound."""
        async with self._database.read() as work:
            return _existing(await store.read(work, payout_id), payout_id)

    async def list(self, wanted: PayoutFilter, after: Place | None, limit: int) -> list[Payout]:
        """List payouts behind `after`, the latest first. Raises NotFound: there is no such sweep."""
        async with self._database.read() as work:
            found = await store.list_payouts(work, wanted, after, limit)
            if wanted.sweep_id and not found and await sweeps.read(work, wanted.sweep_id) is None:
                raise NotFound("sweep", wanted.sweep_id)
            return found

    async def post(self, item_id: str) -> None:
        """Bring a step of a payout into the books.

        Raises:
            PayoutNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """
        payout = await self.get(item_id.rpartition(":")[0])
        posting = next(each for each in payout.postings if each.item_id == item_id)
        if posting.posted_at is not None:
            return
        crashpoint("settlement.posting.before_post")
        posting_id = await self._books.post(payout, posting)
        crashpoint("settlement.posting.after_post")
        async with self._database.unit_of_work("settlement.posting.settle") as work:
            payout = _existing(await store.lock(work, payout.payout_id), payout.payout_id)
            if not await store.settle(work, posting, posting_id):
                return
            if posting.leg is Leg.CLAIM:
                await store.claimed(work, payout.payout_id)
                payout = replace(payout, status=PayoutStatus.CLAIMED, claimed_at=work.now)
                _tell_claimed(work, payout)


def _tell_claimed(work: UnitOfWork, payout: Payout) -> None:
    currency = payout.amount.currency_code
    work.publish(facts.payout_claimed(payout))
    work.count(measures.PAYOUTS, 1, currency=currency, kind=payout.kind.name.lower())
    work.count(measures.CLAIMED, payout.amount.minor_units, currency=currency)


async def _held(work: UnitOfWork, payout: Payout) -> tuple[str, str]:
    """Hold the balance of a payout; returns its key."""
    key = (payout.party, payout.amount.currency_code)
    await earnings.lock_standing(work, *key)
    return key


def _existing(payout: Payout | None, payout_id: str) -> Payout:
    if payout is None:
        raise NotFound("payout", payout_id)
    return payout
