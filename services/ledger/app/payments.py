"""Booking what processors charged and gave back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.ledger.app.accounts import create_accounts
from services.ledger.app.balances import load_timelines
from services.ledger.app.posting import post_transfers
from services.ledger.domain import payments
from services.ledger.domain.payments import Booking, Charge
from services.ledger.domain.posting import Books, evaluate
from services.ledger.domain.transfers import Transfer, TransferResult
from services.ledger.store import monitors, periods
from services.ledger.store import posting as store
from services.runtime.database import UnitOfWork

# A booking passes over ids that somebody else has taken, but not for ever.
BOOKING_TRIES = 100
_CLOSED = TransferResult.EFFECTIVE_AT_IN_CLOSED_PERIOD
PAYMENTS_IN_BOOKS = "ledger/payments-in-books"
PAYMENT_IN_SUSPENSE = "ledger/payment-in-suspense"


async def book_charge(work: UnitOfWork, charge: Charge) -> Transfer:
    """Book a charge within a transaction; returns the transfer that books it, now or before.

    Raises:
        PaymentNotBookable: its currency is unknown, or its amount is not positive; the caller must roll back.
    """
    return await _book(work, payments.book_charge(charge), charge.payment_id)


async def book_refund(
    work: UnitOfWork, charge: Charge, attempt_id: str, refunded_at: datetime | None
) -> None:
    """Book a refund within a transaction, and before it the charge that it gives back.

    Raises:
        PaymentNotBookable: as of the charge.
    """
    booked = await book_charge(work, charge)
    booking = payments.book_refund(charge, booked, attempt_id, refunded_at)
    await _book(work, booking, charge.payment_id)


async def check_payment(work: UnitOfWork, payment_id: str, kept_minor: int) -> None:
    """Compare what is booked of a finished payment with what was kept of it, and report a difference."""
    booked_minor = await store.booked_of_payment(work, payment_id)
    if booked_minor != kept_minor:
        message = f"payment {payment_id} kept {kept_minor}, but the ledger has {booked_minor} (minor units)"
        work.violation(PAYMENTS_IN_BOOKS, "CRITICAL", message, subject_id=payment_id)


async def _book(work: UnitOfWork, booking: Booking, payment_id: str) -> Transfer:
    """Post a booking once, where the books take it.

    What a processor did cannot be refused afterwards, so an account that refuses is passed over, and what would take
    effect in a closed period takes effect now. Periods are locked before all else, as in every batch.

    Raises:
        PaymentNotBookable: no account takes it, or others have taken all of its ids.
    """
    round_no = 0
    closed_through = await periods.share(work)
    for _ in range(BOOKING_TRIES):
        transfer_id = booking.transfer_id(round_no)
        known = (await store.read_known(work, {transfer_id: set()})).get(transfer_id)
        if known is None:
            transfer = await _placed(work, booking, transfer_id, payment_id, closed_through)
            (verdict,) = (await post_transfers([transfer], work)).verdicts
            if verdict.result is TransferResult.OK:
                _tell_of_suspense(work, transfer, payment_id)
                return transfer
            # The balances are locked, so only the id can have been taken meanwhile: look at it again.
        elif known.transfer is not None and booking.is_done_by(known.transfer):
            return known.transfer
        else:
            round_no += 1
    raise payments.not_bookable(payment_id, str(transfer_id), "IDS_TAKEN")


async def _placed(
    work: UnitOfWork,
    booking: Booking,
    transfer_id: UUID,
    payment_id: str,
    closed_through: Mapping[str, datetime],
) -> Transfer:
    """Find accounts that take a booking, create those that are missing and lock their balances.

    It is tried in memory first: a refusal by the posting itself would burn the id.
    """
    # Ahead of the balances, as every batch does.
    monitors.share(work)
    debits, credits = list(booking.debits), list(booking.credits)
    while debits and credits:
        debit, credit = debits[0], credits[0]
        serves = [payments.can_serve(r) for r in await create_accounts([debit, credit], work)]
        if not all(serves):
            del debits[: not serves[0]], credits[: not serves[1]]
            continue
        transfer = booking.transfer(transfer_id, debit, credit)
        balances = await store.lock_balances(work, {debit.account_id, credit.account_id})
        await load_timelines(work, balances.values(), [transfer])
        books = Books(balances, work.now, closed_through=closed_through)
        (verdict,) = evaluate([transfer], books).verdicts
        if verdict.result is TransferResult.OK:
            return transfer
        if verdict.result is _CLOSED and booking.effective_at is not None:
            booking = replace(booking, effective_at=None)
            continue
        at_debit = payments.debit_is_at_fault(verdict.result)
        if at_debit is None:
            raise payments.not_bookable(payment_id, str(transfer_id), verdict.result.name)
        (debits if at_debit else credits).pop(0)
    raise payments.not_bookable(payment_id, str(transfer_id), "NO_ACCOUNT_LEFT")


def _tell_of_suspense(work: UnitOfWork, transfer: Transfer, payment_id: str) -> None:
    if payments.in_suspense(transfer):
        message = (
            f"payment {payment_id} is booked from {transfer.debit_account_id} to {transfer.credit_account_id}:"
            " the account of the processor or of the payer refused it"
        )
        work.violation(PAYMENT_IN_SUSPENSE, "HIGH", message, subject_id=payment_id)
