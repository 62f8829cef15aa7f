"""A database of each test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.events import Lab
from tests.support.postgres import Server


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab on a fresh database."""
    urls = postgres_server.new_database("chaos")
    lab = Lab(urls)
    await lab.prepare()
    yield lab
    await lab.close()
    postgres_server.drop_database(urls)
