"""What a processor can be asked for, as a table: what each operation follows, and what it does to money.

Money that is taken is authorised and then captured, or charged at once; it goes back by a refund, and what is only
held by a void. What follows an earlier success never exceeds what is left of that, what is in flight included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Operation(StrEnum):
    """What a processor is asked for; the names of the proto."""

    AUTHORIZE = "AUTHORIZE"
    CAPTURE = "CAPTURE"
    VOID = "VOID"
    CHARGE = "CHARGE"
    REFUND = "REFUND"


@dataclass(frozen=True, slots=True)
class Rule:
    """What an operation is.

    Attributes:
        follows: operations on whose success it acts; empty for one that a step begins with.
        moves: 1 when it brings money, -1 when it gives money back, 0 when none moves.
    """

    follows: frozenset[Operation]
    moves: int

    @property
    def takes(self) -> bool:
        """True for what a step begins with."""
        return not self.follows


RULES: Mapping[Operation, Rule] = {
    Operation.AUTHORIZE: Rule(frozenset(), 0),
    Operation.CHARGE: Rule(frozenset(), 1),
    Operation.CAPTURE: Rule(frozenset({Operation.AUTHORIZE}), 1),
    Operation.VOID: Rule(frozenset({Operation.AUTHORIZE}), 0),
    Operation.REFUND: Rule(frozenset({Operation.CHARGE, Operation.CAPTURE}), -1),
}

# By what each is undone that takes or holds money.
UNDONE_BY: Mapping[Operation, Operation] = {
    Operation.AUTHORIZE: Operation.VOID,
    Operation.CHARGE: Operation.REFUND,
    Operation.CAPTURE: Operation.REFUND,
}
