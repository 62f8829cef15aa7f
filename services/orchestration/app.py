"""Use cases of payments and merchant configurations."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from services.orchestration import store
from services.orchestration.domain import config as config_rules
from services.orchestration.domain import plan as planner
from services.orchestration.domain.config import MerchantConfig
from services.orchestration.domain.issues import Findings, Issue, Severity
from services.orchestration.domain.payment import PaymentStatus, Progress
from services.orchestration.domain.payment import Policy as PaymentPolicy
from services.orchestration.domain.plan import Decision, Plan
from services.orchestration.domain.record import Payment
from services.orchestration.domain.request import Context, interpret, with_findings
from services.orchestration.domain.tree import Object
from services.orchestration.engine import LEASE_MARGIN_MS
from services.orchestration.store import Filter, StoredConfig
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound, RequestIdReused
from services.runtime.ids import derived_uuid, new_id, request_id_of
from services.runtime.work import Claim

EXTERNAL_REQUEST = "orchestration/external-request"
PLAN_COVERAGE = "plan/coverage"
_SEVERITIES = {Severity.INFO: "LOW", Severity.WARNING: "MEDIUM", Severity.ERROR: "HIGH"}
# What is kept of a caller's deadline for reading and sending the answer.
ANSWER_BUDGET_SECONDS = 0.1
WAIT_SECONDS_MAX = 30.0


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
    """

    body: bytes
    tree: Object | None
    findings: Findings
    key: str = ""
    odd_key: bool = False
    card_key: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be done with a request.

    Attributes:
        request_key: what recognises a repeat of it.
    """

    context: Context
    plan: Plan | None
    decisions: list[Decision]
    config: MerchantConfig | None
    request_key: str


class Runs(Protocol):
    """The payments that this process works on.

    Attributes:
        owner: names it in leases.
    """

    owner: str

    @property
    def full(self) -> bool:
        """True when a further payment is better left to whoever finds it due."""

    def begin(self, lease: Claim) -> object:
        """Work on a payment in the background."""

    async def wait(self, tenant_id: str, payment_id: str, seconds: float) -> bool:
        """Wait until this process stops to work on a payment; False when it does not, or not in time."""


class Payments:
    """Takes, shows and lists payments."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    async def create(self, incoming: Incoming) -> tuple[Payment, bool]:
        """Store a payment and work on it for as long as the caller waits; says whether it was there before.

        A payment that was refused for the merchant's configuration alone is planned again, under its id: such a
        refusal is no answer for ever.

        Raises:
            RequestIdReused: the key came before with another body.
        """
        context = interpret(incoming.tree, incoming.findings)
        key = request_key(incoming, context)
        body_hash = hashlib.sha256(incoming.body).digest()
        call = current()
        async with self._database.unit_of_work("orchestration.payment.create") as work:
            planned = await _plan(work, context, incoming.findings, key)
            payment = _new_payment(work, planned, key)
            epoch = await store.insert_payment(
                work,
                payment,
                body_hash,
                call=call,
                lease_owner=self._runs.owner,
                lease_ms=LEASE_MARGIN_MS,
            )
            if epoch is None:
                payment, epoch = await self._met_again(work, key, body_hash, planned)
            if epoch is not None:
                _report(work, payment.payment_id, key, planned.context)
        if epoch is not None and payment.plan is not None and not self._runs.full:
            lease = Claim(
                call.tenant_id, payment.payment_id, epoch, call.correlation_id, call.causation_id
            )
            self._runs.begin(lease)
        return await self._reached(payment.payment_id), epoch is None

    async def plan(self, incoming: Incoming) -> Planned:
        """Show what `create` would do; stores and charges nothing."""
        context = interpret(incoming.tree, incoming.findings)
        key = _key_of(incoming, context)
        async with self._database.read() as work:
            return await _plan(work, context, incoming.findings, key)

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

    async def _met_again(
        self, work: UnitOfWork, key: str, body_hash: bytes, planned: Planned
    ) -> tuple[Payment, int | None]:
        """Return the payment that a key stands for, and an epoch if it was refused and has now been planned."""
        # Behind the winner's commit: the conflict itself shows nothing of the winner.
        payment_id, first_hash = await store.find_by_key(work, key)
        if first_hash != body_hash:
            raise RequestIdReused(
                f"request_id {key} was used before with another body; a new payment needs a new one",
                request_id=key,
            )
        (before,) = await store.load(work, [payment_id])
        payment = _planned_again(before, planned)
        if payment is None:
            return before, None
        epoch = await store.plan_again(
            work,
            payment,
            call=current(),
            lease_owner=self._runs.owner,
            lease_ms=LEASE_MARGIN_MS,
        )
        return payment, epoch

    async def _reached(self, payment_id: str) -> Payment:
        """Wait for the end of a payment within the caller's deadline; returns the state that was reached.

        What this process does not work on (another does, or a question is due later) is answered as it stands.
        """
        call = current()
        deadline = call.deadline_at or time.monotonic() + WAIT_SECONDS_MAX
        until = min(deadline, time.monotonic() + WAIT_SECONDS_MAX) - ANSWER_BUDGET_SECONDS
        await self._runs.wait(call.tenant_id, payment_id, until - time.monotonic())
        return await self.get(payment_id)


class MerchantConfigs:
    """Keeps how merchants want to be paid."""

    def __init__(self, database: Database, processor_ids: frozenset[str]) -> None:
        self._database = database
        self._processor_ids = processor_ids

    async def put(self, work: UnitOfWork, config: MerchantConfig) -> int:
        """Store a version, audited; returns the version that holds.

        Raises:
            UnknownProcessor, InvalidField, UnknownCurrency: it could not be carried out.
        """
        config_rules.check(config, self._processor_ids)
        await store.lock_merchant(work, config.merchant_id)
        stored = await store.find_configs(work, config.merchant_id)
        before = stored[0].config if stored else None
        version = before.version if before else 0
        if before == replace(config, version=version):
            return version
        config = replace(config, version=version + 1)
        await store.insert_config(work, config, current().principal_id)
        work.audit(
            "merchant_config",
            config.merchant_id,
            asdict(before) if before else None,
            asdict(config),
        )
        return config.version

    async def get(self, merchant_id: str, version: int) -> StoredConfig:
        """Return a version, 0 for the current one. Raises NotFound."""
        async with self._database.read() as work:
            found = await store.find_configs(work, merchant_id, version=version)
        if not found:
            name = f"{merchant_id} version {version}" if version else merchant_id
            raise NotFound("merchant_config", name)
        return found[0]

    async def versions(self, merchant_id: str, *, before: int, limit: int) -> list[StoredConfig]:
        """Return versions of a merchant, the newest first. Raises NotFound for one that has none."""
        async with self._database.read() as work:
            found = await store.find_configs(work, merchant_id, before=before, limit=limit)
        if not found and not before:
            raise NotFound("merchant_config", merchant_id)
        return found


async def _check_merchant(work: UnitOfWork, merchant_id: str) -> None:
    """Refuse a merchant of whom nothing is known; payments that were refused may name one without a configuration."""
    known = await store.find_configs(work, merchant_id)
    known_otherwise = await store.list_ids(work, Filter(merchant_id), before="", limit=1)
    if not known and not known_otherwise:
        raise NotFound("merchant", merchant_id)


def request_key(incoming: Incoming, context: Context) -> str:
    """Return the UUID that recognises a repeat, and report a key that is missing or odd.

    A key that holds a card number is dropped, and with it the protection that its sender counts on: the payment is
    refused, under a key that the body alone gives.
    """
    if incoming.card_key:
        message = "the idempotency key held a card number; nothing is charged, send a UUID"
        incoming.findings.refuse("request_id", "CARD_DATA", message)
    elif incoming.key:
        if incoming.odd_key:
            message = "the idempotency key is no UUID; it was mapped to one"
            incoming.findings.info("request_id", "ODD_IDEMPOTENCY_KEY", message)
        if context.body_key and request_id_of(context.body_key) != incoming.key:
            message = "the body's key was ignored, since another one came beside it: only that one recognises a repeat"
            incoming.findings.warn("idempotency_key", "IDEMPOTENCY_KEY_IGNORED", message)
    elif not context.body_key and not context.body_key_dropped:
        message = "no idempotency key was sent; the body stands for itself, so send a key with each payment"
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


async def _plan(work: UnitOfWork, context: Context, findings: Findings, key: str) -> Planned:
    config = None
    if context.merchant_id:
        stored = await store.find_configs(work, context.merchant_id)
        config = stored[0].config if stored else None
    plan, decisions = planner.build(context, config, findings)
    return Planned(with_findings(context, findings), plan, decisions, config, key)


def _new_payment(work: UnitOfWork, planned: Planned, key: str) -> Payment:
    payment_id = new_id("pay")
    context = planned.context
    payment = Payment(
        payment_id=payment_id,
        request_key=key,
        merchant_id=context.merchant_id,
        order_id=context.order_id or payment_id,
        person_id=context.person_id,
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
    progress = Progress(status, plan.steps, (), policy)
    return replace(payment, status=status, plan=plan, progress=progress)


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
        currency=context.currency,
        total_minor=context.amount_minor,
        context=context,
    )
    return _with_plan(payment, planned)


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
    return PLAN_COVERAGE if issue.code == "PLAN_NOT_COVERED" else EXTERNAL_REQUEST
