"""Payments as tables."""

from __future__ import annotations

from collections.abc import Iterator

from payments.orchestration.v1 import orchestration_pb2

from services.cli.output import enum_name, money, print_table, say, when


def show_payment(made: orchestration_pb2.Payment) -> None:
    """Print a payment as a table of its attempts, with what each asked for unless all were charges."""
    told = any(each.operation != orchestration_pb2.OPERATION_CHARGE for each in made.attempts)
    rows = [
        (
            str(attempt.step_index + 1),
            attempt.payment_method,
            *((enum_name(attempt, "operation"),) if told else ()),
            attempt.processor_id,
            money(attempt.amount),
            enum_name(attempt, "status"),
            attempt.message or attempt.failure_code or "-",
        )
        for attempt in made.attempts
    ]
    # What could not be read has no amount.
    planned = made.plan.HasField("total_amount")
    what = f"pays {money(made.plan.total_amount)}" if planned else "would pay"
    title = f"{payer(made)} {what}: {enum_name(made, 'status')}  ({made.payment_id})"
    if rows:
        operation = ("operation",) if told else ()
        columns = ("step", "method", *operation, "processor", "amount", "attempt", "note")
        print_table(title, columns, rows, right=["amount"])
    else:
        say(title)
    if told:
        sums = made.amounts
        say(
            f"authorised {money(sums.authorized)}, captured {money(sums.captured)},"
            f" refunded {money(sums.refunded)}"
        )
    for issue in made.context.validation_errors:
        say(f"{enum_name(issue, 'severity')}: {issue.field}: {issue.message}")


class Waterfall:
    """Tells of a payment what has changed since it was last looked at, one line a change."""

    def __init__(self) -> None:
        self._status = ""
        self._attempts: dict[str, str] = {}

    def lines(self, now: orchestration_pb2.Payment) -> Iterator[str]:
        """Give the lines of a further state: attempts that are new or have moved on, and then the status."""
        for attempt in now.attempts:
            status = enum_name(attempt, "status")
            if self._attempts.get(attempt.attempt_id) == status:
                continue
            self._attempts[attempt.attempt_id] = status
            yield _attempt_line(attempt, status)
        status = enum_name(now, "status")
        if status != self._status:
            self._status = status
            yield f"{when(now.updated_at)}  {now.payment_id}: {status}"


def _attempt_line(attempt: orchestration_pb2.Attempt, status: str) -> str:
    at = attempt.settled_at if attempt.HasField("settled_at") else attempt.created_at
    what = (
        f"step {attempt.step_index + 1}  {enum_name(attempt, 'operation')} {money(attempt.amount)}"
    )
    took = f" after {attempt.latency_ms:,} ms" if attempt.latency_ms else ""
    note = attempt.message or attempt.failure_code
    said = f" ({note})" if note else ""
    return f"{when(at)}  {what} by {attempt.processor_id}: {status}{took}{said}"


def payer(made: orchestration_pb2.Payment) -> str:
    """Say whose debt a payment pays, else who pays."""
    return made.org_id or made.person_id or "-"
