"""`tollmesh ledger post`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated
from uuid import UUID, uuid4

import typer
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli import items, periods
from services.cli.batches import CALL_BYTES_MAX, ITEM_BYTES
from services.cli.client import Client, Session
from services.cli.errors import EXIT_INCOMPLETE, EXIT_USAGE, CliError, Resumable
from services.cli.output import (
    Format,
    JsonWriter,
    OutputOption,
    as_dict,
    enum_name,
    money,
    note,
    print_table,
    say,
)
from services.cli.pairs import metadata_of
from services.runtime.errors import DomainError
from services.runtime.ids import derived_uuid
from services.runtime.money import CONTEXT, exponent, parse_decimal

TRANSFERS_PER_CALL = 8_190
# Each transfer without an id of its own is remembered, so that the second of two equal ones gets another.
DERIVED_IDS_MAX = 200_000
PROBLEMS_SHOWN = 20
_MINOR_UNITS_MAX = 2**63 - 1

_OK = ledger_service_pb2.TRANSFER_RESULT_OK
_EXISTS = ledger_service_pb2.TRANSFER_RESULT_EXISTS
_FAILED_BEFORE = ledger_service_pb2.TRANSFER_RESULT_ID_ALREADY_FAILED
_NO_ACCOUNT = (
    ledger_service_pb2.TRANSFER_RESULT_DEBIT_ACCOUNT_NOT_FOUND,
    ledger_service_pb2.TRANSFER_RESULT_CREDIT_ACCOUNT_NOT_FOUND,
)
# Refusals after which the id is used up: they hang on the state of the accounts, which may change.
_BURNING = (
    *_NO_ACCOUNT,
    ledger_service_pb2.TRANSFER_RESULT_DEBIT_ACCOUNT_CLOSED,
    ledger_service_pb2.TRANSFER_RESULT_CREDIT_ACCOUNT_CLOSED,
    ledger_service_pb2.TRANSFER_RESULT_EXCEEDS_CREDITS,
    ledger_service_pb2.TRANSFER_RESULT_EXCEEDS_DEBITS,
    _FAILED_BEFORE,
)


_BURNING_NAMES = {
    ledger_service_pb2.TransferResult.Name(result).removeprefix("TRANSFER_RESULT_").lower()
    for result in _BURNING
}
_BURNT = (
    "the same command will not post those that hang on their accounts later either: once that is put right, post them "
    "from a file of their own with --again"
)


def post(
    file: Annotated[
        str,
        typer.Argument(
            help="transfers in the shape of payments.ledger.v1.Transfer, as YAML, JSON or JSON Lines, optionally "
            "gzipped; - for standard input"
        ),
    ] = "",
    debit: Annotated[str, typer.Option(help="account that is debited")] = "",
    credit: Annotated[str, typer.Option(help="account that is credited")] = "",
    amount: Annotated[str, typer.Option(help="amount in major units, e.g. 56.84")] = "",
    currency: Annotated[str, typer.Option(help="ISO 4217 code")] = "USD",
    code: Annotated[
        int, typer.Option(min=0, max=65_535, help="your own number for its reason")
    ] = 0,
    effective_at: Annotated[
        str, typer.Option(help="when it takes effect, ISO 8601; when it is recorded by default")
    ] = "",
    metadata: Annotated[list[str] | None, typer.Option(help="key=value; may be repeated")] = None,
    request_id: Annotated[
        str, typer.Option(help="UUID; by default the ids derive from the transfers themselves")
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="post again what the same command has already posted")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Post a transfer, or the transfers of a file.

    Repeating a command posts nothing twice: a transfer without a transfer_id gets one that follows from what it moves,
    and the second of two equal ones in a file another. --again posts them once more on purpose. Linked transfers are
    posted together or not at all. A transfer that cannot be read ends the command; those before it are posted.
    """
    options = (debit, credit, amount)
    if bool(file) == any(options) or (not file and not all(options)):
        raise CliError("give a file, or --debit, --credit and --amount", exit_code=EXIT_USAGE)
    if file and (code or effective_at or metadata):
        raise CliError(
            "--code, --effective-at and --metadata go with --debit, --credit and --amount",
            exit_code=EXIT_USAGE,
        )
    if again and request_id:
        raise CliError(
            "--again makes its own request id: use it without --request-id", exit_code=EXIT_USAGE
        )
    salt = str(uuid4()) if again else _uuid(request_id)
    if file:
        _post_file(file, salt, f"--request-id {salt}" if again else "", output)
        return
    transfer = ledger_pb2.Transfer(
        debit_account_id=debit,
        credit_account_id=credit,
        amount=_money(amount, currency),
        code=code,
        metadata=metadata_of(metadata or []),
    )
    if effective_at:
        try:
            transfer.effective_at.FromDatetime(periods.moment(effective_at))
        except (ValueError, OverflowError) as error:
            raise CliError(
                f"{effective_at!r} is not a time: {error}", exit_code=EXIT_USAGE
            ) from error
    (transfer,) = with_ids([transfer], "")
    transfer.transfer_id = salt or transfer.transfer_id
    _post_one(transfer, f"--request-id {salt}" if again else "", output)


def with_ids(transfers: Iterable[ledger_pb2.Transfer], salt: str) -> Iterator[ledger_pb2.Transfer]:
    """Give each transfer without an id one that follows from its content and from how many equal ones came before.

    Args:
        transfers: in their order.
        salt: other ids for another salt.

    Raises:
        CliError: too many have none.
    """
    before: Counter[bytes] = Counter()
    for transfer in transfers:
        if not transfer.transfer_id:
            content = _content(transfer)
            digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
            before[digest] += 1
            if len(before) > DERIVED_IDS_MAX:
                raise CliError(
                    f"more than {DERIVED_IDS_MAX:,} transfers have no transfer_id",
                    "give each one of your own, a UUID, or split the file",
                    exit_code=EXIT_USAGE,
                )
            parts = ("transfer", salt, content, str(before[digest]))
            transfer.transfer_id = str(derived_uuid(*parts))
        yield transfer


def _content(transfer: ledger_pb2.Transfer) -> str:
    """Return what a transfer moves, as JSON: that stays as it is when a release adds fields."""
    found = as_dict(transfer, zeros=False)
    if transfer.kind == ledger_pb2.KIND_POSTED:
        del found["kind"]  # as if nothing was said
    return json.dumps(found, sort_keys=True)


def batches(transfers: Iterable[ledger_pb2.Transfer]) -> Iterator[list[ledger_pb2.Transfer]]:
    """Split transfers into calls; what is linked stays together.

    If `transfers` fails, what was read before is given first, without a chain that has no end yet.

    Raises:
        CliError: a chain is too long for one call.
    """
    batch: list[ledger_pb2.Transfer] = []
    chain: list[ledger_pb2.Transfer] = []
    weight = chain_weight = 0
    failure: Exception | None = None
    try:
        for transfer in transfers:
            chain.append(transfer)
            chain_weight += transfer.ByteSize() + ITEM_BYTES
            if len(chain) > TRANSFERS_PER_CALL or chain_weight > CALL_BYTES_MAX:
                raise CliError(
                    f"the linked transfers that end with {transfer.transfer_id} are too many for one call: "
                    f"{TRANSFERS_PER_CALL:,} transfers and {CALL_BYTES_MAX:,} bytes at most",
                    exit_code=EXIT_USAGE,
                )
            if transfer.linked:
                continue
            is_full = len(batch) + len(chain) > TRANSFERS_PER_CALL
            if batch and (is_full or weight + chain_weight > CALL_BYTES_MAX):
                yield batch
                batch, weight = [], 0
            batch.extend(chain)
            weight += chain_weight
            chain, chain_weight = [], 0
    except Exception as error:
        failure, chain = error, []
    # A chain without an end is for the ledger to refuse.
    for rest in (batch, chain):
        if rest:
            yield rest
    if failure is not None:
        raise failure


def _posted(
    client: Client, transfers: Iterable[ledger_pb2.Transfer]
) -> Iterator[ledger_service_pb2.PostTransferResult]:
    stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
    done = 0
    for batch in batches(transfers):
        request = ledger_service_pb2.PostTransfersRequest(transfers=batch)
        for result in client.call(stub.PostTransfers, request).results:
            result.index += done
            yield result
        done += len(batch)


def _post_one(transfer: ledger_pb2.Transfer, to_repeat: str, output: Format) -> None:
    with Client(Session.find()) as client, Resumable(to_repeat):
        (result,) = _posted(client, [transfer])
    if output is Format.JSON:
        with JsonWriter() as document:
            document.add_list("results", [result])
    is_there = result.result in (_OK, _EXISTS)
    if is_there and output is Format.TABLE:
        sides = f"{transfer.debit_account_id} → {transfer.credit_account_id}"
        say(f"posted {money(transfer.amount)}: {sides}  ({transfer.transfer_id})")
    if result.result == _EXISTS:
        note("this transfer was posted before: nothing more was posted; --again posts another one")
    if not is_there:
        raise CliError(f"not posted: {_why(result)}", *_hints(result, transfer))


def _post_file(file: str, salt: str, to_repeat: str, output: Format) -> None:
    counts: Counter[str] = Counter()
    problems: list[str] = []

    def counted(client: Client) -> Iterator[ledger_service_pb2.PostTransferResult]:
        read = items.messages(file, "transfers", ledger_pb2.Transfer)
        for result in _posted(client, with_ids(read, salt)):
            counts[enum_name(result, "result")] += 1
            if result.result not in (_OK, _EXISTS) and len(problems) < PROBLEMS_SHOWN:
                problems.append(
                    f"transfer {result.index + 1}, {result.transfer_id}: {_why(result)}"
                )
            yield result

    failure: CliError | None = None
    try:
        with Client(Session.find()) as client, Resumable(to_repeat):
            if output is Format.JSON:
                with JsonWriter() as document:
                    document.add_list("results", counted(client))
            else:
                for _ in counted(client):
                    pass
    except CliError as error:
        failure = error
    if output is Format.TABLE:
        _show_counts(counts, problems)
    if failure is not None:
        raise failure
    refused = sum(counts.values()) - counts["ok"] - counts["exists"]
    if counts["exists"]:
        note(
            f"{counts['exists']:,} transfers were posted before: nothing more was posted for them;"
            " --again posts them once more"
        )
    if refused:
        what = "1 transfer was" if refused == 1 else f"{refused:,} transfers were"
        raise CliError(
            f"{what} not posted",
            *([_BURNT] if counts.keys() & _BURNING_NAMES else []),
            exit_code=EXIT_INCOMPLETE,
        )


def _show_counts(counts: Counter[str], problems: list[str]) -> None:
    rows = [(name, f"{count:,}") for name, count in sorted(counts.items())]
    print_table("", ("result", "transfers"), rows, right=("transfers",))
    for line in problems:
        say(line)
    if sum(counts.values()) - counts["ok"] - counts["exists"] > len(problems):
        say("… more with --output json")


def _why(result: ledger_service_pb2.PostTransferResult) -> str:
    if result.result == _FAILED_BEFORE:
        return f"it was refused before, with {enum_name(result, 'original_result')}"
    return f"{enum_name(result, 'result')}{result.message and ': '}{result.message}"


def _hints(
    result: ledger_service_pb2.PostTransferResult, transfer: ledger_pb2.Transfer
) -> Iterator[str]:
    if result.result in _NO_ACCOUNT:
        is_debit = result.result == _NO_ACCOUNT[0]
        name = transfer.debit_account_id if is_debit else transfer.credit_account_id
        yield f"create it: tollmesh accounts create {name} --type … --currency {transfer.amount.currency_code}"
    if result.result in _BURNING:
        yield "the same command will not post it later either: --again makes a new attempt"


def _money(amount: str, currency: str) -> type_pb2.Money:
    """Read an amount in major units. Raises CliError."""
    try:
        places = exponent(currency)
        minor = parse_decimal(amount, "amount").scaleb(places, context=CONTEXT)
    except (DomainError, ArithmeticError) as error:
        told = error.message if isinstance(error, DomainError) else "it is too large"
        raise CliError(f"--amount {amount} {currency}: {told}", exit_code=EXIT_USAGE) from error
    # As it is written, zeros too: who writes 1.000 JPY may mean a thousand.
    if len(amount.partition(".")[2]) > places or not 0 < minor <= _MINOR_UNITS_MAX:
        raise CliError(
            f"--amount {amount} is not an amount of {currency}: more than zero, with up to {places} decimal places",
            exit_code=EXIT_USAGE,
        )
    return type_pb2.Money(currency_code=currency, minor_units=int(minor))


def _uuid(text: str) -> str:
    try:
        return str(UUID(text)) if text else ""
    except ValueError as error:
        raise CliError(f"{text!r} is not a UUID", exit_code=EXIT_USAGE) from error


def register(ledger: typer.Typer) -> None:
    """Add the command to `tollmesh ledger`."""
    ledger.command("post")(post)
