"""Every table of every schema: services see the tenant they named, and get an error when they named none."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from tests.support.postgres.server import DatabaseUrls

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


def test_an_analysed_empty_table_refuses_too(new_database: Callable[[], DatabaseUrls]) -> None:
    urls = new_database()
    with psycopg.connect(urls.owner_admin, autocommit=True) as owner:
        owner.execute("ANALYZE mesh.audit")
        assert owner.execute("SELECT count(*) FROM mesh.audit").fetchone() == (0,)
    with psycopg.connect(urls.service) as service:
        service.execute("SET enable_indexscan = off")
        service.execute("SET enable_bitmapscan = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="names no tenant"):
            service.execute("SELECT * FROM mesh.audit")


def test_a_tenant_sees_and_writes_only_its_own(new_database: Callable[[], DatabaseUrls]) -> None:
    insert = (
        "INSERT INTO mesh.audit (tenant_id, audit_id, entity, entity_id, actor) "
        "VALUES (%s, gen_random_uuid(), 'e', '1', 'a')"
    )
    with psycopg.connect(new_database().service) as service:
        for tenant in ("a", "b"):
            service.execute("SELECT set_config('mesh.tenant', %s, true)", [tenant])
            service.execute(insert, [tenant])
            service.commit()
        service.execute("SELECT set_config('mesh.tenant', 'a', true)")
        assert service.execute("SELECT tenant_id FROM mesh.audit").fetchall() == [("a",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            service.execute(insert, ["b"])
        service.rollback()
        for statement in ("UPDATE mesh.audit SET actor = 'x'", "DELETE FROM mesh.audit"):
            service.execute("SELECT set_config('mesh.tenant', 'a', true)")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                service.execute(statement)
            service.rollback()


def test_the_tenant_is_looked_up_once_and_leads_the_index(
    new_database: Callable[[], DatabaseUrls],
) -> None:
    with psycopg.connect(new_database().service) as service:
        service.execute("SELECT set_config('mesh.tenant', 'a', true)")
        plan = service.execute(
            "EXPLAIN SELECT * FROM mesh.idempotency WHERE name = 'n' AND request_id = gen_random_uuid()"
        ).fetchall()
    text = "\n".join(row[0] for row in plan)
    assert "InitPlan" in text
    assert "Index Cond: ((tenant_id = (InitPlan" in text


def test_a_key_is_resolved_by_its_secret_alone(new_database: Callable[[], DatabaseUrls]) -> None:
    digest = bytes(range(32))
    with psycopg.connect(new_database().service) as service:
        service.execute("SELECT set_config('mesh.tenant', 'a', true)")
        service.execute(
            "INSERT INTO mesh.api_key (tenant_id, key_id, prefix, secret_sha256, name, scopes, created_at, "
            "created_by) VALUES ('a', 'key_1', 'tm_', %s, 'n', '{x:read}', now(), 'test')",
            [digest],
        )
        service.commit()
        found = service.execute("SELECT tenant_id, key_id FROM mesh.resolve_api_key(%s)", [digest])
        assert found.fetchall() == [("a", "key_1")]
        wrong = service.execute("SELECT key_id FROM mesh.resolve_api_key(%s)", [digest[::-1]])
        assert wrong.fetchall() == []
