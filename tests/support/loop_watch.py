"""How long one step of the event loop takes, in CPU time of its thread: a busy machine makes it no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

STEP_S = 0.1
"""The longest step that is taken for short: 50 ms are the rule, and a slow machine takes twice as long."""


@dataclass(slots=True)
class Watch:
    """The longest step so far, in CPU seconds."""

    longest_s: float = 0.0


@asynccontextmanager
async def watching() -> AsyncIterator[Watch]:
    """Look between all steps of the loop."""
    watch = Watch()

    async def beat() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            watch.longest_s = max(watch.longest_s, now - before)
            before = now

    task = asyncio.create_task(beat())
    try:
        await asyncio.sleep(0)
        yield watch
        await asyncio.sleep(0)
    finally:
        task.cancel()
