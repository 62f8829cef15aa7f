"""`tollmesh violations`."""

from __future__ import annotations

from typing import Annotated

import typer
from payments.contracts.v1 import contracts_service_pb2, contracts_service_pb2_grpc

from services.cli import lists
from services.cli.client import Client, Session
from services.cli.output import Format, OutputOption, print_json, print_table, when


def violations(
    contract: Annotated[str, typer.Option(help="only violations of this contract")] = "",
    severity: Annotated[str, typer.Option(help="only violations of this severity")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    output: OutputOption = Format.TABLE,
) -> None:
    """List contract violations, newest first."""
    request = contracts_service_pb2.ListViolationsRequest(contract_id=contract, severity=severity)
    with Client(Session.find()) as client:
        stub = client.stub(contracts_service_pb2_grpc.ContractMonitorServiceStub)
        response = lists.up_to(client, stub.ListViolations, request, "violations", limit)
    if output is Format.JSON:
        print_json(response)
        return
    rows = [
        (
            when(item.occurred_at),
            item.contract_id,
            item.severity,
            item.subject_id or "-",
            item.message,
            item.request_id,
        )
        for item in response.violations
    ]
    columns = ("at, UTC", "contract", "severity", "subject", "violation", "request")
    print_table("", columns, rows)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(violations)
