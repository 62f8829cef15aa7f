"""What a configuration would have made of payments that were planned before. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass, field
from fractions import Fraction

from services.orchestration.domain import plan as planner
from services.orchestration.domain.config import MerchantConfig
from services.orchestration.domain.issues import Findings
from services.orchestration.domain.plan import Plan, refused_for_configuration
from services.orchestration.domain.record import Payment
from services.orchestration.domain.routing import Snapshot
from services.runtime.money import Money

DIFFERENCES_MAX = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """A payment that would have been planned otherwise.

    Attributes:
        before: its plan; None where it was refused.
        after: what it would be; None where it would be refused.
        refused_codes: why, then.
    """

    payment: Payment
    before: Plan | None
    after: Plan | None
    refused_codes: tuple[str, ...] = ()


@dataclass(slots=True)
class Fees:
    """Fees of a currency by the new configuration's table, in minor units, not rounded.

    Attributes:
        payments: those whose fees are known before and after.
        unknown: those of which a step has no fee in the table.
    """

    before_minor: Fraction = Fraction(0)
    after_minor: Fraction = Fraction(0)
    payments: int = 0
    unknown: int = 0


@dataclass(slots=True)
class Simulation:
    """What was found.

    Attributes:
        left_out: payments that were refused for what they said themselves, or for a limit.
        differences: the first hundred.
    """

    looked_at: int = 0
    same: int = 0
    rerouted: int = 0
    newly_covered: int = 0
    no_longer_covered: int = 0
    left_out: int = 0
    fees: dict[str, Fees] = field(default_factory=lambda: defaultdict(Fees))
    differences: list[Difference] = field(default_factory=list)

    def add(
        self,
        payment: Payment,
        config: MerchantConfig,
        holding: Container[str],
        health: Snapshot,
    ) -> None:
        """Plan a payment anew, and compare."""
        self.looked_at += 1
        if payment.plan is None and not refused_for_configuration(payment.context.issues):
            self.left_out += 1
            return
        findings = Findings()
        after, _ = planner.build(
            payment.context, config, findings, holding, payment.request_key, health
        )
        before = payment.plan
        if before is not None and after is not None:
            self._add_fees(config, before, after)
        if _route(before) == _route(after):
            self.same += 1
            return
        if before is None:
            self.newly_covered += 1
        elif after is None:
            self.no_longer_covered += 1
        else:
            self.rerouted += 1
        if len(self.differences) < DIFFERENCES_MAX:
            codes = () if after else tuple(sorted(planner.refusals(findings.issues)))
            self.differences.append(Difference(payment, before, after, codes))

    def _add_fees(self, config: MerchantConfig, before: Plan, after: Plan) -> None:
        fees = self.fees[after.currency]
        was, would_be = _fee(config, before), _fee(config, after)
        if was is None or would_be is None:
            fees.unknown += 1
            return
        fees.payments += 1
        fees.before_minor += was
        fees.after_minor += would_be


def rounded(currency: str, exact_minor: Fraction) -> Money:
    """Return an exact sum of fees, an exact half away from zero."""
    return Money(currency, int(exact_minor + Fraction(1, 2)))


def _route(plan: Plan | None) -> tuple[tuple[str, int, tuple[str, ...]], ...] | None:
    if plan is None:
        return None
    return tuple((each.method, each.amount_minor, each.processors) for each in plan.steps)


def _fee(config: MerchantConfig, plan: Plan) -> Fraction | None:
    """Return what the processors that are asked first would take; None where it is not known."""
    total = Fraction(0)
    for step in plan.steps:
        fee = config.routing.fee_of(
            step.processors[0], step.method, plan.currency, step.amount_minor
        )
        if fee is None:
            return None
        total += fee
    return total
