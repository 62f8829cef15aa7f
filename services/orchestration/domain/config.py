"""A merchant's configuration: methods, processors, and when to try again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.orchestration.domain import analysis
from services.orchestration.domain import processors as own_processors
from services.orchestration.domain.limits import Limit
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.domain.routing import (
    Condition,
    LeastCost,
    Routing,
    Rule,
    Strategy,
    SuccessRate,
    VolumeSplit,
)
from services.runtime.cards import holds_card_number
from services.runtime.errors import Code, DomainError, FieldViolation, InvalidField
from services.runtime.money import Money, exponent

ATTEMPTS_PER_PROCESSOR_DEFAULT = 2
CALL_TIMEOUT_MS_DEFAULT = 5_000
BACKOFF_MS_DEFAULT = 100


class Capture(StrEnum):
    """When what is authorised is taken; the names of the proto."""

    AUTOMATIC = "AUTOMATIC"
    MANUAL = "MANUAL"


class Split(StrEnum):
    """How a payment of several steps is carried out; the names of the proto."""

    AUTHORIZE_FIRST = "AUTHORIZE_FIRST"
    CHARGE_IN_TURN = "CHARGE_IN_TURN"


class UnknownProcessor(DomainError):
    """A configuration names a processor that this mesh has no adapter for."""

    code = Code.INVALID_ARGUMENT
    reason = "UNKNOWN_PROCESSOR"
    state_dependent = True
    processor_id: str
    method: str


class RuleUnreachable(DomainError):
    """A routing rule never decides for a method: rules before it do."""

    code = Code.INVALID_ARGUMENT
    reason = "RULE_UNREACHABLE"
    state_dependent = False
    rule: str
    method: str
    decided_by: str


class RuleContradictory(DomainError):
    """The condition of a routing rule holds for no payment."""

    code = Code.INVALID_ARGUMENT
    reason = "RULE_CONTRADICTORY"
    state_dependent = False
    rule: str
    part: str


class MethodNotCovered(DomainError):
    """A rule names a method that is not configured, or a method is left out of every payment."""

    code = Code.INVALID_ARGUMENT
    reason = "METHOD_NOT_COVERED"
    state_dependent = False
    method: str
    rule: str | None = None


class FeeMissing(DomainError):
    """Least cost is to compare processors of which one has no fee."""

    code = Code.INVALID_ARGUMENT
    reason = "FEE_MISSING"
    state_dependent = False
    processor_id: str
    method: str


@dataclass(frozen=True, slots=True)
class MethodRule:
    """Through which processors a method is charged, and up to how much.

    Attributes:
        method: e.g. `card`.
        cap: most that one payment may take from it; None without a limit.
        processors: ids in the order in which they are asked; at least one.
        strategy: in which order they are asked; None: as they are listed.
    """

    method: str
    cap: Money | None
    processors: tuple[str, ...]
    strategy: Strategy | None = None


@dataclass(frozen=True, slots=True)
class MerchantConfig:
    """One immutable version.

    Attributes:
        merchant_id: the merchant.
        version: from 1; 0 before it is stored.
        methods: in the order of their priority.
        attempts_per_processor_max: how often one step may ask one processor.
        call_timeout_ms: how long one call may take before its outcome counts as unknown.
        partial_allowed: whether a payment may end with a part charged.
        capture: of payments whose request says nothing of it.
        processors: the merchant's own, beside those of every merchant.
        routing: which payments go through which processors.
        limits: what is refused before a processor is asked.
        split: how payments of several steps are carried out that are taken at once.
        backoff_ms: wait before a processor that certainly did not act is asked again, doubled each time.
    """

    merchant_id: str
    version: int
    methods: tuple[MethodRule, ...]
    attempts_per_processor_max: int = ATTEMPTS_PER_PROCESSOR_DEFAULT
    call_timeout_ms: int = CALL_TIMEOUT_MS_DEFAULT
    partial_allowed: bool = False
    capture: Capture = Capture.AUTOMATIC
    processors: tuple[ProcessorConfig, ...] = ()
    routing: Routing = field(default_factory=Routing)
    limits: tuple[Limit, ...] = ()
    split: Split = Split.AUTHORIZE_FIRST
    backoff_ms: int = BACKOFF_MS_DEFAULT

    def rule(self, method: str) -> MethodRule | None:
        """Return the rule of a method, or None."""
        return next((rule for rule in self.methods if rule.method == method), None)


def watched(config: MerchantConfig) -> dict[int, set[str]]:
    """Return the processors whose success counts, by how far back is looked, in seconds."""
    found: dict[int, set[str]] = {}
    for _, processors, strategy in _offers(config):
        if isinstance(strategy, SuccessRate):
            found.setdefault(strategy.window_s, set()).update(processors)
    return found


def replaceable(config: MerchantConfig) -> set[str]:
    """Return the processors beside which others are offered: whether they work decides who is asked first."""
    return {
        each for _, processors, _ in _offers(config) if len(processors) > 1 for each in processors
    }


def check(
    config: MerchantConfig, built_in: Collection[str], adapters: Collection[str] = ()
) -> None:
    """Refuse a configuration that could not be carried out.

    Args:
        built_in: processors that every merchant may name.
        adapters: what may speak to the merchant's own.

    Raises:
        UnknownProcessor: it names a processor that is neither its own nor every merchant's.
        InvalidField: a method, rule or region stands twice, a processor is its own fallback, a text holds a card
            number, a region is not defined, or a share is of a processor that is not asked.
        UnknownCurrency: a limit, condition or fee is in no ISO 4217 currency.
        RuleUnreachable, RuleContradictory, MethodNotCovered, FeeMissing: the rules do not say what they seem to.
    """
    # First: what is said of other faults repeats names, and what is said is stored.
    cards = [
        FieldViolation(path, "must not hold a card number")
        for path, text in _texts(config)
        if holds_card_number(text)
    ]
    if cards:
        raise InvalidField.of(cards)
    faults = own_processors.check(config.processors, built_in, adapters)
    known = {*built_in, *(each.processor_id for each in config.processors)}
    seen: set[str] = set()
    for index, rule in enumerate(config.methods):
        path = f"config.methods[{index}]"
        if rule.method in seen:
            faults.append(FieldViolation(f"{path}.method", f"{rule.method} is listed twice"))
        seen.add(rule.method)
        if len(set(rule.processors)) < len(rule.processors):
            faults.append(
                FieldViolation(f"{path}.fallback_processor_ids", "a processor is listed twice")
            )
        if rule.cap is not None:
            exponent(rule.cap.currency_code)
        _check_processors(path, rule.method, rule.processors, known)
        faults += _faults_of_strategy(f"{path}.strategy", rule.strategy, rule.processors)
    faults += _check_routing(config.routing, known)
    faults += _faults_of_limits(config.limits)
    if faults:
        raise InvalidField.of(faults)
    _check_rules(config)
    _check_fees(config)


def _texts(config: MerchantConfig) -> Iterator[tuple[str, str]]:
    """Yield every text that whoever wrote the configuration chose freely, with its place."""
    yield "config.merchant_id", config.merchant_id
    for index, method in enumerate(config.methods):
        path = f"config.methods[{index}]"
        yield f"{path}.method", method.method
        yield f"{path}.processor_id", method.processors[0]
        for name in method.processors[1:]:
            yield f"{path}.fallback_processor_ids", name
        yield from _share_texts(f"{path}.strategy", method.strategy)
    for index, own in enumerate(config.processors):
        yield from own_processors.texts(f"config.processors[{index}]", own)
    for index, (name, _) in enumerate(config.routing.regions):
        yield f"config.regions[{index}].name", name
    for index, rule in enumerate(config.routing.rules):
        yield from _rule_texts(f"config.rules[{index}]", rule)
    for index, fee in enumerate(config.routing.fees):
        yield f"config.fees[{index}].processor_id", fee.processor_id
        yield f"config.fees[{index}].method", fee.method
    for index, limit in enumerate(config.limits):
        yield f"config.limits[{index}].name", limit.name


def _rule_texts(path: str, rule: Rule) -> Iterator[tuple[str, str]]:
    yield f"{path}.name", rule.name
    for name in rule.methods:
        yield f"{path}.methods", name
    for name in rule.when.regions:
        yield f"{path}.when.regions", name
    for key, values in rule.when.metadata:
        for text in (key, *values):
            yield f"{path}.when.metadata", text
    for name in rule.processors:
        yield f"{path}.route.processor_ids", name
    yield from _share_texts(f"{path}.route.strategy", rule.strategy)


def _share_texts(path: str, strategy: Strategy | None) -> Iterator[tuple[str, str]]:
    if isinstance(strategy, VolumeSplit):
        for processor_id, _ in strategy.shares:
            yield f"{path}.volume_split.shares", processor_id


def _check_processors(
    path: str, method: str, processors: Collection[str], known: Collection[str]
) -> None:
    for processor_id in processors:
        if processor_id not in known:
            raise UnknownProcessor(
                f"{path} names processor {processor_id}, which is not among its own; the known ones are"
                f" {', '.join(sorted(known))}",
                processor_id=processor_id,
                method=method,
            )


def _faults_of_strategy(
    path: str, strategy: Strategy | None, processors: Collection[str]
) -> Iterator[FieldViolation]:
    if not isinstance(strategy, VolumeSplit):
        return
    seen: set[str] = set()
    for index, (processor_id, _) in enumerate(strategy.shares):
        at = f"{path}.volume_split.shares[{index}].processor_id"
        if processor_id in seen:
            yield FieldViolation(at, f"{processor_id} is listed twice")
        elif processor_id not in processors:
            listed = ", ".join(processors)
            yield FieldViolation(at, f"{processor_id} is not asked here; these are: {listed}")
        seen.add(processor_id)


def _check_routing(routing: Routing, known: Collection[str]) -> Iterator[FieldViolation]:
    """Yield what is wrong with single parts of the routing. Raises UnknownProcessor, UnknownCurrency."""
    regions = [name for name, _ in routing.regions]
    for index, name in enumerate(regions):
        if holds_card_number(name):
            yield FieldViolation(f"config.regions[{index}].name", "must not hold a card number")
        elif name in regions[:index]:
            yield FieldViolation(f"config.regions[{index}].name", f"{name} is listed twice")
    names = [rule.name for rule in routing.rules]
    for index, rule in enumerate(routing.rules):
        path = f"config.rules[{index}]"
        if holds_card_number(rule.name):
            # Names are shown with every plan.
            yield FieldViolation(f"{path}.name", "must not hold a card number")
        elif rule.name in names[:index]:
            yield FieldViolation(f"{path}.name", f"{rule.name} is listed twice")
        yield from _faults_of_condition(f"{path}.when", rule.when, regions)
        _check_processors(path, rule.methods[0], rule.processors, known)
        yield from _faults_of_strategy(f"{path}.route.strategy", rule.strategy, rule.processors)
    for index, fee in enumerate(routing.fees):
        path = f"config.fees[{index}]"
        _check_processors(path, fee.method, [fee.processor_id], known)
        if fee.currency:
            exponent(fee.currency)
        elif fee.fixed_minor:
            yield FieldViolation(
                f"{path}.fixed_minor", "needs a currency_code: minor units of which currency?"
            )


def _faults_of_condition(
    path: str, when: Condition, regions: Collection[str]
) -> Iterator[FieldViolation]:
    """Yield what is wrong with a condition. Raises UnknownCurrency."""
    for place, region in enumerate(when.regions):
        if region not in regions:
            yield FieldViolation(
                f"{path}.regions[{place}]", f"{region} is none of the configuration's regions"
            )
    limits = (when.amount_min, when.amount_max)
    for code in (*when.currencies, *(limit.currency_code for limit in limits if limit)):
        exponent(code)


def _faults_of_limits(limits: Sequence[Limit]) -> Iterator[FieldViolation]:
    """Yield what is wrong with limits. Raises UnknownCurrency."""
    names = [limit.name for limit in limits]
    for index, limit in enumerate(limits):
        path = f"config.limits[{index}]"
        if holds_card_number(limit.name):
            yield FieldViolation(f"{path}.name", "must not hold a card number")
        elif limit.name in names[:index]:
            yield FieldViolation(f"{path}.name", f"{limit.name} is listed twice")
        if limit.amount_max is not None:
            exponent(limit.amount_max.currency_code)
        elif not limit.payments_max:
            yield FieldViolation(path, "needs payments_max or amount_max: it bounds nothing")
        if limit.payments_max and not limit.window_s:
            yield FieldViolation(
                f"{path}.payments_max", "needs a window: one payment is always one"
            )


def _check_rules(config: MerchantConfig) -> None:
    """Raises RuleUnreachable, RuleContradictory, MethodNotCovered."""
    methods = [rule.method for rule in config.methods]
    for rule in config.routing.rules:
        for method in rule.methods:
            if method not in methods:
                raise MethodNotCovered(
                    f"rule {rule.name} is for {method}, which is none of the configuration's methods: add it, or take"
                    " it out of the rule",
                    method=method,
                    rule=rule.name,
                )
    for flaw in analysis.flaws(config.routing, methods):
        match flaw:
            case analysis.Contradiction(rule, part):
                raise RuleContradictory(
                    f"rule {rule.name} holds for no payment: what its condition says of {part} contradicts itself",
                    rule=rule.name,
                    part=part,
                )
            case analysis.Unreached(rule, method, decided_by):
                before = ", ".join(decided_by)
                raise RuleUnreachable(
                    f"rule {rule.name} never decides for {method}: whatever holds for it is decided by {before} before"
                    " it; move it up, or narrow those",
                    rule=rule.name,
                    method=method,
                    decided_by=before,
                )
            case analysis.Skipped(method):
                raise MethodNotCovered(
                    f"the rules leave {method} out of every payment: let one through, or remove the method",
                    method=method,
                )


def _check_fees(config: MerchantConfig) -> None:
    """Raises FeeMissing."""
    for method, processors, strategy in _offers(config):
        if not isinstance(strategy, LeastCost):
            continue
        for processor_id in processors:
            fees = config.routing.fees
            if not any(f.processor_id == processor_id and f.method in ("", method) for f in fees):
                raise FeeMissing(
                    f"least_cost compares processors of {method}, and {processor_id} has no fee: add it to fees",
                    processor_id=processor_id,
                    method=method,
                )


def _offers(
    config: MerchantConfig,
) -> Iterator[tuple[str, tuple[str, ...], Strategy | None]]:
    for each in config.methods:
        yield each.method, each.processors, each.strategy
    for rule in config.routing.rules:
        for method in rule.methods:
            yield method, rule.processors, rule.strategy


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """A version, with when and by whom it was stored."""

    config: MerchantConfig
    created_at: datetime
    created_by: str
