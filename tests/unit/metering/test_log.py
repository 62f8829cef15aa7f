"""The log of receipts as a tree: against one that is written down from RFC 9162 as it stands there, recursively."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metering.domain import merkle
from services.metering.domain.events import Batch, Rejection, Repeat, batch_digest, digest
from services.metering.domain.events import EventContent as Content
from services.metering.domain.log import (
    LoggedEvent,
    StoredReceipt,
    UsageLogDamaged,
    event_leaf,
    few_enough,
    receipt_faults,
    sealed,
)
from services.metering.domain.merkle import Growing, Node, Span
from services.metering.domain.receipts import ReceiptKind
from tollmesh_verify import trees

LEAVES = 70
HASHES = [merkle.leaf_hash(str(number).encode()) for number in range(LEAVES)]
SIZES = st.integers(0, LEAVES)


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = split(len(leaves))
    both = naive_root(leaves[:middle]) + naive_root(leaves[middle:])
    return hashlib.sha256(b"\x01" + both).digest()


def split(size: int) -> int:
    """The largest power of two below a size."""
    middle = 1
    while middle * 2 < size:
        middle *= 2
    return middle


def naive_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 9162, 2.1.3.1."""
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return [*naive_path(index, leaves[:middle]), naive_root(leaves[middle:])]
    return [*naive_path(index - middle, leaves[middle:]), naive_root(leaves[:middle])]


def naive_proof(first: int, leaves: Sequence[bytes], *, known: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 9162, 2.1.4.1."""
    if first == len(leaves):
        return [] if known else [naive_root(leaves)]
    middle = split(len(leaves))
    if first <= middle:
        return [*naive_proof(first, leaves[:middle], known=known), naive_root(leaves[middle:])]
    right = naive_proof(first - middle, leaves[middle:], known=False)
    return [*right, naive_root(leaves[:middle])]


def grown(size: int) -> Growing:
    """A tree of the first leaves."""
    tree = Growing(0, {})
    for leaf in HASHES[:size]:
        tree.add(leaf)
    return tree


WHOLE = grown(LEAVES)


@given(SIZES)
def test_roots_of_all_sizes_follow_from_complete_nodes(size: int) -> None:
    assert merkle.root(size, WHOLE.hashes) == naive_root(HASHES[:size])
    assert merkle.root_of(HASHES[:size]) == naive_root(HASHES[:size])
    assert grown(size).root == naive_root(HASHES[:size])


@given(SIZES, st.data())
def test_a_tree_goes_on_from_its_peaks_alone(size: int, data: st.DataObject) -> None:
    more = data.draw(st.integers(size, LEAVES))
    edge = {node: WHOLE.hashes[node] for node in merkle.peaks(Span(0, size))}
    tree = Growing(size, edge)
    for leaf in HASHES[size:more]:
        tree.add(leaf)
    assert tree.root == naive_root(HASHES[:more])
    above = [node for node in tree.added if node.level]
    assert sorted(above) == sorted(merkle.completed_by(size, more))
    assert not merkle.wrong_nodes(above, WHOLE.hashes.get)


@given(st.integers(1, LEAVES), st.data())
def test_inclusion_is_proven_of_every_leaf_in_every_size(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = [merkle.hash_of(span, WHOLE.hashes) for span in merkle.inclusion_spans(index, size)]
    assert path == naive_path(index, HASHES[:size])
    root = naive_root(HASHES[:size])
    assert trees.root_by_inclusion(HASHES[index], index, size, path) == root
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        assert trees.root_by_inclusion(HASHES[index], other, size, path) != root
        assert trees.root_by_inclusion(HASHES[other], index, size, path) != root
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        assert trees.root_by_inclusion(HASHES[index], index, size, path[:-1]) is None
        path[place] = bytes(32)
        assert trees.root_by_inclusion(HASHES[index], index, size, path) != root
    assert trees.root_by_inclusion(HASHES[index], index, size, [*path, bytes(32)]) is None


@given(st.integers(1, LEAVES), st.data())
def test_consistency_is_proven_between_all_sizes(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    spans = merkle.consistency_spans(first, second)
    path = [merkle.hash_of(span, WHOLE.hashes) for span in spans]
    assert path == naive_proof(first, HASHES[:second])
    before, after = naive_root(HASHES[:first]), naive_root(HASHES[:second])
    assert trees.is_consistent(first, before, second, after, path)
    assert not trees.is_consistent(first, bytes(32), second, after, path)
    assert not trees.is_consistent(first, before, second, bytes(32), path)
    assert not trees.is_consistent(first, before, second, after, [*path, bytes(32)])
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        assert not trees.is_consistent(first, before, second, after, path[:-1])
        path[place] = bytes(32)
        assert not trees.is_consistent(first, before, second, after, path)


@given(st.integers(2, LEAVES), st.data())
def test_a_tree_that_was_rewritten_is_consistent_with_no_older_one(
    second: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, second))
    place = data.draw(st.integers(0, first - 1))
    leaves = HASHES[:second]
    leaves[place] = merkle.leaf_hash(b"another")
    path = naive_proof(first, leaves)
    before = naive_root(HASHES[:first])
    assert not trees.is_consistent(first, before, second, naive_root(leaves), path)


@given(st.integers(2, LEAVES), st.data())
def test_a_node_that_was_changed_is_found(size: int, data: st.DataObject) -> None:
    nodes = merkle.completed_by(0, size)
    changed = data.draw(st.sampled_from(nodes))
    hashes = {**grown(size).hashes, changed: bytes(32)}
    assert changed in merkle.wrong_nodes(nodes, hashes.get)
    del hashes[changed]
    assert changed in merkle.wrong_nodes(nodes, hashes.get)


def test_hashes_of_leaves_and_nodes_are_apart() -> None:
    left, right = HASHES[:2]
    assert merkle.node_hash(left, right) != merkle.leaf_hash(left + right)
    assert WHOLE.hashes[Node(1, 0)] == merkle.node_hash(left, right)


# ---- Leaves

AT = datetime(2024, 5, 5, 9, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
RECEIPT = StoredReceipt(
    "0198c5a2-7d1e-7c55-9f3e-3d2b8a0c4e11", 7, ReceiptKind.INGEST, 2, 1, 0, 0, NOW
)


def event(request_id: str) -> LoggedEvent:
    content = Content(request_id, "chat", "web", "calls", Decimal("1.50"), NOW, 2, {"k": "v"})
    key = digest(request_id)
    return LoggedEvent(RECEIPT.receipt_id, key, digest("content"), 0, False, "", content)


EVENTS = sorted((event("a"), event("b")), key=lambda each: each.event_key)
LEAF = sealed("t", RECEIPT, [event_leaf(each) for each in EVENTS])


def test_what_is_as_it_was_logged_has_no_fault() -> None:
    assert receipt_faults("t", RECEIPT, LEAF, EVENTS) == []


@pytest.mark.parametrize(
    "change",
    [
        {"org_id": "code"},
        {"project_id": ""},
        {"sku": "other"},
        {"quantity": Decimal("1.51")},
        {"event_time": NOW.replace(microsecond=1)},
        {"source": 1},
        {"metadata": {}},
        {"request_id": "c"},
    ],
    ids=lambda change: str(*change),
)
def test_an_event_that_was_changed_is_a_fault(change: dict[str, object]) -> None:
    changed = replace(EVENTS[0].content, **change)  # type: ignore[arg-type] # a field of any type
    events = [replace(EVENTS[0], content=changed), EVENTS[1]]
    assert receipt_faults("t", RECEIPT, LEAF, events)


def test_events_that_are_gone_or_added_and_a_receipt_that_was_changed_are_faults() -> None:
    (gone, root) = receipt_faults("t", RECEIPT, LEAF, EVENTS[:1])
    assert (gone.expected, gone.found, root.ordinal) == ("2", "1", 7)
    assert receipt_faults("t", RECEIPT, LEAF, [*EVENTS, event("c")])
    assert receipt_faults("t", replace(RECEIPT, duplicate=0), LEAF, EVENTS)
    assert receipt_faults("u", RECEIPT, LEAF, EVENTS)
    with pytest.raises(UsageLogDamaged, match="accepted 2 events, and 1"):
        sealed("t", RECEIPT, [event_leaf(EVENTS[0])])


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 100))
def test_one_closing_has_few_events_and_one_receipt_at_least(counts: list[int], most: int) -> None:
    receipts = [replace(RECEIPT, accepted=count) for count in counts]
    found = few_enough(receipts, most)
    assert found == receipts[: len(found)]
    taken = sum(counts[: len(found)])
    assert found and (len(found) == 1 or taken <= most)
    assert len(found) == len(counts) or taken + counts[len(found)] > most


def test_a_batch_has_the_digest_of_what_it_says() -> None:
    row = ("a", "content\t", "", digest("a"), digest("content"))
    base = Batch(1, [row], {"a": 0})
    others = [
        Batch(2, [row], {"a": 0}),
        Batch(1, [(*row[:4], digest("other"))], {"a": 0}),
        Batch(1, [row], {"a": 0}, repeats=[Repeat(1, "a", digest("content"))]),
        Batch(1, [row], {"a": 0}, rejections=[Rejection(1, "b", "UNKNOWN_SKU", "at 9", b"x")]),
        Batch(1, [row], {"a": 0}, rejections=[Rejection(1, "b", "UNKNOWN_SKU", "at 9", b"y")]),
        Batch(1, [row], {"a": 0}, rejections=[Rejection(1, "b", "EVENT_TOO_OLD", "at 9", b"y")]),
    ]
    assert len({batch_digest(each) for each in (base, *others)}) == 7
    told = [Rejection(1, "b", "EVENT_TOO_OLD", "at 10", b"y")]
    assert batch_digest(Batch(1, [row], {"a": 0}, rejections=told)) == batch_digest(others[-1])


def test_the_reference_page_has_an_example_that_comes_out() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/receipts.md").read_text(encoding="utf-8")
    said, receipt = re.findall(r"^```json\n(.*)\n```$", page, re.MULTILINE)
    content = Content("p-1", "acme", "", "sms", Decimal("7.50"), AT, 2, {"region": "eu"})
    key = "0198c5a27d1e7c559f3e3d2b8a0c4e11"
    hashed = event_leaf(LoggedEvent("", digest("p-1"), key, 0, False, "", content))
    assert merkle.leaf_hash(said.encode()) == hashed
    stored = replace(
        RECEIPT, ordinal=1, accepted=1, duplicate=0, recorded_at=AT + timedelta(seconds=1)
    )
    leaf = sealed("acme-platform", stored, [hashed])
    assert merkle.leaf_hash(receipt.encode()) == leaf.hash
    assert page.count(leaf.events_root.hex()) == 2
    assert page.count(leaf.hash.hex()) == 1
