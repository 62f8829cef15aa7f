"""Merkle trees in the form of RFC 9162: hashes, roots, proofs. Pure; knows nothing of what the leaves are.

A complete node (level, place) is the root of the 2^level leaves from place * 2^level on. Such nodes never change once
they are complete, and every root and proof of every size follows from a few dozen of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()
"""Root of a tree without leaves."""


class Node(NamedTuple):
    """A complete node: its level, 0 for leaves, and its place on that level, from 0."""

    level: int
    place: int

    @property
    def leaves_end(self) -> int:
        """The index of the first leaf behind it."""
        return (self.place + 1) << self.level


class Span(NamedTuple):
    """Leaves from `start` to before `end`, of which RFC 9162 hashes a tree of their own."""

    start: int
    end: int


Hashes = Mapping[Node, bytes]


def leaf_hash(content: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root of a whole tree, from the hashes of its leaves."""
    if not leaves:
        return EMPTY_ROOT
    # Pairs from the left, a node without a sibling goes up as it is: that is the tree which RFC 9162 splits from above.
    level = list(leaves)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = [level[-1]] if len(level) % 2 else []
        level = [*(node_hash(left, right) for left, right in pairs), *odd]
    return level[0]


def peaks(span: Span) -> list[Node]:
    """Return the complete nodes that a span consists of, from the left: the largest first.

    The span begins where a node as large as its largest one may begin, as all spans of roots and proofs do.
    """
    found = []
    start, size = span.start, span.end - span.start
    while size:
        level = size.bit_length() - 1
        found.append(Node(level, start >> level))
        start += 1 << level
        size -= 1 << level
    return found


def hash_of(span: Span, hashes: Hashes) -> bytes:
    """Return the hash of the tree of a span, from those of its complete nodes."""
    if span.start == span.end:
        return EMPTY_ROOT
    *others, last = peaks(span)
    found = hashes[last]
    for node in reversed(others):
        found = node_hash(hashes[node], found)
    return found


def root(size: int, hashes: Hashes) -> bytes:
    """Return the root of the first leaves of a tree."""
    return hash_of(Span(0, size), hashes)


def inclusion_spans(index: int, size: int) -> list[Span]:
    """Return the spans whose hashes prove that a leaf is in the tree of a size (RFC 9162, 2.1.3.1)."""
    assert 0 <= index < size
    found, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            found.append(Span(middle, end))
            end = middle
        else:
            found.append(Span(start, middle))
            start = middle
    return found[::-1]


def consistency_spans(first: int, second: int) -> list[Span]:
    """Return the spans whose hashes prove that a tree begins with a smaller one (RFC 9162, 2.1.4.1)."""
    assert 0 < first <= second
    found, start, end = [], 0, second
    # Whether what is left of the smaller tree is that tree, whose root the verifier has.
    is_whole = True
    while end != first:
        middle = start + _split(end - start)
        if first <= middle:
            found.append(Span(middle, end))
            end = middle
        else:
            found.append(Span(start, middle))
            start, is_whole = middle, False
    if not is_whole:
        found.append(Span(start, end))
    return found[::-1]


def nodes_of(spans: Iterable[Span]) -> set[Node]:
    """Return the complete nodes that the hashes of spans follow from."""
    return {node for span in spans for node in peaks(span)}


def _split(size: int) -> int:
    """Return the largest power of two below a size of at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


@dataclass
class Growing:
    """A tree to which leaves are added.

    Attributes:
        size: leaves that it has.
        hashes: of the peaks of that size, and of what was added.
        added: nodes that became complete, leaves among them, in their order.
    """

    size: int
    hashes: dict[Node, bytes]
    added: list[Node] = field(default_factory=list)

    def add(self, leaf: bytes) -> None:
        """Add a leaf by its hash."""
        node, hashed = Node(0, self.size), leaf
        self._keep(node, hashed)
        while node.place % 2:
            hashed = node_hash(self.hashes[Node(node.level, node.place - 1)], hashed)
            node = Node(node.level + 1, node.place >> 1)
            self._keep(node, hashed)
        self.size += 1

    @property
    def root(self) -> bytes:
        """Its root now."""
        return root(self.size, self.hashes)

    def _keep(self, node: Node, hashed: bytes) -> None:
        self.hashes[node] = hashed
        self.added.append(node)


def completed_by(start: int, end: int) -> list[Node]:
    """Return the nodes above the leaves that become complete while a tree grows from one size to another."""
    found = []
    level = 1
    while end >> level:
        found += [Node(level, index) for index in range(start >> level, end >> level)]
        level += 1
    return found


def children(node: Node) -> tuple[Node, Node]:
    """Return the two nodes below a node."""
    return Node(node.level - 1, node.place * 2), Node(node.level - 1, node.place * 2 + 1)


def wrong_nodes(nodes: Iterable[Node], hash_at: Callable[[Node], bytes | None]) -> list[Node]:
    """Return those nodes whose hash is missing, or does not follow from the two below."""
    wrong = []
    for node in nodes:
        left, right = (hash_at(child) for child in children(node))
        expected = None if left is None or right is None else node_hash(left, right)
        if expected is None or hash_at(node) != expected:
            wrong.append(node)
    return wrong
