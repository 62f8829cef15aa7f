"""What a process loads lives as long as it does: the garbage collector need not look for anything in it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SWITCH = threading.Lock()
# Whether collections were on before the first of those who keep them away, and how many do.
_before: list[bool] = []


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector away from all threads. Where several do, the last who leaves lets it work again."""
    with _SWITCH:
        _before.append(_before[0] if _before else gc.isenabled())
        gc.disable()
    try:
        yield
    finally:
        with _SWITCH:
            if _before.pop() and not _before:
                gc.enable()


@contextmanager
def loading() -> Iterator[None]:
    """Load modules without collections, and keep what was loaded out of all later ones.

    A fifth of what a start takes would go into collections that find nothing, and each full one of a process that
    serves would go through every module again.
    """
    with uncollected():
        try:
            yield
        finally:
            gc.freeze()
