"""Payments as tables."""

from __future__ import annotations

from payments.orchestration.v1 import orchestration_pb2

from services.cli.output import enum_name, money, print_table, say


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


def payer(made: orchestration_pb2.Payment) -> str:
    """Say whose debt a payment pays, else who pays."""
    return made.org_id or made.person_id or "-"
