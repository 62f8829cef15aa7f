"""How the transport waits for what is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from services.runtime.conditions import Conditions
from services.runtime.interruptions import Interruptions

WAIT_MS_MIN = 100
WAIT_MS_MAX = 10_000


class Backoff:
    """Waits longer after each failure, until something worked again.

    Args:
        what: whose work it is, for the log.
        conditions: of the process.
        fields: what the log says besides.
    """

    def __init__(self, what: str, conditions: Conditions, *, fields: Mapping[str, str]) -> None:
        self._interruptions = Interruptions(what, conditions, fields=fields)
        self._wait_ms = WAIT_MS_MIN

    @property
    def last_error(self) -> str:
        """What failed last; empty once it worked again."""
        return self._interruptions.last_error

    def reset(self) -> None:
        """Say that it works."""
        self._interruptions.works()
        self._wait_ms = WAIT_MS_MIN

    async def wait(self, error: BaseException, stopping: asyncio.Event) -> None:
        """Take note of a failure and wait; not at all when the process is stopping."""
        self._interruptions.failed(error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), self._wait_ms / 1000)
        self._wait_ms = min(self._wait_ms * 2, WAIT_MS_MAX)
