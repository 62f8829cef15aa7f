"""Laws of crossings: as many as the balance at the ends of batches makes, each named by the transfer that made it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain.accounts import NO_ACCOUNT_FLAGS, AccountType
from services.ledger.domain.balance import Balance
from services.ledger.domain.holds import HoldState
from services.ledger.domain.monitors import (
    Balances,
    BalanceSide,
    Comparison,
    Crossing,
    Monitor,
    crossings,
    watched,
)
from services.ledger.domain.posting import Books, evaluate
from services.ledger.domain.transfers import Kind, Transfer
from services.runtime.money import Money
from tests.support.ledger.books import NOW

NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class Move:
    """A transfer in few words: posted, held, or what becomes of the last hold that is open."""

    debit: str
    credit: str
    amount: int
    kind: Kind
    linked: bool


MOVES = st.builds(
    Move,
    st.sampled_from(NAMES),
    st.sampled_from([*NAMES, "nobody"]),
    st.integers(1, 6),
    st.sampled_from([Kind.POSTED, Kind.POSTED, Kind.PENDING, Kind.POST_PENDING, Kind.VOID_PENDING]),
    st.booleans(),
)
BATCHES = st.lists(st.lists(MOVES, min_size=1, max_size=6), min_size=1, max_size=8)
MONITORS = st.builds(
    Monitor,
    st.just("m"),
    st.just(""),
    st.sampled_from(["", "a", "b", "x"]),
    st.sampled_from(list(BalanceSide)),
    st.sampled_from(list(Comparison)),
    st.builds(Money, st.sampled_from(["USD", "USD", "USD", "EUR"]), st.integers(-6, 6)),
)


def holds(monitor: Monitor, balance: Balance) -> bool:
    """The condition of a monitor, in the words of the contract."""
    rises = balance.type in (AccountType.ASSET, AccountType.EXPENSE)
    sign = 1 if rises else -1
    posted = sign * (balance.debits_posted - balance.credits_posted)
    held = sign * (balance.debits_pending - balance.credits_pending)
    takes = balance.credits_pending if rises else balance.debits_pending
    shown = {"POSTED": posted, "PENDING": posted + held, "AVAILABLE": posted - takes}
    amount, threshold = shown[monitor.side.name], monitor.threshold.minor_units
    return {
        "BELOW": amount < threshold,
        "ABOVE": amount > threshold,
        "AT_OR_BELOW": amount <= threshold,
        "AT_OR_ABOVE": amount >= threshold,
    }[monitor.comparison.name]


@given(
    batches=BATCHES, monitor=MONITORS, types=st.tuples(*[st.sampled_from(list(AccountType))] * 3)
)
def test_there_are_as_many_crossings_as_the_ends_of_the_batches_make(
    batches: list[list[Move]], monitor: Monitor, types: tuple[AccountType, ...]
) -> None:
    balances = {
        name: Balance(name, "USD", kind, flags=NO_ACCOUNT_FLAGS)
        for name, kind in zip(NAMES, types, strict=True)
    }
    ids = iter(range(1, 1_000))
    opened: list[UUID] = []
    books = Books(balances, NOW, holds={}, prefixes=[monitor.account_prefix])
    for moves in batches:
        batch = [
            _transfer(move, UUID(int=next(ids)), opened, is_last)
            for move, is_last in zip(moves, [False] * (len(moves) - 1) + [True], strict=True)
        ]
        opened += [t.transfer_id for t in batch if t.kind is Kind.PENDING]
        before = {name: holds(monitor, balance) for name, balance in balances.items()}
        done = evaluate(batch, books)
        books = Books(
            balances,
            NOW,
            holds={**books.holds, **done.opened},
            prefixes=books.prefixes,
        )
        told = crossings([monitor], done.trail)
        expected = {
            name
            for name, balance in balances.items()
            if name.startswith(monitor.account_prefix)
            and monitor.threshold.currency_code == "USD"
            and not before[name]
            and holds(monitor, balance)
        }
        assert [each.account_id for each in told] == sorted(expected)
        for each in told:
            assert each.balance_minor == Balances.of(balances[each.account_id]).on(monitor.side)
            assert_named(each, {p.transfer.transfer_id: p.transfer for p in done.postings})
    assert all(hold.state in HoldState for hold in books.holds.values())


def assert_named(crossing: Crossing, posted: dict[UUID, Transfer]) -> None:
    """The transfer was posted, and is one of the account's."""
    transfer = posted[crossing.transfer_id]
    assert crossing.account_id in (transfer.debit_account_id, transfer.credit_account_id)
    assert crossing.balance_minor != crossing.before_minor


def _transfer(move: Move, transfer_id: UUID, opened: list[UUID], is_last: bool) -> Transfer:
    linked = move.linked and not is_last
    if move.kind.ends_hold:
        pending = opened[-1] if opened else UUID(int=5_000)
        return Transfer(
            transfer_id, "", "", "", None, kind=move.kind, pending_id=pending, linked=linked
        )
    credit = "c" if move.credit == move.debit and move.debit != "c" else move.credit
    return Transfer(
        transfer_id, move.debit, credit, "USD", move.amount, kind=move.kind, linked=linked
    )


def batch(*amounts: int) -> list[Transfer]:
    """Transfers to the asset `a`; negative ones from it."""
    return [
        Transfer(UUID(int=n), *(("a", "b") if amount > 0 else ("b", "a")), "USD", abs(amount))
        for n, amount in enumerate(amounts, 1)
    ]


def crossed(monitor: Monitor, *amounts: int) -> list[int]:
    """Numbers of the transfers that crossed, in one batch."""
    balances = {name: Balance(name, "USD", AccountType.ASSET, NO_ACCOUNT_FLAGS) for name in "ab"}
    balances["a"].monitored = True
    done = evaluate(batch(*amounts), Books(balances, NOW))
    return [each.transfer_id.int for each in crossings([monitor], done.trail)]


def test_the_transfer_behind_which_it_holds_for_good_is_named() -> None:
    above = Monitor("m", "a", "", BalanceSide.POSTED, Comparison.ABOVE, Money("USD", 5))
    assert crossed(above, 6) == [1]
    assert crossed(above, 6, 1, 1) == [1]
    assert crossed(above, 3, 3, 1) == [2]
    assert crossed(above, 6, -6, 3, 3) == [4]
    assert crossed(above, 6, -6) == []
    assert crossed(above, 5) == []


def test_the_four_comparisons_at_the_threshold() -> None:
    told = {
        comparison.name: [comparison.holds(balance, 5) for balance in (4, 5, 6)]
        for comparison in Comparison
    }
    assert told == {
        "BELOW": [True, False, False],
        "ABOVE": [False, False, True],
        "AT_OR_BELOW": [True, True, False],
        "AT_OR_ABOVE": [False, True, True],
    }


def test_only_what_a_monitor_names_or_begins_is_noted() -> None:
    balances = {
        name: Balance(name, "USD", AccountType.ASSET, NO_ACCOUNT_FLAGS) for name in ("a", "ab", "b")
    }
    balances["b"].monitored = True
    assert set(watched(balances, [])) == {"b"}
    assert set(watched(balances, ["ab"])) == {"ab", "b"}
    assert set(watched(balances, [""])) == {"a", "ab", "b"}
    done = evaluate(batch(1), Books({k: balances[k] for k in ("a", "ab")}, NOW))
    assert (done.trail.before, done.trail.steps) == ({}, {})
