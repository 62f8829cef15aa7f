"""What orders count."""

from __future__ import annotations

from services.runtime.measures import Measure

CREATED = Measure(
    "tollmesh.orders.created",
    "{order}",
    "Orders that were stored.",
    {"currency": "ISO 4217 code"},
)
UPDATED = Measure(
    "tollmesh.orders.updated",
    "{change}",
    "Changes of orders that events tell of.",
    {"status": "status of the order behind the change"},
)
RECEIVED = Measure(
    "tollmesh.orders.received",
    "{minor_unit}",
    "What was received for orders, in minor units of the currency.",
    {"currency": "ISO 4217 code", "method": "`cash` or `check`"},
)
REFUNDED = Measure(
    "tollmesh.orders.refunded",
    "{minor_unit}",
    "What was given back of orders, in minor units of the currency.",
    {"currency": "ISO 4217 code"},
)
CREDITS = Measure(
    "tollmesh.orders.credits",
    "{part}",
    "Credits by what happened to them, in the smallest parts of their unit.",
    {"kind": "`GRANTED`, `HELD`, `RELEASED`, `CONSUMED`, `APPLIED`, `LAPSED` or `TAKEN_BACK`"},
)
ALL = (CREATED, UPDATED, RECEIVED, REFUNDED, CREDITS)
