"""Files that a person writes, in YAML or JSON."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from services.cli.errors import EXIT_USAGE, CliError


class _JsonScalars(yaml.SafeLoader):
    """YAML whose scalars are those of JSON: `on`, `12:30`, `010` and `2026-01-01` are texts, as they stand."""

    # An attribute of the class, because the library looks for it there.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice: one of its values would be lost without a word."""
        seen = set()
        for name, _ in node.value:
            key = self.construct_object(name, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", name.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"(null|~|)$", ["n", "~", ""]),
    ("bool", r"(true|false)$", ["t", "f"]),
    ("int", r"-?(0|[1-9][0-9]*)$", list("-0123456789")),
    ("float", r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$", list("-0123456789")),
):
    _JsonScalars.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def read_yaml(file: str) -> Any:
    """Read a YAML document from a file, or from standard input for `-`.

    Raises:
        CliError: it cannot be read, or is no YAML.
    """
    return _parsed(_text(file), file, yaml.SafeLoader)


def read_document(file: str) -> Any:
    """Read JSON, or YAML whose scalars are those of JSON, from a file or from standard input for `-`.

    Raises:
        CliError: it cannot be read, or is neither.
    """
    text = _text(file)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise CliError(f"{file} nests too deeply", exit_code=EXIT_USAGE) from error
    except ValueError:
        return _parsed(text, file, _JsonScalars)


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror}", exit_code=EXIT_USAGE) from error
    except UnicodeDecodeError as error:
        raise CliError(
            f"{file} is not UTF-8 at byte {error.start}", exit_code=EXIT_USAGE
        ) from error


def _parsed(text: str, file: str, loader: type[yaml.SafeLoader]) -> Any:
    try:
        return yaml.load(text, loader)  # noqa: S506 - both loaders are safe ones
    # ValueError: a date that no calendar has. The others: a tag that its text does not fit.
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise CliError(f"{file} is no YAML: {error}", exit_code=EXIT_USAGE) from error
