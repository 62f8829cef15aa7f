"""Edits and what they carry, as messages and back."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from payments.agreements.v1 import agreements_pb2 as pb

from services.agreements.domain import edits as domain
from services.runtime.cards import remark
from services.runtime.edge import values as edge
from services.runtime.errors import InvalidField
from services.runtime.money import Money, format_decimal, parse_decimal

ROLES = edge.Names(domain.Role, pb.Role, "ROLE_")


def edit_of(message: pb.Edit, path: str) -> domain.Edit:
    """Read an edit. Raises InvalidField for values that contradict one another; UnknownCurrency."""
    kind = message.WhichOneof("edit")
    assert kind is not None, "validation lets no empty edit through"
    found: domain.Edit = _READERS[kind](getattr(message, kind), f"{path}.{kind}")
    return found


def edit_message(edit: domain.Edit) -> pb.Edit:
    """Write an edit."""
    return pb.Edit(**{edit.name: _WRITERS[type(edit)](edit)})


def product_message(product: domain.Product, moment: datetime | None = None) -> pb.Product:
    """Write a product; with a moment, also the quantity that holds then."""
    return pb.Product(
        product_id=product.product_id,
        sku=product.sku,
        quantity=format_decimal(product.quantity),
        unit_price=format_decimal(product.unit_price),
        minimum_commitment=_money(product.minimum_commitment),
        hosting_fee=_money(product.hosting_fee),
        ramp=[
            pb.RampStep(from_at=edge.stamp(step.from_at), quantity=format_decimal(step.quantity))
            for step in product.ramp
        ],
        quantity_in_force="" if moment is None else format_decimal(product.quantity_at(moment)),
    )


def term_message(start_at: datetime, end_at: datetime | None) -> pb.Term:
    """Write a term."""
    return pb.Term(start_at=edge.stamp(start_at), end_at=edge.stamp_or_none(end_at))


def auto_renew_message(renewal: domain.AutoRenewal | None) -> pb.AutoRenew | None:
    """Write how an agreement renews."""
    if renewal is None:
        return None
    return pb.AutoRenew(
        months=renewal.months,
        notice_days=renewal.notice_days,
        price_change_pct=format_decimal(renewal.price_change_pct),
    )


def financing_message(installments: tuple[domain.Installment, ...]) -> pb.Financing | None:
    """Write a schedule of payments."""
    if not installments:
        return None
    return pb.Financing(
        installments=[
            pb.Installment(due_at=edge.stamp(each.due_at), amount=edge.money(each.amount))
            for each in installments
        ]
    )


def party_message(party: domain.Party) -> pb.Party:
    """Write a party."""
    share = format_decimal(party.share_pct)
    return pb.Party(role=ROLES.write(party.role), party_id=party.party_id, share_pct=share)


def _money(amount: Money | None) -> Any:
    return None if amount is None else edge.money(amount)


def _create(message: pb.Create, path: str) -> domain.Create:
    if message.buyer == message.seller:
        raise InvalidField.one(f"{path}.seller", "must not be the buyer")
    start_at = edge.moment_of(message.term.start_at)
    end_at = edge.moment_or_none(message.term, "end_at")
    if end_at is not None and end_at <= start_at:
        raise InvalidField.one(f"{path}.term.end_at", "must be later than start_at")
    # An amount says whether there is such a currency.
    currency = Money(message.currency_code, 0).currency_code
    return domain.Create(message.buyer, message.seller, currency, start_at, end_at)


def _add_product(message: pb.AddProduct, path: str) -> domain.AddProduct:
    product, place = message.product, f"{path}.product"
    if product.quantity_in_force:
        raise InvalidField.one(
            f"{place}.quantity_in_force", "is given by the service: leave it out"
        )
    ramp = tuple(
        domain.RampStep(edge.moment_of(step.from_at), parse_decimal(step.quantity))
        for step in product.ramp
    )
    _check_ascending([step.from_at for step in ramp], f"{place}.ramp", "from_at")
    return domain.AddProduct(
        domain.Product(
            product_id=product.product_id,
            sku=product.sku,
            quantity=parse_decimal(product.quantity),
            unit_price=parse_decimal(product.unit_price),
            minimum_commitment=_positive(product, "minimum_commitment", place),
            hosting_fee=_positive(product, "hosting_fee", place),
            ramp=ramp,
        )
    )


def _set_auto_renew(message: pb.SetAutoRenew, path: str) -> domain.SetAutoRenew:
    if not message.HasField("auto_renew"):
        return domain.SetAutoRenew(None)
    given = message.auto_renew
    pct = _change_pct(given.price_change_pct, f"{path}.auto_renew")
    return domain.SetAutoRenew(domain.AutoRenewal(given.months, given.notice_days, pct))


def _set_financing(message: pb.SetFinancing, path: str) -> domain.SetFinancing:
    place = f"{path}.financing.installments"
    found = []
    for index, each in enumerate(message.financing.installments):
        amount = _positive(each, "amount", f"{place}[{index}]")
        assert amount is not None, "validation asks for it"
        found.append(domain.Installment(edge.moment_of(each.due_at), amount))
    _check_ascending([each.due_at for each in found], place, "due_at")
    return domain.SetFinancing(tuple(found))


def _assign_party(message: pb.AssignParty, path: str) -> domain.AssignParty:
    given = message.party
    role = ROLES.read(given.role)
    assert role is not None, "validation lets no other role through"
    share = parse_decimal(given.share_pct)
    if share and role in (domain.Role.BUYER, domain.Role.SELLER):
        raise InvalidField.one(f"{path}.party.share_pct", "must be 0 for a buyer or a seller")
    return domain.AssignParty(domain.Party(role, given.party_id, share))


def _change_pct(text: str, path: str) -> Decimal:
    pct = parse_decimal(text)
    if pct <= -100:
        raise InvalidField.one(f"{path}.price_change_pct", "must be above -100")
    return pct


def _positive(message: Any, field: str, path: str) -> Money | None:
    if not message.HasField(field):
        return None
    amount = edge.money_of(getattr(message, field))
    if amount.minor_units <= 0:
        raise InvalidField.one(f"{path}.{field}.minor_units", "must be above 0")
    return amount


def _check_ascending(moments: list[datetime], path: str, field: str) -> None:
    for index in range(1, len(moments)):
        if moments[index] <= moments[index - 1]:
            raise InvalidField.one(
                f"{path}[{index}].{field}", "must be later than that of the one before"
            )


_READERS: dict[str, Any] = {
    "create": _create,
    "add_product": _add_product,
    "remove_product": lambda given, _: domain.RemoveProduct(given.product_id),
    "change_price": lambda given, _: domain.ChangePrice(
        given.product_id, parse_decimal(given.unit_price)
    ),
    "change_quantity": lambda given, _: domain.ChangeQuantity(
        given.product_id, parse_decimal(given.quantity)
    ),
    "activate": lambda _given, _: domain.Activate(),
    "suspend": lambda given, _: domain.Suspend(remark(given.reason)),
    "resume": lambda _given, _: domain.Resume(),
    "terminate": lambda given, _: domain.Terminate(remark(given.reason)),
    "renew": lambda given, path: domain.Renew(
        given.months, _change_pct(given.price_change_pct, path)
    ),
    "set_auto_renew": _set_auto_renew,
    "extend_term": lambda given, _: domain.ExtendTerm(edge.moment_of(given.end_at)),
    "set_financing": _set_financing,
    "set_downpayment": lambda given, path: domain.SetDownpayment(
        _positive(given, "downpayment", path)
    ),
    "assign_party": _assign_party,
    "change_terms": lambda given, _: domain.ChangeTerms(given.net_days, remark(given.reference)),
}
_WRITERS: dict[type[domain.Edit], Any] = {
    domain.Create: lambda edit: pb.Create(
        buyer=edit.buyer,
        seller=edit.seller,
        currency_code=edit.currency_code,
        term=term_message(edit.start_at, edit.end_at),
    ),
    domain.AddProduct: lambda edit: pb.AddProduct(product=product_message(edit.product)),
    domain.RemoveProduct: lambda edit: pb.RemoveProduct(product_id=edit.product_id),
    domain.ChangePrice: lambda edit: pb.ChangePrice(
        product_id=edit.product_id, unit_price=format_decimal(edit.unit_price)
    ),
    domain.ChangeQuantity: lambda edit: pb.ChangeQuantity(
        product_id=edit.product_id, quantity=format_decimal(edit.quantity)
    ),
    domain.Activate: lambda _: pb.Activate(),
    domain.Suspend: lambda edit: pb.Suspend(reason=edit.reason),
    domain.Resume: lambda _: pb.Resume(),
    domain.Terminate: lambda edit: pb.Terminate(reason=edit.reason),
    domain.Renew: lambda edit: pb.Renew(
        months=edit.months, price_change_pct=format_decimal(edit.price_change_pct)
    ),
    domain.SetAutoRenew: lambda edit: pb.SetAutoRenew(
        auto_renew=auto_renew_message(edit.auto_renew)
    ),
    domain.ExtendTerm: lambda edit: pb.ExtendTerm(end_at=edge.stamp(edit.end_at)),
    domain.SetFinancing: lambda edit: pb.SetFinancing(
        financing=financing_message(edit.installments)
    ),
    domain.SetDownpayment: lambda edit: pb.SetDownpayment(downpayment=_money(edit.downpayment)),
    domain.AssignParty: lambda edit: pb.AssignParty(party=party_message(edit.party)),
    domain.ChangeTerms: lambda edit: pb.ChangeTerms(
        net_days=edit.net_days, reference=edit.reference
    ),
}
