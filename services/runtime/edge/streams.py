"""Telling the caller of a stream that it has begun, before there is anything to send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar


async def _nobody() -> None:
    """Outside of a call nobody waits to be told."""


_BEGUN: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("stream_begun", default=_nobody)


async def stream_begun() -> None:
    """Send the initial metadata of the stream that is being answered, unless they were sent.

    A handler calls it once whatever it refuses at the start is behind it.
    """
    await _BEGUN.get()()


def on_begin(tell: Callable[[], Awaitable[None]]) -> None:
    """Set what `stream_begun` does in the task of this call."""
    _BEGUN.set(tell)
