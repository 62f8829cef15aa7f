"""A NATS server, and databases to carry events between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from tests.support.events.lab import Lab
from tests.support.jetstream import nats
from tests.support.jetstream.nats import Nats
from tests.support.postgres.server import DatabaseUrls

MakeLab = Callable[[], Awaitable[Lab]]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """One server for all tests of this worker; each test's sites have names of their own."""
    with nats.serving(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
async def new_lab(new_database: Callable[..., DatabaseUrls]) -> AsyncIterator[MakeLab]:
    """Make labs, each on a database of its own."""
    made: list[Lab] = []

    async def make() -> Lab:
        lab = Lab(new_database())
        made.append(lab)
        await lab.prepare()
        return lab

    yield make
    for lab in made:
        await lab.close()
