"""Every table of every schema: services see the tenant they named, and get an error when they named none."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.support.postgres import DatabaseUrls

_TABLES = """
SELECT n.nspname, c.relname, c.relrowsecurity, c.relforcerowsecurity,
       has_any_column_privilege(%(service)s, c.oid, 'SELECT') AS readable,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id') AS has_tenant,
       (SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = c.oid AND i.indisprimary) AS key_leads_with
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema)' AND n.nspname <> 'public'
 ORDER BY 1, 2
"""

# The relay reads these by lane, for all tenants at once.
_QUEUES = {"mesh.delivery"}


@pytest.fixture
def service(database: DatabaseUrls) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.service) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def walled(service: psycopg.Connection) -> list[tuple[str, str]]:
    """Tables with a tenant that the service role may read."""
    rows = service.execute(_TABLES, {"service": service.info.user}).fetchall()
    service.rollback()
    found = [(row[0], row[1]) for row in rows if row[4] and row[5]]
    assert ("mesh", "audit") in found
    return found


def test_every_table_that_services_read_is_walled(service: psycopg.Connection) -> None:
    for schema, table, enabled, forced, readable, has_tenant, key_leads_with in service.execute(
        _TABLES, {"service": service.info.user}
    ):
        name = f"{schema}.{table}"
        if has_tenant and readable:
            assert enabled, f"{name} has a tenant and no row-level security"
            assert not forced, f"{name}: FORCE keeps the owner from migrating"
            if name not in _QUEUES:
                assert key_leads_with == "tenant_id", f"{name}: tenant_id must lead the key"


@pytest.mark.parametrize("setting", [None, ""])
def test_without_a_tenant_every_table_refuses(
    service: psycopg.Connection, walled: list[tuple[str, str]], setting: str | None
) -> None:
    for schema, table in walled:
        if setting is not None:
            service.execute("SELECT set_config('mesh.tenant', %s, true)", [setting])
        statement = sql.SQL("SELECT * FROM {}.{}").format(
            sql.Identifier(schema), sql.Identifier(table)
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="names no tenant"):
            service.execute(statement)
        service.rollback()


def test_an_analysed_empty_table_refuses_too(
    database: DatabaseUrls, service: psycopg.Connection
) -> None:
    with psycopg.connect(database.owner_admin, autocommit=True) as owner:
        owner.execute("ANALYZE mesh.audit")
        if owner.execute("SELECT count(*) FROM mesh.audit").fetchone() != (0,):
            pytest.fail("this test needs mesh.audit empty: give it a database of its own")
    service.execute("SET enable_indexscan = off")
    service.execute("SET enable_bitmapscan = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="names no tenant"):
        service.execute("SELECT * FROM mesh.audit")
