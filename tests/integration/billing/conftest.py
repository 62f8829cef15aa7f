"""Billing and the ledger, with pricing played."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.billing.charging import Tenant, World, billing_world, new_tenant
from tests.support.postgres.server import DatabaseUrls


@pytest.fixture(scope="module")
async def world(database: DatabaseUrls) -> AsyncIterator[World]:
    async with billing_world(database) as served:
        yield served


@pytest.fixture
def tenant(world: World) -> Tenant:
    return new_tenant(world)
