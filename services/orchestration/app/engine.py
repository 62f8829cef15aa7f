"""Carries a payment through: store as sent, send, settle; and the same again after a death at any point.

What comes next is always decided from stored state (`domain.payment.decide`), so the first run and every recovery
are one path. No transaction is open while a processor is asked.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic

from services.orchestration.app.asking import bounded, heard_of, inquiry_of, order_of
from services.orchestration.app.settling import Settling
from services.orchestration.domain import outcome
from services.orchestration.domain.findings import (
    MANUAL_OUTCOME,
    Breach,
    Heard,
    Word,
    answers,
    mismatch,
    refused,
    too_much,
)
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
from services.orchestration.domain.retries import (
    LOOKED_BACK,
    TRIES_MAX,
    Withheld,
    instrument_of,
    scheme_of,
    withheld,
)
from services.orchestration.ports import (
    Finding,
    NotFound,
    NotSent,
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
# For so long a processor that can be asked is asked, whatever it answers.
LOOKED_UP_FOR = timedelta(hours=24)
# An order that is sent again must arrive while the processor still knows its key.
KEY_MARGIN = timedelta(minutes=10)
# While the caller waits, an unknown outcome is asked after once more after this time.
QUICK_QUESTION_SECONDS = 0.2
# So long a processor is waited for without handing the payment back; shorter than a lease.
SHORT_WAIT = timedelta(seconds=1)

ROUTER_TIMEOUT = "router/timeout"
UNKNOWN_OUTCOME = "orchestration/unknown-outcome"


class Engine:
    """Works on payments whose lease it holds.

    Args:
        key_secret: makes idempotency keys that nobody can guess; the keys are stored, so it may change.
        settling: writes outcomes.
    """

    def __init__(
        self,
        database: Database,
        processors: Processors,
        clock: Clock,
        key_secret: bytes,
        settling: Settling,
    ) -> None:
        self._database = database
        self._processors = processors
        self._clock = clock
        self._key_secret = key_secret
        self._settling = settling

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
            wait = (due - self._clock.now()) if due is not None else timedelta(0)
            if wait > timedelta(0):
                if isinstance(action, Take) and wait <= SHORT_WAIT:
                    await asyncio.sleep(wait.total_seconds())
                elif quick and isinstance(action, Verify):
                    quick = False
                    await asyncio.sleep(QUICK_QUESTION_SECONDS)
                else:
                    return await self._park(lease, payment, due)
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
            progress.begins_with(action.step_index),
            action.step_index,
            len(progress.taking(action.step_index)) + 1,
            action.processor_id,
            progress.steps[action.step_index].amount_minor,
        )
        token = progress.steps[action.step_index].token
        attempt = replace(
            attempt,
            instrument=instrument_of(payment.merchant_id, token),
            processor_of=self._processors.owner_of(payment.merchant_id, attempt.processor_id),
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
        before, payment = payment, payment.with_attempt(attempt)
        timeout_ms = payment.work.policy.call_timeout_ms
        # Before anything is written: what cannot be read now is read when the payment is continued.
        processor = await self._processor(payment, attempt)
        term = Term(timeout_ms + LEASE_MARGIN_MS, monotonic)
        async with self._database.unit_of_work("orchestration.attempt.send") as work:
            await self._hold(work, lease, payment, lease_ms=timeout_ms + LEASE_MARGIN_MS)
            why = await self._withheld(work, payment, attempt)
            if why is not None:
                method = payment.work.steps[attempt.step_index].method
                attempt = outcome.withheld(attempt, why, method, self._clock.now())
            store.insert_attempt(work, payment.payment_id, ordinal, attempt)
            if why is not None:
                return await self._settling.write(work, lease, before, attempt)
        # From here on the processor may act: whatever happens before it is settled leaves the outcome unknown.
        crashpoint("orchestration.payment.before_send")
        if not term.covers(timeout_ms / 1000):
            # This process slept: another may have taken over before this call could end. The epoch keeps us from
            # writing, and only this keeps us from sending.
            raise LeaseLost(payment.payment_id)
        verdict = await self._ask_to_act(processor, payment, attempt)
        crashpoint("orchestration.payment.after_send")
        return await self._conclude(lease, payment, attempt, verdict)

    async def _withheld(
        self, work: UnitOfWork, payment: Payment, attempt: Attempt
    ) -> Withheld | None:
        """Say why an instrument must not be tried; others that would try it wait until this transaction ends."""
        if not attempt.instrument:
            return None
        now = self._clock.now()
        tried = await store.tried(work, attempt.instrument, now - LOOKED_BACK, TRIES_MAX)
        return withheld(scheme_of(payment.bin_of(attempt.step_index)), tried, now)

    async def _processor(self, payment: Payment, attempt: Attempt) -> Processor | None:
        of_merchant = await self._processors.of(payment.merchant_id, payment.config_version)
        return of_merchant.get(attempt.processor_id)

    async def _ask_to_act(
        self, processor: Processor | None, payment: Payment, attempt: Attempt
    ) -> Verdict:
        if processor is None:
            return NotSent("no adapter for this processor")
        order = order_of(payment, attempt)
        return await bounded(processor.ask(attempt.operation, order), payment)

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
        heard = heard_of(settled)
        if not answers(payment, attempt, heard):
            return await self._distrust(lease, payment, attempt, heard)
        if heard.word is Word.REFUSED:
            return await self._settle(lease, payment, refused(payment, attempt, heard, now))
        done = outcome.done(payment.work, attempt, heard.provider_ref, now)
        return await self._settle(lease, payment, done, breach=too_much(done))

    async def _distrust(
        self, lease: Claim, payment: Payment, attempt: Attempt, heard: Heard
    ) -> Payment:
        """An answer about another amount or order is no answer: the outcome is unknown, and somebody is told."""
        now = self._clock.now()
        breach = mismatch(payment, attempt, heard)
        if attempt.status is AttemptStatus.SENT:
            attempt = outcome.in_doubt(attempt, AttemptStatus.UNKNOWN, "answer does not match", now)
        provable = _provable(await self._processor(payment, attempt), payment, attempt)
        open_ = outcome.after_inquiry(attempt, now, found=True, provable=provable)
        return await self._settle(lease, payment, open_, breach=breach)

    async def _doubt(
        self, lease: Claim, payment: Payment, attempt: Attempt, reason: str
    ) -> Payment:
        unknown = outcome.in_doubt(attempt, AttemptStatus.UNKNOWN, reason, self._clock.now())
        message = f"{attempt.processor_id}: outcome unknown, {reason}"
        breach = Breach(ROUTER_TIMEOUT, "MEDIUM", message)
        return await self._settle(lease, payment, unknown, breach=breach)

    async def _verify(self, lease: Claim, payment: Payment, attempt: Attempt) -> Payment:
        """Find out at the same processor what became of an attempt; never at another one, whatever it answers.

        It is asked for the outcome. Where it cannot tell, the same order is sent again under the same key, as long as
        the processor knows that key.
        """
        processor = await self._processor(payment, attempt)
        finding: Finding = Unknown("no adapter for this processor")
        provable = _provable(processor, payment, attempt)
        async with self._database.unit_of_work("orchestration.attempt.verify") as work:
            lease_ms = payment.work.policy.call_timeout_ms + LEASE_MARGIN_MS
            await self._hold(work, lease, payment, lease_ms=lease_ms)
        crashpoint("orchestration.payment.before_verify")
        if processor is not None and provable.asks:
            finding = await bounded(processor.lookup(inquiry_of(payment, attempt)), payment)
        crashpoint("orchestration.payment.after_verify")
        now = self._clock.now()
        if isinstance(finding, Unknown) and _may_replay(processor, attempt, now):
            attempt, finding = await self._replay(lease, processor, payment, attempt)
            now = self._clock.now()
        if isinstance(finding, Settled):
            return await self._conclude_settled(lease, payment, attempt, finding)
        if isinstance(finding, Pending):
            open_ = outcome.pending(attempt, finding.provider_ref, now)
            return await self._settle(lease, payment, open_)
        missing = isinstance(finding, NotFound)
        open_ = outcome.after_inquiry(attempt, now, found=not missing, provable=provable)
        return await self._settle(lease, payment, open_, breach=_unproved(open_))

    async def _replay(
        self, lease: Claim, processor: Processor | None, payment: Payment, attempt: Attempt
    ) -> tuple[Attempt, Finding]:
        """Send the same order again under the same key; marked first, since from here on it may act anew."""
        attempt = replace(attempt, replayed_at=self._clock.now())
        timeout_ms = payment.work.policy.call_timeout_ms
        term = Term(timeout_ms + LEASE_MARGIN_MS, monotonic)
        async with self._database.unit_of_work("orchestration.attempt.replay") as work:
            await self._hold(work, lease, payment, lease_ms=timeout_ms + LEASE_MARGIN_MS)
            store.update_attempt(work, attempt)
        crashpoint("orchestration.attempt.replay.before_send")
        if not term.covers(timeout_ms / 1000):
            raise LeaseLost(payment.payment_id)
        verdict = await self._ask_to_act(processor, payment, attempt)
        crashpoint("orchestration.attempt.replay.after_send")
        return attempt, Unknown(verdict.reason) if isinstance(verdict, NotSent) else verdict

    # ---- writing

    async def _settle(
        self,
        lease: Claim,
        payment: Payment,
        attempt: Attempt,
        *,
        breach: Breach | None = None,
    ) -> Payment:
        """Store an attempt's new state, with all that follows from it."""
        async with self._database.unit_of_work("orchestration.attempt.settle") as work:
            await self._hold(work, lease, payment.with_attempt(attempt))
            return await self._settling.write(work, lease, payment, attempt, breach)

    async def _park(self, lease: Claim, payment: Payment, due: datetime | None) -> None:
        async with self._database.unit_of_work("orchestration.payment.park") as work:
            await store.release(work, lease, status_of(payment.work), due)

    async def _hold(
        self, work: UnitOfWork, lease: Claim, payment: Payment, lease_ms: int = LEASE_MARGIN_MS
    ) -> None:
        await store.hold(work, lease, status_of(payment.work), lease_ms)


def _may_replay(processor: Processor | None, attempt: Attempt, now: datetime) -> bool:
    """Say whether an order may be sent again: the processor must still know its key when it arrives."""
    if processor is None or not processor.capabilities.replay_key or attempt.sent_at is None:
        return False
    until = attempt.sent_at + processor.capabilities.key_ttl - KEY_MARGIN
    return attempt.status is AttemptStatus.UNKNOWN and now < until


def _provable(processor: Processor | None, payment: Payment, attempt: Attempt) -> outcome.Provable:
    """Say how an outcome can be proved, and for how long."""
    # An order may be on its way for as long as its call may take; only then its absence begins to count.
    window = timedelta(milliseconds=payment.work.policy.call_timeout_ms)
    sent_at = attempt.sent_at or attempt.created_at
    if processor is None:
        # It may be configured again; nobody can say anything before.
        window += VERIFY_SCHEDULE[-1]
        return outcome.Provable(window, sent_at + LOOKED_UP_FOR)
    capable = processor.capabilities
    window += capable.settle_window
    looked_up = LOOKED_UP_FOR if capable.lookup_by_ref else timedelta(0)
    replayed = capable.key_ttl if capable.replay_key else timedelta(0)
    until = sent_at + max(window, looked_up, replayed)
    return outcome.Provable(window, until, capable.lookup_by_ref)


def _unproved(attempt: Attempt) -> Breach | None:
    """Say so once when the schedule is over, and again when it is left to an operator."""
    if attempt.is_manual:
        message = (
            f"nothing proves the outcome of {attempt.attempt_id} any more: find it out in the books of"
            f" {attempt.processor_id}, and tell it with ResolveAttempt"
        )
        return Breach(MANUAL_OUTCOME, "CRITICAL", message)
    if attempt.verify_count == len(VERIFY_SCHEDULE) + 1 and attempt.status in OPEN:
        message = f"{attempt.processor_id} does not know the outcome of {attempt.attempt_id}"
        return Breach(UNKNOWN_OUTCOME, "HIGH", message)
    return None
