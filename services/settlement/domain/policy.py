"""By which rules earnings are paid out: what is paid at once, what waits for the sweep, and when that comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.runtime.errors import FieldViolation, InvalidField
from services.runtime.money import Money

THRESHOLD_DEFAULT = Money("AUD", 50_00)
SWEEP_DEFAULT = "0 0 * * 1"
TIME_ZONE_DEFAULT = "UTC"


@dataclass(frozen=True, slots=True)
class Policy:
    """How what a party has earned is paid out.

    Attributes:
        seller: whose policy it is; empty for that of all who have none of their own.
        thresholds: by currency, in minor units: a line that earns more is paid at once.
        minimums: by currency, in minor units: less than this is not paid.
        threshold_first: currency of the threshold that was named by itself; empty for none.
        sweep: cron expression; empty in a seller's own policy.
        time_zone: that it is meant in.
        sweep_paused: only SweepCommissions sweeps.
        updated_at: when it was put; None for what holds without one.
    """

    seller: str = ""
    thresholds: Mapping[str, int] = field(default_factory=dict)
    minimums: Mapping[str, int] = field(default_factory=dict)
    threshold_first: str = ""
    sweep: str = ""
    time_zone: str = ""
    sweep_paused: bool = False
    updated_at: datetime | None = None

    def pays_at_once(self, amount: Money) -> bool:
        """True when what one line earns is paid at once: it is greater than the threshold of its currency."""
        threshold = self.thresholds.get(amount.currency_code)
        return threshold is not None and amount.minor_units > threshold

    def least(self, currency_code: str) -> int:
        """Return the least that is paid, in minor units."""
        return max(self.minimums.get(currency_code, 1), 1)

    def as_audited(self) -> dict[str, object]:
        """Return what an audit entry shows of it."""
        return {
            "seller": self.seller,
            "thresholds": dict(sorted(self.thresholds.items())),
            "minimums": dict(sorted(self.minimums.items())),
            "sweep": self.sweep,
            "time_zone": self.time_zone,
            "sweep_paused": self.sweep_paused,
        }


def checked(
    policy: Policy, threshold: Money | None, further: Sequence[Money], minimums: Sequence[Money]
) -> Policy:
    """Return a policy with its amounts.

    Raises:
        InvalidField: an amount is below zero, or its currency came before; a seller's own policy says when
            to sweep.
    """
    faults: list[FieldViolation] = []
    named = [] if threshold is None else [("policy.payout_threshold", threshold)]
    named += [
        (f"policy.further_payout_thresholds[{place}]", each) for place, each in enumerate(further)
    ]
    least = [(f"policy.payout_minimums[{place}]", each) for place, each in enumerate(minimums)]
    for amounts in (named, least):
        seen = set()
        for name, amount in amounts:
            if amount.currency_code in seen:
                faults.append(FieldViolation(name, f"{amount.currency_code} is there twice"))
            if amount.minor_units < 0:
                faults.append(FieldViolation(name, "must not be below zero"))
            seen.add(amount.currency_code)
    if policy.seller and (policy.sweep or policy.time_zone or policy.sweep_paused):
        rule = "all parties are swept together: only the policy without a seller says when"
        faults.append(FieldViolation("policy.sweep", rule))
    if faults:
        raise InvalidField.of(faults)
    return replace(
        policy,
        thresholds={each.currency_code: each.minor_units for _, each in named},
        minimums={each.currency_code: each.minor_units for _, each in least},
        threshold_first=threshold.currency_code if threshold is not None else "",
    )


def in_force(seller: str, own: Policy | None, common: Policy | None) -> Policy:
    """Return what holds for a seller: its own policy, where that is silent the common one, and without one ours."""
    base = common or Policy()
    thresholds = dict(base.thresholds)
    first = base.threshold_first
    if not first:
        first = THRESHOLD_DEFAULT.currency_code
        thresholds.setdefault(first, THRESHOLD_DEFAULT.minor_units)
    minimums = dict(base.minimums)
    if seller and own is not None:
        thresholds |= own.thresholds
        minimums |= own.minimums
        first = own.threshold_first or first
    return Policy(
        seller=seller,
        thresholds=thresholds,
        minimums=minimums,
        threshold_first=first,
        sweep=base.sweep or SWEEP_DEFAULT,
        time_zone=base.time_zone or TIME_ZONE_DEFAULT,
        sweep_paused=base.sweep_paused,
        updated_at=own.updated_at if seller and own is not None else base.updated_at,
    )
