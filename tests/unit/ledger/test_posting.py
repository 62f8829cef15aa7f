"""Laws of the posting of a batch, on the rules one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from payments.ledger.v1 import ledger_pb2 as ledger_pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb

from services.ledger.domain.accounts import AccountResult, AccountType, Flags, Limits
from services.ledger.domain.balance import Balance
from services.ledger.domain.posting import Books, Evaluation, Leg, StoredTransfer, evaluate
from services.ledger.domain.transfers import (
    BURNING,
    Kind,
    Malformed,
    Transfer,
    TransferFlags,
    TransferResult,
    fingerprint,
)
from services.runtime.money import MINOR_UNITS_MAX
from tests.support.ledger.books import NOW, Ledger
from tests.support.ledger.model import BURNS

R = TransferResult
CONTRACT = Path(__file__).parents[3] / "proto/payments/ledger/v1/ledger_service.proto"


def book(**flags: Flags) -> dict[str, Balance]:
    """Accounts a to d in USD, e in EUR; flags by name."""
    accounts = {
        name: Balance(name, "USD", AccountType.ASSET, flag, closed=flag.closed)
        for name, flag in ((name, flags.get(name, Flags())) for name in "abcd")
    }
    accounts["e"] = Balance("e", "EUR", AccountType.ASSET, Flags())
    return accounts


def transfer(
    number: int, debit: str = "a", credit: str = "b", amount: int = 10, **more: object
) -> Transfer:
    return Transfer(UUID(int=number), debit, credit, "USD", amount, **more)  # type: ignore[arg-type]


def judge(
    batch: Sequence[Transfer | Malformed],
    balances: dict[str, Balance],
    known: Mapping[UUID, StoredTransfer] | None = None,
) -> Evaluation:
    return evaluate(batch, Books(balances, NOW, known=known or {}))


def results(evaluation: Evaluation) -> list[str]:
    return [verdict.result.name for verdict in evaluation.verdicts]


def test_numbers_and_names_agree_with_the_contract() -> None:
    # As lists: the order is that of precedence.
    assert [(r.name, int(r)) for r in TransferResult] == [
        (value.name.removeprefix("TRANSFER_RESULT_"), value.number)
        for value in service_pb.TransferResult.DESCRIPTOR.values
        if value.number
    ]
    assert {k.name: int(k) for k in Kind} == {
        name.removeprefix("KIND_"): number for name, number in ledger_pb.Kind.items() if number
    }
    assert {r.name: int(r) for r in AccountResult} == {
        name.removeprefix("ACCOUNT_RESULT_"): number
        for name, number in service_pb.AccountResult.items()
        if number
    }


def test_a_transfer_moves_both_sides_and_leaves_two_entries() -> None:
    balances = book()
    done = judge([transfer(1), transfer(2, "b", "a", 3)], balances)
    assert results(done) == ["OK", "OK"]
    assert (balances["a"].debits_posted, balances["a"].credits_posted) == (10, 3)
    first, second = done.postings
    assert first.legs == (Leg("a", 1, 10), Leg("b", 1, -10))
    assert second.legs == (Leg("b", 2, -7), Leg("a", 2, 7))


@pytest.mark.parametrize(
    ("asked", "result"),
    [
        (transfer(1, "a", "a"), R.ACCOUNTS_MUST_BE_DIFFERENT),
        (transfer(1, "a", "a", 0), R.ACCOUNTS_MUST_BE_DIFFERENT),
        (transfer(1, amount=0), R.AMOUNT_MUST_BE_POSITIVE),
        (transfer(1, "x", "y", amount=-1), R.AMOUNT_MUST_BE_POSITIVE),
        (transfer(1, "x", "y"), R.DEBIT_ACCOUNT_NOT_FOUND),
        (transfer(1, "a", "y"), R.CREDIT_ACCOUNT_NOT_FOUND),
        (transfer(1, "a", "e"), R.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY),
        (
            Transfer(UUID(int=1), "a", "b", "EUR", 5),
            R.AMOUNT_MUST_HAVE_THE_CURRENCY_OF_THE_ACCOUNTS,
        ),
        (transfer(1, "c", "b"), R.DEBIT_ACCOUNT_CLOSED),
        (transfer(1, "a", "c"), R.CREDIT_ACCOUNT_CLOSED),
        (transfer(1, "d", "b"), R.EXCEEDS_CREDITS),
    ],
)
def test_refusals_in_order_of_precedence(asked: Transfer, result: TransferResult) -> None:
    balances = book(c=Flags(closed=True), d=Flags(debits_must_not_exceed_credits=True))
    before = {name: (b.debits_posted, b.credits_posted, b.last_seq) for name, b in balances.items()}
    done = judge([asked], balances)
    assert done.verdicts[0].result is result
    assert done.postings == []
    assert {
        n: (b.debits_posted, b.credits_posted, b.last_seq) for n, b in balances.items()
    } == before
    assert set(done.burnt) == ({asked.transfer_id} if result in BURNING else set())


def test_limits_bite_on_the_exact_unit() -> None:
    wallet = Flags(debits_must_not_exceed_credits=True)
    receivable = Flags(credits_must_not_exceed_debits=True)
    balances = book(a=wallet, b=receivable)
    done = judge(
        [
            transfer(1, "c", "a", 10),
            transfer(2, "a", "c", 10),
            transfer(3, "a", "c", 1),
            transfer(4, "b", "c", 5),
            transfer(5, "c", "b", 6),
            transfer(6, "c", "b", 5),
        ],
        balances,
        {},
    )
    assert results(done) == ["OK", "OK", "EXCEEDS_CREDITS", "OK", "EXCEEDS_DEBITS", "OK"]


def test_overflow_is_a_verdict_and_leaves_the_id_free() -> None:
    balances = book()
    done = judge([transfer(1, amount=MINOR_UNITS_MAX), transfer(2, amount=1)], balances)
    assert results(done) == ["OK", "OVERFLOWS_DEBITS"]
    done = judge([transfer(3, "c", "b", 1)], balances)
    assert results(done) == ["OVERFLOWS_CREDITS"]
    assert not done.burnt


def test_a_chain_is_posted_whole_or_not_at_all() -> None:
    balances = book(d=Flags(debits_must_not_exceed_credits=True))
    chain = [
        transfer(1, linked=True),
        transfer(2, "b", "c", linked=True),
        transfer(3, "d", "a"),
        transfer(4, "c", "b", 1),
    ]
    done = judge(chain, balances)
    assert results(done) == ["LINKED_EVENT_FAILED", "LINKED_EVENT_FAILED", "EXCEEDS_CREDITS", "OK"]
    assert [p.transfer.transfer_id for p in done.postings] == [UUID(int=4)]
    assert [leg.seq for leg in done.postings[0].legs] == [1, 1], "the undone chain left no gap"
    assert list(done.burnt) == [UUID(int=3)], "only the failing member's id is burnt"


def test_an_open_chain_is_refused_before_anything_of_it_is_judged() -> None:
    done = judge([transfer(1, "x", "y", linked=True), transfer(2, linked=True)], book())
    assert results(done) == ["LINKED_EVENT_FAILED", "LINKED_EVENT_CHAIN_OPEN"]
    assert not done.burnt


def test_a_malformed_member_breaks_its_chain() -> None:
    done = judge([transfer(1, linked=True), Malformed("bad", True), transfer(2)], book())
    assert results(done) == ["LINKED_EVENT_FAILED", "INVALID_TRANSFER", "LINKED_EVENT_FAILED"]


def test_an_id_twice_in_a_chain_and_twice_in_a_batch() -> None:
    done = judge([transfer(1, linked=True), transfer(1, linked=True), transfer(2)], book())
    assert results(done) == ["LINKED_EVENT_FAILED", "DUPLICATE_IN_CHAIN", "LINKED_EVENT_FAILED"]
    done = judge([transfer(1), transfer(1), transfer(1, amount=11)], book())
    assert results(done) == ["OK", "EXISTS", "EXISTS_WITH_DIFFERENT_AMOUNT"]
    assert len(done.postings) == 1


def test_an_id_released_by_a_failed_chain_may_be_posted_by_the_same_batch() -> None:
    batch = [transfer(1, linked=True), transfer(2, "x", "y"), transfer(1)]
    assert results(judge(batch, book())) == [
        "LINKED_EVENT_FAILED",
        "DEBIT_ACCOUNT_NOT_FOUND",
        "OK",
    ]


def test_a_chain_sent_again_exists_as_a_whole_but_not_mixed_with_new_members() -> None:
    chain = [transfer(1, linked=True), transfer(2)]
    known = {t.transfer_id: StoredTransfer(fingerprint(t), R.OK, t) for t in chain}
    assert results(judge(chain, book(), known)) == ["EXISTS", "EXISTS"]
    longer = [transfer(1, linked=True), transfer(3)]
    assert results(judge(longer, book(), known)) == ["EXISTS", "LINKED_EVENT_FAILED"]


def test_a_burnt_id_answers_its_first_refusal_for_ever() -> None:
    batch = [transfer(1, "x", "y"), transfer(1)]
    done = judge(batch, book())
    assert results(done) == ["DEBIT_ACCOUNT_NOT_FOUND", "ID_ALREADY_FAILED"]
    assert done.verdicts[1].original is R.DEBIT_ACCOUNT_NOT_FOUND
    again = judge([transfer(1, amount=99)], book(), done.burnt)
    assert again.verdicts[0].original is R.DEBIT_ACCOUNT_NOT_FOUND


def test_the_contract_says_which_refusals_burn_the_id() -> None:
    contract = CONTRACT.read_text(encoding="utf-8")
    burning = re.findall(r"Burns the id\.\n +TRANSFER_RESULT_(\w+) =", contract)
    assert {TransferResult[name] for name in burning} == BURNING == BURNS


def test_a_timeout_beyond_all_time_comes_before_nothing_to_balance() -> None:
    asked = transfer(
        1, kind=Kind.PENDING, timeout_ms=10**15, flags=TransferFlags(balancing_debit=True)
    )
    done = judge([asked], book())
    assert results(done) == ["OVERFLOWS_TIMEOUT"]
    assert not done.burnt


def test_a_chain_that_is_undone_has_moved_no_hold() -> None:
    ledger = Ledger()
    ledger.open("a", "b")
    hold = transfer(1, kind=Kind.PENDING, flags=TransferFlags(multi_capture=True))
    assert results(ledger.post([hold])) == ["OK"]
    part = transfer(2, "", "", 4, kind=Kind.POST_PENDING, pending_id=hold.transfer_id, linked=True)
    failing = transfer(3, "missing")
    undone = ledger.post([part, failing])
    assert results(undone) == ["LINKED_EVENT_FAILED", "DEBIT_ACCOUNT_NOT_FOUND"]
    assert not undone.moved_holds
    # Undone after a part that stands, it leaves that part.
    alone = replace(part, transfer_id=UUID(int=4), linked=False)
    both = ledger.post([alone, part, replace(failing, transfer_id=UUID(int=5))])
    assert results(both)[0] == "OK"
    assert both.moved_holds[hold.transfer_id].remaining_minor == 6


@pytest.mark.parametrize(
    ("name", "kind", "flags", "limits", "refusal"),
    [
        ("a", AccountType.ASSET, Flags(), Limits(ceiling_minor=10), R.DEBIT_ACCOUNT_ABOVE_CEILING),
        ("a", AccountType.EQUITY, Flags(), Limits(floor_minor=-10), R.DEBIT_ACCOUNT_BELOW_FLOOR),
        ("b", AccountType.ASSET, Flags(), Limits(floor_minor=-10), R.CREDIT_ACCOUNT_BELOW_FLOOR),
        ("b", AccountType.INCOME, Flags(), Limits(None, 10), R.CREDIT_ACCOUNT_ABOVE_CEILING),
        ("a", AccountType.LIABILITY, Flags(True), Limits(), R.EXCEEDS_CREDITS),
        ("b", AccountType.LIABILITY, Flags(False, True), Limits(), R.EXCEEDS_DEBITS),
    ],
)
@pytest.mark.parametrize("held", [10, 6, 0])
def test_limits_count_holds_and_bite_on_the_exact_unit(
    name: str, kind: AccountType, flags: Flags, limits: Limits, refusal: TransferResult, held: int
) -> None:
    ledger = Ledger()
    ledger.open("a", "b")
    ledger.open(name, kind=kind, flags=flags, limits=limits)
    if flags != Flags():
        ledger.open("c")
        fill = transfer(90, "c", "a") if name == "a" else transfer(90, "b", "c")
        assert results(ledger.post([fill])) == ["OK"]
    hold = transfer(1, amount=held, kind=Kind.PENDING)
    rest = transfer(2, amount=10 - held)
    sound = [part for part in (hold, rest) if part.amount_minor]
    assert results(ledger.post(sound)) == ["OK"] * len(sound)
    assert results(ledger.post([transfer(3, amount=1)])) == [refusal.name]
    assert results(ledger.post([transfer(4, amount=1, kind=Kind.PENDING)])) == [refusal.name]
    if held:
        post = transfer(5, amount=held, kind=Kind.POST_PENDING, pending_id=UUID(int=1))
        assert results(ledger.post([post])) == ["OK"], "the hold had reserved it"


def test_holds_count_against_the_range() -> None:
    ledger = Ledger()
    ledger.open("a", "b", "c")
    hold = transfer(1, amount=MINOR_UNITS_MAX, kind=Kind.PENDING)
    asked = [hold, transfer(2, "a", "c", 1), transfer(3, "c", "b", 1)]
    assert results(ledger.post(asked)) == ["OK", "OVERFLOWS_DEBITS", "OVERFLOWS_CREDITS"]


def test_a_transfer_of_the_same_batch_that_is_no_hold() -> None:
    post = transfer(2, kind=Kind.POST_PENDING, pending_id=UUID(int=1))
    assert results(judge([transfer(1), post], book())) == ["OK", "PENDING_TRANSFER_NOT_PENDING"]
