"""Opaque page tokens, bound to the List and the arguments that they were given for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping

from services.runtime.errors import InvalidPageToken

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000


def clamp_page_size(
    page_size: int, default: int = PAGE_SIZE_DEFAULT, maximum: int = PAGE_SIZE_MAX
) -> int:
    """Return the number of rows to give: 0 means the default, more than the maximum the maximum."""
    return min(page_size or default, maximum)


def encode_token(position: Mapping[str, str | int], scope: str) -> str:
    """Make the token of the page after `position`; `scope` spells the List and its filters."""
    body = json.dumps(dict(position), separators=(",", ":"), sort_keys=True).encode()
    return base64.urlsafe_b64encode(_seal(body, scope) + body).decode().rstrip("=")


def decode_token(token: str, scope: str) -> dict[str, str | int]:
    """Read a token back.

    Raises:
        InvalidPageToken: it is none of ours or belongs to other arguments.
    """
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError) as error:
        raise _refusal(token) from error
    seal, body = raw[:8], raw[8:]
    if seal != _seal(body, scope):
        raise _refusal(token)
    try:
        position = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _refusal(token) from error
    if not isinstance(position, dict):
        raise _refusal(token)
    return position


def _seal(body: bytes, scope: str) -> bytes:
    # No secret: the seal catches mix-ups, the tenant's rows are guarded by the database.
    return hashlib.blake2b(
        body, digest_size=8, person=b"page", key=hashlib.blake2b(scope.encode()).digest()
    ).digest()


def _refusal(token: str) -> InvalidPageToken:
    return InvalidPageToken(
        "this page token or cursor was not given by this call for these arguments; start without one",
        page_token=token[:128],
    )
