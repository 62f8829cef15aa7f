"""What billing counts."""

from __future__ import annotations

from services.runtime.measures import Measure

CHARGES = Measure(
    "tollmesh.billing.charges",
    "{charge}",
    "Charges, once they are posted.",
    {"currency": "ISO 4217 code"},
)
CHARGED = Measure(
    "tollmesh.billing.charged",
    "{minor_unit}",
    "Totals of these charges, in minor units of the currency.",
    {"currency": "ISO 4217 code"},
)
CORRECTIONS = Measure(
    "tollmesh.billing.corrections",
    "{charge}",
    "Charges that correct other ones, once they are posted.",
    {"currency": "ISO 4217 code", "kind": "`adjustment` or `reversal`"},
)
ALL = (CHARGES, CHARGED, CORRECTIONS)
