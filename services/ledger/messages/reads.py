"""Lists and statements: what is asked for, places of pages, and answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import statement_pb2
from payments.type.v1 import type_pb2

from services.ledger.domain.accounts import AccountFilter, AccountType, EntryPlace
from services.ledger.domain.reads import (
    EntriesWanted,
    Span,
    TransferPlace,
    TransfersWanted,
    TypedEntry,
)
from services.ledger.domain.statements import (
    Line,
    LinePlace,
    Statement,
    StatementHead,
    StatementWanted,
    Sums,
    Time,
)
from services.ledger.messages import books
from services.runtime.edge import values as edge
from services.runtime.edge.paging import Int32
from services.runtime.errors import InvalidField
from services.runtime.money import Money, exponent

ENTRY_PLACE: Mapping[str, type] = {"account_id": str, "seq": int}
TRANSFER_PLACE: Mapping[str, type] = {"recorded_at": datetime, "batch_no": int, "position": Int32}
# A statement is made once: its sums go from page to page, and each page costs its own lines.
STATEMENT_PLACE: Mapping[str, type] = {
    "recorded_at": datetime,
    "through": int,
    "opening": int,
    "debits": int,
    "credits": int,
    "entries": int,
    "first": int,
    "last": int,
    "at": datetime,
    "seq": int,
    "balance": int,
}

# ---- In


def scope(name: str, request: Any) -> str:
    """Spell a list and its filters: all that a request says but for the page."""
    asked = type(request)()
    asked.CopyFrom(request)
    for field in ("page_size", "page_token"):
        asked.ClearField(field)
    return f"{name}|{asked.SerializeToString(deterministic=True).hex()}"


def span_of(request: Any, field: str) -> Span | None:
    """Read a period that may be absent."""
    if not request.HasField(field):
        return None
    period: type_pb2.Period = getattr(request, field)
    return Span(edge.moment_of(period.start_at), edge.moment_of(period.end_at))


def accounts_wanted(request: service_pb.ListAccountsRequest) -> AccountFilter:
    """Read which accounts are asked for. Raises UnknownCurrency."""
    if request.currency_code:
        exponent(request.currency_code)
    return AccountFilter(
        request.owner,
        request.currency_code,
        AccountType(request.type) if request.type else None,
        request.account_prefix,
    )


def entries_wanted(request: service_pb.ListEntriesRequest) -> EntriesWanted:
    """Read which entries are asked for. Raises InvalidField: neither an account nor a prefix is given, or both are."""
    if bool(request.account_id) == bool(request.account_prefix):
        raise InvalidField.one(
            "account_id", "give either account_id, for one account, or account_prefix, for many"
        )
    return EntriesWanted(
        request.account_id,
        request.account_prefix,
        span_of(request, "recorded_in"),
        span_of(request, "effective_in"),
        request.code if request.HasField("code") else None,
        request.newest_first,
    )


def transfers_wanted(request: service_pb.ListTransfersRequest) -> TransfersWanted:
    """Read which transfers are asked for. Raises InvalidField: a reference is only half given."""
    if bool(request.reference_kind) != bool(request.reference_id):
        raise InvalidField.one(
            "reference_id" if request.reference_kind else "reference_kind",
            "give reference_kind and reference_id together, or neither",
        )
    has_part = request.HasField("reference_part")
    if has_part and not request.reference_id:
        raise InvalidField.one("reference_part", "belongs to a reference_kind and a reference_id")
    return TransfersWanted(
        request.reference_kind,
        request.reference_id,
        request.reference_part if has_part else None,
        request.account_id,
        request.code if request.HasField("code") else None,
        span_of(request, "recorded_in"),
        request.newest_first,
    )


def statement_wanted(request: service_pb.GetStatementRequest) -> StatementWanted:
    """Read which statement is asked for."""
    period = request.period
    return StatementWanted(
        request.account_id,
        Span(edge.moment_of(period.start_at), edge.moment_of(period.end_at)),
        Time(request.by or Time.RECORDED),
        edge.moment_or_none(request, "recorded_at"),
        request.last_seq if request.HasField("last_seq") else None,
    )


def statement_of(
    wanted: StatementWanted, head: StatementHead, after: Mapping[str, Any]
) -> tuple[Statement, LinePlace]:
    """Read back, from the place of a page, a statement and where its page begins."""
    sums = Sums(
        *(after[name] for name in ("debits", "credits", "entries", "first", "last")),
    )
    found = Statement(
        head,
        wanted.span,
        wanted.by,
        after["recorded_at"],
        after["through"],
        after["opening"],
        sums,
    )
    return found, LinePlace(after["at"], after["seq"], after["balance"])


# ---- Out


def entry_place(place: EntryPlace) -> dict[str, str | int]:
    """Write a place among entries."""
    return {"account_id": place.account_id, "seq": place.seq}


def transfer_place(place: TransferPlace) -> dict[str, str | int]:
    """Write a place among transfers."""
    return {
        "recorded_at": place.recorded_at.isoformat(),
        "batch_no": place.batch_no,
        "position": place.position,
    }


def statement_place(found: Statement, place: LinePlace) -> dict[str, str | int]:
    """Write a place in a statement, and the statement."""
    return {
        "recorded_at": found.recorded_at.isoformat(),
        "through": found.last_seq,
        "opening": found.opening_minor,
        "debits": found.sums.debits_minor,
        "credits": found.sums.credits_minor,
        "entries": found.sums.entries,
        "first": found.sums.first_seq,
        "last": found.sums.last_seq,
        "at": place.at.isoformat(),
        "seq": place.seq,
        "balance": place.balance_minor,
    }


def entry(item: TypedEntry) -> pb.Entry:
    """Write an entry of a page."""
    return books.entry(item.entry, item.type)


def statement_entry(found: Statement, line: Line) -> statement_pb2.StatementEntry:
    """Write a line of a statement."""
    head = found.head
    balance = edge.money(Money(head.currency_code, head.type.balance(line.balance_minor)))
    return statement_pb2.StatementEntry(entry=books.entry(line.entry, head.type), balance=balance)


def statement(
    found: Statement, entries: Iterable[statement_pb2.StatementEntry], token: str
) -> service_pb.GetStatementResponse:
    """Write a page of a statement. Raises AmountOverflow: its place was not one that was given."""
    head, sums = found.head, found.sums

    def money(minor_units: int) -> type_pb2.Money:
        return edge.money(Money(head.currency_code, minor_units))

    return service_pb.GetStatementResponse(
        account_id=head.account_id,
        currency_code=head.currency_code,
        type=int(head.type),  # type: ignore[arg-type] # numbers agree, see the tests
        owner=head.owner,
        period=edge.period(found.span.start_at, found.span.end_at),
        by=int(found.by),  # type: ignore[arg-type] # numbers agree, see the tests
        recorded_at=edge.stamp(found.recorded_at),
        last_seq=found.last_seq,
        opening=money(head.type.balance(found.opening_minor)),
        entries=entries,
        closing=money(head.type.balance(found.closing_minor)),
        debits=money(sums.debits_minor),
        credits=money(sums.credits_minor),
        entry_count=sums.entries,
        next_page_token=token,
    )
