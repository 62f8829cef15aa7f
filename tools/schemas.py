"""Questions about the schemas, answered from their descriptors."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from buf.validate import validate_pb2
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from payments.options.v1 import options_pb2

from tools import check_breaking, validation_rules

ERRORS = "payments/errors/v1/errors.proto"
REASON_PREFIX = "ERROR_REASON_"
TEXTUAL = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)

# Rules that bound a text by themselves. A pattern does so only when nothing in it repeats freely.
BOUNDING = {"max_len", "max_bytes", "len", "len_bytes", "uuid", "tuuid", "ulid", "const", "in"}
FREE_REPEAT = re.compile(r"(?<!\\)(?:[*+]|\{\d+,\})")

# Messages that hold anything: only a rule of their own can bound them.
OPEN_ENDED = {
    "google.protobuf.Any",
    "google.protobuf.ListValue",
    "google.protobuf.Struct",
    "google.protobuf.Value",
}


@dataclass(frozen=True)
class Schemas:
    """The compiled schemas, with their comments."""

    files: FileDescriptorSet
    methods: tuple[MethodDescriptor, ...]


@cache
def compiled(root: Path) -> Schemas:
    """Compile the schemas of a tree.

    Raises:
        CheckBroken: they do not compile.
    """
    with tempfile.TemporaryDirectory(prefix="tollmesh-schemas-") as folder:
        image = Path(folder, "image.binpb")
        check_breaking.build_image(root, image)
        data = image.read_bytes()
    files, pool = FileDescriptorSet.FromString(data), validation_rules.pool_of(data)
    methods = [
        method
        for file in files.file
        if file.package.startswith("payments.")
        for service in pool.FindFileByName(file.name).services_by_name.values()
        for method in service.methods
    ]
    return Schemas(files, tuple(methods))


def access(method: MethodDescriptor) -> options_pb2.AccessRule:
    """Who may call the RPC."""
    return method.GetOptions().Extensions[options_pb2.access]


def is_bidi(method: MethodDescriptor) -> bool:
    """True when both sides stream; such an RPC has no REST form."""
    return bool(method.client_streaming and method.server_streaming)


def routes(method: MethodDescriptor) -> list[tuple[str, str]]:
    """(verb, path) of the RPC's HTTP annotation and of its additional bindings."""
    if not method.GetOptions().HasExtension(annotations_pb2.http):
        return []
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    found = []
    for binding in (rule, *rule.additional_bindings):
        verb = binding.WhichOneof("pattern")
        path = binding.custom.path if verb == "custom" else getattr(binding, verb)
        found.append((verb, path))
    return found


def input_messages(methods: tuple[MethodDescriptor, ...]) -> dict[str, Descriptor]:
    """Every message of ours that a caller can send, by full name."""
    found: dict[str, Descriptor] = {}
    waiting = [method.input_type for method in methods]
    while waiting:
        message = waiting.pop()
        if message.full_name in found or not message.full_name.startswith("payments."):
            continue
        if not message.GetOptions().map_entry:  # its map field answers for it
            found[message.full_name] = message
        waiting.extend(field.message_type for field in message.fields if field.message_type)
    return found


def is_batch(field: FieldDescriptor) -> bool:
    """True for lists that the servicer counts and judges item by item."""
    rules = validation_rules.field_rules(field)
    return bool(field.is_repeated) and rules.get("ignore") == validate_pb2.IGNORE_ALWAYS


def missing_limits(message: Descriptor) -> Iterator[str]:
    """Fields of an input message that nothing bounds, as `full.name: what is missing`."""
    whole = validation_rules.message_rules(message)
    for field in message.fields:
        if is_batch(field) or has_size_rule(whole, field.name):
            continue
        for problem in field_problems(field, validation_rules.field_rules(field)):
            yield f"{field.full_name}: {problem}"


def has_size_rule(rules: dict[str, Any], field: str) -> bool:
    """True when a CEL expression of the message bounds the size of the field."""
    return any(f"size(this.{field})" in str(rule) for rule in rules.values())


def field_problems(field: FieldDescriptor, rules: dict[str, Any]) -> Iterator[str]:
    """What is missing on one field."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if "map.max_pairs" not in rules:
            yield "no max_pairs"
        for part, entry in zip(("keys", "values"), field.message_type.fields, strict=True):
            yield from element_problems(entry, below(rules, f"map.{part}."))
    elif field.is_repeated:
        if "repeated.max_items" not in rules:
            yield "no max_items"
        yield from element_problems(field, below(rules, "repeated.items."))
    else:
        yield from element_problems(field, rules)


def below(rules: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The rules under a prefix, without it."""
    return {
        path.removeprefix(prefix): rule for path, rule in rules.items() if path.startswith(prefix)
    }


def element_problems(field: FieldDescriptor, rules: dict[str, Any]) -> Iterator[str]:
    """What is missing on one value: of a field, an item, a key or a map's value."""
    names = {path.rpartition(".")[2] for path in rules}
    sized = any(path.startswith("cel[") and "size(" in str(rule) for path, rule in rules.items())
    if field.type in TEXTUAL:
        if not (names & BOUNDING or sized or is_bounding_pattern(rules.get("string.pattern"))):
            yield "no limit on its length"
    elif field.enum_type is not None:
        if not names & {"defined_only", "in", "const"}:
            yield "enum without defined_only"
    elif field.message_type is not None:
        full_name = field.message_type.full_name
        if full_name in OPEN_ENDED and not sized and "any.in" not in rules:
            yield "open-ended without a rule"
        if full_name == "google.protobuf.Duration" and "upper" not in names:
            yield "duration without a limit"


def is_bounding_pattern(pattern: str | None) -> bool:
    """True when a pattern matches whole texts and lets nothing repeat without end."""
    if not pattern or not (pattern.startswith("^") and pattern.endswith("$")):
        return False
    outside_classes = re.sub(r"\[(?:\\.|[^\]\\])*\]", "x", pattern)
    return FREE_REPEAT.search(outside_classes) is None


def enum_comments(schemas: Schemas, file_name: str, enum: str) -> dict[str, str]:
    """Leading comment of every value of an enum, by the value's name."""
    file = next(file for file in schemas.files.file if file.name == file_name)
    index = [item.name for item in file.enum_type].index(enum)
    # A path of descriptor.proto: field 5 of a file is its enums, field 2 of an enum its values.
    comments = {
        tuple(location.path): location.leading_comments
        for location in file.source_code_info.location
    }
    values = file.enum_type[index].value
    return {value.name: comments.get((5, index, 2, i), "") for i, value in enumerate(values)}


@dataclass(frozen=True)
class Reason:
    """What errors.proto says of one error reason.

    Attributes:
        number: of the enum's value.
        is_past: only earlier versions gave it; a client may know it, and its number stays its own.
        meaning: what it means and what to do.
        keys: its metadata keys; True for those that may be left out.
        example: its ErrorInfo, as JSON.
    """

    number: int
    meaning: str
    keys: dict[str, bool]
    example: str
    is_past: bool = False


def reasons(schemas: Schemas) -> dict[str, Reason]:
    """Every error reason, by its name without the prefix.

    Raises:
        ValueError: the comment of one is not of the form that all have.
    """
    file = next(file for file in schemas.files.file if file.name == ERRORS)
    values = {value.name: value for enum in file.enum_type for value in enum.value}
    return {
        name.removeprefix(REASON_PREFIX): replace(
            reason(name, values[name].number, comment), is_past=values[name].options.deprecated
        )
        for name, comment in enum_comments(schemas, ERRORS, "ErrorReason").items()
        if not name.endswith("_UNSPECIFIED")
    }


def reason(name: str, number: int, comment: str) -> Reason:
    """Read the comment of a reason. Raises ValueError when it is of another form."""
    form = re.fullmatch(r"(.+?)\n\n Metadata: (.+)\.\n\n {5}(\{.+\})\n", comment, re.DOTALL)
    if form is None:
        raise ValueError(f"{name}: write what it means, `Metadata: …`, and one example")
    keys = {}
    for written in () if form[2] == "none" else form[2].split(", "):
        key = re.fullmatch(r"`([a-z_]+)`( \(optional\))?", written)
        if key is None:
            raise ValueError(f"{name}: {written!r} is no key")
        keys[key[1]] = key[2] is not None
    return Reason(number, form[1], keys, form[3])
