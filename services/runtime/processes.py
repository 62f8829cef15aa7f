"""Child processes that do not outlive us."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Runs between our fork and the program, in an interpreter of its own: code of ours in a forked process that has
# threads (gRPC's) can deadlock, so there is no `preexec_fn`. 1 is PR_SET_PDEATHSIG, 15 is SIGTERM.
_TIE = """\
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl(1, 15, 0, 0, 0) != 0:
    sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
if os.getppid() != int(sys.argv[1]):  # the parent died before the signal was set
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def tied_to_parent(command: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return a command that runs `command` and is sent SIGTERM when the thread that spawns it ends.

    Spawn it from the main thread.
    """
    tie = [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid())]
    return [*tie, *(os.fspath(part) for part in command)]
