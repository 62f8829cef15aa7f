"""How much and how often may be paid; what is beyond it is refused before a processor is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from services.orchestration.domain.issues import Findings
from services.runtime.money import Money, format_money

# Parts in which a window slides: so many rows at most are added up for one limit and currency.
PARTS = 60


class Scope(StrEnum):
    """Of whom payments are counted together; the names of the proto."""

    PAYER = "PAYER"
    MERCHANT = "MERCHANT"
    INSTRUMENT = "INSTRUMENT"


_WHOSE = {
    Scope.PAYER: "of one payer",
    Scope.MERCHANT: "to the merchant",
    Scope.INSTRUMENT: "with one instrument",
}
# The field of the request that a finding names.
_FIELDS = {
    Scope.PAYER: "person_id",
    Scope.MERCHANT: "merchant_id",
    Scope.INSTRUMENT: "payment_methods",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on the payments of one subject.

    Attributes:
        window_s: how far back they are counted; 0: each payment by itself.
        payments_max: 0 for any number.
        amount_max: None for any amount.
    """

    name: str
    scope: Scope
    window_s: int = 0
    payments_max: int = 0
    amount_max: Money | None = None


@dataclass(frozen=True, slots=True, order=True)
class Slots:
    """Where payments of one subject are counted.

    Attributes:
        subject: who or what it is, not readable where it is an instrument; empty for the merchant.
        slot_s: seconds that are counted together.
    """

    scope: Scope
    subject: str
    slot_s: int

    def slot_at(self, now: datetime) -> datetime:
        """Return when the slot began that a time is in."""
        return datetime.fromtimestamp(int(now.timestamp()) // self.slot_s * self.slot_s, UTC)


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit as it bounds one payment.

    Attributes:
        amount_minor: what the payment adds.
    """

    limit: Limit
    slots: Slots
    amount_minor: int

    def since(self, now: datetime) -> datetime:
        """Return when the first slot begins that counts: it may begin before the window does."""
        return self.slots.slot_at(now - timedelta(seconds=self.limit.window_s))


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted of one subject within a window, in one currency where it is an amount."""

    payments: int = 0
    amount_minor: int = 0


@dataclass(frozen=True, slots=True)
class Paid:
    """What limits look at of a payment.

    Attributes:
        payer: empty when nobody is named.
        by_token: what is taken with each instrument, in minor units.
    """

    payer: str
    total_minor: int
    by_token: Mapping[str, int]


def bounds(limits: Sequence[Limit], paid: Paid) -> tuple[Bound, ...]:
    """Return how limits bound a payment."""
    return tuple(
        Bound(limit, Slots(limit.scope, subject, max(1, limit.window_s // PARTS)), amount_minor)
        for limit in limits
        for subject, amount_minor in _subjects(limit.scope, paid)
    )


def windows(found: Sequence[Bound]) -> Mapping[Slots, int]:
    """Return where a payment is to be counted, and for how many seconds that is needed; each place once."""
    needed: dict[Slots, int] = {}
    for bound in found:
        if bound.limit.window_s:
            needed[bound.slots] = max(needed.get(bound.slots, 0), bound.limit.window_s)
    return needed


def check(bound: Bound, counted: Counted, currency: str, findings: Findings) -> None:
    """Refuse a payment that would be beyond a limit."""
    limit = bound.limit
    within = f" within {limit.window_s} seconds" if limit.window_s else ""
    whose = _WHOSE[limit.scope]
    if limit.payments_max and counted.payments >= limit.payments_max:
        message = f"limit {limit.name} allows {limit.payments_max} payments {whose}{within}"
        findings.refuse(_FIELDS[limit.scope], "LIMIT_EXCEEDED", message)
        return
    most = limit.amount_max
    if most is None or most.currency_code != currency:
        return
    if counted.amount_minor + bound.amount_minor > most.minor_units:
        shown = f"{format_money(most)} {currency}"
        message = f"limit {limit.name} allows {shown} {whose}{within}"
        findings.refuse(_FIELDS[limit.scope], "LIMIT_EXCEEDED", message)


def _subjects(scope: Scope, paid: Paid) -> Iterator[tuple[str, int]]:
    match scope:
        case Scope.MERCHANT:
            yield "", paid.total_minor
        case Scope.PAYER if paid.payer:
            yield paid.payer, paid.total_minor
        case Scope.INSTRUMENT:
            for token, amount_minor in paid.by_token.items():
                yield hashlib.sha256(token.encode()).hexdigest(), amount_minor
