"""What settlement counts."""

from __future__ import annotations

from services.runtime.measures import Measure

PAYOUTS = Measure(
    "tollmesh.settlement.payouts",
    "{payout}",
    "Payouts, once their claims are in the books.",
    {"currency": "ISO 4217 code", "kind": "`realtime`, `sweep` or `requested`"},
)
CLAIMED = Measure(
    "tollmesh.settlement.claimed",
    "{minor_unit}",
    "Amounts of these payouts, in minor units of the currency.",
    {"currency": "ISO 4217 code"},
)
RETURNED = Measure(
    "tollmesh.settlement.returned",
    "{payout}",
    "Payouts whose money came back.",
    {"currency": "ISO 4217 code"},
)
ALL = (PAYOUTS, CLAIMED, RETURNED)
