"""`tollmesh pay`, `tollmesh payment` and `tollmesh payments`."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import uuid4

import typer
from payments.billing.v1 import billing_pb2
from payments.orchestration.v1 import (
    orchestration_pb2,
    orchestration_service_pb2,
    orchestration_service_pb2_grpc,
)
from payments.type.v1 import type_pb2
from typer.core import TyperGroup

from services.cli import debts, lists, strict_json
from services.cli.client import Client, Session
from services.cli.commands import instructions
from services.cli.errors import EXIT_REFUSED, EXIT_USAGE, CliError, Resumable
from services.cli.output import (
    Format,
    OutputOption,
    enum_name,
    money,
    note,
    plain_money,
    print_json,
    print_table,
    say,
    when,
)
from services.cli.payment_tables import Waterfall, payer, show_payment
from services.runtime.ids import derived_uuid, request_id_of
from services.runtime.texts import is_kept_whole

ResponseT = TypeVar("ResponseT")

# Where a payment may stand that is not paid yet, and has not failed.
_WELL = (
    orchestration_pb2.PAYMENT_STATUS_PENDING,
    orchestration_pb2.PAYMENT_STATUS_AUTHORIZED,
)
# Names under which a body may bring its own key, without case and separators.
_OWN_KEYS = frozenset({"idempotencykey", "requestid"})


def pay(
    file: Annotated[
        str, typer.Argument(help="a payment request as JSON; - for standard input")
    ] = "",
    merchant: Annotated[str, typer.Option(help="merchant_id")] = "",
    charge: Annotated[
        str,
        typer.Option(
            help="a charge, chg_…, that is paid: with --merchant; payer, amount and order are the charge's"
        ),
    ] = "",
    order: Annotated[str, typer.Option(help="order_id, e.g. the charge")] = "",
    person: Annotated[str, typer.Option(help="person_id of the payer")] = "",
    org: Annotated[str, typer.Option(help="org_id whose debt is paid, as in the charge")] = "",
    amount: Annotated[str, typer.Option(help="amount in major units, e.g. 56.84")] = "",
    currency: Annotated[str, typer.Option(help="ISO 4217 code; USD by default")] = "",
    method: Annotated[
        list[str] | None,
        typer.Option(help="payment method; may be repeated, in order of preference"),
    ] = None,
    request_id: Annotated[
        str, typer.Option(help="UUID; by default derived from the payment itself")
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="pay again what the same command has already paid")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Pay: a charge, a payment request from a file, or one that is built from the options.

    Repeating a command doesn't pay twice; --again makes another payment on purpose. An order that is a charge
    (chg_…) is never paid beyond its open amount.
    """
    if charge:
        _check_alone(merchant, file=file, order=order, org=org, currency=currency)
    elif not (file or (merchant and amount)):
        raise CliError("give a file, or --merchant with --charge or --amount", exit_code=EXIT_USAGE)
    if again and request_id:
        raise CliError(
            "--again makes its own request id: use it without --request-id", exit_code=EXIT_USAGE
        )
    drawn = str(uuid4()) if again else ""
    with Client(Session.find()) as client, Resumable(f"--request-id {drawn}" if again else ""):
        if charge:
            body = _request_for(client, charge, merchant, person, amount, method or [])
        else:
            made_up = (merchant, order, person, amount, currency or "USD", method or [])
            body = _body(file) if file else external_request(*made_up, org=org)
        read = _reading(client, body)
        body = body if file else _as_read(body, read)
        read_key = None if read is None else read.idempotency_key
        key = drawn or request_id or key_of(body, read_key)
        limit = None if read is None else _open_amount(client, read, key)
        try:
            answer = create_payment(client, body, key, limit)
        except CliError as error:
            if error.reason == "REQUEST_ID_REUSED" and key and not request_id:
                error.hints = [
                    "the same payment was requested before in a different form: nothing was paid this time",
                    "--again makes another payment",
                ]
            raise
    made = answer.payment
    if answer.repeated:
        note(
            f"this is the payment made at {when(made.created_at)} UTC: nothing more was charged;"
            " --again makes another one"
        )
    if output is Format.JSON:
        print_json(made)
    else:
        show_payment(made)
    if not made.result.success and made.status not in _WELL:
        raise CliError(f"payment {enum_name(made, 'status')}", exit_code=EXIT_REFUSED)


def _check_alone(merchant: str, **others: str) -> None:
    """Refuse what stands beside --charge and would contradict it."""
    given = ["FILE" if name == "file" else f"--{name}" for name, value in others.items() if value]
    if given:
        raise CliError(
            f"--charge takes that from the charge: leave out {', '.join(given)}",
            exit_code=EXIT_USAGE,
        )
    if not merchant:
        raise CliError(
            "give the --merchant that is paid",
            "`tollmesh merchants list` shows them",
            exit_code=EXIT_USAGE,
        )


def _request_for(
    client: Client, charge_id: str, merchant: str, person: str, amount: str, methods: list[str]
) -> bytes:
    """Build the request that pays a charge: what is owed for it, unless an amount is given."""
    debt = debts.debt(client, charge_id)
    charge = debt.charge
    if charge.status == billing_pb2.CHARGE_STATUS_REVERSED:
        raise CliError(
            f"nothing is owed for {charge_id}: it was reversed by {charge.reversed_by_charge_id}"
        )
    if not debt.owed and not amount:
        raise CliError(
            f"nothing is owed for {charge_id}: its total is {money(charge.total)}",
            *_of_corrections(debt),
        )
    return external_request(
        merchant,
        charge.charge_id,
        person or charge.org_id,
        amount or plain_money(debt.money(debt.owed)),
        charge.total.currency_code,
        methods,
        org=charge.org_id,
    )


def _of_corrections(debt: debts.Debt) -> list[str]:
    if not debt.is_corrected:
        return []
    return [f"with corrections, {money(debt.money(debt.of_period))} is owed for its period"]


def external_request(
    merchant: str,
    order: str,
    person: str,
    amount: str,
    currency: str,
    methods: list[str],
    *,
    org: str = "",
) -> bytes:
    """Build a payment request as a merchant would send it."""
    document: dict[str, Any] = {
        "merchant_id": merchant,
        "order_id": order,
        "person_id": person,
        "org_id": org,
        "amount": amount,
        "currency": currency,
    }
    if methods:
        document["payment_methods"] = [{"method": name} for name in methods]
    return json.dumps({key: value for key, value in document.items() if value}).encode()


def create_payment(
    client: Client, body: bytes, request_id: str, order_limit: type_pb2.Money | None = None
) -> orchestration_service_pb2.CreatePaymentResponse:
    """Create a payment, or return the one that the same request created before."""
    request = orchestration_service_pb2.CreatePaymentRequest(
        raw_request=body, request_id=request_id, order_limit=order_limit
    )
    stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
    return client.call(stub.CreatePayment, request)


def key_of(body: bytes, read_key: str | None = None) -> str:
    """Return the request id derived from a body; empty if the body brings its own key.

    Spaces, line ends and the order of keys don't matter: an editor that saves the file differently doesn't make it
    another payment.

    Args:
        body: the payment request.
        read_key: the request id that the mesh reads in the body; None where it was not asked, and any key that looks
            like one is then left to it.
    """
    try:
        document = _AS_WRITTEN.decode(body.decode("utf-8-sig", "surrogateescape"))
        written = json.dumps(_marked(document)).encode()
    except (ValueError, RecursionError):
        # The mesh refuses what is no JSON, or nests so deeply.
        document, written = None, b"".join(body.split())
    own = [request_id_of(text) for text in _own_keys(document)]
    if own and read_key in (None, *own):
        return ""
    return str(derived_uuid("payment", hashlib.sha256(written).hexdigest()))


class _Members(list[tuple[str, Any]]):
    """A JSON object whose keys may repeat."""


_AS_WRITTEN = json.JSONDecoder(
    object_pairs_hook=_Members,
    parse_float=strict_json.Number,
    parse_int=strict_json.Number,
    parse_constant=strict_json.Number,
    strict=False,
)


def _own_keys(document: Any) -> Iterator[str]:
    for name, value in document if isinstance(document, _Members) else ():
        text = value.strip() if isinstance(value, str) else ""
        # The mesh refuses a key that it cannot keep as it is.
        if not is_kept_whole(text):
            continue
        if text and re.sub(r"[^a-z0-9]", "", name.lower()) in _OWN_KEYS:
            yield text


def _marked(value: Any) -> Any:
    """Mark numbers, which are texts as they were read, so that 5 and "5" stay two values; order the keys of objects."""
    if isinstance(value, strict_json.Number):
        return {"number": str(value)}
    if isinstance(value, _Members):
        # Of a key that stands twice the first, or the last, is read: their order stays.
        members = sorted(value, key=lambda member: member[0])
        return {"object": [[name, _marked(item)] for name, item in members]}
    return [_marked(item) for item in value] if isinstance(value, list) else value


def _reading(client: Client, body: bytes) -> orchestration_pb2.CoreRequestContext | None:
    """Return what the mesh reads in a body; None where the key may not ask."""
    stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
    request = orchestration_service_pb2.PlanPaymentRequest(raw_request=body)
    planned = _seen(client, stub.PlanPayment, request)
    return None if planned is None else planned.context


def _as_read(body: bytes, read: orchestration_pb2.CoreRequestContext | None) -> bytes:
    """Return a request that options made, with the amount as the mesh reads it: 5 and 5.00 are one payment.

    As it is where the mesh reads none in it, or was not asked.
    """
    if read is None or read.amount_cents <= 0:
        return body
    amount = type_pb2.Money(currency_code=read.currency, minor_units=read.amount_cents)
    document = {**json.loads(body), "amount": plain_money(amount), "currency": read.currency}
    return json.dumps(document).encode()


def _open_amount(
    client: Client, read: orchestration_pb2.CoreRequestContext, key: str
) -> type_pb2.Money | None:
    """Return what the payments of the charge that is the order may take together; None if it is no charge.

    A new payment of more than is open, or in another currency, is refused here. Amount, order and, where none is given,
    the key are what the mesh itself reads in the body. The mesh holds two payments at once to the same limit.
    """
    if not read.order_id.startswith("chg_"):
        return None
    try:
        debt = debts.debt(client, read.order_id)
        found = debt.open(client, request_id_of(key) if key else read.idempotency_key)
    except CliError as error:
        if error.reason == "SCOPE_MISSING":
            error.hints = [
                "what is open of the charge cannot be read, so nothing was paid: give the key this scope too"
            ]
        raise
    if found is None:
        return None
    charge, left = debt.charge, found.left_minor
    if read.currency != charge.total.currency_code:
        raise CliError(
            f"{charge.charge_id} is a charge in {charge.total.currency_code}: it cannot be paid in {read.currency}"
        )
    if read.amount_cents > left:
        rest = debt.money(max(left, 0))
        pay_rest = [f"to pay the rest: --amount {plain_money(rest)}"] if left > 0 else []
        raise CliError(
            f"the payment is too large: {money(rest)} of {money(charge.total)} is open on {charge.charge_id}",
            *_of_corrections(debt),
            *pay_rest,
            f"see what was paid: tollmesh payments --order {charge.charge_id}",
        )
    return found.order_limit


def _seen(client: Client, method: Callable[..., ResponseT], request: Any) -> ResponseT | None:
    """Call a read; None where there is nothing of this id, or the key may not see it."""
    try:
        return client.call(method, request)
    except CliError as error:
        if error.reason in ("NOT_FOUND", "SCOPE_MISSING"):
            return None
        raise


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


def watch(
    payment_id: Annotated[str, typer.Argument(help="id of the payment, pay_…")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Follow a payment: a line for each attempt and status as it changes, until nothing is left to do on it.

    With --output json each state is a line of JSON. Ctrl-C ends it; the payment goes on.
    """
    request = orchestration_service_pb2.WatchPaymentRequest(payment_id=payment_id)
    with Client(Session.find()) as client:
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        waterfall = Waterfall()
        for answer in client.stream(stub.WatchPayment, request):
            if output is Format.JSON:
                print_json(answer.payment, more=True)
                continue
            for line in waterfall.lines(answer.payment):
                say(line)


def payments(
    merchant: Annotated[str, typer.Option(help="only payments of this merchant")] = "",
    order: Annotated[str, typer.Option(help="only payments of this order")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="maximum number, newest first")] = 100,
    output: OutputOption = Format.TABLE,
) -> None:
    """List payments."""
    request = orchestration_service_pb2.ListPaymentsRequest(merchant_id=merchant, order_id=order)
    with Client(Session.find()) as client:
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        response = lists.up_to(client, stub.ListPayments, request, "payments", limit)
    if output is Format.JSON:
        print_json(response)
        return
    if order and not response.payments:
        say(f"{order} has no payments")
        return
    rows = [
        (
            item.payment_id,
            payer(item),
            item.order_id,
            money(item.plan.total_amount),
            enum_name(item, "status"),
        )
        for item in response.payments
    ]
    print_table("", ("payment", "payer", "order", "amount", "status"), rows, right=["amount"])


def _body(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror}", exit_code=EXIT_USAGE) from error


class _PaymentGroup(TyperGroup):
    """`tollmesh payment ID` is `tollmesh payment show ID`: what names no command belongs to it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the name of the command that is meant."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(pay)
    group = typer.Typer(
        help="A payment: its steps and attempts; captures, voids and refunds.", cls=_PaymentGroup
    )
    group.command("show")(payment)
    group.command("list")(payments)
    group.command("watch")(watch)
    instructions.register(group)
    app.add_typer(group, name="payment")
    app.command()(payments)
