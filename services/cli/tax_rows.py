"""Taxes as rows of tables."""

from __future__ import annotations

from collections.abc import Iterable

from payments.pricing.v1 import pricing_pb2

from services.cli.output import enum_name, plain_money, print_table, when

RATE_COLUMNS = ("jurisdiction", "tax", "tax code", "since, UTC", "per cent", "how", "authority")
PROFILE_COLUMNS = (
    "organisation",
    "since, UTC",
    "taxed in",
    "tax id",
    "exempt by",
    "reverse charge",
)
POLICY_COLUMNS = ("country", "without a rate", "rounded by")
TOTAL_COLUMNS = ("tax", "per cent", "on", "tax amount", "how")


def rate(item: pricing_pb2.TaxRate) -> tuple[str, ...]:
    """Write a tax rate."""
    return (
        item.jurisdiction,
        item.tax,
        item.tax_code or "all others",
        when(item.effective_at) or "ever",
        item.rate_percent or "-",
        _how(enum_name(item, "treatment"), inclusive=item.inclusive, compound=item.compound),
        item.authority or item.jurisdiction,
    )


def profile(item: pricing_pb2.TaxProfile) -> tuple[str, ...]:
    """Write a tax profile."""
    exempt = ", ".join(f"{each.jurisdiction} {each.certificate}" for each in item.exemptions)
    return (
        item.org_id,
        when(item.effective_at) or "ever",
        f"{item.country}-{item.region}" if item.region else item.country,
        item.tax_id,
        exempt or "-",
        "yes" if item.reverse_charge else "-",
    )


def policy(item: pricing_pb2.TaxPolicy) -> tuple[str, ...]:
    """Write a tax policy."""
    return item.country or "all others", enum_name(item, "missing"), enum_name(item, "rounding")


def show_totals(title: str, totals: Iterable[pricing_pb2.TaxTotal]) -> None:
    """Print what taxes come to, if there are any."""
    rows = [
        (
            f"{each.jurisdiction} {each.tax}",
            each.rate_percent if each.rate_percent != "0" else "-",
            plain_money(each.taxable_amount),
            plain_money(each.amount),
            _how(enum_name(each, "treatment"), inclusive=each.inclusive),
        )
        for each in totals
    ]
    if rows:
        print_table(title, TOTAL_COLUMNS, rows, right=TOTAL_COLUMNS[1:4])


def _how(treatment: str, *, inclusive: bool, compound: bool = False) -> str:
    if treatment not in {"", "taxed"}:
        return treatment.replace("_", " ")
    told = "included" if inclusive else "added"
    return f"{told}, compound" if compound else told
