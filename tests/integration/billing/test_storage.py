"""What the services' role may do to charges, what Postgres itself refuses, and that reads use their indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.dialects.postgresql.psycopg import dialect

from services.billing.domain.charges import ChargeFilter, Place
from services.billing.store import charges_query
from services.runtime.postgres import sql
from tests.support.postgres.server import DatabaseUrls

QUERIES = sql.load("services.billing", "queries.sql")
DIALECT = dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
CHARGES = 3_000

_CHARGES = """
INSERT INTO billing.charge (tenant_id, charge_id, org_id, start_at, end_at, currency_code, total_minor,
                            partner_total_minor, status, plan_id, plan_version, usage_snapshot, line_count,
                            transfer_count, transfer_round, created_at, due_at, correlation_id, causation_id)
SELECT %(tenant)s, 'chg_' || n, 'org-' || n %% 3, day, day + interval '1 day', 'USD', 1, 0, 1, 'p', 1, '1:1:', 1, 1, 1,
       now(), now() - n * interval '1 hour', 'chain-' || n, 'cause-' || n
  FROM generate_series(1, %(charges)s) AS n,
       LATERAL (SELECT timestamptz '2020-01-01Z' + n * interval '1 day' AS day) AS d
"""
_LINES = """
INSERT INTO billing.charge_line (tenant_id, charge_id, line_no, sku, project_id, quantity, exact_amount, amount_minor,
                                 partner_id, partner_amount_minor, proof)
SELECT tenant_id, charge_id, 1, 'sku', 'p', 1, 0.01, 1, '', 0, '' FROM billing.charge WHERE tenant_id = %(tenant)s
"""
_TRANSFERS = """
INSERT INTO billing.charge_transfer (tenant_id, charge_id, posting_round, transfer_no, transfer_id, line_no, leg,
                                     debit_account_id, debit_type, debit_owner, credit_account_id, credit_type,
                                     credit_owner, currency_code, amount_minor, code, effective_at)
SELECT tenant_id, charge_id, 1, 1, gen_random_uuid(), 1, 'gross', 'receivable:' || org_id || ':USD', 'ASSET', org_id,
       'revenue:sku:USD', 'INCOME', '', 'USD', 1, 1001, end_at FROM billing.charge WHERE tenant_id = %(tenant)s
"""


@pytest.fixture(scope="module")
def tenant(database: DatabaseUrls) -> Iterator[str]:
    """A tenant with 3,000 charges of 3 organisations, all due to be resumed, until these tests are over."""
    name = f"t-{uuid4().hex[:12]}"
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", (name,))
        connection.execute(_CHARGES.encode(), {"tenant": name, "charges": CHARGES})
        connection.execute(_LINES.encode(), {"tenant": name})
        connection.execute(_TRANSFERS.encode(), {"tenant": name})
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute("ANALYZE billing.charge, billing.charge_line, billing.charge_transfer")
    yield name
    with psycopg.connect(database.owner_admin) as owner:
        # The sweep of any mesh on this database would go on with them, and its events would keep others waiting.
        owner.execute("UPDATE billing.charge SET due_at = 'infinity' WHERE tenant_id = %s", (name,))


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


def test_transfers_of_a_page_are_read_by_their_charges(
    service: psycopg.Connection, tenant: str
) -> None:
    parameters = {
        "tenant_id": tenant,
        "charge_ids": [f"chg_{n}" for n in range(1, 21)],
        "posting_rounds": [1] * 20,
    }
    found = plan(service, QUERIES["transfers_of"], parameters)
    assert "charge_transfer_pkey" in found, found
    assert "Seq Scan" not in found, found
    rows = service.execute(QUERIES["transfers_of"].encode(), parameters).fetchall()
    assert {row[0] for row in rows} == set(parameters["charge_ids"])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing.charge_line SET amount_minor = 0",
        "DELETE FROM billing.charge_line",
        "UPDATE billing.charge_transfer SET amount_minor = 1",
        "DELETE FROM billing.charge_transfer",
        "DELETE FROM billing.charge",
    ],
)
def test_charges_cannot_be_deleted_nor_what_they_hold_changed(
    service: psycopg.Connection, statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute(statement.encode())


def test_postgres_itself_refuses_charges_that_overlap(service: psycopg.Connection) -> None:
    copied = (
        "INSERT INTO billing.charge (tenant_id, charge_id, org_id, start_at, end_at, currency_code, total_minor,"
        " partner_total_minor, status, plan_id, plan_version, usage_snapshot, line_count, transfer_count,"
        " transfer_round, created_at)"
        " SELECT tenant_id, 'chg_copy', org_id, start_at + interval '23 hours',"
        " end_at + interval '23 hours', currency_code, total_minor, partner_total_minor, status, plan_id,"
        " plan_version, usage_snapshot, line_count, transfer_count, transfer_round, created_at"
        " FROM billing.charge WHERE charge_id = 'chg_7'"
    )
    with pytest.raises(psycopg.errors.ExclusionViolation):
        service.execute(copied)


def test_what_is_due_is_handed_out_once_the_oldest_first_and_nothing_else_is_shown(
    database: DatabaseUrls, tenant: str
) -> None:
    parameters = {"now": datetime.now(UTC), "owner": "o", "lease_ms": 60_000, "batch": 10}
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', '', true)")
        claimed = [
            connection.execute(QUERIES["claim_due"].encode(), parameters).fetchall()
            for _ in range(2)
        ]
        names = [
            column.name
            for column in connection.execute(
                QUERIES["claim_due"].encode(), parameters | {"batch": 0}
            ).description
            or ()
        ]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="names no tenant"):
            connection.execute("SELECT count(*) FROM billing.charge")
    assert names == [
        *("tenant_id", "item_id", "epoch", "tries", "correlation_id", "causation_id", "traceparent")
    ]
    ours = [row for batch in claimed for row in batch if row[0] == tenant]
    assert [len(batch) for batch in claimed] == [10, 10]
    expected = [f"chg_{n}" for n in range(CHARGES, 0, -1)][: len(ours)]
    assert sorted(row[1] for row in ours) == sorted(expected)
    assert {row[2:] for row in ours if row[1] == "chg_3000"} == {
        (1, 1, "chain-3000", "cause-3000", "")
    }


def test_what_is_due_is_found_by_its_index(database: DatabaseUrls, tenant: str) -> None:
    with psycopg.connect(database.owner_admin) as owner:
        found = plan(
            owner,
            "SELECT charge_id FROM billing.charge WHERE due_at <= now()"
            " AND (lease_until IS NULL OR lease_until < clock_timestamp())"
            " ORDER BY due_at LIMIT 10 FOR UPDATE SKIP LOCKED",
            None,
        )
    assert "charge_due" in found


def test_how_far_the_queue_is_behind(database: DatabaseUrls, tenant: str) -> None:
    with psycopg.connect(database.service) as connection:
        now = datetime.now(UTC)
        row = connection.execute(QUERIES["due_lag"].encode(), {"now": now}).fetchone()
    assert row is not None and row[0] >= CHARGES
    assert row[1] <= now - timedelta(hours=CHARGES)
