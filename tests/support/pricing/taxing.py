"""Tax tables for tests: some by hand, and any of them drawn."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from services.pricing.domain.tax_table import (
    TaxExemption,
    TaxPolicy,
    TaxProfile,
    TaxRate,
    TaxRounding,
    Treatment,
)
from services.pricing.domain.taxes import TaxRules

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
QUEBEC = TaxProfile("acme", "CA", "QC", SINCE, "123456789 RT0001")
PERCENTS = st.decimals(Decimal("0.001"), 100, places=3)
LEVIED = st.sampled_from(
    [Treatment.TAXED, Treatment.TAXED, Treatment.TAXED, Treatment.ZERO_RATED, Treatment.EXEMPT]
)


def rate(
    jurisdiction: str = "CA",
    tax: str = "GST",
    per_cent: str = "5",
    *,
    tax_code: str = "",
    inclusive: bool = False,
    compound: bool = False,
    position: int = 0,
    treatment: Treatment = Treatment.TAXED,
) -> TaxRate:
    """Declare a rate."""
    return TaxRate(
        jurisdiction,
        tax,
        tax_code,
        SINCE,
        treatment,
        Decimal(per_cent) if treatment is Treatment.TAXED else None,
        inclusive,
        compound,
        position,
    )


def rules(
    *rates: TaxRate,
    profile: TaxProfile | None = QUEBEC,
    rounding: TaxRounding = TaxRounding.LINE,
) -> TaxRules:
    """Return the rules of some rates."""
    return TaxRules.of(profile, TaxPolicy("", rounding=rounding), rates)


@st.composite
def any_rules(draw: st.DrawFn, codes: tuple[str, ...] = ("", "a", "b")) -> TaxRules:
    """Draw rules that have a rate for every tax code."""
    rates = []
    for number, (jurisdiction, tax) in enumerate((("CA", "GST"), ("CA-QC", "QST"), ("CA", "ECO"))):
        for code in draw(st.sets(st.sampled_from(codes), min_size=1)) | (
            {""} if not number else set()
        ):
            treatment = draw(LEVIED)
            rates.append(
                TaxRate(
                    jurisdiction,
                    tax,
                    code,
                    SINCE,
                    treatment,
                    draw(PERCENTS) if treatment is Treatment.TAXED else None,
                    draw(st.booleans()),
                    draw(st.booleans()),
                    draw(st.integers(0, 2)),
                    draw(st.sampled_from(["", "revenue-agency"])),
                )
            )
    exemptions = draw(st.sampled_from([(), (), (TaxExemption("CA-QC", "cert-7"),)]))
    profile = TaxProfile("acme", "CA", "QC", SINCE, "1", draw(st.integers(0, 5)) == 0, exemptions)
    policy = TaxPolicy("", rounding=draw(st.sampled_from(TaxRounding)))
    return TaxRules.of(profile, policy, rates)
