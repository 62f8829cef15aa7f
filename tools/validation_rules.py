"""Find validation rules that became tighter: `buf breaking` does not look at them.

A caller written against the last release must not be refused by this one. Rules may be dropped or
widened; a rule that is new, narrower, or changed in a way that cannot be compared (a pattern, a CEL
expression) is a complaint. Source of the rule: AIP-180, "must not shrink accepted input".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import protovalidate
from buf.validate import validate_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

# How the rule `after` narrows `before`, by the name of the rule; `before` is None where none was.
NARROWS: dict[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(
        ("max_len", "max_bytes", "max_items", "max_pairs", "within", "upper"),
        lambda before, after: before is None or after < before,
    ),
    **dict.fromkeys(
        ("min_len", "min_bytes", "min_items", "min_pairs"),
        lambda before, after: after > (before or 0),
    ),
    "lower": lambda before, after: before is None or after > before,
    "in": lambda before, after: before is None or not set(before) <= set(after),
    "not_in": lambda before, after: not set(after) <= set(before or ()),
    "example": lambda before, after: False,
}

# What a reader may send more of, from least to most: see validate.proto on Ignore.
LENIENCE: dict[int, int] = {
    validate_pb2.IGNORE_UNSPECIFIED: 0,
    validate_pb2.IGNORE_IF_ZERO_VALUE: 1,
    validate_pb2.IGNORE_ALWAYS: 2,
}

Rules = dict[str, Any]


@dataclass(frozen=True, order=True)
class Tightening:
    """One rule that refuses what was accepted before."""

    place: str
    rule: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.place}: {self.rule} was {self.before}, is {self.after}"


def pool_of(image: bytes) -> descriptor_pool.DescriptorPool:
    """Descriptors of an image written by `buf build`."""
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(image).file:
        pool.Add(file)
    return pool


def messages_of(image: bytes) -> dict[str, Descriptor]:
    """Every message of our own packages, nested ones too, by full name."""
    pool = pool_of(image)
    found: dict[str, Descriptor] = {}
    for file in FileDescriptorSet.FromString(image).file:
        if file.package.startswith("payments."):
            top = pool.FindFileByName(file.name).message_types_by_name.values()
            for message in top:
                found.update((item.full_name, item) for item in with_nested(message))
    return found


def with_nested(message: Descriptor) -> Iterator[Descriptor]:
    """The message itself and all messages declared inside it."""
    yield message
    for nested in message.nested_types:
        yield from with_nested(nested)


def flatten(rules: Message, prefix: str = "") -> Rules:
    """Rules as path → comparable value, e.g. `string.max_len` → 128.

    Bounds become tuples that order as the accepted sets do: (value, inclusive) for the upper one,
    (value, exclusive) for the lower one.
    """
    flat: Rules = {}
    for field, value in rules.ListFields():
        name = f"{prefix}{field.name}"
        if field.name == "cel":
            flat.update({f"{prefix}cel[{rule.id}]": rule.expression for rule in value})
        elif field.name in ("lt", "lte"):
            flat[f"{prefix}upper"] = (magnitude(value), field.name == "lte")
        elif field.name in ("gt", "gte"):
            flat[f"{prefix}lower"] = (magnitude(value), field.name == "gt")
        elif field.is_repeated:
            flat[name] = [str(item) for item in value]
        elif field.message_type is not None and not is_scalar_like(field):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = magnitude(value)
    return flat


def is_scalar_like(field: FieldDescriptor) -> bool:
    """True for values that merely look like messages: a limit of time."""
    return field.message_type is not None and field.message_type.full_name in (
        "google.protobuf.Duration",
        "google.protobuf.Timestamp",
    )


def magnitude(value: Any) -> Any:
    """A value that compares: messages of time become (seconds, nanos)."""
    return (value.seconds, value.nanos) if isinstance(value, Duration | Timestamp) else value


def is_tighter(path: str, before: Any, after: Any) -> bool:
    """True when the rule `after` refuses something that `before` accepted (None: no rule)."""
    name = path.rpartition(".")[2]
    if name == "ignore":
        return LENIENCE[after or 0] < LENIENCE[before or 0]
    if after is None or after is False or after == before:
        return False
    # Without an entry it is a flag that was raised, or a rule that cannot be compared.
    narrows = NARROWS.get(name)
    return narrows is None or narrows(before, after)


def compare(place: str, before: Rules, after: Rules) -> Iterator[Tightening]:
    """Tightenings between two sets of rules of one place."""
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if is_tighter(path, old, new):
            yield Tightening(place, path, str(old), str(new))


def field_rules(field: FieldDescriptor) -> Rules:
    """The rules of a field."""
    return flatten(field.GetOptions().Extensions[validate_pb2.field])


def message_rules(message: Descriptor) -> Rules:
    """The rules of a message as a whole, and of its oneofs that need a member."""
    rules = flatten(message.GetOptions().Extensions[validate_pb2.message])
    for oneof in message.oneofs:
        if oneof.GetOptions().Extensions[validate_pb2.oneof].required:
            rules[f"oneof {oneof.name}.required"] = True
    return rules


def refused_newcomers(before: Descriptor, after: Descriptor) -> Iterator[Tightening]:
    """New fields without which a message is refused: callers of the release do not send them."""
    added = {field.name for field in after.fields} - {field.name for field in before.fields}
    empty = message_factory.GetMessageClass(after)()
    for violation in protovalidate.Validator().collect_violations(empty) if added else ():
        path = violation.proto.field.elements if violation.proto.field else ()
        if path and path[0].field_name in added:
            place = f"{after.full_name}.{path[0].field_name}"
            yield Tightening(place, violation.proto.rule_id or "rule", "no such field", "needed")


def tightenings(before: bytes, after: bytes) -> list[Tightening]:
    """Every rule of the image `after` that refuses what the image `before` accepted.

    Messages that one of the images lacks are no matter of this check.
    """
    old, new = messages_of(before), messages_of(after)
    found: set[Tightening] = set()
    for name in old.keys() & new.keys():
        found.update(compare(name, message_rules(old[name]), message_rules(new[name])))
        found.update(refused_newcomers(old[name], new[name]))
        for field in new[name].fields:
            former = old[name].fields_by_name.get(field.name)
            if former is not None:
                found.update(compare(field.full_name, field_rules(former), field_rules(field)))
    return sorted(found)


def tightenings_since(release: Path, current: Path) -> list[Tightening]:
    """The same for image files."""
    return tightenings(release.read_bytes(), current.read_bytes())
