"""Rejected events are kept whole, listed, and taken in after all, each once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.message import Message
from payments.metering.v1 import corrections_pb2

from services.runtime.edge.status import RemoteError
from tests.support.billing.metering import NOW, batch, event, usage_query


def replay(**asked: Any) -> corrections_pb2.ReplayRejectedEventsRequest:
    """Ask for rejected events to be taken in."""
    return corrections_pb2.ReplayRejectedEventsRequest(request_id=str(uuid4()), **asked)


def said(event: Message) -> bytes:
    """What an event says, whether it is sent or shown."""
    return event.SerializeToString(deterministic=True)


async def listed(stub: Any, **asked: Any) -> list[corrections_pb2.RejectedEvent]:
    """All rejected events, read page by page."""
    found: list[corrections_pb2.RejectedEvent] = []
    token = ""
    while True:
        request = corrections_pb2.ListRejectedEventsRequest(page_size=2, page_token=token, **asked)
        page = await stub.ListRejectedEvents(request)
        found += page.rejected_events
        token = page.next_page_token
        if not token:
            return found


async def test_rejected_events_are_listed_as_they_were_sent(stub: Any) -> None:
    sent = [
        event("a", sku="no.such", metadata={"region": "eu"}),
        event("b", org_id="code", sku="no.such"),
        event("c", quantity="-1"),
        event("d"),
    ]
    answer = await stub.IngestEvents(batch(*sent))
    found = await listed(stub)
    assert [said(item.event) for item in found] == [said(item) for item in sent[:3]]
    assert [item.index for item in found] == [0, 1, 2]
    assert {item.receipt_id for item in found} == {answer.receipt_id}
    assert [item.reason for item in found] == ["UNKNOWN_SKU", "UNKNOWN_SKU", "INVALID_FIELD"]
    assert all(item.rejected_at.ToDatetime(NOW.tzinfo) == NOW for item in found)
    assert [item.event.request_id for item in await listed(stub, org_id="code")] == ["b"]
    assert [item.event.request_id for item in await listed(stub, sku="no.such")] == ["a", "b"]
    assert [item.event.request_id for item in await listed(stub, reason="INVALID_FIELD")] == ["c"]
    # "None" would be no answer to a reason that there is not; nor would "none taken in".
    assert await listed(stub, reason="BUDGET_EXCEEDED") == []
    with pytest.raises(grpc.aio.AioRpcError) as near:
        await listed(stub, reason="UNKNOWN_SKUS")
    assert "reason: UNKNOWN_SKUS is no reason" in (near.value.details() or "")
    assert "did you mean UNKNOWN_SKU?" in (near.value.details() or "")
    for reason in ("NOPE", "UNSPECIFIED"):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.ReplayRejectedEvents(replay(reason=reason))
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert f"reason: {reason} is no reason" in (failed.value.details() or "")


async def test_a_fixed_event_is_taken_in_once(stub: Any) -> None:
    await stub.IngestEvents(
        batch(event("a", sku="no.such", quantity="2"), event("b", sku="no.such", quantity="3"))
    )
    fix = corrections_pb2.EventFix(sku="gpu.seconds")
    request = replay(sku="no.such", fix=fix)
    answer = await stub.ReplayRejectedEvents(request)
    assert (answer.accepted, len(answer.events), len(answer.problems)) == (2, 2, 0)
    assert await stub.ReplayRejectedEvents(request) == answer
    again = await stub.ReplayRejectedEvents(replay(sku="no.such", fix=fix))
    assert (again.accepted, len(again.events), again.receipt_id) == (0, 0, "")
    assert await listed(stub) == []
    assert {item.replayed_receipt_id for item in await listed(stub, include_replayed=True)} == {
        answer.receipt_id
    }
    (row,) = (await stub.QueryUsage(usage_query())).rows
    assert (row.sku, row.value) == ("gpu.seconds", "5")


async def test_what_still_breaks_a_rule_stays_rejected(stub: Any) -> None:
    sent = await stub.IngestEvents(
        batch(event("a", sku="no.such"), event("b", quantity="x"), event("c", quantity="x"))
    )
    ids = [
        corrections_pb2.RejectedEventId(receipt_id=sent.receipt_id, index=index)
        for index in range(3)
    ]
    await stub.IngestEvents(batch(event("c", quantity="1")))
    answer = await stub.ReplayRejectedEvents(
        replay(events=ids, fix=corrections_pb2.EventFix(quantity="5"))
    )
    assert (answer.accepted, answer.conflict, answer.rejected) == (1, 1, 1)
    assert [(item.index, item.reason) for item in answer.problems] == [
        (0, "UNKNOWN_SKU"),
        (2, "EVENT_CONFLICT"),
    ]
    assert [item.event.request_id for item in await listed(stub)] == ["a", "c"]


async def test_replays_at_once_take_an_event_in_once(stub: Any) -> None:
    await stub.IngestEvents(batch(*(event(f"e{n}", sku="no.such") for n in range(20))))
    fix = corrections_pb2.EventFix(sku="gpu.seconds", quantity="1")
    answers = await asyncio.gather(
        *(stub.ReplayRejectedEvents(replay(sku="no.such", fix=fix)) for _ in range(4))
    )
    assert sum(answer.accepted for answer in answers) == 20
    (row,) = (await stub.QueryUsage(usage_query())).rows
    assert row.event_count == 20


async def test_a_replay_names_its_events_in_one_way(stub: Any) -> None:
    for request, reason in (
        (replay(), "INVALID_FIELD"),
        (
            replay(
                sku="x",
                events=[corrections_pb2.RejectedEventId(receipt_id=f"rcp_{uuid4()}", index=0)],
            ),
            "INVALID_FIELD",
        ),
        (
            replay(events=[corrections_pb2.RejectedEventId(receipt_id=f"rcp_{uuid4()}")]),
            "NOT_FOUND",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.ReplayRejectedEvents(request)
        assert RemoteError.of(failed.value, "metering").reason == reason
