"""The ledger as orders sees it, by its stub."""

from __future__ import annotations

from uuid import UUID

from payments.ledger.v1 import ledger_service_pb2_grpc

from services.orders.domain.actions import ExternalAction, not_bookable
from services.orders.messages import postings as messages
from services.runtime.edge.channels import Channels
from services.runtime.errors import TRANSIENT_CODES, DomainError


class LedgerClient:
    """LedgerService, for what orders needs of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def post(self, action: ExternalAction) -> UUID:
        """Post a payment, or find the posting of it that is in the books; returns its id.

        Raises:
            OrderPaymentNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """
        stub = ledger_service_pb2_grpc.LedgerServiceStub(self._channels.channel("ledger"))
        try:
            response = await stub.PostRecipe(messages.request(action))
        except DomainError as error:
            if error.code in TRANSIENT_CODES:
                raise
            result = error.metadata.get("result") or error.reason
            raise not_bookable(action, result) from error
        return UUID(response.posting.posting_id)
