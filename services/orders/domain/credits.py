"""Credits: grants of an owner in one unit, and what is held, used, lapsed and taken back of each.

Amounts are whole numbers of the unit's smallest part: minor units of a currency, or the smallest part of a SKU's
unit. A grant never holds less than nothing: `amount` is always the sum of what was used, has lapsed, was taken
back, is held and is available.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.runtime.errors import Code, DomainError


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
