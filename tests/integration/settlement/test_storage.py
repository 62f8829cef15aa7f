"""What services may change of commissions and payouts, which indexes lists use, and when there is no way back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from services.runtime import migrations
from tests.support.postgres.server import DatabaseUrls
from tests.support.settlement.paying import Partnered

LEASE = {"due_at", "lease_owner", "lease_until"}
# What services may change of rows that stay; of every other table they may only read and add rows.
CHANGING = {
    "policy": {
        "threshold_currencies",
        "thresholds_minor",
        "threshold_first",
        "minimum_currencies",
        "minimums_minor",
        "sweep",
        "time_zone",
        "sweep_paused",
        "updated_at",
    },
    "intake": {*LEASE, "taken_at"},
    "earning": set(),
    "balance": {"earned_minor", "claimed_minor", "paid_minor", "updated_at"},
    "sweep": {
        *LEASE,
        "status",
        "through_at",
        "started_at",
        "ended_at",
        "after_party",
        "after_currency",
        "payout_count",
        "totals",
    },
    "payout": {
        "status",
        "claimed_at",
        "paid_at",
        "returned_at",
        "payment_reference",
        "return_code",
    },
    "posting": {*LEASE, "posting_id", "posted_at"},
}
_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'settlement' AND c.relkind = 'r' AND c.relname <> 'alembic_version'
"""
_COLUMNS = """
SELECT a.attname FROM pg_attribute a
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
   AND has_column_privilege(%s, a.attrelid, a.attnum, 'UPDATE')
"""
_FILL = """
INSERT INTO settlement.intake (tenant_id, charge_id, created_at, taken_at)
SELECT 'plan-' || n %% 5, 'chg_' || n, now(), now() FROM generate_series(1, 20000) AS n;
INSERT INTO settlement.earning
SELECT 'plan-' || n %% 5, 'chg_' || n, 1, 'acme', 'calls', 'p-' || n %% 50, 'USD', 100,
       CASE n %% 40 WHEN 1 THEN 'd-1' ELSE '' END, now() - n * interval '1 second', '', now()
  FROM generate_series(1, 20000) AS n;
INSERT INTO settlement.payout (tenant_id, payout_id, party, currency_code, amount_minor, kind, status, destination,
                               charge_id, line_no, sweep_id, created_at)
SELECT 'plan-' || n %% 5, 'po_' || n, 'p-' || n %% 50, 'USD', 100, 1 + n %% 3, 1, '',
       CASE n %% 3 WHEN 0 THEN 'chg_' || n ELSE '' END, 0,
       CASE n %% 3 WHEN 1 THEN 'swp_' || n %% 100 ELSE '' END, now() - n * interval '1 second'
  FROM generate_series(1, 20000) AS n;
"""
_EARNINGS = (
    "FROM settlement.earning WHERE tenant_id = 'plan-1' {} AND (earned_at, charge_id, line_no) < (now(), 'x', 1)"
    " ORDER BY earned_at DESC, charge_id DESC, line_no DESC LIMIT 100"
)
_PAYOUTS = (
    "FROM settlement.payout WHERE tenant_id = 'plan-1' {} AND (created_at, payout_id) < (now(), 'x')"
    " ORDER BY created_at DESC, payout_id DESC LIMIT 100"
)


@pytest.fixture(scope="module")
def service(database: DatabaseUrls) -> Iterator[psycopg.Connection]:
    """The service role with a tenant, on tables with rows of several."""
    with psycopg.connect(database.owner_admin, autocommit=True) as admin:
        admin.execute(_FILL.replace("%%", "%").encode())
        admin.execute("ANALYZE settlement.earning, settlement.payout")
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 'plan-1', false)")
        yield connection


def test_facts_can_be_read_and_added_and_nothing_else(
    database: DatabaseUrls, service: psycopg.Connection
) -> None:
    role = service.info.user
    with psycopg.connect(database.owner_admin) as owner:
        assert {row[0] for row in owner.execute(_TABLES)} == CHANGING.keys()
        for table, wanted in CHANGING.items():
            name = f"settlement.{table}"
            assert {row[0] for row in owner.execute(_COLUMNS, [name, role])} == wanted, table
            for right, has in (("SELECT", True), ("INSERT", True), ("DELETE", False)):
                found = owner.execute("SELECT has_table_privilege(%s, %s, %s)", [role, name, right])
                assert found.fetchone() == (has,), (table, right)


@pytest.mark.parametrize(
    ("query", "condition", "index"),
    [
        (_EARNINGS, "", "earning_by_time"),
        (_EARNINGS, "AND party = 'p-1'", "earning_by_party"),
        (_PAYOUTS, "", "payout_by_time"),
        (_PAYOUTS, "AND party = 'p-1'", "payout_by_party"),
        (_PAYOUTS, "AND status = 2", "payout_by_status"),
        (_PAYOUTS, "AND sweep_id = 'swp_1' AND sweep_id <> ''", "payout_of_sweep"),
        (_PAYOUTS, "AND charge_id = 'chg_6' AND charge_id <> ''", "payout_of_charge"),
    ],
)
def test_a_page_comes_from_an_index_in_order(
    service: psycopg.Connection, query: str, condition: str, index: str
) -> None:
    rows = service.execute(f"EXPLAIN SELECT * {query.format(condition)}".encode()).fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert f"using {index}" in plan, plan
    assert "Sort" not in plan, plan
    assert "Seq Scan" not in plan, plan


async def test_there_is_no_way_back_with_commissions(
    database: DatabaseUrls, partnered: Partnered
) -> None:
    await partnered.charge(100)
    with pytest.raises(RuntimeError, match="does not bring again"):
        migrations.downgrade(database.owner_admin, "services.settlement.migrations")
    assert (await partnered.stands())["carried"] == 100
