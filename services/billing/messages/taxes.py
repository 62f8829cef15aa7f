"""Taxes of lines, as messages and back, and as documents that are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from payments.pricing.v1 import pricing_pb2

from services.billing.domain.taxes import Tax, TaxKey, TaxTotal
from services.runtime.edge import values as edge
from services.runtime.money import Money, format_decimal, parse_decimal


def tax_of(message: pricing_pb2.TaxLine) -> Tax:
    """Read a tax. Raises InvalidField, UnknownCurrency."""
    key = TaxKey(
        jurisdiction=message.jurisdiction,
        tax=message.tax,
        tax_code=message.tax_code,
        authority=message.authority,
        treatment=int(message.treatment),
        rate=parse_decimal(message.rate_percent or "0", "rate_percent"),
        inclusive=message.inclusive,
        compound=message.compound,
    )
    return Tax(
        key=key,
        rounding=int(message.rounding),
        rate_effective_at=edge.moment_of(message.rate_effective_at),
        taxable=edge.money_of(message.taxable_amount),
        amount=edge.money_of(message.amount),
        prior=edge.money_of(message.prior_amount) if message.HasField("prior_amount") else None,
        certificate=message.certificate,
        reason=message.reason,
    )


def tax_message(tax: Tax) -> pricing_pb2.TaxLine:
    """Write a tax."""
    key = tax.key
    return pricing_pb2.TaxLine(
        jurisdiction=key.jurisdiction,
        tax=key.tax,
        tax_code=key.tax_code,
        authority=key.authority,
        treatment=key.treatment,  # type: ignore[arg-type] # a number that pricing gave
        rate_percent=format_decimal(key.rate),
        inclusive=key.inclusive,
        compound=key.compound,
        rounding=tax.rounding,  # type: ignore[arg-type] # likewise
        rate_effective_at=edge.stamp(tax.rate_effective_at),
        taxable_amount=edge.money(tax.taxable),
        amount=edge.money(tax.amount),
        prior_amount=None if tax.prior is None else edge.money(tax.prior),
        certificate=tax.certificate,
        reason=tax.reason,
        amount_before=None if tax.before is None else edge.money(tax.before),
    )


def total_messages(totals: Iterable[TaxTotal]) -> list[pricing_pb2.TaxTotal]:
    """Write what taxes come to."""
    return [
        pricing_pb2.TaxTotal(
            jurisdiction=each.jurisdiction,
            tax=each.tax,
            treatment=each.treatment,  # type: ignore[arg-type] # a number that pricing gave
            rate_percent=format_decimal(each.rate),
            inclusive=each.inclusive,
            taxable_amount=edge.money(each.taxable),
            amount=edge.money(each.amount),
        )
        for each in totals
    ]


def stored(taxes: Sequence[Tax]) -> list[dict[str, Any]] | None:
    """Write the taxes of a line for the store; None for none. Amounts are in minor units of the charge's currency."""
    found = [
        {
            **tax.key._asdict(),
            "rate": format_decimal(tax.key.rate),
            "rounding": tax.rounding,
            "rate_effective_at": tax.rate_effective_at.isoformat(),
            "taxable": tax.taxable.minor_units,
            "amount": tax.amount.minor_units,
            "prior": None if tax.prior is None else tax.prior.minor_units,
            "certificate": tax.certificate,
            "reason": tax.reason,
            "before": None if tax.before is None else tax.before.minor_units,
        }
        for tax in taxes
    ]
    return found or None


def of_stored(rows: Sequence[Mapping[str, Any]] | None, currency_code: str) -> tuple[Tax, ...]:
    """Read the same."""

    def money(minor_units: int | None) -> Money | None:
        return None if minor_units is None else Money(currency_code, minor_units)

    return tuple(
        Tax(
            key=TaxKey(
                **{name: row[name] for name in TaxKey._fields if name != "rate"},
                rate=Decimal(row["rate"]),
            ),
            rounding=row["rounding"],
            rate_effective_at=datetime.fromisoformat(row["rate_effective_at"]),
            taxable=Money(currency_code, row["taxable"]),
            amount=Money(currency_code, row["amount"]),
            prior=money(row["prior"]),
            certificate=row["certificate"],
            reason=row["reason"],
            before=money(row["before"]),
        )
        for row in rows or ()
    )
