"""What the ledger does on others' events: it books payments that came in."""

from __future__ import annotations

from datetime import UTC

from payments.events.v1.orchestration_events_pb2 import PaymentReceived

from services.ledger.app import book_payment
from services.ledger.domain.payments import ReceivedPayment, ReceivedStep
from services.runtime.database import UnitOfWork
from services.runtime.events.envelope import Envelope, Reaction


async def on_payment_received(work: UnitOfWork, envelope: Envelope) -> None:
    """Book the payment in the dispatcher's own transaction.

    Raises:
        PaymentNotBookable: the books do not take it as it stands; the event waits as a dead letter.
    """
    fact = envelope.payload
    assert isinstance(fact, PaymentReceived)
    await book_payment(work, _payment(fact))


REACTIONS = (
    Reaction(
        consumer="ledger.payments", subjects=("payment.received",), handler=on_payment_received
    ),
)


def _payment(fact: PaymentReceived) -> ReceivedPayment:
    return ReceivedPayment(
        payment_id=fact.payment_id,
        order_id=fact.order_id,
        person_id=fact.person_id,
        currency_code=fact.currency,
        received_at=fact.received_at.ToDatetime(UTC) if fact.HasField("received_at") else None,
        steps=[
            ReceivedStep(step.attempt_id, step.processor_id, step.amount_cents)
            for step in fact.steps
        ],
    )
