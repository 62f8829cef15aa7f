"""Child processes that do not outlive us."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: int = signal.SIGTERM) -> Callable[[], None]:
    """Return a `preexec_fn` that has the kernel signal the child when its parent's thread ends.

    Make it and spawn in one thread, the main one: the signal comes when the thread that spawned the child ends.
    """
    parent = os.getpid()  # may be 1: in a container we are often the first process

    def tie() -> None:
        if _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:  # the parent died before the flag was set
            os._exit(1)

    return tie
