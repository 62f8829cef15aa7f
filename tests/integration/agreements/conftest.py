"""Agreements, served alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.agreements.manifest import SERVICE
from services.runtime.clock import ManualClock
from tests.support.agreements.desk import Contracts, World, new_contracts
from tests.support.mesh.serving import running
from tests.support.postgres.server import DatabaseUrls


@pytest.fixture(scope="module")
async def world(database: DatabaseUrls) -> AsyncIterator[World]:
    clock = ManualClock(datetime(2026, 3, 1, 9, 30, tzinfo=UTC))
    async with running(database, [SERVICE], clock=clock) as mesh:
        yield World(mesh, clock, database)


@pytest.fixture
def contracts(world: World) -> Contracts:
    return new_contracts(world)
