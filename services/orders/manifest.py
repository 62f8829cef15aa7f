"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.orders.domain import measures
from services.runtime.manifests import Manifest

SERVICE = Manifest(
    name="orders",
    measures=measures.ALL,
    migrations="services.orders.migrations",
)
