"""What `webhooks listen` sends, held against what the mesh itself sends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from payments.events.v1 import orchestration_events_pb2
from standardwebhooks.webhooks import Webhook

from services.cli import forwarder
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.forwarder import Forwarder
from services.events.domain import webhooks_bodies as bodies
from services.events.domain import webhooks_signing as signing
from services.events.domain.feed import FeedEvent, Progress
from services.events.domain.webhooks import Format, Signing
from services.events.messages import cloudevents
from services.events.messages import feed as messages
from services.events.work import USER_AGENT

AT = datetime(2026, 3, 4, 5, 6, 7, 80_000, tzinfo=UTC)
PAID = orchestration_events_pb2.PaymentCompleted(request_id="r")


def event(payload: bytes, message_name: str = "", event_id: str = "01M7") -> FeedEvent:
    return FeedEvent(
        position=4711,
        event_id=event_id,
        subject="payment.completed",
        schema_version=1,
        tenant_id="default",
        key="pay_ü",
        message_name=message_name,
        payload=payload,
        correlation_id="c",
        causation_id="",
        traceparent="",
        created_at=AT,
        progress=Progress(waiting=0, dead=0, tries=0, next_at=None, last_error=""),
        kept={},
    )


@pytest.mark.parametrize(
    "found",
    [
        event(b'{"n": 0.12345678901234567890, "t": "\\u00fc"}'),
        event(PAID.SerializeToString(), PAID.DESCRIPTOR.full_name),
        event(b"\x08\x01", "payments.events.v1.OfALaterRelease"),
    ],
    ids=["json", "message", "unknown"],
)
def test_the_body_is_that_of_a_webhook(found: FeedEvent) -> None:
    _, theirs = bodies.render(Format.JSON, cloudevents.of_feed(found))
    assert forwarder.body_of(messages.event(found), found.position) == theirs


@pytest.mark.parametrize("event_id", ["01M7", "order.1/ü"])
def test_headers_and_signature_are_those_of_a_webhook(event_id: str) -> None:
    secret = forwarder.new_secret()
    body = b'{"type":"a.b"}'
    ours: dict[str, Any] = Forwarder("http://127.0.0.1:1/", secret)._headers(event_id, body)
    Webhook(secret).verify(body, ours)
    at = datetime.fromtimestamp(int(ours["webhook-timestamp"]), UTC)
    key = signing.SigningKey(Signing.HMAC, forwarder._key(secret))
    theirs = signing.headers(event_id, at, body, [key])
    assert {name: ours[name] for name in theirs} == theirs
    assert ours["User-Agent"] == USER_AGENT


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("localhost:8000", ""),
        ("ftp://localhost/", ""),
        ("http://localhost:99999/", ""),
        ("http://localhost/", "whsec_"),
        ("http://localhost/", "whsec_" + "A" * 20),
        ("http://localhost/", "whsec_not base64"),
    ],
)
def test_what_cannot_be_is_refused_at_once(url: str, secret: str) -> None:
    with pytest.raises(CliError) as told:
        Forwarder(url, secret or forwarder.new_secret())
    assert told.value.exit_code == EXIT_USAGE
