"""The ledger as payments see it, by its stub."""

from __future__ import annotations

from uuid import UUID

from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc, posting_pb2

from services.orchestration.domain.booking import (
    RECEIVED,
    Booked,
    Fact,
    LedgerTransfer,
    not_bookable,
)
from services.runtime.edge import values as edge
from services.runtime.edge.channels import Channels
from services.runtime.errors import TRANSIENT_CODES, DomainError, NotFound

# What the references of payments are of, in the ledger.
_KIND = "payment"


class LedgerClient:
    """LedgerService, for what payments need of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def check_recipes(self) -> None:
        """Make sure that the ledger posts by recipes.

        Raises:
            DomainError: it cannot be reached, or is of the release before, which has no recipes.
        """
        await self._stub.GetRecipe(ledger_service_pb2.GetRecipeRequest(name=RECEIVED))

    async def post(self, fact: Fact, request_id: UUID) -> Booked:
        """Post a fact, or find the posting of it that is in the books.

        Raises:
            PaymentNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """
        try:
            response = await self._stub.PostRecipe(_request(fact, request_id))
        except DomainError as error:
            if error.code in TRANSIENT_CODES:
                raise
            raise not_bookable(fact.payment_id, fact.attempt_id, error.reason) from error
        posting = response.posting
        booked_minor = sum(leg.transfer.transfer.amount.minor_units for leg in posting.legs)
        return Booked(booked_minor, posting_id=UUID(posting.posting_id))

    async def find_transfer(self, transfer_id: UUID) -> LedgerTransfer | None:
        """Return a transfer, or None where there is none. Raises DomainError when the ledger cannot be reached."""
        request = ledger_service_pb2.GetTransferRequest(transfer_id=str(transfer_id))
        try:
            response = await self._stub.GetTransfer(request)
        except DomainError as error:
            if error.reason == NotFound.reason:
                return None
            raise
        found = response.transfer.transfer
        return LedgerTransfer(
            transfer_id=transfer_id,
            amount=edge.money_of(found.amount),
            code=found.code,
            posted=found.kind == ledger_pb2.KIND_POSTED,
            attempt_id=found.metadata.get("attempt_id", ""),
        )

    @property
    def _stub(self) -> ledger_service_pb2_grpc.LedgerServiceAsyncStub:
        stub: ledger_service_pb2_grpc.LedgerServiceAsyncStub
        stub = ledger_service_pb2_grpc.LedgerServiceStub(self._channels.channel("ledger"))
        return stub


def _request(fact: Fact, request_id: UUID) -> ledger_service_pb2.PostRecipeRequest:
    parameters = {name: posting_pb2.Parameter(text=text) for name, text in fact.parameters.items()}
    parameters["amount"] = posting_pb2.Parameter(amount=edge.money(fact.amount))
    return ledger_service_pb2.PostRecipeRequest(
        request_id=str(request_id),
        recipe=fact.recipe,
        parameters=parameters,
        reference=ledger_pb2.Reference(kind=_KIND, id=fact.payment_id, part=fact.attempt_id),
        effective_at=edge.stamp_or_none(fact.effective_at),
    )
