"""Writes what became of an attempt, with all that follows from it in the same transaction: one way for every caller."""

from __future__ import annotations

from collections.abc import Callable

from services.orchestration import facts
from services.orchestration.app.bookings import Bookings, compare
from services.orchestration.domain import measures, outcome
from services.orchestration.domain.booking import is_booked
from services.orchestration.domain.findings import Breach
from services.orchestration.domain.payment import (
    OPEN,
    Attempt,
    AttemptStatus,
    Finish,
    Rest,
    decide,
    due_at,
)
from services.orchestration.domain.record import Payment
from services.orchestration.store import payments as store
from services.runtime.database import UnitOfWork
from services.runtime.work import Claim

COMPENSATION_STUCK = "orchestration/compensation-stuck"


class Settling:
    """Writes outcomes.

    Args:
        bookings: told of every success.
        wake: tells the worker of this process that something is to be booked.
    """

    def __init__(self, bookings: Bookings, wake: Callable[[], None]) -> None:
        self._bookings = bookings
        self._wake = wake

    async def write(
        self,
        work: UnitOfWork,
        lease: Claim,
        payment: Payment,
        attempt: Attempt,
        breach: Breach | None = None,
    ) -> Payment:
        """Store an attempt's new state with its events; the last one ends the payment in the same transaction.

        The payment's lease must be held.
        """
        before = {each.attempt_id: each.status for each in payment.work.attempts}
        payment = payment.with_attempt(attempt)
        changed = before.get(attempt.attempt_id) is not attempt.status
        moved = changed and is_booked(attempt)
        # Before the attempt: what settles one without a booking is of the release before.
        if moved:
            self._bookings.record(work, payment, attempt)
            work.after_commit(self._wake)
        store.update_attempt(work, attempt)
        undone = outcome.reversed_by(payment.work, attempt)
        if undone is not None:
            payment = payment.with_attempt(undone)
            store.update_attempt(work, undone)
            _count(work, payment, undone)
        if changed:
            _count(work, payment, attempt)
        _publish(work, payment, attempt)
        if breach is not None:
            report(work, payment, breach)
        action = decide(payment.work)
        if isinstance(action, Finish):
            payment = await self._end(work, lease, payment, action)
            # What has just succeeded is not in the books yet: whoever books it compares.
            if not moved:
                await compare(work, payment)
        return payment

    async def _end(
        self, work: UnitOfWork, lease: Claim, payment: Payment, action: Finish
    ) -> Payment:
        ended = payment.with_status(action.status)
        # What was taken too late may still wait to be given back.
        rest = decide(ended.work)
        due = None if isinstance(rest, Rest) else due_at(rest) or work.now
        await store.release(work, lease, action.status, due)
        status = action.status.value.lower()
        work.count(measures.PAYMENTS, 1, status=status, currency=payment.currency)
        for event in facts.of_end(ended, work.now):
            work.publish(event)
        return ended


def report(work: UnitOfWork, payment: Payment, breach: Breach) -> None:
    """Tell the contract monitor."""
    work.violation(
        breach.contract_id,
        breach.severity,
        breach.message,
        request_id=payment.request_key,
        subject_id=payment.payment_id,
    )


def _publish(work: UnitOfWork, payment: Payment, attempt: Attempt) -> None:
    if attempt.status in OPEN or attempt.is_manual:
        return
    event = facts.of_attempt(payment, attempt)
    if event is not None:
        work.publish(event)
    # What is given back by itself, and not on somebody's instruction who sees the answer.
    refused = attempt.status is AttemptStatus.DECLINED
    if refused and not attempt.takes and not attempt.instruction_id:
        asked = attempt.operation.value.lower()
        message = f"{attempt.processor_id} refuses to {asked} {attempt.parent_id}"
        report(work, payment, Breach(COMPENSATION_STUCK, "CRITICAL", message))


def _count(work: UnitOfWork, payment: Payment, attempt: Attempt) -> None:
    by = {"processor": attempt.processor_id, "operation": attempt.operation.value.lower()}
    work.count(measures.ATTEMPTS, 1, **by, outcome=attempt.status.value.lower())
    if attempt.status is AttemptStatus.SUCCEEDED:
        work.count(measures.PROCESSED, attempt.amount_minor, **by, currency=payment.currency)
