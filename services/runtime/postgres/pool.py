"""A pool of database sessions that carry no state from one user to the next.

Calls end at any await, by their caller or their deadline. So nothing is ever set on a session: what a transaction needs
is set inside it, and ends with it. A session on which something was cut off is closed, and one that is not as new is
never handed out.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.pq import ConnStatus, PipelineStatus, TransactionStatus

from services.runtime.postgres.session import Call, Rows, Session
from services.runtime.postgres.statements import statement

SessionT = TypeVar("SessionT", bound=psycopg.AsyncConnection[Any])

_BEGIN = Call(statement("BEGIN"))
_COMMIT = Call(statement("COMMIT"))
_ROLLBACK = Call(statement("ROLLBACK"))

_log = structlog.get_logger(__name__)
# Sessions that are still being made for nobody. Held here, because a loop holds its tasks only weakly.
_given_up: set[asyncio.Task[Any]] = set()


class CommitRefused(psycopg.InternalError):
    """A transaction was to be committed of which a statement had failed: Postgres rolled it back."""


class Pool:
    """Opens sessions when they are wanted, and keeps some of them.

    Args:
        url: `postgresql://…`.
        size: sessions that are kept; whoever uses more at a time has them closed afterwards.
        arguments: of psycopg's `connect`.
        pooled: a connection pooler in transaction mode stands in between.
    """

    def __init__(
        self, url: str, *, size: int, arguments: Mapping[str, Any], pooled: bool = False
    ) -> None:
        self._url = url
        self._size = size
        self._arguments = dict(arguments)
        self._pooled = pooled
        # The one that was used last is used next: its plans are warm, and idle ones stay idle.
        self._idle: list[Session] = []
        self._taken: set[Session] = set()
        self._closed = False

    @property
    def taken(self) -> int:
        """Sessions in use."""
        return len(self._taken)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session that is as new, and is closed when what it was used for was cut off."""
        session = await self._take()
        self._taken.add(session)
        try:
            async with closed_when_cut_off(session):
                yield session
        finally:
            self._taken.discard(session)
            self._put_back(session)

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[Session]:
        """A session in a transaction, which is committed on a clean exit, else rolled back."""
        async with self.session() as session, transaction(session):
            yield session

    async def close(self) -> None:
        """Close the sessions that nobody uses; the others once they are given back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _take(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            if _answers_still(session):
                return session
            session.pgconn.finish()
        session = await connect(Session, self._url, autocommit=True, **self._arguments)
        session.pooled = self._pooled
        return session

    def _put_back(self, session: Session) -> None:
        if session.closed:
            return
        if not is_as_new(session):
            _log.error(
                "pooled session was left in use", status=session.info.transaction_status.name
            )
        elif not self._closed and len(self._idle) < self._size:
            self._idle.append(session)
            return
        session.pgconn.finish()


@asynccontextmanager
async def transaction(
    session: Session, *first: Call, last: Sequence[Call] = ()
) -> AsyncIterator[list[Rows]]:
    """A transaction, which is committed on a clean exit, else rolled back.

    Args:
        session: in no transaction.
        first: statements that travel with its begin; it gives their answers.
        last: statements that travel with its commit; what is added to the list meanwhile counts.

    Raises:
        CommitRefused: a statement of it had failed, and nobody has said so.
    """
    try:
        _, *answers = await session.run(_BEGIN, *first)
        yield answers
    except BaseException:
        await roll_back(session)
        raise
    await commit(session, *last)


async def commit(session: Session, *before: Call) -> None:
    """Commit the transaction of a session, after these last statements. Raises CommitRefused."""
    answers = await session.run(*before, _COMMIT)
    if not answers[-1].is_done("COMMIT"):
        raise CommitRefused("a statement of the transaction had failed: it was rolled back")


async def roll_back(session: Session) -> None:
    """Roll back; a session that cannot be asked any more is closed, which does the same."""
    if session.closed:
        return
    if session.pgconn.transaction_status not in (
        TransactionStatus.INTRANS,
        TransactionStatus.INERROR,
    ):
        if session.pgconn.transaction_status != TransactionStatus.IDLE:
            session.pgconn.finish()
        return
    try:
        await session.run(_ROLLBACK)
    except psycopg.Error:
        session.pgconn.finish()


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


def _close(connecting: asyncio.Task[Any]) -> None:
    _given_up.discard(connecting)
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().pgconn.finish()


@asynccontextmanager
async def closed_when_cut_off(session: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
    """Close a session when what it was used for was cancelled, or ran out of time.

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
            session.pgconn.finish()


def _answers_still(session: Session) -> bool:
    """Return whether the server has not ended a session while nobody used it: it would have said so."""
    if not is_as_new(session):
        return False
    said = select.poll()
    said.register(session.pgconn.socket, select.POLLIN)
    return not said.poll(0)


def is_as_new(session: psycopg.AsyncConnection[Any]) -> bool:
    """Return whether a session is in no transaction, and would begin one as the server does by default.

    Its pipeline counts too: in one, answers are not what a statement has asked for.
    """
    pgconn = session.pgconn
    return (
        pgconn.status == ConnStatus.OK
        and pgconn.transaction_status == TransactionStatus.IDLE
        and pgconn.pipeline_status == PipelineStatus.OFF
        and session.isolation_level is None
        and session.read_only is None
        and session.deferrable is None
        and session.autocommit
    )
