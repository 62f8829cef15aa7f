"""What agreements publishes: one event for each edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message
from payments.events.v1 import agreement_events_pb2 as pb

from services.agreements.domain import edits as domain
from services.agreements.domain.difference import changes
from services.agreements.domain.fold import Agreement, Step
from services.agreements.messages.agreements import change_message
from services.runtime.edge import values as edge
from services.runtime.money import format_decimal

_Fields = dict[str, Any]


def all_told(steps: Sequence[Step]) -> list[Message]:
    """Tell of edits, in their order."""
    return [told(step) for step in steps]


def told(step: Step) -> Message:
    """Tell of an edit."""
    entry = step.entry
    head: _Fields = {
        "agreement_id": step.after.agreement_id,
        "revision": entry.revision,
        "effective_at": edge.stamp(entry.effective_at),
        "recorded_at": edge.stamp(entry.recorded_at),
    }
    if step.before is None:
        return _created(head, step.after)
    return _TELLERS.get(type(entry.edit), _terms_changed)(head, entry.edit, step.before, step.after)


def _created(head: _Fields, after: Agreement) -> Message:
    return pb.AgreementCreated(
        **head, buyer=after.buyer, seller=after.seller, currency_code=after.currency_code
    )


def _product_added(head: _Fields, edit: Any, _before: Agreement, _after: Agreement) -> Message:
    return pb.AgreementProductAdded(**head, **_product(edit.product))


def _product_removed(head: _Fields, edit: Any, before: Agreement, _after: Agreement) -> Message:
    return pb.AgreementProductRemoved(**head, **_product(_found(before, edit.product_id)))


def _price_changed(head: _Fields, edit: Any, before: Agreement, after: Agreement) -> Message:
    was, is_ = _found(before, edit.product_id), _found(after, edit.product_id)
    return pb.AgreementPriceChanged(
        **head,
        product_id=edit.product_id,
        sku=is_.sku,
        unit_price_from=format_decimal(was.unit_price),
        unit_price_to=format_decimal(is_.unit_price),
    )


def _quantity_changed(head: _Fields, edit: Any, before: Agreement, after: Agreement) -> Message:
    was, is_ = _found(before, edit.product_id), _found(after, edit.product_id)
    return pb.AgreementQuantityChanged(
        **head,
        product_id=edit.product_id,
        sku=is_.sku,
        quantity_from=format_decimal(was.quantity_at(after.effective_at)),
        quantity_to=format_decimal(is_.quantity_at(after.effective_at)),
    )


def _status_changed(head: _Fields, _edit: Any, before: Agreement, after: Agreement) -> Message:
    return pb.AgreementStatusChanged(
        **head,
        status_from=before.status.value,
        status_to=after.status.value,
        service_status=after.service_status.value,
        billing_status=after.billing_status.value,
    )


def _renewed(head: _Fields, edit: Any, before: Agreement, after: Agreement) -> Message:
    return pb.AgreementRenewed(
        **head,
        term_end_at_from=edge.stamp_or_none(before.end_at),
        term_end_at_to=edge.stamp_or_none(after.end_at),
        price_change_pct=format_decimal(edit.price_change_pct),
    )


def _party_assigned(head: _Fields, edit: Any, _before: Agreement, _after: Agreement) -> Message:
    return pb.AgreementPartyAssigned(
        **head,
        role=edit.party.role.value,
        party_id=edit.party.party_id,
        share_pct=format_decimal(edit.party.share_pct),
    )


def _terms_changed(head: _Fields, edit: Any, before: Agreement, after: Agreement) -> Message:
    differing = [change_message(each) for each in changes(before, after)]
    return pb.AgreementTermsChanged(**head, edit=edit.name, changes=differing)


_TELLERS: dict[type[domain.Edit], Callable[[_Fields, Any, Agreement, Agreement], Message]] = {
    domain.AddProduct: _product_added,
    domain.RemoveProduct: _product_removed,
    domain.ChangePrice: _price_changed,
    domain.ChangeQuantity: _quantity_changed,
    domain.Activate: _status_changed,
    domain.Suspend: _status_changed,
    domain.Resume: _status_changed,
    domain.Terminate: _status_changed,
    domain.Renew: _renewed,
    domain.AssignParty: _party_assigned,
}


def _product(product: domain.Product) -> _Fields:
    return {
        "product_id": product.product_id,
        "sku": product.sku,
        "quantity": format_decimal(product.quantity),
        "unit_price": format_decimal(product.unit_price),
    }


def _found(agreement: Agreement, product_id: str) -> domain.Product:
    return next(each for each in agreement.products if each.product_id == product_id)
