"""How much a request asks of the decoder: counted on the wire, before any of it is decoded.

Sixteen mebibytes hold eight million empty messages. To decode them takes seconds and a gigabyte, in one step that
nothing can interrupt; so they are counted first, and counting stops at the first that is too much.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
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
_VARINT, _FIXED64, _LENGTH, _GROUP, _END_OF_GROUP, _FIXED32 = range(6)
_BITS = 64
# The decoder refuses what nests deeper.
_DEPTH_MAX = 100
# Bytes that can be the tag of a message, a text or a list. Any other byte is none, whatever it means.
_OTHERS = bytes(byte for byte in range(256) if byte & 7 != _LENGTH)
_FREE = frozenset({"google.protobuf.Struct", "google.protobuf.ListValue"})
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


class _Malformed(Exception):
    """The bytes are no message from here on; the decoder stops here too, and will say so."""


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
    # A look at all bytes costs next to nothing, and settles it for nearly every request: a list needs as many tags as
    # it has items.
    candidates = len(data.translate(None, _OTHERS))
    if candidates > ITEMS_MAX:
        await _walk(data, descriptor, path, deep=candidates > MESSAGES_MAX)


async def _walk(data: bytes, descriptor: Any, path: str, *, deep: bool) -> None:
    messages = parts = steps = 0
    # Where to go on, up to where, and in which message: the request itself, and what was met in it.
    waiting = [(0, len(data), descriptor)]
    while waiting:
        at, end, inside = waiting.pop()
        items: Counter[int] = Counter()
        fields, lists = _messages(inside), _lists(inside)
        groups: list[int] = []
        # A message that breaks off ends here, and no more than its beginning is decoded. What it holds, or what holds
        # it, may have been decoded before that: it is counted still.
        with suppress(_Malformed, IndexError):
            while at < end:
                steps += 1
                if steps % _STEPS == 0:
                    await asyncio.sleep(0)
                # Most tags and sizes are one byte; a call for each would take as long as all else.
                tag, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at)
                if tag & 7 != _LENGTH:
                    at = _behind(data, at, tag, groups)
                    continue
                size, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at)
                if groups:
                    # No field of ours is a group: the decoder passes over it as over other fields it does not know.
                    at += size
                    continue
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


def _behind(data: bytes, at: int, tag: int, groups: list[int]) -> int:
    """Return where an element without a length ends; groups that it opens or closes are noted."""
    kind, number = tag & 7, tag >> 3
    if kind == _VARINT:
        return _varint(data, at)[1]
    if kind == _FIXED64:
        return at + 8
    if kind == _FIXED32:
        return at + 4
    if kind == _GROUP and len(groups) < _DEPTH_MAX:
        groups.append(number)
        return at
    if kind == _END_OF_GROUP and groups and groups.pop() == number:
        return at
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
        f"{name} has more than {ITEMS_MAX} items, more than any call takes; send them in several calls",
        items=f"more than {ITEMS_MAX}",
        items_max=ITEMS_MAX,
    )


def _too_many(what: str, most: int, path: str) -> UndecodableRequest:
    return UndecodableRequest(
        f"the request contains more than {most} {what} at all depths together; send them in several calls",
        method=path,
        messages_max=most,
    )
