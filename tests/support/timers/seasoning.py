"""A journey of tests: money is held for fourteen days and then released, unless somebody objects.

A received payment is put on hold (`payment.step.succeeded` says so), a reminder comes after seven days, and on the
fourteenth the hold is released (`payment.completed`). A failed payment ends it: the hold is taken back
(`payment.step.failed`). Facts of payments stand for what a service of holds would say.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from payments.events.v1.orchestration_events_pb2 import (
    PaymentCompleted,
    PaymentFailed,
    PaymentReceived,
    StepFailed,
    StepSucceeded,
)

from services.runtime.journeys.definition import (
    CancelTimer,
    Compensation,
    Data,
    JourneyType,
    Outcome,
    Publish,
    SetTimer,
    State,
    Trigger,
)
from services.runtime.journeys.runner import PostgresJourneys
from services.runtime.service import Runtime, Service

SEASONING = timedelta(days=14)
REMINDER = timedelta(days=7)


def payment_of(trigger: Trigger) -> str | None:
    """The payment that an event is about; payments of other shops take no part."""
    payload = trigger.payload
    assert isinstance(payload, PaymentReceived | PaymentFailed | PaymentCompleted)
    return None if payload.payment_id.startswith("other") else payload.payment_id


def received(trigger: Trigger) -> Data | None:
    """What a seasoning knows: its payment. One of nothing needs none."""
    assert isinstance(trigger.payload, PaymentReceived)
    if trigger.payload.amount_cents == 0:
        return None
    return {"payment_id": trigger.payload.payment_id, "reminders": 0, "cents": 1}


def hold(data: Data, trigger: Trigger) -> Outcome:
    """Put the money on hold."""
    held = StepSucceeded(payment_id=data["payment_id"], processor_id="hold")
    commands = (Publish(held), SetTimer("reminder", REMINDER))
    return Outcome("held", commands=commands, done="hold")


def remind(data: Data, trigger: Trigger) -> Outcome:
    """Count the reminder and stay."""
    return Outcome(data={**data, "reminders": data["reminders"] + 1})


def release(data: Data, trigger: Trigger) -> Outcome:
    """Release the money."""
    freed = PaymentCompleted(payment_id=data["payment_id"], request_id="release")
    return Outcome("released", commands=(Publish(freed), CancelTimer("reminder")))


def object_(data: Data, trigger: Trigger) -> Outcome:
    """Fail, and so take back what was done."""
    return Outcome(fail="disputed")


def unhold(data: Data) -> tuple[Publish, ...]:
    """Take the hold back."""
    return (Publish(StepFailed(payment_id=data["payment_id"], processor_id="hold")),)


def seasoning(version: int = 1, **fields: Any) -> JourneyType:
    """Define the journey."""
    parts: dict[str, Any] = {
        "name": "seasoning",
        "version": version,
        "begin": hold,
        "states": {
            "held": State(
                on={"payment.failed": object_},
                timers={"reminder": remind},
                deadline=SEASONING,
                on_deadline=release,
            ),
            "released": State(is_end=True),
        },
        "locate": {"payment.received": payment_of, "payment.failed": payment_of},
        "starts": {"payment.received": received},
        "compensations": {"hold": Compensation(unhold)},
    }
    return JourneyType(**{**parts, **fields})


def build_seasoning(runtime: Runtime) -> Service:
    """A service that does nothing but season."""
    return Service([], PostgresJourneys([seasoning()]).reactions())
