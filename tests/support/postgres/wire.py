"""A wire between a mesh and its Postgres that a test can cut, or let hang as a network does that drops everything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit, urlunsplit

from services.runtime.postgres.roles import DatabaseUrls


class Wire:
    """A port on this machine that leads to a Postgres.

    Attributes:
        port: where it listens.
    """

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def hang(self) -> None:
        """Carry nothing; connections stay, new ones too."""
        self._flows.clear()

    def cut(self) -> None:
        """End every connection, and take none."""
        self._refuses = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        """Carry everything again."""
        self._refuses = False
        self._flows.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client."""
        if self._refuses:
            writer.transport.abort()
            return
        self._open.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there = await asyncio.open_unix_connection(self._socket_path)
            self._open.add(there[1])
            await asyncio.wait(
                {
                    asyncio.create_task(self._pump(reader, there[1])),
                    asyncio.create_task(self._pump(there[0], writer)),
                }
            )
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        sink.close()

    async def close(self) -> None:
        """End what is open."""
        self.mend()
        self.cut()
        if self._tasks:
            await asyncio.wait(set(self._tasks))


@asynccontextmanager
async def wired(urls: DatabaseUrls) -> AsyncIterator[tuple[Wire, DatabaseUrls]]:
    """Lead the services' logins over a wire, until the block ends."""
    folder = parse_qs(urlsplit(urls.service).query)["host"][0]
    wire = Wire(f"{folder}/.s.PGSQL.5432")
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield (
            wire,
            replace(
                urls, service=_over(urls.service, wire.port), relay=_over(urls.relay, wire.port)
            ),
        )
    finally:
        server.close()
        await wire.close()


def _over(url: str, port: int) -> str:
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}", query=""))
