"""ReportUsageDrift: findings become violations, each the same whenever it is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from payments.events.v1 import monitoring_events_pb2
from payments.metering.v1 import drift_pb2

from services.runtime.edge.status import RemoteError
from tests.support.postgres.server import DatabaseUrls

DAY = datetime(2026, 11, 19, tzinfo=UTC)


def finding(**changes: Any) -> drift_pb2.DriftFinding:
    said: dict[str, Any] = {"org_id": "chat", "sku": "llm.tokens", "event_count": 2}
    said |= {"kind": drift_pb2.DRIFT_KIND_MISSING, "quantity": "12.5"}
    found = drift_pb2.DriftFinding(**{**said, **changes})
    found.start_at.FromDatetime(DAY)
    return found


def report(*findings: drift_pb2.DriftFinding) -> drift_pb2.ReportUsageDriftRequest:
    return drift_pb2.ReportUsageDriftRequest(
        request_id=str(uuid4()), provider="gpu-west", findings=findings
    )


def told(database: DatabaseUrls, tenant: str) -> list[monitoring_events_pb2.ContractViolated]:
    with psycopg.connect(database.owner_admin) as connection:
        rows = connection.execute(
            "SELECT payload FROM mesh.event WHERE tenant_id = %s AND subject = 'contract.violated'"
            " ORDER BY seq",
            (tenant,),
        ).fetchall()
    return [monitoring_events_pb2.ContractViolated.FromString(bytes(row[0])) for row in rows]


async def test_a_finding_is_the_same_violation_whenever_it_is_told(
    stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    spike = finding(kind=drift_pb2.DRIFT_KIND_SPIKE, stored_quantity="900", detail="+9.1")
    request = report(finding(detail="a, b"), spike)
    for asked in (request, request, report(*request.findings)):
        assert (await stub.ReportUsageDrift(asked)).reported == 2
    violations = told(database, tenant)
    said = {(item.request_id, item.subject_id, item.message, item.severity) for item in violations}
    # The same call is carried out once; another one says the same.
    assert len(violations) == 4
    assert said == {
        (
            "usage-drift/gpu-west/2026-11-19",
            "chat/llm.tokens/2026-11-19",
            "chat, llm.tokens, 2026-11-19: 2 events in the log of gpu-west, never stored; logged 12.5; a, b",
            "HIGH",
        ),
        (
            "usage-drift/gpu-west/2026-11-19",
            "chat/llm.tokens/2026-11-19",
            "chat, llm.tokens, 2026-11-19: far more usage than the days before let expect; expected 12.5;"
            " stored 900; +9.1",
            "MEDIUM",
        ),
    }
    assert {item.contract_id for item in violations} == {"metering/usage-drift"}


@pytest.mark.parametrize(
    "changes", [{"kind": 0}, {"org_id": ""}, {"quantity": "-1"}, {"detail": "x" * 501}]
)
async def test_a_finding_that_breaks_a_rule_is_refused(stub: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.ReportUsageDrift(report(finding(**changes)))
    assert RemoteError.of(failed.value, "metering").reason == "INVALID_FIELD"
