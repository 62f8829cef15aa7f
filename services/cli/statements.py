"""Statements of accounts: read page by page, and written as CSV, JSON or a page to print."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from google.protobuf.timestamp_pb2 import Timestamp
from payments.ledger.v1 import (
    ledger_pb2,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    statement_pb2,
)

from services.cli import references
from services.cli.client import Client
from services.cli.output import as_dict, enum_name, plain_money
from services.runtime.money import Money, format_money

LINES_PER_PAGE = 1_000
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Read:
    """A statement: its sums, and its lines, which are read as they are asked for."""

    sums: ledger_service_pb2.GetStatementResponse
    lines: Iterator[statement_pb2.StatementEntry]


def read(client: Client, request: ledger_service_pb2.GetStatementRequest) -> Read:
    """Read a statement; the request is used for every page. Raises CliError."""
    stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
    request.page_size = LINES_PER_PAGE
    first = client.call(stub.GetStatement, request)

    def lines() -> Iterator[statement_pb2.StatementEntry]:
        page = first
        yield from page.entries
        while page.next_page_token:
            request.page_token = page.next_page_token
            page = client.call(stub.GetStatement, request)
            yield from page.entries

    return Read(first, lines())


def time_of(by: statement_pb2.Time.ValueType, entry: ledger_pb2.Entry) -> Timestamp:
    """Return that of an entry's two times which a statement goes by."""
    return entry.effective_at if by == statement_pb2.TIME_EFFECTIVE else entry.recorded_at


def exact(moment: Timestamp) -> str:
    """Write a time in UTC with all that is known of it: `2026-01-31T23:59:59.123456Z`."""
    return f"{moment.ToDatetime():%Y-%m-%dT%H:%M:%S.%fZ}"


def again(sums: ledger_service_pb2.GetStatementResponse) -> str:
    """Write the options that make the same statement again."""
    return f"--as-of {exact(sums.recorded_at)} --last-seq {sums.last_seq}"


# ---- CSV


def spreadsheet_safe(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe is put in front of what looks like one."""
    return f"'{text}" if text.startswith(_FORMULA) else text


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the CSV: the opening balance, a line or the closing balance."""

    line: str
    balance_minor: int
    currency_code: str
    debit_minor: int | None
    credit_minor: int | None
    entry: ledger_pb2.Entry | None


def rows(found: Read) -> Iterator[Row]:
    """Give the opening balance, the lines, and the closing balance with the sums of the period."""
    sums = found.sums
    code = sums.currency_code
    yield Row("opening", sums.opening.minor_units, code, None, None, None)
    for each in found.lines:
        entry, amount = each.entry, each.entry.amount.minor_units
        is_debit = entry.direction == ledger_pb2.DIRECTION_DEBIT
        yield Row(
            "entry",
            each.balance.minor_units,
            code,
            amount if is_debit else None,
            None if is_debit else amount,
            entry,
        )
    yield Row(
        "closing",
        sums.closing.minor_units,
        code,
        sums.debits.minor_units,
        sums.credits.minor_units,
        None,
    )


# ---- JSON


def write_json(found: Read, file: IO[bytes]) -> None:
    """Write one object: the sums, and the entries as a list."""
    sums = ledger_service_pb2.GetStatementResponse()
    sums.CopyFrom(found.sums)
    sums.ClearField("entries")
    plain = as_dict(sums)
    for name in ("entries", "next_page_token"):
        plain.pop(name, None)
    file.write(json.dumps(plain)[:-1].encode() + b', "entries": [')
    for number, each in enumerate(found.lines):
        file.write((", " if number else "").encode() + json.dumps(as_dict(each)).encode())
    file.write(b"]}\n")


# ---- A page to print

_STYLE = """
  :root { color-scheme: light; }
  body { font: 10pt/1.4 "Helvetica Neue", Arial, "Liberation Sans", sans-serif; color: #111; background: #fff;
         max-width: 190mm; margin: 12mm auto; padding: 0 4mm; }
  h1 { font-size: 16pt; margin: 0 0 1mm; }
  .account { font-size: 11pt; overflow-wrap: anywhere; margin: 0 0 5mm; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .6mm 6mm; margin: 0 0 5mm; }
  dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
  table { width: 100%; border-collapse: collapse; }
  th { text-align: left; font-weight: 600; border-bottom: 1.2pt solid #111; }
  th, td { padding: 1mm 1.5mm; vertical-align: top; overflow-wrap: anywhere; }
  td { border-bottom: .4pt solid #ccc; }
  .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
  .time { white-space: nowrap; }
  .small { color: #555; font-size: 8pt; }
  .sum td { font-weight: 600; border-top: .8pt solid #111; border-bottom: .8pt solid #111; }
  .closing td { border-bottom: 2.4pt double #111; }
  .signed { display: grid; grid-template-columns: 1fr 1fr; gap: 12mm; margin-top: 16mm; break-inside: avoid; }
  .signed div { border-top: .6pt solid #111; padding-top: 1mm; color: #555; }
  footer { margin-top: 8mm; color: #555; font-size: 8pt; overflow-wrap: anywhere; }
  @page { size: A4; margin: 15mm 12mm 18mm;
          @bottom-right { content: counter(page) " / " counter(pages); font-size: 8pt; } }
  @media print { body { max-width: none; margin: 0; padding: 0; } thead { display: table-header-group; }
                 tr { break-inside: avoid; } .closing { break-before: avoid; } }
"""
_HEADINGS = (
    ("", "Date, UTC"),
    ("", "No."),
    ("", "Other account, reference"),
    ("number", "Debit"),
    ("number", "Credit"),
    ("number", "Balance"),
)


def write_html(found: Read, file: IO[bytes]) -> None:
    """Write a page that needs nothing else and prints well. The same statement is the same page, byte for byte."""
    for part in _page(found):
        file.write(part.encode())


def _page(found: Read) -> Iterator[str]:
    sums = found.sums
    title = f"Statement of account {sums.account_id}"
    yield (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_text(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Statement of account</h1>\n"
        f'<p class="account">{_text(sums.account_id)}</p>\n<dl>\n'
    )
    for name, value in facts(sums).items():
        yield f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>\n"
    heads = "".join(f'<th scope="col" class="{kind}">{name}</th>' for kind, name in _HEADINGS)
    yield f"</dl>\n<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n"
    yield _sum_row("Opening balance", "", "", plain_money(sums.opening), "sum")
    for each in found.lines:
        yield _line_row(sums.by, each)
    debits, credits_ = plain_money(sums.debits), plain_money(sums.credits)
    yield _sum_row("Closing balance", debits, credits_, plain_money(sums.closing), "sum closing")
    yield (
        '</tbody>\n</table>\n<div class="signed"><div>Prepared by, date</div><div>Approved by, date</div></div>\n'
        f"<footer>{_text(_footer(sums))}</footer>\n</body>\n</html>\n"
    )


def facts(sums: ledger_service_pb2.GetStatementResponse) -> Mapping[str, str]:
    """Return what stands at the head of a statement, by name."""
    period = sums.period
    side = "debits less credits"
    if sums.type not in (ledger_pb2.ACCOUNT_TYPE_ASSET, ledger_pb2.ACCOUNT_TYPE_EXPENSE):
        side = "credits less debits"
    by = "takes effect" if sums.by == statement_pb2.TIME_EFFECTIVE else "was recorded"
    noun = "entry" if sums.entry_count == 1 else "entries"
    found = {
        "Owner": sums.owner,
        "Period": f"{_short(period.start_at)} to before {_short(period.end_at)} UTC, by when an entry {by}",
        "Currency": sums.currency_code,
        "Account type": f"{enum_name(sums, 'type')}; a balance is {side}",
        "Opening balance": _amount(sums.opening),
        "Debits": _amount(sums.debits),
        "Credits": _amount(sums.credits),
        "Closing balance": _amount(sums.closing),
        "Entries": f"{sums.entry_count:,} {noun} in the period",
        "As of": f"{exact(sums.recorded_at)}, up to entry {sums.last_seq:,} of the account",
    }
    return {name: value for name, value in found.items() if value}


def _footer(sums: ledger_service_pb2.GetStatementResponse) -> str:
    period = f"{exact(sums.period.start_at)}/{exact(sums.period.end_at)}"
    by = enum_name(sums, "by")
    return (
        "Entries are never changed or deleted. The same statement again: tollmesh ledger statement "
        f"{sums.account_id} --period {period} --by {by} {again(sums)} --format html"
    )


def _amount(amount: object) -> str:
    code, minor = amount.currency_code, amount.minor_units  # type: ignore[attr-defined] # a Money
    return f"{format_money(Money(code, minor))} {code}"


def _short(moment: Timestamp) -> str:
    """Write a time as short as it is: a day, or to the second, or with all of it."""
    found: datetime = moment.ToDatetime(UTC)
    if found.microsecond:
        return exact(moment)
    is_day = (found.hour, found.minute, found.second) == (0, 0, 0)
    return f"{found:%Y-%m-%d}" if is_day else f"{found:%Y-%m-%d %H:%M:%S}"


def _line_row(by: statement_pb2.Time.ValueType, each: statement_pb2.StatementEntry) -> str:
    entry = each.entry
    is_debit = entry.direction == ledger_pb2.DIRECTION_DEBIT
    amount = plain_money(entry.amount)
    more = [references.written(entry.reference), f"code {entry.code}" if entry.code else ""]
    more += [entry.transfer_id]
    small = " · ".join(_text(each) for each in more if each)
    moment = time_of(by, entry).ToDatetime()
    cells = (
        f'<td class="time">{moment:%Y-%m-%d %H:%M:%S}</td><td>{entry.seq}</td>'
        f'<td>{_text(entry.counter_account_id)}<br><span class="small">{small}</span></td>'
        f'<td class="number">{amount if is_debit else ""}</td><td class="number">{"" if is_debit else amount}</td>'
        f'<td class="number">{plain_money(each.balance)}</td>'
    )
    return f"<tr>{cells}</tr>\n"


def _sum_row(name: str, debit: str, credit: str, balance: str, kind: str) -> str:
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in (debit, credit, balance))
    return f'<tr class="{kind}"><td colspan="3">{name}</td>{numbers}</tr>\n'


def _text(text: str) -> str:
    """Write a text as HTML; what has no place in a document is shown by its number."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
    return html.escape(shown)
