"""Lines that tell how a payment moves on."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.type.v1 import type_pb2

from services.cli.payment_tables import Waterfall


def at(second: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC))
    return stamp


def attempt(name: str, status: pb.AttemptStatus.ValueType, **more: object) -> pb.Attempt:
    given = {"operation": pb.OPERATION_CHARGE, "processor_id": "till", "created_at": at(0)} | more
    amount = type_pb2.Money(currency_code="USD", minor_units=1250)
    return pb.Attempt(attempt_id=name, status=status, amount=amount, **given)  # type: ignore[arg-type] # of any field


def payment(status: pb.PaymentStatus.ValueType, *attempts: pb.Attempt) -> pb.Payment:
    return pb.Payment(payment_id="pay_1", status=status, attempts=attempts, updated_at=at(9))


def test_each_change_is_a_line_once() -> None:
    waterfall = Waterfall()
    unknown = attempt("a", pb.ATTEMPT_STATUS_UNKNOWN)
    first = payment(pb.PAYMENT_STATUS_RESOLVING, unknown)
    assert list(waterfall.lines(first)) == [
        "2026-01-02 03:04:00  step 1  charge 12.50 USD by till: unknown",
        "2026-01-02 03:04:09  pay_1: resolving",
    ]
    assert list(waterfall.lines(first)) == []
    declined = attempt(
        "a", pb.ATTEMPT_STATUS_DECLINED, settled_at=at(5), latency_ms=40, message="no funds"
    )
    again = attempt("b", pb.ATTEMPT_STATUS_SUCCEEDED, processor_id="other", step_index=1)
    assert list(waterfall.lines(payment(pb.PAYMENT_STATUS_SUCCEEDED, declined, again))) == [
        "2026-01-02 03:04:05  step 1  charge 12.50 USD by till: declined after 40 ms (no funds)",
        "2026-01-02 03:04:00  step 2  charge 12.50 USD by other: succeeded",
        "2026-01-02 03:04:09  pay_1: succeeded",
    ]
