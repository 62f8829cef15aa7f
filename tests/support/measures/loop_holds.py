"""Lets a test fail when a service of ours held an event loop: the tests' own, or that of a process of theirs."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from pathlib import Path

from services.runtime.process.loop_watch import Hold, LoopWatch, Place, read_holds
from tests.support.measures.loop_watch import Collecting

REPOSITORY = Path(__file__).parents[3]
SETTING = "TOLLMESH_LOOP_HOLDS_FILE"

_SERVICES = f"{REPOSITORY}/services/"
_TESTS = f"{REPOSITORY}/tests/"
# What Hypothesis has called at the begin and the end of each garbage collection.
_COLLECTING = "/hypothesis/internal/conjecture/junkdrawer.py"


class Holds:
    """What was seen since the last look."""

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="tollmesh-loop-holds-")
        os.close(descriptor)
        self.file = Path(name)
        self._read = 0
        self._own: list[Hold] = []
        self._watch: LoopWatch | None = None

    def watch(self) -> None:
        """Watch the running loop too; call it from there.

        Garbage collections do not count: this process has objects of all tests.
        """
        self._collecting = Collecting(threading.get_ident())
        gc.callbacks.append(self._collecting)
        self._watch = LoopWatch(
            self._own.append, judge=is_ours, excused=lambda: self._collecting.seconds
        )
        self._watch.start()

    def unwatch(self) -> None:
        """Watch it no more."""
        if self._watch is not None:
            self._watch.stop()
            gc.callbacks.remove(self._collecting)

    def take(self) -> list[Hold]:
        """Return what is new."""
        with self.file.open("rb") as file:
            file.seek(self._read)
            written = file.read()
        # The last line may be half written.
        whole = written[: written.rfind(b"\n") + 1]
        self._read += len(whole)
        own, self._own[:] = list(self._own), []
        return own + read_holds(whole.decode())


def is_ours(stack: list[Place]) -> bool:
    """True when what runs is a coroutine of a service, or was called by the loop itself.

    A test may call what is meant to block, and pays for it alone.
    """
    if stack and stack[-1].file.endswith(_COLLECTING):
        return False  # a collection that has not ended, and is not counted yet
    for place in reversed(stack):
        if place.file.startswith(_TESTS):
            return False
        if place.file.startswith(_SERVICES) and place.is_coroutine:
            return True
    return any(place.file.startswith(_SERVICES) for place in stack)
