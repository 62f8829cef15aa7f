"""What does not fit its field never leaves the SDK: judged by protobuf's own runtime, over all messages."""

import datetime
import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any

import betterproto2
import pytest
from betterproto2 import Casing
from betterproto2.casing import safe_snake_case
from google.protobuf import duration_pb2, json_format, message_factory, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from payments.type.v1 import type_pb2
from payments_sdk.checked import FieldMisfit
from payments_sdk.google.protobuf import Duration, Struct, Timestamp, Value
from payments_sdk.payments.events.v1 import Event
from payments_sdk.payments.ledger.v1 import PostTransfersRequest, Transfer
from payments_sdk.payments.metering.v1 import UpdateIngestSettingsRequest, UsageEvent
from payments_sdk.payments.pricing.v1 import Price, PriceInput
from payments_sdk.payments.type.v1 import Money, Period

from services.runtime import moments
from tests.unit.sdk.test_round_trip import POOL, SDK_TYPES, messages, our_messages

INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
}
AROUND = (2**31, 2**32, 2**63, 2**64, 2**64 + 500, -(2**31), -(2**63), -(2**64), 0, 10**30)
NOT_INTEGERS = (5.7, 5.0, "5", True, None, Decimal(5), b"5", [5], math.nan)


def integer_fields() -> Iterator[tuple[str, FieldDescriptor]]:
    """Every integer field of ours, alone, repeated or as the value of a map."""
    for name in our_messages():
        for field in POOL.FindMessageTypeByName(name).fields:
            element = field
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                element = field.message_type.fields_by_name["value"]
            if element.type in INTEGERS:
                yield name, field


def assign(message: betterproto2.Message, field: FieldDescriptor, value: Any) -> None:
    """Put a value into a field, whatever its shape."""
    if field.message_type is not None:
        value = {"key": value}
    elif field.is_repeated:
        value = [value]
    setattr(message, safe_snake_case(field.name), value)


def fits(name: str, field: FieldDescriptor, value: int) -> bool:
    """Ask protobuf's own runtime."""
    message = message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))()
    target = getattr(message, field.name)
    try:
        if field.message_type is not None:
            target["key"] = value
        elif field.is_repeated:
            target.append(value)
        else:
            setattr(message, field.name, value)
    except ValueError:
        return False
    return True


def test_there_are_integers_to_try() -> None:
    found = {f"{name}.{field.name}" for name, field in integer_fields()}
    assert "payments.type.v1.Money.minor_units" in found
    assert len(found) > 100


@pytest.mark.parametrize(
    ("name", "field"), list(integer_fields()), ids=lambda part: getattr(part, "name", part)
)
def test_integers_go_out_as_they_are_or_not_at_all(name: str, field: FieldDescriptor) -> None:
    element = field.message_type.fields_by_name["value"] if field.message_type else field
    low, high = INTEGERS[element.type]
    ours = message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))
    for value in (*AROUND, low, high, low - 1, high + 1):
        message = SDK_TYPES[name]()
        assign(message, field, value)
        assert fits(name, field, value) is (low <= value <= high)
        if not low <= value <= high:
            with pytest.raises(FieldMisfit, match=safe_snake_case(field.name)):
                bytes(message)
            continue
        back = getattr(ours.FromString(bytes(message)), field.name)
        if field.message_type is not None:
            back = back["key"]
        elif field.is_repeated:
            (back,) = back
        assert back == value
    for other in NOT_INTEGERS:
        if other is None and field.has_presence:
            continue
        message = SDK_TYPES[name]()
        assign(message, field, other)
        with pytest.raises(FieldMisfit):
            bytes(message)


def test_money_is_never_another_amount() -> None:
    for minor_units in (2**64 + 500, 2**63, -(2**63) - 1):
        with pytest.raises(FieldMisfit, match=r"Money\.minor_units"):
            bytes(Money("USD", minor_units))
        inner = PostTransfersRequest(transfers=[Transfer(amount=Money("USD", minor_units))])
        with pytest.raises(FieldMisfit, match=r"Money\.minor_units"):
            bytes(inner)
        with pytest.raises(FieldMisfit, match=r"Money\.minor_units"):
            inner.to_dict()
        with pytest.raises(FieldMisfit, match=r"Money\.minor_units"):
            inner.to_json()


@pytest.mark.parametrize(
    "written",
    [
        "5.7",
        "true",
        '"5.7"',
        '"1_000"',
        '" 5"',
        '"0x10"',
        '"٣"',
        "[]",
        "{}",
        '""',
        "1e-1",
        '"5-"',
        "5.0",
        '"250.000"',
    ],
)
def test_json_integers_are_read_exactly_or_refused(written: str) -> None:
    text = f'{{"currencyCode": "USD", "minorUnits": {written}}}'
    with pytest.raises(FieldMisfit, match=r"Money\.minor_units"):
        Money.from_json(text)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5", 5),
        ('"5"', 5),
        ("1e3", 1000),
        ('"-12e2"', -1200),
        ("9223372036854775807", 2**63 - 1),
        ("null", 0),
    ],
)
def test_json_integers_in_every_spelling(written: str, value: int) -> None:
    text = f'{{"currency_code": "USD", "minor_units": {written}}}'
    assert Money.from_json(text).minor_units == value


def test_json_beyond_the_field_is_refused_as_it_leaves() -> None:
    with pytest.raises(FieldMisfit):
        bytes(Money.from_json('{"minorUnits": "9223372036854775808"}'))


@pytest.mark.parametrize(
    "text",
    [
        '{"minorUnits": 1, "minorUnits": 2}',
        '{"minorUnits": 1, "minor_units": 2}',
        '{"currencyCode": 5}',
        "[]",
        '"USD"',
    ],
)
def test_json_that_says_two_things_is_refused(text: str) -> None:
    with pytest.raises(FieldMisfit):
        Money.from_json(text)


def deltas() -> st.SearchStrategy[timedelta]:
    near = st.integers(-3_000_000, 3_000_000)
    far = st.integers(-(315_576_000_001 * 10**6), 315_576_000_001 * 10**6)
    return (near | far).map(lambda micros: timedelta(microseconds=micros))


@given(deltas())
@settings(max_examples=300)
def test_durations_are_those_of_protobuf(delta: timedelta) -> None:
    theirs = UpdateIngestSettingsRequest(accept_past=delta)
    expected = duration_pb2.Duration()
    try:
        expected.FromTimedelta(delta)
        expected.ToJsonString()
    except ValueError:
        with pytest.raises(FieldMisfit, match=r"UpdateIngestSettingsRequest\.accept_past"):
            bytes(theirs)
        return
    message = Duration.from_timedelta(delta)
    assert (message.seconds, message.nanos) == (expected.seconds, expected.nanos)
    assert message.to_dict() == expected.ToJsonString()
    assert Duration.from_dict(expected.ToJsonString()) == message
    assert UpdateIngestSettingsRequest.parse(bytes(theirs)).accept_past == delta


def test_half_a_second_backwards_stays_backwards() -> None:
    back = timedelta(seconds=-0.5)
    sent = UpdateIngestSettingsRequest(accept_past=back)
    assert UpdateIngestSettingsRequest.parse(bytes(sent)).accept_past == back
    assert UpdateIngestSettingsRequest.from_json(sent.to_json()).accept_past == back


@pytest.mark.parametrize(
    "written", ["1", "1 s", "s", "1.s", "+1s", "1e3s", "0.0000005s", "--1s", "315576000001s", 5]
)
def test_odd_durations_are_refused(written: object) -> None:
    with pytest.raises(FieldMisfit):
        UpdateIngestSettingsRequest.from_json(json.dumps({"acceptPast": written}))


@pytest.mark.parametrize(
    "message",
    [
        Duration(1, -1),
        Duration(-1, 1),
        Duration(0, 10**9),
        Duration(315_576_000_001, 0),
        Timestamp(0, -1),
        Timestamp(0, 10**9),
        Timestamp(253_402_300_800, 0),
        Timestamp(-62_135_596_801, 0),
    ],
    ids=repr,
)
def test_times_out_of_range_do_not_leave(message: betterproto2.Message) -> None:
    with pytest.raises(FieldMisfit):
        bytes(message)


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2026, 1, 1),  # noqa: DTZ001 - without a zone on purpose
        datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(timedelta(hours=14))),
        datetime.datetime(9999, 12, 31, 23, tzinfo=datetime.timezone(timedelta(hours=-2))),
        datetime.date(2026, 1, 1),
        1_764_363_194,
        "2026-01-01T00:00:00Z",
        timedelta(seconds=1),
    ],
    ids=repr,
)
def test_what_is_no_instant_is_refused(value: Any) -> None:
    with pytest.raises(FieldMisfit, match=r"Period\.start_at"):
        bytes(Period(start_at=value))


@given(st.datetimes(timezones=st.just(UTC)))
def test_instants_are_those_of_protobuf(instant: datetime.datetime) -> None:
    expected = timestamp_pb2.Timestamp()
    expected.FromDatetime(instant)
    message = Timestamp.from_dict(expected.ToJsonString())
    assert (message.seconds, message.nanos) == (expected.seconds, expected.nanos)
    assert Period.parse(bytes(Period(start_at=instant))).start_at == instant


@given(
    day=st.sampled_from(["2026-02-28", "2026-02-30", "0001-01-01", "9999-12-31", "0000-01-01"]),
    letter=st.sampled_from("Tt "),
    clock=st.sampled_from(["00:00:00", "23:59:59", "23:59:60", "24:00:01", "1:2:3"]),
    fraction=st.sampled_from(["", ".5", ".123456", ".123456000", ".", ",5"]),
    zone=st.sampled_from(["Z", "z", "+00:00", "-00:00", "+05:30", "-23:59", "+24:00", "", "UTC"]),
)
def test_instants_are_read_as_at_the_doors_of_the_mesh(
    day: str, letter: str, clock: str, fraction: str, zone: str
) -> None:
    text = f"{day}{letter}{clock}{fraction}{zone}"
    try:
        expected = moments.read(text)
    except ValueError:
        with pytest.raises(FieldMisfit):
            Period.from_json(json.dumps({"startAt": text}))
    else:
        assert Period.from_json(json.dumps({"startAt": text})).start_at == expected


def test_small_letters_are_those_of_rfc_3339() -> None:
    found = Period.from_json('{"startAt": "2026-01-31t12:00:00.5z"}').start_at
    assert found == datetime.datetime(2026, 1, 31, 12, 0, 0, 500_000, UTC)


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00Z",
        "2026-1-1T0:0:0Z",
        "2026-01-01T00:00:00+99:99",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:01Z",
        "2026-01-01T00:00:00.1234567Z",
        "0000-01-01T00:00:00Z",
        "2026",
        5,
        None,
    ],
)
def test_odd_timestamps_are_refused(written: object) -> None:
    text = json.dumps({"startAt": written})
    if written is None:
        assert Period.from_json(text).start_at is None
        return
    with pytest.raises(FieldMisfit, match="Timestamp"):
        Period.from_json(text)


TRANSFER: Any = Transfer
POST_TRANSFERS: Any = PostTransfersRequest
EVENT: Any = Event
PRICE_INPUT: Any = PriceInput


@pytest.mark.parametrize(
    "build",
    [
        lambda: TRANSFER(amount=5),
        lambda: TRANSFER(amount=Period()),
        lambda: TRANSFER(transfer_id=5),
        lambda: TRANSFER(linked=1),
        lambda: TRANSFER(metadata={"a": 5}),
        lambda: TRANSFER(metadata={5: "a"}),
        lambda: TRANSFER(metadata=["a"]),
        lambda: TRANSFER(metadata=None),
        lambda: POST_TRANSFERS(transfers=Transfer()),
        lambda: POST_TRANSFERS(transfers=[None]),
        lambda: POST_TRANSFERS(transfers="12"),
        lambda: PRICE_INPUT(quantity=Decimal("1.5")),
        lambda: EVENT(json="{}"),
        lambda: EVENT(json=b"{}", data=Struct()),
        lambda: UsageEvent(sku="\ud800"),
        lambda: Struct.from_dict({"a": 2**53 + 1}),
        lambda: Struct.from_dict({"a": [{"b": 10**400}]}),
    ],
)
def test_values_of_another_type_are_refused(build: Callable[[], betterproto2.Message]) -> None:
    with pytest.raises(FieldMisfit):
        bytes(build())


def test_two_members_of_a_oneof_are_refused() -> None:
    (group, fields), *_ = Price._betterproto.oneof_field_by_group.items()  # type: ignore[arg-type]
    price = Price()
    for field in sorted(fields, key=lambda field: field.name)[:2]:
        of = Price._betterproto.cls_by_field[field.name]  # type: ignore[arg-type]
        setattr(price, field.name, of())
    with pytest.raises(FieldMisfit, match=f"Price.{group}: only one of"):
        bytes(price)


def test_a_misspelt_field_is_no_field() -> None:
    money: Any = Money("USD", 5)
    with pytest.raises(AttributeError, match="no field minor_unit"):
        money.minor_unit = 7


def test_base64_is_read_whole_or_refused() -> None:
    assert Event.from_json('{"json": "e30="}').json == b"{}"
    assert Event.from_json('{"json": "-_-_"}').json == b"\xfb\xff\xbf"
    for text in ("e30=!", "e3 0", "e", "é"):
        with pytest.raises(FieldMisfit, match="Base64"):
            Event.from_json(json.dumps({"json": text}))


@given(messages(type_pb2.Money.DESCRIPTOR) | messages(type_pb2.Period.DESCRIPTOR))
@settings(max_examples=50)
def test_small_messages_in_json(original: Message) -> None:
    assert_json_crosses(original)


@pytest.mark.parametrize("name", our_messages())
def test_json_crosses_over_both_ways(name: str) -> None:
    @settings(max_examples=4, deadline=None)
    @given(messages(POOL.FindMessageTypeByName(name)))
    def crosses(original: Message) -> None:
        assert_json_crosses(original)

    crosses()


def assert_json_crosses(original: Message) -> None:
    """What protobuf writes as JSON we read, and it reads ours; both give the bytes that it started from."""
    theirs = SDK_TYPES[original.DESCRIPTOR.full_name]
    for is_snake, casing in ((True, Casing.SNAKE), (False, Casing.CAMEL)):
        written = json_format.MessageToJson(original, preserving_proto_field_name=is_snake)
        parsed = theirs.from_json(written)
        assert type(original).FromString(bytes(parsed)) == original
        assert json_format.Parse(parsed.to_json(casing=casing), type(original)()) == original


def test_names_that_the_proto_gives_in_json_are_read_and_written() -> None:
    at = datetime.datetime(2026, 1, 31, tzinfo=UTC)
    event = UsageEvent(request_id="a", event_time=at)
    assert json.loads(event.to_json()) == {"requestId": "a", "time": "2026-01-31T00:00:00Z"}
    assert "event_time" in event.to_dict(casing=Casing.SNAKE)
    for name in ("time", "event_time", "eventTime"):
        told = f'{{"requestId": "a", "{name}": "2026-01-31T00:00:00Z"}}'
        assert UsageEvent.from_json(told, ignore_unknown_fields=True) == event
    with pytest.raises(FieldMisfit, match="event_time: it stands twice"):
        UsageEvent.from_json('{"time": "2026-01-31T00:00:00Z", "event_time": null}')


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, 999_999_999))
def test_timestamps_keep_their_nanoseconds_in_json(seconds: int, nanos: int) -> None:
    theirs = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)
    assert Timestamp(seconds, nanos).to_dict() == theirs.ToJsonString()


@pytest.mark.parametrize(
    "written",
    ["9007199254740993.0", "92233720368547758.07", "NaN", "-Infinity", "1" * 5_000, "[" * 100_000],
)
def test_numbers_of_a_struct_keep_their_digits_or_are_refused(written: str) -> None:
    with pytest.raises(FieldMisfit):
        Struct.from_json(f'{{"a": {written}}}')


@pytest.mark.parametrize("written", ["0.1", "0.30000000000000004", "5.0", "1e3", "123456789.125"])
def test_numbers_that_a_double_holds_pass(written: str) -> None:
    read = Struct.from_json(f'{{"a": {written}}}')
    assert read.fields["a"].number_value == float(written)
    assert Struct.parse(bytes(read)) == read


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_struct_holds_numbers_of_json(number: float) -> None:
    with pytest.raises(FieldMisfit, match="no number of JSON"):
        bytes(Struct(fields={"a": Value(number_value=number)}))


class _Nowhere(datetime.tzinfo):
    def utcoffset(self, when: datetime.datetime | None) -> None:
        return None

    def dst(self, when: datetime.datetime | None) -> None:
        return None

    def tzname(self, when: datetime.datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (datetime.datetime(2026, 1, 1, tzinfo=_Nowhere()), "has no time zone"),
        (5, "a datetime is needed, not int 5"),
        ("2026-01-01T00:00:00Z", "a datetime is needed, not str"),
    ],
)
def test_what_is_no_instant_is_told_in_plain_words(value: Any, told: str) -> None:
    with pytest.raises(FieldMisfit, match=told):
        bytes(UsageEvent(event_time=value))


@pytest.mark.parametrize("zone", ["+05:75", "+05:60", "+24:00", "-99:99"])
def test_zones_that_there_are_not_are_refused(zone: str) -> None:
    with pytest.raises(FieldMisfit, match="RFC 3339"):
        UsageEvent.from_json(f'{{"time": "2026-01-01T00:00:00{zone}"}}')


class Odd(IntEnum):
    """An enum of another kind than any field's."""

    ONE = 1


def test_an_enum_of_another_kind_does_not_leave_for_any_field() -> None:
    seen = 0
    for name, field in integer_fields():
        element = field
        if field.message_type is not None:
            element = field.message_type.fields_by_name["value"]
        if element.enum_type is None:
            continue
        message = SDK_TYPES[name]()
        assign(message, field, Odd.ONE)
        with pytest.raises(FieldMisfit, match="is needed, not"):
            bytes(message)
        seen += 1
    assert seen > 20
