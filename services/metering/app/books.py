"""The budgets of tenants in memory, and what every use of them tells."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from services.metering import facts
from services.metering.domain.budgets import Book, Counter, Crossing
from services.metering.domain.measures import THRESHOLDS
from services.metering.store import budgets as store
from services.runtime.database import UnitOfWork
from services.runtime.money import format_decimal

CONTRACT = "metering/budget"
TENANTS_MAX = 1_000


class BookMemory:
    """Remembers the budgets of a bounded number of tenants, in the version that was read last.

    What is remembered is never trusted alone: whoever uses it compares its version in the transaction.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Book] = OrderedDict()

    def recent(self, tenant_id: str) -> Book | None:
        """Return what is remembered; None for nothing."""
        return self._kept.get(tenant_id)

    async def of_version(self, work: UnitOfWork, version: int) -> Book:
        """Return the budgets of a version that was read behind the shared lock."""
        kept = self._kept.get(work.tenant_id)
        return kept if kept is not None and kept.version == version else await self.fresh(work)

    async def fresh(self, work: UnitOfWork) -> Book:
        """Read the budgets, behind the shared lock."""
        return self.keep(work.tenant_id, await store.read_book(work))

    def keep(self, tenant_id: str, book: Book) -> Book:
        """Remember budgets."""
        self._kept[tenant_id] = book
        self._kept.move_to_end(tenant_id)
        while len(self._kept) > TENANTS_MAX:
            self._kept.popitem(last=False)
        return book


def tell_crossings(work: UnitOfWork, counters: Iterable[Counter]) -> None:
    """Tell of thresholds that changed counters have come to; before the counters are written."""
    for counter in counters:
        if counter.changed:
            for crossing in counter.crossings():
                _tell(work, crossing)


def _tell(work: UnitOfWork, crossing: Crossing) -> None:
    budget = crossing.budget
    work.publish(facts.threshold_reached(crossing, work.now))
    work.count(THRESHOLDS, 1, mode=budget.mode.value.lower())
    if not budget.is_hard:
        unit = budget.currency_code or "units"
        message = (
            f"{budget.org_id} has used {format_decimal(crossing.used)} of {format_decimal(budget.limit)} {unit} of "
            f"budget {budget.budget_id}: {crossing.threshold_pct} % is reached"
        )
        severity = "HIGH" if crossing.threshold_pct >= 100 else "MEDIUM"
        work.violation(CONTRACT, severity, message, subject_id=budget.budget_id)
