"""Which processors a step is offered to, and in which order: pure functions of a payment and a configuration.

Rules are looked at in their order, and the first that holds decides for a method. Strategies then order what was found:
by shares, fees or recent success. Nothing here is drawn by chance, so that a plan can be made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import accumulate

from services.runtime.money import Money

SAMPLES_MIN_DEFAULT = 20
OUTAGE_BELOW_PERCENT_DEFAULT = 20
WINDOW_S_DEFAULT = 900


# ---- strategies


@dataclass(frozen=True, slots=True)
class VolumeSplit:
    """Each processor gets its share of the payments.

    Attributes:
        shares: processor and weight.
    """

    shares: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LeastCost:
    """The lowest fee first."""


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """The best recent success rate first.

    Attributes:
        window_s: how far back it looks.
        samples_min: outcomes that are needed before a rate says anything.
        outage_below_percent: a lower rate counts as an outage.
    """

    window_s: int = WINDOW_S_DEFAULT
    samples_min: int = SAMPLES_MIN_DEFAULT
    outage_below_percent: int = OUTAGE_BELOW_PERCENT_DEFAULT


Strategy = VolumeSplit | LeastCost | SuccessRate


# ---- rules


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds when every part that is given holds; amounts are of the whole payment, both ends included."""

    amount_min: Money | None = None
    amount_max: Money | None = None
    currencies: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    bins: tuple[str, ...] = ()
    metadata: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Decides for its methods where its condition holds.

    Attributes:
        processors: ids in the order in which they are asked; empty: the method is left out.
    """

    name: str
    methods: tuple[str, ...]
    when: Condition = Condition()
    processors: tuple[str, ...] = ()
    strategy: Strategy | None = None

    @property
    def skips(self) -> bool:
        """True when the rule leaves its methods out."""
        return not self.processors


@dataclass(frozen=True, slots=True)
class Fee:
    """What a processor takes; empty texts fit everything.

    Attributes:
        percent: of the amount, a decimal text; empty for nothing.
        fixed_minor: minor units of the currency.
    """

    processor_id: str
    method: str = ""
    currency: str = ""
    percent: str = ""
    fixed_minor: int = 0

    def fits(self, processor_id: str, method: str, currency: str) -> bool:
        """Say whether the entry is about such a step."""
        return (
            self.processor_id == processor_id
            and self.method in ("", method)
            and self.currency in ("", currency)
        )

    def exact_of(self, amount_minor: int) -> Fraction:
        """Return the fee in minor units, not rounded."""
        return Fraction(self.percent or "0") * amount_minor / 100 + self.fixed_minor


@dataclass(frozen=True, slots=True)
class Routing:
    """The part of a configuration that chooses processors.

    Attributes:
        regions: names of sets of countries.
        fees: the first that fits holds.
    """

    rules: tuple[Rule, ...] = ()
    regions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    fees: tuple[Fee, ...] = ()

    def countries_of(self, region: str) -> tuple[str, ...]:
        """Return the countries of a region; none for an unknown one."""
        return next((countries for name, countries in self.regions if name == region), ())

    def fee_of(
        self, processor_id: str, method: str, currency: str, amount_minor: int
    ) -> Fraction | None:
        """Return what a processor takes for a step in minor units, not rounded; None when it is not known."""
        for fee in self.fees:
            if fee.fits(processor_id, method, currency):
                return fee.exact_of(amount_minor)
        return None

    def rule_for(self, method: str, facts: Facts) -> Rule | None:
        """Return the rule that decides for a method, or None."""
        for rule in self.rules:
            if method in rule.methods and self.holds(rule.when, facts):
                return rule
        return None

    def holds(self, when: Condition, facts: Facts) -> bool:
        """Say whether a condition holds for a payment."""
        here = facts.country
        return (
            ((when.amount_min is None and when.amount_max is None) or _within(when, facts))
            and (not when.currencies or facts.currency in when.currencies)
            and (not when.countries or here in when.countries)
            and (not when.regions or any(here in self.countries_of(r) for r in when.regions))
            and (not when.bins or facts.bin.startswith(when.bins))
            and (
                not when.metadata
                or all(facts.metadata.get(key) in values for key, values in when.metadata)
            )
        )


def _within(when: Condition, facts: Facts) -> bool:
    least, most = when.amount_min, when.amount_max
    return all(
        limit is None or limit.currency_code == facts.currency for limit in (least, most)
    ) and (
        (least is None or facts.amount_minor >= least.minor_units)
        and (most is None or facts.amount_minor <= most.minor_units)
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules look at.

    Attributes:
        country: of the payer, two letters; empty when it is not known.
        bin: first digits of the card; empty when they are not known.
    """

    currency: str
    amount_minor: int
    country: str = ""
    bin: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


# ---- health


@dataclass(frozen=True, slots=True)
class Health:
    """What was lately seen of a processor.

    Attributes:
        done: how often it did what it was asked for.
        failed: how often it did not, and the payer was not to blame.
    """

    done: int = 0
    failed: int = 0

    @property
    def seen(self) -> int:
        """How many outcomes say something about the processor."""
        return self.done + self.failed

    @property
    def rate(self) -> Fraction:
        """Its success rate; one that was never seen gets the benefit of the doubt."""
        return Fraction(self.done, self.seen) if self.seen else Fraction(1)


HEALTHY = Health()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was known of the processors when a plan was made.

    Attributes:
        seen: by processor and how far back was looked, in seconds; what is not in it was not seen.
        resting: processors whose circuit breaker is open: they are asked last.
    """

    seen: Mapping[tuple[str, int], Health] = field(default_factory=dict)
    resting: frozenset[str] = frozenset()


NOTHING_KNOWN = Snapshot()


# ---- ordering


@dataclass(frozen=True, slots=True)
class Candidate:
    """One processor that was thought of, and why it stands where it does."""

    processor_id: str
    chosen: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A step for which processors are put in order.

    Attributes:
        key: what recognises the payment; shares are drawn by it.
        version: of the configuration.
    """

    method: str
    currency: str
    amount_minor: int
    key: str
    version: int


def order(
    processors: Sequence[str],
    strategy: Strategy | None,
    asked: Asked,
    routing: Routing,
    health: Snapshot,
) -> list[Candidate]:
    """Put processors in the order in which they are asked; those that rest come last."""
    match strategy:
        case VolumeSplit(shares):
            found = _by_share(processors, shares, asked)
        case LeastCost():
            found = _by_fee(processors, asked, routing)
        case SuccessRate():
            found = _by_rate(processors, strategy, health)
        case None:
            found = [
                _chosen(each, "LISTED", f"number {place} of the list")
                for place, each in enumerate(processors, 1)
            ]
    resting = [each for each in found if each.processor_id in health.resting]
    if not resting:
        return found
    awake = [each for each in found if each not in resting]
    message = "its circuit breaker is open, so it is asked last"
    return awake + [_chosen(each.processor_id, "BREAKER_OPEN", message) for each in resting]


def draw(key: str, version: int, weights_sum: int) -> int:
    """Draw a number from 0 to below the sum: the same for the same payment and version."""
    digest = hashlib.sha256(f"{key}:{version}".encode()).digest()
    return int.from_bytes(digest[:16]) % weights_sum


def _by_share(
    processors: Sequence[str], shares: Sequence[tuple[str, int]], asked: Asked
) -> list[Candidate]:
    usable = [(each, weight) for each, weight in shares if each in processors]
    total = sum(weight for _, weight in usable)
    if not total:
        return [_chosen(each, "FALLBACK", "it has no share") for each in processors]
    drawn = draw(asked.key, asked.version, total)
    ends = accumulate(weight for _, weight in usable)
    first = next(each for (each, _), end in zip(usable, ends, strict=True) if drawn < end)
    weights = dict(usable)
    message = f"drawn: its share is {weights[first]} of {total}"
    others = [
        _chosen(each, "FALLBACK", f"its share is {weights.get(each, 0)} of {total}")
        for each in processors
        if each != first
    ]
    return [_chosen(first, "SHARE", message), *others]


def _by_fee(processors: Sequence[str], asked: Asked, routing: Routing) -> list[Candidate]:
    priced: list[tuple[bool, Fraction, int, str]] = []
    for place, each in enumerate(processors):
        fee = routing.fee_of(each, asked.method, asked.currency, asked.amount_minor)
        priced.append((fee is None, fee or Fraction(0), place, each))
    return [
        _chosen(each, "FEE_UNKNOWN", f"no fee is known for {asked.currency}")
        if unknown
        else _chosen(each, "FEE", f"takes {shown_minor(fee)} minor units of {asked.currency}")
        for unknown, fee, _, each in sorted(priced)
    ]


def _by_rate(processors: Sequence[str], strategy: SuccessRate, health: Snapshot) -> list[Candidate]:
    rated: list[tuple[bool, Fraction, int, Candidate]] = []
    for place, each in enumerate(processors):
        seen = health.seen.get((each, strategy.window_s), HEALTHY)
        if seen.seen < strategy.samples_min:
            message = f"{seen.seen} outcomes say too little; {strategy.samples_min} would do"
            rated.append((False, Fraction(-1), place, _chosen(each, "RATE_UNKNOWN", message)))
            continue
        message = f"{seen.done} of {seen.seen} succeeded, the payer's errors aside"
        out = seen.rate * 100 < strategy.outage_below_percent
        candidate = _chosen(each, "OUTAGE" if out else "RATE", message)
        rated.append((out, -seen.rate, place, candidate))
    return [candidate for *_, candidate in sorted(rated, key=lambda each: each[:3])]


def shown_minor(exact: Fraction) -> str:
    """Write minor units, rounded half up to two places."""
    decimal = Decimal(exact.numerator) / Decimal(exact.denominator)
    return f"{decimal.quantize(Decimal('0.01'), ROUND_HALF_UP).normalize():f}"


def _chosen(processor_id: str, reason: str, message: str) -> Candidate:
    return Candidate(processor_id, True, reason, message)
