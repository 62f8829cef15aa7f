"""What metering counts."""

from __future__ import annotations

from services.runtime.measures import Measure

EVENTS = Measure(
    "tollmesh.metering.events",
    "{event}",
    "Usage events answered, once their batch is stored.",
    {"outcome": "`accepted`, `duplicate`, `conflict` or `rejected`"},
)
REJECTIONS = Measure(
    "tollmesh.metering.rejections",
    "{event}",
    "Usage events rejected.",
    {"reason": "as in the answer, e.g. `UNKNOWN_SKU`"},
)
ALL = (EVENTS, REJECTIONS)
