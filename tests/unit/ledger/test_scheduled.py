"""Laws of transfers that wait: what is repeated, what is judged when, and that a chain waits and ends whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from uuid import UUID, uuid4

import pytest

from services.ledger.domain.posting import Verdict
from services.ledger.domain.scheduled import refused_at
from services.ledger.domain.transfers import (
    Transfer,
    TransferFlags,
    TransferResult,
    can_share,
    fingerprint,
)
from tests.support.ledger.books import NOW, Ledger
from tests.unit.ledger.test_posting_replays import CHANGES

R = TransferResult
SOON = NOW + timedelta(milliseconds=5)
THIS, OTHER = UUID(int=1), UUID(int=2)
WAITS = Transfer(THIS, "a", "b", "USD", 10, code=3, not_before=SOON)
SORTS = {
    "plain": WAITS,
    "with metadata": replace(WAITS, metadata={"k": "w"}),
    "balancing below a cap": replace(WAITS, flags=TransferFlags(balancing_debit=True)),
    "balancing": replace(
        WAITS, amount_minor=None, currency_code="", flags=TransferFlags(balancing_debit=True)
    ),
}


def books() -> Ledger:
    """Accounts a, b and c; `a` has 30 more credits than debits."""
    made = Ledger()
    made.open("a", "b", "c")
    assert made.post([Transfer(UUID(int=50), "c", "a", "USD", 30)]).verdicts[0].result is R.OK
    return made


def send(made: Ledger, asked: Transfer) -> TransferResult:
    """Post it, with an end to its chain where it is linked."""
    follower = Transfer(UUID(int=99), "a", "c", "USD", 1, not_before=asked.not_before)
    return made.post([asked, follower] if asked.linked else [asked]).verdicts[0].result


@pytest.mark.parametrize("first", SORTS.values(), ids=SORTS)
def test_what_differs_of_one_that_waits_is_named_alone_and_in_order(first: Transfer) -> None:
    one_each = {}
    for result, several in CHANGES.items():
        for change in several:
            asked = replace(first, **change)
            if asked != first:
                made = books()
                assert send(made, first) is R.SCHEDULED
                assert send(made, asked) is result, change
                one_each[result] = change
    assert set(one_each) == set(CHANGES)
    for sooner, later in combinations(sorted(one_each, key=list(R).index), 2):
        made = books()
        assert send(made, first) is R.SCHEDULED
        both = replace(first, **one_each[later], **one_each[sooner])
        assert send(made, both) is sooner, (sooner, later)


@pytest.mark.parametrize("first", SORTS.values(), ids=SORTS)
def test_one_that_waits_moves_nothing_and_is_answered_the_same(first: Transfer) -> None:
    made = books()
    before = dict(made.balances)
    for _ in range(3):
        done = made.post([first, first])
        again = Verdict(R.SCHEDULED, R.SCHEDULED)
        assert done.verdicts in ([Verdict(R.SCHEDULED), again], [again, again])
        assert not done.postings
        assert not done.burnt
    assert done.verdicts == [again, again]
    assert made.balances == before
    made.now = SOON
    # Due, and not posted yet.
    assert made.post([first]).verdicts[0].result is R.SCHEDULED
    assert made.post_due(THIS).verdicts[0].result is R.OK
    assert made.post([first]).verdicts[0].result is R.EXISTS


def test_a_scheduled_balancing_transfer_moves_what_there_is_when_it_is_due() -> None:
    made = books()
    most = replace(SORTS["balancing below a cap"], amount_minor=40)
    assert send(made, most) is R.SCHEDULED
    assert made.post([Transfer(OTHER, "a", "b", "USD", 12)]).verdicts[0].result is R.OK
    made.now = SOON
    (posting,) = made.post_due(THIS).postings
    assert posting.transfer.amount_minor == 18
    # Now it is in the books: any cap that allows what moved is the same.
    assert send(made, replace(most, amount_minor=19)) is R.EXISTS
    assert send(made, replace(most, amount_minor=17)) is R.EXISTS_WITH_DIFFERENT_AMOUNT


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_each_member_of_a_chain_that_was_refused_when_due_keeps_its_own_verdict(
    broken: int,
) -> None:
    made = books()
    ids = [uuid4() for _ in range(3)]
    chain = [
        replace(WAITS, transfer_id=transfer_id, linked=at < 2, debit_account_id="ab"[at == broken])
        for at, transfer_id in enumerate(ids)
    ]
    chain = [replace(each, credit_account_id="c") for each in chain]
    assert [verdict.result for verdict in made.post(chain).verdicts] == [R.SCHEDULED] * 3
    made.balances["b"] = replace(made.balances["b"], debits_posted=2**63 - 1)
    made.now = SOON
    due = [verdict.result for verdict in made.post_due(ids[0]).verdicts]
    refused = [R.OVERFLOWS_DEBITS if at == broken else R.LINKED_EVENT_FAILED for at in range(3)]
    assert due == refused
    again = made.post(chain)
    assert again.verdicts == [Verdict(R.ID_ALREADY_FAILED, result) for result in refused]
    assert not again.burnt
    # Beside a member that is new nobody's verdict is its own.
    other = replace(chain[2], transfer_id=uuid4())
    mixed = [verdict.result for verdict in made.post([*chain[:2], other]).verdicts]
    assert mixed == [R.ID_ALREADY_FAILED, R.LINKED_EVENT_FAILED, R.LINKED_EVENT_FAILED]


def test_a_refusal_when_it_is_due_is_kept_whatever_it_is() -> None:
    made = books()
    assert send(made, WAITS) is R.SCHEDULED
    made.balances["a"] = replace(made.balances["a"], debits_posted=2**63 - 1)
    made.now = SOON
    assert made.post_due(THIS).verdicts[0].result is R.OVERFLOWS_DEBITS
    made.balances["a"] = replace(made.balances["a"], debits_posted=0)
    assert made.post([WAITS]).verdicts == [Verdict(R.ID_ALREADY_FAILED, R.OVERFLOWS_DEBITS)]


def test_which_member_of_a_chain_was_refused() -> None:
    def at(*results: TransferResult) -> int | None:
        return refused_at([Verdict(result) for result in results])

    assert at(R.OK) is None
    assert at(R.OK, R.OK) is None
    assert at(R.EXCEEDS_CREDITS) == 0
    assert at(R.LINKED_EVENT_FAILED, R.EXCEEDS_CREDITS, R.LINKED_EVENT_FAILED) == 1


def test_a_time_to_wait_for_is_part_of_the_content_and_no_plain_transfer_has_one() -> None:
    plain = replace(WAITS, not_before=None)
    later = replace(WAITS, not_before=SOON + timedelta(microseconds=1))
    assert len({fingerprint(each) for each in (plain, WAITS, later)}) == 3
    assert plain.is_plain
    assert not WAITS.is_plain
    # What waits keeps the trail of the call that sent it.
    assert can_share([plain])
    assert not can_share([WAITS])
