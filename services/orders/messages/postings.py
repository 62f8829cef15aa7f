"""Payments and refunds of orders, and what happens to credits, as the ledger posts them."""

from __future__ import annotations

from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, posting_pb2

from services.orders.domain.actions import RECEIVED, REFUNDED, ExternalAction, Method
from services.orders.domain.credits import Entry, Kind
from services.runtime.edge import values as edge
from services.runtime.ids import new_uuid
from services.runtime.money import Money

_KINDS = {RECEIVED: "order_payment", REFUNDED: "order_refund"}


def request(action: ExternalAction) -> ledger_service_pb2.PostRecipeRequest:
    """Write what was taken or given back as the fact that the ledger posts.

    The till, or the bank, is that of the organisation that sells. The ledger knows the fact again by recipe and
    reference. The request_id is new each time: a refusal that was kept under it would stand after its cause is gone.
    """
    method = Method(action.payment_method)
    texts = {"debtor": action.person_id}
    if method is Method.CHECK:
        texts |= {"bank": action.organization_id, "number": action.check_number}
    else:
        texts |= {"till": action.organization_id, "person": action.operator}
    if action.refunded_action_id:
        texts["refund_of"] = action.refunded_action_id
    parameters = {name: posting_pb2.Parameter(text=text) for name, text in texts.items()}
    parameters["amount"] = posting_pb2.Parameter(amount=edge.money(action.amount))
    return ledger_service_pb2.PostRecipeRequest(
        request_id=str(new_uuid()),
        recipe=action.recipe,
        parameters=parameters,
        reference=ledger_pb2.Reference(kind=_KINDS[action.action], id=action.external_action_id),
        effective_at=edge.stamp(action.occurred_at),
    )


def credit_request(entry: Entry) -> ledger_service_pb2.PostRecipeRequest:
    """Write what happened to credits in money as the fact that the ledger posts."""
    parameters = {
        "owner": posting_pb2.Parameter(text=entry.owner_id),
        "amount": posting_pb2.Parameter(amount=edge.money(Money(entry.unit, entry.amount))),
        "grant": posting_pb2.Parameter(text=entry.grant_id),
    }
    if entry.kind in (Kind.GRANTED, Kind.TAKEN_BACK):
        parameters["bought"] = posting_pb2.Parameter(flag=entry.is_bought)
    return ledger_service_pb2.PostRecipeRequest(
        request_id=str(new_uuid()),
        recipe=entry.recipe,
        parameters=parameters,
        reference=ledger_pb2.Reference(kind="credit", id=entry.entry_id),
        effective_at=edge.stamp(entry.recorded_at),
    )
