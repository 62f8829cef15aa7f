"""A durable Postgres of the bench's own: what a commit costs is part of every figure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.local.postgres.server import EmbeddedPostgres
from services.runtime import migrations
from services.runtime.postgres import roles
from services.runtime.postgres.roles import Passwords
from tests.support.events.lab import Lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab on it, for each figure: a consumer gets all that was ever published."""
    # What latency is measured by; it costs a commit next to nothing.
    settings = {"track_commit_timestamp": "on"}
    with EmbeddedPostgres(tmp_path / "data", settings=settings) as server:
        urls = roles.prepare_now(server.create_database("bench"), passwords=Passwords.generate())
        migrations.upgrade(urls.owner_admin, [])
        lab = Lab(urls)
        await lab.prepare()
        yield lab
        await lab.close()
