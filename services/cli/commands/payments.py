"""`tollmesh pay`, `tollmesh payment` and `tollmesh payments`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from payments.orchestration.v1 import (
    orchestration_pb2,
    orchestration_service_pb2,
    orchestration_service_pb2_grpc,
)

from services.cli.client import Client, Session
from services.cli.errors import EXIT_REFUSED, EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    OutputOption,
    console,
    enum_name,
    money,
    print_json,
    print_table,
)


def pay(
    file: Annotated[
        str, typer.Argument(help="a payment request as JSON; - for standard input")
    ] = "",
    merchant: Annotated[str, typer.Option(help="merchant_id")] = "",
    order: Annotated[str, typer.Option(help="order_id, e.g. the charge")] = "",
    person: Annotated[str, typer.Option(help="person_id, e.g. the organisation that pays")] = "",
    amount: Annotated[str, typer.Option(help="amount in major units, e.g. 56.84")] = "",
    currency: Annotated[str, typer.Option(help="ISO 4217 code")] = "USD",
    method: Annotated[
        list[str] | None, typer.Option(help="payment method, in order, several times")
    ] = None,
    request_id: Annotated[str, typer.Option(help="UUID; reuse it on a retry")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Pay: send a payment request as it is, or one made from the options."""
    if file:
        body = _body(file)
    elif merchant and amount:
        body = external_request(merchant, order, person, amount, currency, method or [])
    else:
        raise CliError("give a file, or --merchant and --amount", exit_code=EXIT_USAGE)
    with Client(Session.find()) as client:
        made = create_payment(client, body, request_id or str(uuid4()))
    if output is Format.JSON:
        print_json(made)
    else:
        show_payment(made)
    if not made.result.success and made.status != orchestration_pb2.PAYMENT_STATUS_PENDING:
        raise CliError(f"payment {enum_name(made, 'status')}", exit_code=EXIT_REFUSED)


def external_request(
    merchant: str, order: str, person: str, amount: str, currency: str, methods: list[str]
) -> bytes:
    """Build a payment request as a merchant would send it."""
    document: dict[str, Any] = {
        "merchant_id": merchant,
        "order_id": order,
        "person_id": person,
        "amount": amount,
        "currency": currency,
    }
    if methods:
        document["payment_methods"] = [{"method": name} for name in methods]
    return json.dumps({key: value for key, value in document.items() if value}).encode()


def create_payment(client: Client, body: bytes, request_id: str) -> orchestration_pb2.Payment:
    """Create a payment, or get the one that the same request made before."""
    request = orchestration_service_pb2.CreatePaymentRequest(
        raw_request=body, request_id=request_id
    )
    stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
    return client.call(stub.CreatePayment, request).payment


def payment(
    payment_id: Annotated[str, typer.Argument(help="id of the payment, pay_…")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a payment with its steps and attempts."""
    with Client(Session.find()) as client:
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        request = orchestration_service_pb2.GetPaymentRequest(payment_id=payment_id)
        found = client.call(stub.GetPayment, request).payment
    if output is Format.JSON:
        print_json(found)
    else:
        show_payment(found)


def payments(
    merchant: Annotated[str, typer.Option(help="only this merchant's")] = "",
    order: Annotated[str, typer.Option(help="only this order's")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many, newest first")] = 100,
    output: OutputOption = Format.TABLE,
) -> None:
    """List payments."""
    request = orchestration_service_pb2.ListPaymentsRequest(
        merchant_id=merchant, order_id=order, page_size=limit
    )
    with Client(Session.find()) as client:
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        response = client.call(stub.ListPayments, request)
    if output is Format.JSON:
        print_json(response)
        return
    rows = [
        (
            item.payment_id,
            item.person_id,
            item.order_id,
            money(item.plan.total_amount),
            enum_name(item, "status"),
        )
        for item in response.payments
    ]
    print_table("", ("payment", "payer", "order", "amount", "status"), rows, right=["amount"])


def show_payment(made: orchestration_pb2.Payment) -> None:
    """Print a payment as a table of its attempts."""
    rows = [
        (
            str(attempt.step_index + 1),
            attempt.payment_method,
            attempt.processor_id,
            money(attempt.amount),
            enum_name(attempt, "status"),
            attempt.message or attempt.failure_code or "-",
        )
        for attempt in made.attempts
    ]
    title = (
        f"{made.person_id or '-'} pays {money(made.plan.total_amount)}: {enum_name(made, 'status')}"
    )
    print_table(
        f"{title}  ({made.payment_id})",
        ("step", "method", "processor", "amount", "attempt", "note"),
        rows,
        right=["amount"],
    )
    for issue in made.context.validation_errors:
        console.print(
            f"{enum_name(issue, 'severity')}: {issue.field}: {issue.message}",
            highlight=False,
            markup=False,
        )


def _body(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror}", exit_code=EXIT_USAGE) from error


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(pay)
    app.command()(payment)
    app.command()(payments)
