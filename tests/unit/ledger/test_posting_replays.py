"""Laws of a transfer_id that is sent again: the same is answered, what differs is named, nothing moves twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest

from services.ledger.domain.transfers import (
    Kind,
    Malformed,
    Reference,
    Transfer,
    TransferFlags,
    TransferResult,
    fingerprint,
)
from tests.support.ledger.books import Ledger

R = TransferResult
HOLD, PARTS, OTHER_HOLD, PLAIN = (UUID(int=number) for number in (1, 2, 3, 4))
THIS = UUID(int=10)
MORNING = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = datetime(2027, 1, 2, tzinfo=UTC)
ALL: dict[str, Any] = {"amount_minor": None, "currency_code": ""}
OPEN: dict[str, Any] = {"debit_account_id": "", "credit_account_id": "", "code": 0}

FIRST = Transfer(THIS, "a", "b", "USD", 10, code=3)
HELD = replace(FIRST, kind=Kind.PENDING, timeout_ms=1000)
ENDING = Transfer(THIS, "a", "b", "USD", 4, code=3, kind=Kind.POST_PENDING, pending_id=PARTS)
VOIDING = replace(ENDING, kind=Kind.VOID_PENDING, amount_minor=10)
BALANCING = replace(FIRST, flags=TransferFlags(balancing_debit=True))

# Every sort of transfer, as it is sent first. What balances comes to 20.
SORTS = {
    "posted": FIRST,
    "posted when it was due": replace(FIRST, not_before=datetime(2025, 1, 2, tzinfo=UTC)),
    "pending": HELD,
    "pending in parts": replace(HELD, flags=TransferFlags(multi_capture=True)),
    "closing": replace(HELD, flags=TransferFlags(closing_debit=True, closing_credit=True)),
    "closing with nothing": replace(HELD, amount_minor=0, flags=TransferFlags(closing_credit=True)),
    "post in part": ENDING,
    "post all": replace(ENDING, **ALL),
    "post all of the hold's": replace(ENDING, **ALL, **OPEN),
    "void": VOIDING,
    "void all": replace(VOIDING, **ALL),
    "void all of the hold's": replace(VOIDING, **ALL, **OPEN),
    "balancing below its cap": replace(BALANCING, amount_minor=30),
    "balancing at its cap": BALANCING,
    "balancing without a cap": replace(BALANCING, **ALL),
    "balancing hold": replace(HELD, flags=TransferFlags(balancing_credit=True)),
}


def ledger() -> Ledger:
    """Accounts a, b, c; a has 20 more credits than debits and b 20 more debits; three holds of 10 from a to b."""
    books = Ledger()
    books.open("a", "b", "c")
    hold = Transfer(HOLD, "a", "b", "USD", 10, code=3, kind=Kind.PENDING)
    done = books.post(
        [
            Transfer(PLAIN, "b", "a", "USD", 50),
            hold,
            replace(hold, transfer_id=PARTS, flags=TransferFlags(multi_capture=True)),
            replace(hold, transfer_id=OTHER_HOLD),
        ]
    )
    assert all(verdict.result is R.OK for verdict in done.verdicts)
    return books


def send(books: Ledger, asked: Transfer) -> TransferResult:
    """Post it, with an end to its chain where it is linked."""
    follower = Transfer(UUID(int=99), "a", "c", "USD", 1, not_before=asked.not_before)
    return books.post([asked, follower] if asked.linked else [asked]).verdicts[0].result


def again(first: Transfer, second: Transfer) -> TransferResult:
    """What the second is answered after the first was accepted; it must move nothing."""
    books = ledger()
    assert send(books, first) is R.OK
    before = books.balances, books.holds, books.legs, books.known
    copied = tuple(dict(part) if isinstance(part, dict) else list(part) for part in before)
    result = send(books, second)
    assert copied == before
    return result


@pytest.mark.parametrize("first", SORTS.values(), ids=SORTS)
def test_the_same_again_exists(first: Transfer) -> None:
    assert again(first, first) is R.EXISTS
    twice = ledger().post([first, first])
    assert [verdict.result for verdict in twice.verdicts] == [R.OK, R.EXISTS]
    assert len(twice.postings) == 1


@pytest.mark.parametrize("first", SORTS.values(), ids=SORTS)
def test_a_chain_again_exists_whole(first: Transfer) -> None:
    books = ledger()
    chain: list[Transfer | Malformed] = [
        Transfer(UUID(int=20), "c", "b", "USD", 1, linked=True, not_before=first.not_before),
        first,
    ]
    assert [verdict.result for verdict in books.post(chain).verdicts] == [R.OK, R.OK]
    assert [verdict.result for verdict in books.post(chain).verdicts] == [R.EXISTS, R.EXISTS]


# Each field that differs alone, in order of precedence.
CHANGES: dict[TransferResult, list[dict[str, Any]]] = {
    R.EXISTS_WITH_DIFFERENT_LINKED: [{"linked": True}],
    R.EXISTS_WITH_DIFFERENT_KIND: [{"kind": kind} for kind in Kind],
    R.EXISTS_WITH_DIFFERENT_FLAGS: [
        {"flags": TransferFlags(**{flag.name: True})} for flag in fields(TransferFlags)
    ],
    R.EXISTS_WITH_DIFFERENT_PENDING_ID: [{"pending_id": OTHER_HOLD}, {"pending_id": None}],
    R.EXISTS_WITH_DIFFERENT_TIMEOUT: [{"timeout_ms": 0}, {"timeout_ms": 1001}],
    R.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID: [{"debit_account_id": "c"}],
    R.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID: [{"credit_account_id": "c"}],
    R.EXISTS_WITH_DIFFERENT_AMOUNT: [
        {"amount_minor": 5, "currency_code": "USD"},
        {"amount_minor": 10, "currency_code": "EUR"},
        {"amount_minor": 4, "currency_code": "EUR"},
        {"amount_minor": 30, "currency_code": "EUR"},
    ],
    R.EXISTS_WITH_DIFFERENT_CODE: [{"code": 4}],
    R.EXISTS_WITH_DIFFERENT_METADATA: [{"metadata": {"k": "v"}}],
    R.EXISTS_WITH_DIFFERENT_EFFECTIVE_AT: [{"effective_at": MORNING}],
    R.EXISTS_WITH_DIFFERENT_NOT_BEFORE: [{"not_before": MORNING}, {"not_before": LATER}],
    R.EXISTS_WITH_DIFFERENT_REFERENCE: [
        {"reference": Reference("charge", "chg_1")},
        {"reference": Reference("charge", "chg_1", "line-1")},
    ],
}


def changes(first: Transfer) -> Iterable[tuple[TransferResult, dict[str, Any]]]:
    for result, several in CHANGES.items():
        for change in several:
            if replace(first, **change) != first:
                yield result, change


def test_the_changes_are_in_order_and_complete() -> None:
    named = [result for result in R if result.name.startswith("EXISTS_WITH")]
    assert list(CHANGES) == named
    changed = {name for several in CHANGES.values() for change in several for name in change}
    # No sender can say the last three.
    others = {"transfer_id", "asked_all", "reverses_id", "posting_id"}
    assert changed == {f.name for f in fields(Transfer)} - others


@pytest.mark.parametrize("first", SORTS.values(), ids=SORTS)
def test_what_differs_alone_is_named(first: Transfer) -> None:
    reached = {}
    for result, change in changes(first):
        reached[str(change)] = again(first, replace(first, **change)), result
    assert {change: got for change, (got, _) in reached.items()} == {
        change: expected for change, (_, expected) in reached.items()
    }
    assert {expected for _, expected in reached.values()} == set(CHANGES)


@pytest.mark.parametrize("first", SORTS.values(), ids=SORTS)
def test_of_two_that_differ_the_first_is_named(first: Transfer) -> None:
    one_each = {result: change for result, change in reversed(list(changes(first)))}
    ordered = sorted(one_each, key=list(R).index)
    for sooner, later in combinations(ordered, 2):
        both = replace(first, **one_each[later], **one_each[sooner])
        assert again(first, both) is sooner, (sooner, later)


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        # What is left open is no difference, whichever of the two left it.
        (replace(ENDING, **OPEN), ENDING, R.EXISTS),
        (ENDING, replace(ENDING, **OPEN), R.EXISTS),
        (replace(VOIDING, **OPEN), VOIDING, R.EXISTS),
        (VOIDING, replace(VOIDING, **OPEN), R.EXISTS),
        # All is another amount than one that is given, even where they come to the same.
        (replace(ENDING, **ALL), replace(ENDING, amount_minor=10), R.EXISTS_WITH_DIFFERENT_AMOUNT),
        (replace(ENDING, amount_minor=10), replace(ENDING, **ALL), R.EXISTS_WITH_DIFFERENT_AMOUNT),
        (ENDING, replace(ENDING, **ALL), R.EXISTS_WITH_DIFFERENT_AMOUNT),
        (VOIDING, replace(VOIDING, **ALL), R.EXISTS_WITH_DIFFERENT_AMOUNT),
        # Elsewhere than in the end of a hold nothing can be left open.
        (FIRST, replace(FIRST, debit_account_id=""), R.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID),
        (FIRST, replace(FIRST, credit_account_id=""), R.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID),
        (FIRST, replace(FIRST, code=0), R.EXISTS_WITH_DIFFERENT_CODE),
    ],
)
def test_what_is_left_open(first: Transfer, second: Transfer, result: TransferResult) -> None:
    assert again(first, second) is result


@pytest.mark.parametrize(
    ("cap", "moved", "caps_that_exist", "cap_that_differs"),
    [
        (30, 20, [30, 20, 21, 1000, None], 19),
        (20, 20, [20, 1000, None], 19),
        (10, 10, [10, 11, 30, None], 9),
        (None, 20, [None, 20, 2**63 - 1], 19),
    ],
)
@pytest.mark.parametrize("kind", [Kind.POSTED, Kind.PENDING])
@pytest.mark.parametrize(
    "flags",
    [TransferFlags(balancing_debit=True), TransferFlags(True, True)],
    ids=["debit", "both"],
)
def test_a_balancing_transfer_exists_for_every_cap_that_allows_what_moved(
    cap: int | None,
    moved: int,
    caps_that_exist: list[int | None],
    cap_that_differs: int,
    kind: Kind,
    flags: TransferFlags,
) -> None:
    first = replace(FIRST, kind=kind, flags=flags, **_capped(cap))
    books = ledger()
    done = books.post([first])
    assert done.postings[0].transfer.amount_minor == moved
    assert done.postings[0].transfer.asked_all == (cap is None)
    for other in caps_that_exist:
        assert again(first, replace(first, **_capped(other))) is R.EXISTS
    less = replace(first, **_capped(cap_that_differs))
    assert again(first, less) is R.EXISTS_WITH_DIFFERENT_AMOUNT


def _capped(cap: int | None) -> dict[str, Any]:
    return ALL if cap is None else {"amount_minor": cap, "currency_code": "USD"}


@pytest.mark.parametrize("first", SORTS.values(), ids=SORTS)
def test_a_burnt_id_answers_whatever_is_sent_again(first: Transfer) -> None:
    books = ledger()
    lost = replace(
        first, kind=Kind.POST_PENDING, flags=TransferFlags(), timeout_ms=0, not_before=None
    )
    assert send(books, replace(lost, pending_id=UUID(int=77))) is R.PENDING_TRANSFER_NOT_FOUND
    verdict = books.post([first]).verdicts[0]
    assert verdict.result is R.ID_ALREADY_FAILED
    assert verdict.original is R.PENDING_TRANSFER_NOT_FOUND


@pytest.mark.parametrize(
    ("plain", "digest"),
    [
        (Transfer(UUID(int=1), "a", "b", "USD", 10), "cd0568dd88f320abf1bdcf75d23d506f"),
        (
            Transfer(
                UUID(int=2),
                "receivable:acme:USD",
                "revenue:llm.requests:USD",
                "USD",
                2**63 - 1,
                code=65535,
                linked=True,
                effective_at=MORNING,
                metadata={"z": 'ä|"', "a": "1"},
            ),
            "7aafce2cf87b504aeb34c94d82824cb6",
        ),
    ],
)
def test_a_plain_transfer_keeps_the_fingerprint_of_the_first_release(
    plain: Transfer, digest: str
) -> None:
    assert fingerprint(plain).hex() == digest


def test_fingerprints_tell_all_contents_apart() -> None:
    contents = {
        str(content): content
        for first in SORTS.values()
        for content in (first, *(replace(first, **change) for _, change in changes(first)))
    }
    assert len({fingerprint(content) for content in contents.values()}) == len(contents)
    # The id is the key, and what it came to is no part of what was sent.
    assert fingerprint(replace(FIRST, transfer_id=HOLD)) == fingerprint(FIRST)
    assert fingerprint(replace(ENDING, asked_all=True)) == fingerprint(ENDING)
    # Nothing is an amount, and not all.
    nothing, everything = (replace(VOIDING, amount_minor=amount) for amount in (0, None))
    assert fingerprint(nothing) != fingerprint(everything)
