"""A database of each test module's own, and of each test a time of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from services.runtime.postgres.roles import DatabaseUrls
from tests.support.postgres.server import Server
from tests.support.timers.lab import TimerLab


@pytest.fixture(scope="module")
def urls(postgres_server: Server) -> Iterator[DatabaseUrls]:
    """A database of the module's own."""
    made = postgres_server.new_database("timers")
    yield made
    postgres_server.drop_database(made)


@pytest.fixture
async def lab(urls: DatabaseUrls) -> AsyncIterator[TimerLab]:
    """A lab with a clock that stands still. What earlier tests left would be due in it: it is removed."""
    lab = TimerLab(urls)
    await lab.rows("DELETE FROM mesh.timer")
    await lab.rows("DELETE FROM mesh.schedule")
    yield lab
    await lab.close()
