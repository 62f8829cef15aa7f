"""Rules of usage: the window in which an event may lie, its identity, and the windows that usage is summed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from hashlib import blake2b
from zoneinfo import ZoneInfo

from services.runtime import moments
from services.runtime.errors import Code, DomainError
from services.runtime.measures import Measure

EVENTS_MAX = 10_000
"""Events in one batch: what one transaction stores in well under a second."""
WINDOWS_MAX = 10_000
"""Windows in one answer of QueryUsage: hours of 13 months, days of 27 years."""
ROWS_MAX = 10_000
"""Rows in one answer of QueryUsage; about 1 MB, a quarter of what a gRPC message may carry."""
TOTALS_MAX = 500
"""Totals in one `usage.reported`, so that the event stays small whatever the batch."""

# Reasons of verdicts, documented in payments.errors.v1.ErrorReason.
EVENT_TOO_OLD = "EVENT_TOO_OLD"
EVENT_TOO_NEW = "EVENT_TOO_NEW"
UNKNOWN_SKU = "UNKNOWN_SKU"
EVENT_DUPLICATE = "EVENT_DUPLICATE"
EVENT_CONFLICT = "EVENT_CONFLICT"
OUTSIDE_WINDOW = frozenset({EVENT_TOO_OLD, EVENT_TOO_NEW})

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

EVENTS_ANSWERED = Measure(
    "tollmesh.metering.events",
    "{event}",
    "Usage events answered, once their batch is stored.",
    {"outcome": "`accepted`, `duplicate`, `conflict` or `rejected`"},
)
EVENTS_REJECTED = Measure(
    "tollmesh.metering.rejections",
    "{event}",
    "Usage events rejected.",
    {"reason": "as in the answer, e.g. `UNKNOWN_SKU`"},
)
MEASURES = (EVENTS_ANSWERED, EVENTS_REJECTED)


class UnknownTimeZone(DomainError):
    """A time zone that the IANA database does not have."""

    code = Code.INVALID_ARGUMENT
    reason = "UNKNOWN_TIME_ZONE"
    state_dependent = False
    time_zone: str


class AggregationUnsupported(DomainError):
    """An aggregation that usage cannot be asked for yet."""

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


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How far from now an event may lie; both ends belong to it.

    The defaults are what most meters take: 35 days let a month be completed, 5 minutes forgive a wrong clock.
    """

    accept_past: timedelta = timedelta(days=35)
    accept_future: timedelta = timedelta(minutes=5)
    updated_at: datetime | None = None

    def bounds_us(self, now: datetime) -> tuple[int, int]:
        """Return the earliest and the latest event_time, in microseconds since 1970."""
        return microseconds(now - self.accept_past), microseconds(now + self.accept_future)


@dataclass(frozen=True, slots=True)
class Policy:
    """What events are judged by: the tenant's window in microseconds since 1970, and its SKUs."""

    earliest_us: int
    latest_us: int
    skus: Set[str]


class Verdict(StrEnum):
    """The result for one event of a batch."""

    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that breaks a rule, with the bytes it came as; of one that could never be taken, with a part of them."""

    index: int
    request_id: str
    reason: str
    message: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Repeat:
    """An event whose id stood earlier in the same batch."""

    index: int
    request_id: str
    fingerprint: str


Row = tuple[str, str, str, str, str]
"""An event to be stored: request_id, content (org, project, SKU, quantity, time in microseconds, source, each with a
tab behind it), metadata as JSON or an empty text, key, fingerprint."""


@dataclass(slots=True)
class Batch:
    """A batch after the rules: what to store, what repeats within it, what is refused.

    Attributes:
        size: events in it.
        rows: one for each distinct id.
        first_index: position in the batch of each row, by request_id.
        repeats: later events of an id that has a row.
        rejections: events that break a rule.
    """

    size: int
    rows: list[Row] = field(default_factory=list)
    first_index: dict[str, int] = field(default_factory=dict)
    repeats: list[Repeat] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def event_keys(self) -> list[str]:
        """Under which its distinct ids are stored, in the order of the rows."""
        return [key for *_, key, _ in self.rows]

    @property
    def fingerprints(self) -> list[str]:
        """What its distinct events say, in the order of the rows."""
        return [fingerprint for *_, fingerprint in self.rows]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the batch whose id was stored before, with the fingerprint of the stored content."""

    request_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Problem:
    """The verdict on an event that was not accepted."""

    index: int
    request_id: str
    verdict: Verdict
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Total:
    """What a batch added to the usage of one SKU by one organisation."""

    org_id: str
    sku: str
    event_count: int
    quantity: Decimal
    first_event_at: datetime
    last_event_at: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """What of a batch was stored.

    Attributes:
        totals: what it adds, by organisation and SKU.
        touches_closed: it may lie in periods that charges have closed.
    """

    totals: Sequence[Total] = ()
    touches_closed: bool = False

    @property
    def event_count(self) -> int:
        """Events that are new."""
        return sum(total.event_count for total in self.totals)


@dataclass(frozen=True, slots=True)
class Closing:
    """A period that a charge closed.

    Attributes:
        usage_snapshot: the usage that the charge saw, as QueryUsage told it.
    """

    charge_id: str
    org_id: str
    start_at: datetime
    end_at: datetime
    usage_snapshot: str = ""


@dataclass(frozen=True, slots=True)
class LateTotal:
    """Usage of one SKU that was stored for a period behind its closing."""

    closing: Closing
    total: Total


@dataclass(frozen=True, slots=True)
class LatePlace:
    """Where a page of late events ended."""

    org_id: str
    event_time: datetime
    event_key: str


@dataclass(frozen=True, slots=True)
class LateEvent:
    """A usage event that no charge bills, because its period was closed when it was stored.

    Attributes:
        source: number of payments.metering.v1.Source.
        charge_id: the charge that had closed the period.
        place: where it stands among others.
    """

    request_id: str
    project_id: str
    sku: str
    quantity: Decimal
    source: int
    metadata: Mapping[str, str]
    charge_id: str
    receipt_id: str
    recorded_at: datetime
    place: LatePlace


@dataclass(frozen=True, slots=True)
class LateFilter:
    """Which late events to list; an empty organisation and no bounds mean any."""

    org_id: str = ""
    start_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The durable answer to a batch."""

    receipt_id: str
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    problems: Sequence[Problem]


class Window(StrEnum):
    """Length of the stretches that usage is summed over."""

    NONE = "NONE"
    HOUR = "HOUR"
    DAY = "DAY"
    MONTH = "MONTH"


class Aggregation(StrEnum):
    """How events become one value; those that usage can be asked for."""

    SUM = "SUM"
    COUNT = "COUNT"


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What usage to aggregate; the period is half open."""

    org_id: str
    project_id: str
    skus: Sequence[str]
    start_at: datetime
    end_at: datetime
    window: Window
    time_zone: str
    group_by: Sequence[str]
    aggregation: Aggregation


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Usage of one SKU by one project in one window."""

    sku: str
    project_id: str
    window_start_at: datetime
    window_end_at: datetime
    group: dict[str, str]
    value: Decimal
    event_count: int
    first_event_at: datetime
    last_event_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """The answer to a UsageQuery, and the snapshot it was read in."""

    rows: Sequence[UsageRow]
    snapshot: str


def microseconds(at: datetime) -> int:
    """Return the microseconds since 1970 of an instant."""
    return (at - EPOCH) // _MICROSECOND


def instant(at_us: int) -> datetime:
    """Return the instant that lies so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=at_us)


def canonical_quantity(text: str) -> str:
    """Spell a quantity the one way that equal quantities share: `007.50` becomes `7.5`."""
    whole, point, places = text.partition(".")
    whole = whole.lstrip("0") or "0"
    places = places.rstrip("0")
    return f"{whole}.{places}" if point and places else whole


def digest(text: str) -> str:
    """Return 16 bytes of BLAKE2b as hexadecimal: key of an id, fingerprint of a content.

    Sixteen bytes keep the unique index a third of the size that the ids themselves would need; two of
    10^12 events share one with a chance of 10^-15.
    """
    return blake2b(text.encode(), digest_size=16).hexdigest()


def receipt_of(receipt_id: str, batch: Batch, known: Sequence[StoredEvent]) -> Receipt:
    """Count the verdicts of a stored batch; what has no problem was accepted."""
    problems = settle(batch, known)
    count = Counter(problem.verdict for problem in problems)
    return Receipt(
        receipt_id=receipt_id,
        accepted=batch.size - len(problems),
        duplicate=count[Verdict.DUPLICATE],
        conflict=count[Verdict.CONFLICT],
        rejected=count[Verdict.REJECTED],
        problems=problems,
    )


def rejections_by_reason(batch: Batch) -> Counter[str]:
    """Count the refused events of a batch by reason."""
    return Counter(item.reason for item in batch.rejections)


def rejections_message(batch: Batch) -> str:
    """Say in one sentence why events of a batch were refused, for the contract monitor."""
    reasons = rejections_by_reason(batch)
    told = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return f"{len(batch.rejections)} of {batch.size} usage events were rejected: {told}"


def late_message(closing: Closing, event_count: int, receipt_id: str) -> str:
    """Say in one sentence that usage came late, for the contract monitor."""
    period = f"{closing.start_at.isoformat()}/{closing.end_at.isoformat()}"
    came = f"with {receipt_id}" if receipt_id else "while the charge was made"
    return (
        f"{event_count} usage events of {closing.org_id} arrived {came} for {period}, which charge {closing.charge_id}"
        " has closed: no charge bills them; see ListLateEvents"
    )


def settle(batch: Batch, known: Sequence[StoredEvent]) -> list[Problem]:
    """Give every event of a stored batch that was not accepted its verdict, by index.

    `known` are the events that the store had before. The first of several equal ids in a batch is the one
    that counts; later ones are judged against what is stored in the end.
    """
    stored = dict(zip(batch.first_index, batch.fingerprints, strict=True))
    problems = []
    for item in known:
        same = stored[item.request_id] == item.fingerprint
        problems.append(_seen_before(batch.first_index[item.request_id], item.request_id, same))
        stored[item.request_id] = item.fingerprint
    for repeat in batch.repeats:
        same = stored[repeat.request_id] == repeat.fingerprint
        problems.append(_seen_before(repeat.index, repeat.request_id, same))
    for rejection in batch.rejections:
        problems.append(
            Problem(
                rejection.index,
                rejection.request_id,
                Verdict.REJECTED,
                rejection.reason,
                rejection.message,
            )
        )
    return sorted(problems, key=lambda problem: problem.index)


def _seen_before(index: int, request_id: str, same: bool) -> Problem:
    if same:
        return Problem(index, request_id, Verdict.DUPLICATE, EVENT_DUPLICATE, "")
    return Problem(
        index,
        request_id,
        Verdict.CONFLICT,
        EVENT_CONFLICT,
        "an event with this id is already stored with different content and stays as it is; use a new id for new usage",
    )


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


@dataclass(frozen=True, slots=True)
class StoreBatch:
    """A judged batch to be stored, and the receipt that it gets."""

    receipt_id: str
    batch: Batch


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """How far from now events may lie, back and ahead; None leaves it."""

    past: timedelta | None
    future: timedelta | None
