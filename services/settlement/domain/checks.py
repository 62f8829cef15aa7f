"""Comparing how parties stand with the books."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Expected:
    """What an account of the ledger should hold, by what is kept here.

    Attributes:
        party: who is owed it; empty for what is held.
        dispute_id: under which it is held; empty for what is owed.
        expected_minor: credits less debits.
        posting: payouts of it are on their way to the ledger, and may be there already.
    """

    party: str
    dispute_id: str
    currency_code: str
    expected_minor: int
    posting: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """What an account should hold beside what it holds.

    Attributes:
        settling: charges of the tenant, or payouts of the account, are on their way between the two.
    """

    expected: Expected
    account_id: str
    booked_minor: int
    settling: bool

    @property
    def differs(self) -> bool:
        """True when the two are not the same."""
        return self.booked_minor != self.expected.expected_minor
