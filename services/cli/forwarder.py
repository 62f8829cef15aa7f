"""Sends events to an address of this machine's choice as the mesh sends its webhooks: same body, headers, signature.

A delivery is tried once; nothing is stored. What the mesh itself sends is in `services.events`; a test holds the two
against each other.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import json
import re
import secrets
import ssl
import time
from dataclasses import dataclass
from datetime import UTC
from urllib.parse import urlsplit

from payments.events.v1 import events_pb2

from services.cli import payloads
from services.cli.errors import EXIT_USAGE, CliError
from services.runtime import moments

ATTEMPT_SECONDS = 20.0
USER_AGENT = "Tollmesh-Webhooks/1"
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of one
_KEY_BYTES = 32
# What Standard Webhooks asks of a secret.
_KEY_BYTES_MIN, _KEY_BYTES_MAX = 24, 64
_PLAIN_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}", re.ASCII)


def new_secret() -> str:
    """Make a signing secret, `whsec_…`."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of a delivery.

    Attributes:
        status: of the response; 0 when there was none.
        error: why there was none.
    """

    status: int
    latency_ms: int
    error: str = ""

    @property
    def succeeded(self) -> bool:
        """True for 2xx, which alone counts."""
        return 200 <= self.status < 300


class Forwarder:
    """Posts events to one URL.

    Args:
        url: http:// or https://.
        secret: `whsec_` and 24 to 64 bytes in Base64.
    """

    def __init__(self, url: str, secret: str) -> None:
        """Raises CliError: the URL or the secret is malformed."""
        self._url = urlsplit(url)
        try:
            self._port = self._url.port
        except ValueError as error:
            raise CliError(f"{url[:200]!r}: {error}", exit_code=EXIT_USAGE) from error
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise CliError(
                f"{url[:200]!r} is no URL: write http://localhost:8000/hook", exit_code=EXIT_USAGE
            )
        self._key = _key(secret)

    def send(self, event: events_pb2.Event, position: int) -> Delivered:
        """Send an event once; says what came of it."""
        started = time.monotonic()
        body = body_of(event, position)
        try:
            status = self._post(body, self._headers(event.id, body))
        except (OSError, http.client.HTTPException) as error:
            return Delivered(0, _since(started), _said(error))
        return Delivered(status, _since(started))

    def _headers(self, event_id: str, body: bytes) -> dict[str, str]:
        digest = hashlib.sha256(event_id.encode()).hexdigest()
        sent_id = event_id if _PLAIN_ID.fullmatch(event_id) else f"evt_{digest}"
        timestamp = str(int(time.time()))
        signed = f"{sent_id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, "sha256")).decode()
        return {
            "Content-Type": "application/json",
            "webhook-id": sent_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Connection": "close",
        }

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        host = self._url.hostname or ""
        connection = (
            http.client.HTTPSConnection(
                host, self._port, timeout=ATTEMPT_SECONDS, context=ssl.create_default_context()
            )
            if self._url.scheme == "https"
            else http.client.HTTPConnection(host, self._port, timeout=ATTEMPT_SECONDS)
        )
        path = self._url.path or "/"
        with contextlib.closing(connection):
            asked = f"{path}?{self._url.query}" if self._url.query else path
            connection.putrequest("POST", asked, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            return connection.getresponse().status


def body_of(event: events_pb2.Event, position: int) -> bytes:
    """Return the body of a delivery in the format `json`."""
    head = {
        "type": event.subject,
        "timestamp": moments.written(event.created_at.ToDatetime(UTC)),
        "id": event.id,
        "key": event.key,
        "position": position,
    }
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    data = payloads.json_of(event)
    if data is not None:
        return text[:-1] + b',"data":' + data + b"}"
    return text[:-1] + b',"data_base64":"' + base64.b64encode(event.message.value) + b'"}'


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _KEY_BYTES_MIN <= len(key) <= _KEY_BYTES_MAX:
        raise CliError(
            "the secret is not whsec_ and 24 to 64 bytes in Base64",
            "leave it out: one is made and shown",
            exit_code=EXIT_USAGE,
        )
    return key


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ATTEMPT_SECONDS:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
