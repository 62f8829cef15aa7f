"""Events as they count, page by page, as of one ordinal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from payments.metering.v1 import corrections_pb2, metering_pb2, metering_service_pb2

from services.runtime.edge.status import RemoteError
from tests.support.billing.metering import NOW, batch, event, usage_query

MINUTE = timedelta(minutes=1)


def asked(**changes: Any) -> metering_service_pb2.ListEventsRequest:
    """Ask for the events of the day of NOW."""
    day = usage_query().period
    return metering_service_pb2.ListEventsRequest(**{"org_id": "chat", "period": day, **changes})


async def listed(stub: Any, size: int = 2, **changes: Any) -> list[metering_pb2.EventContent]:
    """All events that are asked for, read page by page."""
    found: list[metering_pb2.EventContent] = []
    ordinals = set()
    token = ""
    while True:
        page = await stub.ListEvents(asked(page_size=size, page_token=token, **changes))
        found += page.events
        ordinals.add(page.usage_ordinal)
        token = page.next_page_token
        if not token:
            assert len(ordinals) == 1
            return found


def ids(events: list[metering_pb2.EventContent]) -> list[str]:
    return [each.request_id for each in events]


def amendment(changed: metering_pb2.UsageEvent) -> corrections_pb2.AmendEventsRequest:
    one = corrections_pb2.EventAmendment(event=changed, reason="miscounted")
    return corrections_pb2.AmendEventsRequest(request_id=str(uuid4()), amendments=[one])


def cancellation(request_id: str) -> corrections_pb2.CancelEventsRequest:
    return corrections_pb2.CancelEventsRequest(
        request_id=str(uuid4()), request_ids=[request_id], reason="a test run"
    )


async def test_events_come_by_time_whatever_their_sku(stub: Any) -> None:
    sent = [
        event("d", at=NOW - MINUTE, sku="gpu.seconds"),
        event("b", at=NOW - 3 * MINUTE, metadata={"region": "eu"}),
        event("c", at=NOW - 2 * MINUTE, project_id=""),
        event("a", at=NOW - 4 * MINUTE, sku="llm.requests", quantity="0"),
        event("of another", org_id="code"),
        event("of another day", at=NOW - timedelta(days=1)),
    ]
    await stub.IngestEvents(batch(*sent))
    found = await listed(stub)
    assert ids(found) == ["a", "b", "c", "d"]
    by_id = {each.request_id: each for each in sent}
    for each in found:
        whole = by_id[each.request_id]
        whole.source = each.source
        assert each.SerializeToString(deterministic=True) == whole.SerializeToString(
            deterministic=True
        )
    assert ids(await listed(stub, sku="llm.tokens")) == ["b", "c"]
    assert await listed(stub, org_id="nobody") == []
    assert await listed(stub, sku="llm.requests", org_id="code") == []


async def test_events_of_one_time_each_come_once(stub: Any) -> None:
    sent = {f"e-{number}" for number in range(7)}
    await stub.IngestEvents(batch(*(event(name) for name in sorted(sent))))
    for size in (1, 3, 7, 8):
        found = ids(await listed(stub, size))
        assert (len(found), set(found)) == (7, sent)
        assert found == ids(await listed(stub, 10_000))


async def test_events_are_as_they_count_at_an_ordinal(stub: Any) -> None:
    await stub.IngestEvents(
        batch(*(event(name, at=NOW - minute * MINUTE) for minute, name in enumerate("edcba")))
    )
    before = (await stub.QueryUsage(usage_query())).usage_ordinal
    # One has another quantity, one another time, one another SKU, one counts nowhere.
    await stub.AmendEvents(amendment(event("a", at=NOW - 4 * MINUTE, quantity="1")))
    await stub.AmendEvents(amendment(event("b", at=NOW)))
    await stub.AmendEvents(amendment(event("c", at=NOW - 2 * MINUTE, sku="gpu.seconds")))
    await stub.CancelEvents(cancellation("d"))
    found = await listed(stub)
    assert sorted(ids(found)) == ["a", "b", "c", "e"]
    assert ids(found)[:2] == ["a", "c"]
    assert (found[0].quantity, found[1].sku) == ("1", "gpu.seconds")
    assert ids(await listed(stub, sku="gpu.seconds")) == ["c"]
    seen = await listed(stub, at_ordinal=before)
    assert (ids(seen), {each.quantity for each in seen}) == (list("abcde"), {"12.5"})
    for at_ordinal in (before, None):
        rows = (await stub.QueryUsage(usage_query(at_ordinal=at_ordinal))).rows
        events = await listed(stub, at_ordinal=at_ordinal)
        assert sum(row.event_count for row in rows) == len(events)
        assert sum(float(row.value) for row in rows) == sum(float(e.quantity) for e in events)


async def test_later_pages_are_as_of_the_ordinal_of_the_first(stub: Any) -> None:
    await stub.IngestEvents(batch(event("b", at=NOW - 2 * MINUTE), event("d", at=NOW)))
    first = await stub.ListEvents(asked(page_size=1))
    await stub.IngestEvents(batch(event("a", at=NOW - 3 * MINUTE), event("c", at=NOW - MINUTE)))
    second = await stub.ListEvents(asked(page_size=10, page_token=first.next_page_token))
    assert ids([*first.events, *second.events]) == ["b", "d"]
    assert second.usage_ordinal == first.usage_ordinal


async def test_what_cannot_be_listed_is_told(stub: Any) -> None:
    for changes, reason in (
        ({"sku": "no.such"}, "UNKNOWN_SKU"),
        ({"at_ordinal": 10**9}, "USAGE_ORDINAL_AHEAD"),
        ({"page_token": "x"}, "INVALID_PAGE_TOKEN"),
        ({"period": None}, "INVALID_FIELD"),
        ({"page_size": 10_001}, "INVALID_FIELD"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.ListEvents(asked(**changes))
        assert RemoteError.of(failed.value, "metering").reason == reason
