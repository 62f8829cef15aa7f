"""Several requests of a stream at a time, answered in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


async def in_order(
    requests: AsyncIterator[RequestT],
    work: Callable[[RequestT], Awaitable[ResponseT]],
    running_max: int,
) -> AsyncGenerator[ResponseT, None]:
    """Yield `work` of each request, in their order, while up to `running_max` are worked on.

    A request is read only when there is room for it, so that flow control holds the sender back; an answer is given as
    soon as those before it are, also while the sender waits for it. A failure ends the whole once those before
    it are answered: what still runs then is cancelled and waited for.
    """
    running: deque[asyncio.Future[ResponseT]] = deque()
    reading: asyncio.Future[RequestT] | None = _next(requests)
    try:
        while reading is not None or running:
            waited: list[asyncio.Future[Any]] = [*running][:1]
            if reading is not None and len(running) < running_max:
                waited.append(reading)
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading in waited and reading.done():
                reading = _begin(reading, requests, work, running)
            if running and running[0].done():
                yield running.popleft().result()
    finally:
        left: list[asyncio.Future[Any]] = [*running] if reading is None else [*running, reading]
        for future in left:
            future.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _begin(
    reading: asyncio.Future[RequestT],
    requests: AsyncIterator[RequestT],
    work: Callable[[RequestT], Awaitable[ResponseT]],
    running: deque[asyncio.Future[ResponseT]],
) -> asyncio.Future[RequestT] | None:
    """Begin the work on what was read and read on; None at the end of the requests."""
    fault = reading.exception()
    if isinstance(fault, StopAsyncIteration):
        return None
    if fault is not None:
        # In its place in the order: what was read before it is answered first.
        failed: asyncio.Future[ResponseT] = asyncio.get_running_loop().create_future()
        failed.set_exception(fault)
        running.append(failed)
        return None
    running.append(asyncio.ensure_future(work(reading.result())))
    return _next(requests)


def _next(requests: AsyncIterator[RequestT]) -> asyncio.Future[RequestT]:
    return asyncio.ensure_future(anext(requests))
