"""Pricing and the ledger as billing sees them, by their stubs.

What they refuse with passes on as it came, save that an account does not take a charge: that is said of the charge.
"""

from __future__ import annotations

from collections.abc import Sequence

from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc
from payments.pricing.v1 import pricing_pb2, pricing_service_pb2, pricing_service_pb2_grpc

from services.billing.domain.charges import Charge, RatedLine, Rating, Span
from services.billing.domain.frozen import FrozenTransfer, LedgerAccount, PostingVerdict
from services.billing.domain.postings import posting_refused
from services.billing.domain.transfers import LedgerTransfer, Posting
from services.billing.messages import postings as messages
from services.billing.messages import taxes
from services.runtime.edge import values as edge
from services.runtime.edge.channels import Channels
from services.runtime.edge.status import RemoteError
from services.runtime.errors import DomainError, Internal
from services.runtime.money import parse_decimal
from services.runtime.turns import aside

# An account that the tenant made before, with an owner, limit or metadata of its own, serves as well.
_SERVES = frozenset(
    {
        ledger_service_pb2.ACCOUNT_RESULT_OK,
        ledger_service_pb2.ACCOUNT_RESULT_EXISTS,
        ledger_service_pb2.ACCOUNT_RESULT_EXISTS_WITH_DIFFERENT_FLAGS,
        ledger_service_pb2.ACCOUNT_RESULT_EXISTS_WITH_DIFFERENT_OWNER,
        ledger_service_pb2.ACCOUNT_RESULT_EXISTS_WITH_DIFFERENT_METADATA,
    }
)


class PricingClient:
    """PricingService, for what billing needs of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def rate(self, org_id: str, period: Span) -> Rating:
        """Rate the usage of an organisation in a period. Raises what pricing refuses with, e.g. NO_PLAN."""
        request = pricing_service_pb2.RateUsageRequest(
            org_id=org_id, period=edge.period(period.start_at, period.end_at)
        )
        stub = pricing_service_pb2_grpc.PricingServiceStub(self._channels.channel("pricing"))
        response = await stub.RateUsage(request)
        return await aside(len(response.lines), _rating, org_id, response)


class LedgerClient:
    """LedgerService, for what billing needs of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def post_recipe(self, charge: Charge) -> tuple[Posting, list[LedgerTransfer]]:
        """Post a charge by its recipe, or return what was posted of it before.

        Raises:
            PostingRefused: an account does not take a leg; nothing was posted.
            DomainError: whatever else the ledger refuses with.
        """
        request = await aside(len(charge.lines), messages.request, charge)
        try:
            response = await self._stub.PostRecipe(request)
        except RemoteError as refusal:
            if refusal.reason != "RECIPE_REFUSED":
                raise
            told = refusal.metadata
            raise posting_refused(
                charge.charge_id, told.get("account_id", ""), told.get("result", "")
            ) from refusal
        return await aside(len(charge.lines), messages.posted, charge, response)

    async def create_accounts(self, accounts: Sequence[LedgerAccount]) -> list[tuple[str, str]]:
        """Create accounts of frozen transfers; returns those that cannot serve, each with the name of the verdict."""
        request = ledger_service_pb2.CreateAccountsRequest(
            accounts=[_account_message(account) for account in accounts]
        )
        response = await self._stub.CreateAccounts(request)
        return [
            (item.account_id, _result_name(ledger_service_pb2.AccountResult.Name(item.result)))
            for item in response.results
            if item.result not in _SERVES
        ]

    async def post(self, transfers: Sequence[FrozenTransfer]) -> list[PostingVerdict]:
        """Post frozen transfers as one chain, all or none; returns a verdict for each."""
        last = len(transfers) - 1
        request = ledger_service_pb2.PostTransfersRequest(
            transfers=[
                _transfer_message(item, linked=place < last) for place, item in enumerate(transfers)
            ]
        )
        response = await self._stub.PostTransfers(request)
        name = ledger_service_pb2.TransferResult.Name
        return [
            PostingVerdict(transfer, _result_name(name(item.result)))
            for transfer, item in zip(transfers, response.results, strict=True)
        ]

    @property
    def _stub(self) -> ledger_service_pb2_grpc.LedgerServiceAsyncStub:
        stub: ledger_service_pb2_grpc.LedgerServiceAsyncStub
        stub = ledger_service_pb2_grpc.LedgerServiceStub(self._channels.channel("ledger"))
        return stub


def _rating(org_id: str, response: pricing_service_pb2.RateUsageResponse) -> Rating:
    try:
        lines = [_rated_line(line) for line in response.lines]
    except DomainError as error:
        # Not the caller's fault, so not an answer to store.
        raise Internal(f"pricing returned a line that cannot be read: {error}") from error
    rating = Rating(
        lines=lines,
        currency_code=response.total.currency_code,
        plan_id=response.plan_id,
        plan_version=response.plan_version,
        usage_snapshot=response.usage_snapshot,
        usage_ordinal=response.usage_ordinal if response.HasField("usage_ordinal") else None,
        carried_skus=tuple(response.carried_skus),
    )
    if sum(line.amount.minor_units for line in rating.lines) != response.total.minor_units:
        raise Internal(f"the rated lines of {org_id} do not add up to their total")
    return rating


def _rated_line(line: pricing_pb2.RatedLine) -> RatedLine:
    return RatedLine(
        sku=line.sku,
        project_id=line.project_id,
        quantity=parse_decimal(line.quantity, "quantity"),
        exact_amount=parse_decimal(line.exact_amount, "exact_amount"),
        amount=edge.money_of(line.amount),
        partner_id=line.partner_id,
        partner_pct=parse_decimal(line.partner_pct, "partner_pct") if line.partner_pct else None,
        proof=line.proof.SerializeToString(deterministic=True),
        dispute_id=line.dispute_id,
        taxes=tuple(map(taxes.tax_of, line.taxes)),
    )


def _account_message(account: LedgerAccount) -> ledger_pb2.Account:
    return ledger_pb2.Account(
        account_id=account.account_id,
        currency_code=account.currency_code,
        type=ledger_pb2.AccountType.Value(f"ACCOUNT_TYPE_{account.type.value}"),
        owner=account.owner,
    )


def _transfer_message(transfer: FrozenTransfer, *, linked: bool) -> ledger_pb2.Transfer:
    message = ledger_pb2.Transfer(
        transfer_id=str(transfer.transfer_id),
        debit_account_id=transfer.debit_account_id,
        credit_account_id=transfer.credit_account_id,
        amount=edge.money(transfer.amount),
        code=transfer.code,
        kind=ledger_pb2.KIND_POSTED,
        linked=linked,
        metadata={"charge_id": transfer.charge_id, "line_id": transfer.line_id},
    )
    message.effective_at.FromDatetime(transfer.effective_at)
    return message


def _result_name(name: str) -> str:
    return name.removeprefix("TRANSFER_RESULT_").removeprefix("ACCOUNT_RESULT_")
