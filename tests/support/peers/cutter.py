"""Stands between us and a processor, and does to calls what networks do: refuses, delays, resets, loses answers.

And what gateways before a processor do: they answer with an error, and have passed nothing on.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto

_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Fault(Enum):
    """What happens to one call."""

    NONE = auto()
    CUT_BEFORE = auto()
    ERROR = auto()
    REPLY_LOST = auto()
    HALF_REPLY = auto()
    STALLED = auto()


class Cutter:
    """Forwards one call a connection; `fault` says what happens to each.

    Attributes:
        done: how often each fault was made.
        tasks: calls that are under way.
    """

    def __init__(self, port: int, stall_seconds: float) -> None:
        self.fault: Callable[[bytes], Fault] = lambda request: Fault.NONE
        self.done: Counter[Fault] = Counter()
        self.tasks: set[asyncio.Task[object]] = set()
        self._port = port
        self._stall_seconds = stall_seconds

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a call."""
        task = asyncio.current_task()
        assert task is not None
        # The loop itself holds tasks only weakly.
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        with suppress(OSError, asyncio.IncompleteReadError):
            async with _closing(writer):
                request = await _message(reader)
                fault = self.fault(request)
                self.done[fault] += 1
                if fault is Fault.ERROR:
                    writer.write(_ERROR)
                    await writer.drain()
                elif fault is not Fault.CUT_BEFORE:
                    reply = await self._ask(request)
                    if fault is Fault.STALLED:
                        await asyncio.sleep(self._stall_seconds)
                    kept = {Fault.REPLY_LOST: 0, Fault.HALF_REPLY: len(reply) // 2}
                    writer.write(reply[: kept.get(fault, len(reply))])
                    await writer.drain()

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        # Its answer ends the connection, so that no later call can meet a closed one.
        head, _, rest = request.partition(b"\r\n")
        async with _closing(writer):
            writer.write(head + b"\r\nConnection: close\r\n" + rest)
            await writer.drain()
            return await reader.read(-1)


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close a connection, and wait until that is done: what is only closing ends as a warning in another test."""
    try:
        yield
    finally:
        writer.close()
        await writer.wait_closed()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head + await reader.readexactly(length)


def at_random(seed: int, share: float) -> Callable[[bytes], Fault]:
    """Return faults for a share of all calls, the same for the same seed and calls."""
    chance = random.Random(seed)  # repeatable
    faults = [each for each in Fault if each is not Fault.NONE]
    return lambda request: chance.choice(faults) if chance.random() < share else Fault.NONE


@asynccontextmanager
async def cutting(port: int, stall_seconds: float = 1.0) -> AsyncIterator[tuple[Cutter, int]]:
    """Stand before a port of this machine; gives the cutter and the port that it has itself."""
    cutter = Cutter(port, stall_seconds)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    async with server:
        yield cutter, server.sockets[0].getsockname()[1]
        for task in cutter.tasks:
            task.cancel()
        await asyncio.gather(*cutter.tasks, return_exceptions=True)
