"""A merchant's configuration: methods, processors, and when to try again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.orchestration.domain import processors
from services.orchestration.domain.processors import ProcessorConfig
from services.runtime.cards import holds_card_number
from services.runtime.errors import Code, DomainError, FieldViolation, InvalidField
from services.runtime.money import Money, exponent

ATTEMPTS_PER_PROCESSOR_DEFAULT = 2
CALL_TIMEOUT_MS_DEFAULT = 5_000


class Capture(StrEnum):
    """When what is authorised is taken; the names of the proto."""

    AUTOMATIC = "AUTOMATIC"
    MANUAL = "MANUAL"


class UnknownProcessor(DomainError):
    """A configuration names a processor that this mesh has no adapter for."""

    code = Code.INVALID_ARGUMENT
    reason = "UNKNOWN_PROCESSOR"
    state_dependent = True
    processor_id: str
    method: str


@dataclass(frozen=True, slots=True)
class MethodRule:
    """Through which processors a method is charged, and up to how much.

    Attributes:
        method: e.g. `card`.
        cap: most that one payment may take from it; None without a limit.
        processors: ids in the order in which they are asked; at least one.
    """

    method: str
    cap: Money | None
    processors: tuple[str, ...]


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
    """

    merchant_id: str
    version: int
    methods: tuple[MethodRule, ...]
    attempts_per_processor_max: int = ATTEMPTS_PER_PROCESSOR_DEFAULT
    call_timeout_ms: int = CALL_TIMEOUT_MS_DEFAULT
    partial_allowed: bool = False
    capture: Capture = Capture.AUTOMATIC
    processors: tuple[ProcessorConfig, ...] = ()

    def rule(self, method: str) -> MethodRule | None:
        """Return the rule of a method, or None."""
        return next((rule for rule in self.methods if rule.method == method), None)


def check(
    config: MerchantConfig, built_in: Collection[str], adapters: Collection[str] = ()
) -> None:
    """Refuse a configuration that could not be carried out.

    Args:
        built_in: processors that every merchant may name.
        adapters: what may speak to the merchant's own.

    Raises:
        UnknownProcessor: it names a processor that is neither its own nor every merchant's.
        InvalidField: a method stands twice, a processor is its own fallback, or a name holds a card number.
        UnknownCurrency: a limit is in no ISO 4217 currency.
    """
    faults = processors.check(config.processors, built_in, adapters)
    known = {*built_in, *(each.processor_id for each in config.processors)}
    if holds_card_number(config.merchant_id):
        # No payment could name it: card numbers are dropped from payment requests.
        faults.append(FieldViolation("config.merchant_id", "must not hold a card number"))
    seen: set[str] = set()
    for index, rule in enumerate(config.methods):
        path = f"config.methods[{index}]"
        if holds_card_number(rule.method):
            faults.append(FieldViolation(f"{path}.method", "must not hold a card number"))
        elif rule.method in seen:
            faults.append(FieldViolation(f"{path}.method", f"{rule.method} is listed twice"))
        seen.add(rule.method)
        if len(set(rule.processors)) < len(rule.processors):
            faults.append(
                FieldViolation(f"{path}.fallback_processor_ids", "a processor is listed twice")
            )
        if rule.cap is not None:
            exponent(rule.cap.currency_code)
        _check_processors(path, rule, known)
    if faults:
        raise InvalidField.of(faults)


def _check_processors(path: str, rule: MethodRule, known: Collection[str]) -> None:
    for processor_id in rule.processors:
        if processor_id not in known:
            raise UnknownProcessor(
                f"{path} names processor {processor_id}, which is not among its own; the known ones are"
                f" {', '.join(sorted(known))}",
                processor_id=processor_id,
                method=rule.method,
            )


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """A version, with when and by whom it was stored."""

    config: MerchantConfig
    created_at: datetime
    created_by: str
