"""How long one step of the event loop takes, in CPU time of its thread, by the speed that the machine has just now.

A busy machine gives a thread less of a core that it shares, and colder caches: the same step then uses more CPU time.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

STEP_S = 0.1
"""The longest step that is taken for short: 50 ms are the rule, and a slow machine takes twice as long."""
_SAMPLE_S = 0.0025
"""What the sample of work takes on a machine that does nothing else."""
_SAMPLES = 5


@dataclass(slots=True)
class Watch:
    """The longest step so far, in CPU seconds of a machine that nothing else slows down."""

    longest_s: float = 0.0


@asynccontextmanager
async def watching() -> AsyncIterator[Watch]:
    """Look between all steps of the loop.

    Garbage collections do not count: a process of tests has objects of all of them.
    """
    watch, collecting = Watch(), Collecting(threading.get_ident())

    async def beat() -> None:
        before = time.thread_time() - collecting.seconds
        while True:
            await asyncio.sleep(0)
            now = time.thread_time() - collecting.seconds
            watch.longest_s = max(watch.longest_s, now - before)
            before = now

    slowness = _slowness()
    gc.callbacks.append(collecting)
    task = asyncio.create_task(beat())
    try:
        await asyncio.sleep(0)
        yield watch
        await asyncio.sleep(0)
    finally:
        task.cancel()
        gc.callbacks.remove(collecting)
    watch.longest_s /= max(slowness, _slowness())


def _slowness() -> float:
    """Return how many times as long as it should the machine takes for something now; 1 where it is quicker."""
    taken = []
    for _ in range(_SAMPLES):
        began = time.thread_time()
        _work()
        taken.append(time.thread_time() - began)
    return max(1.0, median(taken) / _SAMPLE_S)


def _work() -> None:
    numbers: dict[int, str] = {}
    for number in range(20_000):
        numbers[number % 997] = str(number)


@dataclass(slots=True)
class Collecting:
    """A callback of the garbage collector that adds up what it takes of a thread's time."""

    ident: int
    seconds: float = 0.0
    began: float = 0.0

    def __call__(self, phase: str, _info: dict[str, int]) -> None:
        if threading.get_ident() != self.ident:
            return
        if phase == "start":
            self.began = time.thread_time()
        else:
            self.seconds += time.thread_time() - self.began
