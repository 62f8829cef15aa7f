"""The events of a percentage price: whether they were sorted as its rules sort them.

The file holds no single events but, of each group, how many there are, their sum, and the smallest and largest. A paid
event costs more the larger it is, so that a whole group is on one side of a limit when its smallest and largest are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tollmesh_verify.prices import ZERO, NotAPrice, Sorted
from tollmesh_verify.shape import decimal, optional, whole

_GROUPS = ("free", "charged", "raised", "lowered")


@dataclass(frozen=True)
class _Group:
    count: int
    amount: Fraction
    smallest: Fraction | None
    largest: Fraction | None


@dataclass(frozen=True)
class _Terms:
    """A percentage price, for one paid event."""

    rate: Fraction
    fixed: Fraction
    least: Fraction
    most: Fraction | None

    @property
    def has_limits(self) -> bool:
        """True when one event may be raised or lowered."""
        return bool(self.least) or self.most is not None

    def group_of(self, paid: Fraction) -> str:
        """Say what becomes of a paid event."""
        fee = self.rate * paid + self.fixed
        if fee < self.least:
            return "raised"
        return "lowered" if self.most is not None and fee > self.most else "charged"


def sorted_events(
    model: Mapping[str, Any],
    told: Mapping[str, Any],
    quantity: Fraction,
    prior_count: int,
    prior_amount: Fraction,
) -> Sorted:
    """Return what the price is applied to.

    Args:
        model: the percentage price.
        told: the events, as the file tells of them.
        quantity: sum of the amounts of all of them.
        prior_count: events above zero of the period before them.
        prior_amount: sum of their amounts.

    Raises:
        NotAPrice: they are not sorted as the price sorts them.
    """
    groups = {name: _group(told, name) for name in _GROUPS}
    crossing = optional(told, "crossing_amount")
    if crossing is not None and crossing <= 0:
        raise NotAPrice("events.crossing_amount", "must be above zero")
    _check_sums(told, groups, crossing, quantity)
    terms = _Terms(
        decimal(model, "rate_percent") / 100,
        decimal(model, "fixed_per_event"),
        decimal(model, "minimum_per_event"),
        optional(model, "maximum_per_event"),
    )
    _check_allowance(model, groups, crossing, prior_count, prior_amount)
    for name in ("charged", "raised", "lowered"):
        _check_side(terms, name, groups[name])
    counts = {name: group.count for name, group in groups.items()}
    free, charged = groups["free"].amount, groups["charged"].amount
    if crossing is not None:
        beyond = prior_amount + free + crossing - decimal(model, "free_amount")
        free += crossing - beyond
        name = terms.group_of(beyond)
        counts[name] += 1
        if name == "charged":
            charged += beyond
    return Sorted(free, charged, counts["charged"], counts["raised"], counts["lowered"])


def _group(told: Mapping[str, Any], name: str) -> _Group:
    message = told.get(name, {})
    found = _Group(
        whole(message, "count"),
        decimal(message, "amount"),
        optional(message, "smallest"),
        optional(message, "largest"),
    )
    where = f"events.{name}"
    if found.count < 0 or found.amount < 0 or (found.count == 0) != (found.amount == 0):
        raise NotAPrice(
            f"{where}.amount", "must be above zero where there are events, and only there"
        )
    if found.smallest is not None and found.largest is not None:
        _check_range(found, found.smallest, found.largest, where)
    return found


def _check_range(group: _Group, smallest: Fraction, largest: Fraction, where: str) -> None:
    if not ZERO < smallest <= largest:
        raise NotAPrice(f"{where}.smallest", "must be above zero, and largest not below it")
    rest = group.amount - smallest - largest
    if group.count == 1:
        fits = smallest == largest == group.amount
    else:
        fits = (group.count - 2) * smallest <= rest <= (group.count - 2) * largest
    if not fits:
        raise NotAPrice(f"{where}.amount", "must be a sum of so many events between the two")


def _check_sums(
    told: Mapping[str, Any],
    groups: Mapping[str, _Group],
    crossing: Fraction | None,
    quantity: Fraction,
) -> None:
    count = sum(group.count for group in groups.values()) + (crossing is not None)
    if count != whole(told, "event_count"):
        raise NotAPrice("events.event_count", f"must be {count}, as many as are in the groups")
    amount = sum((group.amount for group in groups.values()), crossing or ZERO)
    if amount != quantity:
        raise NotAPrice("events", "must have amounts that add up to the quantity")


def _check_allowance(
    model: Mapping[str, Any],
    groups: Mapping[str, _Group],
    crossing: Fraction | None,
    prior_count: int,
    prior_amount: Fraction,
) -> None:
    """Free events come first, until either number or amount is used up; only then any is paid."""
    number, amount = whole(model, "free_events"), decimal(model, "free_amount")
    free = groups["free"]
    counted, summed = prior_count + free.count, prior_amount + free.amount
    if free.count and not (number or amount):
        raise NotAPrice("events.free.count", "must be 0: there is no allowance")
    if free.count and number and counted > number:
        raise NotAPrice("events.free.count", f"must be {max(number - prior_count, 0)} at most")
    if free.count and amount and summed > amount:
        raise NotAPrice("events.free.amount", "must not go beyond the allowance")
    is_used_up = (not number and not amount) or bool(number and counted >= number)
    is_used_up = is_used_up or bool(amount and summed >= amount)
    if crossing is not None:
        if is_used_up or not amount or summed + crossing <= amount:
            raise NotAPrice(
                "events.crossing_amount", "must go beyond what is left of the allowance"
            )
        return
    paid = sum(groups[name].count for name in ("charged", "raised", "lowered"))
    if paid and not is_used_up:
        raise NotAPrice("events.free.count", "must use up the allowance before an event is paid")


def _check_side(terms: _Terms, name: str, group: _Group) -> None:
    if not group.count:
        return
    where = f"events.{name}"
    if not terms.has_limits:
        if name != "charged":
            raise NotAPrice(f"{where}.count", "must be 0: the price has no such limit of an event")
        return
    for end, paid in (("smallest", group.smallest), ("largest", group.largest)):
        if paid is None:
            raise NotAPrice(f"{where}.{end}", "must be there")
        if terms.group_of(paid) != name:
            raise NotAPrice(f"{where}.{end}", f"must cost what {name} events cost")
