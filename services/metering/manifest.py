"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.metering.domain import MEASURES
from services.runtime.contracts import Contract, ContractKind
from services.runtime.manifests import Manifest

CONTRACTS = (
    Contract(
        "metering/late-usage",
        "Usage arrives before its period is charged",
        "MEDIUM",
        ContractKind.OBJECTIVE,
        "Usage events were stored for a period that a charge had closed: no charge bills them yet. "
        "ListLateEvents lists them.",
    ),
)

SERVICE = Manifest(
    name="metering",
    needs=frozenset({"pricing:read"}),
    contracts=CONTRACTS,
    measures=MEASURES,
    migrations="services.metering.migrations",
)
