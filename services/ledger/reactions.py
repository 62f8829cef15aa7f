"""What the ledger does on others' events: it books what processors charged and gave back for payments.

Each fact brings what it takes to book everything before it, so that the books come right whichever facts of a payment
were published by a release that booked payments only at their end.
"""

from __future__ import annotations

from payments.events.v1.orchestration_events_pb2 import (
    PaymentFailed,
    PaymentReceived,
    StepRefunded,
    StepSucceeded,
)

from services.ledger.app.payments import book_charge, book_refund, check_payment
from services.ledger.domain.payments import Charge
from services.runtime.database import UnitOfWork
from services.runtime.edge.values import moment_of, moment_or_none
from services.runtime.events.envelope import Envelope, Reaction


async def on_payment(work: UnitOfWork, envelope: Envelope) -> None:
    """Book what a fact of a payment says, in the dispatcher's own transaction.

    Raises:
        PaymentNotBookable: no account can take it; the event waits as a dead letter.
    """
    match envelope.payload:
        case StepSucceeded() as fact:
            # Earlier releases did not name the payer here; their charges are booked by a later fact.
            if fact.HasField("settled_at"):
                await book_charge(work, _charge(fact))
        case StepRefunded() as fact:
            refunded_at = moment_of(fact.settled_at)
            await book_refund(work, _refunded_charge(fact), fact.attempt_id, refunded_at)
        case PaymentReceived() as fact:
            for charge in _kept_charges(fact):
                await book_charge(work, charge)
            await check_payment(work, fact.payment_id, fact.amount_cents)
        case PaymentFailed() as fact:
            await check_payment(work, fact.payment_id, 0)


REACTIONS = (
    Reaction(
        consumer="ledger.payments",
        subjects=(
            "payment.step.succeeded",
            "payment.step.refunded",
            "payment.received",
            "payment.failed",
        ),
        handler=on_payment,
    ),
)


def _charge(fact: StepSucceeded) -> Charge:
    return Charge(
        payment_id=fact.payment_id,
        attempt_id=fact.attempt_id,
        processor_id=fact.processor_id,
        order_id=fact.order_id,
        person_id=fact.person_id,
        org_id=fact.org_id,
        currency_code=fact.currency,
        amount_minor=fact.amount,
        charged_at=moment_of(fact.settled_at),
    )


def _refunded_charge(fact: StepRefunded) -> Charge:
    return Charge(
        payment_id=fact.payment_id,
        attempt_id=fact.charge_attempt_id,
        processor_id=fact.processor_id,
        order_id=fact.order_id,
        person_id=fact.person_id,
        org_id=fact.org_id,
        currency_code=fact.currency,
        amount_minor=fact.amount,
        charged_at=moment_or_none(fact, "charged_at"),
    )


def _kept_charges(fact: PaymentReceived) -> list[Charge]:
    received_at = moment_or_none(fact, "received_at")
    return [
        Charge(
            payment_id=fact.payment_id,
            attempt_id=step.attempt_id,
            processor_id=step.processor_id,
            order_id=fact.order_id,
            person_id=fact.person_id,
            org_id=fact.org_id,
            currency_code=fact.currency,
            amount_minor=step.amount_cents,
            charged_at=received_at,
        )
        for step in fact.steps
        if step.amount_cents
    ]
