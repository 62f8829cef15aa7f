"""What a JSON Schema comes to once its references are followed. Pure.

A reference is short and may stand many times, so that a schema of a few kilobytes can ask for more comparisons
than ever end. They are counted before a schema is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from services.runtime import strict_json

Path = tuple[str | int, ...]

# Keywords whose schemas are held against the same value.
_SAME_VALUE = ("not", "if", "then", "else")
_SAME_VALUE_LISTS = ("allOf", "anyOf", "oneOf")
# `dependencies` is of older drafts, and the library heeds it still. Where it lists names, they count for nothing.
_SAME_VALUE_MAPS = ("dependentSchemas", "dependencies")
# Those whose schemas are held against parts of it.
_PARTS = (
    "additionalProperties",
    "propertyNames",
    "items",
    "contains",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_PARTS_LISTS = ("prefixItems",)
_PARTS_MAPS = ("properties", "patternProperties")


@dataclass(frozen=True, slots=True)
class Expansion:
    """What came of a count.

    Attributes:
        schemas: how many schemas it comes to; one that leads back to a part it stands in counts once. Not exact
            above the bound that was asked for.
        endless: where a schema refers to itself for the same value, as a JSON pointer; None where none does.
    """

    schemas: int
    endless: str | None


def expand(document: Mapping[str, Any], bound: int) -> Expansion:
    """Count the schemas of a document that payloads are held against, in time linear in its size.

    A schema that is held against a part of a value may lead back to one above it, as a tree does; there it counts once,
    because the payload ends it.
    """
    graph = _Graph.of(document)
    order, loop = _order(graph)
    if loop is not None:
        return Expansion(0, strict_json.pointer(loop))
    group_of = _groups(graph)
    counts: dict[Path, int] = {}
    # Groups first, which `_groups` numbers from the leaves up: so every target is counted before what leads to it.
    for path in sorted(graph.edges, key=lambda path: (group_of[path], -order[path])):
        total = 1
        for target, same in graph.edges[path]:
            above = not same and group_of[target] == group_of[path]
            total += 1 if above else counts[target]
        counts[path] = min(total, bound + 1)
    return Expansion(counts[()], None)


@dataclass(slots=True)
class _Graph:
    """Which schema leads to which; an edge is true when both are held against the same value."""

    document: Mapping[str, Any]
    edges: dict[Path, list[tuple[Path, bool]]] = field(default_factory=dict)
    resources: dict[str, Path] = field(default_factory=dict)
    anchors: dict[tuple[str, str], Path] = field(default_factory=dict)
    dynamic: dict[str, list[Path]] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> _Graph:
        graph = cls(document)
        bases = graph._named()
        waiting = deque[Path]([()])
        while waiting:
            path = waiting.popleft()
            if path in graph.edges:
                continue
            graph.edges[path] = list(graph._edges(path, bases))
            waiting.extend(target for target, _ in graph.edges[path])
        return graph

    def _named(self) -> dict[Path, str]:
        """Note what schemas are called; returns the URI that each part's references start from."""
        bases: dict[Path, str] = {}
        waiting: deque[tuple[Path, Any, str]] = deque([((), self.document, "")])
        self.resources[""] = ()
        while waiting:
            path, value, base = waiting.popleft()
            if isinstance(value, dict):
                own = value.get("$id")
                if isinstance(own, str):
                    base = urldefrag(urljoin(base, own)).url
                    self.resources.setdefault(base, path)
                for keyword in ("$anchor", "$dynamicAnchor"):
                    name = value.get(keyword)
                    if isinstance(name, str):
                        self.anchors.setdefault((base, name), path)
                        if keyword == "$dynamicAnchor":
                            self.dynamic.setdefault(name, []).append(path)
                waiting.extend(((*path, name), item, base) for name, item in value.items())
            elif isinstance(value, list):
                waiting.extend(((*path, at), item, base) for at, item in enumerate(value))
            bases[path] = base
        return bases

    def _edges(self, path: Path, bases: Mapping[Path, str]) -> Iterator[tuple[Path, bool]]:
        schema = self._at(path)
        if not isinstance(schema, dict):
            return
        for names, lists, maps, same in (
            (_SAME_VALUE, _SAME_VALUE_LISTS, _SAME_VALUE_MAPS, True),
            (_PARTS, _PARTS_LISTS, _PARTS_MAPS, False),
        ):
            yield from (((*path, name), same) for name in names if name in schema)
            for name in lists:
                listed = schema.get(name)
                items = listed if isinstance(listed, list) else []
                yield from (((*path, name, at), same) for at in range(len(items)))
            for name in maps:
                mapped = schema.get(name)
                keys = mapped if isinstance(mapped, dict) else {}
                yield from (((*path, name, key), same) for key in keys)
        for keyword in ("$ref", "$dynamicRef"):
            reference = schema.get(keyword)
            if isinstance(reference, str):
                yield from ((target, True) for target in self._targets(reference, bases[path]))
                name = urldefrag(reference).fragment
                if keyword == "$dynamicRef" and name in self.dynamic:
                    yield from ((target, True) for target in self.dynamic[name])

    def _targets(self, reference: str, base: str) -> Iterator[Path]:
        address, fragment = urldefrag(urljoin(base, reference) if base else reference)
        resource = self.resources.get(address)
        if resource is None:
            # A document of the dialect itself, which the library knows; any other was refused before.
            return
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            found = self.anchors.get((address, fragment))
            if found is not None:
                yield found
            return
        path = resource
        for part in fragment.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            holder = self._at(path)
            path = (*path, int(name) if isinstance(holder, list) and name.isdecimal() else name)
        if self._at(path) is not None:
            yield path

    def _at(self, path: Path) -> Any:
        found: Any = self.document
        for part in path:
            if isinstance(found, dict):
                found = found.get(part)
            elif isinstance(found, list) and isinstance(part, int) and part < len(found):
                found = found[part]
            else:
                return None
        return found


def _order(graph: _Graph) -> tuple[dict[Path, int], Path | None]:
    """Number schemas before those they lead to for the same value; or name one that leads to itself."""
    incoming = dict.fromkeys(graph.edges, 0)
    for edges in graph.edges.values():
        for target, same in edges:
            incoming[target] += same
    free = deque(path for path, count in incoming.items() if count == 0)
    order: dict[Path, int] = {}
    while free:
        path = free.popleft()
        order[path] = len(order)
        for target, same in graph.edges[path]:
            if same:
                incoming[target] -= 1
                if incoming[target] == 0:
                    free.append(target)
    left = graph.edges.keys() - order.keys()
    return order, _on_a_loop(graph, left) if left else None


def _on_a_loop(graph: _Graph, left: Set[Path]) -> Path:
    """Return one of those that are on a loop themselves, not merely behind one."""
    path = min(left, key=len)
    # Each of them is led to by another; so many steps back end on a loop.
    before = {target: path for path in left for target, same in graph.edges[path] if same}
    seen = set()
    while path not in seen:
        seen.add(path)
        path = before[path]
    return path


def _groups(graph: _Graph) -> dict[Path, int]:
    """Number the groups of schemas that lead to one another, each before those that lead to it (Tarjan)."""
    order: dict[Path, int] = {}
    low: dict[Path, int] = {}
    open_: list[Path] = []
    group_of: dict[Path, int] = {}
    groups = 0
    calls: list[tuple[Path, Iterator[tuple[Path, bool]]]] = []

    def enter(path: Path) -> None:
        order[path] = low[path] = len(order)
        open_.append(path)
        calls.append((path, iter(graph.edges[path])))

    enter(())
    while calls:
        path, edges = calls[-1]
        for target, _ in edges:
            if target not in order:
                enter(target)
                break
            if target not in group_of:
                low[path] = min(low[path], order[target])
        else:
            calls.pop()
            if calls:
                above = calls[-1][0]
                low[above] = min(low[above], low[path])
            if low[path] == order[path]:
                while True:
                    member = open_.pop()
                    group_of[member] = groups
                    if member == path:
                        break
                groups += 1
    return group_of
