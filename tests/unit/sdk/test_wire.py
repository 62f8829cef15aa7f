"""The fast encoder of usage events writes what the general one writes, and leaves to it whatever is odd."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from betterproto2 import encode_varint
from hypothesis import given, settings
from hypothesis import strategies as st
from payments.metering.v1 import metering_service_pb2
from payments_sdk.checked import FieldMisfit
from payments_sdk.payments.metering.v1 import IngestEventsRequest, Source, UsageEvent
from tollmesh_client import wire

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
TIMES = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9.5))]))
EVENTS = st.builds(
    UsageEvent,
    request_id=TEXT,
    org_id=TEXT,
    project_id=TEXT,
    sku=TEXT,
    quantity=TEXT,
    event_time=st.none() | TIMES,
    source=st.sampled_from(Source),
    metadata=st.dictionaries(TEXT, TEXT, max_size=3),
    unreadable=TEXT,
)


@given(st.lists(EVENTS, max_size=4))
@settings(deadline=None, max_examples=40)
def test_joined_parts_are_the_request_that_the_general_encoder_writes(
    events: list[UsageEvent],
) -> None:
    parts = [wire.framed(event, event.request_id) for event in events]
    assert b"".join(parts) == bytes(IngestEventsRequest(events=events))
    assert [wire.unframed(part) for part in parts] == list(map(bytes, events))
    read = metering_service_pb2.IngestEventsRequest.FromString(b"".join(parts))
    assert [event.request_id for event in read.events] == [event.request_id for event in events]


@given(st.integers(0, 2**63))
def test_numbers_are_written_as_the_general_encoder_does(number: int) -> None:
    assert wire.varint(number) == encode_varint(number)


def test_the_id_given_stands_in_the_place_of_the_events_own() -> None:
    event = UsageEvent(org_id="acme")
    assert UsageEvent.parse(wire.unframed(wire.framed(event, "r-1"))).request_id == "r-1"
    assert event.request_id == ""


@pytest.mark.parametrize(
    "odd",
    [
        {"quantity": 5},
        {"quantity": None},
        {"sku": "half \ud800"},
        {"event_time": datetime(2026, 1, 1)},  # noqa: DTZ001 - without a zone
        {"event_time": "2026-01-01"},
        {"source": 2**40},
        {"metadata": {"a": 1}},
        {"metadata": None},
    ],
    ids=repr,
)
def test_what_does_not_fit_is_refused_as_everywhere(odd: dict[str, Any]) -> None:
    event = UsageEvent(request_id="r-1")
    for name, value in odd.items():
        setattr(event, name, value)
    with pytest.raises(FieldMisfit):
        wire.framed(event, "r-1")


def test_what_is_no_event_is_refused() -> None:
    other: Any = IngestEventsRequest()
    with pytest.raises(TypeError, match="a UsageEvent is needed"):
        wire.framed(other, "r-1")
