"""Several statements in one go: what is answered, what is undone, and what values become."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus

from services.runtime.postgres import pool as pools
from services.runtime.postgres.pool import CommitRefused, Pool
from services.runtime.postgres.session import Call, Rows, Session
from services.runtime.postgres.statements import statement
from tests.support.postgres.server import DatabaseUrls

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@pytest.fixture(scope="module")
async def pool(database_url: DatabaseUrls) -> AsyncIterator[Pool]:
    made = Pool(database_url.owner_admin, size=2, arguments={"connect_timeout": 5})
    yield made
    await made.close()


@pytest.fixture
async def session(pool: Pool) -> AsyncIterator[Session]:
    async with pool.session() as session:
        yield session


def call(text: str, **parameters: Any) -> Call:
    return Call(statement(text), parameters)


async def only(session: Session, text: str, **parameters: Any) -> Rows:
    return (await session.run(call(text, **parameters)))[0]


@pytest.mark.parametrize("prepare", [True, False])
async def test_each_statement_has_its_answer(session: Session, prepare: bool) -> None:
    calls = [
        Call(statement("SELECT %(n)s::int AS n, %(t)s::text AS t"), {"n": n, "t": "x"}, prepare)
        for n in range(5)
    ]
    for _ in range(3):
        answers = await session.run(*calls)
        assert [(row.n, row.t) for answer in answers for row in answer] == [
            (n, "x") for n in range(5)
        ]
    assert await session.run() == []


async def test_rows_are_read_in_many_ways(session: Session) -> None:
    rows = await only(session, "SELECT n, n * 2 AS count FROM generate_series(1, 3) AS n")
    assert [row.count for row in rows] == [2, 4, 6]
    assert (len(rows), rows.rowcount, rows.first().n, rows.scalar()) == (3, 3, 1, 1)
    assert rows.scalars() == [1, 2, 3]
    assert rows.mappings()[2] == {"n": 3, "count": 6}
    assert rows.mapping() == {"n": 1, "count": 2}
    assert rows.part(1, 9) == rows.all()[1:]
    for of_one in (rows.one, rows.one_or_none, rows.scalar_one):
        with pytest.raises(LookupError, match="3 rows"):
            of_one()
    none = await only(session, "SELECT 1 AS n WHERE false")
    assert (none.first(), none.scalar(), none.one_or_none(), none.mapping()) == (None,) * 4
    assert (none.all(), none.tuples(), none.has_rows) == ([], [], True)
    done = await only(session, "SET LOCAL application_name = 'x'")
    assert (done.has_rows, done.all(), done.is_done("SET")) == (False, [], True)


async def test_none_is_run_behind_one_that_fails(session: Session) -> None:
    name = f"t_{uuid4().hex}"
    await session.run(call("BEGIN"), call(f"CREATE TEMP TABLE {name} (n int PRIMARY KEY)"))
    insert = f"INSERT INTO {name} VALUES (%(n)s)"
    for _ in range(2):
        await session.run(call("SAVEPOINT s"))
        with pytest.raises(psycopg.errors.UniqueViolation):
            await session.run(call(insert, n=1), call(insert, n=1), call(insert, n=2))
        await session.run(call("ROLLBACK TO SAVEPOINT s"))
    await session.run(call(insert, n=1))
    assert (await only(session, f"SELECT n FROM {name}")).scalars() == [1]
    with pytest.raises(psycopg.errors.UndefinedColumn):
        await session.run(call(f"SELECT nothing FROM {name}"))
    # The transaction has failed. To commit it would be to lose it without a word.
    with pytest.raises(CommitRefused):
        await pools.commit(session)


async def test_a_value_that_cannot_be_sent_leaves_the_session_as_it_was(session: Session) -> None:
    for value in ("a\0b", ["a", "b\0"]):
        with pytest.raises(psycopg.DataError, match="NUL"):
            await session.run(call("SELECT 1"), call("SELECT %(v)s::text", v=value))
    with pytest.raises(TypeError, match="a value of type object"):
        await session.run(call("SELECT %(v)s::text", v=object()))
    with pytest.raises(KeyError):
        await session.run(call("SELECT %(v)s::text"))
    assert (await only(session, "SELECT 1")).scalar_one() == 1


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "text": st.none() | TEXTS,
            "texts": st.lists(st.none() | TEXTS, max_size=5),
            "data": st.none() | st.binary(max_size=20),
            "datas": st.lists(st.binary(max_size=8), max_size=4),
            "number": st.integers(-(2**63), 2**63 - 1),
            "numbers": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
            "flag": st.booleans(),
            "flags": st.lists(st.booleans() | st.none(), max_size=3),
            "amount": st.decimals(allow_nan=False, allow_infinity=False, places=6),
            "id": st.uuids(),
            "ids": st.lists(st.uuids(), max_size=3),
            "moments": st.lists(
                st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds have no zone
                max_size=3,
            ),
            "share": st.floats(allow_nan=False, allow_infinity=False),
        }
    )
)
def test_values_come_back_as_they_were(database_url: DatabaseUrls, values: dict[str, Any]) -> None:
    casts = {
        "text": "text", "texts": "text[]", "data": "bytea", "datas": "bytea[]", "number": "bigint",
        "numbers": "bigint[]", "flag": "boolean", "flags": "boolean[]", "amount": "numeric",
        "id": "uuid", "ids": "uuid[]", "moments": "timestamptz[]", "share": "float8",
    }  # fmt: skip
    asked = ", ".join(f"%({name})s::{kind} AS {name}" for name, kind in casts.items())
    with psycopg.connect(database_url.owner_admin) as connection:
        made = statement(f"SELECT {asked}")
        sent, formats = made.bind(values)
        result = connection.pgconn.exec_params(made.query, sent, None, formats)
        assert result.error_message == b""
        reader = Transformer(connection)
        reader.set_pgresult(result)
        rows = reader.load_rows(0, 1, tuple)
    assert dict(zip(casts, rows[0], strict=True)) == values


async def test_more_than_the_buffers_hold_goes_both_ways(session: Session) -> None:
    text = "x" * 50_000
    answers = await asyncio.wait_for(
        session.run(
            *(call("SELECT %(t)s::text || %(n)s::text AS t", t=text, n=n) for n in range(200))
        ),
        60,
    )
    assert [answer.scalar_one() for answer in answers] == [f"{text}{n}" for n in range(200)]


async def test_a_session_whose_server_is_gone_says_so_and_is_closed(
    pool: Pool, database_url: DatabaseUrls
) -> None:
    async with await psycopg.AsyncConnection.connect(
        database_url.owner_admin, autocommit=True
    ) as admin:
        async with pool.session() as session:
            running = asyncio.create_task(
                session.run(call("SELECT 1"), call("SELECT pg_sleep(30)"))
            )
            await asyncio.sleep(0.05)
            await admin.execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
            with pytest.raises(psycopg.OperationalError):
                await running
            assert session.closed
        async with pool.session() as session:
            ended = session.info.backend_pid
        # Ended while nobody used it: it is not handed out again.
        await admin.execute("SELECT pg_terminate_backend(%s, 5000)", [ended])
        async with pool.session() as session:
            assert session.info.backend_pid != ended
            assert (await only(session, "SELECT 1")).scalar_one() == 1


async def test_a_prepared_statement_that_its_table_has_left_behind_ends_the_session(
    pool: Pool,
) -> None:
    name = f"t_{uuid4().hex}"
    asked = call(f"SELECT * FROM {name}")
    async with pool.session() as session:
        await session.run(call(f"CREATE TABLE {name} (n int)"))
        await session.run(asked)
        await session.run(call(f"ALTER TABLE {name} ALTER n TYPE bigint"))
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="must not change result type"):
            await session.run(asked)
        assert session.closed
    async with pool.session() as session:
        assert (await session.run(asked))[0].all() == []


async def test_callers_of_one_session_wait_for_each_other(session: Session) -> None:
    asked = (
        session.run(call("SELECT %(n)s::int", n=n), call("SELECT %(n)s::int", n=-n))
        for n in range(20)
    )
    answers = await asyncio.gather(*asked)
    assert [tuple(answer.scalar_one() for answer in pair) for pair in answers] == [
        (n, -n) for n in range(20)
    ]


def test_names_and_percent_signs_are_read() -> None:
    made = statement("SELECT %(a)s, %(b)b, %(a)s, 5 %% 2, 'x%%'")
    assert made.query == b"SELECT $1, $2, $1, 5 % 2, 'x%'"
    assert made.names == ("a", "b")
    assert statement("SELECT %(a)s") is statement("SELECT %(a)s")
    values, formats = made.bind({"a": Decimal("1.50"), "b": b"\x00"})
    assert (values, formats) == ([b"1.50", b"\x00"], [0, 1])
    assert statement("SELECT %(a)s").bind({"a": UUID(int=1)})[1] is None


async def test_a_backend_that_dies_behind_its_last_answer_is_a_lost_connection(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool.session() as session:
        fetched = session._fetch

        async def cut_off() -> Any:
            result = await fetched()
            is_sync = result is not None and result.status == ExecStatus.PIPELINE_SYNC
            return None if is_sync else result

        monkeypatch.setattr(session, "_fetch", cut_off)
        with pytest.raises(psycopg.OperationalError):
            await session.run(call("SELECT 1"))
        assert session.closed
