"""Processors of a merchant's own, and what may be concluded from what a processor answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from services.orchestration.domain.minor_units import ISO_4217, MinorUnits
from services.orchestration.domain.operations import Operation
from services.runtime.cards import holds_card_number
from services.runtime.errors import Code, DomainError, FieldViolation

# What processors name their secrets by: one that was pasted into a setting would be stored and shown.
_SECRET_PREFIXES = ("sk_", "rk_", "whsec_", "bearer ", "basic ")


class CredentialUnusable(DomainError):
    """A processor names a credential that is not kept for this tenant, or must not go to its address."""

    code = Code.INVALID_ARGUMENT
    reason = "CREDENTIAL_UNUSABLE"
    state_dependent = True
    processor_id: str
    credential_ref: str


@dataclass(frozen=True, slots=True)
class ProcessorConfig:
    """How a processor is reached.

    Attributes:
        adapter: what speaks to it: `stripe`, `sandbox`.
        base_url: where it is; empty for the adapter's own.
        credential_ref: name of a credential that the operator keeps; never the secret.
        settings: pairs of name and value, sorted by name.
    """

    processor_id: str
    adapter: str
    base_url: str = ""
    credential_ref: str = ""
    settings: tuple[tuple[str, str], ...] = ()

    def setting(self, name: str, default: str = "") -> str:
        """Return a setting, or its default."""
        return dict(self.settings).get(name, default)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a processor can do, and what may be concluded from its answers.

    Attributes:
        settle_window: so long after a call can last have arrived, its books are complete: two answers "not
            found" later than that prove that nothing was charged.
        holds: it can authorise an amount, and capture or void it later.
        replay_key: the same order under the same key gets the outcome of the first, and moves no more money.
        key_ttl: for so long after it was first sent, at least, it knows a key.
        two_phase: an order is made first and carried out by a second call, so that it can be called off between.
        lookup_by_ref: it can be asked what became of an order, by our reference.
        partial_capture: less than what is authorised can be captured.
        captures_many: an authorisation stays open after a capture that does not close it.
        refunds_max: how many refunds one charge may have; None without a limit.
        min_amount_minor: least amounts that it takes, by currency, in minor units of ISO 4217.
        minor_units: how it counts amounts.
    """

    settle_window: timedelta
    holds: bool = False
    replay_key: bool = False
    key_ttl: timedelta = timedelta(0)
    two_phase: bool = False
    lookup_by_ref: bool = True
    partial_capture: bool = True
    captures_many: bool = True
    refunds_max: int | None = None
    min_amount_minor: Mapping[str, int] = field(default_factory=dict)
    minor_units: MinorUnits = ISO_4217

    def refusal(self, operation: Operation, amount_minor: int, currency: str) -> str:
        """Say why an order cannot be given to the processor at all; empty when it can.

        Only what is taken is held against the least amount: what was taken can always be given back.
        """
        if operation is Operation.AUTHORIZE and not self.holds:
            return "it charges only at once"
        if fault := self.minor_units.fault(amount_minor, currency):
            return fault
        least = self.min_amount_minor.get(currency, 0)
        if operation in {Operation.AUTHORIZE, Operation.CHARGE} and amount_minor < least:
            return f"it takes {least} minor units of {currency} at least"
        return ""


@dataclass(frozen=True, slots=True)
class Offered:
    """A processor that a merchant's configuration may name.

    Attributes:
        adapter: what speaks to it.
        own: the merchant's configuration brings it.
    """

    processor_id: str
    adapter: str
    own: bool
    capabilities: Capabilities


def check(
    processors: Sequence[ProcessorConfig], built_in: Collection[str], adapters: Collection[str]
) -> list[FieldViolation]:
    """Return what is wrong with a merchant's processors, whatever their adapters are."""
    faults: list[FieldViolation] = []
    seen: set[str] = set()
    for index, each in enumerate(processors):
        path = f"config.processors[{index}]"
        if each.processor_id in built_in:
            said = f"{each.processor_id} is a processor of every merchant: take another name"
            faults.append(FieldViolation(f"{path}.processor_id", said))
        elif each.processor_id in seen:
            faults.append(
                FieldViolation(f"{path}.processor_id", f"{each.processor_id} is listed twice")
            )
        seen.add(each.processor_id)
        if each.adapter not in adapters:
            said = f"must be one of {', '.join(sorted(adapters))}"
            faults.append(FieldViolation(f"{path}.adapter", said))
        faults.extend(_check_texts(path, each))
    return faults


def texts(path: str, config: ProcessorConfig) -> Iterator[tuple[str, str]]:
    """Yield every text of a processor, with its place."""
    yield f"{path}.processor_id", config.processor_id
    yield f"{path}.adapter", config.adapter
    yield f"{path}.base_url", config.base_url
    yield f"{path}.credential_ref", config.credential_ref
    for name, value in config.settings:
        yield f"{path}.settings", name
        place = f"{path}.settings" if holds_card_number(name) else f"{path}.settings[{name}]"
        yield place, value


def _check_texts(path: str, config: ProcessorConfig) -> list[FieldViolation]:
    pasted = {f"{path}.base_url": config.base_url, f"{path}.processor_id": config.processor_id}
    pasted[f"{path}.credential_ref"] = config.credential_ref
    pasted |= {f"{path}.settings[{name}]": value for name, value in config.settings}
    return [
        FieldViolation(place, "looks like a secret: credential_ref is to name it, and nothing else")
        for place, text in pasted.items()
        if text.lower().startswith(_SECRET_PREFIXES)
    ]
