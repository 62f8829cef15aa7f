"""Leases: the right to work on something for some time, with an epoch that counts the holders.

The database's clock says when a lease ends, and the epoch that whoever held it before writes nothing. What a holder
must know besides is how much of its own time is left, so that it begins nothing that would outlive the lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# Of a lease: what a transaction under it may take in all. The rest is for the way to it and back.
TRANSACTION_SHARE = 0.6
# Of a lease: what may pass before it is renewed, so that such a transaction, begun by then, ends before it does.
RENEW_SHARE = 0.25


class LeaseLost(Exception):
    """The lease has a new holder; the previous one must stop and write nothing."""


class Term:
    """What is left of a lease, by this process's clock. Make it before the lease is asked for.

    Args:
        lease_ms: how long the lease is held.
        clock: monotonic seconds.
    """

    def __init__(self, lease_ms: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = lease_ms / 1000
        self._clock = clock
        self._began_at = clock()

    def covers(self, seconds: float) -> bool:
        """True when what takes so long and begins now ends before the lease does."""
        return self._clock() - self._began_at + seconds < self._seconds

    def is_to_renew(self) -> bool:
        """True once a transaction that takes as long as it may could outlive the lease."""
        return self._clock() - self._began_at > self._seconds * RENEW_SHARE
