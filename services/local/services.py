"""The services of a mesh: each is built by its own `bootstrap`."""

from __future__ import annotations

from services.access import bootstrap as access
from services.billing import bootstrap as billing
from services.events import bootstrap as events
from services.ledger import bootstrap as ledger
from services.metering import bootstrap as metering
from services.monitoring import bootstrap as monitoring
from services.orchestration import bootstrap as orchestration
from services.pricing import bootstrap as pricing

BUILDS = (
    access.build,
    metering.build,
    pricing.build,
    ledger.build,
    billing.build,
    orchestration.build,
    monitoring.build,
    events.build,
)
# The access service keeps its state in the runtime's schema, which is always migrated.
MIGRATIONS = tuple(
    f"services.{name}.migrations"
    for name in (
        "metering",
        "pricing",
        "ledger",
        "billing",
        "orchestration",
        "monitoring",
        "events",
    )
)
