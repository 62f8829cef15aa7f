"""An event as a message of NATS and back; how a site is joined to NATS; how a source counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payments.events.v1 import billing_events_pb2
from pydantic import SecretStr

from services.runtime.config import Settings, SettingsUnfit
from services.runtime.events.jetstream import broker, message
from services.runtime.events.jetstream.message import Arrived, Event, Unreadable
from services.runtime.events.jetstream.options import Options, place_of
from services.runtime.events.jetstream.source import Position

NOW = datetime(2026, 11, 20, 12, 0, 0, 123456, UTC)
EVENT = Event(
    tenant_id="t",
    event_id="e",
    subject="order.created",
    schema_version=1,
    key="k",
    message_name="",
    payload=b"{}",
    correlation_id="c",
    causation_id="",
    traceparent="",
    created_at=NOW,
    fingerprint=b"0123456789abcdef",
    generation=0,
    site="east",
)
# What Postgres holds: every character but NUL and halves of surrogate pairs.
TEXTS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def texts(size: int) -> st.SearchStrategy[str]:
    return st.text(TEXTS, min_size=1, max_size=size)


@given(
    tenant=texts(64),
    event_id=texts(128),
    key=texts(200),
    trail=st.tuples(*[st.text(TEXTS, max_size=100)] * 3),
    content=st.tuples(st.just(""), st.just(b' {"a": 1}'))
    | st.tuples(st.just("payments.events.v9.OfALaterRelease"), st.binary(max_size=200)),
    subject=st.sampled_from([("order.created", 1), ("a.b.c-d_9.e", 1), ("order.created.v7", 7)]),
    generation=st.integers(0, 2**31 - 1),
    created_at=st.datetimes(timezones=st.just(UTC)),
    number=st.integers(1, 2**63 - 1),
    lane=st.integers(0, 255),
)
def test_an_event_comes_out_as_it_went_in(
    tenant: str,
    event_id: str,
    key: str,
    trail: tuple[str, str, str],
    content: tuple[str, bytes],
    subject: tuple[str, int],
    generation: int,
    created_at: datetime,
    number: int,
    lane: int,
) -> None:
    name, payload = content
    event = Event(
        tenant,
        event_id,
        *subject,
        key,
        name,
        payload,
        *trail,
        created_at,
        b"f" * 16,
        generation,
        "east-1",
    )
    subject_, headers = message.subject_of(event, lane), message.headers_of(event, number)
    tokens = subject_.split(".")
    assert tokens[:3] == ["ev", "east-1", str(lane)]
    assert tokens[4:] == event.subject.split(".")
    assert not set(subject_) & set("*> \t\r\n")
    for text in headers.values():
        assert text.isascii()
        assert text.isprintable()
        assert text == text.strip()
    assert message.read(subject_, headers, payload) == Arrived(event, lane, number)
    assert message.identity_of(headers) == event.identity
    assert message.number_of(headers) == number
    size = len(payload) + sum(len(name) + len(text) for name, text in headers.items())
    exact = message.weight(event, 0)
    assert size <= exact <= message.weight(event, 2**31)
    assert exact - size < 1024


def test_ids_of_two_tenants_or_sites_are_two() -> None:
    others = [
        replace(EVENT, site="west"),
        replace(EVENT, tenant_id="t/e", event_id="x"),
        replace(EVENT, tenant_id="t", event_id="e/x"),
        replace(EVENT, generation=1),
        replace(EVENT, tenant_id="u"),
        EVENT,
    ]
    assert len({message.message_id(event) for event in others}) == len(others)


@pytest.mark.parametrize(
    ("change", "told_"),
    [
        ({"ce-id": None}, "no header ce-id"),
        ({"Tollmesh-Number": None}, "no header Tollmesh-Number"),
        ({"Tollmesh-Number": "one"}, "'one' is not a number from 1 to 9223372036854775807"),
        ({"Tollmesh-Number": str(2**63)}, "is not a number from 1 to"),
        ({"Tollmesh-Number": "1" + "0" * 30}, "is not a number from 1 to"),
        ({"Tollmesh-Number": "9" * 10_000}, "is not a number from 1 to"),
        ({"Tollmesh-Number": "0"}, "is not a number from 1 to"),
        ({"Tollmesh-Number": "1_0"}, "is not a number from 1 to"),
        ({"Tollmesh-Number": "%D9%A3"}, "is not a number from 1 to"),
        ({"Tollmesh-Generation": "x"}, "is not a number from 0 to 2147483647"),
        ({"Tollmesh-Generation": "-1"}, "is not a number from 0 to"),
        ({"Tollmesh-Generation": str(2**31)}, "is not a number from 0 to"),
        ({"Tollmesh-Schema-Version": "10000"}, "is not a number from 1 to 9999"),
        ({"ce-time": "10000-01-01T00:00:00Z"}, "is not an RFC 3339 time"),
        ({"ce-time": "9999-12-31T23:59:59-01:00"}, "is not an RFC 3339 time"),
        ({"ce-correlationid": "c" * 129}, "trail is out of bounds"),
        ({"ce-causationid": "c" * 129}, "trail is out of bounds"),
        ({"ce-traceparent": "c" * 129}, "trail is out of bounds"),
        ({"ce-correlationid": "a%00b"}, "the character NUL"),
        ({"ce-dataschema": "https://tollmesh.dev/schemas/a..b"}, "name is out of bounds"),
        ({"ce-dataschema": "a" * 201}, "name is out of bounds"),
        ({"ce-specversion": "2.0"}, "CloudEvents '2.0' is not supported"),
        ({"ce-time": "2026-11-20T12:00:00"}, "is not an RFC 3339 time"),
        ({"ce-time": "yesterday"}, "is not an RFC 3339 time"),
        ({"ce-type": "Order Created"}, "is not a valid subject"),
        ({"ce-type": "order.created.v2"}, "version is out of bounds"),
        ({"ce-subject": "k" * 201}, "key is out of bounds"),
        ({"ce-id": "e" * 129}, "id is out of bounds"),
        ({"ce-id": "a%00b"}, "the character NUL"),
        ({"ce-id": "a%FFb"}, "invalid start byte"),
        ({"Tollmesh-Tenant": "t" * 65}, "tenant is out of bounds"),
        ({"Tollmesh-Tenant": "other"}, "its NATS subject and its headers"),
        ({"Tollmesh-Site": "west"}, "its NATS subject and its headers"),
        ({"Tollmesh-Fingerprint": "00"}, "fingerprint is out of bounds"),
        ({"Tollmesh-Fingerprint": "xx"}, "non-hexadecimal"),
        ({"Tollmesh-Schema-Version": "0"}, "is not a number from 1 to 9999"),
        ({"Tollmesh-Schema-Version": "2"}, "version is out of bounds"),
    ],
)
def test_what_is_no_event_of_ours_says_why(change: dict[str, str | None], told_: str) -> None:
    headers: dict[str, str | None] = {**message.headers_of(EVENT, 1), **change}
    kept = {name: text for name, text in headers.items() if text is not None}
    with pytest.raises(Unreadable, match=told_):
        message.read(message.subject_of(EVENT, 3), kept, EVENT.payload)


def test_a_message_without_headers_is_no_event() -> None:
    with pytest.raises(Unreadable):
        message.read("ev.east.3.t.order.created", None, b"")
    assert message.identity_of(None) is None
    for text in ("-1", "0", "1_0", str(2**63), "9" * 10_000):
        assert message.number_of({"Tollmesh-Number": text}) == 0


@pytest.mark.parametrize(
    "change",
    [{"ce-id": "a%00b"}, {"Tollmesh-Tenant": "%00"}, {"Tollmesh-Generation": str(2**31)}],
)
def test_an_identity_that_no_row_can_have_is_none(change: dict[str, str]) -> None:
    headers = message.headers_of(EVENT, 1)
    assert message.identity_of(headers) == EVENT.identity
    assert message.identity_of(headers | change) is None


def test_a_lane_that_there_is_not_is_no_lane() -> None:
    with pytest.raises(Unreadable, match="is not a number from 0 to 255"):
        message.read(message.subject_of(EVENT, 256), message.headers_of(EVENT, 1), b"{}")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b'{"a": 1} {}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b'{"a": NaN}',
        b"[" * 10_000 + b"]" * 10_000,
    ],
)
def test_a_body_without_a_message_s_name_has_to_be_json(body: bytes) -> None:
    with pytest.raises(Unreadable, match="payload isn't valid JSON"):
        message.read(message.subject_of(EVENT, 3), message.headers_of(EVENT, 1), body)
    sound = b'[1e999, %s, "\\ud83d\\ude00", null]' % (b"9" * 5000)
    read = message.read(message.subject_of(EVENT, 3), message.headers_of(EVENT, 1), sound)
    assert read.event.payload == sound


def test_a_payload_has_to_be_the_message_that_it_is_called() -> None:
    beyond = billing_events_pb2.ChargeCreated()
    beyond.created_at.seconds = 253_402_300_800
    name = beyond.DESCRIPTOR.full_name
    for body, told_ in (
        (b"\x0a\x05", f"payload is not a valid {name}"),
        (b"\x0a\x01\xff", f"payload is not a valid {name}"),
        (beyond.SerializeToString(), "must be a time in the years 1 to 9999"),
    ):
        event = replace(EVENT, message_name=name, payload=body)
        with pytest.raises(Unreadable, match=told_):
            message.read(message.subject_of(event, 3), message.headers_of(event, 1), body)


def test_a_message_of_a_later_release_is_taken_in_as_it_is() -> None:
    event = replace(EVENT, message_name="payments.events.v1.OfALaterRelease", payload=b"\x0a\x05")
    headers = message.headers_of(event, 1)
    assert message.read(message.subject_of(event, 3), headers, event.payload).event == event


def test_a_payload_beyond_the_log_s_limit_is_refused() -> None:
    with pytest.raises(Unreadable, match="payload"):
        message.read(
            message.subject_of(EVENT, 3), message.headers_of(EVENT, 1), b"x" * (1024 * 1024 + 1)
        )


# ---- Options


def settings(**given: object) -> Settings:
    found = {"nats_url": SecretStr("nats://user:geheim@one:4222,tls://two"), **given}
    return Settings.model_validate(found)


def test_without_a_url_there_is_no_transport() -> None:
    assert Options.of(settings(nats_url=SecretStr(" , "))) is None


def test_options_do_not_print_credentials() -> None:
    options = Options.of(settings(nats_site="east", nats_from="west, north"))
    assert options is not None
    assert options.sources == ("west", "north")
    assert options.servers == ("nats://user:geheim@one:4222", "tls://two")
    assert "geheim" not in repr(options)
    assert [place_of(url) for url in options.servers] == ["one:4222", "two:4222"]
    assert options.tls() is None


@pytest.mark.parametrize(
    "given",
    [
        {"nats_site": "East"},
        {"nats_site": ""},
        {"nats_site": "a.b"},
        {"nats_site": "x" * 33},
        {"nats_from": "west,*"},
        {"nats_site": "east", "nats_from": "west,east"},
        {"nats_url": SecretStr("http://geheim@one")},
        {"nats_url": SecretStr("one:4222")},
        {"nats_url": SecretStr("nats://one:geheim")},
        {"nats_creds_file": Path("no/such/file")},
        {"nats_ca_file": Path("no/such/file")},
    ],
)
def test_options_that_do_not_fit_name_their_variable(given: dict[str, object]) -> None:
    with pytest.raises(SettingsUnfit, match=r"^TOLLMESH_NATS_") as raised:
        Options.of(settings(**given))
    assert "geheim" not in str(raised.value)


def test_the_spool_has_a_server_of_its_own_and_shares_the_rest() -> None:
    given = settings(
        spool_url=SecretStr("nats://user:geheim@three"), spool_bytes_max=2**21, nats_replicas=3
    )
    options = Options.of_spool(given)
    assert options is not None
    assert (options.servers, options.sources) == (("nats://user:geheim@three",), ())
    assert (options.stream_bytes_max, options.replicas, options.site) == (2**21, 3, "main")
    assert Options.of_spool(settings()) is None
    with pytest.raises(SettingsUnfit, match=r"^TOLLMESH_SPOOL_URL") as raised:
        Options.of_spool(settings(spool_url=SecretStr("http://geheim@one")))
    assert "geheim" not in str(raised.value)


# ---- How a source counts


def test_a_message_that_comes_again_turns_no_count_back() -> None:
    position = Position(NOW)
    for sequence, number in enumerate((1, 2, 3, 2, 1), 1):
        position.moved(sequence, 8, number)
    assert (position.number(8), position.sequence) == (3, 5)
    # One that tells no number counts as the next; a number sets it right.
    for sequence, number, counted in ((6, 0, 4), (7, 4, 4), (8, 5, 5)):
        position.moved(sequence, 8, number)
        assert (position.number(8), position.sequence) == (counted, sequence)


def test_in_a_new_stream_a_count_goes_on_or_begins_anew() -> None:
    position = Position(NOW)
    position.moved(1, 8, 7)
    goes_on = position.in_stream(NOW)
    assert (goes_on.number(8), goes_on.sequence) == (7, 0)
    goes_on.moved(1, 8, 8)
    assert goes_on.number(8) == 8
    anew = position.in_stream(NOW).in_stream(NOW)
    anew.moved(1, 8, 0)
    anew.moved(2, 8, 1)
    assert anew.number(8) == 1


def test_what_waits_behind_messages_that_were_pulled_together() -> None:
    pulled = [
        SimpleNamespace(metadata=SimpleNamespace(num_pending=pending)) for pending in (9, 8, 7)
    ]
    assert broker.behind(pulled) == 7
    assert broker.behind([]) == 0
