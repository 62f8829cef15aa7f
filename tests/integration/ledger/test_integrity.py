"""What was posted never changes, and can be proved: each kind of damage is found and named, and clean books are clean."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.ledger import manifest as ledger
from services.ledger.work.holds import expiring
from services.runtime.clock import ManualClock
from services.runtime.secrets import new_key
from services.runtime.telemetry import Silent
from pydantic import SecretStr
from tests.support.ledger.living import A_MINUTE, LivingBooks
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls, clock: ManualClock) -> AsyncIterator[Mesh]:
    keys = SecretStr(new_key())
    async with running(database, [ledger.SERVICE], clock=clock, secrets_keys=keys) as running_mesh:
        yield running_mesh


@pytest.fixture
async def books(mesh: Mesh, clock: ManualClock) -> LivingBooks:
    made = LivingBooks(mesh)
    await made.live()
    clock.advance(2 * A_MINUTE)
    await expiring(mesh.node.database, Silent()).sweep()
    return made


async def test_nothing_is_found_in_books_in_which_everything_happened(books: LivingBooks) -> None:
    assert await books.verify() == []
    head = await books.seal()
    assert await books.verify(head) == []
