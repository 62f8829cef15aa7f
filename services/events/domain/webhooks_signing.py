"""Signatures of Standard Webhooks 1.0: `v1` (HMAC-SHA256) and `v1a` (ed25519). Pure.

Signed are the bytes `id.timestamp.body`, so an id holds no dot: one that does, or that no header could carry,
travels as a digest of itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.events.domain.webhooks import Signing

KEY_BYTES = 32
"""Of both kinds; Standard Webhooks asks for 24 to 64 of an HMAC secret."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that is about to sign."""

    signing: Signing
    key: bytes

    def __repr__(self) -> str:
        """Leave the key out: texts like this one end up in logs."""
        return f"SigningKey({self.signing.value})"


def verification_key(key: SigningKey) -> str:
    """Return the key with which a receiver verifies: the HMAC secret itself, or the public key."""
    if key.signing is Signing.HMAC:
        return "whsec_" + _text(key.key)
    return public_key(key)


def public_key(key: SigningKey) -> str:
    """Return the public key; empty for HMAC, which has none."""
    if key.signing is Signing.HMAC:
        return ""
    private = Ed25519PrivateKey.from_private_bytes(key.key)
    return "whpk_" + _text(private.public_key().public_bytes_raw())


def message_id(event_id: str) -> str:
    """Return what travels as webhook-id: the event's id, or `evt_` and a digest when it cannot."""
    if _PLAIN_ID.fullmatch(event_id):
        return event_id
    return "evt_" + hashlib.sha256(event_id.encode()).hexdigest()


def headers(event_id: str, at: datetime, body: bytes, keys: Iterable[SigningKey]) -> dict[str, str]:
    """Return the three headers of one attempt, signed by every key."""
    sent_id, timestamp = message_id(event_id), int(at.timestamp())
    signed = f"{sent_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": sent_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(key, signed) for key in keys),
    }


def _signature(key: SigningKey, signed: bytes) -> str:
    if key.signing is Signing.HMAC:
        return "v1," + _text(hmac.digest(key.key, signed, "sha256"))
    return "v1a," + _text(Ed25519PrivateKey.from_private_bytes(key.key).sign(signed))


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
