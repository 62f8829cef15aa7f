"""Use cases of payments and merchant configurations."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace

from services.orchestration.app.engine import LEASE_MARGIN_MS
from services.orchestration.app.known import Known, Planning
from services.orchestration.domain import limits, measures
from services.orchestration.domain import plan as planner
from services.orchestration.domain.config import Capture
from services.orchestration.domain.issues import Findings, Issue, Severity
from services.orchestration.domain.payment import PaymentStatus, Progress
from services.orchestration.domain.payment import Policy as PaymentPolicy
from services.orchestration.domain.record import (
    Filter,
    Incoming,
    OrderLimitExceeded,
    Payment,
    Planned,
)
from services.orchestration.domain.request import ANONYMOUS, Context, interpret, with_findings
from services.orchestration.ports import Processors, Runs
from services.orchestration.store import configs, velocity
from services.orchestration.store import payments as store
from services.runtime.commands import Commands
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import InvalidField, NotFound
from services.runtime.ids import derived_uuid, new_id, request_id_of
from services.runtime.money import Money
from services.runtime.turns import aside
from services.runtime.work import Claim

# Name of the use case in the records of requests. Never change it: payments are found again by it.
CREATE_PAYMENT = "orchestration.create_payment"
EXTERNAL_REQUEST = "orchestration/external-request"
PLAN_COVERAGE = "plan/coverage"
PLAN_LIMITS = "plan/limits"
_SEVERITIES = {Severity.INFO: "LOW", Severity.WARNING: "MEDIUM", Severity.ERROR: "HIGH"}
# What is kept of a caller's deadline for reading and sending the answer.
ANSWER_BUDGET_SECONDS = 0.1
WAIT_SECONDS_MAX = 30.0
_ORDER_PAGE = 100
# A request of more than 8 kB may hold so many members that they are read in a thread.
PART_BYTES = 16


@dataclass(frozen=True, slots=True)
class _NewPayment:
    """A payment to be taken; `key` recognises a repeat of its request."""

    incoming: Incoming
    context: Context
    key: str


@dataclass(frozen=True, slots=True)
class _AcceptedPayment:
    """The payment that a request stands for.

    Attributes:
        epoch: of who works on it; None when it stood before and is left as it is.
    """

    payment_id: str
    epoch: int | None = None


class Payments:
    """Takes, shows and lists payments."""

    def __init__(
        self, database: Database, commands: Commands, runs: Runs, processors: Processors
    ) -> None:
        self._database = database
        self._commands = commands
        self._runs = runs
        self._known = Known(database, processors)

    async def create(self, incoming: Incoming) -> tuple[Payment, bool]:
        """Store a payment and work on it for as long as the caller waits; says whether it was there before.

        A payment that was refused for the merchant's configuration alone is planned again, under its id: such a
        refusal is no answer for ever.

        Raises:
            RequestIdReused: the key came before with another body.
            OrderLimitExceeded: all payments of its order would take more than they may; nothing was stored.
            InvalidField: the order's limit is in another currency.
        """
        context = await _interpreted(incoming)
        key = request_key(incoming, context)
        taken = await self._commands.apply(
            "orchestration.payment.create", self._take, _NewPayment(incoming, context, key)
        )
        return await self.reached(taken.payment_id), taken.epoch is None

    async def _take(self, command: _NewPayment, work: UnitOfWork) -> _AcceptedPayment:
        """Store a payment, or find the one that its request made before."""
        incoming, key = command.incoming, command.key
        planned = await self._plan(
            work, command.context, incoming.findings.copy(), key, counting=True
        )
        payment = _new_payment(work, planned, key)
        payment_id = await self._commands.claim_for(
            work,
            CREATE_PAYMENT,
            key,
            hashlib.sha256(incoming.body).digest(),
            payment.payment_id,
        )
        made_now = payment_id == payment.payment_id
        call = current()
        leasing = store.Leasing(call, self._runs.owner, LEASE_MARGIN_MS)
        epoch: int | None = None
        if made_now:
            epoch = store.insert_payment(work, payment, leasing)
            if payment.status is PaymentStatus.REFUSED:
                work.count(measures.PAYMENTS, 1, status="refused", currency=payment.currency)
        else:
            (before,) = await store.load(work, [payment_id])
            again = _planned_again(before, planned)
            if again is not None:
                payment = again
                epoch = await store.plan_again(work, payment, leasing)
        if epoch is None:
            return _AcceptedPayment(payment_id)
        if incoming.order_limit is not None and payment.plan is not None:
            await _check_order(work, payment, incoming.order_limit)
        if payment.plan is not None and planned.bounds:
            amounts = {bound.slots: bound.amount_minor for bound in planned.bounds}
            windows = limits.windows(planned.bounds)
            velocity.add(work, payment.merchant_id, payment.currency, windows, amounts)
        _report(work, payment_id, key, planned.context)
        lease = Claim(
            call.tenant_id,
            payment_id,
            epoch,
            call.correlation_id,
            call.causation_id,
            traceparent=call.traceparent,
        )
        if payment.plan is not None:
            # With the commit: a repeat that finds the payment waits for whoever works on it.
            work.after_commit(lambda: self.begin(lease))
        return _AcceptedPayment(payment_id, epoch)

    def begin(self, lease: Claim) -> None:
        """Work on a payment in the background, unless too many wait for that: the worker then finds it."""
        if not self._runs.full:
            self._runs.begin(lease)

    async def plan(self, incoming: Incoming) -> Planned:
        """Show what `create` would do; stores and charges nothing."""
        context = await _interpreted(incoming)
        key = _key_of(incoming, context)
        known = await self._known.at_once(context.merchant_id)
        if known is not None:
            return _planned(known, context, incoming.findings, key)
        async with self._database.read() as work:
            return await self._plan(work, context, incoming.findings, key)

    async def get(self, payment_id: str) -> Payment:
        """Return a payment. Raises NotFound."""
        async with self._database.read() as work:
            found = await store.load(work, [payment_id])
        if not found:
            raise NotFound("payment", payment_id)
        return found[0]

    async def list(self, wanted: Filter, *, before: str, limit: int) -> list[Payment]:
        """Return payments, the newest first.

        Raises:
            NotFound: the merchant was never configured and has no payment.
        """
        async with self._database.read() as work:
            ids = await store.list_ids(work, wanted, before=before, limit=limit)
            if wanted.merchant_id and not ids and not before:
                await _check_merchant(work, wanted.merchant_id)
            return await store.load(work, ids)

    async def _plan(
        self,
        work: UnitOfWork,
        context: Context,
        findings: Findings,
        key: str,
        *,
        counting: bool = False,
    ) -> Planned:
        """Plan a request; `counting` keeps others from counting against the same limits meanwhile."""
        planned = _planned(
            await self._known.look(work, context.merchant_id), context, findings, key
        )
        plan, config = planned.plan, planned.config
        if plan is None or config is None or not config.limits:
            return planned
        bounds = limits.bounds(config.limits, _paid(context, plan))
        if counting:
            await velocity.lock(work, context.merchant_id, limits.windows(bounds))
        for bound in bounds:
            counted = await velocity.count(work, context.merchant_id, bound, plan.currency)
            limits.check(bound, counted, plan.currency, findings)
        return replace(
            planned,
            context=with_findings(context, findings),
            plan=None if findings.refused else plan,
            bounds=bounds,
        )

    async def reached(self, payment_id: str) -> Payment:
        """Wait for the end of a payment within the caller's deadline; returns the state that was reached.

        What this process does not work on (another does, or a question is due later) is answered as it stands.
        """
        call = current()
        deadline = call.deadline_at or time.monotonic() + WAIT_SECONDS_MAX
        until = min(deadline, time.monotonic() + WAIT_SECONDS_MAX) - ANSWER_BUDGET_SECONDS
        await self._runs.wait(call.tenant_id, payment_id, until - time.monotonic())
        return await self.get(payment_id)


def _planned(known: Planning, context: Context, findings: Findings, key: str) -> Planned:
    """Plan a request, but for what is counted against limits."""
    plan, decisions = planner.build(
        context, known.config, findings, known.holding, key, known.health
    )
    return Planned(with_findings(context, findings), plan, decisions, known.config, key)


async def _check_merchant(work: UnitOfWork, merchant_id: str) -> None:
    """Refuse a merchant of whom nothing is known; payments that were refused may name one without a configuration."""
    known = await configs.find_configs(work, merchant_id)
    known_otherwise = await store.list_ids(work, Filter(merchant_id), before="", limit=1)
    if not known and not known_otherwise:
        raise NotFound("merchant", merchant_id)


async def _interpreted(incoming: Incoming) -> Context:
    parts = len(incoming.body) // PART_BYTES
    return await aside(parts, interpret, incoming.tree, incoming.findings)


def request_key(incoming: Incoming, context: Context) -> str:
    """Return the UUID that recognises a repeat, and report a key that is missing or odd.

    A key that holds a card number is dropped, and with it the protection that its sender counts on: the payment is
    refused, under a key that the body alone gives.
    """
    if incoming.card_key:
        message = "the idempotency key contains a card number; nothing is charged, send a UUID"
        incoming.findings.refuse("request_id", "CARD_DATA", message)
    elif incoming.key:
        if incoming.odd_key:
            message = "the idempotency key is not a UUID; it was mapped to one"
            incoming.findings.info("request_id", "ODD_IDEMPOTENCY_KEY", message)
        if context.body_key and request_id_of(context.body_key) != incoming.key:
            message = "the key in the body was ignored: the call came with another one, which alone identifies repeats"
            incoming.findings.warn("idempotency_key", "IDEMPOTENCY_KEY_IGNORED", message)
    elif not context.body_key and not context.body_key_dropped:
        message = "no idempotency key was sent, so one was derived from the body; send a key with each payment"
        incoming.findings.warn("request_id", "MISSING_IDEMPOTENCY_KEY", message)
    return _key_of(incoming, context)


def _key_of(incoming: Incoming, context: Context) -> str:
    """Return the UUID that recognises a repeat.

    Without any key the bytes themselves are the key: the same body for the same merchant and order is the same
    payment, so that a blind retry does not charge twice.
    """
    digest = hashlib.sha256(incoming.body).hexdigest()
    if incoming.card_key:
        return str(derived_uuid("orchestration.body-under-card-key", digest))
    if incoming.key:
        return incoming.key
    if context.body_key:
        return request_id_of(context.body_key)
    return str(derived_uuid("orchestration.body", context.merchant_id, context.order_id, digest))


def _new_payment(work: UnitOfWork, planned: Planned, key: str) -> Payment:
    payment_id = new_id("pay")
    context = planned.context
    payment = Payment(
        payment_id=payment_id,
        request_key=key,
        merchant_id=context.merchant_id,
        order_id=context.order_id or payment_id,
        person_id=context.person_id,
        org_id=context.org_id,
        currency=context.currency,
        total_minor=context.amount_minor,
        context=context,
        status=PaymentStatus.REFUSED,
        config_version=0,
        created_at=work.now,
        updated_at=work.now,
    )
    return _with_plan(payment, planned)


def _with_plan(payment: Payment, planned: Planned) -> Payment:
    plan, config = planned.plan, planned.config
    payment = replace(payment, config_version=config.version if config else 0)
    if plan is None or config is None:
        return payment
    policy = PaymentPolicy(
        config.attempts_per_processor_max, config.call_timeout_ms, config.partial_allowed
    )
    status = PaymentStatus.PENDING
    progress = Progress(status, plan.steps, (), policy, plan.capture is Capture.MANUAL)
    return replace(payment, status=status, plan=plan, progress=progress)


async def _check_order(work: UnitOfWork, payment: Payment, limit: Money) -> None:
    """Refuse a payment beyond what its order may take. Raises OrderLimitExceeded, InvalidField."""
    if limit.currency_code != payment.currency:
        raise InvalidField.one(
            "order_limit", f"is in {limit.currency_code}, and the payment in {payment.currency}"
        )
    await store.lock_order(work, payment.order_id)
    left = limit.minor_units - payment.total_minor
    before = ""
    while True:
        ids = await store.list_ids(
            work, Filter(order_id=payment.order_id), before=before, limit=_ORDER_PAGE
        )
        others = await store.load(work, [each for each in ids if each != payment.payment_id])
        left -= sum(each.taken_minor for each in others)
        if len(ids) < _ORDER_PAGE:
            break
        before = ids[-1]
    if left < 0:
        free = max(left + payment.total_minor, 0)
        raise OrderLimitExceeded(
            f"order {payment.order_id} has {free} minor units of {payment.currency} open, not {payment.total_minor}: "
            "see what its payments took, and pay the rest",
            order_id=payment.order_id,
            open_minor=free,
            currency_code=payment.currency,
        )


def _planned_again(before: Payment, planned: Planned) -> Payment | None:
    """Return a refused payment as it is to be now; None when its answer stands."""
    issues = before.context.issues
    if before.status is not PaymentStatus.REFUSED or not planner.refused_for_configuration(issues):
        return None
    same_refusals = planner.refusals(planned.context.issues) == planner.refusals(issues)
    if planned.plan is None and same_refusals:
        return None
    history = planner.as_history(issues, before.config_version)
    found = Findings([*history, *planned.context.issues], planned.context.refused)
    context = with_findings(planned.context, found)
    payment = replace(
        before,
        person_id=context.person_id,
        org_id=context.org_id,
        currency=context.currency,
        total_minor=context.amount_minor,
        context=context,
    )
    return _with_plan(payment, planned)


def _paid(context: Context, plan: planner.Plan) -> limits.Paid:
    by_token: dict[str, int] = {}
    for step in plan.steps:
        if step.token:
            by_token[step.token] = by_token.get(step.token, 0) + step.amount_minor
    payer = "" if context.person_id == ANONYMOUS else context.person_id
    return limits.Paid(payer, plan.total_minor, by_token)


def _report(work: UnitOfWork, payment_id: str, key: str, context: Context) -> None:
    """Tell the contract monitor of every finding, in the transaction that stores the payment."""
    for issue in context.issues:
        work.violation(
            _contract_of(issue),
            _SEVERITIES[issue.severity],
            f"{issue.code}: {issue.message}",
            request_id=key,
            subject_id=payment_id,
        )


def _contract_of(issue: Issue) -> str:
    if issue.code == "LIMIT_EXCEEDED":
        return PLAN_LIMITS
    return PLAN_COVERAGE if issue.code == "PLAN_NOT_COVERED" else EXTERNAL_REQUEST
