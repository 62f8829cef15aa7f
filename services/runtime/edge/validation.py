"""The rules of the protos, applied: protovalidate (native since 2.x), our own error type.

Source of the rules: the `buf.validate` options in `proto/`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from functools import cache
from typing import Any, NamedTuple

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.runtime.edge import patterns, wellformed
from services.runtime.errors import BatchTooLarge, FieldViolation, InvalidField
from services.runtime.turns import in_slices

_VALIDATOR = protovalidate.Validator()
VIOLATIONS_MAX = 100
_RULES = validate_pb2.message
PART_BYTES = 16 * 1024
"""What is looked at in one piece: that takes milliseconds at worst."""
# Parts that are looked at before others have their turn.
_PARTS = 50
_NO_REQUEST_ID = (
    "identify the request, so that repeating it has no further effect: send the header Idempotency-Key "
    "with a key of your own, or a UUID in this field"
)


def violations(message: Message, prefix: str = "", *, nul_too: bool = True) -> list[FieldViolation]:
    """Return every broken rule of a message, at most 100; `prefix` is put before each field path.

    A list that is too long is told alone: what comes behind would look at each of its items first. Then values that
    are none of their type (a Timestamp's nanos of -1, a text with NUL): no rule and no code behind it has to cope
    with them. `nul_too=False` is for readers that do cope with NUL.
    """
    crowded = list(itertools.islice(_crowded(message, prefix), VIOLATIONS_MAX))
    if crowded:
        return crowded
    odd = wellformed.faults(message, nul_too=nul_too)
    if odd:
        return [
            FieldViolation(prefix + fault.field, fault.description)
            for fault in odd[:VIOLATIONS_MAX]
        ]
    found = _VALIDATOR.collect_violations(message)
    return [_own(message, item, prefix) for item in found[:VIOLATIONS_MAX]]


def check(message: Message) -> None:
    """Refuse a message that breaks a rule.

    Raises:
        InvalidField: names every field at fault.
    """
    found = violations(message)
    if found:
        raise InvalidField.of(found)


async def check_in_turns(message: Message) -> None:
    """Refuse a message that breaks a rule, as `check` does; other calls run while a large one is looked at.

    Raises:
        InvalidField: names every field at fault, 100 at most.
    """
    if message.ByteSize() <= PART_BYTES:
        check(message)
        return
    await asyncio.sleep(0)  # to read it has taken its time
    found: list[FieldViolation] = []
    async for part in in_slices(_parts(message), _PARTS):
        if part.crowded:
            raise InvalidField.of(part.crowded[:VIOLATIONS_MAX])
        found += violations(part.message, part.prefix)
        if len(found) >= VIOLATIONS_MAX:
            break
    if found:
        raise InvalidField.of(found[:VIOLATIONS_MAX])


class _Part(NamedTuple):
    """What is checked by itself, the prefix of its paths, and its lists that are too long to be looked at."""

    prefix: str
    message: Message
    crowded: list[FieldViolation]


def _parts(message: Message) -> Iterator[_Part]:
    """Cut a message up, from the front to the back; what its rules see together stays together."""
    waiting = [("", message)]
    while waiting:
        prefix, whole = waiting.pop()
        items: list[tuple[str, Message]] = []
        crowded: list[FieldViolation] = []
        yield _Part(prefix, _without_lists(whole, prefix, items, crowded), crowded)
        waiting += reversed(items)


def _without_lists(
    message: Message,
    prefix: str,
    items: list[tuple[str, Message]],
    crowded: list[FieldViolation],
) -> Message:
    """Return what is left of a large message without what is in its lists, which goes to `items`."""
    if message.ByteSize() <= PART_BYTES or _RULES in message.DESCRIPTOR.GetOptions().Extensions:
        return message
    changes: dict[str, Any] = {}
    for field, value in message.ListFields():
        limit, ignored, is_map = _limits(field)
        path = prefix + field.name
        if field.message_type is None or is_map or ignored:
            continue
        if not field.is_repeated:
            inside = _without_lists(value, f"{path}.", items, crowded)
            if inside is not value:
                changes[field.name] = inside
        elif limit is not None and len(value) > limit:
            crowded.append(FieldViolation(path, f"must have at most {limit} items"))
        elif (kept := _kept(field)) is not None:
            changes[field.name] = value[:kept]
            items += ((f"{path}[{at}].", value[at]) for at in range(kept, len(value)))
    return _with(message, changes) if changes else message


def _with(message: Message, changes: Mapping[str, Any]) -> Message:
    """Return a copy in which some fields have other values."""
    left = type(message)()
    # Not all of it and then less: the lists are what takes long to copy.
    values: dict[str, Any] = {field.name: value for field, value in message.ListFields()}
    for name, value in (values | dict(changes)).items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.is_repeated and not _is_map(field):
            getattr(left, name).extend(value)
        elif field.is_repeated:
            getattr(left, name).MergeFrom(value)
        elif field.message_type is not None:
            getattr(left, name).SetInParent()  # empty is not absent
            getattr(left, name).CopyFrom(value)
        else:
            setattr(left, name, value)
    return left


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@cache
def _kept(field: FieldDescriptor) -> int | None:
    """Return how many items a list keeps so that its own rules hold; None when they look at all items together."""
    rules = validate_pb2.FieldRules()
    rules.CopyFrom(field.GetOptions().Extensions[validate_pb2.field])
    kept = max(rules.repeated.min_items, int(rules.required))
    for name in ("min_items", "max_items"):
        rules.repeated.ClearField(name)
    if not rules.repeated.ByteSize():
        rules.ClearField("repeated")
    rules.ClearField("required")
    return None if rules.ByteSize() else kept


def unreadable(request: Any, index: int) -> list[FieldViolation]:
    """Say why an item of a batch could not be read from what its sender wrote; nothing of one that was."""
    why = request.unreadable.get(index, "")
    return [FieldViolation("item", f"it cannot be read: {why}")] if why else []


def check_batch(items: Sized, items_max: int, *, field: str) -> None:
    """Refuse a batch that is empty or longer than `items_max`; `field` is what the caller calls it.

    Raises:
        InvalidField: the batch is empty.
        BatchTooLarge: it is too long; nothing of it was stored.
    """
    if len(items) == 0:
        raise InvalidField.one(field, "a batch needs at least one item")
    if len(items) > items_max:
        raise BatchTooLarge(
            f"{len(items)} items in one call; send at most {items_max}",
            items=len(items),
            items_max=items_max,
        )


def _crowded(message: Message, prefix: str) -> Iterator[FieldViolation]:
    """Give the lists and maps of a message that hold more than their rules let them."""
    for field, value in message.ListFields():
        if field.message_type is None and not field.is_repeated:
            continue
        limit, ignored, is_map = _limits(field)
        if limit is not None and len(value) > limit:
            what = "pairs" if is_map else "items"
            yield FieldViolation(prefix + field.name, f"must have at most {limit} {what}")
        elif is_map or ignored or field.message_type is None:
            continue
        elif field.is_repeated:
            for at, item in enumerate(value):
                yield from _crowded(item, f"{prefix}{field.name}[{at}].")
        else:
            yield from _crowded(value, f"{prefix}{field.name}.")


@cache
def _limits(field: FieldDescriptor) -> tuple[int | None, bool, bool]:
    """Return how much a list or map may hold, whether the rules look into it, and whether it is a map."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    foreign = (
        field.message_type is not None and field.message_type.file.package == "google.protobuf"
    )
    ignored = foreign or rules.ignore == validate_pb2.IGNORE_ALWAYS
    if rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return None, True, False
    if rules.repeated.HasField("max_items"):
        return rules.repeated.max_items, ignored, False
    is_map = _is_map(field)
    limit = rules.map.max_pairs if rules.map.HasField("max_pairs") else None
    return limit, ignored, is_map


def warm_up(messages: Iterable[Message]) -> None:
    """Compile the rules of each message at start: a broken rule fails the start, not a customer."""
    for message in messages:
        violations(message)


def _own(message: Message, violation: protovalidate.Violation, prefix: str) -> FieldViolation:
    path = _path(violation.proto.field)
    if violation.proto.rule_id.startswith("enum."):
        return FieldViolation(prefix + path, _names_allowed(message, violation))
    if path == "request_id" and violation.proto.rule_id == "string.uuid_empty":
        return FieldViolation(prefix + path, _NO_REQUEST_ID)
    return FieldViolation(prefix + path, patterns.reworded(violation.proto.message))


def _names_allowed(message: Message, violation: protovalidate.Violation) -> str:
    """Say which names of its enum a field takes: the rules know only numbers."""
    descriptor: Any = message.DESCRIPTOR
    for element in getattr(violation.proto.field, "elements", ()):
        field = descriptor.fields_by_name[element.field_name]
        if field.message_type is not None and _is_map(field):
            field = field.message_type.fields_by_name["value"]
        descriptor = field.message_type or field.enum_type
    rules = violation.proto.rule_id.removeprefix("enum.")
    numbers = violation.rule_value if rules in ("in", "not_in") else ()
    allowed = [
        value.name
        for value in descriptor.values
        # The first says that nothing was chosen.
        if value.number
        and (rules != "in" or value.number in numbers)
        and (rules != "not_in" or value.number not in numbers)
    ]
    return f"must be one of {', '.join(allowed)}"


def _path(field_path: object) -> str:
    elements: Sequence[object] = getattr(field_path, "elements", None) or ()
    text = ""
    for element in elements:
        name = getattr(element, "field_name", "")
        text += ("." if text else "") + str(name) + _subscript(element)
    return text


def _subscript(element: object) -> str:
    subscript = getattr(element, "subscript", None)
    if subscript is None:
        return ""
    value = getattr(subscript, "value", subscript)
    return f"[{value}]"
