"""Schema metering: what tables.py says is what the migrations make, and they can be taken back."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from sqlalchemy.dialects import postgresql

from services.metering import tables
from services.runtime import migrations
from tests.support.postgres.server import DatabaseUrls

ENVIRONMENT = "services.metering.migrations"
COLUMNS = """
SELECT c.table_name, c.column_name,
       format_type(a.atttypid, a.atttypmod) || CASE WHEN c.collation_name IS NULL THEN '' ELSE ' COLLATE "C"' END,
       c.is_nullable = 'YES', i.indrelid IS NOT NULL
  FROM information_schema.columns AS c
  JOIN pg_attribute AS a
    ON a.attrelid = format('%I.%I', c.table_schema, c.table_name)::regclass AND a.attname = c.column_name
  JOIN pg_class AS t ON t.oid = a.attrelid AND NOT t.relispartition
  LEFT JOIN pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)
 WHERE c.table_schema = 'metering' AND c.table_name <> 'alembic_version'
 ORDER BY c.table_name, c.ordinal_position
"""


def columns(urls: DatabaseUrls) -> list[tuple[object, ...]]:
    """Read table, column, type, whether it may be null and whether it is of the key."""
    with psycopg.connect(urls.owner_admin) as connection:
        return connection.execute(COLUMNS.encode()).fetchall()


def test_tables_are_what_the_migrations_make(database: DatabaseUrls) -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    declared = [
        (
            table.name,
            column.name,
            _spelling(column.type.compile(dialect)),
            column.nullable,
            column.primary_key,
        )
        for table in sorted(tables.metadata.tables.values(), key=lambda table: table.name)
        for column in table.columns
    ]
    assert columns(database) == declared


def _spelling(ddl: str) -> str:
    kind, collate, collation = ddl.partition(" COLLATE")
    return kind.lower().replace("(38, 18)", "(38,18)") + collate + collation


def test_migrations_can_be_taken_back(new_database: Callable[..., DatabaseUrls]) -> None:
    urls = new_database(empty=True)
    for _ in range(2):
        migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
        assert columns(urls)
        migrations.downgrade(urls.owner_admin, ENVIRONMENT)
        assert not columns(urls)
