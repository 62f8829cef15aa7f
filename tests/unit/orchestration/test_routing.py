"""Laws of routing: the first rule that holds decides, shares and fees are exact, rules that never decide are found."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.orchestration.domain import analysis
from services.orchestration.domain.config import (
    Capture,
    FeeMissing,
    MerchantConfig,
    MethodNotCovered,
    MethodRule,
    RuleContradictory,
    RuleUnreachable,
    UnknownProcessor,
    check,
)
from services.orchestration.domain.issues import Findings
from services.orchestration.domain.limits import Limit, Scope
from services.orchestration.domain.plan import Decision, Plan, build
from services.orchestration.domain.request import Context, Preference
from services.orchestration.domain.routing import (
    NOTHING_KNOWN,
    Asked,
    Condition,
    Facts,
    Fee,
    Health,
    LeastCost,
    Routing,
    Rule,
    Snapshot,
    Strategy,
    SuccessRate,
    VolumeSplit,
    order,
)
from services.orchestration.store import codec
from services.runtime.errors import DomainError, InvalidField, UnknownCurrency
from services.runtime.money import Money

KNOWN = ("a", "b", "c", "d")
REGIONS = (("eu", ("DE", "FR")), ("dach", ("DE", "AT")))
CURRENCIES = ("USD", "EUR")
CARD_NUMBER = "4111111111111111"


def some(values: Sequence[str], least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=2, unique=True).map(tuple)


LIMITS = st.none() | st.builds(Money, st.sampled_from(CURRENCIES), st.integers(1, 6))
CONDITIONS = st.builds(
    Condition,
    amount_min=LIMITS,
    amount_max=LIMITS,
    currencies=some(CURRENCIES),
    countries=some(["DE", "FR", "US"]),
    regions=some(["eu", "dach"]),
    bins=some(["4111", "41111111", "5555"]),
    metadata=st.lists(
        st.tuples(st.sampled_from(["tier", "shop"]), some(["x", "y"], 1)), max_size=2
    ).map(tuple),
)
STRATEGIES = (
    st.none()
    | st.just(LeastCost())
    | st.builds(SuccessRate, st.integers(60, 900), st.integers(1, 30), st.integers(1, 100))
)
METHODS = ("card", "wallet")
RULES = st.lists(
    st.builds(
        Rule,
        name=st.text("abcdefgh", min_size=1, max_size=3),
        methods=some(METHODS, 1),
        when=CONDITIONS,
        processors=some(KNOWN),
        strategy=st.none(),
    ),
    max_size=6,
    unique_by=lambda rule: rule.name,
)
PAYMENTS = st.builds(
    Facts,
    currency=st.sampled_from([*CURRENCIES, "CHF"]),
    amount_minor=st.integers(1, 8),
    country=st.sampled_from(["", "DE", "FR", "AT", "US", "BR"]),
    bin=st.sampled_from(["", "4111", "411111", "41111111", "55551234", "3700"]),
    metadata=st.dictionaries(st.sampled_from(["tier", "shop"]), st.sampled_from(["x", "y", "z"])),
)


@settings(max_examples=150)
@given(RULES, st.sampled_from(METHODS), PAYMENTS)
def test_a_rule_is_called_unreachable_exactly_when_it_decides_for_no_payment(
    rules: list[Rule], method: str, facts: Facts
) -> None:
    routing = Routing(tuple(rules), REGIONS)
    flaws = analysis.flaws(routing, METHODS)
    never = {
        flaw.rule.name
        for flaw in flaws
        if isinstance(flaw, analysis.Contradiction)
        or (isinstance(flaw, analysis.Unreached) and flaw.method == method)
    }
    decided = routing.rule_for(method, facts)
    assert decided is None or decided.name not in never
    for rule in rules:
        if method not in rule.methods:
            continue
        witness = analysis.example(routing, method, rule)
        assert (witness is None) == (rule.name in never)
        if witness is not None:
            assert routing.rule_for(method, witness) is rule
    skipped = any(isinstance(flaw, analysis.Skipped) and flaw.method == method for flaw in flaws)
    if skipped:
        assert decided is not None
        assert decided.skips


def test_rules_that_only_together_hide_another() -> None:
    small = Rule("small", ("card",), Condition(amount_max=Money("USD", 100)), ("a",))
    large = Rule("large", ("card",), Condition(amount_min=Money("USD", 101)), ("b",))
    dollars = Rule("dollars", ("card",), Condition(currencies=("USD",)), ("c",))
    (flaw,) = analysis.flaws(Routing((small, large, dollars)), ["card"])
    assert flaw == analysis.Unreached(dollars, "card", ("small", "large"))
    gap = replace(large, when=Condition(amount_min=Money("USD", 102)))
    assert analysis.flaws(Routing((small, gap, dollars)), ["card"]) == []
    assert analysis.example(Routing((small, gap, dollars)), "card", dollars) == Facts("USD", 101)


def test_how_much_is_looked_at_is_bounded_whatever_the_rules_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each rule leaves ten boxes of each one before it: a hundred would take longer than anybody lives."""
    rules = [
        Rule(
            f"r{number}",
            ("card", "wallet"),
            Condition(metadata=tuple((f"k{number}-{key}", ("x",)) for key in range(10))),
            ("a",),
        )
        for number in range(100)
    ]
    made = 0
    without = analysis._Kinds.without

    def counted(
        self: analysis._Kinds, box: analysis.Box, other: analysis.Box
    ) -> list[analysis.Box]:
        nonlocal made
        found = without(self, box, other)
        made += len(found)
        return found

    monkeypatch.setattr(analysis._Kinds, "without", counted)
    hidden = Rule("hidden", ("card",), rules[0].when, ("b",))
    routing = Routing((rules[0], hidden, *rules[1:]))
    assert analysis.flaws(routing, METHODS) == [analysis.Unreached(hidden, "card", ("r0",))]
    assert made <= analysis.LOOKS_MAX


def test_beginnings_are_found_without_looking_at_all_of_them() -> None:
    """As many as a configuration may have: to compare each rule with all of them takes seconds."""
    bins = [f"{number:08}" for number in range(20_000)]
    rules = [
        Rule(f"r{at}", ("card",), Condition(bins=tuple(bins[at : at + 200])), ("a",))
        for at in range(0, len(bins), 200)
    ]
    calls = 0

    def count(_frame: object, event: str, _about: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        found = analysis.flaws(Routing(tuple(rules)), ["card"])
    finally:
        sys.setprofile(before)
    assert found == []
    assert calls < 10 * len(bins)


@given(st.lists(st.text("0123", min_size=1, max_size=4), unique=True, max_size=30), st.data())
def test_beginnings_are_those_that_texts_have(texts: list[str], data: st.DataObject) -> None:
    kinds = sorted({*texts, analysis.OTHER})
    part = analysis._Part(kinds)
    starts = data.draw(some(texts)) if texts else ()
    begun = [kind for kind in kinds if starts and kind.startswith(starts)]
    assert part.beginning(starts) == part.mask(begun)


def config(
    *rules: Rule,
    strategy: Strategy | None = None,
    fees: tuple[Fee, ...] = (),
    regions: tuple[tuple[str, tuple[str, ...]], ...] = REGIONS,
) -> MerchantConfig:
    card = MethodRule("card", None, ("a", "b"), strategy)
    wallet = MethodRule("wallet", Money("USD", 5000), ("d",))
    return MerchantConfig("acme", 1, (wallet, card), routing=Routing(rules, regions, fees))


NEVER = Condition(amount_min=Money("USD", 5), amount_max=Money("USD", 4))


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (config(Rule("r", ("card",), NEVER, ("a",))), RuleContradictory, {"part": "amount"}),
        (
            config(Rule("r", ("card",), Condition(countries=("US",), regions=("eu",)), ("a",))),
            RuleContradictory,
            {"part": "country"},
        ),
        (
            config(
                Rule("all", ("card",), processors=("a",)), Rule("r", ("card",), processors=("b",))
            ),
            RuleUnreachable,
            {"rule": "r", "method": "card", "decided_by": "all"},
        ),
        (config(Rule("r", ("ach",), processors=("a",))), MethodNotCovered, {"method": "ach"}),
        (config(Rule("r", ("wallet",))), MethodNotCovered, {"method": "wallet"}),
        (config(Rule("r", ("card",), processors=("x",))), UnknownProcessor, {"method": "card"}),
        (config(strategy=LeastCost(), fees=(Fee("a"),)), FeeMissing, {"processor_id": "b"}),
        (config(strategy=VolumeSplit((("c", 1),))), InvalidField, {}),
        (config(strategy=VolumeSplit((("a", 1), ("a", 1)))), InvalidField, {}),
        (config(Rule("r", ("card",), Condition(regions=("moon",)), ("a",))), InvalidField, {}),
        (config(regions=(("eu", ("DE",)), ("eu", ("FR",)))), InvalidField, {}),
        (config(fees=(Fee("a", fixed_minor=30),)), InvalidField, {}),
        (config(fees=(Fee("a", currency="XXQ"),)), UnknownCurrency, {}),
    ],
)
def test_configurations_that_do_not_say_what_they_seem_to(
    wrong: MerchantConfig, error: type[DomainError], said: dict[str, str]
) -> None:
    with pytest.raises(error) as refused:
        check(wrong, KNOWN)
    assert said.items() <= refused.value.metadata.items()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (config(Rule(CARD_NUMBER, ("card",), processors=("a",))), "config.rules[0].name"),
        (config(regions=((CARD_NUMBER, ("DE",)),)), "config.regions[0].name"),
        (
            replace(config(), limits=(Limit(CARD_NUMBER, Scope.PAYER, 60, 1),)),
            "config.limits[0].name",
        ),
    ],
)
def test_no_name_of_a_configuration_holds_a_card_number(wrong: MerchantConfig, field: str) -> None:
    """They are shown with plans and refusals, and audited."""
    with pytest.raises(InvalidField) as refused:
        check(wrong, KNOWN)
    assert field in str(refused.value)
    assert CARD_NUMBER not in str(refused.value)


@given(RULES, STRATEGIES)
def test_what_is_stored_of_a_routing_is_read_back(
    rules: list[Rule], strategy: Strategy | None
) -> None:
    rules = [replace(rule, strategy=strategy) for rule in rules]
    routing = Routing(tuple(rules), REGIONS, (Fee("a", "card", "USD", "2.9", 30), Fee("b")))
    assert codec.routing_from_json(codec.routing_to_json(routing)) == routing


def asked(key: str = "k", amount: int = 10_000) -> Asked:
    return Asked("card", "USD", amount, key, 7)


def test_shares_are_met_and_the_same_payment_gets_the_same_one() -> None:
    split = VolumeSplit((("a", 70), ("b", 30)))
    drawn = Counter(
        order(("a", "b", "c"), split, asked(f"payment-{n}"), Routing(), NOTHING_KNOWN)[
            0
        ].processor_id
        for n in range(4000)
    )
    assert set(drawn) == {"a", "b"}
    assert abs(drawn["a"] - 2800) < 150
    one = order(("a", "b", "c"), split, asked("payment-1"), Routing(), NOTHING_KNOWN)
    assert order(("a", "b", "c"), split, asked("payment-1"), Routing(), NOTHING_KNOWN) == one
    assert {each.processor_id for each in one} == {"a", "b", "c"}


def test_the_lowest_fee_depends_on_the_amount() -> None:
    fees = (Fee("a", "card", "USD", "2.9", 30), Fee("b", percent="3.5"), Fee("c", currency="EUR"))
    routing = Routing(fees=fees)
    small = order(("a", "b", "c"), LeastCost(), asked(amount=1000), routing, NOTHING_KNOWN)
    large = order(("a", "b", "c"), LeastCost(), asked(amount=100_000), routing, NOTHING_KNOWN)
    assert [each.processor_id for each in small] == ["b", "a", "c"]
    assert [each.processor_id for each in large] == ["a", "b", "c"]
    assert small[0].message == "takes 35 minor units of USD"
    assert (small[2].reason, small[2].chosen) == ("FEE_UNKNOWN", True)
    assert routing.fee_of("a", "card", "USD", 333) == Fraction("39.657")


def test_success_rates_and_outages() -> None:
    seen = {
        ("a", 60): Health(done=5, failed=95),
        ("b", 60): Health(done=80, failed=20),
        ("c", 60): Health(3, 0),
        ("d", 900): Health(100, 0),
    }
    found = order(KNOWN, SuccessRate(60), asked(), Routing(), Snapshot(seen))
    assert [(each.processor_id, each.reason) for each in found] == [
        ("c", "RATE_UNKNOWN"),
        ("d", "RATE_UNKNOWN"),
        ("b", "RATE"),
        ("a", "OUTAGE"),
    ]


@given(st.permutations(KNOWN), STRATEGIES, st.sets(st.sampled_from(KNOWN)))
def test_who_rests_is_asked_last_and_nobody_is_lost(
    processors: list[str], strategy: Strategy | None, resting: set[str]
) -> None:
    health = Snapshot(resting=frozenset(resting))
    found = order(processors, strategy, asked(), Routing(fees=(Fee("a"),)), health)
    assert sorted(each.processor_id for each in found) == sorted(processors)
    last = {each.processor_id for each in found[len(processors) - len(resting) :]}
    assert last == resting


def planned(
    config: MerchantConfig, context: Context, key: str = "k"
) -> tuple[Plan | None, list[Decision]]:
    return build(context, config, Findings(), (), key)


@settings(max_examples=60)
@given(RULES, PAYMENTS, st.text("abc", max_size=4))
def test_plans_of_rules_sum_up_and_can_be_made_again(
    rules: list[Rule], facts: Facts, key: str
) -> None:
    split = VolumeSplit((("a", 1), ("b", 1)))
    wanted = config(*rules, strategy=split)
    context = Context(
        merchant_id="acme",
        amount_minor=facts.amount_minor,
        currency=facts.currency,
        country=facts.country,
        bin=facts.bin,
        metadata=tuple(sorted(facts.metadata.items())),
    )
    plan, decisions = planned(wanted, context, key)
    assert planned(wanted, context, key) == (plan, decisions)
    assume(plan is not None)
    assert plan is not None
    assert sum(step.amount_minor for step in plan.steps) == facts.amount_minor
    assert len(plan.plan_hash) == 64
    for step in plan.steps:
        rule = wanted.routing.rule_for(step.method, facts)
        method = wanted.rule(step.method)
        assert method is not None
        allowed = method.processors if rule is None else rule.processors
        assert sorted(step.processors) == sorted(allowed)
    for decision in decisions:
        if decision.reason == "SKIPPED_BY_RULE":
            assert decision.method not in {step.method for step in plan.steps}


def test_the_hash_tells_plans_apart_that_differ_in_their_processors_alone() -> None:
    context = Context(merchant_id="acme", amount_minor=100, currency="EUR")
    one, _ = planned(config(Rule("r", ("card",), processors=("a", "b"))), context)
    two, _ = planned(config(Rule("r", ("card",), processors=("b", "a"))), context)
    assert one is not None
    assert two is not None
    assert one.plan_hash != two.plan_hash


def test_a_rule_looks_at_the_card_of_its_step() -> None:
    visa = Rule("visa", ("card",), Condition(bins=("4",)), ("c",))
    context = Context(
        merchant_id="acme",
        amount_minor=100,
        currency="EUR",
        preferences=(
            Preference("card", 40, "t1", "41111111"),
            Preference("card", None, "t2", "5555"),
        ),
    )
    plan, decisions = planned(config(visa), context)
    assert plan is not None
    assert [step.processors for step in plan.steps] == [("c",), ("a", "b")]
    assert [decision.rule for decision in decisions] == ["visa", ""]


def test_processors_that_cannot_authorise_are_named() -> None:
    context = Context(merchant_id="acme", amount_minor=100, currency="EUR", capture=Capture.MANUAL)
    plan, decisions = build(context, config(), Findings(), {"b"})
    assert plan is not None
    assert plan.steps[0].processors == ("b",)
    (card,) = [each for each in decisions if each.chosen]
    assert [(c.processor_id, c.chosen, c.reason) for c in card.candidates] == [
        ("b", True, "LISTED"),
        ("a", False, "CANNOT_AUTHORIZE"),
    ]
