"""Compares a provider's log with stored usage, event by event, in bounded memory.

Both sides are sorted by a hash of the request_id, so that what belongs together stands side by side, however many
events there are. What is found is sorted in turn: by kind, organisation, SKU and day.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from hashlib import blake2b
from itertools import groupby
from typing import Any

from payments.metering.v1 import metering_pb2

from services.cli.sorting import Sorter
from services.runtime.money import CONTEXT, format_decimal

IDS_SHOWN = 3
DETAIL_CHARS_MAX = 500
_KEY_CHARS = 32
# In the order in which they stand among the lines of one id.
_LOGGED, _REJECTED, _STORED = b"1", b"2", b"3"
_QUANTITY = re.compile(r"[0-9]{1,15}(\.[0-9]{1,18})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Kind(IntEnum):
    """In which way log and usage differ; as DriftKind numbers it."""

    MISSING = 1
    REJECTED = 2
    CANCELLED = 3
    EXTRA = 4
    DIFFERING = 5
    REPEATED = 6
    SPIKE = 7
    DROP = 8

    @property
    def word(self) -> str:
        """Its name in an answer."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as one side has it.

    Attributes:
        at_us: when it was used, in microseconds since 1970.
        note: of a stored event `cancelled` or nothing; of a rejected one why.
    """

    request_id: str
    org_id: str
    project_id: str
    sku: str
    quantity: str
    at_us: int
    note: str = ""

    @property
    def day(self) -> date:
        """Day of its use, in UTC."""
        return (_EPOCH + self.at_us * _MICROSECOND).date()


@dataclass(frozen=True, slots=True)
class Finding:
    """An event that only one side has, or that differs; or a day that is unlike others, whose request_id is empty.

    Attributes:
        logged: quantity of the log; of an unusual day what was expected. Empty where there is none.
        stored: quantity that is stored.
        detail: what differs, or why it was rejected.
    """

    kind: Kind
    org_id: str
    sku: str
    day: date
    request_id: str
    logged: str
    stored: str
    detail: str

    def as_dict(self) -> dict[str, str]:
        """Return it for programs."""
        return {
            "kind": self.kind.word,
            "org_id": self.org_id,
            "sku": self.sku,
            "day": self.day.isoformat(),
            "request_id": self.request_id,
            "logged": self.logged,
            "stored": self.stored,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one kind about the usage of one SKU by one organisation on one day.

    Attributes:
        logged: sum of what the log says; empty where it says nothing.
        stored: sum of what is stored; empty where nothing is.
    """

    kind: Kind
    org_id: str
    sku: str
    day: date
    events: int
    logged: str
    stored: str
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "kind": self.kind.word,
            "org_id": self.org_id,
            "sku": self.sku,
            "day": self.day.isoformat(),
            "events": self.events,
            "logged": self.logged,
            "stored": self.stored,
            "detail": self.detail,
        }


@dataclass(slots=True)
class Counts:
    """How many events, of the period.

    Attributes:
        logged: rows of the log, repeats of a row included.
        stored: events that count.
        matched: events on which both sides agree.
        found: events of a finding, by kind.
    """

    logged: int = 0
    stored: int = 0
    matched: int = 0
    found: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is compared.

    Attributes:
        start_us, end_us: the period, in microseconds since 1970; its end does not belong to it.
        slack_us: how far outside of it an event is looked for that the other side has inside.
        tolerance_us: by how much times may differ.
    """

    start_us: int
    end_us: int
    slack_us: int = 0
    tolerance_us: int = 0

    def has(self, entry: Entry) -> bool:
        """True for an event of the period."""
        return self.start_us <= entry.at_us < self.end_us

    def is_near(self, entry: Entry) -> bool:
        """True for an event that may have its other half in the period."""
        return self.start_us - self.slack_us <= entry.at_us < self.end_us + self.slack_us


class Comparison:
    """Takes both sides, then gives what is found. Use as a context manager."""

    def __init__(self, bounds: Bounds, **sizes: int) -> None:
        self._bounds = bounds
        self._events, self._findings = Sorter(**sizes), Sorter(**sizes)
        self._organisations = Sorter(**sizes)
        self._last_org = ""
        self.counts = Counts()

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        for sorter in (self._events, self._findings, self._organisations):
            sorter.__exit__()

    def add_logged(self, entry: Entry) -> bool:
        """Take a row of the log; returns whether it may matter. Raises CliError."""
        return self._add(_LOGGED, entry)

    def add_stored(self, entry: Entry) -> None:
        """Take a stored event. Raises CliError."""
        self._add(_STORED, entry)

    def add_rejected(self, entry: Entry) -> None:
        """Take an event that was rejected and not taken in since; its time may be wrong. Raises CliError."""
        self._events.add(_line(_REJECTED, entry))

    def _add(self, side: bytes, entry: Entry) -> bool:
        if not self._bounds.is_near(entry):
            return False
        self._events.add(_line(side, entry))
        if self._bounds.has(entry) and entry.org_id != self._last_org:
            self._last_org = entry.org_id
            self._organisations.add(json.dumps(entry.org_id).encode())
        return True

    def organisations(self) -> Iterator[str]:
        """Give each organisation that has an event in the period, on one side at least."""
        for text, _ in groupby(self._organisations.lines()):
            yield json.loads(text)

    def compare(self) -> None:
        """Compare what was taken. Raises CliError."""
        for _, lines in groupby(self._events.lines(), key=lambda line: line[:_KEY_CHARS]):
            for finding in self._of_one_id(lines):
                self.add(finding)

    def add(self, finding: Finding) -> None:
        """Take a finding. Raises CliError."""
        self.counts.found[finding.kind] += 1
        row = [finding.kind, finding.org_id, finding.sku, finding.day.isoformat()]
        rest = [finding.request_id, finding.logged, finding.stored, finding.detail]
        self._findings.add(json.dumps([*row, *rest]).encode())

    def findings(self) -> Iterator[Finding]:
        """Give what was found, by kind, organisation, SKU, day and id."""
        for line in self._findings.lines():
            kind, org_id, sku, day, *rest = json.loads(line)
            yield Finding(Kind(kind), org_id, sku, date.fromisoformat(day), *rest)

    def _of_one_id(self, lines: Iterable[bytes]) -> Iterator[Finding]:
        logged: Entry | None = None
        rejected: Entry | None = None
        stored: Entry | None = None
        repeated = ""
        for line in lines:
            side, entry = line[_KEY_CHARS : _KEY_CHARS + 1], _entry(line)
            if side == _LOGGED:
                self.counts.logged += self._bounds.has(entry)
                if logged is None:
                    logged = entry
                elif not repeated:
                    repeated = self._difference(logged, entry)
            elif side == _REJECTED:
                rejected = rejected or entry
            else:
                stored = entry
        if stored is not None and not stored.note:
            self.counts.stored += self._bounds.has(stored)
        if not any(item and self._bounds.has(item) for item in (logged, stored)):
            return
        if logged is not None and repeated:
            yield _finding(Kind.REPEATED, logged, logged.quantity, "", repeated)
        finding = self._judged(logged, rejected, stored)
        if finding is not None:
            yield finding
        elif logged is not None and stored is not None:
            self.counts.matched += 1

    def _judged(
        self, logged: Entry | None, rejected: Entry | None, stored: Entry | None
    ) -> Finding | None:
        """Judge an event that one side has in the period, at least."""
        if logged is None:
            return None if stored is None or stored.note else _extra(stored)
        if stored is None:
            # Behind the slack nobody looked for the other half.
            return _unstored(logged, rejected) if self._bounds.has(logged) else None
        if stored.note:
            return _finding(Kind.CANCELLED, logged, logged.quantity, "", "")
        difference = self._difference(logged, stored)
        if difference:
            return _finding(Kind.DIFFERING, logged, logged.quantity, stored.quantity, difference)
        return None

    def _difference(self, logged: Entry, other: Entry) -> str:
        """Say in which fields two events differ; a log without projects says nothing of them."""
        pairs = [
            ("org_id", logged.org_id, other.org_id),
            ("sku", logged.sku, other.sku),
            ("quantity", logged.quantity, other.quantity),
        ]
        if logged.project_id:
            pairs.append(("project_id", logged.project_id, other.project_id))
        if abs(logged.at_us - other.at_us) > self._bounds.tolerance_us:
            pairs.append(("time", _when(logged.at_us), _when(other.at_us)))
        return ", ".join(
            f"{name} {mine} ≠ {theirs}" for name, mine, theirs in pairs if mine != theirs
        )


def entry_of(event: metering_pb2.UsageEvent | metering_pb2.EventContent, note: str = "") -> Entry:
    """Read an event. Raises ValueError: its quantity is none that could be stored."""
    if not _QUANTITY.fullmatch(event.quantity):
        raise ValueError(
            f"quantity: {event.quantity[:64]!r} is not a decimal below 10^15 with up to 18 places"
        )
    return Entry(
        event.request_id,
        event.org_id,
        event.project_id,
        event.sku,
        format_decimal(Decimal(event.quantity)),
        event.event_time.seconds * 1_000_000 + event.event_time.nanos // 1000,
        note,
    )


def rejected_of(content: metering_pb2.EventContent, reason: str) -> Entry:
    """Read a rejected event, of which only the id need be sound."""
    return Entry(content.request_id, content.org_id, "", content.sku, "", 0, reason)


def microseconds(at: datetime) -> int:
    """Return microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def grouped(findings: Iterable[Finding]) -> Iterator[Group]:
    """Add findings up by kind, organisation, SKU and day, in which order they come."""
    keyed = groupby(findings, key=lambda item: (item.kind, item.org_id, item.sku, item.day))
    for (kind, org_id, sku, day), items in keyed:
        yield _group(kind, org_id, sku, day, items)


def _group(kind: Kind, org_id: str, sku: str, day: date, items: Iterable[Finding]) -> Group:
    events = 0
    sums: dict[str, Decimal] = {}
    examples: list[str] = []
    for item in items:
        events += 1
        for name, text in (("logged", item.logged), ("stored", item.stored)):
            if text:
                sums[name] = CONTEXT.add(sums.get(name, Decimal()), Decimal(text))
        if len(examples) < IDS_SHOWN:
            about = f" ({item.detail})" if item.detail and item.request_id else item.detail
            examples.append(f"{item.request_id}{about}")
    more = f", and {events - len(examples):,} more" if events > len(examples) else ""
    detail = (", ".join(examples) + more)[:DETAIL_CHARS_MAX]
    written: Mapping[str, str] = {name: format_decimal(total) for name, total in sums.items()}
    return Group(
        kind, org_id, sku, day, events, written.get("logged", ""), written.get("stored", ""), detail
    )


def _extra(stored: Entry) -> Finding:
    return _finding(Kind.EXTRA, stored, "", stored.quantity, "")


def _unstored(logged: Entry, rejected: Entry | None) -> Finding:
    if rejected is None:
        return _finding(Kind.MISSING, logged, logged.quantity, "", "")
    return _finding(Kind.REJECTED, logged, logged.quantity, "", rejected.note)


def _finding(kind: Kind, entry: Entry, logged: str, stored: str, detail: str) -> Finding:
    return Finding(
        kind, entry.org_id, entry.sku, entry.day, entry.request_id, logged, stored, detail
    )


def _line(side: bytes, entry: Entry) -> bytes:
    key = blake2b(entry.request_id.encode(), digest_size=_KEY_CHARS // 2).hexdigest().encode()
    said = [entry.request_id, entry.org_id, entry.project_id, entry.sku]
    return key + side + json.dumps([*said, entry.quantity, entry.at_us, entry.note]).encode()


def _entry(line: bytes) -> Entry:
    return Entry(*json.loads(line[_KEY_CHARS + 1 :]))


def _when(at_us: int) -> str:
    return (_EPOCH + at_us * _MICROSECOND).isoformat().replace("+00:00", "Z")
