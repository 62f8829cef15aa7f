"""How a processor is asked about an attempt, by whoever asks: the engine, or who takes its webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from services.orchestration.domain.findings import Heard, Word
from services.orchestration.domain.payment import Attempt
from services.orchestration.domain.record import Payment
from services.orchestration.ports import Finding, Inquiry, Order, Settled, Unknown, Verdict

ResultT = TypeVar("ResultT", Verdict, Finding)


def order_of(payment: Payment, attempt: Attempt) -> Order:
    """Return what a processor is asked to do for an attempt; the same each time."""
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


def inquiry_of(payment: Payment, attempt: Attempt) -> Inquiry:
    """Return the question what became of an attempt."""
    order = order_of(payment, attempt)
    since = attempt.sent_at or attempt.created_at
    return Inquiry(attempt.operation, order, since, attempt.provider_ref)


async def bounded(call: Awaitable[ResultT], payment: Payment) -> ResultT | Unknown:
    """Await a processor for as long as the policy allows; whatever goes wrong, the outcome is unknown."""
    try:
        async with asyncio.timeout(payment.work.policy.call_timeout_ms / 1000):
            return await call
    except TimeoutError:
        return Unknown("timeout")
    except Exception as error:  # an adapter's fault must not decide about money
        return Unknown(f"{type(error).__name__} in the adapter")


def heard_of(settled: Settled) -> Heard:
    """Return an outcome as a word about its attempt."""
    return Heard(
        Word.DONE if settled.done else Word.REFUSED,
        settled.merchant_ref,
        settled.amount_minor,
        settled.currency,
        settled.provider_ref,
        settled.error_code,
        settled.failure_code,
        settled.retryable,
        settled.message,
        settled.never_again,
    )
