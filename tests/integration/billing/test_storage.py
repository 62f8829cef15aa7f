"""What the services' role may do to charges, what Postgres itself refuses, and that reads use their indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.dialects.postgresql.psycopg import dialect

from services.billing.store import ChargeFilter, Place, charges_query
from services.runtime.postgres import sql
from tests.support.postgres import DatabaseUrls

QUERIES = sql.load("services.billing", "queries.sql")
DIALECT = dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
CHARGES = 3_000

_CHARGES = """
INSERT INTO billing.charge (tenant_id, charge_id, org_id, start_at, end_at, currency_code, total_minor,
                            partner_total_minor, status, plan_id, plan_version, usage_snapshot, line_count,
                            posting_round, created_at, resume_at)
SELECT %(tenant)s, 'chg_' || n, 'org-' || n %% 3, day, day + interval '1 day', 'USD', 1, 0, 1, 'p', 1, '1:1:', 1, 1,
       now(), now() - interval '1 hour'
  FROM generate_series(1, %(charges)s) AS n,
       LATERAL (SELECT timestamptz '2020-01-01Z' + n * interval '1 day' AS day) AS d
"""
_LINES = """
INSERT INTO billing.charge_line (tenant_id, charge_id, line_no, sku, project_id, quantity, exact_amount, amount_minor,
                                 partner_id, partner_amount_minor, proof)
SELECT tenant_id, charge_id, 1, 'sku', 'p', 1, 0.01, 1, '', 0, '' FROM billing.charge WHERE tenant_id = %(tenant)s
"""


@pytest.fixture(scope="module")
def tenant(database: DatabaseUrls) -> Iterator[str]:
    """A tenant with 3,000 charges of 3 organisations, all due to be resumed, until these tests are over."""
    name = f"t-{uuid4().hex[:12]}"
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", (name,))
        connection.execute(_CHARGES.encode(), {"tenant": name, "charges": CHARGES})
        connection.execute(_LINES.encode(), {"tenant": name})
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute("ANALYZE billing.charge, billing.charge_line")
    yield name
    with psycopg.connect(database.owner_admin) as owner:
        # The sweep of any mesh on this database would go on with them, and its events would keep others waiting.
        owner.execute(
            "UPDATE billing.charge SET resume_at = 'infinity' WHERE tenant_id = %s", (name,)
        )


@pytest.fixture
def service(database: DatabaseUrls, tenant: str) -> Iterator[psycopg.Connection]:
    """The services' role, for the tenant."""
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
        yield connection
        connection.rollback()


def plan(
    connection: psycopg.Connection, statement: str, parameters: Mapping[str, object] | None
) -> str:
    rows = connection.execute(f"EXPLAIN {statement}".encode(), parameters)
    return "\n".join(row[0] for row in rows)


def test_a_rival_charge_is_found_by_the_organisation(
    service: psycopg.Connection, tenant: str
) -> None:
    parameters = {
        "tenant_id": tenant,
        "org_id": "org-1",
        "start_at": "2021-01-01Z",
        "end_at": "2021-01-02Z",
    }
    assert "charge_by_org" in plan(service, QUERIES["overlapping"], parameters)


def test_pages_of_charges_are_read_in_their_order(service: psycopg.Connection, tenant: str) -> None:
    after = Place(datetime(2021, 1, 1, tzinfo=UTC), "chg_x")
    for org_id, index in (("org-2", "charge_by_org"), ("", "charge_by_period")):
        query = charges_query(tenant, ChargeFilter(org_id), after, 21)
        literal = query.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True})
        found = plan(service, str(literal), None)
        assert re.search(rf"{index}.*\n.*Index Cond: .*ROW\(start_at, charge_id\) <", found), found
        assert "Seq Scan" not in found, found


def test_lines_are_read_by_their_charge(service: psycopg.Connection, tenant: str) -> None:
    statement = "SELECT sku FROM billing.charge_line WHERE tenant_id = %(t)s AND charge_id = 'chg_7' ORDER BY line_no"
    assert "charge_line_pkey" in plan(service, statement, {"t": tenant})


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing.charge_line SET amount_minor = 0",
        "DELETE FROM billing.charge_line",
        "DELETE FROM billing.charge",
    ],
)
def test_charges_cannot_be_deleted_nor_their_lines_changed(
    service: psycopg.Connection, statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute(statement.encode())


def test_postgres_itself_refuses_charges_that_overlap(service: psycopg.Connection) -> None:
    copied = (
        "INSERT INTO billing.charge SELECT tenant_id, 'chg_copy', org_id, start_at + interval '23 hours',"
        " end_at + interval '23 hours', currency_code, total_minor, partner_total_minor, status, plan_id,"
        " plan_version, usage_snapshot, line_count, posting_round, created_at"
        " FROM billing.charge WHERE charge_id = 'chg_7'"
    )
    with pytest.raises(psycopg.errors.ExclusionViolation):
        service.execute(copied)


def test_the_sweep_learns_names_of_tenants_and_nothing_else(
    database: DatabaseUrls, tenant: str
) -> None:
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 'nobody', true)")
        told = connection.execute("SELECT * FROM billing.tenants_to_resume(100)").fetchall()
        assert (tenant,) in told
        assert {len(row) for row in told} == {1}
        assert connection.execute("SELECT count(*) FROM billing.charge").fetchone() == (0,)


def test_what_is_taken_to_be_resumed_is_put_off(service: psycopg.Connection, tenant: str) -> None:
    parameters = {"tenant_id": tenant, "limit": 10}
    first = {row[0] for row in service.execute(QUERIES["take_to_resume"].encode(), parameters)}
    second = {row[0] for row in service.execute(QUERIES["take_to_resume"].encode(), parameters)}
    assert len(first) == len(second) == 10
    assert not first & second, "a charge that cannot be posted does not keep others waiting"
