"""What the ledger counts."""

from __future__ import annotations

from services.runtime.measures import Measure

TRANSFERS = Measure(
    "tollmesh.ledger.transfers",
    "{transfer}",
    "Transfers answered, once their batch is stored.",
    {"result": "`TransferResult` in small letters, e.g. `ok`, `exists`"},
)
ENTRIES = Measure(
    "tollmesh.ledger.entries",
    "{entry}",
    "Entries written: two for each transfer that is posted.",
    {"currency": "ISO 4217 code"},
)
POSTED = Measure(
    "tollmesh.ledger.posted",
    "{minor_unit}",
    "Amounts of the transfers that are posted, in minor units of the currency.",
    {"currency": "ISO 4217 code"},
)
CROSSINGS = Measure(
    "tollmesh.ledger.crossings",
    "{crossing}",
    "Balances that crossed the threshold of a monitor, each told by an event.",
    {"comparison": "`Comparison` in small letters, e.g. `below`"},
)
ALL = (TRANSFERS, ENTRIES, POSTED, CROSSINGS)
