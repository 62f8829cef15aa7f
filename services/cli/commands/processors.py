"""`tollmesh processors list|health`."""

from __future__ import annotations

from typing import Annotated

import typer
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb2
from payments.orchestration.v1 import orchestration_service_pb2_grpc

from services.cli import durations, lists
from services.cli.client import Client, Session
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    bold,
    enum_name,
    print_json,
    print_table,
    say,
    when,
)

processors = typer.Typer(
    help="Processors: what each can do, and how it has fared.", no_args_is_help=True
)

_ABILITIES = (
    ("holds", "holds"),
    ("partial_capture", "partial capture"),
    ("captures_many", "many captures"),
    ("replay_key", "knows keys"),
    ("lookup_by_ref", "can be asked"),
)


@processors.command("list")
def list_(
    merchant_id: Annotated[
        str, typer.Argument(help="a merchant, whose own are listed beside those of every merchant")
    ] = "",
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the processors that a merchant's configuration may name, and what each can do."""
    with Client(Session.find()) as client:
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        request = service_pb2.ListProcessorsRequest(merchant_id=merchant_id)
        found = lists.pages(client, stub.ListProcessors, request, "processors")
        columns = ("processor", "adapter", "whose", *(title for _, title in _ABILITIES))
        lists.show(output, "processors", found, columns, _row, limit=limit)


@processors.command("health")
def health(
    processor_id: Annotated[str, typer.Argument(help="id of the processor")],
    merchant_id: Annotated[
        str, typer.Option("--merchant", help="the merchant whose own the processor is")
    ] = "",
    window: Annotated[
        str, typer.Option(help=f"how far back is looked, from 1m to 24h: {durations.HELP}")
    ] = "15m",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show how a processor has fared lately, and whether its circuit breaker lets payments try it first."""
    request = service_pb2.GetProcessorHealthRequest(
        processor_id=processor_id, merchant_id=merchant_id
    )
    request.window.FromTimedelta(durations.parse(window))
    with Client(Session.find()) as client:
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        found = client.call(stub.GetProcessorHealth, request).health
    if output is Format.JSON:
        print_json(found)
        return
    say(bold(found.processor_id), f": breaker {_breaker(found)}")
    rows = [
        (
            durations.describe(found.window),
            f"{found.attempts:,}",
            f"{found.succeeded:,}",
            f"{found.failed:,}",
            f"{found.latency_p50_ms:,} ms",
            f"{found.latency_p95_ms:,} ms",
            when(found.last_attempt_at) or "-",
        )
    ]
    columns = ("within", "attempts", "succeeded", "failed", "p50", "p95", "last at, UTC")
    print_table("", columns, rows, right=("attempts", "succeeded", "failed", "p50", "p95"))


def _row(item: pb.Processor) -> tuple[str, ...]:
    abilities = ("yes" if getattr(item.capabilities, name) else "-" for name, _ in _ABILITIES)
    whose = "its own" if item.own else "everybody's"
    return item.processor_id, item.adapter, whose, *abilities


def _breaker(found: pb.ProcessorHealth) -> str:
    state = enum_name(found, "breaker").replace("_", " ")
    if found.breaker == pb.BREAKER_STATE_CLOSED:
        return state
    faults = f"{state} after {found.faults_in_a_row} faults in a row"
    return f"{faults}, tried again from {when(found.try_again_at)} UTC"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(processors, name="processors")
