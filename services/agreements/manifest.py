"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.agreements.domain import measures
from services.runtime.manifests import Manifest

SERVICE = Manifest(
    name="agreements",
    measures=measures.ALL,
    migrations="services.agreements.migrations",
)
