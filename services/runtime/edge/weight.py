"""How much a request asks of the decoder: counted on the wire, before any of it is decoded.

Sixteen mebibytes hold eight million empty messages. To decode them takes seconds and a gigabyte, in one step that
nothing can interrupt; so they are counted first, and counting stops at the first that is too much.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from services.runtime.errors import BatchTooLarge, UndecodableRequest

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""What one message may weigh, in and out; a full batch of usage events stays far below."""
LIGHT_BYTES = 64 * 1024
"""Smaller requests are decoded uncounted: that takes milliseconds at worst."""
ITEMS_MAX = 10_000
"""Of one list or map of a request, at any depth; no batch of ours takes more."""
ITEM_BYTES = 16 * 1024
"""An item that weighs more is looked into: its own lists may be too long."""
MESSAGES_MAX = 250_000
"""In a request, at any depth; the fullest batch of ours holds 190,000."""
PARTS_MAX = 1_000_000
"""Messages, texts and lists together; the fullest batch of ours holds 600,000."""
_STEPS = 5_000
_LENGTH = 2
_BITS = 64
# Bytes that can be the tag of a message, a text or a list. Any other byte is none, whatever it means.
_OTHERS = bytes(byte for byte in range(256) if byte & 7 != _LENGTH)
_TAGS_OF_ONE_BYTE = 15
_FREE = frozenset({"google.protobuf.Struct", "google.protobuf.ListValue"})
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


class _Malformed(Exception):
    """The bytes are no message; the decoder will say so."""


async def check(data: bytes, descriptor: Any, path: str) -> None:
    """Refuse a request of too many parts; lets other calls run while it counts.

    Args:
        data: the request, encoded.
        descriptor: of its message.
        path: the RPC, for the error.

    Raises:
        BatchTooLarge: one of its lists has more items than any call takes.
        UndecodableRequest: it has more messages or texts in it, at whatever depth, than are decoded.
    """
    if len(data) <= LIGHT_BYTES:
        return
    # Two looks at all bytes that cost next to nothing, and settle it for nearly every request.
    candidates = len(data.translate(None, _OTHERS))
    deep = candidates > MESSAGES_MAX
    # A list within an item needs as many tags as the longest list has items.
    if not deep and candidates <= ITEMS_MAX and not _may_be_long(data, descriptor):
        return
    try:
        await _walk(data, descriptor, path, deep=deep)
    except (_Malformed, IndexError):
        return


def _may_be_long(data: bytes, descriptor: Any) -> bool:
    """True when a list of the request itself may have too many items, as far as its bytes alone tell."""
    return any(
        number > _TAGS_OF_ONE_BYTE or data.count(number << 3 | _LENGTH) > ITEMS_MAX
        for number in _lists(descriptor)
    )


async def _walk(data: bytes, descriptor: Any, path: str, *, deep: bool) -> None:
    messages = parts = steps = 0
    # Where to go on, up to where, and in which message: the request itself, and what was met in it.
    waiting = [(0, len(data), descriptor)]
    while waiting:
        at, end, inside = waiting.pop()
        items: Counter[int] = Counter()
        fields, lists = _messages(inside), _lists(inside)
        while at < end:
            steps += 1
            if steps % _STEPS == 0:
                await asyncio.sleep(0)
            # Most tags and sizes are one byte; a call for each would take as long as all else.
            tag, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at)
            if tag & 7 != _LENGTH:
                at = _behind(data, at, tag & 7)
                continue
            size, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at)
            parts += 1
            if parts > PARTS_MAX:
                raise _too_many("messages and texts", PARTS_MAX, path)
            number = tag >> 3
            if number in lists:
                items[number] += 1
                if items[number] > ITEMS_MAX:
                    raise _too_many_items(lists[number])
            inner = fields.get(number)
            if inner is not None:
                messages += 1
                if messages > MESSAGES_MAX:
                    raise _too_many("messages", MESSAGES_MAX, path)
                # An item that is small holds no long list.
                if size > ITEM_BYTES or (deep and size):
                    waiting.append((at, min(at + size, end), inner))
            at += size


@cache
def _messages(descriptor: Any) -> dict[int, Any]:
    """Return the messages that a message may hold, by the numbers of their fields."""
    return {field.number: field.message_type for field in descriptor.fields if field.message_type}


@cache
def _lists(descriptor: Any) -> dict[int, str]:
    """Return the names of the lists of messages and texts, by their numbers; JSON has lists of any length."""
    if descriptor.full_name in _FREE:
        return {}
    return {
        field.number: field.name
        for field in descriptor.fields
        if field.is_repeated and (field.message_type or field.type in _TEXTS)
    }


def _behind(data: bytes, at: int, kind: int) -> int:
    if kind == 0:
        return _varint(data, at)[1]
    if kind == 1:
        return at + 8
    if kind == 5:
        return at + 4
    raise _Malformed


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > _BITS:
            raise _Malformed


def _too_many_items(name: str) -> BatchTooLarge:
    return BatchTooLarge(
        f"{name} has more than {ITEMS_MAX} items, and no call takes so many; send them in several calls",
        items=f"more than {ITEMS_MAX}",
        items_max=ITEMS_MAX,
    )


def _too_many(what: str, most: int, path: str) -> UndecodableRequest:
    return UndecodableRequest(
        f"the request holds more than {most} {what}, at whatever depth; send them in several calls",
        method=path,
        messages_max=most,
    )
