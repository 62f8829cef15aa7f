"""What parties earn, how they stand, and what of it is paid now.

Of each party and currency: earned = paid + claimed + held + carried, after every step. What is held under a dispute
has a balance of its own, from which nothing is paid; it comes to its end through corrections of the charges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.runtime.money import Money
from services.settlement.domain.policy import Policy


@dataclass(frozen=True, slots=True)
class Earning:
    """What a party earns on one line of a charge; below zero when it gives back.

    Attributes:
        line_no: the line, from 1.
        dispute_id: under which it is held; empty when it is the party's.
        earned_at: when the charge was made.
        payout_id: that paid the line at once; empty for none.
    """

    charge_id: str
    line_no: int
    org_id: str
    sku: str
    party: str
    amount: Money
    dispute_id: str
    earned_at: datetime
    payout_id: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Of its balance: party, currency, dispute. Balances are locked in the order of their keys."""
        return self.party, self.amount.currency_code, self.dispute_id


@dataclass(frozen=True, slots=True)
class Standing:
    """How a party stands in a currency, beside what is held.

    Attributes:
        earned_minor: all that it has earned, less what it gave back.
        claimed_minor: of payouts that are on their way.
        paid_minor: of payouts that it has.
    """

    party: str
    currency_code: str
    earned_minor: int
    claimed_minor: int
    paid_minor: int

    @property
    def carried_minor(self) -> int:
        """What it is owed; below zero when it gave back more than it was still owed."""
        return self.earned_minor - self.claimed_minor - self.paid_minor

    def claimed(self, amount_minor: int) -> Standing:
        """Return how it stands after a payout was decided on."""
        return replace(self, claimed_minor=self.claimed_minor + amount_minor)


def sums(earnings: Sequence[Earning]) -> dict[tuple[str, str, str], int]:
    """Return what earnings come to, by balance, in the order of the balances' keys."""
    found: dict[tuple[str, str, str], int] = {}
    for each in earnings:
        found[each.key] = found.get(each.key, 0) + each.amount.minor_units
    return dict(sorted(found.items()))


def due_at_once(
    earnings: Sequence[Earning],
    standings: Mapping[tuple[str, str], Standing],
    policies: Mapping[str, Policy],
) -> list[tuple[Earning, Money]]:
    """Return what is paid at once of lines that were just taken in, and have entered the standings.

    A line above the threshold is paid, but never more than the party is owed after all: what it gave back before goes
    first. What comes to less than the least that is paid waits.
    """
    found = []
    now = dict(standings)
    for each in earnings:
        policy = policies[each.party]
        if each.dispute_id or not policy.pays_at_once(each.amount):
            continue
        key = (each.party, each.amount.currency_code)
        payable = min(each.amount.minor_units, now[key].carried_minor)
        if payable >= policy.least(each.amount.currency_code):
            now[key] = now[key].claimed(payable)
            found.append((each, Money(each.amount.currency_code, payable)))
    return found


def swept(standing: Standing, later_minor: int, policy: Policy) -> int:
    """Return what a sweep pays a party, in minor units; 0 for nothing.

    Args:
        standing: how it stands now.
        later_minor: what of it was earned after the sweep's last instant, less what was given back after it, and less
            what of it was paid at once.
        policy: of the party.
    """
    payable = min(standing.carried_minor, standing.carried_minor - later_minor)
    return payable if payable >= policy.least(standing.currency_code) else 0
