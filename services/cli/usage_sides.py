"""The two sides of a comparison of usage: a provider's log, and what metering stores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp
from payments.metering.v1 import (
    corrections_pb2,
    drift_pb2,
    metering_pb2,
    metering_service_pb2,
    metering_service_pb2_grpc,
)
from payments.type.v1 import type_pb2

from services.cli import lists, readers
from services.cli.client import Client
from services.cli.columns import ColumnMapping
from services.cli.drift import Comparison, Finding, Kind, entry_of, rejected_of
from services.cli.errors import CliError
from services.cli.readers import BadRow, FileFormat
from services.cli.unusual import unusual
from services.runtime.money import CONTEXT, format_decimal

PROBLEMS_KEPT = 20
# Events are rejected when they are sent, which is before their time where a clock is ahead.
_REJECTED_BEFORE = timedelta(days=1)
_TOO_WIDE = "USAGE_TOO_WIDE"
_DAY = timedelta(days=1)

Advance = Callable[[int], None]
"""Told how many rows or events were read so far."""


@dataclass(slots=True)
class Log:
    """What was read of a log.

    Attributes:
        rows: all that are events.
        outside: those of them that do not lie in the period or near it, or are not asked for.
        malformed: rows that are no events.
        problems: the first of these, each with its file.
    """

    rows: int = 0
    outside: int = 0
    malformed: int = 0
    problems: list[tuple[str, BadRow]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which usage is compared; empty texts mean any.

    Attributes:
        period: of the usage.
        slack: how far outside of it the other half of an event is looked for.
    """

    period: type_pb2.Period
    slack: timedelta
    org_id: str = ""
    sku: str = ""

    @property
    def start_at(self) -> datetime:
        """First instant of the period."""
        return self.period.start_at.ToDatetime(tzinfo=UTC)

    @property
    def end_at(self) -> datetime:
        """First instant behind it."""
        return self.period.end_at.ToDatetime(tzinfo=UTC)

    def has(self, event: metering_pb2.UsageEvent) -> bool:
        """True for an event of the organisation and the SKU that are asked for."""
        return self.org_id in ("", event.org_id) and self.sku in ("", event.sku)


def read_log(
    files: Sequence[tuple[str, FileFormat]],
    mapping: ColumnMapping,
    wanted: Wanted,
    comparison: Comparison,
    advance: Advance,
) -> Log:
    """Read the files of a log. Raises CliError: one cannot be read to its end."""
    log = Log()
    for path, file_format in files:
        for row in readers.read(path, file_format, mapping):
            _take(log, path, row, wanted, comparison)
            advance(log.rows + log.malformed)
    return log


def _take(
    log: Log,
    path: str,
    row: readers.GoodRow | BadRow,
    wanted: Wanted,
    comparison: Comparison,
) -> None:
    problem = row
    if isinstance(row, readers.GoodRow):
        try:
            entry = entry_of(row.event)
        except ValueError as error:
            problem = BadRow(row.row, str(error))
        else:
            log.rows += 1
            log.outside += not (wanted.has(row.event) and comparison.add_logged(entry))
            return
    assert isinstance(problem, BadRow)
    log.malformed += 1
    if len(log.problems) < PROBLEMS_KEPT:
        log.problems.append((path, problem))


class Stored:
    """What metering stores, read page by page."""

    def __init__(self, client: Client, wanted: Wanted) -> None:
        self._client, self._wanted = client, wanted
        self._stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)

    def read(self, comparison: Comparison, advance: Advance) -> int:
        """Read the events that count, and those that were cancelled; returns the ordinal that they are of."""
        wanted = self._wanted
        request = drift_pb2.ListStoredEventsRequest(
            org_id=wanted.org_id, sku=wanted.sku, include_cancelled=True, page_size=lists.PAGE_SIZE
        )
        request.period.CopyFrom(
            _period(wanted.start_at - wanted.slack, wanted.end_at + wanted.slack)
        )
        read = 0
        while True:
            page = self._client.call(self._stub.ListStoredEvents, request)
            for item in page.events:
                comparison.add_stored(entry_of(item.event, "cancelled" if item.cancelled else ""))
            read += len(page.events)
            advance(read)
            request.page_token = page.next_page_token
            if not request.page_token:
                return int(page.usage_ordinal)

    def read_rejected(self, comparison: Comparison) -> int:
        """Read the events that were rejected; returns how many of the period there are."""
        wanted = self._wanted
        request = corrections_pb2.ListRejectedEventsRequest(org_id=wanted.org_id, sku=wanted.sku)
        request.period.start_at.FromDatetime(_earlier(wanted.start_at, _REJECTED_BEFORE))
        request.period.end_at.FromDatetime(datetime.max.replace(tzinfo=UTC))
        count = 0
        for item in lists.pages(
            self._client, self._stub.ListRejectedEvents, request, "rejected_events"
        ):
            comparison.add_rejected(rejected_of(item.event, item.reason))
            at = item.event.event_time
            count += _key(wanted.period.start_at) <= _key(at) < _key(wanted.period.end_at)
        return count

    def count_late(self) -> int:
        """Return how much of the period's usage came, or changed, after a charge had closed it."""
        request = metering_service_pb2.ListLateEventsRequest(org_id=self._wanted.org_id)
        request.period.CopyFrom(self._wanted.period)
        found = lists.pages(self._client, self._stub.ListLateEvents, request, "late_events")
        return sum(self._wanted.sku in ("", item.sku) for item in found)

    def unusual_days(
        self, organisations: Iterable[str], baseline_days: int, threshold: Decimal, now: datetime
    ) -> Iterator[Finding]:
        """Find the days of the period, each whole and over, that are unlike those before them."""
        first = _first_day(self._wanted.start_at)
        last = _midnight(min(self._wanted.end_at, now).date())
        if not baseline_days or last <= first:
            return
        start = _earlier(first, baseline_days * _DAY)
        for org_id in organisations:
            for sku, values in self._by_day(org_id, start, last).items():
                yield from _unlike(org_id, sku, values, first, last, baseline_days, threshold)

    def _by_day(
        self, org_id: str, start: datetime, end: datetime
    ) -> Mapping[str, Mapping[date, Decimal]]:
        """Return what an organisation used each day, by SKU."""
        found: dict[str, dict[date, Decimal]] = defaultdict(dict)
        skus = [self._wanted.sku] if self._wanted.sku else []
        for row in self._rows(org_id, skus, start, end):
            days, day = found[row.sku], row.window_start_at.ToDatetime(tzinfo=UTC).date()
            # A row for each project.
            days[day] = CONTEXT.add(days.get(day, Decimal()), Decimal(row.value))
        return found

    def _rows(
        self, org_id: str, skus: Sequence[str], start: datetime, end: datetime
    ) -> Iterator[metering_pb2.UsageRow]:
        """Give rows of days; where they are too many for an answer, in two halves."""
        request = metering_service_pb2.QueryUsageRequest(
            org_id=org_id, skus=skus, window=metering_pb2.WINDOW_DAY
        )
        request.period.CopyFrom(_period(start, end))
        days = (end - start) // _DAY
        try:
            rows = self._client.call(self._stub.QueryUsage, request).rows
        except CliError as error:
            if error.reason != _TOO_WIDE or days < 2:
                raise
            middle = start + days // 2 * _DAY
            yield from self._rows(org_id, skus, start, middle)
            yield from self._rows(org_id, skus, middle, end)
        else:
            yield from rows


def _unlike(
    org_id: str,
    sku: str,
    values: Mapping[date, Decimal],
    first: datetime,
    last: datetime,
    baseline_days: int,
    threshold: Decimal,
) -> Iterator[Finding]:
    begun = min(values)
    for number in range((last - first) // _DAY):
        day = (first + number * _DAY).date()
        since = max(begun, day - baseline_days * _DAY)
        # Before its first use an SKU has no days; later ones without any are days of none.
        earlier = [
            values.get(since + at * _DAY, Decimal()) for at in range(max((day - since).days, 0))
        ]
        found = unusual(values.get(day, Decimal()), earlier, threshold)
        if found is not None:
            score = f"{found.score:+.1f} standard deviations from the median of {len(earlier)} days"
            yield Finding(
                Kind.SPIKE if found.score > 0 else Kind.DROP,
                org_id,
                sku,
                day,
                "",
                format_decimal(found.expected),
                format_decimal(found.value),
                score,
            )


def _period(start: datetime, end: datetime) -> type_pb2.Period:
    period = type_pb2.Period()
    period.start_at.FromDatetime(start)
    period.end_at.FromDatetime(end)
    return period


def _earlier(at: datetime, length: timedelta) -> datetime:
    """Return an instant earlier, the first one that there is at most."""
    first = datetime.min.replace(tzinfo=UTC)
    return at - length if at - first > length else first


def _first_day(at: datetime) -> datetime:
    """Return the first midnight at or behind an instant."""
    midnight = _midnight(at.date())
    return midnight if midnight == at else midnight + _DAY


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _key(at: Timestamp) -> tuple[int, int]:
    return at.seconds, at.nanos
