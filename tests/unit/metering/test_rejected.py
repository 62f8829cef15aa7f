"""What is shown of rejected events can be said in JSON, whatever they came as."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from google.protobuf import json_format
from payments.metering.v1 import corrections_pb2, metering_pb2

from services.metering.domain.rejected import RejectedEvent, RejectedId
from services.metering.messages import rejected as messages


@pytest.mark.parametrize(
    ("seconds", "nanos", "shown"),
    [
        (1, 5, True),
        (0, -1, False),
        (0, 10**9, False),
        (253402300800, 0, False),
        (-62135596801, 0, False),
        (2**63 - 1, 0, False),
    ],
)
def test_a_time_that_is_none_is_left_out(seconds: int, nanos: int, shown: bool) -> None:
    event = metering_pb2.UsageEvent(request_id="r", org_id="acme")
    event.event_time.seconds, event.event_time.nanos = seconds, nanos
    kept = RejectedEvent(
        RejectedId(str(UUID(int=7)), 0),
        event.SerializeToString(),
        "INVALID_EVENT",
        "time: is none",
        datetime(2026, 1, 1, tzinfo=UTC),
        None,
    )
    message = messages.rejected_event(kept)
    assert message.event.HasField("event_time") is shown
    assert message.event.org_id == "acme"
    assert json_format.MessageToDict(message)["event"]["requestId"] == "r"
    (fixed,) = messages.fixed([kept], corrections_pb2.EventFix())
    assert fixed == event, "it is kept whole"
