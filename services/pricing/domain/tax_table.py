"""The things that a catalogue declares of taxes: rates, where organisations are taxed, and how taxes are computed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

from pydantic.dataclasses import dataclass

from services.pricing.domain.values import BEGINNING, ZERO, Dec, Time


class Treatment(StrEnum):
    """Whether a tax is levied, and why not; the last two are of lines only."""

    TAXED = "TAX_TREATMENT_TAXED"
    ZERO_RATED = "TAX_TREATMENT_ZERO_RATED"
    EXEMPT = "TAX_TREATMENT_EXEMPT"
    OUT_OF_SCOPE = "TAX_TREATMENT_OUT_OF_SCOPE"
    CUSTOMER_EXEMPT = "TAX_TREATMENT_CUSTOMER_EXEMPT"
    REVERSE_CHARGE = "TAX_TREATMENT_REVERSE_CHARGE"


class TaxRounding(StrEnum):
    """What of a tax is rounded: that of each line, or that of the document."""

    LINE = "TAX_ROUNDING_LINE"
    DOCUMENT = "TAX_ROUNDING_DOCUMENT"


class TaxMissing(StrEnum):
    """What becomes of a line that no rate is known for."""

    REFUSE = "TAX_MISSING_REFUSE"
    UNTAXED = "TAX_MISSING_UNTAXED"


@dataclass(frozen=True)
class TaxRate:
    """What a tax of a jurisdiction is on a tax code from an instant on.

    Attributes:
        jurisdiction: country, or country and region: `CA`, `CA-QC`.
        tax_code: "": all that have no row of their own.
        rate_percent: None where nothing is levied.
        inclusive: prices hold it.
        compound: it is levied on the taxes before it too.
        authority: who it is owed to; "": the jurisdiction.
        reason: why, in words.
    """

    entity: ClassVar[str] = "tax_rate"

    jurisdiction: str
    tax: str
    tax_code: str = ""
    effective_at: Time = BEGINNING
    treatment: Treatment = Treatment.TAXED
    rate_percent: Dec | None = None
    inclusive: bool = False
    compound: bool = False
    position: int = 0
    authority: str = ""
    reason: str = ""

    @property
    def key(self) -> tuple[str, str, str, datetime]:
        """What it is found by."""
        return (self.jurisdiction, self.tax, self.tax_code, self.effective_at)

    @property
    def per_cent(self) -> Decimal:
        """The rate; 0 where nothing is levied."""
        return self.rate_percent or ZERO

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield (field, problem) of what does not fit together."""
        if self.treatment is Treatment.TAXED and not self.rate_percent:
            yield "rate_percent", "must be above 0; say TAX_TREATMENT_ZERO_RATED of a rate of 0"
        if self.treatment is not Treatment.TAXED and self.rate_percent:
            yield "rate_percent", "must be left out: nothing is levied"


@dataclass(frozen=True)
class TaxExemption:
    """A certificate by which taxes of a jurisdiction are not paid."""

    jurisdiction: str
    certificate: str


@dataclass(frozen=True)
class TaxProfile:
    """Where an organisation is taxed, and how, from an instant on.

    Attributes:
        region: of the country; "": only taxes of the country.
        tax_id: by which authorities know it; shown, not verified.
        reverse_charge: it accounts for its taxes itself.
    """

    entity: ClassVar[str] = "tax_profile"

    org_id: str
    country: str
    region: str = ""
    effective_at: Time = BEGINNING
    tax_id: str = ""
    reverse_charge: bool = False
    exemptions: tuple[TaxExemption, ...] = ()

    @property
    def key(self) -> tuple[str, datetime]:
        """What it is found by."""
        return (self.org_id, self.effective_at)

    @property
    def jurisdictions(self) -> tuple[str, ...]:
        """Those that tax it: the country, and the region."""
        return (self.country, f"{self.country}-{self.region}") if self.region else (self.country,)

    def certificate(self, jurisdiction: str) -> str:
        """Return the certificate by which it is exempt from taxes of a jurisdiction; "" for none."""
        return next(
            (each.certificate for each in self.exemptions if each.jurisdiction == jurisdiction), ""
        )

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield (field, problem) of what does not fit together."""
        if self.reverse_charge and not self.tax_id:
            yield "tax_id", "must be given of an organisation that accounts for its taxes itself"
        seen: set[str] = set()
        for index, each in enumerate(self.exemptions):
            if each.jurisdiction not in self.jurisdictions:
                told = " or ".join(self.jurisdictions)
                yield f"exemptions[{index}].jurisdiction", f"must be {told}, which tax it"
            if each.jurisdiction in seen:
                yield f"exemptions[{index}].jurisdiction", "has a certificate already"
            seen.add(each.jurisdiction)


@dataclass(frozen=True)
class TaxPolicy:
    """How taxes are computed for organisations of a country; "": all others, and those without a profile."""

    entity: ClassVar[str] = "tax_policy"

    country: str = ""
    missing: TaxMissing = TaxMissing.REFUSE
    rounding: TaxRounding = TaxRounding.LINE

    @property
    def key(self) -> tuple[str]:
        """What it is found by."""
        return (self.country,)
