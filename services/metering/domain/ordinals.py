"""Ordinals: the order in which receipts, and all that they brought, became visible.

An event has the ordinal of its receipt. Ordinals are given a moment after the commit, to what is visible then, so what
becomes visible later has a greater one. They are numbers like others: they mean the same in another cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.runtime.errors import Code, DomainError


class UsageOrdinalAhead(DomainError):
    """Usage is asked for at an ordinal that nothing has yet."""

    code = Code.OUT_OF_RANGE
    reason = "USAGE_ORDINAL_AHEAD"
    state_dependent = True
    at_ordinal: int
    last_ordinal: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where the receipts of a tenant stand in one snapshot.

    Attributes:
        last_ordinal: the newest that was given; 0 while none was.
        unsequenced: whether there are receipts that have none yet.
    """

    last_ordinal: int
    unsequenced: bool

    def is_behind(self, at_ordinal: int | None) -> bool:
        """Whether a reading needs ordinals that were not given yet: what is visible now is to be in it."""
        return self.unsequenced and (at_ordinal is None or at_ordinal > self.last_ordinal)

    def checked(self, at_ordinal: int | None) -> int:
        """Return the ordinal that a reading is at.

        Raises:
            UsageOrdinalAhead: it is asked for one that nothing has.
        """
        if at_ordinal is None:
            return self.last_ordinal
        if at_ordinal > self.last_ordinal:
            raise UsageOrdinalAhead(
                f"nothing has ordinal {at_ordinal} yet; the newest is {self.last_ordinal}: ask for one up to that, or"
                " leave at_ordinal out",
                at_ordinal=at_ordinal,
                last_ordinal=self.last_ordinal,
            )
        return at_ordinal

    def is_whole(self, ordinal: int) -> bool:
        """Whether everything that the snapshot has belongs to a reading at this ordinal."""
        return not self.unsequenced and ordinal == self.last_ordinal
