"""Amended and cancelled events: what was sent stays, usage has the newest version of each ordinal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from payments.metering.v1 import corrections_pb2, metering_pb2
from payments.type.v1 import type_pb2

from services.runtime.edge.status import RemoteError
from tests.support.billing.metering import NOW, batch, event, usage_query

HOUR = timedelta(hours=1)


def amendments(
    *events: metering_pb2.UsageEvent, request_id: str = "", reason: str = "misread"
) -> corrections_pb2.AmendEventsRequest:
    """Ask for events to have another content."""
    request = corrections_pb2.AmendEventsRequest(request_id=request_id or str(uuid4()))
    for item in events:
        request.amendments.add(event=item, reason=reason)
    return request


def cancellation(*ids: str, request_id: str = "") -> corrections_pb2.CancelEventsRequest:
    """Ask for events to be cancelled."""
    return corrections_pb2.CancelEventsRequest(
        request_id=request_id or str(uuid4()), request_ids=ids, reason="a test run"
    )


async def total(stub: Any, **asked: Any) -> dict[str, str]:
    """The usage of a day, by SKU, project and quantity."""
    rows = (await stub.QueryUsage(usage_query(**asked))).rows
    return {f"{row.sku}/{row.project_id}": row.value for row in rows}


async def test_usage_has_the_amended_content_and_the_event_keeps_the_first(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a", quantity="10"), event("b", quantity="1")))
    before = (await stub.QueryUsage(usage_query())).usage_ordinal
    answer = await stub.AmendEvents(amendments(event("a", quantity="4", sku="gpu.seconds")))
    assert (answer.accepted, answer.duplicate, answer.rejected) == (1, 0, 0)
    assert await total(stub) == {"llm.tokens/web": "1", "gpu.seconds/web": "4"}
    assert await total(stub, at_ordinal=before) == {"llm.tokens/web": "11"}
    versions = (await stub.GetEvent(corrections_pb2.GetEventRequest(event_id="a"))).versions
    assert [(item.version, item.event.quantity, item.cancelled) for item in versions] == [
        (0, "10", False),
        (1, "4", False),
    ]
    assert versions[1].receipt_id == answer.receipt_id
    assert versions[1].reason == "misread"
    assert versions[0].ordinal <= before < versions[1].ordinal


async def test_an_amendment_moves_usage_between_times_and_organisations(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a", quantity="10")))
    day = timedelta(days=1)
    await stub.AmendEvents(amendments(event("a", quantity="10", at=NOW - day, org_id="code")))
    assert await total(stub) == {}
    start = NOW.replace(hour=0, minute=0) - day
    assert await total(stub, org_id="code", start_at=start) == {"llm.tokens/web": "10"}
    assert await total(stub, org_id="code") == {}
    await stub.AmendEvents(amendments(event("a", quantity="3")))
    assert await total(stub) == {"llm.tokens/web": "3"}
    assert await total(stub, org_id="code", start_at=start) == {}


async def test_a_cancelled_event_counts_nowhere_and_is_final(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a", quantity="10"), event("b", quantity="1")))
    answer = await stub.CancelEvents(cancellation("a", "gone", "a"))
    assert (answer.accepted, answer.duplicate, answer.rejected) == (1, 0, 2)
    assert [(item.index, item.reason) for item in answer.problems] == [
        (1, "EVENT_NOT_FOUND"),
        (2, "INVALID_FIELD"),
    ]
    assert await total(stub) == {"llm.tokens/web": "1"}
    again = await stub.CancelEvents(cancellation("a"))
    assert (again.accepted, again.duplicate) == (0, 1)
    refused = await stub.AmendEvents(amendments(event("a", quantity="2")))
    (problem,) = refused.problems
    assert (problem.outcome, problem.reason) == (type_pb2.OUTCOME_REJECTED, "EVENT_CANCELLED")
    assert await total(stub) == {"llm.tokens/web": "1"}


async def test_what_cannot_be_amended_is_named_and_the_rest_is_amended(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a"), event("b"), event("c", quantity="7")))
    answer = await stub.AmendEvents(
        amendments(
            event("a", quantity="1"),
            event("none", quantity="1"),
            event("b", sku="no.such"),
            event("c", quantity="7.0"),
            event("a", quantity="2"),
            event("b", at=NOW + HOUR),
        )
    )
    assert (answer.accepted, answer.duplicate, answer.rejected) == (1, 1, 4)
    assert [(item.index, item.reason) for item in answer.problems] == [
        (1, "EVENT_NOT_FOUND"),
        (2, "UNKNOWN_SKU"),
        (3, "EVENT_DUPLICATE"),
        (4, "INVALID_FIELD"),
        (5, "EVENT_TOO_NEW"),
    ]
    assert await total(stub) == {"llm.tokens/web": "20.5"}


async def test_sending_the_original_again_answers_by_what_was_sent(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a", quantity="10")))
    await stub.AmendEvents(amendments(event("a", quantity="4")))
    again = await stub.IngestEvents(batch(event("a", quantity="10")))
    assert (again.accepted, again.duplicate) == (0, 1)
    other = await stub.IngestEvents(batch(event("a", quantity="4")))
    assert (other.accepted, other.conflict) == (0, 1)
    assert await total(stub) == {"llm.tokens/web": "4"}


async def test_the_same_call_again_changes_nothing(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a", quantity="10")))
    first = amendments(event("a", quantity="4"))
    answer = await stub.AmendEvents(first)
    await stub.AmendEvents(amendments(event("a", quantity="5")))
    assert await stub.AmendEvents(first) == answer
    assert await total(stub) == {"llm.tokens/web": "5"}
    end = cancellation("a")
    cancelled = await stub.CancelEvents(end)
    assert await stub.CancelEvents(end) == cancelled


async def test_an_event_of_long_ago_can_be_amended(stub: Any) -> None:
    """What a charge has billed lies further back than events may be sent for."""
    await stub.IngestEvents(batch(event("a", at=NOW - timedelta(days=35))))
    answer = await stub.AmendEvents(
        amendments(event("a", at=NOW - timedelta(days=36), quantity="1"))
    )
    assert answer.accepted == 1


async def test_only_what_was_stored_has_versions(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a", metadata={"region": "eu"})))
    (only,) = (await stub.GetEvent(corrections_pb2.GetEventRequest(event_id="a"))).versions
    sent = event("a", metadata={"region": "eu"}, source=metering_pb2.SOURCE_BACKEND)
    assert only.event.SerializeToString(deterministic=True) == sent.SerializeToString(
        deterministic=True
    )
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.GetEvent(corrections_pb2.GetEventRequest(event_id="none"))
    assert RemoteError.of(failed.value, "metering").reason == "NOT_FOUND"


async def test_reasons_are_kept_without_card_numbers(stub: Any) -> None:
    await stub.IngestEvents(batch(event("a"), event("b")))
    said = "of 4111 1111 1111 1111"
    await stub.AmendEvents(amendments(event("a", quantity="4"), reason=said))
    request = cancellation("b")
    request.reason = said
    await stub.CancelEvents(request)
    for event_id in ("a", "b"):
        asked = corrections_pb2.GetEventRequest(event_id=event_id)
        (_, corrected) = (await stub.GetEvent(asked)).versions
        assert corrected.reason == "of [card number]"
