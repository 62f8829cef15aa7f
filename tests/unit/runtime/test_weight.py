"""Requests are counted before they are decoded, and counting stops at the first that is too much."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payments.events.v1 import events_service_pb2
from payments.metering.v1 import metering_service_pb2

from services.runtime.edge import validation, weight
from services.runtime.errors import BatchTooLarge, UndecodableRequest

PUBLISH = events_service_pb2.PublishEventsRequest
REGISTER = events_service_pb2.RegisterEventTypesRequest
TAIL = events_service_pb2.TailEventsRequest
INGEST = metering_service_pb2.IngestEventsRequest


def check(data: bytes, request: Any = PUBLISH) -> None:
    asyncio.run(weight.check(data, request.DESCRIPTOR, "/a/B"))


def field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes((low | 0x80,)) + _varint(high) if high else bytes((low,))


EMPTY_EVENT = field(1, b"")
LIGHT = weight.LIGHT_BYTES // len(EMPTY_EVENT) + 1


def test_lists_are_counted_up_to_the_first_item_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    check(EMPTY_EVENT * weight.ITEMS_MAX + b" " * 0 + field(2, b"x" * weight.LIGHT_BYTES))
    with pytest.raises(BatchTooLarge, match="events"):
        check(EMPTY_EVENT * LIGHT)
    # What stands behind that item is not looked at: it is no message.
    steps: list[int] = []
    monkeypatch.setattr(weight, "_behind", lambda *_: steps.append(1))
    with pytest.raises(BatchTooLarge):
        check(EMPTY_EVENT * (weight.ITEMS_MAX + 1) + b"\xff" * weight.LIGHT_BYTES)
    assert not steps


def test_messages_are_counted_at_every_depth() -> None:
    values = field(1, b"") * weight.MESSAGES_MAX
    struct = field(1, field(1, b"a") + field(2, field(6, values)))
    with pytest.raises(UndecodableRequest, match=str(weight.MESSAGES_MAX)):
        check(field(1, field(8, struct)))


def test_lists_within_items_are_counted_each_for_itself() -> None:
    versions = field(5, b"") * weight.ITEMS_MAX
    rest = field(1, versions) + field(9, b"x" * weight.LIGHT_BYTES)
    check(field(1, versions) + rest, REGISTER)
    for beyond in (versions + field(5, b""), field(3, b"") * (weight.PARTS_MAX + 1)):
        with pytest.raises(BatchTooLarge, match=r"versions|consumers"):
            check(field(1, beyond) + rest, REGISTER)
    event = INGEST().events.add()
    event.metadata.update({f"k{n}": "" for n in range(weight.ITEMS_MAX + 1)})
    with pytest.raises(BatchTooLarge, match="metadata"):
        check(INGEST(events=[event]).SerializeToString(), INGEST)
    # JSON has lists of any length.
    request = PUBLISH()
    request.events.add().data.update({"list": [0.0] * 2 * weight.ITEMS_MAX})
    check(request.SerializeToString())


async def test_texts_are_counted_as_messages_are() -> None:
    text = field(1, b"")
    full = text * weight.ITEMS_MAX + field(9, b"x" * weight.LIGHT_BYTES)
    await weight.check(full, TAIL.DESCRIPTOR, "/a/B")
    with pytest.raises(BatchTooLarge, match="subjects"):
        await weight.check(text * LIGHT, TAIL.DESCRIPTOR, "/a/B")
    # Where one after another takes the place of the one before.
    with pytest.raises(UndecodableRequest, match=str(weight.PARTS_MAX)):
        await weight.check(field(2, b"") * (weight.PARTS_MAX + 1), TAIL.DESCRIPTOR, "/a/B")


async def test_the_fullest_batch_passes() -> None:
    request = INGEST()
    for number in range(weight.ITEMS_MAX):
        event = request.events.add(request_id=f"r{number}", org_id="o", sku="s", quantity="1")
        event.event_time.seconds = 1
        event.metadata.update({f"k{n}": "v" for n in range(16)})
    await weight.check(request.SerializeToString(), INGEST.DESCRIPTOR, "/a/B")


def test_the_text_of_a_payload_counts_for_nothing() -> None:
    check(PUBLISH(raw_request=b'["*:b"]' * 500_000).SerializeToString())


@given(st.binary(max_size=40), st.sampled_from([PUBLISH, REGISTER, INGEST]))
@settings(deadline=None)
def test_what_is_no_message_is_left_to_the_decoder(start: bytes, request: Any) -> None:
    try:
        check(start + EMPTY_EVENT * 100 + b"\x0a" * weight.LIGHT_BYTES, request)
    except (BatchTooLarge, UndecodableRequest):
        return


def test_a_list_that_is_too_long_is_told_before_its_items_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refusing:
        def collect_violations(self, message: object) -> None:
            raise AssertionError

    monkeypatch.setattr(validation, "_VALIDATOR", Refusing())
    type_ = REGISTER().event_types.add()
    for _ in range(21):
        type_.versions.add()
    (found,) = validation.violations(type_, "event_types[0].")
    assert found.field == "event_types[0].versions"
    assert "20" in found.description
    event = INGEST().events.add()
    event.metadata.update({f"k{n}": "v" for n in range(17)})
    (found,) = validation.violations(event)
    assert (found.field, "16" in found.description) == ("metadata", True)
