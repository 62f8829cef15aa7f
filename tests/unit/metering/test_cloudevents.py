"""What each attribute and each member of the data of a CloudEvent is in a usage event."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payments.metering.v1 import metering_pb2

from services.metering.messages import cloudevents
from services.metering.messages.cloudevents import (
    DATA_BYTES_MAX,
    REQUEST_ID_CHARS_MAX,
    ReadBatch,
    request_id_of,
)
from services.runtime.cloudevents import Cut, cut, read_attributes
from services.runtime.edge.validation import violations
from services.runtime.money import format_decimal


def attributes(**changes: Any) -> dict[str, Any]:
    found = {
        "specversion": "1.0",
        "id": "evt-1",
        "source": "https://api.example/eu",
        "type": "api.calls",
        "subject": "acme",
        "time": "2026-01-15T10:00:00.123456789Z",
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def read(data: bytes | None, **changes: Any) -> ReadBatch:
    return cloudevents.usage_events([read_attributes(Cut(attributes(**changes), data))])


def sound(data: bytes, **changes: Any) -> metering_pb2.UsageEvent:
    batch = read(data, **changes)
    assert not batch.faults, batch.faults
    (event,) = batch.events
    assert not violations(event)
    return event


def test_every_member_has_its_place() -> None:
    event = sound(
        b'{"sku": "llm.tokens", "quantity": 1.50, "project_id": "web", "model": "small", "n": 1e2,'
        b' "cached": true, "gone": null}'
    )
    assert event.request_id == "https://api.example/eu|evt-1"
    assert (event.org_id, event.project_id, event.sku) == ("acme", "web", "llm.tokens")
    assert event.quantity == "1.50"
    assert event.event_time.ToJsonString() == "2026-01-15T10:00:00.123456Z"
    assert dict(event.metadata) == {"model": "small", "n": "100", "cached": "true"}
    assert sound(b'{"quantity": "3"}').sku == "api.calls"


@given(quantity=st.decimals(0, 10**15 - 1, places=18, allow_nan=False), is_text=st.booleans())
def test_a_quantity_keeps_each_digit(quantity: Decimal, is_text: bool) -> None:
    text = format(quantity, "f")
    event = sound(b'{"quantity": %s}' % (f'"{text}"' if is_text else text).encode())
    assert format_decimal(Decimal(event.quantity)) == format_decimal(quantity)


SOURCES = st.sampled_from(["/a", "/a/b", "urn:x", "https://api.example/" + "p" * 110, "a", "a%7C"])


@given(st.lists(st.tuples(SOURCES, st.text("ab|# ", min_size=1, max_size=128)), max_size=8))
def test_two_events_share_a_request_id_only_if_they_share_source_and_id(
    pairs: list[tuple[str, str]],
) -> None:
    made = {pair: request_id_of(*pair) for pair in pairs}
    assert len(set(made.values())) == len(set(pairs))
    assert all(len(found) <= REQUEST_ID_CHARS_MAX for found in made.values())


@pytest.mark.parametrize(
    ("data", "changes", "reason", "words"),
    [
        (b'{"quantity": 1}', {"traceparent": "zz"}, "CLOUD_EVENT_INVALID", "traceparent"),
        (b'{"quantity": 1}', {"data_base64": "AA=="}, "CLOUD_EVENT_UNSUPPORTED", "data_base64"),
        (b'{"quantity": 1}', {"subject": None}, "CLOUD_EVENT_INVALID", "subject"),
        (b'{"quantity": 1}', {"time": None}, "CLOUD_EVENT_INVALID", "time"),
        (b'{"quantity": 1}', {"source": "no uri |"}, "CLOUD_EVENT_INVALID", "source"),
        (b'{"quantity": 1}', {"specversion": "0.3"}, "CLOUD_EVENT_UNSUPPORTED", "specversion"),
        (b'{"quantity": 1}', {"datacontenttype": "a/b"}, "CLOUD_EVENT_UNSUPPORTED", "JSON"),
        (None, {}, "CLOUD_EVENT_INVALID", "data"),
        (b"[1]", {}, "INVALID_FIELD", "object"),
        (b"{", {}, "INVALID_FIELD", "valid JSON"),
        (b'{"quantity": 1, "quantity": 2}', {}, "INVALID_FIELD", "twice"),
        (b'{"quantity": NaN}', {}, "INVALID_FIELD", "NaN"),
        (b'{"quantity": true}', {}, "INVALID_FIELD", "data.quantity"),
        (b'{"quantity": [1]}', {}, "INVALID_FIELD", "data.quantity"),
        (b'{"value": 1}', {}, "INVALID_FIELD", "data.quantity"),
        (b'{"quantity": 1, "sku": 5}', {}, "INVALID_FIELD", "data.sku"),
        (b'{"quantity": 1, "user": {"id": 1}}', {}, "INVALID_FIELD", "data.user"),
        (b'{"quantity": 1, "half": "\\ud800"}', {}, "INVALID_FIELD", "surrogate"),
        (b"[" * 100_000, {}, "INVALID_FIELD", "bytes"),
        (b'{"x": "%s"}' % (b"a" * DATA_BYTES_MAX), {}, "INVALID_FIELD", "bytes"),
    ],
)
def test_a_fault_is_typed_and_says_what_it_is(
    data: bytes | None, changes: dict[str, Any], reason: str, words: str
) -> None:
    batch = read(data, **changes)
    fault = batch.faults[0]
    assert fault.reason == reason
    assert words in fault.message
    (event,) = batch.events
    assert event.unreadable == fault.message[:500]
    assert batch.skus == set()


def test_one_that_does_not_read_takes_no_other_with_it() -> None:
    good = json.dumps({**attributes(), "data": {"quantity": 1}}).encode()
    body = b"[" + good + b', 5, {"id": "x"}, ' + good.replace(b"evt-1", b"evt-2") + b"]"
    cuts = cut(body, batch=True, events_max=10)
    batch = cloudevents.usage_events([read_attributes(item) for item in cuts])
    assert sorted(batch.faults) == [1, 2]
    assert [event.request_id for event in batch.events] == [
        "https://api.example/eu|evt-1", "", "x", "https://api.example/eu|evt-2",
    ]  # fmt: skip
    assert batch.skus == {"api.calls"}
