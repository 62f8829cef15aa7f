"""Billing and the ledger as settlement sees them, by their stubs."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from payments.billing.v1 import charge_service_pb2, charge_service_pb2_grpc
from payments.ledger.v1 import ledger_service_pb2, ledger_service_pb2_grpc

from services.runtime.edge.channels import Channels
from services.runtime.errors import TRANSIENT_CODES, DomainError, NotFound
from services.settlement.domain.checks import Expected
from services.settlement.domain.earnings import Earning
from services.settlement.domain.payouts import Payout, Posting, not_bookable
from services.settlement.messages import others as messages


class BillingClient:
    """ChargeService, for what settlement needs of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def earnings(self, charge_id: str) -> Sequence[Earning]:
        """Return what parties earn on the lines of a charge, by line. Raises NotFound, or what billing refuses with."""
        stub = charge_service_pb2_grpc.ChargeServiceStub(self._channels.channel("billing"))
        response = await stub.GetCharge(charge_service_pb2.GetChargeRequest(charge_id=charge_id))
        return messages.earnings(response.charge)


class LedgerClient:
    """LedgerService, for what settlement needs of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def post(self, payout: Payout, posting: Posting) -> UUID:
        """Post a step of a payout, or find the posting of it that is in the books; returns its id.

        Raises:
            PayoutNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """
        try:
            response = await self._stub.PostRecipe(messages.request(payout, posting))
        except DomainError as error:
            if error.code in TRANSIENT_CODES:
                raise
            result = error.metadata.get("result") or error.reason
            raise not_bookable(posting, result) from error
        return UUID(response.posting.posting_id)

    async def balance(self, expected: Expected) -> tuple[str, int]:
        """Return the account that should hold something, and what it holds: credits less debits, in minor units.

        Raises:
            DomainError: the ledger cannot be reached.
        """
        account_id = messages.account_of(expected)
        try:
            response = await self._stub.GetAccount(
                ledger_service_pb2.GetAccountRequest(account_id=account_id)
            )
        except DomainError as error:
            if error.reason == NotFound.reason:
                return account_id, 0
            raise
        sums = response.account.balances
        return account_id, sums.credits_posted - sums.debits_posted

    @property
    def _stub(self) -> ledger_service_pb2_grpc.LedgerServiceAsyncStub:
        stub: ledger_service_pb2_grpc.LedgerServiceAsyncStub
        stub = ledger_service_pb2_grpc.LedgerServiceStub(self._channels.channel("ledger"))
        return stub
