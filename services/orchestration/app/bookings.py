"""Posts to the books what processors did: a row beside the outcome of each attempt, and a worker that comes back to it.

Money that has moved must be booked, so nothing is given up. A posting is known again by what it is posted for: whoever
dies behind it, or loses its answer, posts the same once more and gets the posting that stands.
"""

from __future__ import annotations

from services.orchestration.domain.booking import (
    Booked,
    Booking,
    attempt_of,
    earlier_transfer_id,
    fact_of,
    in_order,
    is_booked_by,
    not_bookable,
)
from services.orchestration.domain.payment import Attempt
from services.orchestration.domain.record import Payment
from services.orchestration.ports import Books
from services.orchestration.store import bookings as store
from services.orchestration.store import payments
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.ids import derived_uuid
from services.runtime.work import Claim

PAYMENTS_IN_BOOKS = "orchestration/payments-in-books"
# The release before passed over ids that others had taken, and over those that a refused transfer had used up.
ROUNDS_MAX = 100
ROUNDS_AHEAD = 2


class Bookings:
    """What is to be in the books, and how it gets there."""

    def __init__(self, database: Database, books: Books) -> None:
        self._database = database
        self._books = books
        # Until one of this release has answered: a ledger of the release before books by itself what is published.
        self._ledger_may_react = True

    def record(self, work: UnitOfWork, payment: Payment, attempt: Attempt) -> None:
        """Store that an attempt is to be booked, with the commit that makes it a success."""
        store.insert(work, payment.payment_id, attempt.attempt_id, earlier=self._ledger_may_react)

    async def post(self, claim: Claim) -> None:
        """Bring an attempt into the books.

        Raises:
            PaymentNotBookable: the ledger refuses it.
            DomainError: the ledger or the database cannot be reached.
        """
        async with self._database.read() as work:
            payment_id = await store.payment_of(work, claim.item_id)
            (payment,) = await payments.load(work, [payment_id])
            bookings = await store.of_payment(work, payment_id)
        if self._ledger_may_react:
            await self._books.check_recipes()
            self._ledger_may_react = False
        charge = None
        for booking in in_order(payment, bookings, claim.item_id):
            charge = booking.booked or await self._book(claim, payment, booking, charge)

    async def _book(
        self, claim: Claim, payment: Payment, booking: Booking, charge: Booked | None
    ) -> Booked:
        attempt = attempt_of(payment, booking.attempt_id)
        booked = await self._earlier(payment, attempt) if booking.earlier else None
        if booked is None:
            crashpoint("orchestration.booking.before_post")
            # With the epoch: a refusal that the ledger keeps is the answer of one try, not of all.
            request_id = derived_uuid("orchestration.booking", attempt.attempt_id, str(claim.epoch))
            booked = await self._books.post(fact_of(payment, attempt, charge), request_id)
            crashpoint("orchestration.booking.after_post")
        async with self._database.unit_of_work("orchestration.booking.settle") as work:
            # Before the row, as when a payment ends: one of the two sees the other, and compares.
            await store.lock_payment(work, payment.payment_id)
            if await store.settle(work, attempt.attempt_id, booked):
                await compare(work, payment)
        return booked

    async def _earlier(self, payment: Payment, attempt: Attempt) -> Booked | None:
        """Find what the release before has booked: it books no more since the ledger posts by recipes."""
        missing = 0
        for round_no in range(ROUNDS_MAX):
            transfer_id = earlier_transfer_id(payment, attempt, round_no)
            transfer = await self._books.find_transfer(transfer_id)
            if transfer is None:
                missing += 1
                if missing == ROUNDS_AHEAD:
                    return None
            elif is_booked_by(payment, attempt, transfer):
                return Booked(transfer.amount.minor_units, transfer_id=transfer_id)
            else:
                missing = 0
        raise not_bookable(payment.payment_id, attempt.attempt_id, "IDS_TAKEN")


async def compare(work: UnitOfWork, payment: Payment) -> None:
    """Tell of a payment that has ended, and of which the books hold something else than was kept.

    Called when it ends, and when something of it is booked, whichever comes last.
    """
    found = await store.compare(work, payment.payment_id)
    if found.differs:
        work.violation(
            PAYMENTS_IN_BOOKS,
            "CRITICAL",
            f"payment {payment.payment_id} kept {found.kept_minor}, but the ledger has {found.booked_minor}"
            " (minor units)",
            request_id=payment.request_key,
            subject_id=payment.payment_id,
        )
