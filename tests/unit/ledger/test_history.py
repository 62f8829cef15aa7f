"""What the check of histories allows a call that was repeated, and what it does not."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.ledger.domain.accounts import NO_LIMITS, AccountType, Flags, Limits
from services.ledger.domain.transfers import Kind, Transfer, TransferFlags
from services.ledger.domain.transfers import TransferResult as R
from tests.support.ledger import history
from tests.support.ledger.books import Ledger


def transfer(number: int, debit: str, credit: str, *, linked: bool = False) -> Transfer:
    name = UUID(int=number + 1, version=4)
    flags = TransferFlags()
    return Transfer(name, debit, credit, "USD", 50, kind=Kind.POSTED, linked=linked, flags=flags)


def books() -> Ledger:
    """Two open accounts, one that is not to rise, and one that is not to fall."""
    ledger = Ledger()
    for name, limits in (
        ("a", NO_LIMITS),
        ("b", NO_LIMITS),
        ("low", Limits(None, 10)),
        ("high", Limits(-10, None)),
    ):
        ledger.open(name, kind=AccountType.ASSET, flags=Flags(), limits=limits)
    return ledger


def check(tries: int, *results: R, chain: tuple[str, ...] = ("a", "low", "a")) -> None:
    """Check the answers to a chain: of "low" the second member fails by the books as they are."""
    members = [
        transfer(number, debit, "b", linked=number < len(chain) - 1)
        for number, debit in enumerate(chain)
    ]
    call = history.Call(members, {each.transfer_id for each in members}, tries=tries)
    call.answers = [(result, None) for result in results]
    if R.ID_ALREADY_FAILED in results:
        place = results.index(R.ID_ALREADY_FAILED)
        call.answers[place] = (R.ID_ALREADY_FAILED, R.DEBIT_ACCOUNT_ABOVE_CEILING)
    history._check_answers(call, books())


FELL, ABOVE, BURNT = (
    R.LINKED_EVENT_FAILED,
    R.DEBIT_ACCOUNT_ABOVE_CEILING,
    R.ID_ALREADY_FAILED,
)


@pytest.mark.parametrize(
    ("tries", "results"),
    [
        (1, (FELL, ABOVE, FELL)),
        (2, (FELL, ABOVE, FELL)),
        (2, (FELL, BURNT, FELL)),
        # By the balances of the repeat, one before it failed.
        (2, (ABOVE, FELL, FELL)),
        (3, (BURNT, FELL, FELL)),
    ],
)
def test_answers_that_a_ledger_alone_could_give(tries: int, results: tuple[R, ...]) -> None:
    check(tries, *results)


@pytest.mark.parametrize(
    ("tries", "results"),
    [
        (1, (ABOVE, FELL, FELL)),
        (1, (FELL, BURNT, FELL)),
        # The one that failed had its id burnt, so none behind it can be reached.
        (2, (FELL, FELL, ABOVE)),
        (2, (R.OK, R.OK, R.OK)),
        (2, (ABOVE, ABOVE, FELL)),
        (2, (R.ACCOUNTS_MUST_BE_DIFFERENT, FELL, FELL)),
        (2, (BURNT, FELL, FELL)),
    ],
)
def test_answers_that_no_ledger_gives(tries: int, results: tuple[R, ...]) -> None:
    with pytest.raises(AssertionError):
        check(tries, *results)


def test_one_alone_that_was_refused_stays_refused() -> None:
    check(2, ABOVE, chain=("low",))
    with pytest.raises(AssertionError):
        check(2, R.CREDIT_ACCOUNT_BELOW_FLOOR, chain=("low",))
