"""Kill -9 while the months to come are made: the next process makes them, and ingest goes on meanwhile."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import psycopg
import pytest

from tests.support.billing.metering_process import serving
from tests.support.postgres.server import DatabaseUrls

_MONTHS = "SELECT count(*) FROM metering.usage_partitions()"


def months(urls: DatabaseUrls) -> int:
    with psycopg.connect(urls.owner_admin) as owner:
        row = owner.execute(_MONTHS).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("crashpoint", "survives"),
    [("metering.make_months.before_commit", False), ("metering.make_months.after_commit", True)],
)
async def test_months_are_made_by_whoever_comes_next(
    new_database: Callable[..., DatabaseUrls], crashpoint: str, survives: bool
) -> None:
    urls = new_database()
    made = months(urls)
    with psycopg.connect(urls.owner_admin) as owner:
        # As after a month in which no process ran.
        name = owner.execute(
            "SELECT name FROM metering.usage_partitions() ORDER BY until_id DESC LIMIT 1"
        ).fetchone()
        assert name is not None
        owner.execute(f"DROP TABLE metering.{name[0]}".encode())
    with serving(urls, crashpoint=crashpoint) as metering:
        assert await asyncio.to_thread(metering.process.wait, 30) == -signal.SIGKILL
    assert months(urls) == (made if survives else made - 1)
    with serving(urls):
        for _ in range(300):
            if months(urls) == made:
                break
            await asyncio.sleep(0.1)
    assert months(urls) == made
