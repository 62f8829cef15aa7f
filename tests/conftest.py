"""Fixtures that every suite may use: databases on one shared Postgres.

A test that asks for one fails when Postgres cannot be started; it is never skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support import postgres
from tests.support.postgres import DatabaseUrls, Server


@pytest.fixture(scope="session")
def postgres_server(testrun_uid: str) -> Iterator[Server]:
    """The Postgres server that all workers of this run share."""
    server, present = postgres.join(testrun_uid[:12])
    yield server
    os.close(present)


@pytest.fixture(scope="session")
def database(postgres_server: Server, worker_id: str) -> DatabaseUrls:
    """A migrated database of this worker's own. Use a fresh tenant per test instead of cleaning it."""
    return postgres_server.new_database(worker_id)


@pytest.fixture(scope="session")
def database_url(database: DatabaseUrls) -> DatabaseUrls:
    """The worker's database, under the name that reads well in `running(database_url, [...])`."""
    return database


@pytest.fixture
def new_database(postgres_server: Server) -> Iterator[Callable[..., DatabaseUrls]]:
    """Make databases of a test's own: `new_database()` is migrated, `new_database(empty=True)` is not."""
    made: list[DatabaseUrls] = []

    def make(*, empty: bool = False) -> DatabaseUrls:
        template = "template1" if empty else postgres.TEMPLATE
        made.append(postgres_server.new_database("test", template=template))
        return made[-1]

    yield make
    for urls in made:
        postgres_server.drop_database(urls)
