"""Many clients, and everything under them dies: services, sessions, Postgres, answers to COMMIT. Histories are checked.

TOLLMESH_HISTORY_TRANSFERS makes it longer (`make chaos` sends a million), TOLLMESH_HISTORY_SEED draws another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import grpc
import psycopg
import pytest
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.local.postgres.server import EmbeddedPostgres
from services.runtime import migrations
from services.runtime.access import MeshTokens, Principal
from services.runtime.postgres import roles
from services.runtime.postgres.roles import DatabaseUrls, Passwords
from tests.support.ledger import history
from tests.support.mesh.process import service
from tests.support.mesh.serving import MESH_SECRET

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

    from tests.support.processes.forked import ForkedProcess

TRANSFERS = int(os.environ.get("TOLLMESH_HISTORY_TRANSFERS", "20000"))
SEED = int(os.environ.get("TOLLMESH_HISTORY_SEED", "11"))
CLIENTS = 8
BATCH_MAX = 250 if TRANSFERS > 100_000 else 60
# Of the run, however long it is: so often each kind of fault strikes.
STRIKES = 6 if TRANSFERS > 100_000 else 1
TENANT = "history"
UNKNOWN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


class Proxy:
    """Stands between the service and Postgres, and loses the answer to a COMMIT when it is told to."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self.armed = False
        self.lost = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """Serve on loopback until the block ends."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_unix_connection(self._socket_path)
            pumps = [self._pump(reader, back), self._pump(there, writer, answers=True)]
            tasks = [asyncio.ensure_future(pump) for pump in pumps]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            back.close()
        writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if answers and self.armed and b"COMMIT\x00" in data:
                    self.armed = False
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()


class Mesh:
    """A ledger that is killed and started again, over a Postgres that is too."""

    def __init__(self, server: EmbeddedPostgres, urls: DatabaseUrls, proxy: Proxy) -> None:
        self._server = server
        self._urls = urls
        self._through = _through(urls, proxy.port)
        self._proxy = proxy
        self._stack = ExitStack()
        self._process: ForkedProcess | None = None
        self.address = ""
        self.deaths: Counter[str] = Counter()

    async def start(self) -> None:
        """Start the service."""
        context = service(self._through, "services.ledger")
        self.address, self._process = await asyncio.to_thread(self._stack.enter_context, context)

    async def stop(self) -> None:
        """Stop it for good."""
        await asyncio.to_thread(self._stack.close)

    async def strike(self, kind: str) -> None:
        """Make one fault happen."""
        self.deaths[kind] += 1
        await getattr(self, f"_{kind}")()

    async def _kill_service(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait, 10)
        await self.start()

    async def _kill_sessions(self) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            async with await psycopg.AsyncConnection.connect(
                self._server.admin_url(), autocommit=True
            ) as admin:
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = 'history' AND random() < 0.5"
                )

    async def _kill_postgres(self) -> None:
        os.kill(self._server.pid, signal.SIGKILL)
        await asyncio.sleep(0.5)

    async def _lose_commit(self) -> None:
        self._proxy.armed = True


FAULTS = ("kill_service", "kill_sessions", "lose_commit", "kill_postgres")


def _through(urls: DatabaseUrls, port: int) -> DatabaseUrls:
    def moved(url: str) -> str:
        parts = conninfo_to_dict(url)
        changed = {**parts, "host": "127.0.0.1", "port": str(port), "sslmode": "disable"}
        return make_conninfo(**{name: str(value) for name, value in changed.items()})

    return DatabaseUrls(
        **{
            **{name: getattr(urls, name) for name in urls.__dataclass_fields__},
            "service": moved(urls.service),
            "relay": moved(urls.relay),
        }
    )


def _socket_of(url: str) -> str:
    query = parse_qs(urlsplit(url).query)
    return f"{query['host'][0]}/.s.PGSQL.{query.get('port', ['5432'])[0]}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A durable Postgres of the test's own."""
    with EmbeddedPostgres(tmp_path / "data") as started:
        yield started


async def test_whatever_dies_the_history_is_one_of_a_ledger_alone(server: EmbeddedPostgres) -> None:
    urls = roles.prepare_now(server.create_database("history"), passwords=Passwords.generate())
    migrations.upgrade(urls.owner_admin, ["services.ledger.migrations"])
    clients = [history.Client(SEED * 1000 + n, BATCH_MAX) for n in range(CLIENTS)]
    async with Proxy(_socket_of(server.admin_url())).running() as proxy:
        mesh = Mesh(server, urls, proxy)
        supervisor = asyncio.ensure_future(server.supervise())
        await mesh.start()
        try:
            await _run(mesh, clients)
        finally:
            await mesh.stop()
            supervisor.cancel()
            await asyncio.wait([supervisor])
    calls = [call for client in clients for call in client.calls]
    books = history.read_books(urls.service, TENANT)
    replayed = history.check(calls, books)
    assert replayed > TRANSFERS / 2
    assert sum(call.tries > 1 for call in calls) >= STRIKES, "the faults were felt"
    assert set(mesh.deaths) == set(FAULTS)
    assert proxy.lost


def _headers() -> tuple[tuple[str, str], ...]:
    token = MeshTokens(MESH_SECRET).issue(Principal("history", TENANT, frozenset({"*"})))
    return (("authorization", f"Mesh {token}"),)


async def _run(mesh: Mesh, clients: list[history.Client]) -> None:
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        await history.create_accounts(LedgerServiceStub(channel), metadata=_headers())
    is_enough = history.until(TRANSFERS, clients)
    strikes = _strikes(clients)
    await asyncio.gather(*[_post(mesh, client, is_enough, strikes) for client in clients])


def _strikes(clients: list[history.Client]) -> list[tuple[Callable[[], bool], str]]:
    """Spread the faults over the run, by what was sent so far; the first stands last."""
    dice = random.Random(SEED)
    faults = [fault for _ in range(STRIKES) for fault in dice.sample(FAULTS, len(FAULTS))]
    due = [TRANSFERS * number // (len(faults) + 2) for number in range(1, len(faults) + 1)]
    return [
        (history.until(count, clients), fault) for count, fault in zip(due, faults, strict=True)
    ][::-1]


async def _post(
    mesh: Mesh,
    client: history.Client,
    is_enough: Callable[[], bool],
    strikes: list[tuple[Callable[[], bool], str]],
) -> None:
    """Send batch after batch; each until it is answered, by whichever process serves then."""
    while not is_enough() or client.unanswered:
        address = mesh.address
        async with grpc.aio.insecure_channel(address) as channel:
            while address == mesh.address and (not is_enough() or client.unanswered):
                call = client.unanswered or client.next()
                await _try(LedgerServiceStub(channel), call)
                if call.answers:
                    client.learn(call)
                if strikes and strikes[-1][0]():
                    await mesh.strike(strikes.pop()[1])


async def _try(stub: LedgerServiceAsyncStub, call: history.Call) -> None:
    try:
        await history.send(stub, call, metadata=_headers(), timeout=20.0)
    except grpc.aio.AioRpcError as error:
        assert error.code() in UNKNOWN, error
        await asyncio.sleep(0.1)
