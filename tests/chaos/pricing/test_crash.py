"""Kill -9 while a catalogue is applied: all of it is there afterwards, or nothing, and the retry ends the same."""

from __future__ import annotations

import asyncio
import signal
import uuid
from typing import Any

import grpc
import pytest
from payments.pricing.v1 import catalog_service_pb2
from payments.pricing.v1.catalog_service_pb2_grpc import CatalogServiceStub

from services.runtime.access import MeshTokens, Principal
from tests.support.billing.pricing import declaration, demo, recorded
from tests.support.mesh.process import service
from tests.support.mesh.serving import MESH_SECRET
from tests.support.postgres.server import DatabaseUrls

# Of the demo's catalogue: three SKUs, a plan, two entitlements, a partner, its record and its rate.
DECLARED = 9
AUDITED = "SELECT entity FROM mesh.audit WHERE tenant_id = %s"
TOLD = "SELECT subject FROM mesh.event WHERE tenant_id = %s"
PRICED = "SELECT sku FROM pricing.plan_price WHERE tenant_id = %s"
Kind = catalog_service_pb2.CatalogChange.Kind


async def applied(
    address: str, tenant: str, request: catalog_service_pb2.ApplyCatalogRequest
) -> catalog_service_pb2.ApplyCatalogResponse:
    """Apply a catalogue as a tenant."""
    principal = Principal(tenant, "chaos", frozenset({"pricing:write"}))
    headers = [("authorization", f"Mesh {MeshTokens(MESH_SECRET).issue(principal)}")]
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = CatalogServiceStub(channel)
        answer = await stub.ApplyCatalog(request, metadata=headers)
    assert isinstance(answer, catalog_service_pb2.ApplyCatalogResponse)
    return answer


def counts(database: DatabaseUrls, tenant: str) -> tuple[int, int, int]:
    """Count audit entries, events and stored prices of a tenant."""
    audited, told, priced = (recorded(database, query, tenant) for query in (AUDITED, TOLD, PRICED))
    return len(audited), len(told), len(priced)


@pytest.mark.parametrize("with_request_id", [True, False])
@pytest.mark.parametrize(
    ("crashpoint", "survives"),
    [
        ("pricing.apply_catalog.before_commit", False),
        ("pricing.apply_catalog.after_commit", True),
    ],
)
async def test_a_catalogue_whose_answer_was_lost_is_applied_once(
    database: DatabaseUrls, crashpoint: str, survives: bool, with_request_id: bool
) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    request = declaration(demo(), request_id=str(uuid.uuid4()) if with_request_id else "")
    with service(database, "services.pricing", crashpoint=crashpoint) as (address, process):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await applied(address, tenant, request)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(process.wait, 10) == -signal.SIGKILL
    assert counts(database, tenant) == ((DECLARED, 1, 3) if survives else (0, 0, 0))
    with service(database, "services.pricing") as (address, _):
        again = await applied(address, tenant, request)
    # The stored answer comes again; without a request_id the content tells that nothing is left to do.
    expected = Kind.KIND_UNCHANGED if survives and not with_request_id else Kind.KIND_CREATED
    assert [change.kind for change in again.changes] == [expected] * DECLARED
    assert counts(database, tenant) == (DECLARED, 1, 3)
