"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.events.domain import measures
from services.runtime.manifests import Manifest

SERVICE = Manifest(
    name="events",
    measures=measures.ALL,
    migrations="services.events.migrations",
)
