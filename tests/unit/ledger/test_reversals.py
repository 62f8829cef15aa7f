"""However reversals are reversed in turn, of no transfer more is taken back than it posted."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain.reversals import Above, Taken


@dataclass
class Node:
    """A transfer, what it takes back (below zero: it goes the same way again), and what takes it back."""

    transfer_id: UUID
    posted_minor: int
    of: Node | None = None
    amount_minor: int = 0
    by: list[Node] = field(default_factory=list)

    def net_minor(self) -> int:
        """What it still moves."""
        return self.posted_minor - sum(
            each.net_minor() * (1 if each.amount_minor > 0 else -1) for each in self.by
        )

    def above(self) -> tuple[Above, ...]:
        found: list[Above] = []
        node, way = self, 1
        while node.of is not None:
            way = -way if node.amount_minor > 0 else way
            node = node.of
            found.append(Above(node.transfer_id, way > 0, node.posted_minor))
        return tuple(found)


STEPS = st.lists(st.tuples(st.integers(0, 30), st.integers(-60, 120)), max_size=30)


@given(steps=STEPS)
def test_what_is_taken_back_is_judged_as_by_counting_it_all_anew(
    steps: list[tuple[int, int]],
) -> None:
    nodes = [Node(UUID(int=1), 100)]
    taken = Taken(above={})
    above: dict[UUID, tuple[Above, ...]] = {}
    taken.above = above
    for place, amount in steps:
        if not amount:
            continue
        node = nodes[place % len(nodes)]
        new = Node(UUID(int=len(nodes) + 1), abs(amount), node, amount)
        node.by.append(new)
        is_sound = all(each.net_minor() >= 0 for each in nodes)
        node.by.pop()
        exceeds = taken.exceeds(node.transfer_id, node.posted_minor, amount)
        assert exceeds is not is_sound
        if exceeds:
            continue
        taken.take(node.transfer_id, amount)
        node.by.append(new)
        nodes.append(new)
        above[new.transfer_id] = new.above()
        for each in nodes:
            assert taken.minor.get(each.transfer_id, 0) == each.posted_minor - each.net_minor()
