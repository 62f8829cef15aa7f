"""The lists use an index for every filter, under the services' role and its row-level security."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.postgres.server import DatabaseUrls

TENANTS = 5
VIOLATIONS = 20_000

_FILL = """
INSERT INTO monitoring.violation
SELECT 'plan-' || n %% %(tenants)s, 'vio_' || n, 'c/' || n %% 50, 1, 'r' || n, 'LOW', 'm', 's', '',
       now() - n * interval '1 second', now() - n * interval '1 second',
       sha256((n %% 100)::text::bytea), 1
  FROM generate_series(1, %(violations)s) AS n
"""

_PAGE = """
EXPLAIN SELECT * FROM monitoring.violation
 WHERE tenant_id = 'plan-1' {condition} AND (recorded_at, violation_id) < (now() - interval '1 hour', 'x')
 ORDER BY recorded_at DESC, violation_id DESC LIMIT 100
"""


@pytest.fixture(scope="module")
def service(database: DatabaseUrls) -> Iterator[psycopg.Connection]:
    """The service role with a tenant, on a table with rows of several."""
    with psycopg.connect(database.owner_admin, autocommit=True) as admin:
        admin.execute(_FILL, {"tenants": TENANTS, "violations": VIOLATIONS})
        admin.execute("ANALYZE monitoring.violation")
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 'plan-1', false)")
        yield connection


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("", "violation_recorded"),
        ("AND contract_id = 'c/1'", "violation_contract"),
        ("AND fingerprint = sha256('1')", "violation_group"),
        ("AND request_id = 'r1'", "violation_request"),
    ],
)
def test_a_page_comes_from_an_index_in_order(
    service: psycopg.Connection, condition: str, index: str
) -> None:
    rows = service.execute(_PAGE.format(condition=condition).encode()).fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert f"using {index}" in plan, plan
    assert "Sort" not in plan, plan
    assert "Seq Scan" not in plan, plan
