"""PlanBuilder: a pure function of the request's context, one version of the merchant's configuration, and a snapshot
of the processors' health.

Laws (tested): the steps sum to the total; no step exceeds a cap, neither the merchant's nor the payer's; the same
input gives the same plan, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from services.orchestration.domain import routing
from services.orchestration.domain.config import Capture, MerchantConfig, MethodRule, Split
from services.orchestration.domain.issues import Findings, Issue, Severity
from services.orchestration.domain.request import Context, Preference
from services.orchestration.domain.routing import (
    NOTHING_KNOWN,
    Candidate,
    Facts,
    Snapshot,
    Strategy,
)
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
        holds: true when it is only authorised at first, and captured once every step has its amount.
    """

    method: str
    amount_minor: int
    processors: tuple[str, ...]
    token: str = ""
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that planning settled, and why.

    Attributes:
        processors: those that would be asked, in order.
        candidates: every one that was thought of, those that would be asked first.
        rule: routing rule that decided; empty without one.
    """

    method: str
    chosen: bool
    reason: str
    message: str
    processors: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are worked on; they sum to the total.

    Attributes:
        capture: MANUAL when the steps are only authorised.
        plan_hash: SHA-256 of the plan and its decisions, in hexadecimal; empty for plans of earlier releases.
    """

    plan_id: str
    currency: str
    total_minor: int
    steps: tuple[Step, ...]
    capture: Capture = Capture.AUTOMATIC
    plan_hash: str = ""


def build(
    context: Context,
    config: MerchantConfig | None,
    findings: Findings,
    holding: Container[str] = (),
    key: str = "",
    health: Snapshot = NOTHING_KNOWN,
) -> tuple[Plan | None, list[Decision]]:
    """Plan a payment; None, and a finding that refuses, when the amount cannot be covered.

    Args:
        context: what was understood of the request.
        config: the merchant's; None when there is none.
        findings: takes what planning finds.
        holding: processors that can authorise without charging.
        key: what recognises the payment; shares of a split are drawn by it.
        health: what is known of the processors.
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
    router = _Router(context, config, holding if capture is Capture.MANUAL else None, key, health)
    steps, left = _fill(context, config, router, decisions)
    if capture is Capture.AUTOMATIC and config.split is Split.AUTHORIZE_FIRST:
        steps = _least_reversible_last(steps, holding)
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
    plan_hash = _hash_of(content, decisions)
    total = context.amount_minor
    plan = Plan(plan_id, context.currency, total, tuple(steps), capture, plan_hash)
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


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a method may be charged through.

    Attributes:
        processors: those that can do what the payment needs, as they are listed.
        left_out: those that cannot.
    """

    rule: MethodRule
    processors: tuple[str, ...]
    strategy: Strategy | None
    left_out: tuple[Candidate, ...]
    rule_name: str


@dataclass(frozen=True, slots=True)
class _Router:
    """Finds the processors of a step.

    Attributes:
        holding: processors that can authorise; None when nothing is only authorised.
    """

    context: Context
    config: MerchantConfig
    holding: Container[str] | None
    key: str
    health: Snapshot

    def offer(self, rule: MethodRule, preference: Preference) -> _Offer | Decision:
        """Return through which processors a method may be charged, or why it may not be."""
        context = self.context
        facts = Facts(
            context.currency,
            context.amount_minor,
            context.country,
            preference.bin or context.bin,
            dict(context.metadata),
        )
        decided = self.config.routing.rule_for(rule.method, facts)
        if decided is not None and decided.skips:
            message = f"rule {decided.name} leaves it out"
            return Decision(rule.method, False, "SKIPPED_BY_RULE", message, rule=decided.name)
        processors, strategy = rule.processors, rule.strategy
        if decided is not None:
            processors, strategy = decided.processors, decided.strategy
        can = [each for each in processors if self.holding is None or each in self.holding]
        message = "it cannot authorise an amount without charging it"
        cannot = tuple(
            Candidate(each, False, "CANNOT_AUTHORIZE", message)
            for each in processors
            if each not in can
        )
        name = decided.name if decided else ""
        if not can:
            message = "none of its processors can authorise an amount without charging it"
            return Decision(
                rule.method, False, "CANNOT_AUTHORIZE", message, candidates=cannot, rule=name
            )
        return _Offer(rule, tuple(can), strategy, cannot, name)

    def order(self, offer: _Offer, amount_minor: int) -> list[Candidate]:
        """Put the processors of a step in order."""
        asked = routing.Asked(
            offer.rule.method, self.context.currency, amount_minor, self.key, self.config.version
        )
        return routing.order(
            offer.processors, offer.strategy, asked, self.config.routing, self.health
        )


def _fill(
    context: Context, config: MerchantConfig, router: _Router, decisions: list[Decision]
) -> tuple[list[Step], int]:
    steps: list[Step] = []
    left = context.amount_minor
    taken: dict[str, int] = {}
    wanted = context.preferences or tuple(Preference(rule.method) for rule in config.methods)
    for preference in wanted:
        usable = _usable(preference, config, router, context.currency, left)
        if isinstance(usable, Decision):
            decisions.append(usable)
            continue
        rule = usable.rule
        amount, reason = _portion(preference, rule, left, taken.get(rule.method, 0))
        if amount == 0:
            decisions.append(_skipped(rule.method, reason, "its limit is used up"))
            continue
        candidates = router.order(usable, amount)
        processors = tuple(each.processor_id for each in candidates)
        steps.append(Step(rule.method, amount, processors, preference.token))
        taken[rule.method] = taken.get(rule.method, 0) + amount
        left -= amount
        message = f"takes {_shown(context, amount)}; {_shown(context, left)} is left"
        thought_of = (*candidates, *usable.left_out)
        name = usable.rule_name
        decisions.append(Decision(rule.method, True, reason, message, processors, thought_of, name))
    return steps, left


def _least_reversible_last(steps: list[Step], holding: Container[str]) -> list[Step]:
    """Let what can be held be authorised first, and what is charged at once come last.

    Whichever step then fails, the others are let go, and nothing is to be refunded but what was charged at once before
    another such step.
    """
    if len(steps) < 2:
        return steps
    steps = [
        replace(step, holds=all(each in holding for each in step.processors)) for step in steps
    ]
    return sorted(steps, key=lambda step: not step.holds)


def _usable(
    preference: Preference, config: MerchantConfig, router: _Router, currency: str, left: int
) -> _Offer | Decision:
    rule = config.rule(preference.method)
    if rule is None:
        message = "the merchant's configuration has no such method"
        return _skipped(preference.method, "NOT_CONFIGURED", message)
    offer = router.offer(rule, preference)
    if isinstance(offer, Decision):
        return offer
    if left == 0:
        return _skipped(rule.method, "NOT_NEEDED", "the methods before it already cover the amount")
    if rule.cap is not None and rule.cap.currency_code != currency:
        message = f"its limit is in {rule.cap.currency_code} and does not apply to {currency}"
        return _skipped(rule.method, "LIMIT_IN_OTHER_CURRENCY", message)
    return offer


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
        if step.holds:
            content.append("AUTHORIZE")
    return content


def _hash_of(content: list[str], decisions: list[Decision]) -> str:
    found = [
        (d.method, d.chosen, d.reason, d.message, d.rule, [_written(each) for each in d.candidates])
        for d in decisions
    ]
    return hashlib.sha256(json.dumps([content, found]).encode()).hexdigest()


def _written(each: Candidate) -> tuple[str, bool, str, str]:
    return each.processor_id, each.chosen, each.reason, each.message
