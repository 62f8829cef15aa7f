"""Kill -9 while the months to come are made: the next process makes them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import psycopg
import pytest

from tests.support.mesh.process import service
from tests.support.postgres.server import DatabaseUrls

_MONTHS = "SELECT count(*) FROM pg_class WHERE relname ~ '^entry_y\\d+m\\d+$' AND relkind = 'r'"


def months(urls: DatabaseUrls) -> int:
    with psycopg.connect(urls.owner_admin) as owner:
        row = owner.execute(_MONTHS).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("crashpoint", "survives"),
    [("ledger.make_months.before_commit", False), ("ledger.make_months.after_commit", True)],
)
async def test_months_are_made_by_whoever_comes_next(
    new_database: Callable[..., DatabaseUrls], crashpoint: str, survives: bool
) -> None:
    urls = new_database()
    made = months(urls)
    with psycopg.connect(urls.owner_admin) as owner:
        # As after a month in which no process ran.
        name = owner.execute(
            "SELECT max(relname) FROM pg_class WHERE relname ~ '^entry_y\\d+m\\d+$'"
        ).fetchone()
        assert name is not None
        owner.execute(f"DROP TABLE ledger.{name[0]}".encode())
    with service(urls, "services.ledger", crashpoint=crashpoint) as (_, process):
        assert await asyncio.to_thread(process.wait, 30) == -signal.SIGKILL
    assert months(urls) == (made if survives else made - 1)
    with service(urls, "services.ledger"):
        for _ in range(300):
            if months(urls) == made:
                break
            await asyncio.sleep(0.1)
    assert months(urls) == made
