"""`tollmesh payment capture`, `void`, `refund` and `resolve`."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

import typer
from payments.orchestration.v1 import (
    orchestration_pb2,
    orchestration_service_pb2,
    orchestration_service_pb2_grpc,
)

from services.cli import amounts
from services.cli.client import Client, Session
from services.cli.errors import EXIT_REFUSED, EXIT_USAGE, CliError, Resumable
from services.cli.output import Format, OutputOption, enum_name, money, note, print_json, say, when
from services.cli.payment_tables import show_payment
from services.runtime.ids import derived_uuid

_VERDICTS = {
    "succeeded": orchestration_pb2.VERDICT_SUCCEEDED,
    "not-charged": orchestration_pb2.VERDICT_NOT_CHARGED,
}
PaymentArgument = Annotated[str, typer.Argument(help="id of the payment, pay_…")]
AmountOption = Annotated[
    str, typer.Option(help="in major units, e.g. 12.50; by default all that is left")
]
ReasonOption = Annotated[str, typer.Option(help="why, for the record")]
RequestIdOption = Annotated[
    str, typer.Option(help="UUID; by default derived from what is asked for")
]
AgainOption = Annotated[
    bool, typer.Option("--again", help="ask once more for what the same command has asked for")
]


def capture(
    payment_id: PaymentArgument,
    amount: AmountOption = "",
    keep_open: Annotated[
        bool, typer.Option("--keep-open", help="leave what is not captured authorised")
    ] = False,
    reason: ReasonOption = "",
    request_id: RequestIdOption = "",
    again: AgainOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Take what a payment has authorised, or a part of it; the rest is let go."""
    request = orchestration_service_pb2.CapturePaymentRequest(
        payment_id=payment_id, keep_open=keep_open, reason=reason
    )
    _give("CapturePayment", request, amount, request_id, again=again, output=output)


def void(
    payment_id: PaymentArgument,
    reason: ReasonOption = "",
    request_id: RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Let go what a payment has authorised and not captured."""
    request = orchestration_service_pb2.VoidPaymentRequest(payment_id=payment_id, reason=reason)
    _give("VoidPayment", request, "", request_id, again=False, output=output)


def refund(
    payment_id: PaymentArgument,
    amount: AmountOption = "",
    reason: ReasonOption = "",
    request_id: RequestIdOption = "",
    again: AgainOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Give back what a payment has taken, or a part of it.

    Repeating a command doesn't give back twice; --again gives back once more on purpose.
    """
    request = orchestration_service_pb2.RefundPaymentRequest(payment_id=payment_id, reason=reason)
    _give("RefundPayment", request, amount, request_id, again=again, output=output)


def resolve(
    attempt_id: Annotated[str, typer.Argument(help="id of the attempt, att_…")],
    verdict: Annotated[
        str, typer.Option(help="what was found out: succeeded or not-charged", show_default=False)
    ],
    evidence: Annotated[
        str, typer.Option(help="where and how it was found out, for the record", show_default=False)
    ],
    request_id: RequestIdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Tell the outcome of an attempt that no processor can prove any more, and let its payment go on."""
    if verdict not in _VERDICTS:
        raise CliError(f"--verdict {verdict}: say succeeded or not-charged", exit_code=EXIT_USAGE)
    request = orchestration_service_pb2.ResolveAttemptRequest(
        attempt_id=attempt_id, verdict=_VERDICTS[verdict], evidence=evidence
    )
    content = request.SerializeToString(deterministic=True).hex()
    request.request_id = request_id or str(derived_uuid("ResolveAttemptRequest", content))
    with Client(Session.find()) as client:
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        answer = client.call(stub.ResolveAttempt, request)
    if output is Format.JSON:
        print_json(answer)
        return
    say(f"{attempt_id}: {enum_name(answer.attempt, 'status')}")
    show_payment(answer.payment)


def register(group: typer.Typer) -> None:
    """Add the commands to those of a payment."""
    for command in (capture, void, refund, resolve):
        group.command()(command)


def _give(
    name: str, request: Any, amount: str, request_id: str, *, again: bool, output: Format
) -> None:
    if again and request_id:
        raise CliError(
            "--again makes its own request id: use it without --request-id", exit_code=EXIT_USAGE
        )
    with Client(Session.find()) as client:
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        asked = orchestration_service_pb2.GetPaymentRequest(payment_id=request.payment_id)
        payment = client.call(stub.GetPayment, asked).payment
        if amount:
            request.amount.CopyFrom(amounts.parse("--amount", amount, payment.context.currency))
        own = request_id or (str(uuid4()) if again else "")
        with Resumable(f"--request-id {own}" if again else ""):
            answer = _ask(client, getattr(stub, name), request, own, payment)
    given = answer.instruction
    if any(each.instruction_id == given.instruction_id for each in payment.instructions):
        note(
            f"this is what was asked for at {when(given.created_at)} UTC: nothing more was done;"
            " --again asks once more"
        )
    if output is Format.JSON:
        print_json(answer)
    else:
        _show(answer)
    if given.status == orchestration_pb2.INSTRUCTION_STATUS_FAILED:
        what = enum_name(given, "operation")
        raise CliError(f"the {what} failed", *_refusals(answer), exit_code=EXIT_REFUSED)


def _ask(
    client: Client, rpc: Any, request: Any, own: str, payment: orchestration_pb2.Payment
) -> Any:
    """Ask under the caller's own id, or under one derived from what is asked: the same command asks for the same.

    After its instruction has failed it asks anew. Only its own count: had others' a part in its id, a refund that
    went well would be given once more behind a capture that failed.
    """
    content = request.SerializeToString(deterministic=True).hex()
    ended = {
        each.instruction_id
        for each in payment.instructions
        if each.status == orchestration_pb2.INSTRUCTION_STATUS_FAILED
    }
    for failed in range(len(ended) + 1):
        request.request_id = own or str(derived_uuid(type(request).__name__, content, str(failed)))
        answer = client.call(rpc, request)
        if own or answer.instruction.instruction_id not in ended:
            break
    return answer


def _show(answer: Any) -> None:
    given = answer.instruction
    what = enum_name(given, "operation")
    say(f"{what} of {money(given.amount)}: {enum_name(given, 'status')}  ({given.instruction_id})")
    if given.status == orchestration_pb2.INSTRUCTION_STATUS_PENDING:
        note("a processor has not answered yet; `tollmesh payment show` tells what came of it")
    show_payment(answer.payment)


def _refusals(answer: Any) -> list[str]:
    mine = answer.instruction.instruction_id
    return [
        f"{each.processor_id}: {each.message or each.failure_code}"
        for each in answer.payment.attempts
        if each.instruction_id == mine and each.status != orchestration_pb2.ATTEMPT_STATUS_SUCCEEDED
    ][-1:]
