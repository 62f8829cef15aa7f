"""Laws of planning: the steps sum to the total, no step exceeds a cap, the same input gives the same plan."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.orchestration.domain.config import (
    MerchantConfig,
    MethodRule,
    UnknownProcessor,
    check,
)
from services.orchestration.domain.issues import Findings
from services.orchestration.domain.plan import build
from services.orchestration.domain.request import Context, Preference
from services.runtime.errors import InvalidField
from services.runtime.money import Money

METHODS = ["wallet", "card", "ach", "credit_balance"]
RULES = st.lists(
    st.builds(
        MethodRule,
        method=st.sampled_from(METHODS),
        cap=st.none() | st.builds(Money, st.sampled_from(["USD", "EUR"]), st.integers(1, 10_000)),
        processors=st.lists(
            st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True
        ).map(tuple),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda rule: rule.method,
)
PREFERENCES = st.lists(
    st.builds(
        Preference,
        method=st.sampled_from([*METHODS, "cash"]),
        max_minor=st.none() | st.integers(1, 10_000),
        token=st.sampled_from(["", "tok_approve"]),
    ),
    max_size=6,
)


def context(amount: int, preferences: tuple[Preference, ...] = ()) -> Context:
    return Context("acme", "o-1", "p-1", "", amount, "USD", preferences)


@given(st.integers(1, 40_000), RULES, PREFERENCES)
def test_laws(amount: int, rules: list[MethodRule], preferences: list[Preference]) -> None:
    config = MerchantConfig("acme", 3, tuple(rules))
    wanted = context(amount, tuple(preferences))
    findings = Findings()
    plan, decisions = build(wanted, config, findings)
    assert build(wanted, config, Findings()) == (plan, decisions)
    assert (plan is None) == findings.refused
    if plan is None:
        return
    assert sum(step.amount_minor for step in plan.steps) == plan.total_minor == amount
    assert all(step.amount_minor > 0 and step.processors for step in plan.steps)
    for rule in rules:
        taken = sum(step.amount_minor for step in plan.steps if step.method == rule.method)
        if rule.cap is not None and taken:
            assert rule.cap.currency_code == "USD"
            assert taken <= rule.cap.minor_units
    if preferences:
        for method in {step.method for step in plan.steps}:
            mine = [p for p in preferences if p.method == method]
            taken = sum(step.amount_minor for step in plan.steps if step.method == method)
            if all(p.max_minor is not None for p in mine):
                assert taken <= sum(p.max_minor or 0 for p in mine)


@given(st.integers(1, 40_000), RULES)
def test_a_plan_is_refused_only_when_nothing_covers_the_amount(
    amount: int, rules: list[MethodRule]
) -> None:
    findings = Findings()
    plan, _ = build(context(amount), MerchantConfig("acme", 1, tuple(rules)), findings)
    usable = [rule for rule in rules if rule.cap is None or rule.cap.currency_code == "USD"]
    unlimited = any(rule.cap is None for rule in usable)
    coverage = sum(rule.cap.minor_units for rule in usable if rule.cap)
    assert (plan is not None) == (unlimited or coverage >= amount)


@given(st.integers(1, 40_000), RULES, st.integers(1, 5))
def test_another_version_is_another_plan(
    amount: int, rules: list[MethodRule], version: int
) -> None:
    one, _ = build(context(amount), MerchantConfig("acme", version, tuple(rules)), Findings())
    two, _ = build(context(amount), MerchantConfig("acme", version + 1, tuple(rules)), Findings())
    assume(one is not None and two is not None)
    assert one is not None and two is not None
    assert one.steps == two.steps
    assert one.plan_id != two.plan_id


def test_wallet_up_to_fifty_then_card() -> None:
    rules = (
        MethodRule("wallet", Money("USD", 5000), ("w",)),
        MethodRule("card", None, ("down", "c")),
    )
    plan, decisions = build(context(5684), MerchantConfig("acme", 1, rules), Findings())
    assert plan is not None
    assert [(s.method, s.amount_minor, s.processors) for s in plan.steps] == [
        ("wallet", 5000, ("w",)),
        ("card", 684, ("down", "c")),
    ]
    assert [d.reason for d in decisions] == ["CAPPED_BY_MERCHANT", "TAKES_THE_REST"]
    assert decisions[0].message == "takes 50.00 USD; 6.84 USD is left"
    small, decisions = build(context(100), MerchantConfig("acme", 1, rules), Findings())
    assert small is not None
    assert [s.method for s in small.steps] == ["wallet"]
    assert [d.reason for d in decisions] == ["TAKES_THE_REST", "NOT_NEEDED"]


def test_two_instruments_of_one_method_share_the_merchants_cap() -> None:
    rules = (MethodRule("card", Money("USD", 1000), ("c",)),)
    two = (Preference("card", 800, "tok_a"), Preference("card", None, "tok_b"))
    plan, _ = build(context(1000, two), MerchantConfig("acme", 1, rules), Findings())
    assert plan is not None
    assert [(s.token, s.amount_minor) for s in plan.steps] == [("tok_a", 800), ("tok_b", 200)]
    findings = Findings()
    assert build(context(1001, two), MerchantConfig("acme", 1, rules), findings)[0] is None
    assert [issue.code for issue in findings.issues] == ["PLAN_NOT_COVERED"]


def test_no_configuration() -> None:
    findings = Findings()
    assert build(context(1), None, findings) == (None, [])
    assert [issue.code for issue in findings.issues] == ["MERCHANT_NOT_CONFIGURED"]


def test_configurations_are_checked() -> None:
    card = MethodRule("card", None, ("c",))
    check(MerchantConfig("acme", 0, (card,)), {"c"})
    with pytest.raises(UnknownProcessor, match="known ones are b"):
        check(MerchantConfig("acme", 0, (card,)), {"b"})
    with pytest.raises(InvalidField, match="listed twice"):
        check(MerchantConfig("acme", 0, (card, card)), {"c"})
    with pytest.raises(InvalidField, match="listed twice"):
        check(MerchantConfig("acme", 0, (MethodRule("card", None, ("c", "c")),)), {"c"})
