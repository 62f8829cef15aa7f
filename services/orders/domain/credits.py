"""Credits: grants of an owner in one unit, and what is held, used, lapsed and taken back of each.

Amounts are whole numbers of the unit's smallest part: minor units of a currency, or the smallest part of a SKU's
unit. A grant never holds less than nothing: `amount` is always the sum of what was used, has lapsed, was taken
back, is held and is available.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from services.orders.domain.orders import TOTAL_MINOR_MAX, cardless
from services.runtime.errors import Code, DomainError, InvalidField, UnfitNow
from services.runtime.money import exponent, parse_decimal

# Three capital letters are a currency, always: a unit of that name could not be told from one that came later.
_CURRENCY = re.compile(r"[A-Z]{3}")
# Events carry amounts as JSON numbers, of which 15 digits have one reading everywhere.
AMOUNT_MAX = TOTAL_MINOR_MAX
# In a grant that is wanted, where no time is named: nothing is given before it.
NOW = datetime(1, 1, 1, tzinfo=UTC)


class Source(StrEnum):
    """What a grant comes from. Stored and told as these texts; readers must bear others."""

    PURCHASED = "PURCHASED"
    PROMOTION = "PROMOTION"
    DOWNTIME = "DOWNTIME"
    REFUND = "REFUND"


class CreditsExceeded(DomainError):
    """An owner has fewer credits than are asked for."""

    code = Code.FAILED_PRECONDITION
    reason = "CREDITS_EXCEEDED"
    state_dependent = True
    owner_id: str
    unit: str
    available: str


class CreditsNotBookable(DomainError):
    """The ledger takes no posting of what happened to credits."""

    code = Code.FAILED_PRECONDITION
    reason = "CREDITS_NOT_BOOKABLE"
    state_dependent = True
    entry_id: str
    recipe: str
    result: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Credits given to an owner at once.

    Attributes:
        unit: the code of a currency, or a SKU's unit.
        priority: lower is used first.
        effective_at: it counts from this time on.
        expires_at: it counts until just before this time; none: for ever.
        rollover_max: how much of what is available stays when its period ends; the rest lapses.
        order_id: of the order that bought it, if one did.
        rollovers_left: how many more periods follow, each of `period_days`.
        held: what reservations hold of it. It outlives expiry and reversal: a reservation was promised it.
        is_reversed: it was taken back; what reservations release of it is taken back as well.
    """

    grant_id: str
    owner_id: str
    unit: str
    amount: int
    source: str
    granted_at: datetime
    effective_at: datetime
    priority: int = 0
    expires_at: datetime | None = None
    rollover_max: int = 0
    order_id: str = ""
    held: int = 0
    used: int = 0
    lapsed: int = 0
    taken_back: int = 0
    is_reversed: bool = False
    rollovers_left: int = 0
    period_days: int = 0
    reversed_at: datetime | None = None

    @property
    def available(self) -> int:
        """What is neither held nor gone, whether the grant counts at the moment or not."""
        return self.amount - self.held - self.used - self.lapsed - self.taken_back

    def counts(self, at: datetime) -> bool:
        """Tell whether it can be used at a time."""
        return self.effective_at <= at and not self.expired(at)

    def expired(self, at: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires_at is not None and self.expires_at <= at


class Kind(StrEnum):
    """What happened to credits of a grant. Stored as these texts."""

    GRANTED = "GRANTED"
    HELD = "HELD"
    RELEASED = "RELEASED"
    # Of what was held.
    CONSUMED = "CONSUMED"
    # Of what was available.
    APPLIED = "APPLIED"
    LAPSED = "LAPSED"
    TAKEN_BACK = "TAKEN_BACK"


# What is posted by recipes of its own. HELD and RELEASED move no money; what is APPLIED is posted as a payment.
_RECIPES = {
    Kind.GRANTED: "credits-issued",
    Kind.CONSUMED: "credits-consumed",
    Kind.LAPSED: "credits-lapsed",
    Kind.TAKEN_BACK: "credits-reversed",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened to credits of one grant; it never changes.

    Attributes:
        amount: in the unit's smallest parts, above zero.
        reservation_id: by which it happened; empty for none.
        order_id: which was paid with it, or which bought it; empty for none.
    """

    entry_id: str
    grant_id: str
    owner_id: str
    unit: str
    source: str
    kind: str
    amount: int
    recorded_at: datetime
    reservation_id: str = ""
    order_id: str = ""

    @property
    def recipe(self) -> str:
        """Name of the recipe that posts it."""
        return _RECIPES[Kind(self.kind)]

    @property
    def is_bought(self) -> bool:
        """Tell whether its owner paid, or gave up a repayment, for the credits; else they were given for nothing."""
        return self.source in (Source.PURCHASED, Source.REFUND)

    @property
    def is_posted(self) -> bool:
        """Tell whether the ledger is to have it: it knows money alone."""
        return self.kind in _RECIPES and is_money(self.unit)


@dataclass(frozen=True, slots=True)
class Part:
    """What is taken of one grant."""

    grant_id: str
    amount: int


@dataclass(frozen=True, slots=True)
class Balance:
    """What an owner has in one unit at a time."""

    available: int
    held: int


@dataclass(frozen=True, slots=True)
class Reversal:
    """What became of a grant that was taken back.

    Attributes:
        taken_back: by this reversal.
        used: gone before, so not taken back.
        held: promised to reservations, so not taken back until they are released.
    """

    grant_id: str
    taken_back: int
    used: int
    held: int


def in_order_of_use(grants: Iterable[Grant], at: datetime) -> list[Grant]:
    """Return the grants that count at a time as they are used: by priority, then the first to expire, then by age."""
    return sorted(
        (grant for grant in grants if grant.counts(at)),
        key=lambda grant: (
            grant.priority,
            # What never expires comes after all that does.
            (grant.expires_at is None, grant.expires_at or grant.granted_at),
            grant.granted_at,
            grant.grant_id,
        ),
    )


def balance(grants: Sequence[Grant], at: datetime) -> Balance:
    """Sum up the grants of one owner in one unit, as they stand now, by whether they count at a time."""
    return Balance(
        sum(grant.available for grant in grants if grant.counts(at)),
        sum(grant.held for grant in grants),
    )


def parts_of(
    grants: Sequence[Grant], owner_id: str, unit: str, amount: int, at: datetime
) -> tuple[Part, ...]:
    """Share an amount over grants, in their order of use.

    Raises CreditsExceeded if they have less.

    Args:
        grants: of this owner in this unit.
        amount: in the unit's smallest parts; above zero.
    """
    assert amount > 0, "no part is empty"
    available = balance(grants, at).available
    if available < amount:
        raise CreditsExceeded(
            f"{owner_id} has {available} of {unit} available, fewer than {amount}: grant credits, or ask for less",
            owner_id=owner_id,
            unit=unit,
            available=str(available),
        )
    parts, rest = [], amount
    for grant in in_order_of_use(grants, at):
        taken = min(grant.available, rest)
        if taken:
            parts.append(Part(grant.grant_id, taken))
        rest -= taken
    return tuple(parts)


def held(grant: Grant, amount: int) -> Grant:
    """Promise a part of what is available."""
    assert 0 < amount <= grant.available, "no more is held than is available"
    return replace(grant, held=grant.held + amount)


def used(grant: Grant, amount: int) -> Grant:
    """Use a part of what is available."""
    assert 0 < amount <= grant.available, "no more is used than is available"
    return replace(grant, used=grant.used + amount)


def used_of_held(grant: Grant, amount: int) -> Grant:
    """Use what was promised, even after the grant has expired."""
    assert 0 < amount <= grant.held, "no more is used than is held"
    return replace(grant, held=grant.held - amount, used=grant.used + amount)


def released(grant: Grant, amount: int, at: datetime) -> tuple[Grant, int]:
    """Take a promise back; returns the grant and the breakage, where its time is over by now."""
    assert 0 < amount <= grant.held, "no more is released than is held"
    after = replace(grant, held=grant.held - amount)
    if grant.is_reversed:
        return replace(after, taken_back=after.taken_back + amount), 0
    return lapsed(after, at)


def lapsed(grant: Grant, at: datetime) -> tuple[Grant, int]:
    """Let what is available of an expired grant lapse; returns the grant and its breakage, zero if nothing lapsed."""
    breakage = grant.available if grant.expired(at) else 0
    return replace(grant, lapsed=grant.lapsed + breakage), breakage


def rolled_over(grant: Grant, expires_at: datetime) -> tuple[Grant, int]:
    """Carry a grant into the next period; returns it and the breakage of what its rollover does not carry.

    Args:
        expires_at: the end of the next period, after that of this one.
    """
    assert grant.expires_at is not None and grant.expires_at < expires_at, (
        "the next period ends later"
    )
    breakage = max(grant.available - grant.rollover_max, 0)
    return replace(grant, expires_at=expires_at, lapsed=grant.lapsed + breakage), breakage


def reversed_(grant: Grant) -> tuple[Grant, Reversal]:
    """Take back what is available of a grant, and tell what is not."""
    taken = grant.available
    after = replace(grant, taken_back=grant.taken_back + taken, is_reversed=True)
    return after, Reversal(grant.grant_id, taken, grant.used, grant.held)


def is_money(unit: str) -> bool:
    """Tell whether a unit is a currency."""
    return _CURRENCY.fullmatch(unit) is not None


def places(unit: str) -> int:
    """Return the digits after the point of a unit: of a currency its own, of any other none. Raises UnknownCurrency."""
    return exponent(unit) if is_money(unit) else 0


def smallest(field: str, unit: str, text: str) -> int:
    """Read an amount as a number of the unit's smallest parts.

    Raises:
        InvalidField: it is no decimal, has more places than the unit, or is out of range.
        UnknownCurrency: the unit is three capital letters, but no currency.
    """
    has = places(unit)
    parts = parse_decimal(text, field).scaleb(has)
    if parts != parts.to_integral_value():
        what = f"{unit} has {has} digits after the point" if has else f"{unit} comes whole"
        raise InvalidField.one(field, f"has too many: {what}")
    if parts > AMOUNT_MAX:
        raise InvalidField.one(field, f"must be at most {AMOUNT_MAX} of the unit's smallest parts")
    return int(parts)


def written(unit: str, amount: int) -> str:
    """Write an amount with all digits of its unit, such as 120.00."""
    return format(Decimal(amount).scaleb(-places(unit)), "f")


def granted(grant: Grant) -> Grant:
    """Return a new grant as it is to be stored.

    Raises:
        InvalidField: the amount is not above zero, nothing comes from such a source, it names an order where none
            belongs or none where one does, a text of it holds the number of a card, or it rolls over and never expires.
        UnfitNow: it expires before it becomes effective.
    """
    if grant.amount <= 0:
        raise InvalidField.one("grant.amount", "must be above zero")
    if grant.source not in set(Source):
        raise InvalidField.one("grant.source", f"must be one of {', '.join(Source)}")
    if (grant.source == Source.PURCHASED) != bool(grant.order_id):
        raise InvalidField.one(
            "grant.order_id",
            "names the order that bought PURCHASED credits, and no others have one",
        )
    for field in ("owner_id", "unit", "order_id"):
        cardless(f"grant.{field}", getattr(grant, field))
    if grant.expires_at is None:
        if grant.rollovers_left:
            raise InvalidField.one("grant.rollover", "what never expires needs none: leave it out")
    elif grant.expires_at <= grant.effective_at:
        raise UnfitNow.one("grant.expires_at", "must be later than grant.effective_at")
    return grant


def ended(grant: Grant, at: datetime) -> tuple[Grant, int]:
    """End the period of a grant whose time is over: carry it into the next one, or let it lapse.

    Returns the grant and its breakage. Before its time, and after it has ended for good, nothing changes.
    """
    if not grant.expired(at) or not grant.rollovers_left:
        return lapsed(grant, at)
    assert grant.expires_at is not None, "it has expired"
    # Each period ends after the one before, however late this is noticed.
    after, breakage = rolled_over(grant, grant.expires_at + timedelta(days=grant.period_days))
    return replace(after, rollovers_left=grant.rollovers_left - 1), breakage


def not_bookable(entry: Entry, result: str) -> CreditsNotBookable:
    """Say that the ledger takes no posting of what happened to credits."""
    return CreditsNotBookable(
        f"the ledger refused {entry.recipe} of {entry.entry_id} with {result}; put its account right, it is tried"
        " again by itself",
        entry_id=entry.entry_id,
        recipe=entry.recipe,
        result=result,
    )
