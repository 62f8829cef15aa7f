"""`tollmesh ledger schedule` and `tollmesh ledger scheduled list|cancel`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from payments.ledger.v1 import (
    ledger_pb2,
    ledger_service_pb2_grpc,
    schedule_pb2,
    scheduled_pb2,
)

from services.cli import lists
from services.cli.client import Client, Session
from services.cli.commands import transfers
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    money,
    print_json,
    say,
    when,
)
from services.cli.pairs import metadata_of
from services.runtime.ids import derived_uuid

scheduled = typer.Typer(
    help="Transfers that post themselves when they are due.", no_args_is_help=True
)

_COLUMNS = (
    "due at, UTC",
    "amount",
    "debit account",
    "credit account",
    "transfer",
    "chain",
    "ended at, UTC",
    "refusal",
    "reason",
)
_OPTIONAL = ("chain", "ended at, UTC", "refusal", "reason")


class State(StrEnum):
    """How a scheduled transfer stands."""

    WAITING = "waiting"
    POSTED = "posted"
    REFUSED = "refused"
    CANCELLED = "cancelled"


def schedule(
    debit: transfers.DebitOption,
    credit: transfers.CreditOption,
    amount: Annotated[str, typer.Option(help="amount in major units, e.g. 56.84")],
    not_before: Annotated[
        str, typer.Option(help="when it posts itself, ISO 8601; what has passed is posted at once")
    ],
    currency: transfers.CurrencyOption = "USD",
    code: transfers.CodeOption = 0,
    effective_at: Annotated[
        str, typer.Option(help="when it takes effect, ISO 8601; when it is posted by default")
    ] = "",
    metadata: transfers.MetadataOption = None,
    request_id: transfers.RequestIdOption = "",
    again: Annotated[
        bool, typer.Option("--again", help="schedule again what the same command has scheduled")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Schedule a transfer: it posts itself when it is due, if accounts and limits allow it then.

    Repeating a command schedules nothing twice; --again schedules another one on purpose.
    """
    if not (debit and credit and amount and not_before):
        raise CliError(
            "--debit, --credit, --amount and --not-before must not be empty", exit_code=EXIT_USAGE
        )
    transfer = ledger_pb2.Transfer(
        debit_account_id=debit,
        credit_account_id=credit,
        code=code,
        not_before=transfers.moment_of(not_before),
        metadata=metadata_of(metadata or []),
    )
    if effective_at:
        transfer.effective_at.CopyFrom(transfers.moment_of(effective_at))
    transfers.set_amount(transfer, amount, currency)
    transfers.post_one(transfer, request_id, again=again, output=output)


@scheduled.command("list")
def list_(
    state: Annotated[State, typer.Option(help="only transfers that stand so")] = State.WAITING,
    limit: LimitOption = 0,
    output: OutputOption = Format.TABLE,
) -> None:
    """List scheduled transfers, by when they are due."""
    request = scheduled_pb2.ListScheduledTransfersRequest(
        state=schedule_pb2.ScheduleState.Value(f"SCHEDULE_STATE_{state.upper()}")
    )
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        found = lists.pages(
            client,
            stub.ListScheduledTransfers,
            request,
            "scheduled_transfers",
            lists.page_size(limit),
        )
        lists.show(
            *(output, "scheduled_transfers", found, _COLUMNS, _row),
            right=("amount",),
            optional=_OPTIONAL,
            limit=limit,
        )


@scheduled.command("cancel")
def cancel(
    transfer_id: Annotated[
        str, typer.Argument(help="id of the transfer, as in `ledger scheduled list`")
    ],
    reason: Annotated[str, typer.Option(help="why; kept with the transfer")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Take a scheduled transfer back while it waits, and the whole chain of one that is linked."""
    asked = transfers.uuid_of(transfer_id)
    request = scheduled_pb2.CancelScheduledTransferRequest(
        request_id=str(derived_uuid("cancel", asked, reason)), transfer_id=asked, reason=reason
    )
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        answer = client.call(stub.CancelScheduledTransfer, request)
    if output is Format.JSON:
        print_json(answer)
        return
    more = answer.cancelled_count - 1
    with_others = f" and the {more:,} others of its chain" if more else ""
    say(f"cancelled {asked}{with_others}: nothing was posted")


def _row(item: scheduled_pb2.ScheduledTransfer) -> tuple[str, ...]:
    shown, stands = item.transfer, item.schedule
    is_member = shown.linked or stands.first_transfer_id != shown.transfer_id
    return (
        when(shown.not_before),
        money(shown.amount) if shown.HasField("amount") else "what balances",
        shown.debit_account_id,
        shown.credit_account_id,
        shown.transfer_id,
        stands.first_transfer_id if is_member else "",
        when(stands.ended_at),
        stands.refusal.lower(),
        stands.cancel_reason,
    )


def register(ledger: typer.Typer) -> None:
    """Add the commands to `tollmesh ledger`."""
    ledger.command("schedule")(schedule)
    ledger.add_typer(scheduled, name="scheduled")
