"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.billing.domain import measures
from services.runtime.manifests import Manifest

SERVICE = Manifest(
    name="billing",
    needs=frozenset({"ledger:write", "pricing:read"}),
    measures=measures.ALL,
    migrations="services.billing.migrations",
)
