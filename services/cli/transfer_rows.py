"""Transfers out of the rows of CSV, JSON Lines and Parquet files: amounts are exact, and a fault names its row."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration
from payments.ledger.v1 import ledger_pb2
from payments.type.v1 import type_pb2

from services.cli import amounts, durations, readers
from services.cli.columns import ColumnMapping, Places
from services.cli.errors import EXIT_USAGE, CliError
from services.runtime.errors import UnknownCurrency
from services.runtime.money import MINOR_UNITS_MAX, exponent

FLAGS = (
    "linked",
    "balancing_debit",
    "balancing_credit",
    "closing_debit",
    "closing_credit",
    "multi_capture",
)
TEXTS = ("transfer_id", "debit_account_id", "credit_account_id", "pending_id")
REFERENCE = ("reference_kind", "reference_id", "reference_part")
FIELDS = (
    *TEXTS,
    *("amount", "amount_minor", "currency_code", "code", "kind", "timeout", "effective_at"),
    *REFERENCE,
    *FLAGS,
)
FAULTS_SHOWN = 20
RULES_SHOWN = 5
_ALSO = {
    "debit": "debitaccountid",
    "credit": "creditaccountid",
    "currency": "currencycode",
    "amountminorunits": "amountminor",
}
MAPPING = ColumnMapping(fields=FIELDS, required=(), also=_ALSO)
_CODE_MAX = 65_535
# Of a row without an id: it gets one that follows from what it moves.
_ANY_ID = "00000000-0000-0000-0000-000000000000"
_ENDS_OF_HOLDS = (ledger_pb2.KIND_POST_PENDING, ledger_pb2.KIND_VOID_PENDING)
_TRUTH = {"true": True, "false": False}


class RowFormat(StrEnum):
    """Files whose rows are transfers."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A row that is a transfer; whether it is posted is the ledger's word."""

    row: int
    transfer: ledger_pb2.Transfer


def format_of(path: str, chosen: RowFormat | None) -> RowFormat | None:
    """Return the format of a file of rows, by choice or by its ending before `.gz`; None for a file of messages."""
    if chosen is not None:
        return chosen
    name = Path(path.lower())
    ending = name.with_suffix("").suffix if name.suffix == ".gz" else name.suffix
    return {".csv": RowFormat.CSV, ".parquet": RowFormat.PARQUET}.get(ending)


def checked(
    path: str,
    chosen: RowFormat,
    mapping: ColumnMapping,
    unread: readers.Unread,
    prepared: Callable[[Iterator[ledger_pb2.Transfer]], Iterable[object]] = iter,
) -> None:
    """Read a file of rows to its end, and prepare its transfers as for sending them.

    Raises:
        CliError: it cannot be read or sent, or rows of it are no transfers, by the ledger's own rules too: the first
            faults are named, and nothing was posted.
    """
    faults: list[readers.BadRow] = []
    count = 0

    def sound() -> Iterator[ledger_pb2.Transfer]:
        nonlocal count
        for row in _rows(path, chosen, mapping, unread):
            problem = row.problem if isinstance(row, readers.BadRow) else _broken(row.transfer)
            if problem:
                count += 1
                faults.extend([readers.BadRow(row.row, problem)] if count <= FAULTS_SHOWN else [])
            elif isinstance(row, TransferRow):
                yield row.transfer

    rows = sound()
    try:
        deque(prepared(rows), maxlen=0)
    except CliError as error:
        # Without those that are none the others may be put together wrongly: rows come first.
        deque(rows, maxlen=0)
        if not count:
            error.hints = [hint for hint in error.hints if "were sent" not in hint]
            error.hints = [*error.hints, "nothing was posted"]
            raise
    if not count:
        return
    told = [f"row {fault.row}: {fault.problem}" for fault in faults]
    more = [f"… and {count - len(faults):,} more"] if count > len(faults) else []
    raise CliError(
        "1 row is no transfer" if count == 1 else f"{count:,} rows are no transfers",
        *(*told, *more),
        "nothing was posted: mend them, and repeat the command",
        exit_code=EXIT_USAGE,
    )


def transfers(path: str, chosen: RowFormat, mapping: ColumnMapping) -> Iterator[TransferRow]:
    """Give the transfers of a file that was checked. Raises CliError: it has changed since."""
    for row in _rows(path, chosen, mapping, lambda _: None):
        problem = row.problem if isinstance(row, readers.BadRow) else _broken(row.transfer)
        if problem:
            raise CliError(
                f"row {row.row}: {problem}",
                "the file has changed since it was read: rows before this one may have been posted",
                exit_code=EXIT_USAGE,
            )
        assert isinstance(row, TransferRow)
        yield row


@contextmanager
def readable_twice(path: str) -> Iterator[str]:
    """Give the name of a file that can be read twice; a pipe, or standard input, `-`, is copied to one."""
    if path != "-" and not _is_stream(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="tollmesh-") as kept:
        if path == "-":
            shutil.copyfileobj(sys.stdin.buffer, kept)
        else:
            with Path(path).open("rb") as stream:
                shutil.copyfileobj(stream, kept)
        kept.flush()
        yield kept.name


def _is_stream(path: str) -> bool:
    """True for a pipe, as `<(…)` of a shell is one, or a device; what cannot be looked at is told by who reads it."""
    found = Path(path)
    try:
        return found.exists() and not (found.is_file() or found.is_dir())
    except OSError:
        return False


def _broken(transfer: ledger_pb2.Transfer) -> str:
    """Say which of the ledger's rules for one transfer a row breaks; an empty text for none."""
    asked = ledger_pb2.Transfer()
    asked.CopyFrom(transfer)
    asked.transfer_id = transfer.transfer_id or _ANY_ID
    # Imported here: only who reads rows waits for the rules to be loaded.
    from services.runtime.edge.validation import violations  # noqa: PLC0415

    broken = violations(asked)
    if broken:
        return "; ".join(f"{each.field}: {each.description}" for each in broken[:RULES_SHOWN])
    if transfer.kind in _ENDS_OF_HOLDS:
        return ""
    for name in ("debit_account_id", "credit_account_id"):
        if not getattr(transfer, name):
            return f"{name}: is required, unless the transfer posts or voids a hold"
    if transfer.HasField("amount") or transfer.balancing_debit or transfer.balancing_credit:
        return ""
    return "amount: is required, unless the transfer posts or voids a hold or is balancing"


def _rows(
    path: str, chosen: RowFormat, mapping: ColumnMapping, unread: readers.Unread
) -> Iterator[TransferRow | readers.BadRow]:
    file_format = readers.detect(path, readers.FileFormat(chosen))
    yield from readers.read_rows(path, file_format, mapping, _made, unread)


def _made(
    number: int, record: Mapping[str, Any], places: Places, constants: Mapping[str, str]
) -> TransferRow:
    """Raises ValueError: the record is no transfer."""
    values = {name: _text(name, record.get(column)) for name, column in places.fields.items()}
    values |= {name: value for name, value in constants.items() if name in FIELDS}
    given = {name: text for name, text in values.items() if text}
    try:
        transfer = ledger_pb2.Transfer(metadata=readers.metadata_of(record, places, constants))
        for name in given.keys() & {*TEXTS}:
            setattr(transfer, name, given[name])
        for name in given.keys() & {*FLAGS}:
            setattr(transfer, name, _truth(name, given[name]))
        for name, read in _READERS.items():
            if name in given:
                read(transfer, given)
    except UnicodeEncodeError as error:
        raise ValueError(readers.NOT_UTF8) from error
    except CliError as error:
        raise ValueError(error.message) from error
    return TransferRow(number, transfer)


def _text(name: str, value: Any) -> str:
    """Return a cell as text; empty for none. Raises ValueError: it has none that is exact."""
    if isinstance(value, bool) and name in FLAGS:
        return "true" if value else "false"
    if isinstance(value, float) and name in ("amount", "amount_minor"):
        raise ValueError(
            f"{name} is a floating-point number, which holds few amounts exactly: write decimals, integers or texts"
        )
    if isinstance(value, Decimal) and name == "amount":
        # The column's places, which are as many for every currency: zeros say nothing here.
        return format(value.normalize(), "f")
    return readers.field_text(name, value)


def _truth(name: str, text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(f"{name}: {text[:64]!r} is neither true nor false")
    return _TRUTH[text.lower()]


def _set_amount(transfer: ledger_pb2.Transfer, given: Mapping[str, str]) -> None:
    if "amount_minor" in given:
        raise ValueError("has both amount and amount_minor: give one of them")
    is_closing = transfer.closing_debit or transfer.closing_credit
    allowed = amounts.Range.NOT_NEGATIVE if is_closing else amounts.Range.POSITIVE
    transfer.amount.CopyFrom(amounts.parse("amount", given["amount"], _currency(given), allowed))


def _set_amount_minor(transfer: ledger_pb2.Transfer, given: Mapping[str, str]) -> None:
    text = given["amount_minor"]
    if not (text.isascii() and text.isdigit()) or int(text[:40]) > MINOR_UNITS_MAX:
        raise ValueError(f"amount_minor: {text[:64]!r} is not a whole number of minor units")
    currency = _currency(given)
    transfer.amount.CopyFrom(type_pb2.Money(currency_code=currency, minor_units=int(text)))


def _currency(given: Mapping[str, str]) -> str:
    if "currency_code" not in given:
        raise ValueError(
            "has an amount without currency_code: add the column, or --set currency_code=USD for all rows"
        )
    try:
        exponent(given["currency_code"])
    except UnknownCurrency as error:
        raise ValueError(error.message) from error
    return given["currency_code"]


def _set_code(transfer: ledger_pb2.Transfer, given: Mapping[str, str]) -> None:
    text = given["code"]
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > _CODE_MAX:
        raise ValueError(f"code: {text[:64]!r} is not a whole number from 0 to {_CODE_MAX:,}")
    transfer.code = int(text)


def _set_kind(transfer: ledger_pb2.Transfer, given: Mapping[str, str]) -> None:
    name = given["kind"].upper().replace("-", "_").removeprefix("KIND_")
    known = [each.removeprefix("KIND_") for each in ledger_pb2.Kind.keys()[1:]]
    if name not in known:
        raise ValueError(f"kind: {given['kind'][:64]!r} is not one of {', '.join(known).lower()}")
    transfer.kind = ledger_pb2.Kind.Value(f"KIND_{name}")


def _set_timeout(transfer: ledger_pb2.Transfer, given: Mapping[str, str]) -> None:
    span = Duration()
    span.FromTimedelta(durations.parse(given["timeout"]))
    if span.seconds:
        transfer.timeout.CopyFrom(span)


def _set_effective_at(transfer: ledger_pb2.Transfer, given: Mapping[str, str]) -> None:
    text = given["effective_at"]
    try:
        transfer.effective_at.FromDatetime(readers.parse_event_time(text))
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"effective_at: {text[:64]!r} is not a time like 2026-01-15T12:00:00Z"
        ) from error


def _set_reference(transfer: ledger_pb2.Transfer, given: Mapping[str, str]) -> None:
    missing = [name for name in REFERENCE[:2] if name not in given]
    if missing:
        raise ValueError(f"has a reference without {', '.join(missing)}")
    kind, id_, part = (given.get(name, "") for name in REFERENCE)
    transfer.reference.CopyFrom(ledger_pb2.Reference(kind=kind, id=id_, part=part))


_READERS: Mapping[str, Callable[[ledger_pb2.Transfer, Mapping[str, str]], None]] = {
    "amount": _set_amount,
    "amount_minor": _set_amount_minor,
    "code": _set_code,
    "kind": _set_kind,
    "timeout": _set_timeout,
    "effective_at": _set_effective_at,
    **dict.fromkeys(REFERENCE, _set_reference),
}
