"""What differs between two states of an agreement, by path."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from services.agreements.domain.fold import Agreement
from services.runtime.money import Money, format_decimal, format_money


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs; an empty text stands for nothing."""

    path: str
    before: str
    after: str


def changes(before: Agreement | None, after: Agreement) -> list[Change]:
    """Return what differs, by path; before there was an agreement there was nothing."""
    was, is_ = _values(before) if before else {}, _values(after)
    return [
        Change(path, was.get(path, ""), is_.get(path, ""))
        for path in sorted(was.keys() | is_.keys())
        if was.get(path, "") != is_.get(path, "")
    ]


def _values(of: Agreement) -> dict[str, str]:
    found: dict[str, str | int | datetime | Decimal | Money | None] = {
        "buyer": of.buyer,
        "seller": of.seller,
        "currency_code": of.currency_code,
        "term.start_at": of.start_at,
        "term.end_at": of.end_at,
        "downpayment": of.downpayment,
        "status": of.status.value,
        "service_status": of.service_status.value,
        "billing_status": of.billing_status.value,
        "net_days": of.net_days,
        "reference": of.reference,
    }
    if (renewal := of.auto_renew) is not None:
        found["auto_renew.months"] = renewal.months
        found["auto_renew.notice_days"] = renewal.notice_days
        found["auto_renew.price_change_pct"] = renewal.price_change_pct
    for product in of.products:
        place = f"products[{product.product_id}]"
        found[f"{place}.sku"] = product.sku
        found[f"{place}.quantity"] = product.quantity
        found[f"{place}.unit_price"] = product.unit_price
        found[f"{place}.minimum_commitment"] = product.minimum_commitment
        found[f"{place}.hosting_fee"] = product.hosting_fee
        for step in product.ramp:
            found[f"{place}.ramp[{_text(step.from_at)}]"] = step.quantity
    for index, installment in enumerate(of.installments):
        found[f"financing.installments[{index}].due_at"] = installment.due_at
        found[f"financing.installments[{index}].amount"] = installment.amount
    for party in of.parties:
        found[f"parties[{party.role}:{party.party_id}].share_pct"] = party.share_pct
    return {path: _text(value) for path, value in found.items()}


def _text(value: str | int | datetime | Decimal | Money | None) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Decimal():
            return format_decimal(value)
        case Money():
            return f"{format_money(value)} {value.currency_code}"
    return str(value)
