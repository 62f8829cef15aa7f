"""Finds what is wrong with routing rules before any payment meets them.

Exact: of each part of a payment that rules look at (currency and amount, country, beginning of the card number, each
key of the metadata) the rules tell only finitely many kinds apart. A condition is a box of such kinds, and a rule is
reached when something of its box is left after those before it were cut out.

How much is looked at is bounded, for one rule and for all: how many boxes are left can multiply with each rule.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.orchestration.domain.routing import Condition, Facts, Routing, Rule

# So many boxes are kept for one rule, and so many are looked at for all rules of a configuration; beyond either a rule
# counts as reached. Rules of people need a handful.
BOXES_MAX = 4_096
LOOKS_MAX = 200_000
# Kinds beside those that rules name.
OTHER = ""
_CURRENCY_OTHER = ("", 0)

# What a box has of each part that it does not have all of: a bit for each kind.
Box = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A rule whose condition never holds, and the part that keeps it from it."""

    rule: Rule
    part: str


@dataclass(frozen=True, slots=True)
class Unreached:
    """A rule that never decides for a method, and the rules that do."""

    rule: Rule
    method: str
    decided_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A method that its rules leave out of every payment."""

    method: str


Flaw = Contradiction | Unreached | Skipped


@dataclass
class _Kinds:
    """The kinds of each part, and a payment of each kind."""

    routing: Routing
    amounts: dict[str, list[int]] = field(default_factory=dict)
    countries: set[str] = field(default_factory=set)
    bins: set[str] = field(default_factory=set)
    metadata: dict[str, set[str]] = field(default_factory=dict)
    _money_kinds: frozenset[tuple[str, int]] = frozenset()
    _parts: list[_Part] = field(default_factory=list)
    _part_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in self.routing.rules:
            when = rule.when
            for code in when.currencies:
                self.amounts.setdefault(code, [1])
            for limit, after in ((when.amount_min, 0), (when.amount_max, 1)):
                if limit is not None:
                    starts = self.amounts.setdefault(limit.currency_code, [1])
                    starts.append(limit.minor_units + after)
            self.countries.update(self._countries(when))
            self.bins.update(when.bins)
            for key, values in when.metadata:
                self.metadata.setdefault(key, set()).update(values)
        for code, starts in self.amounts.items():
            self.amounts[code] = sorted(set(starts))
        kinds = {(code, start) for code, starts in self.amounts.items() for start in starts}
        self._money_kinds = frozenset({*kinds, _CURRENCY_OTHER})
        metadata = [sorted({*values, OTHER}) for _, values in sorted(self.metadata.items())]
        self._parts = [
            _Part(sorted(self._money_kinds)),
            _Part(sorted({*self.countries, OTHER})),
            _Part(sorted({*self.bins, OTHER})),
            *map(_Part, metadata),
        ]
        self._part_of = {key: place for place, key in enumerate(sorted(self.metadata), 3)}

    def _countries(self, when: Condition) -> set[str]:
        regions = {each for name in when.regions for each in self.routing.countries_of(name)}
        return set(when.countries) | regions

    # ---- boxes

    def box(self, when: Condition) -> Box:
        """Return the payments for which a condition holds."""
        wanted: dict[int, int] = {}
        if when.currencies or when.amount_min or when.amount_max:
            wanted[0] = self._parts[0].mask(self._money(when))
        if when.countries or when.regions:
            wanted[1] = self._parts[1].mask(self._country(when))
        if when.bins:
            # A kind is the longest beginning that rules name; OTHER is a card of none of them, or unknown.
            wanted[2] = self._parts[2].beginning(when.bins)
        for key, values in when.metadata:
            place = self._part_of[key]
            # The same key twice: both hold.
            wanted[place] = wanted.get(place, self._parts[place].all) & self._parts[place].mask(
                values
            )
        return wanted

    def names(self) -> list[str]:
        """Return the names of the parts, by their place."""
        return ["amount", "country", "bin", *(f"metadata.{key}" for key in self._part_of)]

    def without(self, box: Box, other: Box) -> list[Box]:
        """Cut a box out of another; what is left are boxes that do not meet."""
        if not self.meet(box, other):
            return [box]
        pieces: list[Box] = []
        inside = box
        for place, theirs in other.items():
            mine = inside.get(place, self._parts[place].all)
            if outside := mine & ~theirs:
                pieces.append({**inside, place: outside})
            inside = {**inside, place: mine & theirs}
        return pieces

    def meet(self, box: Box, other: Box) -> bool:
        """Say whether some payment is in both."""
        return all(
            box.get(place, self._parts[place].all) & theirs for place, theirs in other.items()
        )

    def facts(self, box: Box) -> Facts:
        """Return a payment of a box that is not empty."""
        kinds = [part.first(box.get(place, part.all)) for place, part in enumerate(self._parts)]
        currency, amount = kinds[0]
        return Facts(
            currency or self._unnamed_currency(),
            amount or 1,
            str(kinds[1]),
            str(kinds[2]),
            {
                key: str(kinds[place])
                for key, place in self._part_of.items()
                if kinds[place] != OTHER
            },
        )

    def _unnamed_currency(self) -> str:
        """Return a currency that no rule names; it need not be a real one."""
        return next(
            code
            for code in map("X{:02}".format, range(len(self.amounts) + 1))
            if code not in self.amounts
        )

    def _money(self, when: Condition) -> set[tuple[str, int]]:
        kinds = set(self._money_kinds)
        if when.currencies:
            currencies = set(when.currencies)
            kinds = {kind for kind in kinds if kind[0] in currencies}
        for limit, is_least in ((when.amount_min, True), (when.amount_max, False)):
            if limit is None:
                continue
            kinds = {kind for kind in kinds if kind[0] == limit.currency_code}
            if is_least:
                kinds = {kind for kind in kinds if kind[1] >= limit.minor_units}
            else:
                kinds = {kind for kind in kinds if kind[1] <= limit.minor_units}
        return kinds

    def _country(self, when: Condition) -> set[str]:
        kinds = {*self.countries}
        if when.countries:
            kinds &= set(when.countries)
        if when.regions:
            kinds &= {each for name in when.regions for each in self.routing.countries_of(name)}
        return kinds


class _Part:
    """The kinds of one part, each with a bit.

    Attributes:
        all: the bits of all.
    """

    def __init__(self, kinds: Sequence[Any]) -> None:
        self._kinds = kinds
        self._place = {kind: place for place, kind in enumerate(kinds)}
        self.all = (1 << len(kinds)) - 1

    def mask(self, kinds: Iterable[Hashable]) -> int:
        """Return the bits of some."""
        found = 0
        for kind in kinds:
            found |= 1 << self._place[kind]
        return found

    def beginning(self, starts: Iterable[str]) -> int:
        """Return the bits of texts that begin with one of some; each of these is a kind.

        Kinds are sorted, so that those with one beginning stand together.
        """
        found = 0
        for start in starts:
            first = self._place[start]
            until = bisect_left(self._kinds, start + "\U0010ffff", lo=first)
            found |= ((1 << (until - first)) - 1) << first
        return found

    def first(self, mask: int) -> Any:
        """Return the first of some that are not none."""
        return self._kinds[(mask & -mask).bit_length() - 1]


@dataclass(slots=True)
class _Search:
    """Looks for what is left of boxes, and no more often than is bounded."""

    kinds: _Kinds
    looks_left: int = LOOKS_MAX

    def left(self, box: Box, cut: Sequence[Box]) -> Box | None:
        """Return something of a box that is left once others are cut out of it.

        Raises:
            _TooMuch: that is not known.
        """
        pieces = [box]
        for other in cut:
            rest: list[Box] = []
            for piece in pieces:
                found = self.kinds.without(piece, other)
                self.looks_left -= 1 + len(found)
                rest += found
                if len(rest) > BOXES_MAX or self.looks_left < 0:
                    raise _TooMuch
            pieces = rest
        return pieces[0] if pieces else None

    def is_covered(self, box: Box, cut: Sequence[Box]) -> bool:
        """Say whether nothing is left; no when that is not known."""
        try:
            return self.left(box, cut) is None
        except _TooMuch:
            return False


class _TooMuch(Exception):
    """Finding out would take too long."""


def flaws(routing: Routing, methods: Sequence[str]) -> list[Flaw]:
    """Return what is wrong with the rules of a configuration that has these methods."""
    kinds = _Kinds(routing)
    search = _Search(kinds)
    found: list[Flaw] = []
    boxes: dict[str, Box] = {}
    for rule in routing.rules:
        box = kinds.box(rule.when)
        empty = sorted(place for place, mask in box.items() if not mask)
        if empty:
            found.append(Contradiction(rule, kinds.names()[empty[0]]))
        else:
            boxes[rule.name] = box
    # Methods with the same rules are one question.
    asked: dict[tuple[str, ...], list[str]] = {}
    for method in methods:
        names = tuple(r.name for r in routing.rules if method in r.methods and r.name in boxes)
        asked.setdefault(names, []).append(method)
    by_name = {rule.name: rule for rule in routing.rules}
    for names, same in asked.items():
        before: list[str] = []
        for name in names:
            if search.is_covered(boxes[name], [boxes[each] for each in before]):
                hiding = tuple(each for each in before if kinds.meet(boxes[each], boxes[name]))
                found += [Unreached(by_name[name], method, hiding) for method in same]
            before.append(name)
        skips = all(by_name[name].skips for name in names)
        if names and skips and search.is_covered({}, [boxes[name] for name in names]):
            found += [Skipped(method) for method in same]
    return found


def example(routing: Routing, method: str, rule: Rule) -> Facts | None:
    """Return a payment for which a rule decides; None when there is none, or it would take too long to find."""
    kinds = _Kinds(routing)
    mine = [each for each in routing.rules if method in each.methods]
    boxes = [kinds.box(each.when) for each in mine[: mine.index(rule) + 1]]
    if not all(boxes[-1].values()):
        return None
    try:
        # Those that hold for nothing cut nothing out.
        left = _Search(kinds).left(boxes[-1], [box for box in boxes[:-1] if all(box.values())])
    except _TooMuch:
        return None
    return None if left is None else kinds.facts(left)
