"""One `tollmesh up` at a time on a database, wherever its data directory lies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection

from services.runtime.database import connect_arguments
from services.runtime.postgres.roles import DatabaseUnfit
from services.runtime.telemetry import log

# A run that was killed is still there for the server until it has noticed.
NOTICED_WITHIN_SECONDS = 3.0
# Between two looks at whether the session that holds the database is still there.
LOOK_SECONDS = 5.0
_LOCK = "hashtextextended('tollmesh.up', 0)"
# The server ends the session of a machine that went without a word; one that is killed ends at once.
_KEEPALIVE = (
    "SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),"
    " set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '25000', false)"
)
_TAKE = f"SELECT pg_try_advisory_lock({_LOCK})"
_HOLDER = (
    "SELECT application_name, coalesce(host(client_addr), 'its own machine'), backend_start"
    "  FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    f"  AND ((l.classid::bigint << 32) | l.objid::bigint) = {_LOCK}"
    "   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class DatabaseOccupied(DatabaseUnfit):
    """Another run works on the database."""


class Tenure:
    """Holds a database for a run, by a lock of a session that is kept open.

    A data directory that was copied whole has every secret of the mesh, and the key of its run: only the database
    tells that the run is still there.
    """

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url
        self._session: AsyncConnection[Any] | None = None

    @classmethod
    async def take(cls, admin_url: str) -> Self:
        """Take a database, by a direct connection of the login that prepares it.

        Raises:
            DatabaseOccupied: another run has it.
            psycopg.Error: the database cannot be reached.
        """
        tenure = cls(admin_url)
        give_up_at = time.monotonic() + NOTICED_WITHIN_SECONDS
        while True:
            try:
                await tenure._take()
            except DatabaseOccupied:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(0.1)
            else:
                return tenure

    async def keep(self) -> None:
        """Take the database again whenever its session was lost; runs until cancelled."""
        told = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            said = ""
            try:
                if self._session is None:
                    await self._take()
                else:
                    await self._session.execute("SELECT 1")
            except DatabaseOccupied as error:
                said = str(error)
            except psycopg.Error:
                # Whoever works on the database says that it is away.
                await self.end()
            if said and said != told:
                log.error("database_occupied", why=said)
            told = said

    async def end(self) -> None:
        """Let others have the database."""
        session, self._session = self._session, None
        if session is not None:
            # One that the server has ended cannot be closed in good order.
            with contextlib.suppress(psycopg.Error):
                await session.close()

    async def _take(self) -> None:
        name = f"tollmesh up, process {os.getpid()} of {socket.gethostname()}"[:63]
        session = await AsyncConnection.connect(
            self._admin_url, autocommit=True, **connect_arguments(name, pooled=False)
        )
        try:
            await session.execute(_KEEPALIVE)
            taken = await (await session.execute(_TAKE)).fetchone()
            if taken != (True,):
                holder = await (await session.execute(_HOLDER)).fetchone()
                raise DatabaseOccupied(_occupied(session.info.dbname, holder))
        except BaseException:
            await session.close()
            raise
        self._session = session


def _occupied(database: str, holder: tuple[Any, ...] | None) -> str:
    who = ""
    if holder is not None:  # else it ended just now
        name, address, since = holder
        # Of another login's session the server may show no more than its name.
        at = "" if since is None else f", from {address}, since {since:%Y-%m-%d %H:%M:%S %Z}"
        who = f" ({name or 'of another login'}{at})"
    return f"another `tollmesh up` works on database {database}{who}: stop it first"
