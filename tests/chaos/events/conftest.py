"""A database of each test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.events.lab import Lab, lab_alone
from tests.support.postgres.server import Server


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab on a fresh database."""
    async with lab_alone(postgres_server, "chaos") as lab:
        yield lab
