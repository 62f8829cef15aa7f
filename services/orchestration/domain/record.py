"""A payment as it is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from services.orchestration.domain.config import MerchantConfig
from services.orchestration.domain.issues import Findings
from services.orchestration.domain.limits import Bound
from services.orchestration.domain.payment import Attempt, PaymentStatus, Progress
from services.orchestration.domain.plan import Decision, Plan
from services.orchestration.domain.request import Context
from services.orchestration.domain.tree import Object
from services.runtime.errors import Code, DomainError
from services.runtime.money import Money


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment with everything that is known of it.

    Attributes:
        request_key: UUID under which a repeat of the request is recognised.
        context: what was understood of the request.
        plan: how the amount is spread; None when the request was refused.
        progress: steps, attempts and status; None when the request was refused.
        config_version: of the merchant's configuration; 0 when there was none.
    """

    payment_id: str
    request_key: str
    merchant_id: str
    order_id: str
    person_id: str
    org_id: str
    currency: str
    total_minor: int
    context: Context
    status: PaymentStatus
    config_version: int
    created_at: datetime
    updated_at: datetime
    plan: Plan | None = None
    progress: Progress | None = None

    @property
    def taken_minor(self) -> int:
        """What it took of its order, or may still take."""
        if self.progress is None:
            return 0
        if self.status in (PaymentStatus.PENDING, PaymentStatus.RESOLVING):
            return self.total_minor
        return self.progress.reachable_minor

    @property
    def work(self) -> Progress:
        """Return the progress of a payment that was not refused."""
        assert self.progress is not None, "a refused payment has no progress"
        return self.progress

    def bin_of(self, step_index: int) -> str:
        """Return the first digits of a step's card, as its request tells them; empty when it does not."""
        step = self.work.steps[step_index]
        for each in self.context.preferences:
            if (each.method, each.token) == (step.method, step.token) and each.bin:
                return each.bin
        return self.context.bin

    def with_attempt(self, attempt: Attempt) -> Payment:
        """Return the payment with an attempt added, or replaced by its new state."""
        others = {a.attempt_id: a for a in self.work.attempts}
        others[attempt.attempt_id] = attempt
        progress = replace(self.work, attempts=tuple(others.values()))
        return replace(self, progress=progress)

    def with_status(self, status: PaymentStatus) -> Payment:
        """Return the payment in another status."""
        return replace(self, status=status, progress=replace(self.work, status=status))


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it came, and what could be read of it.

    Attributes:
        body: the bytes that make two requests the same or not.
        tree: the request's JSON object; None when there is none.
        findings: what reading has found so far.
        key: idempotency key beside the body, from field or header; empty without one.
        odd_key: true when that key was no UUID.
        card_key: true when that key held a card number, so that it must not be kept in any form.
        order_limit: most that all payments of the order may take together; None without a limit.
    """

    body: bytes
    tree: Object | None
    findings: Findings
    key: str = ""
    odd_key: bool = False
    card_key: bool = False
    order_limit: Money | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be done with a request.

    Attributes:
        request_key: what recognises a repeat of it.
        bounds: the limits that it counts against.
    """

    context: Context
    plan: Plan | None
    decisions: list[Decision]
    config: MerchantConfig | None
    request_key: str
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """What ListPayments selects; empty texts let everything pass."""

    merchant_id: str = ""
    order_id: str = ""
    status: str = ""


class OrderLimitExceeded(DomainError):
    """With one more payment an order would be paid beyond its limit."""

    code = Code.FAILED_PRECONDITION
    reason = "ORDER_LIMIT_EXCEEDED"
    state_dependent = True
    order_id: str
    open_minor: int
    currency_code: str
