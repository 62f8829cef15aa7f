"""The ledger as orders sees it, by its stub."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from payments.ledger.v1 import ledger_service_pb2, ledger_service_pb2_grpc

from services.orders.domain import credits
from services.orders.domain.actions import ExternalAction, not_bookable
from services.orders.domain.credits import Entry
from services.orders.messages import postings as messages
from services.runtime.edge.channels import Channels
from services.runtime.errors import TRANSIENT_CODES, DomainError


class LedgerClient:
    """LedgerService, for payments and refunds of orders."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def post(self, action: ExternalAction) -> UUID:
        """Post a payment, or find the posting of it that is in the books; returns its id.

        Raises:
            OrderPaymentNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """
        return await _posted(
            self._channels, messages.request(action), lambda result: not_bookable(action, result)
        )


class CreditLedgerClient:
    """LedgerService, for credits."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def post(self, entry: Entry) -> UUID:
        """Post an entry, or find the posting of it that is in the books; returns its id.

        Raises:
            CreditsNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """
        return await _posted(
            *(self._channels, messages.credit_request(entry)),
            lambda result: credits.not_bookable(entry, result),
        )


async def _posted(
    channels: Channels,
    request: ledger_service_pb2.PostRecipeRequest,
    refusal: Callable[[str], DomainError],
) -> UUID:
    stub = ledger_service_pb2_grpc.LedgerServiceStub(channels.channel("ledger"))
    try:
        response = await stub.PostRecipe(request)
    except DomainError as error:
        if error.code in TRANSIENT_CODES:
            raise
        raise refusal(error.metadata.get("result") or error.reason) from error
    return UUID(response.posting.posting_id)
