"""A database of each test module's own: other suites' consumers would want the events too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.runtime.clock import ManualClock
from tests.support.events.lab import Lab, lab_alone
from tests.support.postgres.server import Server
from tests.support.webhooks.checks import clear
from tests.support.webhooks.lab import Receiver, WebhookLab, receiving, webhook_mesh


@pytest.fixture(scope="module")
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab on a fresh database."""
    async with lab_alone(postgres_server) as lab:
        yield lab


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of webhooks that answers 204 until it is told otherwise."""
    async with receiving() as running:
        yield running


@pytest.fixture
async def webhooks(lab: Lab) -> AsyncIterator[WebhookLab]:
    """The webhooks of a tenant of the test's own."""
    # Signatures are checked by a library that looks at the clock of the machine.
    clock = ManualClock(datetime.now(UTC))
    async with webhook_mesh(lab.urls, clock) as (mesh, worker):
        yield WebhookLab(mesh, worker, clock)
    await clear(lab)
