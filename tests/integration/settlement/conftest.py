"""Settlement, billing and the ledger, with pricing played."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.postgres.server import DatabaseUrls
from tests.support.settlement.paying import Desk, Partnered, new_partnered, settlement_world


@pytest.fixture(scope="module")
async def desk(database: DatabaseUrls) -> AsyncIterator[Desk]:
    async with settlement_world(database) as served:
        yield served


@pytest.fixture
def partnered(desk: Desk) -> Partnered:
    return new_partnered(desk)
