"""Budgets: what an organisation may use in a period, and how much of it is used, held and free.

Values of a budget are decimals in its own measure: units of the SKU, or major units of its currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from services.metering.domain.times import EPOCH
from services.metering.domain.usage import zone
from services.runtime.errors import Code, DomainError
from services.runtime.money import CONTEXT, format_decimal

BUDGETS_MAX = 10_000
"""Budgets of a tenant; a process that enforces them holds all of them in memory."""
ZERO = Decimal(0)
FOREVER = datetime(9999, 12, 31, tzinfo=UTC)
"""Where a period ends that never ends, and one that reaches beyond the years that there are."""

Key = tuple[UUID, datetime]
"""A budget's series and the start of a period of it: what is counted together."""


class BudgetPeriod(StrEnum):
    """How long a budget lasts before it begins anew."""

    CALENDAR_MONTH = "CALENDAR_MONTH"
    DAY = "DAY"
    TOTAL = "TOTAL"


class BudgetMode(StrEnum):
    """What a budget does once it is used up."""

    SOFT = "SOFT"
    HARD = "HARD"


class BudgetExceeded(DomainError):
    """A hard budget has not as much free as is asked for."""

    code = Code.FAILED_PRECONDITION
    reason = "BUDGET_EXCEEDED"
    state_dependent = True
    budget_id: str
    limit: str
    used: str
    held: str
    asked: str


class BudgetFixed(DomainError):
    """A budget of this name differs in what a budget cannot change."""

    code = Code.FAILED_PRECONDITION
    reason = "BUDGET_FIXED"
    state_dependent = True
    budget_id: str
    field: str


class BudgetsFull(DomainError):
    """The tenant has as many budgets as it may."""

    code = Code.FAILED_PRECONDITION
    reason = "BUDGETS_FULL"
    state_dependent = True
    budgets_max: int


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on what an organisation uses in a period.

    Attributes:
        series: what is counted for it; a budget that was deleted and put again begins another one.
        sku: what it limits; empty: all SKUs.
        limit: most that may be used, in its measure.
        currency_code: of a budget in money; empty for one in units.
        thresholds_pct: ascending.
        enforce_in_ingest: usage events beyond it are rejected.
    """

    budget_id: str
    series: UUID
    org_id: str
    sku: str
    period: BudgetPeriod
    time_zone: str
    limit: Decimal
    currency_code: str
    mode: BudgetMode
    thresholds_pct: tuple[int, ...] = ()
    enforce_in_ingest: bool = False
    description: str = ""

    @property
    def is_hard(self) -> bool:
        """Whether it refuses what is not free."""
        return self.mode is BudgetMode.HARD

    def covers(self, org_id: str, sku: str) -> bool:
        """Whether it limits a use."""
        return self.org_id == org_id and self.sku in ("", sku)

    def bounds(self, at: datetime) -> tuple[datetime, datetime]:
        """Return the first instant of the period that an instant lies in, and the first behind it."""
        if self.period is BudgetPeriod.TOTAL:
            return EPOCH, FOREVER
        return _bounds(at, self.period, zone(self.time_zone))

    def key(self, at: datetime) -> Key:
        """Return what is counted together with a use at an instant."""
        return self.series, self.bounds(at)[0]

    def threshold(self, pct: int) -> Decimal:
        """Return what must be used to reach a threshold."""
        return CONTEXT.divide(CONTEXT.multiply(self.limit, pct), 100)


@dataclass(frozen=True, slots=True)
class BudgetView:
    """A budget as it stands."""

    budget: Budget
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold that what is used has come to."""

    budget: Budget
    start_at: datetime
    threshold_pct: int
    used: Decimal


@dataclass(slots=True)
class Counter:
    """What counts against a budget in one period.

    Attributes:
        used: committed, or stored as usage.
        held: kept by open holds.
        told: thresholds that were told of.
        quantities: of a budget in money, the units by SKU that the values of used and held are the price of.
        changed: since it was read.
    """

    budget: Budget
    start_at: datetime
    used: Decimal = ZERO
    held: Decimal = ZERO
    told: frozenset[int] = frozenset()
    quantities: dict[str, Decimal] = field(default_factory=dict)
    changed: bool = False

    @property
    def key(self) -> Key:
        """What is counted together."""
        return self.budget.series, self.start_at

    @property
    def free(self) -> Decimal:
        """What is neither used nor held; never below zero."""
        return max(CONTEXT.subtract(self.budget.limit, CONTEXT.add(self.used, self.held)), ZERO)

    def has_room(self, value: Decimal) -> bool:
        """Whether so much more may be used or held; nothing always may."""
        return value <= 0 or value <= self.free

    def refusal(self, asked: Decimal) -> BudgetExceeded:
        """Say that so much is not free."""
        budget = self.budget
        unit = budget.currency_code or "units"
        return BudgetExceeded(
            f"budget {budget.budget_id} has {format_decimal(self.free)} of {format_decimal(budget.limit)} {unit} free, "
            f"not {format_decimal(asked)}: ask for less, wait until holds or the period end, or raise the limit",
            budget_id=budget.budget_id,
            limit=format_decimal(budget.limit),
            used=format_decimal(self.used),
            held=format_decimal(self.held),
            asked=format_decimal(asked),
        )

    def add(self, used: Decimal, held: Decimal, sku: str, quantity: Decimal) -> None:
        """Change what is used and held; `quantity` is how many units more, or fewer, of a SKU that is the price of."""
        self.used = CONTEXT.add(self.used, used)
        self.held = CONTEXT.add(self.held, held)
        assert self.used >= 0 <= self.held, "more is taken from a budget than was put into it"
        if self.budget.currency_code and quantity:
            self.quantities[sku] = CONTEXT.add(self.quantities.get(sku, ZERO), quantity)
        self.changed = True

    def correct(self, used: Decimal, quantities: Mapping[str, Decimal]) -> None:
        """Change what is used by a correction of usage; never below nothing. `quantities` are units by SKU.

        What is out of reach then is told of again once it is reached.
        """
        self.used = max(CONTEXT.add(self.used, used), ZERO)
        for sku, quantity in quantities.items() if self.budget.currency_code else ():
            units = CONTEXT.add(self.quantities.get(sku, ZERO), quantity)
            self.quantities[sku] = max(units, ZERO)
        self.told = frozenset(pct for pct in self.told if self.reached(pct))
        self.changed = True

    def reached(self, pct: int) -> bool:
        """Whether what is used has come to a threshold."""
        return self.used > 0 and self.used >= self.budget.threshold(pct)

    def crossings(self) -> list[Crossing]:
        """Note the thresholds that were reached and not told of, and return them."""
        new = [
            pct for pct in self.budget.thresholds_pct if pct not in self.told and self.reached(pct)
        ]
        if new:
            self.told |= frozenset(new)
            self.changed = True
        return [Crossing(self.budget, self.start_at, pct, self.used) for pct in new]

    def follow(self, budget: Budget) -> None:
        """Go on under other terms: what they put out of reach is told of again once it is reached."""
        self.budget = budget
        self.told = frozenset(
            pct for pct in self.told if pct in budget.thresholds_pct and self.reached(pct)
        )
        self.changed = True


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """How a budget stands in a period."""

    view: BudgetView
    counter: Counter

    @property
    def bounds(self) -> tuple[datetime, datetime] | None:
        """The period; None for one that never ends."""
        budget = self.view.budget
        return None if budget.period is BudgetPeriod.TOTAL else budget.bounds(self.counter.start_at)


class Book:
    """The budgets of a tenant, as they stand in one version.

    Attributes:
        version: counts the changes of the tenant's budgets; 0 where there was none.
        by_series: all of them.
    """

    def __init__(self, version: int, budgets: Iterable[Budget] = ()) -> None:
        self.version = version
        self.by_series = {budget.series: budget for budget in budgets}
        self._of_org: dict[str, list[Budget]] = {}
        for budget in sorted(self.by_series.values(), key=lambda each: each.budget_id):
            self._of_org.setdefault(budget.org_id, []).append(budget)

    def has_org(self, org_id: str) -> bool:
        """Whether an organisation has any."""
        return org_id in self._of_org

    def covering(self, org_id: str, sku: str) -> list[Budget]:
        """Return those that limit a use, by budget_id."""
        return [budget for budget in self._of_org.get(org_id, ()) if budget.sku in ("", sku)]

    def in_money(self, org_id: str, sku: str) -> list[Budget]:
        """Return those among them that limit its price."""
        return [budget for budget in self.covering(org_id, sku) if budget.currency_code]


def check_fixed(before: Budget, after: Budget) -> None:
    """Check that a budget keeps what it cannot change. Raises BudgetFixed."""
    for name in ("org_id", "sku", "period", "time_zone", "currency_code"):
        was, is_ = getattr(before, name), getattr(after, name)
        if was != is_:
            raise BudgetFixed(
                f"budget {before.budget_id} has {name} {str(was) or 'none'!r} for good: delete it and put another, "
                "or use another name",
                budget_id=before.budget_id,
                field=name,
            )


def _bounds(at: datetime, period: BudgetPeriod, where: ZoneInfo) -> tuple[datetime, datetime]:
    try:
        first = _first_day(at.astimezone(where).date(), period)
        start_at, end_at = _midnight(first, where), _midnight(_following(first, period), where)
        if at >= end_at:
            # Clocks were set back over midnight: the old day's hours come once more, and belong to the new one.
            first = _following(first, period)
            start_at, end_at = end_at, _midnight(_following(first, period), where)
    except (ValueError, OverflowError):
        # On the last day that there is, or the first one.
        return _midnight(_first_day(at.astimezone(UTC).date(), period), UTC), FOREVER
    return start_at, end_at


def _first_day(day: date, period: BudgetPeriod) -> date:
    return day.replace(day=1) if period is BudgetPeriod.CALENDAR_MONTH else day


def _following(first: date, period: BudgetPeriod) -> date:
    following = first + timedelta(days=1)
    return (
        (first + timedelta(days=31)).replace(day=1)
        if period is BudgetPeriod.CALENDAR_MONTH
        else following
    )


def _midnight(day: date, where: tzinfo) -> datetime:
    return datetime.combine(day, time(), where).astimezone(UTC)
