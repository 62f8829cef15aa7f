"""What tests of webhooks say about what they see."""

from __future__ import annotations

import base64
from datetime import timedelta

import grpc
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.rpc import status_pb2
from payments.events.v1 import webhooks_pb2
from standardwebhooks.webhooks import Webhook

from services.runtime.edge.status import from_status
from services.runtime.errors import DomainError
from tests.support.events.lab import Lab
from tests.support.webhooks.lab import Received

DELIVERED = webhooks_pb2.WEBHOOK_DELIVERY_STATUS_DELIVERED
FAILED = webhooks_pb2.WEBHOOK_DELIVERY_STATUS_FAILED
SKIPPED = webhooks_pb2.WEBHOOK_DELIVERY_STATUS_SKIPPED
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


async def clear(lab: Lab) -> None:
    """What one test left waiting is none of the next one's business."""
    await lab.rows("DELETE FROM events.webhook_endpoint")
    await lab.rows("DELETE FROM events.webhook_delivery")


def outcomes(attempts: list[webhooks_pb2.WebhookAttempt]) -> list[str]:
    """Return what came of attempts, as short names."""
    names = [webhooks_pb2.WebhookAttemptOutcome.Name(each.outcome) for each in attempts]
    return [name.removeprefix("WEBHOOK_ATTEMPT_OUTCOME_") for name in names]


async def reason_of(asked: object) -> str:
    """Await a call that must be refused; returns the reason."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await asked  # type: ignore[misc]
    return typed(refused.value).reason


def typed(error: grpc.aio.AioRpcError) -> DomainError:
    """Return the typed error of a refusal."""
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    found = from_status(status_pb2.Status.FromString(details))
    assert found is not None
    return found


def verified(received: Received, secret: str) -> object:
    """Check v1 by the library of Standard Webhooks; returns the body."""
    return Webhook(secret).verify(received.body, received.headers)


def signed_by_ed25519(received: Received, public_key: str) -> bool:
    """Check v1a by what the specification says."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    headers = received.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + received.body
    for text in headers["webhook-signature"].split(" "):
        version, _, signature = text.partition(",")
        if version != "v1a":
            continue
        try:
            key.verify(base64.b64decode(signature), signed)
        except InvalidSignature:
            continue
        return True
    return False
