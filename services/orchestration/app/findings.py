"""What others than the engine learn of an attempt: a processor's word that nobody asked for, an operator's verdict."""

from __future__ import annotations

from services.orchestration.app.engine import LEASE_MARGIN_MS
from services.orchestration.app.payments import Payments
from services.orchestration.app.settling import Settling, report
from services.orchestration.domain.findings import Heard, Told, resolved, told, too_much
from services.orchestration.domain.instructions import Resolve, check_manual, under_way
from services.orchestration.domain.issues import MESSAGE_MAX, sanitized
from services.orchestration.domain.payment import Attempt, Rest, decide
from services.orchestration.domain.record import Payment
from services.orchestration.ports import Runs
from services.orchestration.store import payments as store
from services.runtime.commands import Commands
from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.ids import new_id
from services.runtime.work import Claim


class Seizing:
    """Changes a payment that no worker holds, and lets this process work on it from there."""

    def __init__(self, settling: Settling, payments: Payments, runs: Runs) -> None:
        self._settling = settling
        self._payments = payments
        self._runs = runs

    async def look(self, work: UnitOfWork, attempt_id: str) -> tuple[Payment, Attempt, bool]:
        """Lock a payment by one of its attempts; returns both, and whether a worker holds it.

        Raises:
            NotFound: there is no such attempt.
        """
        locked = await store.lock_by_attempt(work, attempt_id)
        if locked is None:
            raise NotFound("attempt", attempt_id)
        payment_id, leased = locked
        (payment,) = await store.load(work, [payment_id])
        (attempt,) = (a for a in payment.work.attempts if a.attempt_id == attempt_id)
        return payment, attempt, leased

    async def write(self, work: UnitOfWork, payment: Payment, attempt: Attempt, told: Told) -> None:
        """Store an attempt's new state; what it leaves to be done is begun with the commit."""
        call = current()
        leasing = store.Leasing(call, self._runs.owner, LEASE_MARGIN_MS)
        epoch = await store.seize(work, payment.payment_id, leasing)
        lease = Claim(
            call.tenant_id,
            payment.payment_id,
            epoch,
            call.correlation_id,
            call.causation_id,
            traceparent=call.traceparent,
        )
        before = payment.status
        payment = await self._settling.write(work, lease, payment, attempt, told.breach)
        if payment.status is not before:
            return
        if isinstance(decide(payment.work), Rest):
            await store.release(work, lease, payment.status, None)
        else:
            work.after_commit(lambda: self._payments.begin(lease))


class ResolveAttempt:
    """Takes an operator's verdict on an attempt that no processor can prove."""

    def __init__(self, seizing: Seizing, payments: Payments, commands: Commands) -> None:
        self._seizing = seizing
        self._payments = payments
        self._commands = commands

    async def __call__(
        self, command: Resolve, request_id: str, fingerprint: bytes
    ) -> tuple[Payment, Attempt]:
        """Store a verdict, audited, and work on its payment for as long as the caller waits.

        Raises:
            NotFound: there is no such attempt.
            AttemptNotManual: no verdict on it is wanted.
            PaymentUnderWay: a worker is at the payment.
            RequestIdReused: the request_id came before with another body.
        """

        async def take(command: Resolve, work: UnitOfWork) -> str:
            return await self._take(command, request_id, fingerprint, work)

        payment_id = await self._commands.apply("orchestration.resolve", take, command)
        payment = await self._payments.reached(payment_id)
        (attempt,) = (a for a in payment.work.attempts if a.attempt_id == command.attempt_id)
        return payment, attempt

    async def _take(
        self, command: Resolve, request_id: str, fingerprint: bytes, work: UnitOfWork
    ) -> str:
        payment, attempt, leased = await self._seizing.look(work, command.attempt_id)
        # The name of its records, and what they say: never change either.
        name = "orchestration.resolve_attempt"
        new = new_id("res")
        if await self._commands.claim_for(work, name, request_id, fingerprint, new) != new:
            return payment.payment_id
        check_manual(attempt)
        if leased:
            raise under_way(payment)
        evidence = sanitized(command.evidence, MESSAGE_MAX)
        by = current().principal_id
        after = resolved(payment, attempt, command.verdict, by, evidence, work.now)
        work.audit(
            "payment_attempt",
            attempt.attempt_id,
            {"status": attempt.status.value},
            {
                "status": after.status.value,
                "verdict": command.verdict.value,
                "evidence": evidence,
                "payment_id": payment.payment_id,
            },
        )
        await self._seizing.write(work, payment, after, Told(after, too_much(after)))
        return payment.payment_id


class ApplyFinding:
    """Takes a processor's word about an attempt: from its webhooks, from a reconciliation."""

    def __init__(self, seizing: Seizing) -> None:
        self._seizing = seizing

    async def __call__(self, heard: Heard, work: UnitOfWork) -> Told:
        """Apply a word in the caller's transaction, e.g. beside the event that brought it.

        The same word again, or one that is older than what is known, changes nothing.

        Raises:
            NotFound: no attempt has this reference.
            PaymentUnderWay: a worker is at the payment, and may be hearing the same; come again in a moment.
        """
        payment, attempt, leased = await self._seizing.look(work, heard.merchant_ref)
        found = told(payment, attempt, heard, work.now)
        if found.attempt is None:
            if found.breach is not None:
                report(work, payment, found.breach)
            return found
        if leased:
            raise under_way(payment)
        await self._seizing.write(work, payment, found.attempt, found)
        return found
