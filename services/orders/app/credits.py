"""Grants of credits: given, taken back, told, and ended when their time is over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from services.orders import facts
from services.orders.domain import measures
from services.orders.domain.credits import (
    NOW,
    Balance,
    Entry,
    Grant,
    Kind,
    Reversal,
    Source,
    balance,
    ended,
    granted,
    reversed_,
)
from services.orders.domain.listing import GrantFilter, GrantPlace
from services.orders.ports import CreditBooks
from services.orders.store import credits as store
from services.runtime.cards import remark
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.ids import new_id


@dataclass(frozen=True, slots=True)
class Undoing:
    """What ReverseGrant was asked for."""

    grant_id: str
    reason: str


class Credits:
    """The credits of the tenant that the running call acts for."""

    def __init__(self, database: Database, books: CreditBooks) -> None:
        self._database = database
        self._books = books

    @staticmethod
    async def grant(wanted: Grant, work: UnitOfWork) -> Grant:
        """Give credits, effective now or later. Grant, entry, audit entry and event commit together.

        Raises:
            InvalidField: it is no grant that can be.
            UnfitNow: it expires before it becomes effective.
        """
        effective_at = work.now if wanted.effective_at == NOW else wanted.effective_at
        grant = granted(
            replace(
                wanted,
                grant_id=new_id("gra"),
                granted_at=work.now,
                effective_at=effective_at,
            )
        )
        give(work, grant)
        work.audit("credit_grant", grant.grant_id, None, _audited(grant))
        if grant.source == Source.PURCHASED:
            work.publish(facts.credit_purchased(grant))
        return grant

    @staticmethod
    async def reverse(asked: Undoing, work: UnitOfWork) -> tuple[Grant, Reversal]:
        """Take back what is available of a grant; what was taken back before stays as it is. Raises NotFound."""
        grant = await _locked(work, asked.grant_id)
        return take_back(work, grant, remark(asked.reason))

    async def list(self, wanted: GrantFilter, after: GrantPlace | None, limit: int) -> list[Grant]:
        """List grants behind `after`, the latest given first."""
        async with self._database.read() as work:
            return await store.list_grants(work, wanted, after, limit)

    async def balance(self, owner_id: str, unit: str, at: datetime | None) -> Balance:
        """Tell what an owner has: in the past as it was, in the future as it will be if nothing else happens."""
        async with self._database.read() as work:
            if at is None or at >= work.now:
                return balance(await store.live(work, owner_id, unit), at or work.now)
            return balance(await store.before(work, owner_id, unit, at), at)

    async def post(self, entry_id: str) -> None:
        """Bring what happened to credits into the books.

        Raises:
            CreditsNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """
        async with self._database.read() as work:
            found = await store.entry(work, entry_id)
        assert found is not None, "it was leased, and entries stay"
        entry, posting_id = found
        if posting_id is not None:
            return
        crashpoint("orders.credits.before_post")
        posting_id = await self._books.post(entry)
        crashpoint("orders.credits.after_post")
        async with self._database.unit_of_work("orders.credits.settle") as work:
            store.settle(work, entry_id, posting_id=posting_id)

    async def end(self, grant_id: str) -> None:
        """Carry a grant whose time is over into its next period, or let it lapse."""
        async with self._database.unit_of_work("orders.credits.end") as work:
            grant = await _locked(work, grant_id)
            after, breakage = ended(grant, work.now)
            if after != grant:
                store.update(work, after)
            if breakage:
                enter(work, after, Kind.LAPSED, breakage)
            store.settle(
                work, grant_id, again_at=None if after.expired(work.now) else after.expires_at
            )


def give(work: UnitOfWork, grant: Grant) -> None:
    """Store a grant and what there is to enter of it."""
    store.insert(work, grant)
    enter(work, grant, Kind.GRANTED, grant.amount, order_id=grant.order_id)


def take_back(work: UnitOfWork, grant: Grant, reason: str) -> tuple[Grant, Reversal]:
    """Take back what is available of a grant whose account is locked, and tell of it the first time."""
    after, reversal = reversed_(grant)
    if grant.is_reversed:
        return grant, reversal
    after = replace(after, reversed_at=work.now)
    store.update(work, after)
    if reversal.taken_back:
        enter(work, after, Kind.TAKEN_BACK, reversal.taken_back, order_id=after.order_id)
    work.audit(
        "credit_grant", after.grant_id, _audited(grant), _audited(after) | {"reason": reason}
    )
    work.publish(facts.credit_reversed(after, reversal, reason))
    return after, reversal


def enter(
    work: UnitOfWork,
    grant: Grant,
    kind: Kind,
    amount: int,
    *,
    reservation_id: str = "",
    order_id: str = "",
) -> Entry:
    """Write down what happened to credits of a grant."""
    entry = Entry(
        entry_id=new_id("cre"),
        grant_id=grant.grant_id,
        owner_id=grant.owner_id,
        unit=grant.unit,
        source=grant.source,
        kind=kind.value,
        amount=amount,
        recorded_at=work.now,
        reservation_id=reservation_id,
        order_id=order_id,
    )
    store.enter(work, entry)
    work.count(measures.CREDITS, amount, kind=kind.value)
    return entry


async def locked(work: UnitOfWork, owner_id: str, unit: str) -> list[Grant]:
    """Return an owner's grants of which something is left, which nobody else changes until this transaction ends."""
    await store.lock_account(work, owner_id, unit)
    return await store.live(work, owner_id, unit)


async def _locked(work: UnitOfWork, grant_id: str) -> Grant:
    """Return a grant that nobody else changes until this transaction ends. Raises NotFound."""
    seen = await store.read(work, grant_id)
    if seen is None:
        raise NotFound("grant", grant_id)
    await store.lock_account(work, seen.owner_id, seen.unit)
    grant = await store.read(work, grant_id)
    assert grant is not None, "grants stay"
    return grant


def _audited(grant: Grant) -> dict[str, object]:
    return {
        "owner_id": grant.owner_id,
        "unit": grant.unit,
        "amount": grant.amount,
        "source": grant.source,
        "order_id": grant.order_id,
        "used": grant.used,
        "held": grant.held,
        "taken_back": grant.taken_back,
    }
