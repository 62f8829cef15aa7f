"""Stripe's events: checked by its own library, and read for what they are about, not for what they say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe

from services.orchestration.domain.webhooks import News, news
from services.orchestration.ports import Forged, Webhook
from services.runtime.errors import InvalidField

# As Stripe's own libraries have it.
TOLERANCE = timedelta(minutes=5)
SIGNATURE = "stripe-signature"
# Told once a PaymentIntent was confirmed or called off. One that was only made is still being worked on, and a question
# about it would call it off.
_ABOUT_INTENTS = frozenset(
    {
        "payment_intent.succeeded",
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.canceled",
        "payment_intent.amount_capturable_updated",
    }
)
_ABOUT_REFUNDS = frozenset(
    {"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"}
)


def heard(secrets: Sequence[str], webhook: Webhook, now: datetime) -> News:
    """Read an event. Raises Forged, InvalidField."""
    header = webhook.headers.get(SIGNATURE, "")
    if not any(_is_signed(webhook.body, header, secret) for secret in secrets):
        raise Forged
    # The library measures its age by the machine's time alone, and lets what is ahead of it pass.
    if abs(now - _signed_at(header)) > TOLERANCE:
        raise Forged
    try:
        event = json.loads(webhook.body)
    except (ValueError, RecursionError):
        raise InvalidField.one("raw_request", "must be an event in JSON") from None
    if not isinstance(event, dict):
        raise InvalidField.one("raw_request", "must be an event in JSON")
    return news(event.get("id"), _merchant_ref(event))


def _is_signed(body: bytes, header: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(body, header, secret))
    except (stripe.SignatureVerificationError, ValueError, TypeError):
        # Of bytes and characters that no signature has the library raises others than its own.
        return False


def _signed_at(header: str) -> datetime:
    times = [part[2:] for part in header.split(",") if part.startswith("t=")]
    try:
        return datetime.fromtimestamp(int(times[0]), UTC)
    except (IndexError, ValueError, OverflowError, OSError):
        raise Forged from None


def _merchant_ref(event: dict[str, Any]) -> object:
    """Return the reference of what an event is about; nothing for events that are of no use."""
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in _ABOUT_INTENTS | _ABOUT_REFUNDS:
        return ""
    found: object = event
    for name in ("data", "object", "metadata", "merchant_ref"):
        if not isinstance(found, dict):
            return ""
        found = found.get(name)
    return found
