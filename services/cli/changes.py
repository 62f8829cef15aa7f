"""What differs between two documents, by the paths of their values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct


def field_changes(before: Any, after: Any) -> list[str]:
    """Name each value that differs by its path: `prices[llm.requests].price.flat.amount: 1 -> 2`.

    Args:
        before: a plain document or a Struct; without content where nothing was.
        after: what is to be there.
    """
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    if not old:
        return [f"{path}: {value}" for path, value in new.items()]
    names = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    return [f"{path}: {old.get(path, '-')} -> {new.get(path, '-')}" for path in names]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Give the values of a document by their paths; what a list holds goes by its SKU where it has one."""
    if isinstance(value, Mapping | Struct):
        for key in sorted(value):
            yield from _leaves(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, list | ListValue):
        for index, item in enumerate(value):
            name = item["sku"] if isinstance(item, Mapping | Struct) and "sku" in item else index
            yield from _leaves(item, f"{path}[{name}]")
    else:
        whole = isinstance(value, float) and value.is_integer()
        shown = int(value) if isinstance(value, float) and whole else value
        yield path, shown if isinstance(shown, str) else json.dumps(shown)
