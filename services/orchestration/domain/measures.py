"""What orchestration counts."""

from __future__ import annotations

from services.runtime.measures import Measure, gauge

PAYMENTS = Measure(
    "tollmesh.payments.finished",
    "{payment}",
    "Payments that have ended.",
    {"status": "`PaymentStatus` in small letters, e.g. `succeeded`", "currency": "ISO 4217 code"},
)
ATTEMPTS = Measure(
    "tollmesh.payments.attempts",
    "{attempt}",
    "Attempts at processors, each time that one gets an outcome.",
    {
        "processor": "processor_id",
        "operation": "`charge` or `refund`",
        "outcome": "`AttemptStatus` in small letters, e.g. `succeeded`, `declined`, `unknown`",
    },
)
PROCESSED = Measure(
    "tollmesh.payments.processed",
    "{minor_unit}",
    "Amounts of the attempts that succeeded, in minor units of the currency.",
    {"processor": "processor_id", "operation": "`charge` or `refund`", "currency": "ISO 4217 code"},
)
UNKNOWN = gauge(
    "tollmesh.payments.unknown", "{attempt}", "Attempts whose outcome no processor has told yet."
)
UNKNOWN_OLDEST = gauge(
    "tollmesh.payments.unknown_oldest_s", "s", "Age of the oldest of them; 0 while there is none."
)
MANUAL = gauge(
    "tollmesh.payments.manual",
    "{attempt}",
    "Attempts whose outcome an operator has to find out.",
)
ALL = (PAYMENTS, ATTEMPTS, PROCESSED, UNKNOWN, UNKNOWN_OLDEST, MANUAL)
