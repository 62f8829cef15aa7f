"""Price models and their arithmetic.

Every model is an increasing function F of the units used since the period's start, and a part of the period costs
F(prior + quantity) - F(prior): parts of a period therefore sum exactly to the whole. What is due without any
usage (a flat price, the flat amount of a first tier) belongs to the part that opens the period.

Rules (house, `docs/decisions/0060-price-models.md`): included units first; `up_to` inclusive; a tier's flat amount is
due once the tier is entered; exact decimals, never rounded here.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from decimal import Decimal, localcontext
from enum import StrEnum

from pydantic.dataclasses import dataclass

from services.pricing.domain.values import ONE, ZERO, Dec
from services.runtime.money import CONTEXT


class Rounding(StrEnum):
    """How a number of packages becomes whole."""

    CEILING = "ROUNDING_CEILING"
    FLOOR = "ROUNDING_FLOOR"
    HALF_UP = "ROUNDING_HALF_UP"


class StepKind(StrEnum):
    """The kind of a step in the arithmetic."""

    INCLUDED = "INCLUDED"
    FLAT = "FLAT"
    PER_UNIT = "PER_UNIT"
    TIER = "TIER"
    PACKAGE = "PACKAGE"


@plain_dataclass(frozen=True, slots=True)
class Part:
    """The stretch of a period that is priced: units `start` (exclusive) to `end` (inclusive).

    Attributes:
        start: units of the period before it.
        end: units of the period up to and including it.
        opens: True for the part that opens the period.
    """

    start: Decimal
    end: Decimal
    opens: bool

    @property
    def units(self) -> Decimal:
        """Units of the part."""
        return self.end - self.start


@plain_dataclass(frozen=True, slots=True)
class Step:
    """One piece of the arithmetic: amount = units * unit_amount + flat_amount."""

    kind: StepKind
    start: Decimal
    end: Decimal
    units: Decimal
    unit_amount: Decimal = ZERO
    flat_amount: Decimal = ZERO

    @property
    def amount(self) -> Decimal:
        """The exact amount of the step."""
        return CONTEXT.add(CONTEXT.multiply(self.units, self.unit_amount), self.flat_amount)


@plain_dataclass(frozen=True, slots=True)
class Evaluation:
    """What a price makes of a quantity.

    Attributes:
        exact: the unrounded amount: the sum of the steps.
        included_used: units that cost nothing because they are included.
        billable: units that are left.
        steps: the arithmetic.
    """

    exact: Decimal
    included_used: Decimal
    billable: Decimal
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Flat:
    """One amount a period, used or not."""

    amount: Dec

    def steps(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part."""
        if not part.opens:
            return []
        return [Step(StepKind.FLAT, part.start, part.end, ZERO, ZERO, self.amount)]

    def problems(self) -> list[tuple[str, str]]:
        """Return what is wrong with the price: (path, description)."""
        return []


@dataclass(frozen=True)
class PerUnit:
    """The same amount for every unit."""

    unit_amount: Dec

    def steps(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part."""
        if part.units == ZERO:
            return []
        return [Step(StepKind.PER_UNIT, part.start, part.end, part.units, self.unit_amount)]

    def problems(self) -> list[tuple[str, str]]:
        """Return what is wrong with the price: (path, description)."""
        return []


@dataclass(frozen=True)
class Tier:
    """Units above the tier before, up to and including `up_to`; None: no end."""

    up_to: Dec | None = None
    unit_amount: Dec = ZERO
    flat_amount: Dec = ZERO


@dataclass(frozen=True)
class Graduated:
    """Each unit costs what its own tier says."""

    tiers: tuple[Tier, ...]

    def steps(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part, one step for each tier that it touches."""
        steps = []
        low = ZERO
        for index, tier in enumerate(self.tiers):
            start = max(part.start, low)
            end = part.end if tier.up_to is None else min(part.end, tier.up_to)
            units = max(end - start, ZERO)
            # A tier above the first is entered by the first unit beyond the one below it.
            entered = part.opens if index == 0 else part.start <= low < part.end
            flat = tier.flat_amount if entered else ZERO
            if units > ZERO or flat > ZERO:
                steps.append(
                    Step(StepKind.TIER, start, start + units, units, tier.unit_amount, flat)
                )
            if tier.up_to is not None:
                low = tier.up_to
        return steps

    def problems(self) -> list[tuple[str, str]]:
        """Return what is wrong with the price: (path, description)."""
        found = []
        low = ZERO
        for index, tier in enumerate(self.tiers):
            path = f"tiers[{index}].up_to"
            is_last = index == len(self.tiers) - 1
            if is_last and tier.up_to is not None:
                found.append(
                    (path, "the last tier must have no end, so that every unit has a price")
                )
            elif not is_last and tier.up_to is None:
                found.append((path, "only the last tier may have no end"))
            elif tier.up_to is not None and tier.up_to <= low:
                found.append((path, f"must be above {low:f}, where the previous tier ends"))
            low = tier.up_to or low
        return found


@dataclass(frozen=True)
class Package:
    """Units are sold in packages."""

    package_size: Dec
    package_amount: Dec
    rounding: Rounding = Rounding.CEILING

    def packages(self, units: Decimal) -> Decimal:
        """Return how many packages are due after so many units of the period."""
        whole, rest = CONTEXT.divmod(units, self.package_size)
        if self.rounding is Rounding.FLOOR:
            return whole
        if self.rounding is Rounding.HALF_UP:
            return whole + ONE if CONTEXT.add(rest, rest) >= self.package_size else whole
        return whole + ONE if rest > ZERO else whole

    def steps(self, part: Part) -> list[Step]:
        """Return the arithmetic of a part: the packages that it begins."""
        count = self.packages(part.end) - self.packages(part.start)
        if count == ZERO:
            return []
        return [Step(StepKind.PACKAGE, part.start, part.end, count, self.package_amount)]

    def problems(self) -> list[tuple[str, str]]:
        """Return what is wrong with the price: (path, description)."""
        return [] if self.package_size > ZERO else [("package_size", "must be above zero")]


@dataclass(frozen=True)
class Price:
    """How the quantity of a period becomes an amount. Exactly one of the models is set.

    Attributes:
        included_qty: units that cost nothing, consumed before any other; None: none.
    """

    flat: Flat | None = None
    per_unit: PerUnit | None = None
    graduated: Graduated | None = None
    package: Package | None = None
    included_qty: Dec | None = None

    @property
    def model(self) -> Flat | PerUnit | Graduated | Package:
        """The model that is set."""
        model = self.flat or self.per_unit or self.graduated or self.package
        assert model is not None, "the contract requires one model"
        return model

    @property
    def tier_count(self) -> int:
        """Number of tiers; 0 for a model without."""
        return len(self.graduated.tiers) if self.graduated else 0

    def problems(self) -> list[tuple[str, str]]:
        """Return every broken rule as (path, description); none: the price can be used."""
        name = "package" if self.package else "graduated"
        return [(f"{name}.{path}", text) for path, text in self.model.problems()]

    def evaluate(
        self, quantity: Decimal, prior: Decimal = ZERO, *, opens: bool | None = None
    ) -> Evaluation:
        """Price `quantity` units that follow `prior` units of the same period.

        `opens` says whether this part bears what is due without usage; unless told, the one without prior units does.
        """
        assert quantity >= ZERO, "usage below zero has no price"
        assert prior >= ZERO, "usage below zero has no price"
        with localcontext(CONTEXT):
            included = self.included_qty or ZERO
            start = max(prior - included, ZERO)
            end = max(prior + quantity - included, ZERO)
            used = quantity - (end - start)
            steps = self.model.steps(Part(start, end, prior == ZERO if opens is None else opens))
            if used > ZERO:
                steps.insert(0, Step(StepKind.INCLUDED, prior, prior + used, used))
            exact = sum((step.amount for step in steps), ZERO)
            return Evaluation(exact, used, end - start, tuple(steps))
