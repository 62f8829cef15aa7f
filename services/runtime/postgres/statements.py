"""Statements as Postgres takes them: numbered parameters, and values as the texts that it reads.

Statements are written with psycopg's named parameters (`%(name)s`). Values go without a type of ours: Postgres takes it
from where a parameter stands, so one prepared statement serves every value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.types.json import Json, Jsonb
from sqlalchemy import ARRAY, Executable
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import JSON
from sqlalchemy.util import LRUCache

STATEMENTS_MAX = 4_096
_PARAMETER = re.compile(r"%(?:\((\w+)\)[sbt]|(%))")
_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call] # SQLAlchemy's own
# What an array's element cannot hold as it stands.
_SPECIAL = re.compile(r'[\s{},"\\]|^$|^[Nn][Uu][Ll][Ll]$')
_NUL = "PostgreSQL text fields cannot contain NUL (0x00) bytes"
_BINARY: Final = 1
_TEXT: Final = 0


class Statement:
    """A statement with numbered parameters.

    Attributes:
        query: with `$1`, `$2`, ….
        names: of its parameters, in the order of their numbers.
        name: what a session prepares it as.
    """

    __slots__ = ("name", "names", "query")

    _made = 0

    def __init__(self, text: str) -> None:
        names: dict[str, int] = {}

        def number(found: re.Match[str]) -> str:
            if found[2]:
                return "%"
            return f"${names.setdefault(found[1], len(names) + 1)}"

        self.query = _PARAMETER.sub(number, text).encode()
        self.names = tuple(names)
        Statement._made += 1
        self.name = f"tm_{Statement._made}".encode()

    def bind(
        self, parameters: Mapping[str, Any]
    ) -> tuple[Sequence[bytes | None], Sequence[int] | None]:
        """Return the values in the order of their numbers, and their formats; None when all of them are texts.

        Raises:
            KeyError: a value is missing.
            psycopg.DataError: a text holds NUL, which Postgres cannot.
        """
        formats: list[int] | None = None
        values: list[bytes | None] = []
        for name in self.names:
            value = parameters[name]
            if type(value) is str:
                if "\0" in value:
                    raise psycopg.DataError(_NUL)
                values.append(value.encode())
            elif isinstance(value, bytes | bytearray | memoryview):
                if formats is None:
                    formats = [_TEXT] * len(self.names)
                formats[len(values)] = _BINARY
                values.append(bytes(value))
            else:
                values.append(None if value is None else _text(value).encode())
        return values, formats


@lru_cache(maxsize=STATEMENTS_MAX)
def statement(text: str) -> Statement:
    """Return a statement that is written with named parameters; the same one for the same text."""
    return Statement(text)


def compiled(
    executable: Executable, parameters: Mapping[str, Any] | None = None
) -> tuple[Statement, dict[str, Any]]:
    """Return a statement of SQLAlchemy's Core, and its values.

    Statements of the same shape are compiled once, as SQLAlchemy's own engine does it.
    """
    assert isinstance(executable, ClauseElement)
    names = list(parameters or ())
    made, extracted, *_ = executable._compile_w_cache(
        _DIALECT, compiled_cache=_compiled, column_keys=names
    )
    assert isinstance(made, SQLCompiler)
    if made.post_compile_params:
        # A list within the statement, each length of which is another statement.
        as_it_stands = {"render_postcompile": True}
        made = executable.compile(dialect=_DIALECT, compile_kwargs=as_it_stands)
        assert isinstance(made, SQLCompiler)
        extracted = None
    values = dict(made.construct_params(parameters, extracted_parameters=extracted))
    for name, bound in made.binds.items():
        if isinstance(bound.type, JSON) and values.get(name) is not None:
            values[name] = Jsonb(values[name])
        elif isinstance(bound.type, ARRAY) and isinstance(values.get(name), tuple):
            values[name] = list(values[name])
    return statement(made.string), values


_compiled: LRUCache[Any, Any] = LRUCache(STATEMENTS_MAX)


def _text(value: Any) -> str:
    """Return a value as Postgres reads it."""
    kind = type(value)
    if kind is bool:
        return "t" if value else "f"
    if kind is int:
        return str(value)
    if kind is list or kind is tuple:
        text = _array(value)
        if "\0" in text:
            raise psycopg.DataError(_NUL)
        return text
    return _WRITERS.get(kind, _other)(value)


def _other(value: Any) -> str:
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent to Postgres")


def _checked(text: str) -> str:
    if "\0" in text:
        raise psycopg.DataError(_NUL)
    return str(text)


def _written(value: Json | Jsonb) -> str:
    dumped = (value.dumps or json.dumps)(value.obj)
    return dumped if isinstance(dumped, str) else dumped.decode()


_WRITERS: Final[Mapping[type, Callable[[Any], str]]] = {
    UUID: str,
    datetime: datetime.isoformat,
    date: date.isoformat,
    Decimal: str,
    Enum: lambda value: _text(value.value),
    str: _checked,
    int: int.__repr__,
    float: repr,
    Json: _written,
    Jsonb: _written,
    dict: json.dumps,
}


def _array(items: Sequence[Any]) -> str:
    """Return an array literal. Its type stands in the statement."""
    if not items:
        return "{}"
    kind = type(items[0])
    if kind is int and all(type(item) is int for item in items):
        return "{" + ",".join(map(str, items)) + "}"
    if kind is bytes and all(type(item) is bytes for item in items):
        return '{"\\\\x' + '","\\\\x'.join([item.hex() for item in items]) + '"}'
    return "{" + ",".join([_element(item) for item in items]) + "}"


def _element(item: Any) -> str:
    if item is None:
        return "NULL"
    if isinstance(item, bytes | bytearray | memoryview):
        return f'"\\\\x{bytes(item).hex()}"'
    text = item if type(item) is str else _text(item)
    if isinstance(item, list | tuple) or not _SPECIAL.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
