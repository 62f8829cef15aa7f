"""Signatures of requests: those that we make, and those that processors make of what they tell."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from standardwebhooks.webhooks import EmptyWebhookSecretError
from standardwebhooks.webhooks import Webhook as StandardWebhook

from services.orchestration.ports import Webhook

TOLERANCE = timedelta(minutes=5)
SIGNATURE = "Tollmesh-Signature"


def of_request(secret: str, method: str, target: str, body: bytes, at: datetime) -> str:
    """Return the signature of a request: of its time, method, path and body, so that none can be exchanged."""
    stamp = int(at.timestamp())
    signed = f"{stamp}.{method}.{target}.".encode() + body
    return f"t={stamp},v1={hmac.digest(secret.encode(), signed, hashlib.sha256).hex()}"


def is_standard(webhook: Webhook, secrets: Sequence[str], now: datetime) -> bool:
    """Say whether a webhook is signed as Standard Webhooks has it, with one of the secrets, lately.

    The library measures ages by the machine's time; here the mesh's clock counts.
    """
    event_id = webhook.headers.get("webhook-id", "")
    stamp = webhook.headers.get("webhook-timestamp", "")
    given = webhook.headers.get("webhook-signature", "").split(" ")
    try:
        at = datetime.fromtimestamp(int(stamp), UTC)
        body = webhook.body.decode()
        wanted = [StandardWebhook(secret).sign(event_id, at, body) for secret in secrets]
    except (ValueError, OverflowError, OSError, EmptyWebhookSecretError):
        return False
    return abs(now - at) <= TOLERANCE and any(
        hmac.compare_digest(each.encode(), one.encode()) for each in given for one in wanted
    )


def is_hmac(
    webhook: Webhook, secrets: Sequence[str], *, header: str, prefix: str, encoding: str
) -> bool:
    """Say whether a header holds the HMAC-SHA256 of a webhook's body, behind a prefix, in hex or base64."""
    given = webhook.headers.get(header.lower(), "")
    if not given.startswith(prefix):
        return False
    try:
        digest = (
            bytes.fromhex(given[len(prefix) :])
            if encoding == "hex"
            else base64.b64decode(given[len(prefix) :], validate=True)
        )
    except (ValueError, binascii.Error):
        return False
    return any(
        hmac.compare_digest(hmac.digest(each.encode(), webhook.body, hashlib.sha256), digest)
        for each in secrets
    )
