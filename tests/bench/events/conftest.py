"""A durable Postgres of the bench's own: what a commit costs is part of every figure."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.runtime import migrations, roles
from services.runtime.postgres import EmbeddedPostgres
from services.runtime.roles import Passwords
from tests.support.events import Lab


@pytest.fixture(scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A lab on it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("bench") / "data") as server:
        urls = roles.prepare_now(server.create_database("bench"), passwords=Passwords.generate())
        migrations.upgrade(urls.owner_admin, [])
        lab = Lab(urls)
        await lab.prepare()
        yield lab
        await lab.close()
