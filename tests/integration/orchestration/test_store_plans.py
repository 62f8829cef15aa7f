"""The statements that run for every payment go by their indexes, as the services' role behind row-level security."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.postgres.server import DatabaseUrls

from .conftest import Bench

SEED = """
INSERT INTO orchestration.payment (tenant_id, payment_id, request_key, merchant_id, order_id, person_id, currency,
                                   total_minor, context, plan_id, config_version, status, correlation_id, created_at,
                                   updated_at)
SELECT 't-' || (n %% 50), 'pay_' || lpad(n::text, 12, '0'), gen_random_uuid(), 'm-' || (n %% 20), 'order-' || n, 'p',
       'USD', 0, '{}', '', 0, 'REFUSED', '', now(), now()
  FROM generate_series(1, 20000) n ON CONFLICT DO NOTHING
"""
BY_ORDER = (
    "SELECT payment_id FROM orchestration.payment WHERE tenant_id = 't-7' AND order_id = 'order-77'"
    " AND payment_id < 'pay_x' ORDER BY payment_id DESC LIMIT 10"
)
NEWEST = "SELECT payment_id FROM orchestration.payment WHERE tenant_id = 't-7' ORDER BY payment_id DESC LIMIT 10"
ATTEMPTS = "SELECT * FROM orchestration.attempt WHERE tenant_id = 't-7' AND payment_id IN ('pay_1') ORDER BY ordinal"


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (BY_ORDER, "payment_order"),
        (NEWEST, "payment_pkey"),
    ],
)
def test_no_statement_reads_a_whole_table(bench: Bench, statement: str, index: str) -> None:
    bench.execute(SEED)
    bench.execute("ANALYZE orchestration.payment")
    with psycopg.connect(bench.urls.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 't-7', true)")
        rows = connection.execute(f"EXPLAIN {statement}".encode()).fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert index in plan
    assert "Seq Scan" not in plan


def test_attempts_are_read_by_their_payment(untouched_database: DatabaseUrls) -> None:
    with psycopg.connect(untouched_database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 't-7', true)")
        connection.execute("SET LOCAL enable_seqscan = off")
        rows = connection.execute(f"EXPLAIN {ATTEMPTS}".encode()).fetchall()
    assert "attempt_tenant_id_payment_id_ordinal_key" in "\n".join(row[0] for row in rows)


def test_the_services_see_no_row_of_another_tenant_and_none_without_a_tenant(bench: Bench) -> None:
    bench.execute(SEED)
    tables = ("merchant_config", "payment", "step", "attempt", "sandbox_order")
    with psycopg.connect(bench.urls.service, autocommit=True) as connection:
        for table in tables:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT 1 FROM orchestration.{table}".encode())
            with connection.transaction():
                connection.execute("SELECT set_config('mesh.tenant', 't-nobody', true)")
                rows = connection.execute(f"SELECT 1 FROM orchestration.{table}".encode())
                assert rows.fetchall() == []
        for table in ("merchant_config", "step"):
            with (
                pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"),
                connection.transaction(),
            ):
                connection.execute("SELECT set_config('mesh.tenant', 't-7', true)")
                connection.execute(f"DELETE FROM orchestration.{table}".encode())
