"""Use cases of billing. A charge goes: request claimed → frozen (PENDING) → posted by the ledger → SETTLED.

Each arrow is a transaction of its own or a call that may be repeated; none is open while another service is asked.
Whoever comes after a crash, the same caller or the sweep, goes on from the last arrow that was passed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from google.protobuf.message import Message
from payments.events.v1.billing_events_pb2 import (
    ChargeCreated,
    RatingCompleted,
    RatingFailed,
    UsageAggregated,
    UsageRated,
)
from payments.type.v1 import type_pb2

from services.billing import store
from services.billing.domain import postings
from services.billing.domain.charges import (
    Charge,
    ChargeOverlaps,
    ChargeStatus,
    PeriodNotEnded,
    Rating,
    Span,
    charge_id_of,
    chargeable,
    freeze,
    overlaps,
)
from services.billing.domain.postings import PostingVerdict
from services.billing.domain.transfers import LedgerAccount, LedgerTransfer
from services.billing.store import ChargeFilter, Place
from services.runtime.context import current
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError, NotFound, RequestInProgress
from services.runtime.idempotency import Idempotency, Request
from services.runtime.money import Money, format_decimal

# Name of the use case in the idempotency records. Never change it: answers are kept under it.
CREATE_CHARGE = "billing.create_charge"

# How often a call starts over because another call of the same request ended first. Once suffices, save for crashes.
TRIES_MAX = 3
# In one `usage.aggregated` or `usage.rated`, so that the event stays small whatever the charge.
LINES_TOLD_MAX = 500

ResponseT = TypeVar("ResponseT", bound=Message)


class _AnsweredMeanwhile(Exception):
    """Another call of the same request ended first: what it stored is the answer of this one too."""


class Rater(Protocol):
    """Rates usage: pricing, by its stub."""

    async def rate(self, org_id: str, period: Span) -> Rating:
        """Rate the usage of an organisation in a period. Raises what pricing refuses with."""


class Books(Protocol):
    """Posts transfers: the ledger, by its stub."""

    async def create_accounts(self, accounts: Sequence[LedgerAccount]) -> list[tuple[str, str]]:
        """Create accounts; returns those that cannot serve, each with the name of the verdict."""

    async def post(self, transfers: Sequence[LedgerTransfer]) -> list[PostingVerdict]:
        """Post transfers as one chain, all or none; returns a verdict for each."""


@dataclass(frozen=True, slots=True)
class Order:
    """What CreateCharge was asked for.

    Attributes:
        allow_open: a period that has not ended is charged up to now.
    """

    request_id: str
    org_id: str
    period: Span
    allow_open: bool = False


class Charges:
    """The charges of the tenant that the running call acts for."""

    def __init__(
        self, database: Database, idempotency: Idempotency, rater: Rater, books: Books
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._rater = rater
        self._books = books

    async def create(
        self,
        order: Order,
        request: Request,
        response_type: type[ResponseT],
        answer: Callable[[Charge], ResponseT],
    ) -> ResponseT:
        """Make the charge of a request, or go on with the one that it made before.

        `answer` turns the finished charge into the response that is stored for the request.

        Raises:
            ChargeOverlaps, ChargeTooLarge, AmountOverflow: not the request's answer, like pricing's refusals; the same
                call is carried out once what it depends on was changed.
            PeriodNotEnded: likewise, once the period has ended.
            PostingRefused: likewise, once the account was put right.
            DomainError: another service could not be reached; the same call goes on from here.
        """
        for _ in range(TRIES_MAX):
            with contextlib.suppress(_AnsweredMeanwhile):
                return await self._create(order, request, response_type, answer)
        raise RequestInProgress(
            f"other calls with request_id {order.request_id} keep ending first; make the same call again",
            request_id=order.request_id,
            retry_after_ms=100,
        )

    async def _create(
        self,
        order: Order,
        request: Request,
        response_type: type[ResponseT],
        answer: Callable[[Charge], ResponseT],
    ) -> ResponseT:
        # A literal, because the tidy test reads the names of crash points; the same as CREATE_CHARGE.
        stored = await self._idempotency.claim("billing.create_charge", request, response_type)
        if stored is not None:
            return stored
        crashpoint("billing.after_claim")
        try:
            charge = await self._frozen(order, request)
        except DomainError as error:
            passing = error.retry_after_ms is not None or isinstance(error, PeriodNotEnded)
            if error.transient or passing:
                raise
            await self._refuse(order, request, error)
            raise
        await self._post(charge)
        async with self._database.unit_of_work("billing.settle_charge") as work:
            # The request before the charge, as everywhere: locks in one order do not meet in a circle.
            await self._idempotency.hold(work, CREATE_CHARGE, request)
            charge = await self._settled(work, charge)
            response = answer(charge)
            await self._idempotency.finish(work, CREATE_CHARGE, request, response)
        return response

    async def resume(self, charge_id: str) -> None:
        """Finish a charge that its caller left behind. Its request gets its answer when it comes again.

        Raises:
            PostingRefused: the ledger does not take it.
            DomainError: the ledger could not be reached.
        """
        charge = await self.get(charge_id)
        if charge.status is ChargeStatus.PENDING:
            await self._post(charge)
            async with self._database.unit_of_work("billing.resume_charge") as work:
                await self._settled(work, charge)

    async def get(self, charge_id: str) -> Charge:
        """Return a charge. Raises NotFound."""
        async with self._database.read() as work:
            return await _existing(work, charge_id)

    async def list(
        self, wanted: ChargeFilter, after: Place | None, limit: int
    ) -> tuple[list[Charge], bool]:
        """List charges without proofs behind `after`, the latest period first; says whether there are more."""
        async with self._database.read() as work:
            return await store.list_charges(work, wanted, after, limit)

    async def _frozen(self, order: Order, request: Request) -> Charge:
        """Return the charge of an order with its lines stored for good; rate them when nobody did."""
        charge_id = charge_id_of(current().tenant_id, order.request_id)
        async with self._database.read() as work:
            charge = await store.read_charge(work, charge_id)
            if charge is not None:
                # Whatever the clock says by now, and of an open period the end that it was given.
                return charge
            period = chargeable(order.org_id, order.period, work.now, allow_open=order.allow_open)
            other = await store.overlapping(work, order.org_id, period)
        if other is not None:
            raise overlaps(order.org_id, other)
        rating = await self._rater.rate(order.org_id, period)
        async with self._database.unit_of_work("billing.freeze_charge") as work:
            if not await self._idempotency.hold(work, CREATE_CHARGE, request):
                raise _AnsweredMeanwhile
            winner = await store.read_charge(work, charge_id)
            if winner is not None:
                return winner
            charge = postings.planned(freeze(charge_id, order.org_id, period, rating, work.now))
            if await store.insert_charge(work, charge):
                work.publish(_usage_aggregated(charge))
                work.publish(_usage_rated(charge))
                return charge
            other = await store.overlapping(work, order.org_id, period)
            assert other is not None, "a charge that cannot be stored has a rival"
            raise overlaps(order.org_id, other)

    async def _refuse(self, order: Order, request: Request, error: DomainError) -> None:
        """Keep a refusal, unless a call of the same request has frozen the charge meanwhile; tell of a new one."""
        charge_id = charge_id_of(current().tenant_id, order.request_id)
        async with self._database.unit_of_work("billing.refuse_charge") as work:
            held = await self._idempotency.hold(work, CREATE_CHARGE, request)
            if not held or await store.read_charge(work, charge_id) is not None:
                raise _AnsweredMeanwhile
            is_new = await self._idempotency.refuse(work, CREATE_CHARGE, request, error)
            if is_new and not isinstance(error, ChargeOverlaps):
                work.publish(_rating_failed(order, error, work.now))

    async def _post(self, charge: Charge) -> None:
        """Have the ledger post a charge. Sent again, the same ids post nothing twice."""
        if charge.status is ChargeStatus.SETTLED:
            return
        if charge.transfers:
            accounts = postings.accounts(charge.transfers)
            for account_id, result in await self._books.create_accounts(accounts):
                raise postings.posting_refused(charge, account_id, result)
            verdict = postings.refusal(await self._books.post(charge.transfers))
            if verdict is not None:
                await self._refused(charge, verdict)
        crashpoint("billing.after_posting")

    async def _refused(self, charge: Charge, verdict: PostingVerdict) -> None:
        if postings.is_final(verdict):
            async with self._database.unit_of_work("billing.next_round") as work:
                await store.next_round(work, postings.next_round(charge))
        account_id = postings.account_at_fault(verdict)
        raise postings.posting_refused(charge, account_id, verdict.original or verdict.result)

    @staticmethod
    async def _settled(work: UnitOfWork, charge: Charge) -> Charge:
        """Mark a posted charge as settled and tell the mesh, once whoever gets there first."""
        if charge.status is ChargeStatus.PENDING and await store.settle(work, charge.charge_id):
            work.publish(_rating_completed(charge))
            work.publish(_charge_created(charge))
        return await _existing(work, charge.charge_id)


async def _existing(work: UnitOfWork, charge_id: str) -> Charge:
    charge = await store.read_charge(work, charge_id)
    if charge is None:
        raise NotFound("charge", charge_id)
    return charge


def _usage_aggregated(charge: Charge) -> UsageAggregated:
    event = UsageAggregated(
        org_id=charge.org_id,
        charge_id=charge.charge_id,
        usage_snapshot=charge.usage_snapshot,
        totals_omitted=len(charge.lines) > LINES_TOLD_MAX,
    )
    event.period.start_at.FromDatetime(charge.period.start_at)
    event.period.end_at.FromDatetime(charge.period.end_at)
    for line in () if event.totals_omitted else charge.lines:
        event.totals.add(
            sku=line.rated.sku,
            project_id=line.rated.project_id,
            quantity=format_decimal(line.rated.quantity),
        )
    return event


def _usage_rated(charge: Charge) -> UsageRated:
    event = UsageRated(
        org_id=charge.org_id,
        charge_id=charge.charge_id,
        plan_id=charge.plan_id,
        plan_version=charge.plan_version,
        usage_snapshot=charge.usage_snapshot,
        lines_omitted=len(charge.lines) > LINES_TOLD_MAX,
    )
    event.period.start_at.FromDatetime(charge.period.start_at)
    event.period.end_at.FromDatetime(charge.period.end_at)
    for line in () if event.lines_omitted else charge.lines:
        told = event.lines.add(
            sku=line.rated.sku,
            project_id=line.rated.project_id,
            quantity=format_decimal(line.rated.quantity),
        )
        told.amount.CopyFrom(_money(line.rated.amount))
    return event


def _rating_failed(order: Order, error: DomainError, now: datetime) -> RatingFailed:
    event = RatingFailed(
        org_id=order.org_id,
        request_id=order.request_id,
        reason=error.reason,
        message=error.message[:1000],
    )
    event.period.start_at.FromDatetime(order.period.start_at)
    event.period.end_at.FromDatetime(order.period.end_at)
    event.failed_at.FromDatetime(now)
    return event


def _rating_completed(charge: Charge) -> RatingCompleted:
    event = RatingCompleted(
        org_id=charge.org_id,
        charge_id=charge.charge_id,
        plan_id=charge.plan_id,
        plan_version=charge.plan_version,
        usage_snapshot=charge.usage_snapshot,
        line_count=len(charge.lines),
    )
    event.period.start_at.FromDatetime(charge.period.start_at)
    event.period.end_at.FromDatetime(charge.period.end_at)
    event.total.CopyFrom(_money(charge.total))
    return event


def _charge_created(charge: Charge) -> ChargeCreated:
    event = ChargeCreated(
        charge_id=charge.charge_id, org_id=charge.org_id, line_count=len(charge.lines)
    )
    event.period.start_at.FromDatetime(charge.period.start_at)
    event.period.end_at.FromDatetime(charge.period.end_at)
    event.created_at.FromDatetime(charge.created_at)
    event.total.CopyFrom(_money(charge.total))
    event.partner_total.CopyFrom(_money(charge.partner_total))
    return event


def _money(amount: Money) -> type_pb2.Money:
    return type_pb2.Money(currency_code=amount.currency_code, minor_units=amount.minor_units)
