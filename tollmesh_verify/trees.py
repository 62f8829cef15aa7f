"""Merkle trees in the form of RFC 9162, from the side of who verifies: its sections 2.1.3.2 and 2.1.4.2."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(content: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + content).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root of a tree, from the hashes of all its leaves."""
    if not leaves:
        return hashlib.sha256().digest()
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        size, found = 1, leaf
        while stack and stack[-1][0] == size:
            found = _node(stack.pop()[1], found)
            size *= 2
        stack.append((size, found))
    _, found = stack.pop()
    while stack:
        found = _node(stack.pop()[1], found)
    return found


def root_by_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a proof leads to from the hash of a leaf; None when the proof is too short or too long."""
    if not 0 <= index < size:
        return None
    at, last, found = index, size - 1, leaf
    for other in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = _node(other, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = _node(found, other)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


def is_consistent(
    first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether a proof shows that the tree of the second size begins with the tree of the first."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    hashes = [*path]
    if first & (first - 1) == 0:
        hashes.insert(0, first_root)
    if not hashes:
        return False
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = hashes[0]
    for other in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            before, after = _node(other, before), _node(other, after)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = _node(after, other)
        at, last = at >> 1, last >> 1
    return last == 0 and before == first_root and after == second_root


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
