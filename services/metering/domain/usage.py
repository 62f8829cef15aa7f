"""Usage aggregated over windows of a time zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from services.metering.domain.aggregations import Aggregation
from services.runtime import moments
from services.runtime.errors import Code, DomainError

WINDOWS_MAX = 10_000
"""Windows in one answer of QueryUsage: hours of 13 months, days of 27 years."""
ROWS_MAX = 10_000
"""Rows in one answer of QueryUsage; about 1 MB, a quarter of what a gRPC message may carry."""


class UnknownTimeZone(DomainError):
    """A time zone that the IANA database does not have."""

    code = Code.INVALID_ARGUMENT
    reason = "UNKNOWN_TIME_ZONE"
    state_dependent = False
    time_zone: str


class AggregationUnsupported(DomainError):
    """An aggregation that this release does not know."""

    code = Code.INVALID_ARGUMENT
    reason = "AGGREGATION_UNSUPPORTED"
    state_dependent = True
    aggregation: str
    supported: str


class UnknownSkuAsked(DomainError):
    """Usage of a SKU is asked for that the catalogue does not have."""

    code = Code.INVALID_ARGUMENT
    reason = "UNKNOWN_SKU"
    state_dependent = True
    sku: str


class UsageTooWide(DomainError):
    """An answer of more windows or rows than one call may carry."""

    code = Code.INVALID_ARGUMENT
    reason = "USAGE_TOO_WIDE"
    state_dependent = True
    limit: int


class Window(StrEnum):
    """Length of the stretches that usage is aggregated over."""

    NONE = "NONE"
    HOUR = "HOUR"
    DAY = "DAY"
    MONTH = "MONTH"


class Freshness(StrEnum):
    """What an answer must have: all that was committed before the call, or what rollups have."""

    EXACT = "EXACT"
    ROLLED_UP = "ROLLED_UP"


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What usage to aggregate; the period is half open.

    Attributes:
        at_ordinal: as of which; None for now.
        metadata: only events that have each of these keys with that value.
        with_log_root: the root of the log at the ordinal is wanted too.
        freshness: what it must have, where no ordinal is given.
    """

    org_id: str
    project_id: str
    skus: Sequence[str]
    start_at: datetime
    end_at: datetime
    window: Window
    time_zone: str
    group_by: Sequence[str]
    aggregation: Aggregation
    at_ordinal: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    with_log_root: bool = False
    freshness: Freshness = Freshness.EXACT


@dataclass(frozen=True, slots=True)
class EventsQuery:
    """What events to list; the period is half open.

    Attributes:
        sku: "" for all that the organisation used.
        at_ordinal: as of which; None for now.
    """

    org_id: str
    sku: str
    start_at: datetime
    end_at: datetime
    at_ordinal: int | None = None


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Where an event stands in a list of events."""

    event_time: datetime
    event_key: UUID


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Usage of one SKU by one project in one window.

    Attributes:
        first_event_at: None where no event is of the window, and only a level from before it holds.
        last_event_at: likewise.
    """

    sku: str
    project_id: str
    window_start_at: datetime
    window_end_at: datetime
    group: dict[str, str]
    value: Decimal
    event_count: int
    first_event_at: datetime | None
    last_event_at: datetime | None


@dataclass(frozen=True, slots=True)
class Usage:
    """The answer to a UsageQuery.

    Attributes:
        snapshot: it was read in, in the words of the database.
        ordinal: it was read at.
        log_root: of the log of receipts at the ordinal; None when it is not told.
        rolled_ordinal: up to which the rows are from rollups; 0 when all are from the events.
        recorded_at: when the receipt with the ordinal was recorded; None while nothing has one.
    """

    rows: Sequence[UsageRow]
    snapshot: str
    ordinal: int
    log_root: bytes | None = None
    rolled_ordinal: int = 0
    recorded_at: datetime | None = None


def zone(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name; an empty one means UTC.

    Raises:
        UnknownTimeZone: the database has no such zone.
    """
    try:
        return moments.zone(name or "UTC")
    except LookupError as error:
        raise UnknownTimeZone(
            f"{name!r} is not an IANA time zone; use a name such as Europe/Berlin",
            time_zone=name,
        ) from error


def window_starts(query: UsageQuery) -> list[datetime]:
    """Return where the windows of a query begin, in UTC: the period's start, then each boundary inside it.

    Windows have no gaps and no overlaps, also where the zone changes its clocks.

    Raises:
        UnknownTimeZone: the zone does not exist.
        UsageTooWide: there would be more than WINDOWS_MAX.
    """
    where = zone(query.time_zone)
    starts = [query.start_at]
    if query.window is Window.NONE:
        return starts
    while (following := _next_boundary(starts[-1], query.window, where)) < query.end_at:
        if len(starts) == WINDOWS_MAX:
            raise UsageTooWide(
                f"the period has more than {WINDOWS_MAX} windows;"
                " ask for a shorter period or a longer window",
                limit=WINDOWS_MAX,
            )
        starts.append(following)
    return starts


def _next_boundary(after: datetime, window: Window, where: ZoneInfo) -> datetime:
    """Return the first boundary of the zone behind an instant; the end of time when there is none."""
    try:
        local = after.astimezone(where)
        if window is Window.HOUR:
            past = timedelta(
                minutes=local.minute, seconds=local.second, microseconds=local.microsecond
            )
            return after + timedelta(hours=1) - past
        day = local.date() + timedelta(days=1)
        if window is Window.MONTH:
            day = (local.date().replace(day=1) + timedelta(days=32)).replace(day=1)
        # A midnight that the clocks skip is read with the offset before the change: the change itself.
        return datetime.combine(day, time.min, where).astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
