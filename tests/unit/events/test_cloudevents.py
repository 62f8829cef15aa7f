"""CloudEvents: what goes out is read by others as it was meant, and by us to the byte."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st
from payments.events.v1 import events_service_pb2
from payments.events.v1.billing_events_pb2 import ChargeCreated
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.events.domain import cloudevents
from services.events.domain.cloudevents import Outgoing
from services.events.domain.feed import FeedEvent, Progress
from services.events.domain.outside import Incoming, Unreadable
from services.events.messages import cloudevents as rendering
from services.events.servicer import incoming
from services.runtime import cloudevents as reading
from services.runtime.context import acting
from services.runtime.errors import DomainError
from tests.support.events.checks import HERE
from tests.support.events.lab import call

# What the JSON format of CloudEvents 1.0 asks of an event, in a schema of our own.
TEXT = {"type": "string", "minLength": 1}
FORMAT = jsonschema_rs.Draft202012Validator(
    {
        "type": "object",
        "required": ["id", "source", "specversion", "type"],
        "properties": {
            "id": TEXT,
            "source": {**TEXT, "format": "uri-reference"},
            "specversion": {"const": "1.0"},
            "type": TEXT,
            "datacontenttype": TEXT,
            "dataschema": {**TEXT, "format": "uri"},
            "subject": TEXT,
            "time": {**TEXT, "format": "date-time"},
            "data": True,
            "data_base64": {"type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$"},
        },
        "not": {"required": ["data", "data_base64"]},
        "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
        "additionalProperties": {"type": ["string", "boolean", "integer"]},
    },
    validate_formats=True,
)

SENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.created"}
EXACT = b'{ "amount": 90071992547409.93,"big":1e400, "small": 0.10 ,"same": 9007199254740993 }'

# ---- There and back

_texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=40
)
_names = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).map("x".__add__)
_values = _texts | st.booleans() | st.integers(-(2**31), 2**31 - 1)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts | st.just(90071992547409.93),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def outgoing(draw: st.DrawFn) -> Outgoing:
    """An event as it might go out, some as their producer sent them."""
    kept: dict[str, Any] = draw(st.dictionaries(_names, _values, max_size=4))
    if draw(st.booleans()):
        kept["source"] = "https://shop.example/orders?x=%20"
    if draw(st.booleans()):
        kept["dataschema"] = "urn:example:order"
    return Outgoing(
        event_id=draw(_texts),
        subject=draw(st.sampled_from(["order.created", "order.created.v2", "a.b.c.d.v3"])),
        tenant_id="acme",
        key=draw(_texts),
        created_at=draw(st.datetimes(timezones=st.just(UTC))),
        data=draw(
            _json.map(lambda value: json.dumps(value, indent=draw(st.none() | st.just(1))))
        ).encode(),
        position=draw(st.integers(0, 2**63 - 1)),
        correlation_id=draw(_texts),
        causation_id=draw(_texts | st.just("")),
        traceparent=draw(
            st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") | st.just("")
        ),
        kept=kept,
    )


@given(outgoing())
def test_what_goes_out_reads_as_it_was_meant(event: Outgoing) -> None:
    text = cloudevents.render(event)
    (cut,) = reading.cut(text, batch=False, events_max=1)
    assert isinstance(cut, reading.Cut)
    check(cut, event)
    assert FORMAT.is_valid(json.loads(text))
    second = JSONFormat().read(None, text)
    assert second.get_attributes() == {**cloudevents.attributes(event), "time": event.created_at}
    assert second.get_data() == json.loads(event.data)


@given(outgoing())
def test_binary_headers_read_as_they_were_meant(event: Outgoing) -> None:
    headers, data = cloudevents.render_binary(event)
    assert data == event.data
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    attributes = {
        name.removeprefix("ce-"): reading.header_value(value)
        for name, value in headers.items()
        if name != "content-type"
    }
    assert headers["content-type"] == "application/json"
    spelled = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in event.kept.items()
    }
    check(reading.Cut(attributes, data), replace(event, kept=spelled))
    second = from_binary(HTTPMessage(headers, b""), JSONFormat()).get_attributes()
    assert second["time"] == event.created_at
    assert second["subject"] == event.key


def check(cut: reading.Cut, event: Outgoing) -> None:
    """The cut has the event's payload to the byte, and its attributes."""
    found = reading.read(cut.attributes)
    assert cut.data == event.data
    assert (found.event_id, found.type, found.key) == (event.event_id, event.subject, event.key)
    assert (found.correlation_id, found.causation_id) == (event.correlation_id, event.causation_id)
    assert (found.created_at, found.traceparent) == (event.created_at, event.traceparent)
    kept = {"source": "/tollmesh/acme", **event.kept}
    if event.position:
        kept.setdefault("sequence", f"{event.position:019}")
    assert found.kept == kept


@given(st.lists(outgoing(), max_size=4))
def test_a_batch_holds_its_events(events: list[Outgoing]) -> None:
    text = cloudevents.render_batch(events)
    cuts = reading.cut(text, batch=True, events_max=1000)
    assert len(cuts) == len(events)
    for cut, event in zip(cuts, events, strict=True):
        assert isinstance(cut, reading.Cut)
        check(cut, event)


@given(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1))
def test_sequences_sort_as_positions_do(first: int, second: int) -> None:
    texts = [sequence(first), sequence(second)]
    assert (texts[0] < texts[1]) == (first < second)


def sequence(position: int) -> str:
    event = Outgoing("e", "a.b", "t", "k", datetime.now(UTC), b"1", position=position)
    return str(cloudevents.attributes(event)["sequence"])


def test_what_the_producer_gave_wins() -> None:
    event = Outgoing("e", "a.b", "t", "k", datetime(2026, 1, 2, tzinfo=UTC), b"1", position=5)
    assert cloudevents.attributes(event)["sequence"] == "0000000000000000005"
    theirs = replace(event, kept={"sequence": "7", "source": "/x", "subject": "s"})
    found = cloudevents.attributes(theirs)
    assert (found["sequence"], found["source"], found["subject"]) == ("7", "/x", "s")


def test_absent_attributes_are_left_out() -> None:
    event = Outgoing("e", "a.b", "t", "k", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), b"1")
    assert json.loads(cloudevents.render(event)) == {
        "specversion": "1.0",
        "id": "e",
        "source": "/tollmesh/t",
        "type": "a.b",
        "subject": "k",
        "time": "2026-01-02T03:04:05.000006Z",
        "datacontenttype": "application/json",
        "data": 1,
    }


# ---- Messages of ours


def feed_event(message_name: str, payload: bytes) -> FeedEvent:
    return FeedEvent(
        position=3,
        event_id="e",
        subject="plan.created",
        schema_version=1,
        tenant_id="acme",
        key="p",
        message_name=message_name,
        payload=payload,
        correlation_id="c",
        causation_id="",
        traceparent="",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        progress=Progress(0, 0, 0, None, ""),
    )


def test_a_message_of_ours_goes_out_as_json() -> None:
    payload = PlanCreated(plan_id="p", plan_version=7).SerializeToString()
    event = rendering.of_feed(feed_event("payments.events.v1.PlanCreated", payload))
    found = json.loads(cloudevents.render(event))
    assert found["dataschema"] == "https://tollmesh.dev/schemas/payments.events.v1.PlanCreated"
    assert found["datacontenttype"] == "application/json"
    assert found["data"] == {"plan_id": "p", "plan_version": 7}
    assert FORMAT.is_valid(found)


FAR = ChargeCreated(charge_id="c")
FAR.created_at.seconds = 10**15


@pytest.mark.parametrize(
    ("message_name", "payload"),
    [
        ("payments.events.v1.FromTheFuture", b"\x08\x01"),
        ("payments.events.v1.PlanCreated", b"\xff"),
        ("payments.events.v1.ChargeCreated", FAR.SerializeToString()),
    ],
)
def test_a_message_that_cannot_be_said_in_json_goes_out_in_base64(
    message_name: str, payload: bytes
) -> None:
    event = rendering.of_feed(feed_event(message_name, payload))
    text = cloudevents.render(event)
    found = json.loads(text)
    assert found["datacontenttype"] == "application/protobuf"
    assert base64.b64decode(found["data_base64"]) == payload
    assert "data" not in found
    assert FORMAT.is_valid(found)
    assert JSONFormat().read(None, text).get_data() == payload


# ---- What comes in


def publish(content_type: str, raw: bytes, **headers: str) -> list[Incoming | Unreadable]:
    request = events_service_pb2.PublishCloudEventsRequest(
        content_type=content_type, raw_request=raw, headers=headers
    )
    with acting(call("acme")):
        return asyncio.run(incoming.read_cloud_events(HERE, request))


def one(attributes: dict[str, Any], data: bytes = b'{"a": 1}') -> Incoming | Unreadable:
    text = json.dumps(attributes).encode()
    (found,) = publish("application/cloudevents+json", text[:-1] + b', "data": ' + data + b"}")
    return found


def test_numbers_keep_their_digits_in_every_mode() -> None:
    head = json.dumps(SENT).encode()[:-1]
    structured = b" \n" + head + b', "data" : ' + EXACT + b"} "
    for found in (
        *publish("Application/CloudEvents+JSON; charset=utf-8", structured),
        *publish("application/cloudevents-batch+json", b"[" + structured + b"\n]"),
        *publish("application/json", EXACT, **{f"ce-{name}": text for name, text in SENT.items()}),
    ):
        assert isinstance(found, Incoming)
        assert found.payload == EXACT
        assert found.kept == {"source": "/shop"}


def test_attributes_find_their_places() -> None:
    found = one(
        {
            **SENT,
            "type": "order.created.v2",
            "subject": "ord_1",
            "time": "2026-01-02T04:04:05.1234567+01:00",
            "correlationid": "corr",
            "causationid": "cause",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "dataschema": "https://shop.example/order",
            "tracestate": "a=b",
            "priority": 5,
            "sampled": True,
            "gone": None,
        }
    )
    assert isinstance(found, Incoming)
    assert (found.event_id, found.subject, found.version) == ("e-1", "order.created", 2)
    assert (found.key, found.correlation_id, found.causation_id) == ("ord_1", "corr", "cause")
    assert found.traceparent == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert found.created_at == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
    assert found.kept == {
        "source": "/shop",
        "dataschema": "https://shop.example/order",
        "tracestate": "a=b",
        "priority": 5,
        "sampled": True,
    }


def test_a_partition_key_orders_before_the_subject() -> None:
    found = one({**SENT, "subject": "ord_1", "partitionkey": "per_1"})
    assert isinstance(found, Incoming)
    assert found.key == "per_1"
    assert found.kept == {"source": "/shop", "subject": "ord_1", "partitionkey": "per_1"}


def test_another_kind_of_json_is_kept() -> None:
    found = one({**SENT, "datacontenttype": "application/vnd.shop+json; charset=utf-8"})
    assert isinstance(found, Incoming)
    assert found.kept["datacontenttype"] == "application/vnd.shop+json; charset=utf-8"


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in SENT.items() if key != name}


INVALID, UNSUPPORTED = "CLOUD_EVENT_INVALID", "CLOUD_EVENT_UNSUPPORTED"
BROKEN: list[tuple[dict[str, Any], str, str]] = [
    *((without(name), INVALID, f"/{name}") for name in SENT),
    *(({**SENT, name: ""}, INVALID, f"/{name}") for name in ("id", "source", "type")),
    *(({**SENT, name: 5}, INVALID, f"/{name}") for name in ("id", "source", "type")),
    *(({**SENT, name: None}, INVALID, f"/{name}") for name in ("id", "source", "type")),
    ({**SENT, "subject": ""}, INVALID, "/subject"),
    ({**SENT, "subject": True}, INVALID, "/subject"),
    ({**SENT, "dataschema": ""}, INVALID, "/dataschema"),
    ({**SENT, "dataschema": "not absolute"}, INVALID, "/dataschema"),
    ({**SENT, "dataschema": 1}, INVALID, "/dataschema"),
    ({**SENT, "source": "white space"}, INVALID, "/source"),
    ({**SENT, "datacontenttype": ""}, INVALID, "/datacontenttype"),
    ({**SENT, "datacontenttype": 7}, INVALID, "/datacontenttype"),
    *(
        ({**SENT, "time": text}, INVALID, "/time")
        for text in (
            "yesterday", "", 5, "2026-01-02", "2026-01-02T03:04:05", "20260102T030405Z",
            "2026-02-30T00:00:00Z", "2026-01-02T03:04:60Z", "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00", "\uff12026-01-02T03:04:05Z", "2026-01-02T03:04:05Z\n",
        )
    ),
    ({**SENT, "Upper": "x"}, INVALID, "/Upper"),
    ({**SENT, "with_line": "x"}, INVALID, "/with_line"),
    ({**SENT, "line\n": "x"}, INVALID, "/line\n"),
    ({**SENT, "a/b~c": "x"}, INVALID, "/a~1b~0c"),
    ({**SENT, "": "x"}, INVALID, "/"),
    ({**SENT, "n" * 65: "x"}, INVALID, "/" + "n" * 64),
    ({**SENT, "fraction": 1.5}, INVALID, "/fraction"),
    ({**SENT, "wide": 2**31}, INVALID, "/wide"),
    ({**SENT, "list": [1]}, INVALID, "/list"),
    ({**SENT, "long": "x" * 1025}, INVALID, "/long"),
    ({**SENT, "control": "a\tb"}, INVALID, "/control"),
    ({**SENT, "id": "a\0b"}, INVALID, "/id"),
    ({**SENT, "id": "i" * 129}, INVALID, "/id"),
    ({**SENT, "subject": "s" * 201}, INVALID, "/subject"),
    ({**SENT, "correlationid": "c" * 129}, INVALID, "/correlationid"),
    ({**SENT, **{f"x{n}": "y" for n in range(40)}}, INVALID, ""),
    ({**SENT, "specversion": "0.3"}, UNSUPPORTED, "/specversion"),
    ({**SENT, "specversion": 1}, UNSUPPORTED, "/specversion"),
    ({**SENT, "data_base64": "AA=="}, UNSUPPORTED, "/data_base64"),
    ({**SENT, "datacontenttype": "text/plain"}, UNSUPPORTED, "/datacontenttype"),
    ({**SENT, "datacontenttype": "application/jsonl"}, UNSUPPORTED, "/datacontenttype"),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "reason", "pointer"), BROKEN)
def test_a_broken_attribute_is_named(attributes: dict[str, Any], reason: str, pointer: str) -> None:
    found = one(attributes)
    assert isinstance(found, Unreadable)
    assert (found.error.reason, found.error.metadata["pointer"]) == (reason, pointer)
    assert found.error.message


def test_an_event_without_data_is_refused_and_null_is_data() -> None:
    (found,) = publish("application/cloudevents+json", json.dumps(SENT).encode())
    assert isinstance(found, Unreadable)
    assert found.error.metadata["pointer"] == "/data"
    assert found.event_id == "e-1"
    (found,) = publish("", b"", **{f"ce-{name}": text for name, text in SENT.items()})
    assert isinstance(found, Unreadable)
    null = one(SENT, b"null")
    assert isinstance(null, Incoming)
    assert null.payload == b"null"


@pytest.mark.parametrize(
    ("content_type", "raw", "headers", "reason"),
    [
        ("application/json", b"{}", {}, "CLOUD_EVENTS_CONTENT_TYPE"),
        ("", b"{}", {}, "CLOUD_EVENTS_CONTENT_TYPE"),
        ("application/cloudevents", b"{}", {}, "CLOUD_EVENTS_CONTENT_TYPE"),
        ("application/cloudevents+avro", b"{}", {"ce-id": "a"}, "CLOUD_EVENTS_CONTENT_TYPE"),
        ("application/cloudevents+json", b"[]", {}, "INVALID_FIELD"),
        ("application/cloudevents+json", b"", {}, "INVALID_FIELD"),
        ("application/cloudevents+json", b'{"id": "a"', {}, "INVALID_FIELD"),
        ("application/cloudevents+json", b"{}{}", {}, "INVALID_FIELD"),
        ("application/cloudevents+json", b"\xff", {}, "INVALID_FIELD"),
        ("application/cloudevents-batch+json", b"{}", {}, "INVALID_FIELD"),
        ("application/cloudevents-batch+json", b"", {}, "INVALID_FIELD"),
        ("application/json", b"{}", {"ce-id": "%ff"}, "INVALID_FIELD"),
        ("application/json", b"{}", {"x-id": "a"}, "INVALID_FIELD"),
        ("application/json", b"{}", {"ce-id": "a", "CE-ID": "b"}, "INVALID_FIELD"),
    ],
)
def test_a_call_in_no_mode_is_refused(
    content_type: str, raw: bytes, headers: dict[str, str], reason: str
) -> None:
    with pytest.raises(DomainError) as refused:
        publish(content_type, raw, **headers)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "odd",
    [
        b"5",
        b"[[],[{}]]",
        b'"text, ] and }"',
        b'{"id": "a", "id": "b"}',
        b'{"id": "a", "x": NaN}',
        b'{"id": "a", "x": 1e1000000000000000000}',
        b'{"id": "a", "x": ' + b"7" * 5000 + b"}",
        b'{"id": "a", "x": "\\ud800"}',
        b'{"id": "a", "source": "\\ud800"}',
        b'{"id": "a", "x": "\xff"}',
        b'{"id": "a", "\\udfff": 1}',
        b'{"id": "a" "x": 1}',
        b'{"id": "a", "time": "2026-1-1T0:0:0Z"}',
        b'{"id": "a", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_an_item_of_a_batch_that_does_not_read_is_refused_alone(odd: bytes) -> None:
    sound = json.dumps({**SENT, "data": 1}).encode()
    first, refused, last = publish(
        "application/cloudevents-batch+json", b"[%b, %b,%b]" % (sound, odd, sound)
    )
    assert isinstance(refused, Unreadable)
    assert refused.event_id in ("", "a")
    assert isinstance(first, Incoming)
    assert isinstance(last, Incoming)


@pytest.mark.parametrize("raw", [b"[]", b" [ ] "])
def test_a_batch_may_be_empty(raw: bytes) -> None:
    assert publish("application/cloudevents-batch+json", raw) == []


def test_an_event_that_does_not_read_has_its_verdict_by_itself_too() -> None:
    (refused,) = publish("application/cloudevents+json", b'{"id": "a", "id": "b"}')
    assert isinstance(refused, Unreadable)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("plain", "plain"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ('"quoted \\"twice\\""', 'quoted "twice"'),
        ("100%25", "100%"),
        ('"', '"'),
    ],
)
def test_header_values_are_decoded(sent: str, read: str) -> None:
    assert reading.header_value(sent) == read


def test_binary_mode_takes_the_content_type_from_its_header() -> None:
    headers = {f"ce-{name}": text for name, text in SENT.items()}
    (found,) = publish(
        "application/shop+json", b"1", **headers, **{"ce-datacontenttype": "text/plain"}
    )
    assert isinstance(found, Incoming)
    assert found.kept["datacontenttype"] == "application/shop+json"
    assert found.created_at is None


# ---- Whatever is sent

_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
_attributes = st.dictionaries(st.sampled_from([*SENT, "time", "subject", "data", "x"]), _anything)


@given(
    st.sampled_from(["application/cloudevents+json", "application/cloudevents-batch+json", ""]),
    st.binary()
    | _anything.map(json.dumps).map(str.encode)
    | _attributes.map(json.dumps).map(str.encode),
    st.dictionaries(st.text(max_size=8).map("ce-".__add__), st.text(max_size=8), max_size=3),
)
def test_whatever_is_sent_is_read_or_refused(
    content_type: str, raw: bytes, headers: dict[str, str]
) -> None:
    try:
        found = publish(content_type, raw, **headers)
    except DomainError as refused:
        assert refused.reason in ("INVALID_FIELD", "CLOUD_EVENTS_CONTENT_TYPE")
    else:
        assert found or raw.split() == [b"[]"]
        assert all(isinstance(item, Incoming | Unreadable) for item in found)


@given(st.text())
def test_every_header_value_is_read_or_refused(value: str) -> None:
    with contextlib.suppress(ValueError):
        reading.header_value(value)


@pytest.mark.parametrize(("given", "text"), [(True, "true"), (False, "false"), (7, "7")])
def test_what_orders_an_event_is_written_as_it_was_sent(given: object, text: str) -> None:
    attributes = {"specversion": "1.0", "id": "a", "source": "/a", "type": "stock.moved"}
    found = reading.read(
        attributes | {"partitionkey": given, "correlationid": given, "causationid": given}
    )
    assert (found.key, found.correlation_id, found.causation_id) == (text, text, text)
