"""Usage rolled up by quarters of an hour and hours, and how an answer is put together from it.

Rollups hold what receipts up to one ordinal brought, exactly. An answer at another ordinal takes the buckets that are
the same there, and reads the events of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.metering.domain.aggregations import Aggregation, average
from services.metering.domain.ordinals import Position
from services.metering.domain.times import instant, microseconds
from services.metering.domain.usage import Freshness, UsageQuery
from services.runtime.money import CONTEXT

GROUP_KEYS_MAX = 4
"""Keys of metadata whose values rollups keep apart."""
HOUR_MINUTES = 60
QUARTER_MINUTES = 15
"""Clocks of zones stand whole quarters of an hour apart, since the last of them gave up its seconds in 1972."""
STRETCHES_MAX = 500
"""Stretches that an answer reads from the events; an answer with more is read from the events alone."""
BEHIND_MAX = timedelta(minutes=1)
"""How long ago may be recorded what an answer that need not be exact lacks."""
DELTA_EVENTS_MAX = 100_000
DELTA_RECEIPTS_MAX = 5_000
"""What an answer reads from behind the rollups; where there is more it is read from the events alone."""
EVENTS_A_ROUND_MAX = 50_000
RECEIPTS_A_ROUND_MAX = 5_000
"""What is rolled up in one transaction, but for a receipt that has more by itself."""
FINDINGS_MAX = 100
HOURS_A_ROUND_MAX = 20
EVENTS_RENEWED_A_ROUND_MAX = 200_000
"""What is rolled up anew in one transaction, but for an hour that has more by itself."""
EVENTS_OF_HOUR_MAX = 2_000_000
"""Events of an hour that is rolled up anew; one of more, once corrected, is read from its events for good."""
EVENTS_VERIFIED_MAX = 100_000
"""Events that are looked at in one stretch, but for an hour that has more by itself."""

ROLLED = frozenset(
    {
        Aggregation.SUM,
        Aggregation.COUNT,
        Aggregation.AVG,
        Aggregation.MAX,
        Aggregation.MIN,
        Aggregation.LATEST,
    }
)
"""Aggregations whose values for a window follow from those for its parts."""
_HOUR_US = 3_600_000_000
_QUARTER_US = 900_000_000
_FIRST_US = microseconds(datetime.min.replace(tzinfo=UTC))
_LAST_US = microseconds(datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the rollups of a tenant stand.

    Attributes:
        generation: of the rows that count; those before were kept apart by other keys.
        oldest_generation: that there may be rows of.
        rolled_ordinal: they hold what receipts up to it brought.
        group_keys: whose values are kept apart, in the order in which they are stored.
    """

    generation: int
    oldest_generation: int
    rolled_ordinal: int
    group_keys: tuple[str, ...]

    def serves(self, query: UsageQuery) -> bool:
        """Whether what a query asks for can be put together from rollups."""
        keys = {*query.group_by, *query.metadata}
        return query.aggregation in ROLLED and keys <= set(self.group_keys)

    def position(self, key: str) -> int:
        """Return where the values of a key are stored, from 1."""
        return self.group_keys.index(key) + 1


@dataclass(frozen=True, slots=True)
class Opening:
    """What an answer starts from, in one snapshot.

    Attributes:
        snapshot: in the words of the database.
        position: where receipts stand.
        standing: where rollups do; None while there are none.
        behind_since: when the first of what rollups lack was recorded; None when they have all, or nobody asked.
        skus: of the answer.
    """

    snapshot: str
    position: Position
    standing: Standing | None
    behind_since: datetime | None
    skus: Sequence[str]

    def serving(self, query: UsageQuery) -> Standing | None:
        """Return where rollups stand, if they are of use for a query."""
        at = self.standing
        return at if at and at.rolled_ordinal and at.serves(query) else None

    def ordinal_of(self, query: UsageQuery, now: datetime) -> int | None:
        """Return the ordinal that a query is answered at; None where receipts need theirs first.

        One of rollups lacks nothing that was recorded longer than a minute ago: those that are further behind are as
        good as none.

        Raises:
            UsageOrdinalAhead: nothing has the ordinal that is asked for.
        """
        at = self.serving(query)
        may_lack = query.freshness is Freshness.ROLLED_UP and query.at_ordinal is None
        if at and may_lack and (not self.behind_since or now - self.behind_since <= BEHIND_MAX):
            return at.rolled_ordinal
        if self.position.is_behind(query.at_ordinal):
            return None
        return self.position.checked(query.at_ordinal)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an answer is put together from; each instant of the period is in exactly one of the parts.

    Attributes:
        minutes: length of the buckets that are read from `from_at` to `until_at`, but for those in `cut`.
        quarters: buckets of a quarter of an hour that are read in place of hours that were cut.
        stretches: what is read from the events, ascending and apart from one another.
    """

    minutes: int
    from_at: datetime
    until_at: datetime
    cut: Sequence[datetime]
    quarters: Sequence[datetime]
    stretches: Sequence[tuple[datetime, datetime]]


def plan(edges: Sequence[datetime], broken: Set[datetime]) -> Plan | None:
    """Say how windows are put together; None where too many stretches would have to be read from the events.

    Args:
        edges: the starts of all windows, ascending, and the end of the last.
        broken: hours whose buckets must not be read.
    """
    at = [microseconds(edge) for edge in edges]
    start, end = at[0], at[-1]
    broken_hours = {microseconds(hour) for hour in broken}
    cut_quarters = {_floor(edge, _QUARTER_US) for edge in at if edge % _QUARTER_US}
    cut_hours = {_floor(edge, _HOUR_US) for edge in at if edge % _HOUR_US} - broken_hours
    hours = -(-end // _HOUR_US) - start // _HOUR_US
    by_quarters = 2 * len(cut_hours) > hours
    events = [(hour, hour + _HOUR_US) for hour in broken_hours]
    quarters: list[int] = []
    if by_quarters:
        unit, minutes = _QUARTER_US, QUARTER_MINUTES
        cut = cut_quarters | {quarter for hour in broken_hours for quarter in _quarters(hour)}
    else:
        unit, minutes = _HOUR_US, HOUR_MINUTES
        cut = cut_hours | broken_hours
        quarters = [
            quarter
            for hour in cut_hours
            for quarter in _quarters(hour)
            if quarter not in cut_quarters and start <= quarter < end
        ]
    events += [(quarter, quarter + _QUARTER_US) for quarter in cut_quarters]
    stretches = _joined((max(first, start), min(last, end)) for first, last in events)
    if len(stretches) > STRETCHES_MAX:
        return None
    return Plan(
        minutes,
        _moment(_floor(start, unit)),
        _moment(_floor(end + unit - 1, unit)),
        [_moment(bucket) for bucket in sorted(cut)],
        [_moment(quarter) for quarter in sorted(quarters)],
        [(_moment(first), _moment(last)) for first, last in stretches],
    )


def hour_of(at: datetime) -> datetime:
    """Return the beginning of the hour (UTC) that an instant lies in."""
    return _moment(_floor(microseconds(at), _HOUR_US))


def _floor(at_us: int, unit_us: int) -> int:
    return at_us - at_us % unit_us


def _quarters(hour_us: int) -> range:
    return range(hour_us, hour_us + _HOUR_US, _QUARTER_US)


def _moment(at_us: int) -> datetime:
    """Return an instant; what lies beyond the years that there are is their end."""
    return instant(min(max(at_us, _FIRST_US), _LAST_US))


def _joined(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what stretches cover, ascending: those that meet become one, those without length none."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(stretches):
        if first >= last:
            continue
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


Place = tuple[str, str, int, tuple[tuple[bool, str], ...]]
"""SKU, project, window, and of each value of the group whether it is absent."""


@dataclass(frozen=True, slots=True)
class Part:
    """What some events of one SKU, project, window and group come to.

    Attributes:
        window_number: from 1.
        groups: a value for each key that the answer is grouped by; None where events lack it.
        latest: the largest quantity of those of the last instant; None where it is not asked for.
    """

    sku: str
    project_id: str
    window_number: int
    groups: tuple[str | None, ...]
    event_count: int
    quantity: Decimal
    smallest: Decimal
    largest: Decimal
    latest: Decimal | None
    first_event_at: datetime
    last_event_at: datetime

    @property
    def place(self) -> Place:
        """Where it stands in the order of an answer: absent values come last."""
        groups = tuple((value is None, value or "") for value in self.groups)
        return self.sku, self.project_id, self.window_number, groups


def merged(parts: Iterable[Part]) -> list[Part]:
    """Put parts of different events together, in the order of an answer."""
    found: dict[Place, Part] = {}
    for part in parts:
        held = found.get(part.place)
        found[part.place] = part if held is None else _both(held, part)
    return [found[place] for place in sorted(found)]


def _both(one: Part, other: Part) -> Part:
    return Part(
        one.sku,
        one.project_id,
        one.window_number,
        one.groups,
        one.event_count + other.event_count,
        CONTEXT.add(one.quantity, other.quantity),
        min(one.smallest, other.smallest),
        max(one.largest, other.largest),
        _latest(one, other),
        min(one.first_event_at, other.first_event_at),
        max(one.last_event_at, other.last_event_at),
    )


def _latest(one: Part, other: Part) -> Decimal | None:
    if one.last_event_at != other.last_event_at:
        return max(one, other, key=lambda part: part.last_event_at).latest
    if one.latest is None or other.latest is None:
        return None
    return max(one.latest, other.latest)


def value(aggregation: Aggregation, part: Part) -> Decimal:
    """Return the value of an aggregation out of ROLLED."""
    if aggregation is Aggregation.AVG:
        return average(part.quantity, part.event_count)
    values: Mapping[Aggregation, Decimal | None] = {
        Aggregation.SUM: part.quantity,
        Aggregation.COUNT: Decimal(part.event_count),
        Aggregation.MAX: part.largest,
        Aggregation.MIN: part.smallest,
        Aggregation.LATEST: part.latest,
    }
    found = values[aggregation]
    assert found is not None, "the latest quantity was asked for"
    return found


@dataclass(frozen=True, slots=True)
class Delta:
    """What receipts behind the rollups brought of a period.

    Attributes:
        added: the ids of those that brought events.
        corrected: of those that amended or cancelled some.
    """

    added: Sequence[str]
    corrected: Sequence[str]


@dataclass(frozen=True, slots=True)
class StaleHour:
    """An hour of a SKU of an organisation that is to be rolled up anew.

    Attributes:
        event_count: by its buckets, before what was taken out of it or brought in.
    """

    org_id: str
    sku: str
    hour_at: datetime
    event_count: int


@dataclass(frozen=True, slots=True)
class RollupFinding:
    """A bucket that is not what its events come to.

    Attributes:
        expected: what its events come to, in words.
        found: what is stored.
    """

    org_id: str
    sku: str
    minutes: int
    bucket_at: datetime
    project_id: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class VerifyPlace:
    """Where a verification goes on: at an instant of a SKU of an organisation."""

    org_id: str
    sku: str
    from_at: datetime


@dataclass(frozen=True, slots=True)
class RollupStretch:
    """A part of the rollups that was computed again.

    Attributes:
        hours: that were looked at.
        events: of them, by the rollups.
        rolled_ordinal: that they stand at.
        end: where to go on; None at the end.
    """

    findings: Sequence[RollupFinding]
    hours: int
    events: int
    rolled_ordinal: int
    end: VerifyPlace | None


def few_enough(event_counts: Sequence[int], events_max: int) -> int:
    """Return how many of the first hours have no more events than that together; at least one, where there is one."""
    events = 0
    for number, event_count in enumerate(event_counts):
        events += event_count
        if number and events > events_max:
            return number
    return len(event_counts)
