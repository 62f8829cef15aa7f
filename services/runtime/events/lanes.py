"""Lanes: the fixed number of queues of each consumer. One key always travels in one lane."""

from __future__ import annotations

import hashlib

LANES = 256


def lane_of(tenant_id: str, key: str) -> int:
    """Return the lane, 0 to 255, of a tenant's key. The SQL function `mesh.lane` gives the same."""
    return hashlib.sha256(f"{tenant_id}\x01{key}".encode()).digest()[0]
