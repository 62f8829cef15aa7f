"""A durable Postgres and a metering process of the bench's own, so that nothing else counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.local.postgres.server import EmbeddedPostgres
from services.runtime import migrations
from services.runtime.postgres import roles
from services.runtime.postgres.roles import Passwords
from tests.support.billing.metering_process import MeteringProcess, serving


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeteringProcess]:
    """Start both; end both."""
    folder = tmp_path_factory.mktemp("bench")
    with EmbeddedPostgres(folder / "data") as server:
        urls = roles.prepare_now(server.create_database("bench"), passwords=Passwords.generate())
        migrations.upgrade(urls.owner_admin, ["services.metering.migrations"])
        with serving(urls) as process:
            yield process
