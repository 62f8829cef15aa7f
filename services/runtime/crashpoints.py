"""Named crash points: where the chaos suite kills the process. Free in production.

`TOLLMESH_CRASHPOINT=<name>[:n]` kills the process with SIGKILL at the n-th pass (default 1) of the point.
"""

from __future__ import annotations

import os
import signal

_target, _, _count = os.environ.get("TOLLMESH_CRASHPOINT", "").partition(":")
_passes_left = int(_count or 1)


def crashpoint(name: str) -> None:
    """Die here, at once and without clean-up, when the environment names this point."""
    if not _target or name != _target:
        return
    global _passes_left  # noqa: PLW0603 - one countdown a process is what the variable asks for
    _passes_left -= 1
    if _passes_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
