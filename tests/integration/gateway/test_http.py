"""HTTP as partners' clients use it, end to end: conditions, compression, links, deletion, event streams, browsers."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.integration.gateway.test_rest import event, new_id, opened
from tests.support.http.rest import Rest, facade
from tests.support.mesh.serving import Mesh


@asynccontextmanager
async def event_stream(
    rest: Rest, query: str, **headers: str
) -> AsyncIterator[http.client.HTTPResponse]:
    """A tail as Server-Sent Events; it has begun when this gives it."""
    connection = http.client.HTTPConnection(urlsplit(rest.url).netloc, timeout=60)
    sent = {"Authorization": f"Bearer {rest.key}", "Accept": "text/event-stream", **headers}

    def begin() -> http.client.HTTPResponse:
        connection.request("GET", f"/v1/events:tail?{query}", headers=sent)
        return connection.getresponse()

    try:
        answer = await asyncio.to_thread(begin)
        assert answer.status == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream"
        yield answer
    finally:
        connection.close()


def read_events(answer: http.client.HTTPResponse, count: int) -> list[tuple[str, dict[str, Any]]]:
    """So many events of a stream: id and data."""
    found: list[tuple[str, dict[str, Any]]] = []
    fields: dict[str, str] = {}
    while len(found) < count:
        line = answer.readline().decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "data" in fields:
            found.append((fields["id"], json.loads(fields["data"])))
        fields = {}
    return found


async def published(mesh: Mesh, rest: Rest, *codes: str) -> None:
    """Events `stock.moved`, in order."""
    events = [
        {"id": code, "subject": "stock.moved", "key": "k", "data": {"sku": code}} for code in codes
    ]
    answer = await rest.acall("POST", "/v1/events", {"events": events})
    assert {item["outcome"] for item in answer.json()["results"]} == {"OUTCOME_ACCEPTED"}
    await mesh.drain_events()


async def test_an_event_stream_resumes_exactly_behind_its_last_event(
    mesh: Mesh, rest: Rest
) -> None:
    stock = {
        "subject": "stock.moved",
        "owner": "shop",
        "versions": [{"version": 1, "json_schema": "{}"}],
    }
    await rest.acall("POST", "/v1/event-types", {"event_types": [stock]})
    await published(mesh, rest, "before")
    query = "subjects=stock.moved"

    def ids(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
        return [data["event"]["id"] for _, data in events]

    async with (
        event_stream(rest, query) as new,
        event_stream(rest, f"{query}&from_start=true") as whole,
    ):
        # Begun means begun: what is published from here on is in the stream, and nothing before it.
        await published(mesh, rest, "one", "two", "three")
        first = await asyncio.to_thread(read_events, new, 3)
        assert ids(first) == ["one", "two", "three"]
        assert ids(await asyncio.to_thread(read_events, whole, 4))[0] == "before"
    await published(mesh, rest, "four")
    # A client calls the address again that it began with, and says what it got last.
    for at, rest_of_it in enumerate((["two", "three", "four"], ["three", "four"], ["four"])):
        last = {"Last-Event-ID": first[at][0]}
        async with event_stream(rest, f"{query}&from_start=true", **last) as again:
            resumed = await asyncio.to_thread(read_events, again, len(rest_of_it))
        assert ids(resumed) == rest_of_it
    refused = await rest.acall(
        "GET",
        f"/v1/events:tail?{query}",
        None,
        {"Accept": "text/event-stream", "Last-Event-ID": "x"},
    )
    assert (refused.status, refused.reason) == (400, "INVALID_PAGE_TOKEN")
    both = await rest.acall("GET", f"/v1/events:tail?after={first[0][0]}&{query}&from_start=true")
    assert (both.status, both.reason) == (400, "INVALID_FIELD")


async def test_conditions_compression_links_and_deletion(rest: Rest) -> None:
    await opened(rest)
    batch = gzip.compress(json.dumps([event(new_id(), 1) for _ in range(100)]).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    taken = await rest.acall("POST", "/v1/metering/events", batch, headers)
    assert (taken.status, taken.json()["accepted"]) == (202, 100), taken.body

    plan = await rest.acall("GET", "/v1/pricing/plans/p")
    tag = plan.headers["etag"]
    same = await rest.acall("GET", "/v1/pricing/plans/p", None, {"If-None-Match": tag})
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    head = await rest.acall("HEAD", "/v1/pricing/plans/p")
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", tag)
    assert head.headers["content-length"] == str(len(plan.body))

    types = await rest.acall(
        "GET", "/v1/event-types?page_size=5", None, {"Accept-Encoding": "gzip"}
    )
    assert types.headers["content-encoding"] == "gzip"
    seen = [item["subject"] for item in json.loads(gzip.decompress(types.body))["event_types"]]
    link = types.headers["link"]
    while link:
        page = await rest.acall("GET", link.removeprefix("<").partition(">")[0])
        seen += [item["subject"] for item in page.json()["event_types"]]
        link = page.headers.get("link", "")
    assert len(seen) == len(set(seen)) > 20

    report = {
        "subject": "report.due",
        "owner": "shop",
        "versions": [{"version": 1, "json_schema": "{}"}],
    }
    await rest.acall("POST", "/v1/event-types", {"event_types": [report]})
    nightly = {
        "name": "nightly",
        "cron": "0 3 * * *",
        "subject": "report.due",
        "data": {"desk": "a"},
    }
    made = await rest.acall("POST", "/v1/schedules", {"request_id": new_id(), "schedule": nightly})
    assert made.status == 200, made.body
    key = {"Idempotency-Key": new_id()}
    for _ in range(2):  # the same call again gets the same answer
        gone = await rest.acall("DELETE", "/v1/schedules/nightly", None, key)
        assert gone.status == 200, gone.body
    assert (await rest.acall("GET", "/v1/schedules")).json()["schedules"] == []
    other = await rest.acall("DELETE", "/v1/schedules/nightly", None, {"Idempotency-Key": new_id()})
    assert (other.status, other.reason) == (404, "NOT_FOUND")

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = await rest.acall("POST", "/v1/metering/events", b"[]", form)
    assert (refused.status, refused.reason) == (415, "CONTENT_TYPE_UNSUPPORTED")


async def test_pages_of_set_origins_may_call(mesh: Mesh, rest: Rest, url: str) -> None:
    asks = {"Origin": "https://console.example", "Access-Control-Request-Method": "GET"}
    off = await Rest(url).acall("OPTIONS", "/v1/billing/charges", None, asks)
    assert off.status == 405
    with facade(mesh.address, "--cors-origins", "https://console.example") as open_to_pages:
        preflight = await Rest(open_to_pages).acall("OPTIONS", "/v1/billing/charges", None, asks)
        answer = await Rest(open_to_pages, rest.key).acall("GET", "/v1/billing/charges", None, asks)
    assert (preflight.status, answer.status) == (204, 200)
    for reply in (preflight, answer):
        assert reply.headers["access-control-allow-origin"] == "https://console.example"
