"""How a transfer of one's own is made, named and posted, and what came of it is told."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID, uuid4

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc

from services.cli import amounts, durations, periods, references
from services.cli.batches import CALL_BYTES_MAX, ITEM_BYTES
from services.cli.client import Client, Session
from services.cli.errors import EXIT_USAGE, CliError, Resumable
from services.cli.output import (
    Format,
    JsonWriter,
    as_dict,
    enum_name,
    money,
    note,
    say,
    when,
)
from services.runtime.ids import derived_uuid

TRANSFERS_PER_CALL = 8_190
# Each transfer without an id of its own is remembered, so that the second of two equal ones gets another.
DERIVED_IDS_MAX = 200_000

OK = ledger_service_pb2.TRANSFER_RESULT_OK
EXISTS = ledger_service_pb2.TRANSFER_RESULT_EXISTS
SCHEDULED = ledger_service_pb2.TRANSFER_RESULT_SCHEDULED
ACCEPTED = (OK, EXISTS, SCHEDULED)
_FAILED_BEFORE = ledger_service_pb2.TRANSFER_RESULT_ID_ALREADY_FAILED
_NO_ACCOUNT = (
    ledger_service_pb2.TRANSFER_RESULT_DEBIT_ACCOUNT_NOT_FOUND,
    ledger_service_pb2.TRANSFER_RESULT_CREDIT_ACCOUNT_NOT_FOUND,
)
_CLOSED = (
    ledger_service_pb2.TRANSFER_RESULT_DEBIT_ACCOUNT_CLOSED,
    ledger_service_pb2.TRANSFER_RESULT_CREDIT_ACCOUNT_CLOSED,
)
_LIMITED = (
    ledger_service_pb2.TRANSFER_RESULT_EXCEEDS_CREDITS,
    ledger_service_pb2.TRANSFER_RESULT_EXCEEDS_DEBITS,
    ledger_service_pb2.TRANSFER_RESULT_DEBIT_ACCOUNT_BELOW_FLOOR,
    ledger_service_pb2.TRANSFER_RESULT_DEBIT_ACCOUNT_ABOVE_CEILING,
    ledger_service_pb2.TRANSFER_RESULT_CREDIT_ACCOUNT_BELOW_FLOOR,
    ledger_service_pb2.TRANSFER_RESULT_CREDIT_ACCOUNT_ABOVE_CEILING,
)
# Refusals that hang on the debit account.
_OF_DEBIT = (
    _NO_ACCOUNT[0],
    _CLOSED[0],
    ledger_service_pb2.TRANSFER_RESULT_EXCEEDS_CREDITS,
    ledger_service_pb2.TRANSFER_RESULT_DEBIT_ACCOUNT_BELOW_FLOOR,
    ledger_service_pb2.TRANSFER_RESULT_DEBIT_ACCOUNT_ABOVE_CEILING,
)
# Refusals after which the id is used up: they hang on the state of the accounts, which may change.
BURNING = (
    *_NO_ACCOUNT,
    *_CLOSED,
    *_LIMITED,
    ledger_service_pb2.TRANSFER_RESULT_EFFECTIVE_AT_IN_CLOSED_PERIOD,
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_NOT_FOUND,
    _FAILED_BEFORE,
)
# Refusals that hang on how a hold stands.
_OF_HOLD = (
    ledger_service_pb2.TRANSFER_RESULT_EXCEEDS_PENDING_TRANSFER_AMOUNT,
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT,
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_ALREADY_POSTED,
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_ALREADY_VOIDED,
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_EXPIRED,
)
# What helps, where the name of a refusal does not say so.
_HELP = {
    ledger_service_pb2.TRANSFER_RESULT_NOT_BEFORE_RESERVED_FOR_POSTED_TRANSFER: (
        "not_before goes with KIND_POSTED: a hold cannot be scheduled"
    ),
    ledger_service_pb2.TRANSFER_RESULT_LINKED_EVENT_HAS_DIFFERENT_NOT_BEFORE: (
        "the members of a chain are all posted at once: give them the same not_before"
    ),
    ledger_service_pb2.TRANSFER_RESULT_EFFECTIVE_AT_IN_CLOSED_PERIOD: (
        "give a later --effective-at, or open the books again; how far they are closed: tollmesh ledger periods list"
    ),
    ledger_service_pb2.TRANSFER_RESULT_FLAGS_ARE_MUTUALLY_EXCLUSIVE: (
        "a hold may be --multi-capture; what captures or voids one is neither that, nor balancing, nor closing"
    ),
    ledger_service_pb2.TRANSFER_RESULT_PENDING_ID_MUST_BE_ZERO: (
        "--pending-id goes with --kind post-pending and --kind void-pending"
    ),
    ledger_service_pb2.TRANSFER_RESULT_TIMEOUT_RESERVED_FOR_PENDING_TRANSFER: (
        "--timeout goes with --kind pending"
    ),
    ledger_service_pb2.TRANSFER_RESULT_CLOSING_TRANSFER_MUST_BE_PENDING: (
        "--closing-debit and --closing-credit go with --kind pending"
    ),
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_NOT_FOUND: (
        "a hold goes by the id that `tollmesh ledger hold` printed for it"
    ),
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_NOT_PENDING: (
        "what is posted is no hold: its opposite reverses it"
    ),
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_HAS_DIFFERENT_CURRENCY: (
        "name the currency of the hold with --currency"
    ),
    ledger_service_pb2.TRANSFER_RESULT_EXCEEDS_PENDING_TRANSFER_AMOUNT: (
        "more than is left of the hold: without --amount all of that is captured"
    ),
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT: (
        "a hold is voided whole, or what is left of it: leave out the amount"
    ),
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_ALREADY_POSTED: (
        "nothing is held any more: the first capture gives up the rest, unless the hold is made with --multi-capture"
    ),
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_ALREADY_VOIDED: (
        "nothing is held any more: make another hold, with --again if it is the same"
    ),
    ledger_service_pb2.TRANSFER_RESULT_PENDING_TRANSFER_EXPIRED: (
        "its time is over, and what was left of it is given up: make another hold, with --again if it is the same"
    ),
}


@dataclass(frozen=True, slots=True)
class _Words:
    """How a kind of transfer is told: what is done, what was done, and what if the same was done before."""

    do: str
    done: str
    before: str


_POSTED = _Words(
    "post",
    "posted",
    "this transfer was posted before: nothing more was posted; --again posts another one",
)
_LATER = _Words(
    "schedule",
    "scheduled",
    "this transfer was scheduled before and is posted by now: nothing more was posted; --again schedules another one",
)
_WAITS_ALREADY = "this transfer was scheduled before and still waits: nothing more was scheduled; --again adds another"
_WORDS = {
    ledger_pb2.KIND_PENDING: _Words(
        "hold",
        "held",
        "this hold was made before, and may have ended since: nothing more was held; --again makes another one",
    ),
    ledger_pb2.KIND_POST_PENDING: _Words(
        "capture",
        "captured",
        "this was captured before: nothing more was captured; --again captures once more",
    ),
    ledger_pb2.KIND_VOID_PENDING: _Words(
        "void", "voided", "this hold was voided before: there was nothing to do"
    ),
}

DebitOption = Annotated[str, typer.Option(help="account that is debited")]
CreditOption = Annotated[str, typer.Option(help="account that is credited")]
CurrencyOption = Annotated[str, typer.Option(help="ISO 4217 code")]
ReferenceOption = Annotated[str, typer.Option(help=f"what it is for: {references.HELP}")]
CodeOption = Annotated[int, typer.Option(min=0, max=65_535, help="your own number for its reason")]
TimeoutOption = Annotated[
    str,
    typer.Option(
        help=f"how long the hold stands: {durations.HELP}; for ever by default and with 0"
    ),
]
MultiCaptureOption = Annotated[
    bool,
    typer.Option(
        "--multi-capture",
        help="the hold may be captured in several parts; otherwise the first gives up the rest",
    ),
]
ClosingDebitOption = Annotated[
    bool,
    typer.Option(
        "--closing-debit", help="the hold closes the debit account until it is voided or expires"
    ),
]
ClosingCreditOption = Annotated[
    bool,
    typer.Option(
        "--closing-credit", help="the hold closes the credit account until it is voided or expires"
    ),
]
MetadataOption = Annotated[list[str] | None, typer.Option(help="key=value; may be repeated")]
RequestIdOption = Annotated[
    str, typer.Option(help="UUID; by default the ids derive from the transfers themselves")
]


def moment_of(text: str) -> Timestamp:
    """Read a moment as it is written on the command line. Raises CliError."""
    stamp = Timestamp()
    try:
        stamp.FromDatetime(periods.moment(text))
    except (ValueError, OverflowError) as error:
        raise CliError(f"{text!r} is not a time: {error}", exit_code=EXIT_USAGE) from error
    return stamp


def set_amount(transfer: ledger_pb2.Transfer, amount: str, currency: str) -> None:
    """Give a transfer an amount in major units; none where none is written. Raises CliError."""
    if amount:
        # A hold that closes an account may hold nothing.
        is_closing = transfer.closing_debit or transfer.closing_credit
        allowed = amounts.Range.NOT_NEGATIVE if is_closing else amounts.Range.POSITIVE
        transfer.amount.CopyFrom(amounts.parse("--amount", amount, currency, allowed))


def set_timeout(transfer: ledger_pb2.Transfer, timeout: str) -> None:
    """Give a hold the span that it stands; `0` and nothing mean for ever. Raises CliError."""
    if timeout and (span := durations.parse(timeout)):
        transfer.timeout.FromTimedelta(span)


def salt_of(request_id: str, *, again: bool) -> str:
    """Return what other ids are made with: the caller's own request id, one drawn for --again, or nothing.

    Raises:
        CliError: both are given, or the request id is no UUID.
    """
    if again and request_id:
        raise CliError(
            "--again makes its own request id: use it without --request-id", exit_code=EXIT_USAGE
        )
    return str(uuid4()) if again else uuid_of(request_id)


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


def posted(
    client: Client, transfers: Iterable[ledger_pb2.Transfer]
) -> Iterator[ledger_service_pb2.PostTransferResult]:
    """Post transfers, call by call, and give the verdicts, numbered through. Raises CliError."""
    stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
    done = 0
    for batch in batches(transfers):
        request = ledger_service_pb2.PostTransfersRequest(transfers=batch)
        for result in client.call(stub.PostTransfers, request).results:
            result.index += done
            yield result
        done += len(batch)


def post_one(
    transfer: ledger_pb2.Transfer, request_id: str, *, again: bool, output: Format
) -> None:
    """Post a transfer under an id that follows from its content, and tell what came of it.

    Args:
        transfer: without its id.
        request_id: its id, a UUID; empty for the one that follows.
        again: under a new id, which an error names.
        output: how.

    Raises:
        CliError: it was refused, which is explained, or the ledger did not answer.
    """
    salt = salt_of(request_id, again=again)
    (transfer,) = with_ids([transfer], "")
    transfer.transfer_id = salt or transfer.transfer_id
    words = _words(transfer)
    with Client(Session.find()) as client, Resumable(f"--request-id {salt}" if again else ""):
        (result,) = posted(client, [transfer])
    if output is Format.JSON:
        with JsonWriter() as document:
            document.add_list("results", [result])
    is_there = result.result in ACCEPTED
    if is_there and output is Format.TABLE:
        # What was due already is posted at once.
        done = words.done if result.result == SCHEDULED else _words_of_kind(transfer).done
        say(f"{done} {_told(transfer)}  ({transfer.transfer_id})")
        if result.result == OK:
            _tell_more(transfer)
    if result.result == EXISTS:
        note(words.before)
    if result.original_result == SCHEDULED:
        note(_WAITS_ALREADY)
    if not is_there:
        raise CliError(f"not {words.done}: {why(result)}", *_hints(result, transfer))


def _words(transfer: ledger_pb2.Transfer) -> _Words:
    return _LATER if transfer.HasField("not_before") else _words_of_kind(transfer)


def _words_of_kind(transfer: ledger_pb2.Transfer) -> _Words:
    return _WORDS.get(transfer.kind, _POSTED)


def _told(transfer: ledger_pb2.Transfer) -> str:
    """Say what a transfer moves, holds or ends, as far as its sender knows."""
    amount = money(transfer.amount) if transfer.HasField("amount") else ""
    if transfer.kind == ledger_pb2.KIND_VOID_PENDING:
        return f"hold {transfer.pending_id}"
    if transfer.kind == ledger_pb2.KIND_POST_PENDING:
        return f"{amount or 'all that was left'} of hold {transfer.pending_id}"
    if transfer.balancing_debit or transfer.balancing_credit:
        amount = f"up to {amount}" if amount else "what balances"
    if transfer.HasField("timeout"):
        amount = f"{amount} for {durations.describe(transfer.timeout)}"
    if transfer.HasField("not_before"):
        amount = f"{amount} for {when(transfer.not_before)} UTC"
    return f"{amount}: {transfer.debit_account_id} → {transfer.credit_account_id}"


def _tell_more(transfer: ledger_pb2.Transfer) -> None:
    """Say what a transfer has done besides, or where that is seen."""
    for is_closing, account in (
        (transfer.closing_debit, transfer.debit_account_id),
        (transfer.closing_credit, transfer.credit_account_id),
    ):
        if is_closing:
            say(f"{account} is closed until the hold is voided or expires")
    is_open = (
        transfer.balancing_debit or transfer.balancing_credit or not transfer.HasField("amount")
    )
    if is_open and transfer.kind != ledger_pb2.KIND_VOID_PENDING:
        say(f"how much that was: tollmesh ledger transfer {transfer.transfer_id}")


def why(result: ledger_service_pb2.PostTransferResult) -> str:
    """Say why a transfer is not in the books."""
    if result.result == _FAILED_BEFORE:
        return f"it was refused before, with {enum_name(result, 'original_result')}"
    return f"{enum_name(result, 'result')}{result.message and ': '}{result.message}"


def _hints(
    result: ledger_service_pb2.PostTransferResult, transfer: ledger_pb2.Transfer
) -> Iterator[str]:
    words = _words(transfer)
    is_debit = result.result in _OF_DEBIT
    # The end of a hold need not name the accounts.
    name = (transfer.debit_account_id if is_debit else transfer.credit_account_id) or "…"
    if result.result in _NO_ACCOUNT:
        currency = transfer.amount.currency_code or "…"
        yield f"create it: tollmesh accounts create {name} --type … --currency {currency}"
    if result.result in _CLOSED:
        yield f"an account that a hold has closed opens once that is voided: tollmesh accounts get {name}"
    if result.result in _LIMITED:
        yield f"its limits, and what holds leave available: tollmesh accounts get {name}"
    if result.result in _HELP:
        yield _HELP[result.result]
    if result.result in _OF_HOLD:
        yield f"how it stands: tollmesh ledger transfer {transfer.pending_id}"
    if result.result in BURNING:
        yield f"the same command will not {words.do} it later either: --again makes a new attempt"


def uuid_of(text: str) -> str:
    """Read a UUID, as it is usually written; empty for nothing. Raises CliError."""
    try:
        return str(UUID(text)) if text else ""
    except ValueError as error:
        raise CliError(f"{text!r} is not a UUID", exit_code=EXIT_USAGE) from error
