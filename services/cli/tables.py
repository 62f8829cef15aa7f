"""What `tollmesh export` writes: tables with their columns, and the pages that their rows come from.

A column keeps its name, its kind and its place; new ones are added at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from payments.billing.v1 import charge_service_pb2, charge_service_pb2_grpc
from payments.events.v1 import events_service_pb2, events_service_pb2_grpc
from payments.ledger.v1 import ledger_service_pb2, ledger_service_pb2_grpc
from payments.metering.v1 import metering_pb2, metering_service_pb2, metering_service_pb2_grpc
from payments.orchestration.v1 import (
    orchestration_pb2,
    orchestration_service_pb2,
    orchestration_service_pb2_grpc,
)
from payments.settlement.v1 import payout_service_pb2, payout_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli import payloads
from services.cli.client import CALL_TIMEOUT_SECONDS, Client
from services.cli.errors import CliError
from services.cli.output import as_dict, enum_name

PAGE_ROWS = 1_000
# Entries that one page looks at, and accounts that it can be asked for.
ENTRIES_PAGE_ROWS = 5_000
ACCOUNTS_MAX = 1_000
TRIES_MAX = 5
_MICROS = 1_000_000
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Kind(StrEnum):
    """What stands in a column, and how each format holds it."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    TIME = "time"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        about: what it says, for the reference page.
        read: takes the value of an item. A text is None when it is empty; a time is microseconds since 1970, a
            decimal its text.
    """

    name: str
    kind: Kind
    about: str
    read: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `about` says what one row is."""

    name: str
    about: str
    columns: Sequence[Column]

    def take(self, page: Any) -> list[list[Any]]:
        """Read a page of items into columns."""
        return [[column.read(item) for item in page] for column in self.columns]


@dataclass(frozen=True, slots=True)
class ColumnTable(Table):
    """A table whose pages come by column: `read` takes all values of the page at once."""

    def take(self, page: Any) -> list[list[Any]]:
        """Read the columns of a page."""
        return [list(column.read(page.columns)) for column in self.columns]


Page = Sized


# ---- Pages


@dataclass(slots=True)
class Pages:
    """The pages of a List RPC: the next one is asked for while one is worked on, so at most two are in memory.

    A page that the mesh does not answer is asked for again, up to five times; one that is too large for a message is
    asked for in half.

    Args:
        request: of the first page; it is changed.
        items: field of the response that holds the rows.
        place: field of the request that says where a page begins.
        following: field of the response that says where the next one does.
        endless: whether the response says so on the last page too; the first page without rows ends it then.
    """

    client: Client
    method: Any
    request: Any
    items: str
    place: str = "page_token"
    following: str = "next_page_token"
    endless: bool = False
    last_token: str = ""
    _asked: Any = field(init=False)

    def __post_init__(self) -> None:
        self._asked = self._ask()

    def _ask(self) -> Any:
        return self.method.future(
            self.request, timeout=CALL_TIMEOUT_SECONDS, metadata=self.client.metadata
        )

    def _response(self) -> Any:
        failed = 0
        while True:
            try:
                return self._asked.result()
            except grpc.RpcError as error:
                is_too_large = (
                    error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    and "larger than max" in str(error.details() or "").lower()
                )
                if is_too_large and self.request.page_size > 1:
                    self.request.page_size //= 2
                elif error.code() in _AGAIN and failed < TRIES_MAX:
                    failed += 1
                    time.sleep(0.1 * 2**failed)
                else:
                    raise self.client.explain(error) from error
                self._asked = self._ask()

    def __iter__(self) -> Iterator[Any]:
        """Give the pages that have rows. Raises CliError: the mesh refuses one or stays away."""
        try:
            while True:
                response = self._response()
                found = getattr(response, self.items)
                following = getattr(response, self.following)
                goes_on = bool(found) if self.endless else bool(following)
                self.last_token = following
                if goes_on:
                    setattr(self.request, self.place, following)
                    self._asked = self._ask()
                if found:
                    yield found
                if not goes_on:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """Give up what was asked for."""
        self._asked.cancel()


def within(
    pages: Iterable[Any], period: type_pb2.Period | None, moment: Callable[[Any], Timestamp]
) -> Iterator[Page]:
    """Keep what lies in a period, half open; all without one."""
    if period is None:
        yield from pages
        return
    start, end = _micros(period.start_at), _micros(period.end_at)
    for page in pages:
        if kept := [item for item in page if start <= _micros(moment(item)) < end]:
            yield kept


# ---- Entries


def entries(
    client: Client, period: type_pb2.Period | None, accounts: Sequence[str], owner: str
) -> Iterator[Page]:
    """Give the entries of the ledger by account and number; of a period, those that were recorded in it."""
    stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
    named = sorted(set(accounts))
    for start in range(0, len(named) or 1, ACCOUNTS_MAX):
        request = ledger_service_pb2.ExportEntriesRequest(
            account_ids=named[start : start + ACCOUNTS_MAX],
            owner=owner,
            recorded_in=period,
            page_size=ENTRIES_PAGE_ROWS,
        )
        for columns in Pages(client, stub.ExportEntries, request, "entries"):
            if columns.seqs:
                yield EntryPage(columns)


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries by column, as long as one of them."""

    columns: ledger_service_pb2.EntryColumns

    def __len__(self) -> int:
        return len(self.columns.seqs)


def _text(read: Callable[[Any], str]) -> Callable[[Any], str | None]:
    return lambda item: read(item) or None


def _name(attribute: str) -> Callable[[Any], Any]:
    return lambda item: getattr(item, attribute) or None


def _number(attribute: str) -> Callable[[Any], Any]:
    return lambda item: getattr(item, attribute)


def _enum(attribute: str) -> Callable[[Any], str]:
    names: dict[int, str] = {}

    def read(item: Any) -> str:
        number = getattr(item, attribute)
        if number not in names:
            names[number] = enum_name(item, attribute)
        return names[number]

    return read


def _minor(attribute: str) -> Callable[[Any], int | None]:
    def read(item: Any) -> int | None:
        amount = getattr(item, attribute)
        return amount.minor_units if amount.currency_code else None

    return read


def _micros(moment: Timestamp) -> int:
    return moment.seconds * _MICROS + moment.nanos // 1000


def _time(attribute: str) -> Callable[[Any], int | None]:
    def read(item: Any) -> int | None:
        return _micros(getattr(item, attribute)) if item.HasField(attribute) else None

    return read


def _map(attribute: str) -> Callable[[Any], str | None]:
    def read(item: Any) -> str | None:
        found = dict(getattr(item, attribute))
        return json.dumps(found, sort_keys=True, ensure_ascii=False) if found else None

    return read


def _filled(texts: Sequence[str]) -> list[str | None]:
    return [text or None for text in texts]


ENTRIES = ColumnTable(
    "entries",
    "one entry of a ledger account; every transfer leaves two",
    (
        Column("account_id", Kind.TEXT, "account of the entry", lambda of: of.account_ids),
        Column(
            "seq", Kind.INTEGER, "place among the account's entries, from 1", lambda of: of.seqs
        ),
        Column("transfer_id", Kind.TEXT, "transfer that made it", lambda of: of.transfer_ids),
        Column(
            "direction",
            Kind.TEXT,
            "`debit` or `credit`",
            lambda of: ["debit" if amount > 0 else "credit" for amount in of.amounts_minor],
        ),
        Column(
            "amount_minor",
            Kind.INTEGER,
            "amount, positive",
            lambda of: list(map(abs, of.amounts_minor)),
        ),
        Column(
            "balance_after_minor",
            Kind.INTEGER,
            "balance once the entry was made, on the side that the account's type grows on",
            lambda of: of.balances_after_minor,
        ),
        Column(
            "currency_code",
            Kind.TEXT,
            "currency of both amounts",
            lambda of: of.currency_codes,
        ),
        Column(
            "counter_account_id",
            Kind.TEXT,
            "the transfer's other account",
            lambda of: of.counter_account_ids,
        ),
        Column("code", Kind.INTEGER, "the transfer's code", lambda of: of.codes),
        Column("recorded_at", Kind.TIME, "when it was recorded", lambda of: of.recorded_at_us),
        Column("effective_at", Kind.TIME, "when it takes effect", lambda of: of.effective_at_us),
        Column(
            "metadata",
            Kind.JSON,
            "the transfer's metadata",
            lambda of: _filled(of.metadata),
        ),
    ),
)


# ---- Charges


@dataclass(frozen=True, slots=True)
class ChargeRow:
    """A line of a charge; the line is None for a charge without lines."""

    charge: Any
    line: Any


def charges(
    client: Client, period: type_pb2.Period | None, organisations: Sequence[str]
) -> Iterator[Page]:
    """Give the lines of charges whose period has an instant in common with this one."""
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    for org_id in organisations or ("",):
        request = charge_service_pb2.ListChargesRequest(org_id=org_id, period=period, page_size=100)
        for page in Pages(client, stub.ListCharges, request, "charges"):
            yield [ChargeRow(charge, line) for charge in page for line in charge.lines or (None,)]


def _of(
    part: str, read: Callable[[Callable[[Any], Any]], Any] | Callable[[Any], Any]
) -> Callable[[Any], Any]:
    def taken(row: ChargeRow) -> Any:
        found = getattr(row, part)
        return None if found is None else read(found)

    return taken


def _bound(attribute: str) -> Callable[[Any], int]:
    return lambda charge: _micros(getattr(charge.period, attribute))


CHARGES = Table(
    "charges",
    "one line of a charge: what the usage of a SKU in a project costs; a charge without lines is one row too",
    (
        Column("charge_id", Kind.TEXT, "the charge", _of("charge", _name("charge_id"))),
        Column("org_id", Kind.TEXT, "organisation that owes it", _of("charge", _name("org_id"))),
        Column(
            "period_start_at", Kind.TIME, "start of its period", _of("charge", _bound("start_at"))
        ),
        Column("period_end_at", Kind.TIME, "end of its period", _of("charge", _bound("end_at"))),
        Column(
            "charge_status", Kind.TEXT, "`pending`, `settled`, …", _of("charge", _enum("status"))
        ),
        Column(
            "currency_code",
            Kind.TEXT,
            "currency of all amounts of the row",
            _of("charge", _text(lambda charge: charge.total.currency_code)),
        ),
        Column(
            "total_minor",
            Kind.INTEGER,
            "total of the whole charge, the same in each of its rows",
            _of("charge", _minor("total")),
        ),
        Column(
            "partner_total_minor",
            Kind.INTEGER,
            "partners' share of the whole charge",
            _of("charge", _minor("partner_total")),
        ),
        Column("plan_id", Kind.TEXT, "plan that rated it", _of("charge", _name("plan_id"))),
        Column(
            "plan_version",
            Kind.INTEGER,
            "version of its price list",
            _of("charge", _number("plan_version")),
        ),
        Column("created_at", Kind.TIME, "when it was made", _of("charge", _time("created_at"))),
        Column(
            "settled_at", Kind.TIME, "when it was in the ledger", _of("charge", _time("settled_at"))
        ),
        Column("line_id", Kind.TEXT, "line within the charge", _of("line", _name("line_id"))),
        Column("sku", Kind.TEXT, "SKU that was used", _of("line", _name("sku"))),
        Column("project_id", Kind.TEXT, "project that used it", _of("line", _name("project_id"))),
        Column("quantity", Kind.DECIMAL, "metered quantity", _of("line", _name("quantity"))),
        Column(
            "exact_amount",
            Kind.DECIMAL,
            "amount before rounding, in units of the currency",
            _of("line", _name("exact_amount")),
        ),
        Column(
            "amount_gross_minor",
            Kind.INTEGER,
            "what the organisation pays for the line, but for taxes that are added to it",
            _of("line", _minor("amount_gross")),
        ),
        Column(
            "partner_id", Kind.TEXT, "partner that earns on it", _of("line", _name("partner_id"))
        ),
        Column(
            "partner_pct",
            Kind.DECIMAL,
            "the partner's share, per cent",
            _of("line", _name("partner_pct")),
        ),
        Column(
            "partner_amount_minor",
            Kind.INTEGER,
            "the partner's share",
            _of("line", _minor("partner_amount")),
        ),
        Column("net_minor", Kind.INTEGER, "what stays with us", _of("line", _minor("net"))),
        Column("line_status", Kind.TEXT, "how far the line has come", _of("line", _enum("status"))),
        Column(
            "dispute_id",
            Kind.TEXT,
            "dispute under which the partner's share is held",
            _of("line", _name("dispute_id")),
        ),
        Column(
            "amount_tax_minor",
            Kind.INTEGER,
            "taxes on the line; empty while nothing is taxed",
            _of("line", _minor("amount_tax")),
        ),
        Column(
            "amount_with_tax_minor",
            Kind.INTEGER,
            "what the organisation owes for the line with all taxes",
            _of("line", _minor("amount_with_tax")),
        ),
        Column(
            "total_with_tax_minor",
            Kind.INTEGER,
            "total of the whole charge with all taxes, the same in each of its rows",
            _of("charge", _minor("total_with_tax")),
        ),
    ),
)


# ---- Payments


def payments(
    client: Client, period: type_pb2.Period | None, merchant_id: str, status: int
) -> Iterator[Page]:
    """Give payments, the newest first; of a period by when their request was stored."""
    stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
    request = orchestration_service_pb2.ListPaymentsRequest(
        merchant_id=merchant_id,
        status=orchestration_pb2.PaymentStatus.ValueType(status),
        page_size=PAGE_ROWS,
    )
    pages = Pages(client, stub.ListPayments, request, "payments")
    yield from within(pages, period, lambda payment: payment.created_at)


def _asked(payment: Any) -> int | None:
    return payment.plan.total_amount.minor_units if payment.HasField("plan") else None


def _result(attribute: str) -> Callable[[Any], int | None]:
    read = _minor(attribute)
    return lambda payment: read(payment.result) if payment.HasField("result") else None


def _final_error(payment: Any) -> str | None:
    if not payment.HasField("result") or not payment.result.final_error:
        return None
    return enum_name(payment.result, "final_error")


PAYMENTS = Table(
    "payments",
    "one payment",
    (
        Column("payment_id", Kind.TEXT, "the payment", _name("payment_id")),
        Column("merchant_id", Kind.TEXT, "merchant who is paid", _name("merchant_id")),
        Column("order_id", Kind.TEXT, "what is paid for", _name("order_id")),
        Column("person_id", Kind.TEXT, "who pays", _name("person_id")),
        Column("org_id", Kind.TEXT, "organisation whose debt is paid", _name("org_id")),
        Column("status", Kind.TEXT, "`succeeded`, `failed`, …", _enum("status")),
        Column(
            "currency_code",
            Kind.TEXT,
            "currency of all amounts",
            _text(lambda payment: payment.plan.total_amount.currency_code),
        ),
        Column("amount_minor", Kind.INTEGER, "amount to be collected; empty if refused", _asked),
        Column(
            "processed_minor",
            Kind.INTEGER,
            "what was charged and not given back",
            _result("total_processed"),
        ),
        Column("remaining_minor", Kind.INTEGER, "what is left", _result("remaining_amount")),
        Column("final_error", Kind.TEXT, "why it ended without success", _final_error),
        Column(
            "attempts",
            Kind.INTEGER,
            "calls to processors",
            lambda payment: len(payment.attempts),
        ),
        Column(
            "config_version",
            Kind.INTEGER,
            "version of the merchant's configuration",
            _number("config_version"),
        ),
        Column("created_at", Kind.TIME, "when the request was stored", _time("created_at")),
        Column("updated_at", Kind.TIME, "when it last changed", _time("updated_at")),
    ),
)


# ---- Events


def events(
    client: Client, period: type_pb2.Period | None, subjects: Sequence[str], after: str
) -> tuple[Pages, Iterator[Page]]:
    """Give events of the feed in their order; the pages know the cursor to continue from."""
    stub = client.stub(events_service_pb2_grpc.EventServiceStub)
    request = events_service_pb2.ListEventsRequest(
        subjects=subjects, after=after, page_size=PAGE_ROWS
    )
    pages = Pages(client, stub.ListEvents, request, "events", "after", "next_cursor", endless=True)
    return pages, within(pages, period, lambda event: event.created_at)


def _payload(event: Any) -> str | None:
    data = payloads.json_of(event)
    if data is None:
        return json.dumps(as_dict(event.message))
    return data.decode(errors="replace")


EVENTS = Table(
    "events",
    "one event of the feed",
    (
        Column("id", Kind.TEXT, "the event", _name("id")),
        Column("subject", Kind.TEXT, "what happened", _name("subject")),
        Column("schema_version", Kind.INTEGER, "version of the payload", _number("schema_version")),
        Column("key", Kind.TEXT, "what it is ordered by", _name("key")),
        Column("created_at", Kind.TIME, "when the fact came to be", _time("created_at")),
        Column(
            "correlation_id",
            Kind.TEXT,
            "id that the whole chain shares",
            _text(lambda event: event.metadata.correlation_id),
        ),
        Column(
            "causation_id",
            Kind.TEXT,
            "what caused it",
            _text(lambda event: event.metadata.causation_id),
        ),
        Column(
            "payload_type",
            Kind.TEXT,
            "message of the payload; empty for JSON of an outside producer",
            _text(lambda event: event.message.type_url.rpartition("/")[2]),
        ),
        Column("payload", Kind.JSON, "the payload, as webhooks carry it in `data`", _payload),
    ),
)


# ---- Usage


@dataclass(frozen=True, slots=True)
class UsageOf:
    """Usage of an organisation in a window."""

    org_id: str
    row: Any


@dataclass(frozen=True, slots=True)
class UsageAsked:
    """What `export usage` asks for, as QueryUsage takes it."""

    organisations: Sequence[str]
    period: type_pb2.Period
    window: metering_pb2.Window.ValueType
    aggregation: type_pb2.Aggregation.ValueType
    time_zone: str
    zone: tzinfo
    skus: Sequence[str]
    project_id: str
    group_by: Sequence[str]
    metadata: Mapping[str, str]


def usage(client: Client, asked: UsageAsked) -> Iterator[Page]:
    """Give usage, organisation by organisation and month by month; day by day where a month has too many rows."""
    for org_id in asked.organisations:
        if asked.window == metering_pb2.WINDOW_NONE:
            yield from _usage_of(client, asked, org_id, asked.period)
            continue
        for month in split(asked.period, asked.zone, months=True):
            try:
                yield from _usage_of(client, asked, org_id, month)
            except CliError as error:
                if error.reason != "USAGE_TOO_WIDE" or asked.window == metering_pb2.WINDOW_MONTH:
                    raise
                for day in split(month, asked.zone, months=False):
                    yield from _usage_of(client, asked, org_id, day)


def _usage_of(
    client: Client, asked: UsageAsked, org_id: str, period: type_pb2.Period
) -> Iterator[Page]:
    stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
    request = metering_service_pb2.QueryUsageRequest(
        org_id=org_id,
        project_id=asked.project_id,
        skus=asked.skus,
        period=period,
        window=asked.window,
        time_zone=asked.time_zone,
        group_by=asked.group_by,
        metadata=asked.metadata,
        aggregation=asked.aggregation,
    )
    found = client.call(stub.QueryUsage, request)
    if found.rows:
        yield [UsageOf(org_id, row) for row in found.rows]


def split(period: type_pb2.Period, zone: tzinfo, *, months: bool) -> Iterator[type_pb2.Period]:
    """Cut a period at the months, or days, of a zone, where windows begin in any case."""
    at, end = period.start_at.ToDatetime(UTC), period.end_at.ToDatetime(UTC)
    while at < end:
        local = at.astimezone(zone)
        day = local.date().replace(day=1) if months else local.date()
        day += timedelta(days=32 if months else 1)
        day = day.replace(day=1) if months else day
        following = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        part = type_pb2.Period()
        part.start_at.FromDatetime(at)
        part.end_at.FromDatetime(min(following, end))
        yield part
        at = following


def _used(read: Callable[[Any], Any]) -> Callable[[UsageOf], Any]:
    return lambda item: read(item.row)


USAGE = Table(
    "usage",
    "usage of an organisation, by SKU, project and window",
    (
        Column("org_id", Kind.TEXT, "organisation", lambda item: item.org_id),
        Column("sku", Kind.TEXT, "what was used", _used(_name("sku"))),
        Column("project_id", Kind.TEXT, "project that used it", _used(_name("project_id"))),
        Column(
            "window_start_at", Kind.TIME, "start of the window", _used(_time("window_start_at"))
        ),
        Column("window_end_at", Kind.TIME, "end of the window", _used(_time("window_end_at"))),
        Column("group", Kind.JSON, "values of the keys of --group-by", _used(_map("group"))),
        Column("value", Kind.DECIMAL, "the aggregate", _used(_name("value"))),
        Column("event_count", Kind.INTEGER, "events it was made of", _used(_number("event_count"))),
        Column("first_event_at", Kind.TIME, "earliest event_time", _used(_time("first_event_at"))),
        Column("last_event_at", Kind.TIME, "latest event_time", _used(_time("last_event_at"))),
    ),
)

# ---- Settlement


def commissions(client: Client, period: type_pb2.Period | None, party: str) -> Iterator[Page]:
    """Give what partners earn line by line, the latest first."""
    stub = client.stub(payout_service_pb2_grpc.PayoutServiceStub)
    request = payout_service_pb2.ListCommissionsRequest(
        party=party, period=period, page_size=PAGE_ROWS
    )
    return iter(Pages(client, stub.ListCommissions, request, "commissions"))


def payouts(client: Client, period: type_pb2.Period | None, party: str) -> Iterator[Page]:
    """Give payouts, the latest first; of a period, those that were made in it."""
    stub = client.stub(payout_service_pb2_grpc.PayoutServiceStub)
    request = payout_service_pb2.ListPayoutsRequest(party=party, page_size=PAGE_ROWS)
    pages = Pages(client, stub.ListPayouts, request, "payouts")
    return within(pages, period, lambda item: item.created_at)


COMMISSIONS = Table(
    "commissions",
    "what a partner earns on one line of a charge; below zero when it gives back",
    (
        Column("charge_id", Kind.TEXT, "the charge", _name("charge_id")),
        Column("line_id", Kind.TEXT, "line within the charge", _name("line_id")),
        Column("org_id", Kind.TEXT, "organisation that was charged", _name("org_id")),
        Column("sku", Kind.TEXT, "SKU that was charged for", _name("sku")),
        Column("party", Kind.TEXT, "who earns it", _name("party")),
        Column(
            "currency_code",
            Kind.TEXT,
            "currency of the amount",
            _text(lambda item: item.amount.currency_code),
        ),
        Column("amount_minor", Kind.INTEGER, "what is earned", _minor("amount")),
        Column("dispute_id", Kind.TEXT, "dispute under which it is held", _name("dispute_id")),
        Column("earned_at", Kind.TIME, "when the charge was made", _time("earned_at")),
        Column("payout_id", Kind.TEXT, "payout that paid it at once", _name("payout_id")),
    ),
)

PAYOUTS = Table(
    "payouts",
    "a payout to a partner",
    (
        Column("payout_id", Kind.TEXT, "the payout", _name("payout_id")),
        Column("party", Kind.TEXT, "who gets it", _name("party")),
        Column(
            "currency_code",
            Kind.TEXT,
            "currency of the amount",
            _text(lambda item: item.amount.currency_code),
        ),
        Column("amount_minor", Kind.INTEGER, "how much", _minor("amount")),
        Column("kind", Kind.TEXT, "`realtime`, `sweep` or `requested`", _enum("kind")),
        Column("status", Kind.TEXT, "`pending`, `claimed`, `paid` or `returned`", _enum("status")),
        Column("destination", Kind.TEXT, "where it goes", _name("destination")),
        Column("charge_id", Kind.TEXT, "charge, when it was paid at once", _name("charge_id")),
        Column("line_id", Kind.TEXT, "line of that charge", _name("line_id")),
        Column("sweep_id", Kind.TEXT, "sweep that made it", _name("sweep_id")),
        Column("created_at", Kind.TIME, "when it was decided on", _time("created_at")),
        Column("claimed_at", Kind.TIME, "when its claim was in the books", _time("claimed_at")),
        Column("paid_at", Kind.TIME, "when the party had it", _time("paid_at")),
        Column("returned_at", Kind.TIME, "when it came back", _time("returned_at")),
        Column(
            "payment_reference", Kind.TEXT, "how the payment is known", _name("payment_reference")
        ),
        Column("return_code", Kind.TEXT, "why it came back", _name("return_code")),
    ),
)

TABLES = (USAGE, CHARGES, ENTRIES, PAYMENTS, EVENTS, COMMISSIONS, PAYOUTS)
