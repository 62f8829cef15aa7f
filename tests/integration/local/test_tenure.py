"""One run at a time on a database, and what is said of the other one."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.local import tenure
from services.local.postgres.server import EmbeddedPostgres
from services.local.tenure import DatabaseOccupied, Tenure

PLAIN = "tenure_plain"


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A database for a superuser and for a plain login that owns it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("tenure") / "data") as server:
        admin = server.admin_url()
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {PLAIN} LOGIN CREATEROLE PASSWORD 'pass'")
            connection.execute(f"CREATE DATABASE {PLAIN} OWNER {PLAIN}")
        host = conninfo_to_dict(admin)["host"]
        yield (
            make_conninfo(admin, dbname=PLAIN),
            make_conninfo(host=host, dbname=PLAIN, user=PLAIN, password="pass"),
        )


async def test_a_run_by_another_login_is_told_of(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "NOTICED_WITHIN_SECONDS", 0.0)
    superuser, plain = urls
    held = await Tenure.take(superuser)
    try:
        # A plain login is not shown since when a superuser is there, nor from where.
        with pytest.raises(DatabaseOccupied, match=r"\(tollmesh up, process \d+ of .*\): stop it"):
            await Tenure.take(plain)
    finally:
        await held.end()
    held = await Tenure.take(plain)
    try:
        with pytest.raises(DatabaseOccupied, match=r"its own machine, since \d{4}-"):
            await Tenure.take(superuser)
    finally:
        await held.end()
