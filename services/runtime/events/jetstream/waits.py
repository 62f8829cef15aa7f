"""How the transport waits for what is away."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

WAIT_MS_MIN = 100
WAIT_MS_MAX = 10_000
_CHARS_MAX = 500

_log = structlog.get_logger(__name__)


def told(error: BaseException) -> str:
    """Return what an error says, for a log; of a group, what its first says."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:_CHARS_MAX]


class Backoff:
    """Waits longer after each failure, until something worked again.

    Args:
        what: what the log says was interrupted.
        fields: what it says besides.

    Attributes:
        last_error: what failed last; empty once it worked again.
    """

    def __init__(self, what: str, **fields: str) -> None:
        self._what = what
        self._fields = fields
        self._wait_ms = WAIT_MS_MIN
        self.last_error = ""

    def reset(self) -> None:
        """Say that it works."""
        if self.last_error:
            _log.warning(self._what.replace("interrupted", "works again"), **self._fields)
        self._wait_ms, self.last_error = WAIT_MS_MIN, ""

    async def wait(self, error: BaseException, stopping: asyncio.Event) -> None:
        """Log a failure and wait; at once when the process is stopping."""
        self.last_error = told(error)
        _log.warning(self._what, error=self.last_error, wait_ms=self._wait_ms, **self._fields)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), self._wait_ms / 1000)
        self._wait_ms = min(self._wait_ms * 2, WAIT_MS_MAX)
