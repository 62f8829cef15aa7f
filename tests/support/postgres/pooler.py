"""A connection pooler in transaction mode, as PgBouncer is one, that keeps no client on the server it had before.

A client is given a server connection with the first message of a transaction and loses it when the server is
ready and in none. Nothing is reset in between: what a session was set to, prepared or created stays with the
server connection, for whoever gets it next. Clients are let in by their name alone; to Postgres the pooler
logs in with the password that it was given for that name.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg.pq import TransactionStatus

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
# What a client believes of its session, told at its start.
_REPORTED = (
    "server_version",
    "server_encoding",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "integer_datetimes",
    "standard_conforming_strings",
)
_SIMPLE_QUERY, _SYNC, _TERMINATE = b"Q", b"S", b"X"
_READY, _COPY_IN = b"Z", b"G"


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    length = await reader.readexactly(4)
    return kind, kind + length + await reader.readexactly(struct.unpack("!I", length)[0] - 4)


def _made(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


@dataclass(eq=False)
class _Server:
    """A connection to Postgres; libpq logged in, from then on its socket carries what others say."""

    session: psycopg.Connection
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    client: _Client | None = None
    pump: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str) -> _Server:
        session = await asyncio.to_thread(lambda: psycopg.connect(url, autocommit=True))
        own = socket.socket(fileno=os.dup(session.pgconn.socket))
        own.setblocking(False)
        unix = own.family == socket.AF_UNIX
        connect = asyncio.open_unix_connection if unix else asyncio.open_connection
        reader, writer = await connect(sock=own)
        return cls(session, reader, writer)

    def close(self) -> None:
        self.writer.close()
        self.session.close()


@dataclass(eq=False)
class _Client:
    """A client; attached to a server connection while it is in a transaction."""

    writer: asyncio.StreamWriter
    server: _Server | None = None
    last: _Server | None = None
    # What the server still has to say that it is ready for, in order.
    awaited: deque[bytes] = field(default_factory=deque)
    is_midway: bool = False

    def sent(self, kind: bytes) -> None:
        """Note what was sent to the server."""
        self.is_midway = kind not in (_SIMPLE_QUERY, _SYNC)
        if not self.is_midway:
            self.awaited.append(kind)

    def answered(self, kind: bytes, message: bytes) -> bool:
        """Note what the server said; true when the transaction is over."""
        if kind == _COPY_IN and self.awaited and self.awaited[0] == _SYNC:
            # Postgres passes over the Sync that came with the statement; another follows the data.
            self.awaited.popleft()
        if kind != _READY:
            return False
        self.awaited.popleft()
        return message[-1:] == b"I" and not self.awaited and not self.is_midway


class _Pool:
    """The server connections of one login."""

    def __init__(self, url: str, size: int, *, hostile: bool) -> None:
        self._url = url
        self._size = size
        self._hostile = hostile
        self._free: deque[_Server] = deque()
        self._changed = asyncio.Condition()
        self._opened = 0

    async def acquire(self, other_than: _Server | None) -> _Server:
        """Return a free connection; a hostile pool never the one of last time while another is to be had."""
        async with self._changed:
            while True:
                if self._opened < self._size:
                    self._opened += 1
                    return await _Server.open(self._url)
                if self._free:
                    if self._hostile and self._free[0] is other_than:
                        self._free.rotate(-1)
                    return self._free.popleft()
                await self._changed.wait()

    async def release(self, server: _Server, *, broken: bool = False) -> None:
        async with self._changed:
            if broken:
                self._opened -= 1
            else:
                self._free.append(server)
            self._changed.notify()

    def close(self) -> None:
        for server in self._free:
            if server.pump is not None:
                server.pump.cancel()
            server.close()


class Pooler:
    """A pooler on a port of this machine.

    Attributes:
        switches: how often a client went on with another server connection than before.
    """

    def __init__(self, urls: Sequence[str], size: int, *, hostile: bool) -> None:
        self._pools = {
            unquote(urlsplit(url).username or ""): _Pool(url, size, hostile=hostile) for url in urls
        }
        self._clients: dict[int, _Client] = {}
        self._keys = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self.switches: Counter[bool] = Counter()
        self.port = 0

    def url(self, url: str) -> str:
        """Return the URL of a database, by way of this pooler."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        place = f"{login}@127.0.0.1:{self.port}"
        return urlunsplit((parts.scheme, place, quote(unquote(parts.path)), "", ""))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it goes."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = _Client(writer)
        key = next(self._keys)
        try:
            pool = await self._greet(reader, client, key)
            if pool is not None:
                await self._carry(reader, client, pool)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._clients.pop(key, None)
            await self._drop(client)
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, client: _Client, key: int) -> _Pool | None:
        while True:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            body = await reader.readexactly(length - 4)
            (code,) = struct.unpack("!I", body[:4])
            if code == _CANCEL_REQUEST:
                await self._cancel(struct.unpack("!I", body[4:8])[0])
                return None
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                break
            client.writer.write(b"N")
        words = body[4:].rstrip(b"\0").split(b"\0")
        given = dict(zip(words[::2], words[1::2], strict=True))
        pool = self._pools[given[b"user"].decode()]
        server = await pool.acquire(None)
        reported = [(n, server.session.pgconn.parameter_status(n.encode())) for n in _REPORTED]
        await self._release(pool, server)
        self._clients[key] = client
        client.writer.write(
            _made(b"R", struct.pack("!I", 0))
            + b"".join(
                _made(b"S", name.encode() + b"\0" + (value or b"") + b"\0")
                for name, value in reported
            )
            + _made(b"K", struct.pack("!II", key, 0))
            + _made(_READY, b"I")
        )
        return pool

    async def _carry(self, reader: asyncio.StreamReader, client: _Client, pool: _Pool) -> None:
        while True:
            kind, message = await _message(reader)
            if kind == _TERMINATE:
                return
            if client.server is None:
                server = await pool.acquire(client.last)
                if client.last is not None:
                    self.switches[server is not client.last] += 1
                client.server, client.last, server.client = server, server, client
                if server.pump is None:
                    server.pump = asyncio.create_task(self._pump(server, pool))
            client.sent(kind)
            client.server.writer.write(message)
            await client.server.writer.drain()

    async def _pump(self, server: _Server, pool: _Pool) -> None:
        """Carry what Postgres says to the client that it is said to."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, message = await _message(server.reader)
                client = server.client
                if client is None:
                    break  # Postgres says goodbye
                is_over = client.answered(kind, message)
                if is_over:
                    client.server = server.client = None
                    await pool.release(server)
                client.writer.write(message)
        server.close()
        if server.client is not None:
            server.client.server = None
            server.client.writer.close()
            await pool.release(server, broken=True)

    async def _release(self, pool: _Pool, server: _Server) -> None:
        assert server.session.info.transaction_status == TransactionStatus.IDLE
        await pool.release(server)

    async def _cancel(self, key: int) -> None:
        client = self._clients.get(key)
        if client is not None and client.server is not None:
            await asyncio.to_thread(client.server.session.cancel_safe)

    async def _drop(self, client: _Client) -> None:
        """A client that goes in the middle of a transaction takes its server connection with it."""
        if client.server is not None:
            client.server.writer.close()

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self._pools.values():
            pool.close()


@asynccontextmanager
async def pooling(
    urls: Sequence[str], *, size: int = 3, hostile: bool = True
) -> AsyncIterator[Pooler]:
    """Run a pooler before these databases; each login has `size` server connections."""
    pooler = Pooler(urls, size, hostile=hostile)
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    pooler.port = server.sockets[0].getsockname()[1]
    try:
        yield pooler
    finally:
        server.close()
        await pooler.close()
