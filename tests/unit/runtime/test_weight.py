"""Requests are counted before they are decoded, and counting stops at the first that is too much."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest
from google.protobuf.message import DecodeError
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


def group(number: int, content: bytes = b"") -> bytes:
    return _varint(number << 3 | 3) + content + _varint(number << 3 | 4)


EMPTY_EVENT = field(1, b"")
LIGHT = weight.LIGHT_BYTES // len(EMPTY_EVENT) + 1


def test_lists_are_counted_up_to_the_first_item_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    check(EMPTY_EVENT * weight.ITEMS_MAX + field(2, b"x" * weight.LIGHT_BYTES))
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


@pytest.mark.parametrize(
    "unknown",
    [
        group(100),
        group(1),
        group(7, group(7) + field(1, b"\x0c") + group(8, b"\x08\x01\x09" + b"\x0c" * 8)),
        b"".join(_varint(n << 3 | 3) for n in range(1, 101))
        + b"".join(_varint(n << 3 | 4) for n in range(100, 0, -1)),
    ],
)
def test_a_group_that_nobody_knows_hides_nothing(unknown: bytes) -> None:
    full = EMPTY_EVENT * LIGHT
    half = EMPTY_EVENT * (LIGHT // 2)
    for data in (unknown + full, half + unknown + half, full + unknown):
        PUBLISH.FromString(data)
        with pytest.raises(BatchTooLarge, match="events"):
            check(data)
    versions = unknown + field(5, b"") * (weight.ITEMS_MAX + 1)
    rest = field(1, b"x" * weight.LIGHT_BYTES)
    with pytest.raises(BatchTooLarge, match="versions"):
        check(field(1, versions) + rest, REGISTER)
    # What stands in the group itself is no event.
    check(group(100, full))


def test_what_is_broken_off_does_not_hide_what_was_decoded_before() -> None:
    long = field(1, field(5, b"") * LIGHT)
    for broken in (b"\x0b", b"\x0c", b"\x0b\x14", b"\x0f", b"\x08", field(1, b"\x0c") + b"\x0c"):
        with pytest.raises(BatchTooLarge, match="versions"):
            check(long + broken, REGISTER)


NUMBERS = st.sampled_from([1, 2, 3, 5, 100])


def _elements(content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.builds(field, st.sampled_from([1, 3, 5]), content),
        st.builds(group, NUMBERS, content),
        st.sampled_from(
            [
                b"\x08\x01",
                b"\x8a\x00\x80\x00",
                b"\x09" + b"\x0c" * 8,
                b"\x0d" + b"\x0b" * 4,
                b"\x0b",
                b"\x0c",
            ]
        ),
    )


@given(
    st.recursive(st.just(b""), lambda inner: st.lists(_elements(inner), max_size=6).map(b"".join))
)
@settings(deadline=None, max_examples=100)
def test_whatever_the_decoder_accepts_is_counted(data: bytes) -> None:
    try:
        decoded = REGISTER.FromString(data)
    except DecodeError:
        return
    lists = [
        decoded.event_types,
        *(found for type_ in decoded.event_types for found in (type_.versions, type_.consumers)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("LIGHT_BYTES", 0), ("ITEM_BYTES", 0), ("ITEMS_MAX", 2)):
            patch.setattr(weight, name, value)
        too_long = any(len(found) > weight.ITEMS_MAX for found in lists)
        with pytest.raises(BatchTooLarge) if too_long else nullcontext():
            check(data, REGISTER)


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
