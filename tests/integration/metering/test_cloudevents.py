"""CloudEvents as usage, on a real server: by three modes, judged one by one with the verdicts of usage events."""

from __future__ import annotations

import codecs
import json
from typing import Any

import grpc
import pytest
from payments.metering.v1 import corrections_pb2, metering_service_pb2
from payments.type.v1 import type_pb2

from services.runtime.edge.status import RemoteError
from tests.support.billing.metering import outcomes, usage_query

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"


def sound(event_id: str, **changes: Any) -> dict[str, Any]:
    """A CloudEvent of usage; what is None is left out."""
    found = {
        "specversion": "1.0",
        "id": event_id,
        "source": "https://api.example/eu",
        "type": "llm.requests",
        "subject": "chat",
        "time": "2026-11-20T09:00:00.000001Z",
        "data": {"sku": "llm.tokens", "quantity": 12.5, "project_id": "web", "model": "small"},
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


async def send(stub: Any, content_type: str, body: Any, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await stub.IngestCloudEvents(
        metering_service_pb2.IngestCloudEventsRequest(
            content_type=content_type, raw_request=raw, headers=headers
        )
    )


async def test_every_mode_is_stored_and_a_repeat_is_known(stub: Any) -> None:
    assert outcomes(await send(stub, STRUCTURED, sound("one")))["accepted"] == 1
    answer = await send(stub, BATCH, [sound("one"), sound("two"), sound("two", time=None)])
    assert outcomes(answer) == {"accepted": 1, "duplicate": 1, "conflict": 0, "rejected": 1}
    headers = {
        f"ce-{name}": value for name, value in sound("thr%C3%A9e").items() if isinstance(value, str)
    }
    data = b'{"sku": "llm.tokens", "quantity": "0.000000000000000001"}'
    answer = await send(stub, "application/json", data, **headers)
    assert outcomes(answer)["accepted"] == 1
    (row, *more) = (await stub.QueryUsage(usage_query(group_by=["model"]))).rows
    assert (row.sku, row.value, more[0].value) == ("llm.tokens", "0.000000000000000001", "25")
    assert more[0].group == {"model": "small"}
    asked = corrections_pb2.GetEventRequest(event_id="https://api.example/eu|one")
    (version,) = (await stub.GetEvent(asked)).versions
    assert (version.event.org_id, version.event.project_id) == ("chat", "web")
    assert version.event.event_time.ToJsonString() == "2026-11-20T09:00:00.000001Z"


async def test_a_byte_order_mark_is_read_in_every_mode(stub: Any) -> None:
    bodies = {STRUCTURED: sound("m-1"), BATCH: [sound("m-2"), sound("m-3", specversion="0.3")]}
    for content_type, body in bodies.items():
        marked = codecs.BOM_UTF8 + json.dumps(body).encode()
        assert outcomes(await send(stub, content_type, marked))["accepted"] == 1
    headers = {f"ce-{name}": value for name, value in sound("m-4", data=None).items()}
    data = codecs.BOM_UTF8 + b'{"sku": "llm.tokens", "quantity": 1}'
    answer = await send(stub, "application/json", data, **headers)
    assert outcomes(answer)["accepted"] == 1


async def test_each_fault_is_told_by_itself(stub: Any) -> None:
    sent = [
        sound("good"),
        sound("bad", traceparent="zz"),
        sound("binary", data=None, data_base64="AAAA"),
        sound("no-org", subject=None),
        sound("no-quantity", data={"sku": "llm.tokens"}),
        sound("nested", data={"quantity": 1, "user": {"plan": "free"}}),
        sound("by-type", data={"quantity": 3}),
        sound("unknown", type="no.such", data={"quantity": 1}),
        sound("avro", datacontenttype="application/avro"),
        "no object",
    ]
    answer = await send(stub, BATCH, sent)
    assert outcomes(answer) == {"accepted": 2, "duplicate": 0, "conflict": 0, "rejected": 8}
    told = {problem.index: (problem.reason, problem.message) for problem in answer.problems}
    assert [(index, reason) for index, (reason, _) in told.items()] == [
        (1, "CLOUD_EVENT_INVALID"),
        (2, "CLOUD_EVENT_UNSUPPORTED"),
        (3, "CLOUD_EVENT_INVALID"),
        (4, "INVALID_FIELD"),
        (5, "INVALID_FIELD"),
        (7, "UNKNOWN_SKU"),
        (8, "CLOUD_EVENT_UNSUPPORTED"),
        (9, "INVALID_FIELD"),
    ]
    assert "traceparent" in told[1][1]
    assert "data_base64" in told[2][1]
    assert "subject" in told[3][1]
    assert "data.quantity" in told[4][1]
    assert "data.user" in told[5][1]
    assert answer.problems[0].request_id == "https://api.example/eu|bad"
    kept = await stub.ListRejectedEvents(corrections_pb2.ListRejectedEventsRequest(org_id="chat"))
    assert {item.reason for item in kept.rejected_events} >= {"CLOUD_EVENT_INVALID", "UNKNOWN_SKU"}


async def test_two_sources_may_use_one_id_and_a_changed_event_is_a_conflict(stub: Any) -> None:
    answer = await send(stub, BATCH, [sound("a"), sound("a", source="/other")])
    assert answer.accepted == 2
    answer = await send(stub, STRUCTURED, sound("a", data={"quantity": 1}))
    (problem,) = answer.problems
    assert (problem.outcome, problem.reason) == (type_pb2.OUTCOME_CONFLICT, "EVENT_CONFLICT")


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("application/json", b"{}", "CLOUD_EVENTS_CONTENT_TYPE"),
        (STRUCTURED, b"{", "INVALID_FIELD"),
        (BATCH, b"{}", "INVALID_FIELD"),
        (BATCH, b"[" + b"1," * 10_000 + b"1]", "BATCH_TOO_LARGE"),
    ],
)
async def test_a_body_of_no_form_is_refused_whole(
    stub: Any, content_type: str, body: bytes, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await send(stub, content_type, body)
    assert RemoteError.of(failed.value, "metering").reason == reason


async def test_an_empty_batch_is_answered_as_one_of_events_is(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as plain:
        await stub.IngestEvents(metering_service_pb2.IngestEventsRequest())
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await send(stub, BATCH, [])
    assert failed.value.details() == plain.value.details()
