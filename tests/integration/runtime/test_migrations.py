"""Every environment goes up, down and up again; at its head it costs next to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from services.runtime import migrations
from services.runtime.migrations import MESH, MigrationFailed
from tests.support.postgres.server import DatabaseUrls, service_environments

_RELATIONS = """
SELECT n.nspname || '.' || c.relname, c.relkind::text, pg_get_userbyid(c.relowner) FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname NOT LIKE 'alembic_version%%' ORDER BY 1
"""


def relations(urls: DatabaseUrls, schema: str) -> list[tuple[str, str, str]]:
    with psycopg.connect(urls.owner_admin) as admin:
        return [(row[0], row[1], row[2]) for row in admin.execute(_RELATIONS, [schema])]


@pytest.mark.parametrize("environment", service_environments())
def test_an_environment_can_be_reversed(
    new_database: Callable[..., DatabaseUrls], environment: str
) -> None:
    urls = new_database()
    schema = migrations.schema(environment)
    before = relations(urls, schema)
    assert before, f"{environment} makes nothing in schema {schema}"
    assert all(owner.endswith("_owner") for _name, _kind, owner in before)
    migrations.downgrade(urls.owner_admin, environment)
    assert relations(urls, schema) == []
    migrations.upgrade(urls.owner_admin, [environment])
    assert relations(urls, schema) == before


def test_the_runtime_s_own_schema_can_be_reversed(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database(empty=True)
    migrations.upgrade(urls.owner_admin, [])
    before = relations(urls, "mesh")
    migrations.downgrade(urls.owner_admin, MESH)
    assert relations(urls, "mesh") == []
    migrations.upgrade(urls.owner_admin, [])
    assert relations(urls, "mesh") == before


def test_mesh_stays_while_a_service_stands_on_it(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database(empty=True)
    migrations.upgrade(urls.owner_admin, ["services.monitoring.migrations"])
    before = relations(urls, "mesh")
    with pytest.raises(MigrationFailed, match="current_tenant"):
        migrations.downgrade(urls.owner_admin, MESH)
    assert relations(urls, "mesh") == before


def test_mesh_comes_first_without_being_asked_for(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database(empty=True)
    migrations.upgrade(urls.owner_admin, ["services.monitoring.migrations", MESH])
    assert relations(urls, "mesh")


def test_at_its_head_a_database_is_left_alone_and_quickly(database: DatabaseUrls) -> None:
    environments = service_environments()
    migrations.upgrade(database.owner_admin, environments)
    start = time.perf_counter()
    migrations.upgrade(database.owner_admin, environments)
    assert time.perf_counter() - start < 1.5


def test_a_database_that_is_newer_than_the_code_is_refused(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as admin:
        admin.execute("UPDATE mesh.alembic_version SET version_num = '9999'")
    with pytest.raises(MigrationFailed, match="9999"):
        migrations.upgrade(urls.owner_admin, [])


def test_an_unknown_environment_is_named(database: DatabaseUrls) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"services\.runtime\.nothing"):
        migrations.upgrade(database.owner_admin, ["services.runtime.nothing"])
