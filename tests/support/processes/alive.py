"""Whether a process still runs, as the kernel says it."""

from __future__ import annotations

from pathlib import Path

_COLLECTED = (FileNotFoundError, ProcessLookupError)  # the second when it goes while it is read


def runs(pid: int) -> bool:
    """Return whether a process runs; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except _COLLECTED:
        return False
    return state != "Z"
