"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.pricing.domain import agreement
from services.runtime.contracts import Contract, ContractKind
from services.runtime.manifests import Manifest

CONTRACTS = (
    Contract(
        agreement.CONTRACT,
        "An estimate is what is charged for the same usage",
        "HIGH",
        ContractKind.INVARIANT,
        "Each rating is compared with an estimate of its usage, SKU by SKU, and one of sixteen with what Estimate "
        "answers. The two came to different amounts: what was shown before is not what is charged. Its message says "
        "which; neither is changed.",
    ),
)

SERVICE = Manifest(
    name="pricing",
    needs=frozenset({"metering:read"}),
    contracts=CONTRACTS,
    migrations="services.pricing.migrations",
)
