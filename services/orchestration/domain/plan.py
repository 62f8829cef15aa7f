"""PlanBuilder: a pure function of the request's context and one version of the merchant's configuration.

Laws (tested): the steps sum to the total; no step exceeds a cap, neither the merchant's nor the payer's; the same
input gives the same plan, byte for byte.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from services.orchestration.domain.config import Capture, MerchantConfig, MethodRule
from services.orchestration.domain.issues import Findings, Issue, Severity
from services.orchestration.domain.request import Context, Preference
from services.runtime.ids import derived_id
from services.runtime.money import Money, format_money

# Most that one payment may be, in minor units of any currency. Thousands of such payments fit into one account of
# the ledger and into a trial balance, whose sums have 64 bits.
PAYABLE_MINOR_MAX = 10**15

# Why a method that was asked for is left out: the sender is told.
_TOLD = frozenset({"NOT_CONFIGURED", "LIMIT_IN_OTHER_CURRENCY", "CANNOT_AUTHORIZE"})
# Findings that refuse a payment for the merchant's configuration, which others change. All others are about the
# request itself and stay true of it.
ABOUT_CONFIGURATION = frozenset({"MERCHANT_NOT_CONFIGURED", "PLAN_NOT_COVERED"})


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the total, taken from one method.

    Attributes:
        method: e.g. `wallet`.
        amount_minor: what the step charges, and never more.
        processors: ids in the order in which they are asked.
        token: names the instrument; empty for the one on file.
    """

    method: str
    amount_minor: int
    processors: tuple[str, ...]
    token: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that planning settled, and why."""

    method: str
    chosen: bool
    reason: str
    message: str
    processors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are worked on; they sum to the total.

    Attributes:
        capture: MANUAL when the steps are only authorised.
    """

    plan_id: str
    currency: str
    total_minor: int
    steps: tuple[Step, ...]
    capture: Capture = Capture.AUTOMATIC


def build(
    context: Context,
    config: MerchantConfig | None,
    findings: Findings,
    holding: Container[str] = (),
) -> tuple[Plan | None, list[Decision]]:
    """Plan a payment; None, and a finding that refuses, when the amount cannot be covered.

    Args:
        context: what was understood of the request.
        config: the merchant's; None when there is none.
        findings: takes what planning finds.
        holding: processors that can authorise without charging.
    """
    decisions: list[Decision] = []
    if context.amount_minor > PAYABLE_MINOR_MAX:
        findings.refuse(
            "amount",
            "AMOUNT_OUT_OF_RANGE",
            f"one payment is limited to {PAYABLE_MINOR_MAX} minor units, the most that the ledger books at once",
        )
    if config is None and context.merchant_id:
        findings.refuse(
            "merchant_id",
            "MERCHANT_NOT_CONFIGURED",
            "the merchant has no configuration; store one with PutMerchantConfig",
        )
    if config is None or findings.refused:
        return None, decisions
    capture = context.capture or config.capture
    if capture is Capture.MANUAL:
        config = _of_holding(config, holding)
    steps, left = _fill(context, config, decisions)
    _report_skipped(decisions, findings)
    if left:
        findings.refuse(
            "amount",
            "PLAN_NOT_COVERED",
            "the payment methods and their limits do not cover the amount",
        )
        return None, decisions
    content = _content(context, config, steps)
    if capture is Capture.MANUAL:
        content.append(capture.value)
    plan_id = derived_id("pln", *content)
    plan = Plan(plan_id, context.currency, context.amount_minor, tuple(steps), capture)
    return plan, decisions


def refusals(issues: Sequence[Issue]) -> set[str]:
    """Return the codes of the findings that refuse a payment."""
    return {issue.code for issue in issues if issue.severity is Severity.ERROR}


def refused_for_configuration(issues: Sequence[Issue]) -> bool:
    """True when nothing but the merchant's configuration stood against a payment."""
    found = refusals(issues)
    return bool(found) and found <= ABOUT_CONFIGURATION


def as_history(issues: Sequence[Issue], config_version: int) -> list[Issue]:
    """Return what is kept of earlier findings once a refused payment was planned again."""
    under = f"configuration version {config_version}" if config_version else "no configuration"
    return [
        issue
        if issue.code == "REFUSED_BEFORE"
        else Issue(
            issue.field,
            "REFUSED_BEFORE",
            f"already refused under {under}: {issue.code}: {issue.message}",
            Severity.INFO,
        )
        for issue in issues
        if issue.code == "REFUSED_BEFORE" or issue.severity is Severity.ERROR
    ]


def _of_holding(config: MerchantConfig, holding: Container[str]) -> MerchantConfig:
    """Return a configuration with those processors alone that can authorise without charging."""
    rules = (
        replace(rule, processors=tuple(each for each in rule.processors if each in holding))
        for rule in config.methods
    )
    return replace(config, methods=tuple(rules))


def _fill(
    context: Context, config: MerchantConfig, decisions: list[Decision]
) -> tuple[list[Step], int]:
    steps: list[Step] = []
    left = context.amount_minor
    taken: dict[str, int] = {}
    wanted = context.preferences or tuple(Preference(rule.method) for rule in config.methods)
    for preference in wanted:
        usable = _usable(preference, config, context.currency, left)
        if isinstance(usable, Decision):
            decisions.append(usable)
            continue
        rule = usable
        amount, reason = _portion(preference, rule, left, taken.get(rule.method, 0))
        if amount == 0:
            decisions.append(_skipped(rule.method, reason, "its limit is used up"))
            continue
        steps.append(Step(rule.method, amount, rule.processors, preference.token))
        taken[rule.method] = taken.get(rule.method, 0) + amount
        left -= amount
        message = f"takes {_shown(context, amount)}; {_shown(context, left)} is left"
        decisions.append(Decision(rule.method, True, reason, message, rule.processors))
    return steps, left


def _usable(
    preference: Preference, config: MerchantConfig, currency: str, left: int
) -> MethodRule | Decision:
    rule = config.rule(preference.method)
    if rule is None:
        message = "the merchant's configuration has no such method"
        return _skipped(preference.method, "NOT_CONFIGURED", message)
    if not rule.processors:
        message = "none of its processors can authorise an amount without charging it"
        return _skipped(rule.method, "CANNOT_AUTHORIZE", message)
    if left == 0:
        return _skipped(rule.method, "NOT_NEEDED", "the methods before it already cover the amount")
    if rule.cap is not None and rule.cap.currency_code != currency:
        message = f"its limit is in {rule.cap.currency_code} and does not apply to {currency}"
        return _skipped(rule.method, "LIMIT_IN_OTHER_CURRENCY", message)
    return rule


def _portion(preference: Preference, rule: MethodRule, left: int, taken: int) -> tuple[int, str]:
    limits = [(left, "TAKES_THE_REST")]
    if rule.cap is not None:
        limits.append((max(0, rule.cap.minor_units - taken), "CAPPED_BY_MERCHANT"))
    if preference.max_minor is not None:
        limits.append((preference.max_minor, "CAPPED_BY_PAYER"))
    return min(limits, key=lambda limit: limit[0])


def _shown(context: Context, amount_minor: int) -> str:
    return f"{format_money(Money(context.currency, amount_minor))} {context.currency}"


def _skipped(method: str, reason: str, message: str) -> Decision:
    return Decision(method, False, reason, message)


def _report_skipped(decisions: list[Decision], findings: Findings) -> None:
    for decision in decisions:
        if not decision.chosen and decision.reason in _TOLD:
            findings.warn(
                "payment_methods",
                f"METHOD_{decision.reason}",
                f"{decision.method} was skipped: {decision.message}",
            )


def _content(context: Context, config: MerchantConfig, steps: list[Step]) -> list[str]:
    content = [context.merchant_id, context.order_id, context.person_id, context.org_id]
    content += [context.currency, str(context.amount_minor), str(config.version)]
    for step in steps:
        content += [step.method, str(step.amount_minor), *step.processors, step.token]
    return content
