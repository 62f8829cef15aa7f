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
ALL = (CREATED, UPDATED)
