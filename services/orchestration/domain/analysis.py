"""Finds what is wrong with routing rules before any payment meets them.

Exact: of each part of a payment that rules look at (currency and amount, country, beginning of the card number, each
key of the metadata) the rules tell only finitely many kinds apart. A condition is a box of such kinds, and a rule is
reached when something of its box is left after those before it were cut out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.orchestration.domain.routing import Condition, Facts, Routing, Rule

# So many boxes are looked at for one rule; beyond it counts as reached. Rules of people need a handful.
BOXES_MAX = 4_096
# Kinds beside those that rules name.
OTHER = ""
_CURRENCY_OTHER = ("", 0)

Kind = object
Box = tuple[frozenset[Kind], ...]


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

    def _countries(self, when: Condition) -> set[str]:
        regions = {each for name in when.regions for each in self.routing.countries_of(name)}
        return set(when.countries) | regions

    # ---- boxes

    def box(self, when: Condition) -> Box:
        """Return the payments for which a condition holds."""
        return (self._money(when), self._country(when), self._bin(when), *self._metadata(when))

    def everything(self) -> Box:
        """Return all payments."""
        return self.box(Condition())

    def parts(self) -> list[str]:
        """Return the names of the parts, as they stand in a box."""
        return ["amount", "country", "bin", *(f"metadata.{key}" for key in sorted(self.metadata))]

    def facts(self, box: Box) -> Facts:
        """Return a payment of a box that is not empty."""
        kinds: list[Any] = [min(part, key=repr) for part in box]
        currency, amount = kinds[0]
        country, beginning = kinds[1:3]
        values = dict(zip(sorted(self.metadata), kinds[3:], strict=True))
        return Facts(
            currency or self._unnamed_currency(),
            amount or 1,
            str(country),
            str(beginning),
            {key: str(value) for key, value in values.items() if value != OTHER},
        )

    def _unnamed_currency(self) -> str:
        """Return a currency that no rule names; it need not be a real one."""
        return next(
            code
            for code in map("X{:02}".format, range(len(self.amounts) + 1))
            if code not in self.amounts
        )

    def _money(self, when: Condition) -> frozenset[Kind]:
        kinds = {(code, start) for code, starts in self.amounts.items() for start in starts}
        kinds.add(_CURRENCY_OTHER)
        if when.currencies:
            kinds = {kind for kind in kinds if kind[0] in when.currencies}
        for limit, is_least in ((when.amount_min, True), (when.amount_max, False)):
            if limit is None:
                continue
            kinds = {kind for kind in kinds if kind[0] == limit.currency_code}
            if is_least:
                kinds = {kind for kind in kinds if kind[1] >= limit.minor_units}
            else:
                kinds = {kind for kind in kinds if kind[1] <= limit.minor_units}
        return frozenset(kinds)

    def _country(self, when: Condition) -> frozenset[Kind]:
        kinds = {*self.countries, OTHER}
        if when.countries:
            kinds &= set(when.countries)
        if when.regions:
            kinds &= {each for name in when.regions for each in self.routing.countries_of(name)}
        return frozenset(kinds)

    def _bin(self, when: Condition) -> frozenset[Kind]:
        """A kind is the longest beginning that rules name; OTHER is a card of none of them, or unknown."""
        kinds = {*self.bins, OTHER}
        if when.bins:
            kinds = {kind for kind in kinds if kind.startswith(when.bins)}
        return frozenset(kinds)

    def _metadata(self, when: Condition) -> list[frozenset[Kind]]:
        wanted: dict[str, set[str]] = {}
        for key, values in when.metadata:
            # The same key twice: both hold.
            wanted[key] = wanted[key] & set(values) if key in wanted else set(values)
        return [
            frozenset(wanted[key]) if key in wanted else frozenset({*self.metadata[key], OTHER})
            for key in sorted(self.metadata)
        ]


def flaws(routing: Routing, methods: Sequence[str]) -> list[Flaw]:
    """Return what is wrong with the rules of a configuration that has these methods."""
    kinds = _Kinds(routing)
    found: list[Flaw] = []
    boxes: dict[str, Box] = {}
    for rule in routing.rules:
        box = kinds.box(rule.when)
        empty = [part for part, kind in zip(kinds.parts(), box, strict=True) if not kind]
        if empty:
            found.append(Contradiction(rule, empty[0]))
        else:
            boxes[rule.name] = box
    for method in methods:
        mine = [rule for rule in routing.rules if method in rule.methods and rule.name in boxes]
        before: list[Rule] = []
        for rule in mine:
            if _left(boxes[rule.name], [boxes[each.name] for each in before]) is None:
                hiding = [each.name for each in before if _meet(boxes[each.name], boxes[rule.name])]
                found.append(Unreached(rule, method, tuple(hiding)))
            before.append(rule)
        offered = any(not rule.skips for rule in mine)
        all_boxes = [boxes[rule.name] for rule in mine]
        if mine and not offered and _left(kinds.everything(), all_boxes) is None:
            found.append(Skipped(method))
    return found


def example(routing: Routing, method: str, rule: Rule) -> Facts | None:
    """Return a payment for which a rule decides; None when there is none, or it would take too long to find."""
    kinds = _Kinds(routing)
    mine = [each for each in routing.rules if method in each.methods]
    before = [kinds.box(each.when) for each in mine[: mine.index(rule)]]
    left = _left(kinds.box(rule.when), before)
    return kinds.facts(left) if left else None


def _left(box: Box, cut: Sequence[Box]) -> Box | None:
    """Return something of a box that is left once others are cut out of it; an empty tuple when that is not known."""
    pieces = [box] if all(box) else []
    for other in cut:
        pieces = [rest for piece in pieces for rest in _without(piece, other)]
        if len(pieces) > BOXES_MAX:
            return ()
    return pieces[0] if pieces else None


def _without(box: Box, other: Box) -> list[Box]:
    """Cut a box out of another; what is left are boxes that do not meet."""
    if not _meet(box, other):
        return [box]
    pieces: list[Box] = []
    for index, (mine, theirs) in enumerate(zip(box, other, strict=True)):
        if outside := mine - theirs:
            pieces.append((*_both(box, other, index), outside, *box[index + 1 :]))
    return pieces


def _both(box: Box, other: Box, until: int) -> list[frozenset[Kind]]:
    return [mine & theirs for mine, theirs in zip(box[:until], other[:until], strict=True)]


def _meet(box: Box, other: Box) -> bool:
    return all(mine & theirs for mine, theirs in zip(box, other, strict=True))
