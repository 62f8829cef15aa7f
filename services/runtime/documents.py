"""Documents that a person writes, in YAML or JSON: one reader for all of them, which guesses nothing, and its writer.

Scalars are those of JSON, whichever of the two a document is written in: `on`, `12:30`, `010` and `2026-01-01` are
texts, as they stand. A key is its text. What has two readings is refused: a key that stands twice, a number that a
double does not hold. What a document is worth with its aliases written out is bounded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml

BYTES_MAX = 16 * 1024 * 1024
# Nodes that aliases stand for. A bomb of a few hundred bytes has billions.
ALIASED_NODES_MAX = 1_000_000
_LINE_CHARS_MAX = 1_000_000

_TAG = "tag:yaml.org,2002:"
_STR = f"{_TAG}str"
_MERGE = f"{_TAG}merge"
# What stands for something else than a text, with the characters that it starts with.
_SCALARS = {
    f"{_TAG}null": (re.compile(r"(null|~|)$"), ["n", "~", ""]),
    f"{_TAG}bool": (re.compile(r"(true|false)$"), ["t", "f"]),
    f"{_TAG}int": (re.compile(r"-?(0|[1-9][0-9]*)$"), list("-0123456789")),
    f"{_TAG}float": (
        re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"),
        list("-0123456789"),
    ),
    _MERGE: (re.compile(r"<<$"), ["<"]),
}
_TAGS = frozenset({*_SCALARS, _STR, f"{_TAG}map", f"{_TAG}seq"})


class DocumentUnfit(ValueError):
    """A text is not a valid document, or is ambiguous; the message says where."""


class DocumentTooLong(DocumentUnfit):
    """A text is longer than any document may be."""


class _Double(float):
    """A number that Python would write otherwise."""

    written: str


class _Whole(int):
    """A whole number that Python would write otherwise."""

    written: str


def as_written(number: float | Decimal) -> str:
    """Return a number as it stands in the document that `read` took it from: 1e3, and not 1000.0."""
    return number.written if isinstance(number, _Double | _Whole) else str(number)


def read(content: bytes) -> Any:
    """Read JSON, or YAML with the scalars of JSON. A byte order mark at the start is no part of it.

    Raises:
        DocumentUnfit: it is neither, or has two readings.
    """
    if len(content) > BYTES_MAX:
        raise DocumentTooLong(f"it is longer than {BYTES_MAX // 1024 // 1024} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentUnfit(f"it is not valid UTF-8 at byte {error.start}") from error
    value = _parsed(text)
    try:
        # Escapes can write half a surrogate pair, which nothing takes.
        if "\\" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DocumentUnfit("a string in it contains half of a surrogate pair") from error
    return value


def write(value: Any) -> str:
    """Write a plain document as YAML that `read` and other readers of YAML take for the same."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=_LINE_CHARS_MAX
    )
    return text


def _parsed(text: str) -> Any:
    try:
        return _JSON.decode(text)
    except RecursionError as error:
        raise DocumentUnfit("it is nested too deeply") from error
    except _TwiceInJson as error:
        raise DocumentUnfit(_with_lines(text, error)) from error
    except json.JSONDecodeError:
        return _yaml(text)


def _yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - made of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        said = ": ".join(part for part in (error.context, error.problem) if part)
        raise DocumentUnfit(f"{said}{where}") from error
    except RecursionError as error:
        raise DocumentUnfit("it is nested too deeply") from error
    except (yaml.YAMLError, UnicodeError) as error:  # characters that no document has
        raise DocumentUnfit(" ".join(str(error).split())) from error


class _TwiceInJson(DocumentUnfit):
    """A key of an object stands twice."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON. Raises DocumentUnfit when a key stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise _TwiceInJson(f"the key {name[:100]!r} appears twice in one object")
            names.add(name)
    return found


def _with_lines(text: str, error: _TwiceInJson) -> str:
    """Say in which lines a key stands twice: JSON's reader does not tell, YAML's does, and reads JSON too."""
    try:
        # Between tokens a tab is a space to JSON, and inside of texts it has none.
        yaml.compose(text.replace("\t", " "), _Loader)
    except _TwiceInYaml as found:
        return str(found.problem)
    except (yaml.YAMLError, ValueError, RecursionError):
        pass
    return str(error)


def _double(text: str) -> float:
    """Raises DocumentUnfit: the number would be read as another one."""
    value = float(text)
    try:
        exact = math.isfinite(value) and Decimal(repr(value)) == Decimal(text)
    except InvalidOperation:  # an exponent of twenty digits
        exact = False
    if not exact:
        raise DocumentUnfit(
            f"{text[:60]} cannot be represented exactly as a double: write it as a string, in quotes"
        )
    if repr(value) != text:
        value = _Double(value)
        value.written = text
    return value


def _whole(text: str) -> int:
    try:
        value = int(text)
    except ValueError as error:  # thousands of digits
        raise DocumentUnfit(f"{text[:60]}… has too many digits") from error
    if text == "-0":
        value = _Whole(value)
        value.written = text
    return value


def _constant(text: str) -> float:
    raise DocumentUnfit(f"{text} is not a JSON number")


_JSON = json.JSONDecoder(
    object_pairs_hook=unique, parse_float=_double, parse_int=_whole, parse_constant=_constant
)


class _TwiceInYaml(yaml.constructor.ConstructorError):
    """A key of a mapping stands twice."""


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of JSON, without keys that stand twice, and bounded."""

    # An attribute of the class, because the library looks for it there.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._weights: dict[int, int] = {}
        self._aliased = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Count what stands below a node, aliases written out."""
        is_alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if not is_alias:
            _check_tag(node)
            self._weights[id(node)] = 1 + sum(map(self._weight, _children(node)))
            return node
        if id(node) not in self._weights:
            raise yaml.composer.ComposerError(None, None, "an alias contains itself", mark)
        self._aliased += self._weights[id(node)]
        if self._aliased > ALIASED_NODES_MAX:
            raise yaml.composer.ComposerError(
                None, None, f"aliases expand to more than {ALIASED_NODES_MAX:,} values", mark
            )
        return node

    def _weight(self, node: Any) -> int:
        return self._weights[id(node)]

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Refuse a key that stands twice, before merges bring in further ones, which a key of its own overrides."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for at, (name, value) in enumerate(node.value):
            if not isinstance(name, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is not a string", name.start_mark
                )
            # 1 and "1" are one key to JSON, whose keys are texts.
            key = "\0merge" if name.tag == _MERGE else name.value
            line = name.start_mark.line + 1
            if key in lines:
                raise _TwiceInYaml(
                    None,
                    None,
                    f"the key {name.value[:100]!r} appears twice, in lines {lines[key]} and {line}",
                    None,
                )
            lines[key] = line
            if name.tag != _MERGE:
                # Another node, because an alias may use this one as a value.
                text = yaml.ScalarNode(_STR, name.value, name.start_mark, name.end_mark)
                node.value[at] = (text, value)
                self._weights[id(text)] = 1
        return node


def _placed(read_text: Callable[[str], Any]) -> Callable[[_Loader, yaml.ScalarNode], Any]:
    """Add to a refusal where the number stands."""

    def construct(_: _Loader, node: yaml.ScalarNode) -> Any:
        try:
            return read_text(node.value)
        except DocumentUnfit as error:
            raise yaml.constructor.ConstructorError(
                None, None, str(error), node.start_mark
            ) from error

    return construct


def _check_tag(node: Any) -> None:
    """Refuse what JSON has not; only a tag that is written out can ask for it."""
    pattern, _ = _SCALARS.get(node.tag, (None, None))
    if node.tag not in _TAGS or (pattern and not pattern.match(node.value)):
        raise yaml.composer.ComposerError(
            None, None, f"{node.tag!r} is not a JSON value", node.start_mark
        )


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()


class _Dumper(yaml.SafeDumper):
    """YAML that quotes what its own readers, or ours, would take for something else than a text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out: people read it."""
        return True

    def text(self, text: str) -> Any:
        """Escape line breaks and what is not shown; the library's other styles do not keep all of them."""
        return self.represent_scalar(_STR, text, style=None if text.isprintable() else '"')


for _tag, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
_Dumper.add_representer(str, _Dumper.text)
_Dumper.add_representer(_Double, _Dumper.represent_float)
_Dumper.add_representer(_Whole, _Dumper.represent_int)
_Loader.add_constructor(f"{_TAG}int", _placed(_whole))
_Loader.add_constructor(f"{_TAG}float", _placed(_double))
