"""`tollmesh receipts get|spooled|consistency|verify|head|heads|audit`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from payments.metering.v1 import metering_service_pb2_grpc, receipts_pb2, spool_pb2
from payments.type.v1 import type_pb2

import tollmesh_verify
from services.cli import export_files, lists
from services.cli.client import Client, Session
from services.cli.documents import read_bytes
from services.cli.errors import EXIT_DIFFERENT, EXIT_INCOMPLETE, EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    LimitOption,
    OutputOption,
    as_dict,
    enum_name,
    print_json,
    print_table,
    say,
    when,
)
from tollmesh_verify.reading import BYTES_MAX

receipts = typer.Typer(
    help="Receipts of usage: proofs that events were accepted, are in the bill, and were never rewritten.",
    no_args_is_help=True,
)

_EXIT_CODES = {
    tollmesh_verify.Verdict.VERIFIED: 0,
    tollmesh_verify.Verdict.INCOMPLETE: EXIT_INCOMPLETE,
    tollmesh_verify.Verdict.DIFFERENT: EXIT_DIFFERENT,
}
_EVENTS_PAGE = 1_000
_PROBLEMS_SHOWN = 100
# Receipts that are looked at in one call.
_STRETCH = 200
# Of the moment only: they tell what a receipt lacks, and a file is of one that lacks nothing.
_OF_THE_MOMENT = ("status", "retry_after")
TreeSizeOption = Annotated[
    int,
    typer.Option(min=0, help="size of the head, e.g. the usage_ordinal of a charge; the newest"),
]


@receipts.command()
def get(
    receipt_id: Annotated[str, typer.Argument(help="id that ingest answered, rcp_…")],
    out: Annotated[
        str, typer.Option("--out", help="file to keep it in, for `receipts verify`")
    ] = "",
    tree_size: TreeSizeOption = 0,
    wait: Annotated[
        int, typer.Option(min=0, max=600, help="seconds to wait while the log is behind")
    ] = 10,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a receipt; with --out, write it with all its events and the proof that it is in the log.

    The exit code is 6 while the log of receipts is behind it.
    """
    with Client(Session.find()) as client:
        found = _logged(client, receipt_id, tree_size, wait)
        if found.status == receipts_pb2.RECEIPT_STATUS_PENDING:
            raise CliError(
                f"receipt {receipt_id} is stored, and not in the log yet, which has"
                f" {found.head.tree_size:,} receipts",
                f"run this again in {found.retry_after.seconds} s",
                exit_code=EXIT_INCOMPLETE,
            )
        if out:
            _write(out, tollmesh_verify.RECEIPT_FORMAT, _body(client, found))
    if output is Format.JSON:
        print_json(found)
        return
    cells = {
        "receipt": found.receipt_id,
        "kind": enum_name(found, "kind"),
        "accepted": f"{found.accepted:,}",
        "duplicate": f"{found.duplicate:,}",
        "rejected": f"{found.conflict + found.rejected:,}",
        "ordinal": f"{found.ordinal:,}",
        "log": f"{found.head.tree_size:,}",
    }
    right = ("accepted", "duplicate", "rejected", "ordinal", "log")
    print_table("", [*cells], [[*cells.values()]], right=right)
    say(f"root of the log: {found.head.root_hash}")
    if out:
        say(f"written to {out}: `tollmesh receipts verify {out}` needs no mesh and no key")


@receipts.command()
def spooled(
    receipt_id: Annotated[str, typer.Argument(help="id that ingest answered, rcp_…")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what became of a batch that was enqueued while the database was away.

    The exit code is 6 while it waits.
    """
    with Client(Session.find()) as client:
        request = spool_pb2.GetSpooledBatchRequest(receipt_id=receipt_id)
        found = client.call(_stub(client).GetSpooledBatch, request).spooled_batch
    waits = found.status == spool_pb2.SPOOL_STATUS_WAITING
    if output is Format.JSON:
        print_json(found)
    else:
        cells = {
            "receipt": found.stored_receipt_id or found.receipt_id,
            "status": enum_name(found, "status"),
            "taken, UTC": when(found.received_at),
            "stored, UTC": "-" if waits else when(found.drained_at),
            "events": f"{found.events:,}",
            "accepted": f"{found.accepted:,}",
            "duplicate": f"{found.duplicate:,}",
            "rejected": f"{found.conflict + found.rejected:,}",
        }
        right = ("events", "accepted", "duplicate", "rejected")
        print_table("", [*cells], [[*cells.values()]], right=right)
        for problem in found.problems[:_PROBLEMS_SHOWN]:
            if problem.outcome != type_pb2.OUTCOME_DUPLICATE:
                say(f"{problem.request_id}: {problem.reason}: {problem.message}")
        if len(found.problems) > _PROBLEMS_SHOWN:
            say("more of them with --output json")
    if waits:
        raise CliError("the batch waits in the spool", exit_code=EXIT_INCOMPLETE)


def _logged(client: Client, receipt_id: str, tree_size: int, seconds: int) -> receipts_pb2.Receipt:
    """Ask for a receipt until it is in the log, or the time is over."""
    request = receipts_pb2.GetReceiptRequest(receipt_id=receipt_id, tree_size=tree_size)
    until = time.monotonic() + seconds
    while True:
        found = client.call(_stub(client).GetReceipt, request).receipt
        pause = found.retry_after.seconds or 1
        if found.status != receipts_pb2.RECEIPT_STATUS_PENDING or time.monotonic() >= until:
            return found
        time.sleep(min(pause, max(0.0, until - time.monotonic())))


def _body(client: Client, found: receipts_pb2.Receipt) -> dict[str, Any]:
    receipt = as_dict(found, zeros=False)
    for name in _OF_THE_MOMENT:
        receipt.pop(name, None)
    asked = receipts_pb2.ListReceiptEventsRequest(receipt_id=found.receipt_id)
    events = lists.pages(client, _stub(client).ListReceiptEvents, asked, "events", _EVENTS_PAGE)
    return {"receipt": receipt, "events": [as_dict(each, zeros=False) for each in events]}


@receipts.command()
def consistency(
    first: Annotated[int, typer.Argument(min=1, help="size of the older head")],
    second: Annotated[int, typer.Argument(min=0, help="size of the newer head; the newest")] = 0,
    out: Annotated[
        str, typer.Option("--out", help="file to keep the proof in, for `receipts verify`")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Prove that the log of one size begins with the log of a smaller one, so that nothing in that was rewritten."""
    request = receipts_pb2.GetLogConsistencyRequest(first_tree_size=first, second_tree_size=second)
    with Client(Session.find()) as client:
        found = client.call(_stub(client).GetLogConsistency, request)
    if out:
        _write(out, tollmesh_verify.CONSISTENCY_FORMAT, as_dict(found, zeros=False))
    if output is Format.JSON:
        print_json(found)
        return
    _show_heads([found.first, found.second])
    say(f"{len(found.hashes)} hashes prove that the second begins with the first")
    if out:
        say(f"written to {out}")


def _write(out: str, form: str, body: dict[str, Any]) -> None:
    text = json.dumps(tollmesh_verify.document_of(form, body), indent=1) + "\n"
    if len(text) > BYTES_MAX:
        raise CliError(
            f"the file would have {len(text)} bytes, and {BYTES_MAX} are read at most",
            "send usage in smaller batches: each gets a receipt of its own",
        )
    export_files.write_whole(out, text.encode())


@receipts.command()
def verify(
    files: Annotated[
        list[str], typer.Argument(help="what `receipts get` and `receipts consistency` wrote")
    ],
    charge: Annotated[
        str, typer.Option(help="what `tollmesh explain CHARGE --export` wrote: is the bill of it?")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Verify receipts offline, without a mesh or a key: each event, each proof, one log; with --charge, the bill.

    It ends with 0 when all of it is proven, 7 when something differs, 6 when nothing does but a proof is missing, and 2
    when a file is none of these. `python -m tollmesh_verify receipts FILE...` does the same by itself.
    """
    contents = [(name, read_bytes(name, BYTES_MAX + 1)) for name in files]
    exported = (charge, read_bytes(charge, BYTES_MAX + 1)) if charge else None
    try:
        report = tollmesh_verify.verify_receipts(contents, exported)
    except tollmesh_verify.Refused as error:
        raise CliError(f"this cannot be verified: {error}", exit_code=EXIT_USAGE) from error
    if output is Format.JSON:
        print_json(report.document())
    else:
        for text in report.lines_of_text():
            say(text)
    if code := _EXIT_CODES[report.verdict]:
        raise typer.Exit(code)


@receipts.command()
def head(tree_size: TreeSizeOption = 0, output: OutputOption = Format.TABLE) -> None:
    """Show the root of the log of receipts."""
    with Client(Session.find()) as client:
        request = receipts_pb2.GetLogHeadRequest(tree_size=tree_size)
        found = client.call(_stub(client).GetLogHead, request).head
    if output is Format.JSON:
        print_json(found)
    else:
        _show_heads([found])


@receipts.command()
def heads(limit: LimitOption = 100, output: OutputOption = Format.TABLE) -> None:
    """List the heads that the log of receipts was closed at, the newest first."""
    with Client(Session.find()) as client:
        asked = receipts_pb2.ListLogHeadsRequest()
        found = lists.pages(client, _stub(client).ListLogHeads, asked, "heads", 100)
        lists.show(output, "heads", found, _HEAD, _head_row, right=("receipts",), limit=limit)


_HEAD = ("receipts", "root", "closed at, UTC")


def _show_heads(found: list[receipts_pb2.LogHead]) -> None:
    print_table("", _HEAD, map(_head_row, found), right=("receipts",))


def _head_row(found: receipts_pb2.LogHead) -> tuple[str, ...]:
    closed = when(found.closed_at) if found.HasField("closed_at") else "-"
    return f"{found.tree_size:,}", found.root_hash, closed


@receipts.command()
def audit(output: OutputOption = Format.TABLE) -> None:
    """Compute the whole log again from the events that are stored, and tell what is not as it was logged.

    The exit code is 7 if anything is found.
    """
    receipts_seen, events, found = 0, 0, list[receipts_pb2.LogFinding]()
    with Client(Session.find()) as client:
        for answer in _stretches(client):
            receipts_seen += answer.receipts
            events += answer.events
            found += answer.findings
    if output is Format.JSON:
        print_json(
            {
                "receipts": receipts_seen,
                "events": events,
                "findings": [as_dict(each) for each in found],
            }
        )
    else:
        say(f"{receipts_seen:,} receipts with {events:,} events were computed again")
        if found:
            columns = ("ordinal", "receipt", "message", "expected", "found")
            rows = [
                (str(each.ordinal), each.receipt_id, each.message, each.expected, each.found)
                for each in found
            ]
            print_table("", columns, rows, right=("ordinal",))
        else:
            say("nothing was found")
    if found:
        raise CliError(
            f"{len(found):,} {'thing is' if len(found) == 1 else 'things are'} not as logged",
            "the rows named were changed past metering, or by a fault of it: compare them with a backup",
            exit_code=EXIT_DIFFERENT,
        )


def _stretches(client: Client) -> Iterator[receipts_pb2.VerifyLogResponse]:
    request = receipts_pb2.VerifyLogRequest(page_size=_STRETCH)
    while True:
        answer = client.call(_stub(client).VerifyLog, request)
        yield answer
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def _stub(client: Client) -> metering_service_pb2_grpc.MeteringServiceStub:
    return client.stub(metering_service_pb2_grpc.MeteringServiceStub)


def register(app: typer.Typer) -> None:
    """Add the commands to `tollmesh`."""
    app.add_typer(receipts, name="receipts")
