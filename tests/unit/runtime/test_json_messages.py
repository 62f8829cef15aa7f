"""Plain documents become messages, or say why not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from payments.config.v1 import config_pb2
from payments.events.v1 import events_pb2, orchestration_events_pb2
from payments.pricing.v1 import catalog_service_pb2
from payments.type.v1.type_pb2 import Money

from services.runtime.edge import json_messages

EVENT = events_pb2.Event
STEP = {"@type": f"x/{orchestration_events_pb2.StepSucceeded.DESCRIPTOR.full_name}"}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "object"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"outbox_next_attempt_at": "now"}}, "metadata.outbox_next_attempt_at"),
        ({"createdAt": "2026-11-20T10:00:00Z", "created_at": None}, "created_at"),
        ({"created_at": "2026-11-20T10:00:00+99:99"}, "created_at"),
        ({"created_at": 1764363194}, "created_at"),
        ({"message": {"@type": 5}}, "@type"),
        ({"message": {}}, "@type"),
        ({"message": {"@type": "no/such.Message"}}, "no/such.Message"),
        ({"message": {**STEP, "latency_ms": "fast"}}, "message.latency_ms must be a whole number"),
        ({"message": {**STEP, "settled_at": "2026-1-1T0:0:0Z"}}, "message.settled_at"),
        ({"message": {**STEP, "stepIndex": 1, "step_index": 2}}, "are the same field"),
        ({"message": {**STEP, "nothing": 1}}, "'nothing' is not a field"),
        (
            {"message": {"@type": "x/google.protobuf.Timestamp", "value": "2026-1-1T0:0:0Z"}},
            "message.value",
        ),
        ({"schema_version": Decimal("1e400")}, "schema_version"),
        ({"schema_version": Decimal("1.5")}, "schema_version"),
        ({"schema_version": 10**400}, "schema_version"),
        ({"schema_version": float("inf")}, "schema_version"),
        ({"schema_version": True}, "schema_version"),
        ({"json": "no base64"}, "json"),
        ({"json": 5}, "json"),
        ({"schema_version": "1_000"}, "schema_version must be a whole number of 32 bits"),
        ({"schema_version": "\u0663"}, "schema_version must be a whole number of 32 bits"),
        ({"schema_version": {}}, "schema_version must be a whole number of 32 bits"),
        ({"schema_version": 2**31}, "schema_version must be a whole number of 32 bits"),
        ({"id": 5}, "id must be a string"),
        ({"key": ["a"]}, "key must be a string"),
        ({"metadata": {"correlation_id": False}}, "metadata.correlation_id must be a string"),
        ({"id": "\ud800"}, "id contains half of a surrogate pair"),
        ({"metadata": {"correlation_id": "\udbff"}}, "metadata.correlation_id contains half"),
        ({"data": {"a": ["b", "\ud800"]}}, r"data.a\[1\] contains half of a surrogate pair"),
        ({"data": {"a": {"\ud800": 1}}}, "a key of data.a contains half of a surrogate pair"),
        ({"data": {"a": {5: 1}}}, "a key of data.a is not a string"),
        ({"data": []}, "data must be an object"),
        ({"data": {"a": [Decimal("1e400")]}}, r"data.a\[0\] must be a number that fits a double"),
        ({"data": {"a": Decimal("NaN")}}, "data.a must be a number that fits a double"),
        ({"schema_version": Decimal("NaN")}, "schema_version must be a whole number"),
        ({"data": {"a": 10**400}}, "data.a must be a number that fits a double"),
        ({"data": {"a": float("nan")}}, "data.a must be a number that fits a double"),
        ({"message": {"@type": "x\ud800"}}, "message.@type contains half of a surrogate pair"),
        ({"message": {"@type": "x/google.protobuf.Duration"}}, "message must have @type and value"),
        (
            {"message": {"@type": "x/google.protobuf.Duration", "value": "1 s"}},
            'message.value must be a number of seconds with an s, such as "1.5s"',
        ),
        (
            {"message": {"@type": "x/google.protobuf.FieldMask", "value": "a_b"}},
            "message.value must be names of fields in camelCase",
        ),
        ({"data": {}, "json": ""}, "it has both 'data' and 'json'; only one is allowed"),
        ({"nothing": 1}, "nothing"),
        ({5: 1}, "5"),
    ],
)
def test_what_is_no_event_says_where(document: Any, told: str) -> None:
    with pytest.raises(json_messages.NotThisMessage, match=told):
        json_messages.parse(document, EVENT())


@pytest.mark.parametrize(
    "document", [{"skus": {}}, {"skus": [[]]}, {"skus": [None]}, {"plans": [{"versions": 5}]}]
)
def test_lists_hold_objects(document: Any) -> None:
    with pytest.raises(json_messages.NotThisMessage):
        json_messages.parse(document, catalog_service_pb2.Catalog())


@pytest.mark.parametrize(
    ("price", "told"),
    [
        ({"perUnit": {}, "package": {}}, "price has both 'perUnit' and 'package'"),
        ({"flat": {}, "per_unit": {}}, "price has both 'flat' and 'per_unit'"),
    ],
)
def test_what_may_hold_one_of_two_is_told_with_both(price: Any, told: str) -> None:
    catalog = {"plans": [{"prices": [{"price": price}]}]}
    with pytest.raises(json_messages.NotThisMessage) as refused:
        json_messages.parse(catalog, catalog_service_pb2.Catalog())
    assert str(refused.value).startswith(f"plans[0].prices[0].{told}")
    # Null is absent, as everywhere.
    price[next(iter(price))] = None
    json_messages.parse(catalog, catalog_service_pb2.Catalog())


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"\ud800": "x"}, "a key of skus[0].metadata contains half of a surrogate pair"),
        ({"x": "\udfff"}, "skus[0].metadata.x contains half of a surrogate pair"),
        ({"x": None}, "skus[0].metadata.x must be a string"),
        ({5: "x"}, "the key '5' of skus[0].metadata must be a string"),
    ],
)
def test_keys_and_values_of_maps_are_told_with_their_place(metadata: Any, told: str) -> None:
    with pytest.raises(json_messages.NotThisMessage) as refused:
        json_messages.parse({"skus": [{"metadata": metadata}]}, catalog_service_pb2.Catalog())
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize(
    ("written", "is_one"),
    [
        *(("1.5s", True), ("-1s", True), ("315576000000s", True), ("315576000001s", False)),
        *(("1s\n", False), ("01s", False), (".5s", False), ("1", False), (1, False)),
    ],
)
def test_spans_of_time_are_seconds(written: Any, is_one: bool) -> None:
    document = {"callTimeout": written}
    if is_one:
        json_messages.parse(document, config_pb2.Timeouts())
        return
    with pytest.raises(json_messages.NotThisMessage, match="callTimeout must be a number of sec"):
        json_messages.parse(document, config_pb2.Timeouts())


@pytest.mark.parametrize("written", [Decimal("2.0"), "2", 2, 2.0])
def test_a_whole_number_may_be_written_in_other_ways(written: Any) -> None:
    assert json_messages.parse({"schemaVersion": written}, EVENT()).schema_version == 2


@pytest.mark.parametrize("written", [Decimal("250.000"), 5.0, Decimal("1E+3"), "7.000", "1e3"])
def test_minor_units_are_written_with_digits_alone(written: Any) -> None:
    """Who writes a thousand as 1.000 must not get 1."""
    document = {"currency_code": "VND", "minor_units": written}
    with pytest.raises(json_messages.NotThisMessage, match=r"minor_units must be .* digits alone"):
        json_messages.parse(document, Money())
    for digits in ("250", 250):
        assert json_messages.parse({**document, "minor_units": digits}, Money()).minor_units == 250


def test_a_name_that_an_enum_does_not_have_is_told_with_those_that_it_has() -> None:
    with pytest.raises(json_messages.NotThisMessage, match=r"skus\[0\].type .* SKU_TYPE_ACTION"):
        json_messages.parse({"skus": [{"type": "1"}]}, catalog_service_pb2.Catalog())


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_NAMES = [
    name
    for field in (*EVENT.DESCRIPTOR.fields, *events_pb2.EventMetadata.DESCRIPTOR.fields)
    for name in (field.name, field.json_name)
]


@given(
    st.dictionaries(
        st.sampled_from([*_NAMES, "@type"]),
        _PLAIN | st.dictionaries(st.sampled_from(_NAMES), _PLAIN),
    )
)
@settings(deadline=None)
def test_whatever_is_given_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        found = json_messages.parse(document, EVENT())
    except json_messages.NotThisMessage as error:
        # Whatever is wrong is told with its place, in our words.
        assert "does not read as" not in str(error)
        return
    written = json_format.MessageToDict(found)
    assert json_messages.parse(written, EVENT()) == found
