"""Under row-level security, as the services' role, the statements of webhooks go by their indexes.

Sequential scans are off, because a small table would be scanned for good reason.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from services.runtime.postgres import sql
from tests.support.postgres.server import DatabaseUrls

QUERIES = sql.load("services.events", "queries.sql")
AT = datetime(2026, 5, 4, tzinfo=UTC)
EVENT = {"event_id": ["e"], "position": [1], "subject": ["s"], "key": ["k"], "generation": [0]}
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("webhook_endpoints_after", {"after": "e", "limit": 10}, ["endpoint_id > 'e'"]),
    ("webhook_secrets", {"endpoint_ids": ["e"], "now": AT}, ["endpoint_id = ANY"]),
    (
        "webhook_deliveries_of",
        {"endpoint_id": "e", "statuses": ["FAILED"], "before": AT, "before_event": "v", "limit": 9},
        ["endpoint_id = 'e'", "status = s.status", "ROW(created_at, event_id) <"],
    ),
    (
        "redeliver_webhook_period",
        {"endpoint_id": "e", "statuses": ["FAILED"], "start_at": AT, "end_at": AT, "limit": 9}
        | {"now": AT, "test_subject": "t"},
        ["status = s.status", "created_at >=", "created_at <"],
    ),
    ("add_webhook_deliveries", {"now": AT, "test_subject": "t", **EVENT}, ["tenant_id = 't'"]),
    ("events_of_webhooks", {"positions": [1]}, ['"position" = ANY', "event_id = "]),
]


@pytest.mark.parametrize(
    ("name", "parameters", "conditions"), CASES, ids=[case[0] for case in CASES]
)
async def test_statements_go_by_their_indexes(
    untouched_database: DatabaseUrls, name: str, parameters: dict[str, Any], conditions: list[str]
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
    assert not any("Seq Scan" in line for line in lines), "\n".join(lines)
