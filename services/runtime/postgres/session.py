"""A session of psycopg's that sends several statements at once and waits for their answers once.

psycopg opens it, adapts what comes back and does everything else (COPY, notifications); only the way of a named
statement is our own, on libpq's pipeline: the driver's takes five times the CPU.
"""

from __future__ import annotations

import asyncio
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import psycopg
from psycopg import abc, errors, pq
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus

from services.runtime.postgres.statements import Statement

_WELL = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY})
_NAME = "row"
# A prepared statement does not fit the tables any more, or is gone: a new session has none.
_STALE = frozenset({b"0A000", b"26000"})
# Items of an array that are written before others have their turns.
_ITEMS_MAX = 100


class Call(NamedTuple):
    """A statement with its values.

    Attributes:
        statement: what to run.
        parameters: its values by name.
        prepare: keep its plan for the next time on the session.
        binary: have its rows sent in Postgres's binary format.
    """

    statement: Statement
    parameters: Mapping[str, Any] = {}
    prepare: bool = True
    binary: bool = False


_Bound = tuple[Call, Sequence[bytes | None], Sequence[int] | None]


class Rows:
    """The answer to a statement: rows with attributes, read when they are asked for."""

    __slots__ = ("_result", "_session", "_transformer", "rowcount")

    def __init__(self, session: psycopg.AsyncConnection[Any], result: pq.abc.PGresult) -> None:
        self._session = session
        self._result = result
        self._transformer: abc.Transformer | None = None
        self.rowcount = result.command_tuples if result.command_tuples is not None else -1

    def is_done(self, command: str) -> bool:
        """Return whether the server has done this command, and not another one in its place."""
        return self._result.command_status == command.encode()

    @property
    def has_rows(self) -> bool:
        """True for a statement that answers with rows, be it none."""
        return self._result.nfields > 0

    def __len__(self) -> int:
        return self._result.ntuples

    def __iter__(self) -> Iterator[Any]:
        return iter(self.part(0, self._result.ntuples))

    def part(self, start: int, end: int) -> list[Any]:
        """Return rows from one number to before another."""
        return self._load(start, end, self._maker)

    def tuples(self) -> list[tuple[Any, ...]]:
        """Return all rows as plain tuples."""
        return self._read(self._result.ntuples)

    def _read(self, rows_max: int) -> list[tuple[Any, ...]]:
        return self._load(0, rows_max, lambda: tuple)

    def _load(self, start: int, end: int, maker: Callable[[], Callable[..., Any]]) -> list[Any]:
        end = min(end, self._result.ntuples)
        if start >= end:
            return []
        if self._transformer is None:
            self._transformer = Transformer(self._session)
            self._transformer.set_pgresult(self._result)
        return self._transformer.load_rows(start, end, maker())

    def all(self) -> list[Any]:
        """Return all rows."""
        return self.part(0, self._result.ntuples)

    def first(self) -> Any:
        """Return the first row, or None."""
        found = self.part(0, 1)
        return found[0] if found else None

    def one(self) -> Any:
        """Return the only row. Raises LookupError when there are none or several."""
        if self._result.ntuples != 1:
            raise LookupError(f"{self._result.ntuples} rows where one was expected")
        return self.first()

    def one_or_none(self) -> Any:
        """Return the only row, or None. Raises LookupError when there are several."""
        return self.one() if self._result.ntuples else None

    def scalar_one(self) -> Any:
        """Return the first column of the only row. Raises LookupError when there are none or several."""
        return self.one()[0]

    def scalar(self) -> Any:
        """Return the first column of the first row, or None."""
        found = self.first()
        return None if found is None else found[0]

    def scalars(self) -> list[Any]:
        """Return the first column of each row."""
        return [found[0] for found in self.tuples()]

    def mappings(self) -> list[dict[str, Any]]:
        """Return each row as a dict by column."""
        names = self._names()
        return [dict(zip(names, found, strict=True)) for found in self.tuples()]

    def mapping(self) -> dict[str, Any] | None:
        """Return the first row as a dict by column, or None."""
        found = self._read(1)
        return dict(zip(self._names(), found[0], strict=True)) if found else None

    def _names(self) -> tuple[str, ...]:
        return tuple(
            (self._result.fname(column) or b"").decode() for column in range(self._result.nfields)
        )

    def _maker(self) -> Callable[[Sequence[Any]], Any]:
        return _row_type(self._names())


@lru_cache(maxsize=1024)
def _row_type(names: tuple[str, ...]) -> Callable[[Sequence[Any]], Any]:
    made: Any = namedtuple(_NAME, names, rename=True)  # type: ignore[misc] # columns are known at run time
    return cast("Callable[[Sequence[Any]], Any]", made._make)


class Session(psycopg.AsyncConnection[Any]):
    """A connection that commits nothing by itself: transactions begin and end by statements.

    Attributes:
        pooled: a connection pooler in transaction mode stands in between; nothing is prepared.
        limit_s: how long a named statement may take; None where the server counts, as it does in a transaction.
    """

    pooled = False
    limit_s: float | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kept: set[bytes] = set()

    async def run(self, *calls: Call) -> list[Rows]:
        """Run statements in one go, in their order; none behind one that fails is run.

        A session on which this was cut off is closed: what it would answer next, nobody could tell.

        Raises:
            psycopg.Error: what the first statement that failed says, or the connection.
        """
        bound = [(call, *call.statement.bind(call.parameters)) async for call in _in_turns(calls)]
        async with self.lock:
            self._check_connection_ok()
            whole = False
            try:
                answers, failed = await self._answers(bound)
                whole = True
            finally:
                if not whole:
                    self.pgconn.finish()
            if failed is not None:
                if (failed.error_field(DiagnosticField.SQLSTATE) or b"") in _STALE:
                    self.pgconn.finish()
                raise errors.error_from_result(failed, encoding=self.info.encoding)
            return answers

    async def _answers(self, bound: Sequence[_Bound]) -> tuple[list[Rows], pq.abc.PGresult | None]:
        """Send and receive; returns the answers up to the first failure, and that."""
        pgconn = self.pgconn
        pgconn.enter_pipeline_mode()
        # What is prepared stands before what runs it.
        expected: list[bytes | Call] = []
        for call, values, formats in bound:
            statement = call.statement
            kept = call.prepare and not self.pooled
            if kept and statement.name not in self._kept and statement.name not in expected:
                pgconn.send_prepare(statement.name, statement.query)
                expected.append(statement.name)
            as_binary = int(call.binary)
            if kept:
                pgconn.send_query_prepared(statement.name, values, formats, as_binary)
            else:
                pgconn.send_query_params(statement.query, values, None, formats, as_binary)
            expected.append(call)
        pgconn.pipeline_sync()
        await self._flush()
        answers: list[Rows] = []
        failed: pq.abc.PGresult | None = None
        for each in expected:
            result = await self._result()
            if result.status not in _WELL:
                failed = failed or result
            elif isinstance(each, bytes):
                self._kept.add(each)
            else:
                answers.append(Rows(self, result))
            if pgconn.status != ConnStatus.OK:
                break
        else:
            synced = await self._fetch()
            if synced is None or synced.status != ExecStatus.PIPELINE_SYNC:
                # The backend ended between the last answer and this.
                raise psycopg.OperationalError(
                    pgconn.get_error_message() or "the connection is lost"
                )
            pgconn.exit_pipeline_mode()
        return answers, failed

    async def _result(self) -> pq.abc.PGresult:
        """Receive the answer to one statement."""
        result = await self._fetch()
        if result is None:
            raise psycopg.OperationalError(
                self.pgconn.get_error_message() or "the connection is lost"
            )
        if self.pgconn.status == ConnStatus.OK:
            end = await self._fetch()
            assert end is None, "a statement has one answer"
        return result

    async def _fetch(self) -> pq.abc.PGresult | None:
        pgconn = self.pgconn
        while pgconn.is_busy():
            await self._until(writable=False)
            pgconn.consume_input()
        return pgconn.get_result()

    async def _flush(self) -> None:
        pgconn = self.pgconn
        while pgconn.flush():
            # The server may not read on before its answers are read.
            await self._until(writable=True)
            pgconn.consume_input()

    async def _until(self, *, writable: bool) -> None:
        """Wait until there is something to read, or room to write."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        socket = self.pgconn.socket
        loop.add_reader(socket, _set, ready)
        if writable:
            loop.add_writer(socket, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(socket)
            if writable:
                loop.remove_writer(socket)


async def _in_turns(calls: Sequence[Call]) -> AsyncIterator[Call]:
    """Give calls one by one, and others their turns between large ones."""
    for number, call in enumerate(calls):
        if (
            number
            and len(call.parameters)
            and any(
                isinstance(value, list) and len(value) > _ITEMS_MAX
                for value in call.parameters.values()
            )
        ):
            await asyncio.sleep(0)
        yield call


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
