"""Child processes that do not outlive us."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel signal this process when its parent's thread ends; for `preexec_fn`.

    Spawn from the main thread: the signal comes when the thread that spawned the child ends.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() == 1:  # the parent died before the flag was set
        os._exit(1)
