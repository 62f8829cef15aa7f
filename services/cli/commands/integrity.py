"""`tollmesh ledger head|verify`: a proof to keep elsewhere, and the books compared with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf import json_format
from payments.ledger.v1 import integrity_pb2, ledger_service_pb2, ledger_service_pb2_grpc

from services.cli import export_files
from services.cli.client import Client, Session
from services.cli.documents import read_document
from services.cli.errors import EXIT_DIFFERENT, EXIT_USAGE, CliError
from services.cli.output import (
    Format,
    OutputOption,
    as_dict,
    enum_name,
    note,
    print_json,
    print_table,
    progress_console,
    say,
    when,
)

# What a terminal can show; --output json has them all.
FINDINGS_SHOWN = 100
HEADS_MAX = 100
_CHECKS = {
    value.name.removeprefix("INTEGRITY_CHECK_").lower().replace("_", "-"): value.number
    for value in integrity_pb2.IntegrityCheck.DESCRIPTOR.values
    if value.number
}


def head(
    out: Annotated[
        str, typer.Option("--out", help="file to keep the head in, for `ledger verify --head`")
    ] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Show the head of the chain of transfers, signed: kept elsewhere, it proves later that nothing was rewritten."""
    with Client(Session.find()) as client:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        found = client.call(stub.GetLedgerHead, ledger_service_pb2.GetLedgerHeadRequest()).head
    if out:
        text = json.dumps(as_dict(found), indent=2, ensure_ascii=False) + "\n"
        export_files.write_whole(out, text.encode())
    if output is Format.JSON:
        print_json(found)
        return
    cells = {
        "block": str(found.block_no),
        "transfers": f"{found.transfer_count:,}",
        "hash": found.hash,
        "signed at, UTC": when(found.signed_at),
    }
    print_table("", [*cells], [[*cells.values()]], right=("block", "transfers"))
    if out:
        say(f"written to {out}: keep it where nobody who can change the database can")


def verify(
    heads: Annotated[
        list[str] | None,
        typer.Option("--head", metavar="FILE", help="head that was kept; may be repeated"),
    ] = None,
    checks: Annotated[
        list[str] | None,
        typer.Option("--check", help=f"only this check; may be repeated: {', '.join(_CHECKS)}"),
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Look at all books and tell what is not as it must be; with a head that was kept, what was rewritten since.

    The exit code is 7 if anything is found.
    """
    request = ledger_service_pb2.VerifyIntegrityRequest(
        checks=[_check(name) for name in checks or ()],
        heads=[_read_head(file) for file in heads or ()],
    )
    if len(request.heads) > HEADS_MAX:
        raise CliError(f"no more than {HEADS_MAX} heads at once", exit_code=EXIT_USAGE)
    with Client(Session.find()) as client:
        looked_at, found = _collected(client, request)
    if output is Format.JSON:
        print_json({"looked_at": looked_at, "findings": [as_dict(each) for each in found]})
    else:
        _show(request, looked_at, found)
    if found:
        raise CliError(
            f"{len(found):,} {'thing is' if len(found) == 1 else 'things are'} not as they must be",
            "the rows named were changed past the ledger, or by a fault of it: compare them with a backup",
            exit_code=EXIT_DIFFERENT,
        )


def _check(name: str) -> Any:
    number = _CHECKS.get(name.lower().replace("_", "-"))
    if number is None:
        raise CliError(
            f"there is no check {name!r}",
            f"it is one of {', '.join(_CHECKS)}",
            exit_code=EXIT_USAGE,
        )
    return number


def _read_head(file: str) -> integrity_pb2.LedgerHead:
    """Read a head, and see that it says what was signed. Raises CliError."""
    try:
        found = json_format.ParseDict(read_document(file), integrity_pb2.LedgerHead())
        key = Ed25519PublicKey.from_public_bytes(found.public_key)
        key.verify(found.signature, found.signed_text.encode())
        signed = json.loads(found.signed_text)
    except (json_format.ParseError, ValueError, TypeError, AttributeError) as error:
        raise CliError(
            f"{file} is no head of a ledger: {error}",
            "name a file that `tollmesh ledger head --out` wrote",
            exit_code=EXIT_USAGE,
        ) from error
    except InvalidSignature as error:
        raise CliError(
            f"the head in {file} was changed: its signature is not that of its text",
            "take another copy of it",
            exit_code=EXIT_DIFFERENT,
        ) from error
    told = {
        "tenant_id": found.tenant_id,
        "block_no": found.block_no,
        "hash": found.hash,
        "transfer_count": found.transfer_count,
        "key_id": found.key_id,
    }
    changed = [name for name, value in told.items() if signed.get(name) != value]
    if changed:
        raise CliError(
            f"the head in {file} was changed: {', '.join(changed)} is not what was signed",
            "take another copy of it",
            exit_code=EXIT_DIFFERENT,
        )
    return found


def _collected(
    client: Client, request: ledger_service_pb2.VerifyIntegrityRequest
) -> tuple[dict[str, int], list[integrity_pb2.IntegrityFinding]]:
    """Read what is found, and how many rows were looked at by what is checked."""
    looked_at: dict[str, int] = {}
    found: list[integrity_pb2.IntegrityFinding] = []
    with progress_console.status("verifying", spinner="line") as status:
        for answer in _answers(client, request):
            if answer.HasField("finding"):
                found.append(answer.finding)
                continue
            name = enum_name(answer.progress, "integrity_check")
            status.update(f"{name.replace('_', ' ')}: {answer.progress.looked_at:,}")
            if answer.progress.done:
                looked_at[name] = answer.progress.looked_at
    return looked_at, found


def _answers(
    client: Client, request: ledger_service_pb2.VerifyIntegrityRequest
) -> Iterator[ledger_service_pb2.VerifyIntegrityResponse]:
    stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
    yield from client.stream(stub.VerifyIntegrity, request)


def _show(
    request: ledger_service_pb2.VerifyIntegrityRequest,
    looked_at: dict[str, int],
    found: list[integrity_pb2.IntegrityFinding],
) -> None:
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in looked_at.items()]
    print_table("", ("looked at for", "rows"), rows, right=("rows",))
    if found:
        columns = ("check", "what", "message", "expected", "found")
        cells = [
            (_name(each), _subject(each), each.message, each.expected, each.found)
            for each in found[:FINDINGS_SHOWN]
        ]
        print_table("", columns, cells)
        if len(found) > FINDINGS_SHOWN:
            note(f"… and {len(found) - FINDINGS_SHOWN:,} more: --output json shows all")
        return
    say("nothing was found")
    for each in request.heads:
        say(
            f"the {each.transfer_count:,} transfers up to the head of {when(each.signed_at)} are what they were"
        )


def _name(found: integrity_pb2.IntegrityFinding) -> str:
    return enum_name(found, "integrity_check").replace("_", " ")


def _subject(found: integrity_pb2.IntegrityFinding) -> str:
    named = [
        found.account_id,
        found.transfer_id,
        f"block {found.block_no}" if found.block_no else "",
    ]
    return " ".join(filter(None, named))


def register(ledger: typer.Typer) -> None:
    """Add the commands."""
    ledger.command("head")(head)
    ledger.command("verify")(verify)
