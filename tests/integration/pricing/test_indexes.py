"""Under row-level security, as the services' role, the frequent statements go by their indexes.

An operator that is not leakproof would be applied to every row of the tenant, after the policy. Sequential scans are
off, because a small table would be scanned for good reason.
"""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from services.runtime.postgres import sql
from tests.support.postgres.server import DatabaseUrls

QUERIES = sql.load("services.pricing", "queries.sql")
T = "2026-11-20T00:00:00Z"
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("plan_at_version", {"plan_id": "p", "version": 0}, ["plan_id = 'p'"]),
    ("version_in_force", {"plan_id": "p", "at": T}, ["plan_id = 'p'"]),
    (
        "entitlements_of_period",
        {"org_id": "o", "start_at": T, "end_at": T},
        ["org_id = 'o'", "effective_at >="],
    ),
    ("plan_of_model", {"org_id": "o"}, ["org_id = 'o'"]),
    ("earners_of_period", {"org_id": "o", "start_at": T, "end_at": T}, ["org_id = 'o'"]),
    ("rates_of_tiers", {"tiers": ["gold"], "skus": ["s"]}, ["partner_tier = ANY"]),
    ("page_of_plans", {"after": "p", "model_id": "", "limit": 10}, ["plan_id > 'p'"]),
    (
        "page_of_entitlements",
        {"after_org": "o", "after_at": T, "org_id": "", "limit": 10},
        ["ROW(org_id, effective_at) >"],
    ),
    (
        "subscribers",
        {
            "plan_id": "p",
            "any_version": True,
            "version": 0,
            "unpinned": True,
            "to_plan_id": "q",
            "to_version": 0,
            "effective_at": T,
            "limit": 10,
        },
        ["plan_id = 'p'", "org_id = e.org_id"],
    ),
    ("catalog_stamp", {}, ["tenant_id ="]),
    (
        "next_change",
        {"org_id": "o", "plan_id": "p", "now_at": T},
        ["org_id = 'o'", "plan_id = 'p'"],
    ),
    ("newest_plans", {"plan_ids": ["p"], "model_ids": ["m"]}, ["plan_id = ANY", "model_id = ANY"]),
]


@pytest.mark.parametrize(
    ("name", "parameters", "conditions"), CASES, ids=[case[0] for case in CASES]
)
async def test_statements_go_by_their_indexes(
    untouched_database: DatabaseUrls,
    name: str,
    parameters: dict[str, Any],
    conditions: list[str],
) -> None:
    async with await psycopg.AsyncConnection.connect(
        untouched_database.service, cursor_factory=psycopg.AsyncClientCursor
    ) as connection:
        await connection.execute("SELECT set_config('mesh.tenant', 't', true)")
        await connection.execute("SET LOCAL enable_seqscan = off")
        statement = f"EXPLAIN (COSTS OFF) {QUERIES[name]}".encode()
        rows = await connection.execute(statement, {"tenant_id": "t", **parameters})
        lines = [row[0] async for row in rows]
    indexed = " ".join(line for line in lines if "Index Cond" in line)
    for condition in conditions:
        assert condition in indexed, "\n".join(lines)
