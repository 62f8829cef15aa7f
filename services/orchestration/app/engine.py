"""Carries a payment through: store as sent, send, settle; and the same again after a death at any point.

What comes next is always decided from stored state (`domain.payment.decide`), so the first run and every recovery
are one path. No transaction is open while a processor is asked.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic
from typing import TypeVar

from services.orchestration import facts
from services.orchestration.app.bookings import Bookings, compare
from services.orchestration.domain import measures, outcome
from services.orchestration.domain.booking import is_booked
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.payment import (
    AT_REST,
    OPEN,
    VERIFY_SCHEDULE,
    Attempt,
    AttemptStatus,
    Discard,
    Doubt,
    Finish,
    Follow,
    Rest,
    Take,
    Verify,
    decide,
    due_at,
    status_of,
)
from services.orchestration.domain.record import Payment
from services.orchestration.ports import (
    Finding,
    Inquiry,
    NotFound,
    NotSent,
    Order,
    Pending,
    Processor,
    Processors,
    Settled,
    Unknown,
    Verdict,
)
from services.orchestration.store import payments as store
from services.runtime.clock import Clock
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.ids import new_id
from services.runtime.leases import LeaseLost, Term
from services.runtime.work import Claim

# A lease outlives what it covers by this much: one transaction, or the return from a processor.
LEASE_MARGIN_MS = 3_000
# While the caller waits, an unknown outcome is asked after once more after this time.
QUICK_QUESTION_SECONDS = 0.2

ROUTER_TIMEOUT = "router/timeout"
UNKNOWN_OUTCOME = "orchestration/unknown-outcome"
PROCESSOR_INTEGRITY = "orchestration/processor-integrity"
COMPENSATION_STUCK = "orchestration/compensation-stuck"

ResultT = TypeVar("ResultT", Verdict, Finding)


class Engine:
    """Works on payments whose lease it holds.

    Args:
        key_secret: makes idempotency keys that nobody can guess; the keys are stored, so it may change.
        bookings: told of every success.
        wake: tells the worker of this process that something is to be booked.
    """

    def __init__(
        self,
        database: Database,
        processors: Processors,
        clock: Clock,
        key_secret: bytes,
        bookings: Bookings,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._processors = processors
        self._clock = clock
        self._key_secret = key_secret
        self._bookings = bookings
        self._wake = wake

    async def run(self, lease: Claim, *, waited_for: bool) -> None:
        """Work until the payment ends or nothing is due; `waited_for` allows one quick question more.

        Raises:
            LeaseLost: another worker took the payment over; nothing was written since.
            DomainError: the database went away; what is stored is continued once the lease has run out.
        """
        async with self._database.read() as work:
            (payment,) = await store.load(work, [lease.item_id])
        quick = waited_for
        while True:
            action = decide(payment.work)
            if isinstance(action, Rest):
                return await self._park(lease, payment, None)
            due = due_at(action)
            if due is not None and due > self._clock.now():
                if not (quick and isinstance(action, Verify)):
                    return await self._park(lease, payment, due)
                quick = False
                await asyncio.sleep(QUICK_QUESTION_SECONDS)
            # What leaves nothing but the end to do has ended the payment in its own transaction.
            assert not isinstance(action, Finish)
            before = payment.status
            payment = await self._go_on(lease, payment, action)
            if payment.status in AT_REST and payment.status is not before:
                return None

    async def _go_on(
        self, lease: Claim, payment: Payment, action: Take | Follow | Discard | Doubt | Verify
    ) -> Payment:
        match action:
            case Take():
                return await self._take(lease, payment, action)
            case Follow():
                return await self._follow(lease, payment, action)
            case Discard(attempt):
                return await self._settle(
                    lease, payment, outcome.voided(attempt, self._clock.now())
                )
            case Doubt(attempt):
                return await self._doubt(lease, payment, attempt, "interrupted after sending")
            case Verify(attempt):
                return await self._verify(lease, payment, attempt)

    # ---- sending

    async def _take(self, lease: Claim, payment: Payment, action: Take) -> Payment:
        progress = payment.work
        attempt = self._new_attempt(
            Operation.AUTHORIZE if progress.holds else Operation.CHARGE,
            action.step_index,
            len(progress.taking(action.step_index)) + 1,
            action.processor_id,
            progress.steps[action.step_index].amount_minor,
        )
        return await self._send(lease, payment, attempt)

    async def _follow(self, lease: Claim, payment: Payment, action: Follow) -> Payment:
        parent = action.parent
        attempt = self._new_attempt(
            action.operation,
            parent.step_index,
            action.number,
            parent.processor_id,
            action.amount_minor,
        )
        attempt = replace(
            attempt,
            parent_id=parent.attempt_id,
            instruction_id=action.instruction_id,
            closes=action.closes,
        )
        return await self._send(lease, payment, attempt)

    def _new_attempt(
        self,
        operation: Operation,
        step_index: int,
        number: int,
        processor_id: str,
        amount_minor: int,
    ) -> Attempt:
        attempt_id = new_id("att")
        # One key an attempt, never one an order: another instrument under the same key is refused by processors.
        digest = hmac.digest(self._key_secret, attempt_id.encode(), hashlib.sha256)
        now = self._clock.now()
        return Attempt(
            attempt_id=attempt_id,
            step_index=step_index,
            number=number,
            operation=operation,
            processor_id=processor_id,
            amount_minor=amount_minor,
            idempotency_key=base64.b32encode(digest).decode().rstrip("="),
            status=AttemptStatus.SENT,
            created_at=now,
            sent_at=now,
        )

    async def _send(self, lease: Claim, payment: Payment, attempt: Attempt) -> Payment:
        ordinal = len(payment.work.attempts)
        payment = payment.with_attempt(attempt)
        timeout_ms = payment.work.policy.call_timeout_ms
        # Before anything is written: what cannot be read now is read when the payment is continued.
        processor = await self._processor(payment, attempt)
        term = Term(timeout_ms + LEASE_MARGIN_MS, monotonic)
        async with self._database.unit_of_work("orchestration.attempt.send") as work:
            await self._hold(work, lease, payment, lease_ms=timeout_ms + LEASE_MARGIN_MS)
            store.insert_attempt(work, payment.payment_id, ordinal, attempt)
        # From here on the processor may act: whatever happens before it is settled leaves the outcome unknown.
        crashpoint("orchestration.payment.before_send")
        if not term.covers(timeout_ms / 1000):
            # This process slept: another may have taken over before this call could end. The epoch keeps us from
            # writing, and only this keeps us from sending.
            raise LeaseLost(payment.payment_id)
        verdict = await self._ask_to_act(processor, payment, attempt)
        crashpoint("orchestration.payment.after_send")
        return await self._conclude(lease, payment, attempt, verdict)

    async def _processor(self, payment: Payment, attempt: Attempt) -> Processor | None:
        of_merchant = await self._processors.of(payment.merchant_id, payment.config_version)
        return of_merchant.get(attempt.processor_id)

    async def _ask_to_act(
        self, processor: Processor | None, payment: Payment, attempt: Attempt
    ) -> Verdict:
        if processor is None:
            return NotSent("no adapter for this processor")
        order = self._order(payment, attempt)
        return await _bounded(processor.ask(attempt.operation, order), payment)

    def _order(self, payment: Payment, attempt: Attempt) -> Order:
        parent = next((a for a in payment.work.attempts if a.attempt_id == attempt.parent_id), None)
        return Order(
            idempotency_key=attempt.idempotency_key,
            merchant_ref=attempt.attempt_id,
            amount_minor=attempt.amount_minor,
            currency=payment.currency,
            token=payment.work.steps[attempt.step_index].token,
            parent_key=parent.idempotency_key if parent else "",
            parent_ref=parent.provider_ref if parent else "",
            closes=attempt.closes,
            timeout_ms=payment.work.policy.call_timeout_ms,
        )

    def _inquiry(self, payment: Payment, attempt: Attempt) -> Inquiry:
        order = self._order(payment, attempt)
        since = attempt.sent_at or attempt.created_at
        return Inquiry(attempt.operation, order, since, attempt.provider_ref)

    # ---- concluding

    async def _conclude(
        self, lease: Claim, payment: Payment, attempt: Attempt, verdict: Verdict
    ) -> Payment:
        now = self._clock.now()
        match verdict:
            case Settled():
                return await self._conclude_settled(lease, payment, attempt, verdict)
            case NotSent(reason):
                return await self._settle(lease, payment, outcome.not_sent(attempt, reason, now))
            case Pending(provider_ref):
                attempt = replace(attempt, provider_ref=provider_ref)
                open_ = outcome.in_doubt(attempt, AttemptStatus.PENDING, "pending", now)
                return await self._settle(lease, payment, open_)
            case Unknown(reason, provider_ref):
                attempt = replace(attempt, provider_ref=provider_ref or attempt.provider_ref)
                return await self._doubt(lease, payment, attempt, reason)

    async def _conclude_settled(
        self, lease: Claim, payment: Payment, attempt: Attempt, settled: Settled
    ) -> Payment:
        now = self._clock.now()
        if not _answers(settled, payment, attempt):
            return await self._distrust(lease, payment, attempt, settled)
        if settled.done:
            return await self._settle(
                lease, payment, outcome.done(attempt, settled.provider_ref, now)
            )
        refused = outcome.declined(
            attempt,
            payment.work.steps[attempt.step_index].method,
            now,
            provider_ref=settled.provider_ref,
            error_code=settled.error_code or "unknown",
            failure_code=settled.failure_code or "other",
            retryable=settled.retryable,
            message=settled.message,
        )
        return await self._settle(lease, payment, refused)

    async def _distrust(
        self, lease: Claim, payment: Payment, attempt: Attempt, settled: Settled
    ) -> Payment:
        """An answer about another amount or order is no answer: the outcome is unknown, and somebody is told."""
        message = (
            f"{attempt.processor_id} answered with {settled.amount_minor} {settled.currency} for"
            f" {settled.merchant_ref}; requested were {attempt.amount_minor} {payment.currency}"
        )
        now = self._clock.now()
        if attempt.status is AttemptStatus.SENT:
            attempt = outcome.in_doubt(attempt, AttemptStatus.UNKNOWN, "answer does not match", now)
        open_ = outcome.after_inquiry(attempt, now, found=True, settle_window=timedelta(0))
        violation = (PROCESSOR_INTEGRITY, "CRITICAL", message)
        return await self._settle(lease, payment, open_, violation=violation)

    async def _doubt(
        self, lease: Claim, payment: Payment, attempt: Attempt, reason: str
    ) -> Payment:
        unknown = outcome.in_doubt(attempt, AttemptStatus.UNKNOWN, reason, self._clock.now())
        violation = (ROUTER_TIMEOUT, "MEDIUM", f"{attempt.processor_id}: outcome unknown, {reason}")
        return await self._settle(lease, payment, unknown, violation=violation)

    async def _verify(self, lease: Claim, payment: Payment, attempt: Attempt) -> Payment:
        """Ask the same processor what became of an attempt; never another one, whatever it answers."""
        processor = await self._processor(payment, attempt)
        finding: Finding = Unknown("no adapter for this processor")
        async with self._database.unit_of_work("orchestration.attempt.verify") as work:
            lease_ms = payment.work.policy.call_timeout_ms + LEASE_MARGIN_MS
            await self._hold(work, lease, payment, lease_ms=lease_ms)
        crashpoint("orchestration.payment.before_verify")
        if processor is not None:
            finding = await _bounded(processor.lookup(self._inquiry(payment, attempt)), payment)
        crashpoint("orchestration.payment.after_verify")
        if isinstance(finding, Settled):
            return await self._conclude_settled(lease, payment, attempt, finding)
        # An order may be on its way for as long as its call may take; only then its absence begins to count.
        window = timedelta(milliseconds=payment.work.policy.call_timeout_ms)
        window += processor.capabilities.settle_window if processor else VERIFY_SCHEDULE[-1]
        open_ = outcome.after_inquiry(
            attempt,
            self._clock.now(),
            found=not isinstance(finding, NotFound),
            settle_window=window,
        )
        violation = None
        if open_.verify_count == len(VERIFY_SCHEDULE) + 1 and open_.status in OPEN:
            message = f"{attempt.processor_id} does not know the outcome of {attempt.attempt_id}"
            violation = (UNKNOWN_OUTCOME, "HIGH", message)
        return await self._settle(lease, payment, open_, violation=violation)

    # ---- writing

    async def _settle(
        self,
        lease: Claim,
        payment: Payment,
        attempt: Attempt,
        *,
        violation: tuple[str, str, str] | None = None,
    ) -> Payment:
        """Store an attempt's new state with its events; the last one ends the payment in the same transaction."""
        before = {each.attempt_id: each.status for each in payment.work.attempts}
        payment = payment.with_attempt(attempt)
        async with self._database.unit_of_work("orchestration.attempt.settle") as work:
            await self._hold(work, lease, payment)
            if attempt.done and is_booked(attempt):
                self._bookings.record(work, payment, attempt)
                work.after_commit(self._wake)
            store.update_attempt(work, attempt)
            if before.get(attempt.attempt_id) is not attempt.status:
                _count(work, payment, attempt)
            self._publish_attempt(work, payment, attempt)
            if violation is not None:
                _report(work, payment, *violation)
            action = decide(payment.work)
            if isinstance(action, Finish):
                payment = await self._end(work, lease, payment, action)
                # What has just succeeded is not in the books yet: whoever books it compares.
                if not (attempt.done and is_booked(attempt)):
                    await compare(work, payment)
        return payment

    def _publish_attempt(self, work: UnitOfWork, payment: Payment, attempt: Attempt) -> None:
        if attempt.status in OPEN:
            return
        event = facts.of_attempt(payment, attempt)
        if event is not None:
            work.publish(event)
        # What is given back by itself, and not on somebody's instruction who sees the answer.
        refused = attempt.status is AttemptStatus.DECLINED
        if refused and not attempt.takes and not attempt.instruction_id:
            asked = attempt.operation.value.lower()
            message = f"{attempt.processor_id} refuses to {asked} {attempt.parent_id}"
            _report(work, payment, COMPENSATION_STUCK, "CRITICAL", message)

    async def _end(
        self, work: UnitOfWork, lease: Claim, payment: Payment, action: Finish
    ) -> Payment:
        await store.release(work, lease, action.status, None)
        status = action.status.value.lower()
        work.count(measures.PAYMENTS, 1, status=status, currency=payment.currency)
        ended = payment.with_status(action.status)
        for event in facts.of_end(ended, work.now):
            work.publish(event)
        return ended

    async def _park(self, lease: Claim, payment: Payment, due: datetime | None) -> None:
        async with self._database.unit_of_work("orchestration.payment.park") as work:
            await store.release(work, lease, status_of(payment.work), due)

    async def _hold(
        self, work: UnitOfWork, lease: Claim, payment: Payment, lease_ms: int = LEASE_MARGIN_MS
    ) -> None:
        await store.hold(work, lease, status_of(payment.work), lease_ms)


def _count(work: UnitOfWork, payment: Payment, attempt: Attempt) -> None:
    by = {"processor": attempt.processor_id, "operation": attempt.operation.value.lower()}
    work.count(measures.ATTEMPTS, 1, **by, outcome=attempt.status.value.lower())
    if attempt.status is AttemptStatus.SUCCEEDED:
        work.count(measures.PROCESSED, attempt.amount_minor, **by, currency=payment.currency)


async def _bounded(call: Awaitable[ResultT], payment: Payment) -> ResultT | Unknown:
    """Await a processor for as long as the policy allows; whatever goes wrong, the outcome is unknown."""
    try:
        async with asyncio.timeout(payment.work.policy.call_timeout_ms / 1000):
            return await call
    except TimeoutError:
        return Unknown("timeout")
    except Exception as error:  # an adapter's fault must not decide about money
        return Unknown(f"{type(error).__name__} in the adapter")


def _answers(settled: Settled, payment: Payment, attempt: Attempt) -> bool:
    """True when an answer speaks about what was asked."""
    return (
        settled.merchant_ref == attempt.attempt_id
        and settled.amount_minor == attempt.amount_minor
        and settled.currency == payment.currency
    )


def _report(
    work: UnitOfWork, payment: Payment, contract_id: str, severity: str, message: str
) -> None:
    work.violation(
        contract_id,
        severity,
        message,
        request_id=payment.request_key,
        subject_id=payment.payment_id,
    )
