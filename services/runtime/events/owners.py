"""Who holds a lease, and whether that process has ended.

A process that was killed gives nothing back, and its leases run out only after seconds. Its successor on the same
machine, which a supervisor starts at once, can see that it is gone and need not wait. Were that ever wrong, nothing
would be lost: the epoch of a lease ends the work of whoever held it before.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

from services.runtime.events import relay
from services.runtime.ids import new_uuid
from services.runtime.postgres.session import Session

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")


def new_owner() -> str:
    """Return a name for a new holder of leases: where its process runs, its number there, and an id."""
    return f"{_place()}:{os.getpid()}:{new_uuid()}"


def has_ended(owner: str) -> bool:
    """Return whether a holder's process has ended; False where this one cannot tell."""
    place, _, rest = owner.rpartition(":")[0].rpartition(":")
    if place != _place() or not rest.isdecimal():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        # Somebody else's process has this number.
        return False
    return False


async def take_back(session: Session) -> int:
    """End the leases of processes of this machine that have ended; returns how many."""
    held = await relay.rows(session, "lease_owners")
    ended = [row["owner"] for row in held if has_ended(row["owner"])]
    return await relay.changed(session, "end_leases", owners=ended) if ended else 0


@cache
def _place() -> str:
    """Where numbers of processes mean the same: host, boot of its kernel, and name space of its processes."""
    try:
        return f"{socket.gethostname()}/{_BOOT_ID.read_text().strip()}/{_PROCESSES.readlink().name}"
    except OSError:
        # Not Linux: unlike any other, so that nobody's end is concluded.
        return f"{socket.gethostname()}/{new_uuid()}"
