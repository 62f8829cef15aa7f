"""The audit trail of the catalogue, read as its users read it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import json_format
from payments.access.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc
from payments.pricing.v1 import catalog_service_pb2

from services.runtime.postgres import sql
from tests.integration.pricing.test_catalog import FULL, FULL_IDS, changed
from tests.support.billing.pricing import declaration, recorded, refusal
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls

TIMES = "SELECT recorded_at FROM mesh.audit WHERE tenant_id = %s ORDER BY recorded_at, audit_id"


@pytest.fixture
def access(mesh: Mesh, tenant: str) -> Any:
    """AccessService, called by the tenant with every scope."""
    return access_service_pb2_grpc.AccessServiceStub(mesh.channel(tenant))


async def entries(access: Any, **filters: Any) -> list[access_pb2.AuditEntry]:
    """Read all pages, two entries each."""
    request = access_service_pb2.ListAuditEntriesRequest(page_size=2, **filters)
    found: list[access_pb2.AuditEntry] = []
    while True:
        answer = await access.ListAuditEntries(request)
        assert len(answer.entries) <= 2
        found += answer.entries
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def things(found: list[access_pb2.AuditEntry]) -> list[tuple[str, str]]:
    return [(entry.kind, entry.subject_id) for entry in found]


async def test_every_write_of_the_catalogue_is_found_with_both_states(
    catalog: Any, access: Any, tenant: str
) -> None:
    applied = await catalog.ApplyCatalog(declaration(FULL))
    found = await entries(access)
    assert things(found) == FULL_IDS[::-1]
    for entry, change in zip(found, reversed(applied.changes), strict=True):
        assert not entry.HasField("before")
        assert entry.after == change.after
        assert entry.actor == f"test:{tenant}"
        assert uuid.UUID(entry.audit_id)
        assert entry.request_id
    # Those that the field asks for by name: assignments, prices of plans, entitlements, commissions.
    for path, value, kind in (
        ("org_business_models.0.notes", "renewed", "org_business_model"),
        ("plans.0.prices.0.price.per_unit.unit_amount", "0.02", "plan"),
        ("entitlements.0.overrides", [], "entitlement"),
        ("commission_rates.0.pct", "13", "commission_rate"),
        ("tax_rates.0.rate_percent", "10", "tax_rate"),
        ("tax_profiles.0.exemptions", [], "tax_profile"),
        ("tax_policies.0.rounding", "TAX_ROUNDING_LINE", "tax_policy"),
    ):
        declared = changed(FULL, path, value)
        (change,) = [
            item
            for item in (await catalog.ApplyCatalog(declaration(declared))).changes
            if item.HasField("after") and item.entity == kind
        ]
        newest = (await entries(access, kinds=[kind]))[0]
        assert (newest.before, newest.after) == (change.before, change.after)
        await catalog.ApplyCatalog(declaration(FULL))


async def test_migrations_and_assignments_leave_entries(catalog: Any, access: Any) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    request_id = str(uuid.uuid4())
    assign = catalog_service_pb2.AssignBusinessModelRequest(
        request_id=request_id, org_id="beta", model_id="m1"
    )
    await catalog.AssignBusinessModel(assign)
    await catalog.AssignBusinessModel(assign)
    assert things(await entries(access, subject_id="beta")) == [("org_business_model", "beta")]
    other = changed(FULL, "plans.0.plan_id", "next")["plans"]
    await catalog.ApplyCatalog(declaration({"plans": other}))
    before = len(await entries(access))
    move = catalog_service_pb2.MigratePlanRequest(
        request_id=str(uuid.uuid4()), plan_id="basic", to_plan_id="next"
    )
    move.effective_at.FromJsonString("2027-01-01T00:00:00Z")
    await catalog.MigratePlan(move)
    found = await entries(access, kinds=["entitlement"])
    assert things(found[:2]) == [
        ("entitlement", "beta/2027-01-01T00:00:00Z"),
        ("entitlement", "acme/2027-01-01T00:00:00Z"),
    ]
    assert json_format.MessageToDict(found[0].after)["plan_id"] == "next"
    assert len(await entries(access)) == before + 2


async def test_filters_narrow_together(
    catalog: Any, access: Any, tenant: str, database: DatabaseUrls
) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    assert things(await entries(access, kinds=["sku", "partner"])) == [
        ("partner", "north"),
        ("sku", "sms"),
    ]
    assert things(await entries(access, subject_id="acme")) == [("org_business_model", "acme")]
    assert await entries(access, kinds=["sku"], subject_id="acme") == []
    assert len(await entries(access, actor=f"test:{tenant}")) == len(FULL_IDS)
    assert await entries(access, actor="somebody") == []
    assert await entries(access, kinds=["ledger.period"]) == []
    # "No changes" would be no answer to a kind that there is not.
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await entries(access, kinds=["sku", "entitlements"])
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    told = failed.value.details() or ""
    assert told.startswith("kinds[1]: there is no kind entitlements. Did you mean entitlement? The")
    times = [row[0] for row in recorded(database, TIMES, tenant)]
    inside = {"start_at": times[2], "end_at": times[5]}
    assert things(await entries(access, period=inside)) == FULL_IDS[2:5][::-1]
    late = {"start_at": times[-1] + timedelta(seconds=1), "end_at": times[-1] + timedelta(days=1)}
    assert await entries(access, period=late) == []


async def test_a_refused_or_tried_declaration_leaves_none(catalog: Any, access: Any) -> None:
    await catalog.ApplyCatalog(declaration(FULL, validate_only=True))
    wrong = changed(FULL, "plans.0.currency_code", "USD")
    await refusal(catalog.ApplyCatalog(declaration(wrong, request_id=str(uuid.uuid4()))))
    assert await entries(access) == []


async def test_pages_are_of_their_filters_and_of_bounded_weight(catalog: Any, access: Any) -> None:
    heavy = {f"note{number}": "x" * 500 for number in range(30)}
    skus = [{"sku": f"s{number:02}", "metadata": heavy} for number in range(30)]
    for start in (0, 10, 20):
        await catalog.ApplyCatalog(declaration({"skus": skus[start : start + 10]}))
    for unit in map(str, range(9)):
        await catalog.ApplyCatalog(declaration({"skus": [item | {"unit": unit} for item in skus]}))
    request = access_service_pb2.ListAuditEntriesRequest(page_size=1000)
    seen = 0
    sizes = []
    while True:
        answer = await access.ListAuditEntries(request)
        assert answer.ByteSize() < 4 * 1024 * 1024
        sizes.append(len(answer.entries))
        seen += len(answer.entries)
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert (seen, len(sizes) > 1) == (30 + 9 * 30, True)
    strayed = access_service_pb2.ListAuditEntriesRequest(
        kinds=["sku"], page_token=request.page_token
    )
    assert (await refusal(access.ListAuditEntries(strayed))).reason == "INVALID_PAGE_TOKEN"


async def test_numbers_keep_their_digits(
    catalog: Any, access: Any, tenant: str, database: DatabaseUrls
) -> None:
    insert = """
    INSERT INTO mesh.audit (tenant_id, audit_id, entity, entity_id, actor, before, after, request_id)
    VALUES (%s, %s, 'thing', 'x', 'me', '{}', '{"n": 9007199254740993, "m": [1, 0.1], "f": true}', NULL)
    """
    with psycopg.connect(database.owner_admin) as connection:
        connection.execute(insert.encode(), (tenant, uuid.uuid4()))
    (entry,) = await entries(access)
    assert entry.HasField("before")
    assert (dict(entry.before), entry.request_id) == ({}, "")
    assert json_format.MessageToDict(entry.after) == {
        "n": "9007199254740993",
        "m": [1.0, "0.1"],
        "f": True,
    }


async def test_it_is_each_tenants_own_and_needs_its_scope(
    mesh: Mesh, catalog: Any, access: Any, tenant: str
) -> None:
    await catalog.ApplyCatalog(declaration(FULL))
    other = access_service_pb2_grpc.AccessServiceStub(mesh.channel(f"t-{uuid.uuid4().hex[:12]}"))
    assert await entries(other) == []
    assert await entries(other, subject_id="acme") == []
    writer = access_service_pb2_grpc.AccessServiceStub(mesh.channel(tenant, {"pricing:admin"}))
    with pytest.raises(grpc.aio.AioRpcError) as denied:
        await writer.ListAuditEntries(access_service_pb2.ListAuditEntriesRequest())
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_the_trail_is_read_by_its_indexes(untouched_database: DatabaseUrls) -> None:
    query = sql.load("services.runtime", "queries.sql")["page_of_audit"]
    given = {
        "tenant_id": "t",
        "kinds": [],
        "entity_id": "",
        "actor": "",
        "start_at": "2026-01-01Z",
        "end_at": "2027-01-01Z",
        "before_at": "2026-06-01Z",
        "before_id": str(uuid.UUID(int=0)),
        "limit": 10,
        "bytes": 1000,
    }
    async with await psycopg.AsyncConnection.connect(
        untouched_database.service, cursor_factory=psycopg.AsyncClientCursor
    ) as connection:
        await connection.execute("SELECT set_config('mesh.tenant', 't', true)")
        await connection.execute("SET LOCAL enable_seqscan = off")
        rows = await connection.execute(f"EXPLAIN (COSTS OFF) {query}".encode(), given)
        lines = " ".join([row[0] async for row in rows])
    assert "Scan Backward using audit_by_time" in lines, lines
