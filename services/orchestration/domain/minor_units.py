"""How processors count amounts where they differ from ISO 4217, and which amounts they cannot express.

Amounts in this service are minor units of ISO 4217. A processor's table says how many places it counts a currency with,
and of what its amounts must be multiples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.runtime.money import exponent


class NotExpressible(ValueError):
    """A processor has no number for an amount."""


@dataclass(frozen=True, slots=True)
class MinorUnits:
    """A processor's table.

    Attributes:
        name: of the table, for messages.
        places: places after the point by currency, where they are not those of ISO 4217.
        multiples: of what an amount in the processor's own units must be a multiple, by currency.
    """

    name: str = "ISO 4217"
    places: Mapping[str, int] = field(default_factory=dict)
    multiples: Mapping[str, int] = field(default_factory=dict)

    def to_processor(self, amount_minor: int, currency: str) -> int:
        """Return an amount as the processor counts it. Raises NotExpressible."""
        shift = self._shift(currency)
        amount, rest = (
            (amount_minor * _power(shift), 0)
            if shift >= 0
            else divmod(amount_minor, _power(-shift))
        )
        multiple = self.multiples.get(currency, 1)
        if rest or amount % multiple:
            unit = multiple if shift >= 0 else multiple * _power(-shift)
            raise NotExpressible(
                f"{amount_minor} minor units of {currency} cannot be expressed: by {self.name} it must be a multiple "
                f"of {max(unit // _power(max(shift, 0)), 1)}"
            )
        return amount

    def from_processor(self, amount: int, currency: str) -> int:
        """Return what the processor says in minor units of ISO 4217. Raises NotExpressible."""
        shift = self._shift(currency)
        if shift <= 0:
            return amount * _power(-shift)
        amount_minor, rest = divmod(amount, _power(shift))
        if rest:
            raise NotExpressible(f"{amount} of {currency} by {self.name} is no whole minor unit")
        return amount_minor

    def fault(self, amount_minor: int, currency: str) -> str:
        """Say why an amount cannot be expressed; empty when it can."""
        try:
            self.to_processor(amount_minor, currency)
        except NotExpressible as error:
            return str(error)
        return ""

    def _shift(self, currency: str) -> int:
        return self.places.get(currency, exponent(currency)) - exponent(currency)


def _power(places: int) -> int:
    return int(10**places)


ISO_4217 = MinorUnits()

# Stripe's table as of 2026-11. ISK and UGX stand with two places for compatibility and have none; three-place
# currencies end in 0; MGA is counted without places.
STRIPE = MinorUnits(
    "Stripe's table",
    places={"ISK": 2, "UGX": 2, "MGA": 0},
    multiples={
        "ISK": 100,
        "UGX": 100,
        "BHD": 10,
        "JOD": 10,
        "KWD": 10,
        "OMR": 10,
        "TND": 10,
    },
)
