"""GetIngestSettings and UpdateIngestSettings on a real server with a real Postgres."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, timedelta
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from payments.metering.v1 import corrections_pb2, metering_service_pb2
from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

from services.runtime.edge.status import RemoteError
from tests.support.billing.metering import NOW, batch, event
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls

GET = metering_service_pb2.GetIngestSettingsRequest()


def update(**changes: Any) -> metering_service_pb2.UpdateIngestSettingsRequest:
    """Make a change with a request_id of its own."""
    return metering_service_pb2.UpdateIngestSettingsRequest(
        **{"request_id": str(uuid.uuid4()), **changes}
    )


async def test_defaults_hold_until_somebody_sets_them(stub: Any) -> None:
    settings = (await stub.GetIngestSettings(GET)).ingest_settings
    assert settings.accept_past.ToTimedelta() == timedelta(days=35)
    assert settings.accept_future.ToTimedelta() == timedelta(minutes=5)
    assert not settings.HasField("updated_at")


async def test_a_change_holds_for_the_next_batch_and_leaves_the_rest(stub: Any) -> None:
    old = event("old", at=NOW - timedelta(days=1000))
    assert (await stub.IngestEvents(batch(old))).rejected == 1
    changed = await stub.UpdateIngestSettings(update(accept_past=Duration(seconds=1001 * 86400)))
    assert changed.ingest_settings.accept_future.ToTimedelta() == timedelta(minutes=5)
    assert changed.ingest_settings.updated_at.ToDatetime(tzinfo=UTC) == NOW
    assert (await stub.GetIngestSettings(GET)).ingest_settings == changed.ingest_settings
    assert (await stub.IngestEvents(batch(old))).accepted == 1
    await stub.UpdateIngestSettings(update(accept_past=Duration()))
    assert (await stub.IngestEvents(batch(event("late", at=NOW - timedelta(seconds=1))))).rejected
    assert (await stub.IngestEvents(batch(event("on-time")))).accepted == 1


async def test_settings_opened_by_another_process_are_seen_before_an_event_is_refused(
    stub: Any, tenant: str, database: DatabaseUrls
) -> None:
    old = event("old", at=NOW - timedelta(days=40))
    await stub.IngestEvents(batch(event("warm")))
    with psycopg.connect(database.owner_admin) as connection:
        connection.execute(
            "INSERT INTO metering.ingest_settings VALUES (%s, %s, 0)", (tenant, 41 * 86400 * 10**6)
        )
    assert (await stub.IngestEvents(batch(old))).accepted == 1


async def test_every_change_is_audited(stub: Any, tenant: str, database: DatabaseUrls) -> None:
    request = update(accept_past=Duration(seconds=60))
    first = await stub.UpdateIngestSettings(request)
    assert await stub.UpdateIngestSettings(request) == first
    await stub.UpdateIngestSettings(update(accept_future=Duration(seconds=7)))
    with psycopg.connect(database.owner_admin) as connection:
        entries = connection.execute(
            "SELECT actor, before -> 'accept_past_seconds', after -> 'accept_past_seconds',"
            " after -> 'accept_future_seconds' FROM mesh.audit"
            " WHERE tenant_id = %s AND entity = 'ingest_settings' ORDER BY audit_id",
            (tenant,),
        ).fetchall()
    actor = f"test:{tenant}"
    assert entries == [(actor, 3024000.0, 60.0, 300.0), (actor, 60.0, 60.0, 7.0)]


async def test_a_request_id_with_another_body_is_refused(stub: Any) -> None:
    request = update(accept_past=Duration(seconds=60))
    await stub.UpdateIngestSettings(request)
    request.accept_past.seconds = 61
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.UpdateIngestSettings(request)
    assert RemoteError.of(failed.value, "metering").reason == "REQUEST_ID_REUSED"


async def test_concurrent_first_changes_do_not_undo_each_other(stub: Any) -> None:
    await asyncio.gather(
        stub.UpdateIngestSettings(update(accept_past=Duration(seconds=60))),
        stub.UpdateIngestSettings(update(accept_future=Duration(seconds=61))),
    )
    settings = (await stub.GetIngestSettings(GET)).ingest_settings
    assert settings.accept_past.seconds == 60
    assert settings.accept_future.seconds == 61


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "no-uuid"},
        {"accept_past": Duration(seconds=-1)},
        {"accept_past": Duration(seconds=36601 * 86400)},
        {"accept_future": Duration(seconds=32 * 86400)},
    ],
)
async def test_broken_changes_are_refused(stub: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.UpdateIngestSettings(update(**changes))
    error = RemoteError.of(failed.value, "metering")
    assert error.reason == "INVALID_FIELD"
    assert [violation.field for violation in error.fields] == list(changes)


async def test_only_administrators_change_them(mesh: Mesh, tenant: str) -> None:
    writer: Any = MeteringServiceStub(mesh.channel(tenant, {"metering:write", "metering:read"}))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await writer.UpdateIngestSettings(update(accept_past=Duration(seconds=60)))
    assert failed.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_tenants_have_settings_of_their_own(stub: Any, mesh: Mesh, tenant: str) -> None:
    other: Any = MeteringServiceStub(mesh.channel(f"{tenant}-other"))
    await stub.UpdateIngestSettings(update(accept_past=Duration(seconds=60)))
    settings = (await other.GetIngestSettings(GET)).ingest_settings
    assert settings.accept_past.ToTimedelta() == timedelta(days=35)


async def test_metadata_is_held_to_its_list_and_replayed_once_that_is_decided(stub: Any) -> None:
    labelled = event("a", metadata={"region": "eu", "email": "x"})
    held = event("b", metadata={"hold_id": "hld_1", "region": "eu"})
    changed = await stub.UpdateIngestSettings(update(metadata_allowed=["region", "model"]))
    assert list(changed.ingest_settings.metadata_allowed) == ["model", "region"]
    answer = await stub.IngestEvents(batch(labelled, held, event("c")))
    assert (answer.accepted, answer.rejected) == (2, 1)
    (problem,) = answer.problems
    assert (problem.reason, "email" in problem.message) == ("METADATA_NOT_ALLOWED", True)
    amend = corrections_pb2.AmendEventsRequest(request_id=str(uuid.uuid4()))
    amend.amendments.add(event=event("c", metadata={"email": "x"}))
    (problem,) = (await stub.AmendEvents(amend)).problems
    assert problem.reason == "METADATA_NOT_ALLOWED"
    # Setting something else leaves the list.
    await stub.UpdateIngestSettings(update(accept_past=Duration(seconds=86400)))
    assert (await stub.IngestEvents(batch(labelled))).rejected == 1
    fix = corrections_pb2.EventFix(drop_metadata=["email"])
    replay = corrections_pb2.ReplayRejectedEventsRequest(
        request_id=str(uuid.uuid4()), reason="METADATA_NOT_ALLOWED", fix=fix
    )
    done = await stub.ReplayRejectedEvents(replay)
    assert (done.accepted, done.duplicate) == (1, 1)
    shown = await stub.GetEvent(corrections_pb2.GetEventRequest(event_id="a"))
    assert dict(shown.versions[0].event.metadata) == {"region": "eu"}
    await stub.UpdateIngestSettings(update(metadata_any=True))
    assert (await stub.IngestEvents(batch(event("d", metadata={"x": "y"})))).accepted == 1


async def test_a_list_and_any_key_are_not_both_set(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.UpdateIngestSettings(update(metadata_allowed=["a"], metadata_any=True))
    error = RemoteError.of(failed.value, "metering")
    assert [violation.field for violation in error.fields] == ["metadata_any"]
