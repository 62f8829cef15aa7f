"""Tables of what each sort of transfer is refused for, and of which refusal comes first.

A fault is a change of the books and of a sound transfer that breaks one rule. Two faults at once break two rules, and
the first of the contract's list must be answered; the plain model says whether both are really broken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations, pairwise
from typing import Any
from uuid import UUID

import pytest

from services.ledger.domain.accounts import NO_LIMITS, AccountType, Flags, Limits
from services.ledger.domain.holds import Hold, HoldState
from services.ledger.domain.transfers import (
    BURNING,
    Kind,
    Malformed,
    Reference,
    Transfer,
    TransferFlags,
    TransferResult,
)
from tests.support.ledger.books import NOW, Ledger

R = TransferResult
MAX = 2**63 - 1
DAY = timedelta(days=1)
ORDER = list(R)
THIS, HOLD, PLAIN = (UUID(int=number) for number in (1, 2, 3))
Change = Callable[[Ledger], None]


@dataclass(frozen=True)
class Fault:
    """What breaks one rule: a change of the books, of the transfer, of its flags; an account that is missing."""

    books: Change = lambda _: None
    asked: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    missing: str = ""


Faults = dict[TransferResult, Fault]


def account(name: str, **change: Any) -> Change:
    def apply(books: Ledger) -> None:
        books.balances[name] = replace(books.balances[name], **change)

    return apply


def flagged(name: str, **flags: bool) -> Change:
    def apply(books: Ledger) -> None:
        account(name, flags=replace(books.balances[name].flags, **flags))(books)

    return apply


def closed(name: str) -> Change:
    def apply(books: Ledger) -> None:
        flagged(name, closed=True)(books)
        account(name, closed=True)(books)

    return apply


def held(debit: str, credit: str, amount: int) -> Change:
    def apply(books: Ledger) -> None:
        hold_id = UUID(int=50 + len(books.holds))
        books.holds[hold_id] = Hold(hold_id, debit, credit, "USD", 0, amount, amount)
        books.balances[debit].debits_pending += amount
        books.balances[credit].credits_pending += amount

    return apply


def hold(**change: Any) -> Change:
    def apply(books: Ledger) -> None:
        books.holds[HOLD] = replace(books.holds[HOLD], **change)

    return apply


def funded_now(
    name: str, kind: AccountType = AccountType.ASSET, limits: Limits = NO_LIMITS, **flags: bool
) -> Change:
    """An account with limits at every instant that has room for anything from now on, and had none before."""

    def apply(books: Ledger) -> None:
        flagged(name, limits_at_every_instant=True, **flags)(books)
        is_debit = name == "b"
        account(
            name,
            type=kind,
            limits=limits,
            **{"debits_posted" if is_debit else "credits_posted": 1_000},
        )(books)
        books.moves[name] = ((books.now, 1_000 if is_debit else -1_000),)

    return apply


def closed_now(books: Ledger) -> None:
    books.closed_through["USD"] = books.now


def ended(state: HoldState) -> Change:
    def apply(books: Ledger) -> None:
        left = books.holds[HOLD].remaining_minor
        books.balances["a"].debits_pending -= left
        books.balances["b"].credits_pending -= left
        hold(state=state, remaining_minor=0)(books)

    return apply


COMMON: Faults = {
    R.ACCOUNTS_MUST_BE_DIFFERENT: Fault(asked={"credit_account_id": "a"}),
    R.PENDING_ID_MUST_BE_ZERO: Fault(asked={"pending_id": HOLD}),
    R.AMOUNT_MUST_BE_POSITIVE: Fault(asked={"amount_minor": 0}),
    R.DEBIT_ACCOUNT_NOT_FOUND: Fault(missing="a"),
    R.CREDIT_ACCOUNT_NOT_FOUND: Fault(missing="b"),
    R.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY: Fault(account("b", currency_code="EUR")),
    R.AMOUNT_MUST_HAVE_THE_CURRENCY_OF_THE_ACCOUNTS: Fault(asked={"currency_code": "GBP"}),
    R.DEBIT_ACCOUNT_CLOSED: Fault(closed("a")),
    R.CREDIT_ACCOUNT_CLOSED: Fault(closed("b")),
    R.OVERFLOWS_DEBITS: Fault(account("a", debits_posted=MAX, credits_posted=MAX)),
    R.OVERFLOWS_CREDITS: Fault(account("b", debits_posted=MAX, credits_posted=MAX)),
    R.EXCEEDS_CREDITS: Fault(flagged("a", debits_must_not_exceed_credits=True)),
    R.EXCEEDS_DEBITS: Fault(flagged("b", credits_must_not_exceed_debits=True)),
    R.DEBIT_ACCOUNT_BELOW_FLOOR: Fault(
        account("a", type=AccountType.LIABILITY, limits=Limits(floor_minor=-9))
    ),
    R.DEBIT_ACCOUNT_ABOVE_CEILING: Fault(
        account("a", type=AccountType.EXPENSE, limits=Limits(ceiling_minor=9))
    ),
    R.CREDIT_ACCOUNT_BELOW_FLOOR: Fault(
        account("b", type=AccountType.ASSET, limits=Limits(floor_minor=-9))
    ),
    R.CREDIT_ACCOUNT_ABOVE_CEILING: Fault(
        account("b", type=AccountType.INCOME, limits=Limits(ceiling_minor=9))
    ),
}
NO_HOLD: Faults = {
    R.FLAGS_ARE_MUTUALLY_EXCLUSIVE: Fault(flags={"multi_capture": True}),
    R.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER: Fault(asked={"timeout_ms": 1}),
    R.CLOSING_TRANSFER_MUST_BE_PENDING: Fault(flags={"closing_credit": True}),
    R.EFFECTIVE_AT_IN_CLOSED_PERIOD: Fault(closed_now),
}
ONLY_HOLD: Faults = {
    R.NOT_BEFORE_RESERVED_FOR_POSTED_TRANSFER: Fault(asked={"not_before": NOW}),
    R.OVERFLOWS_DEBITS_PENDING: Fault(held("a", "c", MAX)),
    R.OVERFLOWS_CREDITS_PENDING: Fault(held("c", "b", MAX)),
    R.OVERFLOWS_TIMEOUT: Fault(asked={"timeout_ms": 10**15}),
}
# The accounts are even: there is nothing to balance.
BALANCED: Faults = {
    R.EXCEEDS_CREDITS: Fault(flags={"balancing_debit": True}),
    R.EXCEEDS_DEBITS: Fault(flags={"balancing_credit": True}),
}
ENDS: Faults = {
    R.NOT_BEFORE_RESERVED_FOR_POSTED_TRANSFER: Fault(asked={"not_before": NOW}),
    R.FLAGS_ARE_MUTUALLY_EXCLUSIVE: Fault(flags={"balancing_debit": True}),
    R.PENDING_ID_MUST_NOT_BE_ZERO: Fault(asked={"pending_id": None}),
    R.PENDING_ID_MUST_BE_DIFFERENT: Fault(asked={"pending_id": THIS}),
    R.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER: Fault(asked={"timeout_ms": 1}),
    R.PENDING_TRANSFER_NOT_FOUND: Fault(asked={"pending_id": UUID(int=77)}),
    R.PENDING_TRANSFER_NOT_PENDING: Fault(asked={"pending_id": PLAIN}),
    R.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID: Fault(asked={"debit_account_id": "c"}),
    R.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID: Fault(asked={"credit_account_id": "c"}),
    R.PENDING_TRANSFER_HAS_DIFFERENT_CURRENCY: Fault(asked={"currency_code": "EUR"}),
    R.PENDING_TRANSFER_HAS_DIFFERENT_CODE: Fault(asked={"code": 4}),
    R.EXCEEDS_PENDING_TRANSFER_AMOUNT: Fault(asked={"amount_minor": 11}),
    R.PENDING_TRANSFER_ALREADY_POSTED: Fault(ended(HoldState.POSTED)),
    R.PENDING_TRANSFER_ALREADY_VOIDED: Fault(ended(HoldState.VOIDED)),
    R.PENDING_TRANSFER_EXPIRED: Fault(hold(expires_at=NOW)),
}

# Even once all is added up, but not yesterday: what makes it so takes effect now.
AT_AN_INSTANT: Faults = {
    R.EXCEEDS_CREDITS: Fault(funded_now("a", debits_must_not_exceed_credits=True)),
    R.EXCEEDS_DEBITS: Fault(funded_now("b", credits_must_not_exceed_debits=True)),
    R.DEBIT_ACCOUNT_BELOW_FLOOR: Fault(
        funded_now("a", kind=AccountType.LIABILITY, limits=Limits(floor_minor=-3))
    ),
    R.DEBIT_ACCOUNT_ABOVE_CEILING: Fault(
        funded_now("a", kind=AccountType.EXPENSE, limits=Limits(ceiling_minor=3))
    ),
    R.CREDIT_ACCOUNT_BELOW_FLOOR: Fault(
        funded_now("b", kind=AccountType.ASSET, limits=Limits(floor_minor=-3))
    ),
    R.CREDIT_ACCOUNT_ABOVE_CEILING: Fault(
        funded_now("b", kind=AccountType.INCOME, limits=Limits(ceiling_minor=3))
    ),
}

POSTED = Transfer(THIS, "a", "b", "USD", 10, code=3)
PENDING = replace(POSTED, kind=Kind.PENDING)
POST = Transfer(THIS, "a", "b", "USD", 4, code=3, kind=Kind.POST_PENDING, pending_id=HOLD)
VOID = replace(POST, kind=Kind.VOID_PENDING, amount_minor=10)

# Each branch: a sound transfer, and all that it can be refused for.
BRANCHES: dict[str, tuple[Transfer, Faults]] = {
    "posted": (POSTED, COMMON | NO_HOLD),
    "pending": (PENDING, COMMON | ONLY_HOLD),
    "balancing": (POSTED, COMMON | NO_HOLD | BALANCED),
    "balancing hold": (PENDING, COMMON | ONLY_HOLD | BALANCED),
    "post": (
        POST,
        ENDS
        | {
            R.AMOUNT_MUST_BE_POSITIVE: Fault(asked={"amount_minor": 0}),
            R.DEBIT_ACCOUNT_CLOSED: Fault(closed("a")),
            R.CREDIT_ACCOUNT_CLOSED: Fault(closed("b")),
            R.EFFECTIVE_AT_IN_CLOSED_PERIOD: Fault(closed_now),
        },
    ),
    # What an account without limits at every instant is never refused for when a hold is posted.
    "backdated post": (
        replace(POST, effective_at=NOW - DAY),
        {
            R.DEBIT_ACCOUNT_CLOSED: Fault(closed("a")),
            R.CREDIT_ACCOUNT_CLOSED: Fault(closed("b")),
            R.EFFECTIVE_AT_IN_CLOSED_PERIOD: Fault(closed_now),
            **AT_AN_INSTANT,
        },
    ),
    "backdated": (replace(POSTED, effective_at=NOW - DAY), COMMON | NO_HOLD | AT_AN_INSTANT),
    "void": (
        VOID,
        ENDS | {R.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT: Fault(asked={"amount_minor": 9})},
    ),
}
CASES = [
    pytest.param(sound, faults, result, id=f"{name}-{result.name}")
    for name, (sound, faults) in BRANCHES.items()
    for result in sorted(faults, key=ORDER.index)
]


def ledger() -> Ledger:
    """Accounts a, b, c; a plain transfer; a hold of 10 from a to b."""
    books = Ledger()
    books.open("a", "b", "c")
    pending = Transfer(HOLD, "a", "b", "USD", 10, code=3, kind=Kind.PENDING)
    books.post([pending, Transfer(PLAIN, "c", "a", "USD", 1)])
    for name in "abc":
        # As if nothing was posted, so that what a fault sets is all that there is.
        books.balances[name] = replace(
            books.balances[name], debits_posted=0, credits_posted=0, last_seq=0
        )
    books.moves = {}
    return books


def faulty(sound: Transfer, *faults: Fault) -> tuple[Ledger, Transfer]:
    """Books without the hold where nothing ends one: it would count against the limits."""
    books = ledger()
    if sound.pending_id is None:
        ended(HoldState.VOIDED)(books)
    asked, flags = sound, TransferFlags()
    for fault in faults:
        fault.books(books)
        asked, flags = replace(asked, **fault.asked), replace(flags, **fault.flags)
    for fault in faults:
        books.balances.pop(fault.missing, None)
    return books, replace(asked, flags=flags)


def meet(one: Fault, other: Fault) -> bool:
    """True when two faults change different fields of the transfer."""
    return not set(one.asked) & set(other.asked)


def test_each_branch_is_sound_without_a_fault() -> None:
    for sound, _ in BRANCHES.values():
        books, asked = faulty(sound)
        assert books.post([asked]).verdicts[0].result is R.OK


@pytest.mark.parametrize(("sound", "faults", "result"), CASES)
def test_each_fault_alone(sound: Transfer, faults: Faults, result: TransferResult) -> None:
    books, asked = faulty(sound, faults[result])
    done = books.post([asked])
    assert done.verdicts[0].result is result
    assert not done.postings
    assert set(done.burnt) == ({THIS} if result in BURNING else set())


@cache
def both_broken(name: str) -> dict[tuple[TransferResult, TransferResult], tuple[Fault, ...]]:
    """The pairs of a branch's rules that one transfer can break, sooner and later, with the faults that do it."""
    sound, faults = BRANCHES[name]
    pairs = {}
    for sooner, later in combinations(sorted(faults, key=ORDER.index), 2):
        tries: list[tuple[Fault, ...]] = [(faults[sooner],), (faults[later],)]
        if meet(faults[sooner], faults[later]):
            tries.append((faults[sooner], faults[later]))
        for these in tries:
            books, asked = faulty(sound, *these)
            if {sooner, later} <= set(books.model().broken(asked)):
                pairs[sooner, later] = these
    return pairs


@pytest.mark.parametrize("name", BRANCHES)
def test_of_two_faults_the_first_is_answered(name: str) -> None:
    for (sooner, later), these in both_broken(name).items():
        books, asked = faulty(BRANCHES[name][0], *these)
        assert books.post([asked]).verdicts[0].result is sooner, (sooner, later)


# Neighbours of the order that no transfer breaks both.
ONE_ACCOUNT_MISSING = (R.CREDIT_ACCOUNT_NOT_FOUND, R.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY)
ONE_WAY_OF_A_DEBIT = (R.DEBIT_ACCOUNT_BELOW_FLOOR, R.DEBIT_ACCOUNT_ABOVE_CEILING)
ONE_WAY_OF_A_CREDIT = (R.CREDIT_ACCOUNT_BELOW_FLOOR, R.CREDIT_ACCOUNT_ABOVE_CEILING)
MOVE = {ONE_ACCOUNT_MISSING, ONE_WAY_OF_A_DEBIT, ONE_WAY_OF_A_CREDIT}
# Where nothing balances nothing moves, and what does not move breaks no limit and no range.
NOTHING_NEARS_A_LIMIT = (R.EXCEEDS_DEBITS, R.DEBIT_ACCOUNT_BELOW_FLOOR)
NOTHING_OVERFLOWS = (R.OVERFLOWS_CREDITS, R.EXCEEDS_CREDITS)
# One pending_id names one thing, which has ended in one way.
END = {
    (R.PENDING_ID_MUST_NOT_BE_ZERO, R.PENDING_ID_MUST_BE_DIFFERENT),
    (R.PENDING_TRANSFER_NOT_FOUND, R.PENDING_TRANSFER_NOT_PENDING),
    (
        R.PENDING_TRANSFER_NOT_PENDING,
        R.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID,
    ),
    (R.PENDING_TRANSFER_ALREADY_POSTED, R.PENDING_TRANSFER_ALREADY_VOIDED),
}
APART = {
    "posted": MOVE,
    "pending": MOVE,
    "balancing": MOVE | {NOTHING_NEARS_A_LIMIT, NOTHING_OVERFLOWS},
    "balancing hold": MOVE | {NOTHING_NEARS_A_LIMIT},
    "post": END,
    "backdated post": {ONE_WAY_OF_A_DEBIT, ONE_WAY_OF_A_CREDIT},
    "backdated": MOVE,
    "void": END,
}


@pytest.mark.parametrize("name", BRANCHES)
def test_all_other_neighbours_were_broken_at_once(name: str) -> None:
    neighbours = set(pairwise(sorted(BRANCHES[name][1], key=ORDER.index)))
    assert neighbours - set(both_broken(name)) == APART[name]


def test_holds_and_voids_are_made_in_closed_periods() -> None:
    for sound in (PENDING, VOID):
        books, asked = faulty(sound, NO_HOLD[R.EFFECTIVE_AT_IN_CLOSED_PERIOD])
        assert books.post([asked]).verdicts[0].result is R.OK


def test_a_period_is_closed_through_its_last_instant_and_for_its_currency() -> None:
    for currency, at, result in (
        ("USD", NOW, R.EFFECTIVE_AT_IN_CLOSED_PERIOD),
        ("USD", NOW - DAY, R.EFFECTIVE_AT_IN_CLOSED_PERIOD),
        ("USD", NOW + timedelta(microseconds=1), R.OK),
        ("EUR", NOW - DAY, R.OK),
    ):
        books, asked = faulty(replace(POSTED, effective_at=at))
        books.closed_through[currency] = NOW
        assert books.post([asked]).verdicts[0].result is result


def test_the_final_balance_decides_unless_an_account_asks_for_more() -> None:
    books, asked = faulty(replace(POSTED, effective_at=NOW - DAY), AT_AN_INSTANT[R.EXCEEDS_CREDITS])
    flagged("a", limits_at_every_instant=False)(books)
    assert books.post([asked]).verdicts[0].result is R.OK


def test_what_takes_effect_later_cannot_be_spent_before_and_holds_count_from_now_on() -> None:
    books = Ledger()
    books.open(
        "a", "b", flags=Flags(True, limits_at_every_instant=True), kind=AccountType.LIABILITY
    )
    books.open("c")

    def post(debit: str, credit: str, amount: int, days: int, kind: Kind = Kind.POSTED) -> R:
        at = NOW + days * DAY
        item = Transfer(UUID(int=len(books.known) + 1), debit, credit, "USD", amount)
        return books.post([replace(item, effective_at=at, kind=kind)]).verdicts[0].result

    assert post("c", "a", 10, 1) is R.OK
    assert post("a", "c", 1, 0) is R.EXCEEDS_CREDITS
    assert post("a", "c", 1, 1, Kind.PENDING) is R.EXCEEDS_CREDITS
    assert post("a", "c", 10, 2) is R.OK
    assert post("c", "b", 10, -3) is R.OK
    assert post("b", "c", 8, -1, Kind.PENDING) is R.OK
    # Of yesterday all ten were there, of which two are left since the hold was made.
    assert post("b", "c", 3, -2) is R.EXCEEDS_CREDITS
    assert post("b", "c", 2, -2) is R.OK


@pytest.mark.parametrize("refusal", [R.DEBIT_ACCOUNT_CLOSED, R.CREDIT_ACCOUNT_CLOSED])
def test_a_void_is_not_refused_for_closed_accounts(refusal: TransferResult) -> None:
    books, asked = faulty(VOID, COMMON[refusal])
    assert books.post([asked]).verdicts[0].result is R.OK


# What comes before all rules of content: the chain, and what is known of the id.

LINKED = replace(POSTED, linked=True)
LOST = replace(POSTED, debit_account_id="missing")
NEXT = replace(POSTED, transfer_id=UUID(int=9))
SOON: dict[str, Any] = {"not_before": NOW + timedelta(milliseconds=1)}
DIFFERENCES: dict[TransferResult, dict[str, Any]] = {
    R.EXISTS_WITH_DIFFERENT_LINKED: {"linked": True},
    R.EXISTS_WITH_DIFFERENT_KIND: {"kind": Kind.PENDING},
    R.EXISTS_WITH_DIFFERENT_FLAGS: {"flags": TransferFlags(balancing_debit=True)},
    R.EXISTS_WITH_DIFFERENT_PENDING_ID: {"pending_id": HOLD},
    R.EXISTS_WITH_DIFFERENT_TIMEOUT: {"timeout_ms": 1},
    R.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID: {"debit_account_id": "c"},
    R.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID: {"credit_account_id": "a"},
    R.EXISTS_WITH_DIFFERENT_AMOUNT: {"amount_minor": 0},
    R.EXISTS_WITH_DIFFERENT_CODE: {"code": 4},
    R.EXISTS_WITH_DIFFERENT_METADATA: {"metadata": {"k": "v"}},
    R.EXISTS_WITH_DIFFERENT_EFFECTIVE_AT: {"effective_at": datetime(2026, 1, 1, tzinfo=UTC)},
    R.EXISTS_WITH_DIFFERENT_NOT_BEFORE: {"not_before": datetime(2027, 1, 1, tzinfo=UTC)},
    R.EXISTS_WITH_DIFFERENT_REFERENCE: {"reference": Reference("charge", "chg_1")},
}
BATCHES: list[tuple[Sequence[Transfer | Malformed], list[TransferResult]]] = [
    ([POSTED], [R.OK]),
    # An open chain comes before all that is wrong with its members.
    ([LINKED], [R.LINKED_EVENT_CHAIN_OPEN]),
    ([Malformed("bad", True)], [R.LINKED_EVENT_CHAIN_OPEN]),
    (
        [Malformed("bad", True), replace(LOST, linked=True)],
        [R.LINKED_EVENT_FAILED, R.LINKED_EVENT_CHAIN_OPEN],
    ),
    ([POSTED, LINKED], [R.OK, R.LINKED_EVENT_CHAIN_OPEN]),
    # The first member that is refused has its own verdict, whatever is wrong with later ones.
    (
        [Malformed("bad", True), Malformed("bad", False)],
        [R.INVALID_TRANSFER, R.LINKED_EVENT_FAILED],
    ),
    ([replace(LINKED, amount_minor=0), LOST], [R.AMOUNT_MUST_BE_POSITIVE, R.LINKED_EVENT_FAILED]),
    ([LINKED, Malformed("bad", False)], [R.LINKED_EVENT_FAILED, R.INVALID_TRANSFER]),
    # The same id in one chain comes before what differs, and before what else is wrong.
    ([LINKED, POSTED], [R.LINKED_EVENT_FAILED, R.DUPLICATE_IN_CHAIN]),
    ([LINKED, replace(LOST, amount_minor=0)], [R.LINKED_EVENT_FAILED, R.DUPLICATE_IN_CHAIN]),
    # A burnt id comes before what is wrong with the transfer.
    ([LOST, POSTED], [R.DEBIT_ACCOUNT_NOT_FOUND, R.ID_ALREADY_FAILED]),
    ([LOST, replace(LOST, amount_minor=0)], [R.DEBIT_ACCOUNT_NOT_FOUND, R.ID_ALREADY_FAILED]),
    ([POSTED, POSTED], [R.OK, R.EXISTS]),
    # What is due later waits; what was due is posted.
    ([replace(POSTED, **SOON)], [R.SCHEDULED]),
    ([replace(POSTED, not_before=NOW)], [R.OK]),
    ([replace(POSTED, **SOON)] * 2, [R.SCHEDULED] * 2),
    ([replace(POSTED, **SOON), POSTED], [R.SCHEDULED, R.EXISTS_WITH_DIFFERENT_NOT_BEFORE]),
    ([replace(LINKED, **SOON), replace(NEXT, **SOON)] * 2, [R.SCHEDULED] * 4),
    # A chain is due at one time, be it over or to come.
    (
        [replace(LINKED, **SOON), NEXT],
        [R.LINKED_EVENT_FAILED, R.LINKED_EVENT_HAS_DIFFERENT_NOT_BEFORE],
    ),
    (
        [replace(LINKED, not_before=NOW), NEXT],
        [R.LINKED_EVENT_FAILED, R.LINKED_EVENT_HAS_DIFFERENT_NOT_BEFORE],
    ),
    (
        [LINKED, replace(NEXT, kind=Kind.PENDING, **SOON)],
        [R.LINKED_EVENT_FAILED, R.NOT_BEFORE_RESERVED_FOR_POSTED_TRANSFER],
    ),
    (
        [LINKED, replace(NEXT, amount_minor=0, **SOON)],
        [R.LINKED_EVENT_FAILED, R.LINKED_EVENT_HAS_DIFFERENT_NOT_BEFORE],
    ),
    (
        [replace(LINKED, **SOON), replace(LOST, **SOON)],
        [R.LINKED_EVENT_FAILED, R.DUPLICATE_IN_CHAIN],
    ),
    # A chain of which one member waits already hangs on nothing.
    (
        [replace(NEXT, **SOON), replace(LINKED, **SOON), replace(NEXT, **SOON)],
        [R.SCHEDULED, R.LINKED_EVENT_FAILED, R.SCHEDULED],
    ),
    # A chain that mixes old and new is refused.
    ([NEXT, LINKED, NEXT], [R.OK, R.LINKED_EVENT_FAILED, R.EXISTS]),
    *(
        (
            [POSTED, replace(POSTED, **change), *([NEXT] if "linked" in change else [])],
            [R.OK, result, *([R.LINKED_EVENT_FAILED] if "linked" in change else [])],
        )
        for result, change in DIFFERENCES.items()
    ),
]


@pytest.mark.parametrize(("batch", "expected"), BATCHES)
def test_chains_and_known_ids(
    batch: Sequence[Transfer | Malformed], expected: list[TransferResult]
) -> None:
    assert [verdict.result for verdict in ledger().post(batch).verdicts] == expected


@pytest.mark.parametrize(("sound", "faults", "result"), CASES)
def test_a_known_id_comes_before_every_fault(
    sound: Transfer, faults: Faults, result: TransferResult
) -> None:
    books, asked = faulty(sound)
    assert books.post([asked]).verdicts[0].result is R.OK
    books.balances.pop("a")
    assert books.post([asked]).verdicts[0].result is R.EXISTS
    _, wrong = faulty(sound, faults[result])
    assert books.post([wrong]).verdicts[0].result in {R.EXISTS, *DIFFERENCES}
    burnt = Ledger()
    lost = replace(POSTED, debit_account_id="missing")
    assert burnt.post([lost]).verdicts[0].result is R.DEBIT_ACCOUNT_NOT_FOUND
    assert burnt.post([wrong]).verdicts[0].result is R.ID_ALREADY_FAILED


def test_every_result_is_reached() -> None:
    reached = {v.result for batch, _ in BATCHES for v in ledger().post(batch).verdicts}
    for sound, faults in BRANCHES.values():
        for fault in faults.values():
            books, asked = faulty(sound, fault)
            reached.add(books.post([asked]).verdicts[0].result)
    # That one was cancelled is answered to who sends it again.
    assert reached == set(R) - {R.CANCELLED}


# Holds that were posted in part, have ended, or close an account.

PART = TransferFlags(multi_capture=True)
GIVEN_UP = timedelta(milliseconds=5)


def half_posted(flags: TransferFlags) -> Ledger:
    """Books with a hold of 10 for 5 ms, of which 6 were posted."""
    books = Ledger()
    books.open("a", "b")
    hold = Transfer(HOLD, "a", "b", "USD", 10, kind=Kind.PENDING, timeout_ms=5, flags=flags)
    part = Transfer(PLAIN, "", "", "USD", 6, kind=Kind.POST_PENDING, pending_id=HOLD)
    assert [verdict.result for verdict in books.post([hold, part]).verdicts] == [R.OK, R.OK]
    return books


@pytest.mark.parametrize(
    ("kind", "amount", "open_in_parts", "due_in_parts", "ended"),
    [
        (Kind.POST_PENDING, None, R.OK, R.PENDING_TRANSFER_EXPIRED, "POSTED"),
        (Kind.POST_PENDING, 4, R.OK, R.PENDING_TRANSFER_EXPIRED, "POSTED"),
        (
            Kind.POST_PENDING,
            5,
            R.EXCEEDS_PENDING_TRANSFER_AMOUNT,
            R.PENDING_TRANSFER_EXPIRED,
            "POSTED",
        ),
        (Kind.POST_PENDING, 11, *[R.EXCEEDS_PENDING_TRANSFER_AMOUNT] * 2, "EXCEEDS"),
        (Kind.POST_PENDING, 0, R.AMOUNT_MUST_BE_POSITIVE, R.PENDING_TRANSFER_EXPIRED, "POSTED"),
        (Kind.POST_PENDING, -1, R.AMOUNT_MUST_BE_POSITIVE, R.PENDING_TRANSFER_EXPIRED, "POSTED"),
        (Kind.VOID_PENDING, None, R.OK, R.PENDING_TRANSFER_EXPIRED, "POSTED"),
        (Kind.VOID_PENDING, 4, R.OK, R.PENDING_TRANSFER_EXPIRED, "DIFFERENT"),
        (
            Kind.VOID_PENDING,
            3,
            R.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT,
            R.PENDING_TRANSFER_EXPIRED,
            "DIFFERENT",
        ),
        (
            Kind.VOID_PENDING,
            10,
            R.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT,
            R.PENDING_TRANSFER_EXPIRED,
            "POSTED",
        ),
        (Kind.VOID_PENDING, 11, *[R.EXCEEDS_PENDING_TRANSFER_AMOUNT] * 2, "EXCEEDS"),
    ],
)
def test_what_is_left_of_a_hold_that_was_posted_in_part(
    kind: Kind,
    amount: int | None,
    open_in_parts: TransferResult,
    due_in_parts: TransferResult,
    ended: str,
) -> None:
    currency = "" if amount is None else "USD"
    asked = Transfer(THIS, "", "", currency, amount, kind=kind, pending_id=HOLD)

    def answer(books: Ledger) -> TransferResult:
        return books.post([asked]).verdicts[0].result

    assert answer(half_posted(PART)) is open_in_parts
    # Whether it was given up already makes no difference.
    due, given_up = half_posted(PART), half_posted(PART)
    due.now = given_up.now = NOW + GIVEN_UP
    given_up.expire()
    assert answer(due) is answer(given_up) is due_in_parts
    in_one = {
        "POSTED": R.PENDING_TRANSFER_ALREADY_POSTED,
        "DIFFERENT": R.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT,
        "EXCEEDS": R.EXCEEDS_PENDING_TRANSFER_AMOUNT,
    }
    assert answer(half_posted(TransferFlags())) is in_one[ended]


def test_a_hold_stands_until_its_time_is_over() -> None:
    for milliseconds, result in ((4, R.OK), (5, R.PENDING_TRANSFER_EXPIRED)):
        books = half_posted(PART)
        books.now = NOW + timedelta(milliseconds=milliseconds)
        rest = Transfer(THIS, "", "", "", None, kind=Kind.POST_PENDING, pending_id=HOLD)
        assert books.post([rest]).verdicts[0].result is result


def test_the_longest_timeout_ends_with_the_year_9999() -> None:
    longest = (datetime.max.replace(tzinfo=UTC) - NOW) // timedelta(milliseconds=1)
    for timeout_ms, result in ((longest, R.OK), (longest + 1, R.OVERFLOWS_TIMEOUT)):
        books = ledger()
        asked = replace(PENDING, timeout_ms=timeout_ms)
        assert books.post([asked]).verdicts[0].result is result
        ends = [hold.expires_at for hold in books.holds.values() if hold.transfer_id == THIS]
        assert [end and end.year for end in ends] == ([9999] if result is R.OK else [])


@pytest.mark.parametrize("amount", [10, 0])
@pytest.mark.parametrize("by_time", [False, True])
def test_a_closing_hold_closes_until_it_is_voided_or_expires(amount: int, by_time: bool) -> None:
    books = ledger()
    closing = replace(
        PENDING,
        amount_minor=amount,
        timeout_ms=5,
        flags=TransferFlags(closing_debit=True, closing_credit=True),
    )

    def answer(number: int, **change: Any) -> TransferResult:
        asked = replace(POSTED, transfer_id=UUID(int=number), **change)
        return books.post([asked]).verdicts[0].result

    def end(number: int, kind: Kind, hold: UUID) -> TransferResult:
        return (
            books.post(
                [
                    replace(
                        VOID,
                        transfer_id=UUID(int=number),
                        kind=kind,
                        pending_id=hold,
                        amount_minor=None,
                        currency_code="",
                    )
                ]
            )
            .verdicts[0]
            .result
        )

    assert books.post([closing]).verdicts[0].result is R.OK
    assert answer(10) is R.DEBIT_ACCOUNT_CLOSED
    assert answer(11, debit_account_id="c") is R.CREDIT_ACCOUNT_CLOSED
    assert answer(12, credit_account_id="c", kind=Kind.PENDING) is R.DEBIT_ACCOUNT_CLOSED
    # A closed account gets no entry, not even of a hold: one can be voided only.
    assert end(13, Kind.POST_PENDING, HOLD) is R.DEBIT_ACCOUNT_CLOSED
    nothing = R.DEBIT_ACCOUNT_CLOSED if amount else R.AMOUNT_MUST_BE_POSITIVE
    assert end(14, Kind.POST_PENDING, THIS) is nothing
    assert end(15, Kind.VOID_PENDING, HOLD) is R.OK
    assert answer(16) is R.DEBIT_ACCOUNT_CLOSED, "another hold was voided than the one that closes"
    if by_time:
        books.now = NOW + GIVEN_UP
        books.expire()
    else:
        assert end(17, Kind.VOID_PENDING, THIS) is R.OK
    assert answer(18) is R.OK
    assert all(b.debits_pending == b.credits_pending == 0 for b in books.balances.values())


@pytest.mark.parametrize("side", ["closing_debit", "closing_credit"])
def test_a_hold_opens_what_it_has_closed_and_nothing_else(side: str) -> None:
    books = ledger()
    closing = replace(PENDING, flags=TransferFlags(**{side: True}))
    assert books.post([closing]).verdicts[0].result is R.OK
    name = "a" if side == "closing_debit" else "b"

    def void(number: int, pending_id: UUID) -> set[str]:
        asked = replace(VOID, transfer_id=UUID(int=number), pending_id=pending_id)
        assert books.post([asked]).verdicts[0].result is R.OK
        return {b.account_id for b in books.balances.values() if b.closed}

    assert void(10, HOLD) == {name}
    assert void(11, THIS) == set()
