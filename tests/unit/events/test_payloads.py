"""JSON of outside producers: one reading or none, and no float on the way."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from payments.events.v1 import events_pb2

from services.events.adapters import checks
from services.events.domain import payloads, schemas
from services.events.messages import body
from services.runtime import cloudevents, json_cuts
from services.runtime.errors import BatchTooLarge, InvalidField
from services.runtime.json_cuts import Fault

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=15,
)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b"[Infinity]",
        b'["\\ud800"]',
        b'{"a": 1',
        b'{"a": 01}',
        b"\xff",
        b"",
        b"[" * 66 + b"]" * 66,
        b"[" * 100_000,
        b"1" * 5000,
        b"1e1000000000000000000",
        b"1e-1000000000000000000",
        b"1e1001",
        b"-1e-1001",
        b"0." + b"1" * 5000,
        b"1" + b"0" * 1000,
        b'{"a": [1, {"b": 0e1000000000000000000}]}',
    ],
)
def test_what_has_no_single_reading_is_refused(text: bytes) -> None:
    with pytest.raises(payloads.PayloadInvalid):
        payloads.read(text)


def test_numbers_keep_their_digits() -> None:
    value = payloads.read(b'{"a": 90071992547409.93, "b": 9007199254740993, "c": 1e400}')
    assert value == {
        "a": Decimal("90071992547409.93"),
        "b": 9007199254740993,
        "c": Decimal("1e400"),
    }


@given(VALUES)
def test_the_canonical_text_depends_on_the_content_alone(value: object) -> None:
    spaced = json.dumps(value, indent=3).encode()
    dense = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    assert payloads.canonical(payloads.read(spaced)) == payloads.canonical(payloads.read(dense))


def test_a_number_is_no_text() -> None:
    one, other = payloads.read(b"1.50"), payloads.read(b'"1.50"')
    assert payloads.canonical(one) != payloads.canonical(other)


@given(st.lists(VALUES, max_size=5), st.integers(0, 4))
def test_a_body_gives_every_payload_to_the_byte(values: list[object], indent: int) -> None:
    texts = [json.dumps(value, indent=indent) for value in values]
    items = [f'{{"id" : "e{n}",\n "data": {text} }}' for n, text in enumerate(texts)]
    listed = " [" + " ,\n".join(items) + "]\n"
    for whole in (listed, f'{{ "events" :{listed}}}'):
        found = body.read(whole.encode())
        assert [item.json.decode() for item in found if isinstance(item, events_pb2.Event)] == texts


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"1",
        b'{"events": {}}',
        b'{"events": [], "more": 1}',
        b'[{"a":1}',
        b'{"events": [], "events": []}',
        b'{"events": [{}]',
        b'{"events": [{}}',
        b'{"events": [{},]}',
        b"[{} {}]",
        b"[{}],",
        b'{"events" [{}]}',
        b'{"\\udfff": [{}]}',
        b'{"\xff": [{}]}',
        b'["unending',
        b"\xef\xbb\xbf[]",
        b"[]]",
    ],
)
def test_another_body_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidField):
        body.read(text)


@pytest.mark.parametrize(
    ("item", "event_id"),
    [
        ("1", ""),
        ("null", ""),
        ('{"id": 5}', ""),
        ('{"nonsense": 1}', ""),
        ('{"data": 1, "json": "e30="}', ""),
        ('{"id": "x", "id": "y"}', ""),
        ('{"id": "x", "schema_version": 1e1000000000000000000}', "x"),
        (f'{{"id": "x", "schema_version": {"7" * 5000}}}', "x"),
        ('{"id": "x", "schema_version": 1.5}', "x"),
        ('{"id": "x", "schema_version": true}', "x"),
        ('{"id": "x", "message": {"@type": 5}}', "x"),
        ('{"id": "x", "message": {"@type": "type.googleapis.com/payments.events.v1.Event"}}', "x"),
        ('{"id": "x", "message": 5}', "x"),
        ('{"id": "x", "message": []}', "x"),
        ('{"id": "x", "metadata": []}', "x"),
        ('{"id": "x", "metadata": "none"}', "x"),
        ('{"id": "x", "metadata": {"traceparent": []}}', "x"),
        ('{"id": "x", "metadata": {"tenant_id": "a", "tenantId": "a"}}', "x"),
        ('{"id": "x", "created_at": "2026-01-01T00:00:00+99:99"}', "x"),
        ('{"id": "x", "created_at": "2026-1-1T0:0:0Z"}', "x"),
        ('{"id": "x", "created_at": 5}', "x"),
        ('{"id": "x", "created_at": null, "createdAt": "2026-01-01T00:00:00Z"}', "x"),
        ('{"id": "x", "schema_version": 1, "schemaVersion": 1}', "x"),
        ('{"id": "x", "json": 5}', "x"),
        ('{"id": "x", "key": "\\ud800"}', "x"),
        ('{"id": "\\ud800"}', ""),
        (f'{{"id": "x", "key": {"[" * 5000}{"]" * 5000}}}', "x"),
        ('{"id": "x", "key": NaN}', "x"),
        ('{"id": "x", "key": oops}', "x"),
    ],
)
def test_an_event_that_does_not_read_is_refused_alone(item: str, event_id: str) -> None:
    good = '{"id": "fine", "data": 1}'
    first, refused, last = body.read(f"[{good}, {item}, {good}]".encode())
    assert isinstance(refused, Fault)
    assert refused.event_id == event_id
    assert isinstance(first, events_pb2.Event)
    assert isinstance(last, events_pb2.Event)


@pytest.mark.parametrize("name", ["id", "key", "unheard_of"])
def test_a_value_that_is_too_long_is_called_so(name: str) -> None:
    (refused,) = body.read(json.dumps([{name: "x" * 70_000}]).encode())
    assert isinstance(refused, Fault)
    assert isinstance(refused.error, InvalidField)
    assert refused.error.pointer == f"/{name}"
    assert "70,002 bytes" in refused.error.message


def test_bytes_that_are_no_text_are_refused_alone() -> None:
    refused, fine = body.read(b'[{"id": "a\xff"}, {"id": "fine"}]')
    assert isinstance(refused, Fault)
    assert isinstance(fine, events_pb2.Event)


def test_a_null_is_an_absent_field() -> None:
    (found,) = body.read(b'[{"id": "a", "metadata": null, "created_at": null, "message": null}]')
    assert found == events_pb2.Event(id="a")


@pytest.mark.parametrize("form", ["[%s]", '{"events": [%s]}'])
def test_a_body_is_cut_up_to_the_first_event_that_is_too_much(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million elements cost no more than a thousand: those behind the limit are not looked at."""
    cut: list[int] = []
    end = json_cuts._end

    def counted(text: bytes, start: int) -> int:
        cut.append(start)
        return end(text, start)

    monkeypatch.setattr(json_cuts, "_end", counted)
    for read in (
        body.read,
        lambda text: cloudevents.cut(text, batch=True, events_max=body.EVENTS_MAX),
    ):
        cut.clear()
        with pytest.raises(BatchTooLarge):
            read((form % ",".join(["0"] * 1_000_000)).encode())
        assert len(cut) == body.EVENTS_MAX + 1
        if form != "[%s]":
            break


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.0, "1"), (-0.5, "-0.5"), (999999999999999.0, "999999999999999"), (1e22, "1" + "0" * 22)],
)
def test_a_struct_is_written_exactly(number: float, text: str) -> None:
    data = struct_pb2.Struct()
    data["b"], data["a"] = number, "é"
    assert checks.text_of(data) == f'{{"a":"é","b":{text}}}'.encode()


@pytest.mark.parametrize("number", [90071992547409.93, 9007199254740993.0, 1 / 3])
def test_a_number_with_two_readings_is_refused(number: float) -> None:
    data = struct_pb2.Struct()
    data["a"] = number
    with pytest.raises(payloads.PayloadInvalid, match="15 significant digits"):
        checks.text_of(data)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_of_json_is_not_said_to_have_digits(number: float) -> None:
    data = struct_pb2.Struct()
    data["a"] = number
    with pytest.raises(payloads.PayloadInvalid, match=f"{number} is not a JSON number"):
        checks.text_of(data)


SCHEMA = json.dumps(
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["at"],
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "id": {"type": "string", "format": "uuid"},
            "a/b": {"type": "object", "properties": {"n~": {"type": "integer", "minimum": 0}}},
        },
    }
)
AT = '"at": "2026-05-14T10:00:00Z"'


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [
        ("{}", "/at"),
        ('{"at": "yesterday"}', "/at"),
        ('{"at": "2026-02-30T10:00:00Z"}', "/at"),
        ('{"at": "2026-05-14"}', "/at"),
        (f'{{{AT}, "id": "no"}}', "/id"),
        (f'{{{AT}, "more": 1}}', "/more"),
        (f'{{{AT}, "a/b": {{"n~": -1}}}}', "/a~1b/n~0"),
        (f'{{{AT}, "a/b": {{"n~": 1.5}}}}', "/a~1b/n~0"),
        ("[]", ""),
    ],
)
def test_a_fault_names_its_place(payload: str, pointer: str) -> None:
    with pytest.raises(payloads.PayloadInvalid) as caught:
        schemas.check(SCHEMA, payloads.read(payload.encode()))
    assert caught.value.metadata["pointer"] == pointer


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("nothing", ""),
        ("[]", ""),
        ('{"type": "strin"}', "/type"),
        ('{"pattern": "("}', "/pattern"),
        ('{"pattern": "(?=a)b"}', "/pattern"),
        ('{"$ref": "https://example.com/other.json"}', ""),
        ('{"$ref": "file:///etc/passwd"}', ""),
        ('{"$ref": "#/$defs/none"}', ""),
        ('{"$schema": "http://json-schema.org/draft-07/schema#"}', "/$schema"),
        ('{"type": "object", "type": "object"}', ""),
    ],
)
def test_what_is_no_schema_is_refused(text: str, pointer: str) -> None:
    with pytest.raises(schemas.SchemaInvalid) as caught:
        schemas.read(text)
    assert caught.value.metadata["pointer"] == pointer
