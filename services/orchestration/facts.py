"""What payments publish: the events of the seeds, each built from stored state."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from payments.events.v1 import orchestration_events_pb2 as events

from services.orchestration.domain.booking import is_booked
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.payment import Attempt, PaymentStatus, last_failure
from services.orchestration.domain.record import Payment

PATH = "active_charge"


def of_attempt(payment: Payment, attempt: Attempt) -> Message | None:
    """Return the event of a settled attempt.

    None for what moves no money (an authorisation, a void), for refunds that failed, and for what was never sent.
    """
    if attempt.operation is Operation.REFUND:
        return _refunded(payment, attempt) if attempt.done else None
    if attempt.operation is Operation.VOID:
        return None
    method = payment.work.steps[attempt.step_index].method
    if attempt.done or attempt.is_late:
        if not is_booked(attempt):
            return None
        return events.StepSucceeded(
            step_index=attempt.step_index,
            processor_id=attempt.processor_id,
            latency_ms=attempt.latency_ms,
            amount=attempt.amount_minor,
            currency=payment.currency,
            payment_id=payment.payment_id,
            attempt_id=attempt.attempt_id,
            payment_method=method,
            order_id=payment.order_id,
            person_id=payment.person_id,
            org_id=payment.org_id,
            settled_at=_settled_at(attempt),
        )
    if not attempt.error_code:
        return None
    return events.StepFailed(
        step_index=attempt.step_index,
        processor_id=attempt.processor_id,
        error_code=attempt.error_code,
        retryable=attempt.retryable,
        latency_ms=attempt.latency_ms,
        payment_id=payment.payment_id,
        attempt_id=attempt.attempt_id,
        payment_method=method,
    )


def of_end(payment: Payment, now: datetime) -> list[Message]:
    """Return the events with which a payment comes to rest.

    Exactly one of received and failed in its whole life: none while it is only authorised, or was given free.
    """
    if payment.status in (PaymentStatus.AUTHORIZED, PaymentStatus.VOIDED):
        return []
    if payment.status is PaymentStatus.FAILED:
        return [_failed(payment, now)]
    ended: list[Message] = []
    if payment.status is PaymentStatus.SUCCEEDED:
        ended.append(
            events.PaymentCompleted(
                total_amount=payment.total_minor,
                request_id=payment.request_key,
                currency=payment.currency,
                payment_id=payment.payment_id,
            )
        )
    return [*ended, _received(payment, now)]


def provider_ref(attempt: Attempt) -> str:
    """Return the processor's id of an attempt; where there is none, ours with the prefix that the seed asks for."""
    return attempt.provider_ref or f"ext_{attempt.attempt_id}"


def _refunded(payment: Payment, attempt: Attempt) -> events.StepRefunded:
    (charge,) = (a for a in payment.work.attempts if a.attempt_id == attempt.parent_id)
    return events.StepRefunded(
        step_index=attempt.step_index,
        processor_id=attempt.processor_id,
        latency_ms=attempt.latency_ms,
        amount=attempt.amount_minor,
        currency=payment.currency,
        payment_id=payment.payment_id,
        attempt_id=attempt.attempt_id,
        payment_method=payment.work.steps[attempt.step_index].method,
        order_id=payment.order_id,
        person_id=payment.person_id,
        org_id=payment.org_id,
        settled_at=_settled_at(attempt),
        charge_attempt_id=charge.attempt_id,
        charged_at=_settled_at(charge),
    )


def _received(payment: Payment, now: datetime) -> events.PaymentReceived:
    taken = payment.work.taken()
    largest = max(taken, key=lambda charge: charge.amount_minor)
    received = events.PaymentReceived(
        order_id=payment.order_id,
        person_id=payment.person_id,
        org_id=payment.org_id,
        payment_method=payment.work.steps[largest.step_index].method,
        payment_path=PATH,
        amount_cents=payment.work.captured_minor,
        currency=payment.currency,
        provider_ref=provider_ref(largest),
        received_at=_timestamp(now),
        payment_id=payment.payment_id,
        merchant_id=payment.merchant_id,
    )
    for charge in taken:
        received.steps.add(
            step_index=charge.step_index,
            processor_id=charge.processor_id,
            payment_method=payment.work.steps[charge.step_index].method,
            amount_cents=charge.amount_minor,
            attempt_id=charge.attempt_id,
            provider_ref=provider_ref(charge),
        )
    return received


def _failed(payment: Payment, now: datetime) -> events.PaymentFailed:
    failure = last_failure(payment.work)
    assert failure is not None, "a payment fails by a failed charge"
    return events.PaymentFailed(
        order_id=payment.order_id,
        person_id=payment.person_id,
        org_id=payment.org_id,
        payment_method=payment.work.steps[failure.step_index].method,
        payment_path=PATH,
        amount_cents=payment.total_minor,
        currency=payment.currency,
        provider_ref=provider_ref(failure),
        failed_at=_timestamp(now),
        failure_code=failure.failure_code,
        failure_reason=failure.message,
        payment_id=payment.payment_id,
        merchant_id=payment.merchant_id,
    )


def _settled_at(attempt: Attempt) -> Timestamp:
    assert attempt.settled_at is not None, "a settled attempt has its time"
    return _timestamp(attempt.settled_at)


def _timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
