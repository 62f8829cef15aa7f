"""How the transport waits for what is away, and for its own end."""

from __future__ import annotations

from services.runtime.loops import Backoff

BACKOFF = Backoff(first_seconds=0.1, max_seconds=10.0)
STOP_SECONDS_MAX = 10.0
