"""ListStoredEvents: every event that counts, once, as of one ordinal, however the pages fall."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from payments.metering.v1 import corrections_pb2, drift_pb2, metering_service_pb2

from services.metering.store import listing as store
from tests.support.billing.metering import NOW, batch, event
from tests.support.mesh.serving import Mesh


def listing(**asked: Any) -> drift_pb2.ListStoredEventsRequest:
    """Ask for the events of the day of NOW."""
    request = drift_pb2.ListStoredEventsRequest(**asked)
    request.period.start_at.FromDatetime(NOW.replace(hour=0, minute=0))
    request.period.end_at.FromDatetime(NOW.replace(hour=0, minute=0) + timedelta(days=1))
    return request


async def listed(stub: Any, page_size: int = 2, **asked: Any) -> list[drift_pb2.StoredEvent]:
    found: list[drift_pb2.StoredEvent] = []
    request = listing(page_size=page_size, **asked)
    ordinals = set()
    for _ in range(1000):
        page = await stub.ListStoredEvents(request)
        found += page.events
        ordinals.add(page.usage_ordinal)
        request.page_token = page.next_page_token
        if not request.page_token:
            assert len(ordinals) == 1
            return found
    raise AssertionError("the list does not end")


def ids(events: list[drift_pb2.StoredEvent]) -> list[str]:
    return sorted(item.event.request_id for item in events)


async def correct(stub: Any) -> None:
    amendment = corrections_pb2.EventAmendment(event=event("a1", quantity="99"))
    away = corrections_pb2.EventAmendment(event=event("a2", at=NOW - timedelta(days=2)))
    await stub.AmendEvents(
        corrections_pb2.AmendEventsRequest(request_id=str(uuid4()), amendments=[amendment, away])
    )
    await stub.CancelEvents(
        corrections_pb2.CancelEventsRequest(
            request_id=str(uuid4()), request_ids=["a3"], reason="a test"
        )
    )


@pytest.fixture(autouse=True, params=[store.PAIRS_MAX, 2])
def few_pairs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pages end early too where they look at few pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "PAIRS_MAX", request.param)
        yield


async def test_pages_hold_each_event_once(stub: Any) -> None:
    sent = [
        event(f"{org}{number}", org_id=org, sku=sku, at=NOW + timedelta(seconds=number // 2))
        for org in "abc"
        for sku in ("llm.tokens", "gpu.seconds")
        for number in (range(5) if sku == "llm.tokens" else range(5, 9))
    ]
    outside = [event(f"old{org}", org_id=org, at=NOW - timedelta(days=1)) for org in "abcdefg"]
    await stub.IngestEvents(batch(*sent, *outside))
    wanted = sorted(item.request_id for item in sent)
    for size in (1, 2, 7, 1000):
        assert ids(await listed(stub, size)) == wanted
    assert ids(await listed(stub, org_id="b", sku="gpu.seconds")) == ["b5", "b6", "b7", "b8"]
    assert ids(await listed(stub, sku="gpu.seconds")) == [
        f"{org}{number}" for org in "abc" for number in range(5, 9)
    ]
    assert await listed(stub, org_id="none") == []


async def test_corrected_events_are_as_they_count(stub: Any) -> None:
    await stub.IngestEvents(batch(*(event(f"a{number}") for number in range(5))))
    page = await stub.ListStoredEvents(listing(page_size=1))
    before = page.usage_ordinal
    await correct(stub)
    await stub.IngestEvents(batch(event("b0")))
    now = {item.event.request_id: item for item in await listed(stub, include_cancelled=True)}
    assert sorted(now) == ["a0", "a1", "a3", "a4", "b0"]
    assert (now["a1"].version, now["a1"].event.quantity) == (1, "99")
    assert (now["a3"].version, now["a3"].cancelled) == (1, True)
    assert ids(await listed(stub)) == ["a0", "a1", "a4", "b0"]
    then = await listed(stub, at_ordinal=before)
    assert ids(then) == ["a0", "a1", "a2", "a3", "a4"]
    assert {item.version for item in then} == {0}
    # A list that was begun goes on as it began.
    rest = listing(page_size=1000, page_token=page.next_page_token)
    found = [*page.events, *(await stub.ListStoredEvents(rest)).events]
    while rest.page_token:
        rest.page_token = (await stub.ListStoredEvents(rest)).next_page_token
        found += (await stub.ListStoredEvents(rest)).events if rest.page_token else []
    assert {item.event.request_id for item in found} == {"a0", "a1", "a2", "a3", "a4"}


async def test_tenants_see_their_own(stub: Any, mesh: Mesh, tenant: str) -> None:
    await stub.IngestEvents(batch(event("mine")))
    other: Any = type(stub)(mesh.channel(f"{tenant}-other"))
    assert await listed(other) == []


GPU, TOKENS = ["gpu.seconds"], ["llm.tokens"]


async def orgs(stub: Any, page_size: int) -> list[str]:
    """Page through the organisations that used something on the day of NOW."""
    day = listing().period
    request = metering_service_pb2.ListUsageOrgsRequest(period=day, page_size=page_size)
    found: list[str] = []
    for _ in range(1000):
        page = await stub.ListUsageOrgs(request)
        found += [each.org_id for each in page.usage_orgs]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found
    raise AssertionError("the list does not end")


async def test_organisations_with_usage_of_a_period_are_listed_once_each(
    stub: Any, mesh: Mesh, tenant: str
) -> None:
    assert await orgs(stub, 2) == []
    used = [
        event(f"{org}{sku}{number}", org_id=org, sku=sku, at=NOW + timedelta(seconds=number))
        for org, skus in (("a", TOKENS), ("b", GPU + TOKENS), ("d", TOKENS), ("e", GPU + TOKENS))
        for sku in skus
        for number in range(3)
    ]
    # Of another day: an organisation that used nothing else, and further SKUs of one that did.
    outside = [
        event(f"old{org}{sku}", org_id=org, sku=sku, at=NOW - timedelta(days=2))
        for org, skus in (("c", GPU + TOKENS), ("d", GPU), ("f", TOKENS))
        for sku in skus
    ]
    await stub.IngestEvents(batch(*used, *outside))
    for size in (1, 2, 3, 4, 1000):
        assert await orgs(stub, size) == ["a", "b", "d", "e"]
    other: Any = type(stub)(mesh.channel(f"{tenant}-other"))
    assert await orgs(other, 10) == []
