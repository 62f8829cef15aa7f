"""Opaque page tokens, bound to the List and the arguments that they were given for."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.runtime.errors import InvalidPageToken
from services.runtime.turns import aside, in_slices

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
# Clients take 4 MiB a message unless told otherwise; the rest is for what stands around the items.
PAGE_BYTES_MAX = 3 * 1024 * 1024
_SLICE_ITEMS = 50

ItemT = TypeVar("ItemT")
MessageT = TypeVar("MessageT", bound=Message)


class ListRequest(Protocol):
    """A request for a page of a list."""

    page_size: int
    page_token: str


class Int32(int):
    """The kind of a place's part that is compared with a column of 32 bits, beyond which no number can be compared."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was asked for.

    Attributes:
        scope: spells the List and its filters.
        after: the place behind which the page begins, by the names of its parts; empty for the first page.
        size: items that it holds at most.
    """

    scope: str
    after: Mapping[str, Any]
    size: int

    @classmethod
    def of(
        cls,
        request: ListRequest,
        scope: str,
        kinds: Mapping[str, type],
        *,
        default: int = PAGE_SIZE_DEFAULT,
        maximum: int = PAGE_SIZE_MAX,
    ) -> Page:
        """Read which page a request asks for. Raises InvalidPageToken."""
        after = decode_token(request.page_token, scope, kinds)
        return cls(scope, after, clamp_page_size(request.page_size, default, maximum))

    @property
    def limit(self) -> int:
        """Items to look for: one more than are given tells whether another page follows."""
        return self.size + 1

    async def cut(
        self,
        found: Sequence[ItemT],
        message_of: Callable[[ItemT], MessageT],
        place: Callable[[ItemT], Mapping[str, str | int]],
        parts_of: Callable[[ItemT], int] = lambda _: 1,
    ) -> tuple[list[MessageT], str]:
        """Return the messages of the page, and the token of the next one, which is empty for the last.

        A page of heavy items ends before its size, see `fitting`. Other calls run in between.

        Args:
            found: items from the place on, `limit` at most.
            message_of: writes an item.
            place: of an item, by the names of its parts.
            parts_of: says how much there is to write of an item, where that may be much.
        """
        messages: list[MessageT] = []
        weight_bytes = 0
        async for item in in_slices(found[: self.size], _SLICE_ITEMS):
            message = await aside(parts_of(item), message_of, item)
            weight_bytes += message.ByteSize()
            if messages and weight_bytes > PAGE_BYTES_MAX:
                break
            messages.append(message)
        shown = found[: len(messages)]
        return messages, self.token(shown, place, more=len(shown) < len(found))

    def token(
        self,
        items: Sequence[ItemT],
        place: Callable[[ItemT], Mapping[str, str | int]],
        *,
        more: bool,
    ) -> str:
        """Return the token of the page behind these items; empty when there is no more."""
        return encode_token(place(items[-1]), self.scope) if more else ""


def clamp_page_size(
    page_size: int, default: int = PAGE_SIZE_DEFAULT, maximum: int = PAGE_SIZE_MAX
) -> int:
    """Return the number of rows to give: 0 means the default, more than the maximum the maximum."""
    return min(page_size or default, maximum)


def fitting(messages: Iterable[MessageT]) -> list[MessageT]:
    """Return the first messages, one at least, that together weigh no more than a page may."""
    fit: list[MessageT] = []
    size = 0
    for message in messages:
        size += message.ByteSize()
        if fit and size > PAGE_BYTES_MAX:
            break
        fit.append(message)
    return fit


def encode_token(position: Mapping[str, str | int], scope: str) -> str:
    """Make the token of the page after `position`; `scope` spells the List and its filters."""
    body = json.dumps(dict(position), separators=(",", ":"), sort_keys=True).encode()
    return base64.urlsafe_b64encode(_seal(body, scope) + body).decode().rstrip("=")


def decode_token(token: str, scope: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Read a token back; an empty one is that of the first page and says nothing.

    Args:
        token: what the caller sent.
        scope: spells the List and its filters, as when the token was made.
        kinds: what its position holds, by name: `str`, `int` (of 64 bits), Int32, `UUID` or `datetime` (with its
            zone).

    Raises:
        InvalidPageToken: it is none of ours or belongs to other arguments.
    """
    if not token:
        return {}
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        seal, body = raw[:8], raw[8:]
        if seal != _seal(body, scope):
            raise _refusal(token)
        return _place(body, kinds)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _refusal(token) from error


def _place(body: bytes, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Raises ValueError, TypeError, OverflowError or RecursionError for what is no such place."""
    position = json.loads(body)
    if not isinstance(position, dict) or position.keys() != kinds.keys():
        raise ValueError
    return {name: _READERS[kind](position[name]) for name, kind in kinds.items()}


def _text(value: Any) -> str:
    """Raises ValueError or TypeError for what no column of text can be compared with."""
    if not isinstance(value, str):
        raise TypeError
    if "\0" in value:
        raise ValueError
    value.encode()  # half a surrogate pair is no text
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _short(value: Any) -> int:
    if not -(2**31) <= _whole(value) < 2**31:
        raise ValueError
    return _whole(value)


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return moment.astimezone(UTC)


# The seal is no secret, so a position may be anybody's and is read like any other input.
_READERS: dict[type, Callable[[Any], Any]] = {
    str: _text,
    int: _whole,
    Int32: _short,
    datetime: _moment,
    UUID: lambda value: UUID(_text(value)),
}


def _seal(body: bytes, scope: str) -> bytes:
    # No secret: the seal catches mix-ups, the tenant's rows are guarded by the database.
    return hashlib.blake2b(
        body, digest_size=8, person=b"page", key=hashlib.blake2b(scope.encode()).digest()
    ).digest()


def _refusal(token: str) -> InvalidPageToken:
    return InvalidPageToken(
        "this page token or cursor is not from this call with these arguments; start without one",
        page_token=token[:128],
    )
