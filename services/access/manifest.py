"""What the rest of the release has to know of the service."""

from __future__ import annotations

from services.runtime.manifests import Manifest

# Keys are in the runtime's schema: every service reads them.
SERVICE = Manifest(
    name="access",
)
