"""Orders, served alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.orders.desk import Customer, Shop, new_customer, shop_world
from tests.support.orders.wallet import Wallet, new_wallet
from tests.support.postgres.server import DatabaseUrls


@pytest.fixture(scope="module")
async def shop(database: DatabaseUrls) -> AsyncIterator[Shop]:
    async with shop_world(database) as served:
        yield served


@pytest.fixture
def customer(shop: Shop) -> Customer:
    return new_customer(shop)


@pytest.fixture
def wallet(customer: Customer) -> Wallet:
    return new_wallet(customer)
