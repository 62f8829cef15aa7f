"""Connections that are shared: nobody finds on one what somebody else left there.

Calls end at any await, by their caller or their deadline. The driver keeps what a transaction begins with (isolation,
read-only) on the connection itself, where a call that is cut off leaves it to the next one, of any tenant. So
nothing is ever set on a connection: what a transaction needs is set inside it, and ends with it. A connection on
which something was cut off is closed, and one that is not as new is never handed out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

SessionT = TypeVar("SessionT", bound=psycopg.AsyncConnection[Any])

_log = structlog.get_logger(__name__)
# Connections that are still being made for nobody. Held here, because a loop holds its tasks only weakly.
_given_up: set[asyncio.Task[Any]] = set()


def new_engine(url: str, **options: Any) -> AsyncEngine:
    """Make a pool that hands out only connections that are as new.

    Args:
        url: SQLAlchemy's URL.
        options: those of `create_async_engine`.
    """
    # Parameters are customers' data: they belong in no log and no dead letter.
    arguments = {"async_creator_fn": _connect, **options.pop("connect_args", {})}
    engine = create_async_engine(url, hide_parameters=True, connect_args=arguments, **options)
    event.listen(engine.sync_engine, "checkout", _refuse_used)
    return engine


async def connect(kind: type[SessionT], *arguments: Any, **options: Any) -> SessionT:
    """Connect; a session that nobody waits for any more is closed.

    The driver's own `connect`, when it is cut off, leaves one open until its garbage is collected.
    """
    connecting = asyncio.ensure_future(kind.connect(*arguments, **options))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        _given_up.add(connecting)
        connecting.add_done_callback(_close)
        raise


async def _connect(*arguments: Any, **options: Any) -> psycopg.AsyncConnection[Any]:
    return await connect(psycopg.AsyncConnection, *arguments, **options)


def _close(connecting: asyncio.Task[Any]) -> None:
    _given_up.discard(connecting)
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().pgconn.finish()


@asynccontextmanager
async def begun(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction, which is committed on a clean exit, else rolled back."""
    async with (
        engine.connect() as connection,
        closed_when_cut_off(connection),
        connection.begin(),
    ):
        yield connection


@asynccontextmanager
async def closed_when_cut_off(connection: AsyncConnection) -> AsyncIterator[None]:
    """Close a connection when what it was used for was cancelled, or ran out of time.

    Between which of the driver's steps that struck cannot be told. Postgres rolls back what was begun, and ends the
    session.
    """
    task = asyncio.current_task()
    assert task is not None
    cancellations = task.cancelling()
    cut_off = False
    try:
        yield
    except BaseException as error:
        cut_off = isinstance(error, TimeoutError) or not isinstance(error, Exception)
        raise
    finally:
        # What the driver fails with while it is cancelled may hide that it was.
        if cut_off or task.cancelling() > cancellations:
            await connection.invalidate()


def _refuse_used(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
    """Have a connection replaced that is not as new; SQLAlchemy then opens another one."""
    driver = record.driver_connection
    if not is_as_new(driver):
        _log.error("pooled connection was left in use", status=driver.info.transaction_status.name)
        raise DisconnectionError("the connection was left in use")


def is_as_new(driver: psycopg.AsyncConnection[Any]) -> bool:
    """Return whether a connection is in no transaction, and would begin one as the server does by default.

    Its pipeline counts too: in one, answers are not what a statement has asked for.
    """
    return (
        driver.pgconn.transaction_status == TransactionStatus.IDLE
        and driver.pgconn.pipeline_status == PipelineStatus.OFF
        and driver.isolation_level is None
        and driver.read_only is None
        and driver.deferrable is None
        and not driver.autocommit
    )
