"""A price: a model, and what stands around it.

The order is: convert the units, round them, take off what is included, price what is left by the model; then the
discount, the maximum and the minimum of the amount. All of it is a function G of what was used since the period's
start, and a part of the period costs G(end) - G(start): parts of a period sum exactly to the whole. What is due
without any usage (a flat price, the flat amount of a first tier, a minimum) belongs to the part that opens the period.

Rules (house, `docs/decisions/0060-price-models.md` and `0179-around-a-price-model.md`): exact decimals, never rounded
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

from pydantic.dataclasses import dataclass

from services.pricing.domain.errors import DimensionNotPriced, PriceInputMissing, PriceNotSplittable
from services.pricing.domain.models.conversion import UnitConversion
from services.pricing.domain.models.dynamic import Dynamic
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.graduated_percentage import GraduatedPercentage
from services.pricing.domain.models.matrix import Matrix
from services.pricing.domain.models.package import Package
from services.pricing.domain.models.parts import (
    EXACT,
    NOTHING,
    Model,
    Part,
    Problems,
    Source,
    Step,
    StepKind,
    Tally,
    per_cent,
)
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.models.stairstep import Stairstep
from services.pricing.domain.models.table import MODELS
from services.pricing.domain.models.volume import Volume
from services.pricing.domain.proration import Share
from services.pricing.domain.values import ONE, ZERO, Dec


class Use(NamedTuple):
    """What a part of a period used.

    Attributes:
        quantity: units; for a price of money, the sum of the amounts.
        quantities: units by value of the price's dimension; None: not known.
        tally: the events as the price sorts them; None: not known.
    """

    quantity: Decimal
    quantities: Mapping[str, Decimal] | None = None
    tally: Tally | None = None


class Before(NamedTuple):
    """What the parts of the period before a part came to.

    Attributes:
        quantity: units that they used.
        quantities: the same by value of the price's dimension.
        event_count: events above zero among them; 0 where the price does not look at events.
        amount: what the model made of them, before discount and limits; None: found from the units.
        opened: True when one of them bore what is due without usage.
    """

    quantity: Decimal = ZERO
    quantities: Mapping[str, Decimal] = NOTHING
    event_count: int = 0
    amount: Decimal | None = None
    opened: bool = False


NOTHING_BEFORE = Before()


class Evaluation(NamedTuple):
    """What a price makes of a part.

    Attributes:
        exact: the unrounded amount: the sum of the steps.
        included_used: units that cost nothing because they are included.
        billable: units that are left.
        modelled: what the model alone makes of it, before discount and limits.
        spent: what it made of the parts before, where limits ask for it.
        price: the price, with what it was applied to: `use`, `before` and, as the model was given it, `part`.
    """

    exact: Decimal
    included_used: Decimal
    billable: Decimal
    modelled: Decimal
    spent: Decimal
    price: Price
    use: Use
    before: Before
    part: Part

    @property
    def steps(self) -> tuple[Step, ...]:
        """The arithmetic, written when it is asked for: most amounts are only added up."""
        return self.price.arithmetic(self)


@dataclass(frozen=True)
class Price:
    """How the usage of a period becomes an amount. Exactly one of the models is set.

    Attributes:
        included_qty: units that cost nothing, consumed before any other; None: none.
        minimum_amount: least that a period costs, after the discount; None: no minimum.
        maximum_amount: most that it costs, after the discount; None: no limit.
        discount_percent: share of the amount that is not charged.
        unit_conversion: makes priced units of metered ones, before anything else.
    """

    flat: Flat | None = None
    per_unit: PerUnit | None = None
    graduated: Graduated | None = None
    volume: Volume | None = None
    package: Package | None = None
    percentage: Percentage | None = None
    graduated_percentage: GraduatedPercentage | None = None
    stairstep: Stairstep | None = None
    matrix: Matrix | None = None
    dynamic: Dynamic | None = None
    included_qty: Dec | None = None
    minimum_amount: Dec | None = None
    maximum_amount: Dec | None = None
    discount_percent: Dec | None = None
    unit_conversion: UnitConversion | None = None

    @cached_property
    def model_name(self) -> str:
        """Name of the model that is set."""
        return next(name for name in MODELS if getattr(self, name) is not None)

    @cached_property
    def model(self) -> Model:
        """The model that is set."""
        model: Model = getattr(self, self.model_name)
        return model

    @property
    def tier_count(self) -> int:
        """Number of tiers, steps or cells; 0 for a model without."""
        return self.model.tier_count

    @property
    def dimension(self) -> str:
        """Metadata key by whose values it is applied; "" for none."""
        model = self.matrix or self.stairstep
        return model.dimension if model else ""

    @cached_property
    def _left(self) -> Decimal:
        """What the discount leaves of 1."""
        return EXACT.subtract(ONE, per_cent(self.discount_percent or ZERO))

    @cached_property
    def _is_limited(self) -> bool:
        return self.minimum_amount is not None or self.maximum_amount is not None

    @cached_property
    def _takes_all(self) -> bool:
        return self.unit_conversion is None and self.included_qty is None

    @cached_property
    def source(self) -> Source:
        """What of the usage it is applied to."""
        return self.model.source

    @cached_property
    def _is_plain(self) -> bool:
        return not self._is_limited and self._left == ONE

    @cached_property
    def _is_simple(self) -> bool:
        """Whether the model and the units are all that there is."""
        return self._is_plain and self._takes_all and self.source is Source.QUANTITY

    def problems(self) -> Problems:
        """Return every broken rule as (path, description); none: the price can be used."""
        found = [(f"{self.model_name}.{path}", text) for path, text in self.model.problems()]
        if self.unit_conversion:
            found += [
                (f"unit_conversion.{path}", text) for path, text in self.unit_conversion.problems()
            ]
        if not self.model.takes_units:
            found += [
                (name, f"a {self.model_name} price takes its usage as it is")
                for name in ("included_qty", "unit_conversion")
                if getattr(self, name)
            ]
        most = self.maximum_amount
        if most is not None and most < (self.minimum_amount or ZERO):
            found.append(("maximum_amount", "is below the minimum"))
        return found

    def prorated(self, share: Share) -> Price:
        """Return the price of a part of a period: of what is due or given by the period, the part's share."""
        changed: dict[str, Any] = {
            self.model_name: self.model.prorated(share),
            "included_qty": _shared(share, self.included_qty),
            "minimum_amount": _shared(share, self.minimum_amount),
            "maximum_amount": _shared(share, self.maximum_amount),
        }
        return replace(self, **changed)

    def check(self, use: Use, *, sku: str | None = None) -> None:
        """Refuse usage that the price cannot be applied to.

        Raises:
            PriceInputMissing: it is known as a quantity only, where the price asks for more.
            DimensionNotPriced: there is usage of a value that the price has no amount for.
        """
        source = self.source
        known = {Source.AMOUNTS: use.tally, Source.QUANTITIES: use.quantities}
        if use.quantity > ZERO and source in known and known[source] is None:
            raise PriceInputMissing(
                f"a {self.model_name} price of this kind is applied to {source.value}, not to a quantity alone",
                model=self.model_name,
                needs=source.value,
                sku=sku,
            )
        unpriced = self.model.unpriced(use.quantities or NOTHING)
        if unpriced:
            names = ",".join(repr(value) for value in unpriced[:20])
            raise DimensionNotPriced(
                f"the {self.model_name} price has no amount for {self.dimension} {names}; add it, or a default",
                dimension=self.dimension,
                values=names,
                sku=sku,
            )

    def evaluate(
        self, quantity: Decimal, prior: Decimal = ZERO, *, opens: bool | None = None
    ) -> Evaluation:
        """Price `quantity` units that follow `prior` units of the same period.

        `opens` says whether this part bears what is due without usage; unless told, the one without prior units does.

        Raises:
            PriceNotSplittable, PriceInputMissing
        """
        opened = prior != ZERO if opens is None else not opens
        return self.apply(Use(quantity), Before(prior, opened=opened))

    def apply(self, use: Use, before: Before = NOTHING_BEFORE) -> Evaluation:
        """Price a part of a period.

        Raises:
            PriceNotSplittable: there are parts before it, and only the whole has a price.
            PriceInputMissing, DimensionNotPriced: see `check`.
        """
        assert use.quantity >= ZERO, "usage below zero has no price"
        assert before.quantity >= ZERO, "usage below zero has no price"
        assert before.opened or before.quantity == ZERO, "the first part opens the period"
        if self._is_simple and not before.opened:
            units = use.quantity
            part = Part(ZERO, units, True, use.quantities or NOTHING, before.quantities, use.tally)
            cost = self.model.cost(part)
            return Evaluation(cost, ZERO, units, cost, ZERO, self, use, before, part)
        if self.source is not Source.QUANTITY:
            self.check(use)
        if before.opened and not self.model.splits:
            raise self._not_splittable("the next unit may make all units before it cheaper")
        opens = not before.opened
        start = before.quantity
        end = use.quantity if opens else EXACT.add(start, use.quantity)
        billable, used = use.quantity, ZERO
        if not self._takes_all:
            start, end, used = self._left_of(start, end)
            billable = EXACT.subtract(end, start)
        part = Part(start, end, opens, use.quantities or NOTHING, before.quantities, use.tally)
        modelled, spent = self.model.cost(part), ZERO
        exact = modelled
        if not self._is_plain:
            spent = self._spent(part, before)
            exact = self._settled(spent, modelled, opens=opens)
        return Evaluation(exact, used, billable, modelled, spent, self, use, before, part)

    def arithmetic(self, evaluation: Evaluation) -> tuple[Step, ...]:
        """Write the steps of what it was applied to."""
        return (
            *self._units(evaluation),
            *self.model.arithmetic(evaluation.part),
            *self._adjusted(evaluation),
        )

    def _left_of(self, start: Decimal, end: Decimal) -> tuple[Decimal, Decimal, Decimal]:
        """Return where a part begins and ends for the model, and the units of it that are included."""
        if self.unit_conversion is not None:
            start, end = map(self.unit_conversion.convert, (start, end))
        if self.included_qty is None:
            return start, end, ZERO
        units = EXACT.subtract(end, start)
        start = max(EXACT.subtract(start, self.included_qty), ZERO)
        end = max(EXACT.subtract(end, self.included_qty), ZERO)
        return start, end, EXACT.subtract(units, EXACT.subtract(end, start))

    def _spent(self, part: Part, before: Before) -> Decimal:
        """Return what the model made of the parts before; only limits ask."""
        if part.opens or not self._is_limited:
            return ZERO
        if before.amount is not None:
            return before.amount
        if self.source is Source.AMOUNTS:
            raise self._not_splittable("its limits need what the events before it came to")
        return self.model.cost(Part(ZERO, part.start, opens=True, quantities=before.quantities))

    def _settled(self, spent: Decimal, modelled: Decimal, *, opens: bool) -> Decimal:
        whole = self._limited(EXACT.add(spent, modelled))
        return whole if opens else EXACT.subtract(whole, self._limited(spent))

    def _limited(self, amount: Decimal) -> Decimal:
        """Take off the discount, then hold the amount within its limits."""
        amount = EXACT.multiply(amount, self._left)
        if self.maximum_amount is not None:
            amount = min(amount, self.maximum_amount)
        return amount if self.minimum_amount is None else max(amount, self.minimum_amount)

    def _units(self, evaluation: Evaluation) -> list[Step]:
        """Return how metered units became those that are priced."""
        steps = []
        start, units = evaluation.before.quantity, evaluation.use.quantity
        if self.unit_conversion is not None:
            convert = self.unit_conversion.convert
            start, end = convert(start), convert(EXACT.add(start, units))
            steps.append(Step(StepKind.CONVERSION, start, end, units))
        used = evaluation.included_used
        if used > ZERO:
            steps.append(Step(StepKind.INCLUDED, start, EXACT.add(start, used), used))
        return steps

    def _adjusted(self, evaluation: Evaluation) -> list[Step]:
        """Return what discount and limits take off and add."""
        if self._is_plain:
            return []
        modelled, spent = evaluation.modelled, evaluation.spent
        share = EXACT.minus(per_cent(self.discount_percent or ZERO))
        steps = [Step(StepKind.DISCOUNT, ZERO, ZERO, modelled, share)]
        after = EXACT.multiply(EXACT.add(spent, modelled), self._left)
        earlier = None if evaluation.part.opens else EXACT.multiply(spent, self._left)
        for kind, missing in (
            (StepKind.MAXIMUM, self._above_maximum),
            (StepKind.MINIMUM, self._below_minimum),
        ):
            due = missing(after)
            if earlier is not None:
                due = EXACT.subtract(due, missing(earlier))
            steps.append(Step(kind, ZERO, ZERO, ZERO, ZERO, due))
        return [step for step in steps if step.amount != ZERO]

    def _above_maximum(self, amount: Decimal) -> Decimal:
        if self.maximum_amount is None:
            return ZERO
        return min(EXACT.subtract(self.maximum_amount, amount), ZERO)

    def _below_minimum(self, amount: Decimal) -> Decimal:
        if self.minimum_amount is None:
            return ZERO
        return max(EXACT.subtract(self.minimum_amount, amount), ZERO)

    def _not_splittable(self, why: str) -> PriceNotSplittable:
        return PriceNotSplittable(
            f"a part of a period has no {self.model_name} price of its own: {why}; price the whole period",
            model=self.model_name,
        )


def _shared(share: Share, amount: Decimal | None) -> Decimal | None:
    return None if amount is None else share.of(amount)
