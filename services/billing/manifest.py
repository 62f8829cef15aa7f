"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.runtime.manifests import Manifest

SERVICE = Manifest(
    name="billing",
    needs=frozenset({"ledger:write", "pricing:read"}),
    migrations="services.billing.migrations",
)
