"""Batches of plain transfers by column say the same as their transfers one by one: read, laid out and answered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.type.v1.type_pb2 import Money

from services.ledger.domain.accounts import NO_ACCOUNT_FLAGS, AccountType
from services.ledger.domain.balance import Balance
from services.ledger.domain.plain import PlainBatch, Sides, lay_out
from services.ledger.domain.posting import POSTED, Books, Leg, Verdict, evaluate
from services.ledger.domain.transfers import Transfer, TransferResult, fingerprint
from services.ledger.messages import books as messages
from services.ledger.messages import plain
from services.runtime.money import MINOR_UNITS_MAX
from tests.unit.ledger.test_plain_transfers import messages_of_transfers

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def transfers(draw: st.DrawFn) -> Transfer:
    debit, credit = draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
    amount, code = draw(st.integers(1, 9)), draw(st.sampled_from([0, 7]))
    return Transfer(draw(st.uuids()), debit, credit, "USD", amount, code)


def batch_of(found: list[Transfer]) -> PlainBatch:
    batch = PlainBatch.of(found)
    assert batch is not None
    return batch


def legs_of(account_ids: list[str], sides: Sides, before: dict[str, Balance]) -> list[Leg]:
    names = [account_ids[place - 1] for place in sides.places]
    stood = [before[name] for name in names]
    return [
        Leg(name, b.last_seq + seq, b.debits_posted - b.credits_posted + net)
        for name, b, seq, net in zip(names, stood, sides.seqs, sides.nets, strict=True)
    ]


@given(st.lists(transfers(), min_size=1, max_size=20, unique_by=lambda t: t.transfer_id))
def test_a_layout_moves_accounts_as_judging_one_by_one_does(found: list[Transfer]) -> None:
    def books() -> dict[str, Balance]:
        kind = AccountType.ASSET
        return {
            name: Balance(name, "USD", kind, NO_ACCOUNT_FLAGS, 10 * place, 7, place)
            for place, name in enumerate("abcd")
        }

    layout, judged = lay_out(batch_of(found)), books()
    done = evaluate(found, Books(judged, NOW))
    assert layout is not None
    assert done.verdicts == [POSTED] * len(found)
    before = books()
    debits = legs_of(layout.account_ids, layout.debit, before)
    credits = legs_of(layout.account_ids, layout.credit, before)
    assert debits == [posting.debit for posting in done.postings]
    assert credits == [posting.credit for posting in done.postings]
    assert layout.fingerprints == b"".join(map(fingerprint, found))
    assert layout.account_ids == sorted(done.moved)
    rows = zip(layout.account_ids, layout.debits, layout.credits, layout.entries, strict=True)
    for name, debit, credit, entries in rows:
        stood, stands = before[name], judged[name]
        assert stands.debits_posted == stood.debits_posted + debit
        assert stands.credits_posted == stood.credits_posted + credit
        assert stands.last_seq == stood.last_seq + entries


ONE = Transfer(UUID(int=1), "a", "b", "USD", 1)


@pytest.mark.parametrize(
    "other",
    [
        Transfer(UUID(int=1), "b", "a", "USD", 1),
        Transfer(UUID(int=2), "a", "a", "USD", 1),
        Transfer(UUID(int=2), "a", "b", "USD", 0),
        Transfer(UUID(int=2), "a", "b", "USD", -1),
        Transfer(UUID(int=2), "a", "c", "EUR", 1),
        Transfer(UUID(int=2), "a", "c", "USD", MINOR_UNITS_MAX),
    ],
    ids=["same id", "same account", "nothing", "less than nothing", "two currencies", "overflow"],
)
def test_a_batch_that_a_rule_may_refuse_is_judged_one_by_one(other: Transfer) -> None:
    assert lay_out(batch_of([ONE])) is not None
    assert lay_out(batch_of([ONE, other])) is None


def test_an_id_in_capitals_is_the_same_id() -> None:
    text = "0190c1de-0000-7000-8000-00000000000a"
    batch = PlainBatch([text, text.upper()], ["a"] * 2, ["b"] * 2, ["USD"] * 2, [1] * 2, [0] * 2)
    assert lay_out(batch) is None


@pytest.mark.parametrize(
    "more",
    [
        {"linked": True},
        {"effective_at": NOW},
        {"metadata": {"k": "v"}},
        {"timeout_ms": 1},
        {"not_before": NOW},
        {"posting_id": UUID(int=9)},
    ],
    ids=str,
)
def test_what_says_more_has_no_column(more: dict[str, Any]) -> None:
    said = Transfer(UUID(int=1), "a", "b", "USD", 1, **more)
    assert PlainBatch.of([said]) is None


@settings(max_examples=300)
@given(st.lists(messages_of_transfers(), min_size=1, max_size=4))
async def test_columns_are_read_as_messages_are_one_by_one(items: list[pb.Transfer]) -> None:
    batch = await plain.plain_batch_of(service_pb.PostTransfersRequest(transfers=items))
    if batch is not None:
        assert list(batch.transfers()) == list(map(messages.transfer_of, items))


async def test_most_plain_messages_are_read_by_column() -> None:
    items = [
        pb.Transfer(
            transfer_id=str(UUID(int=number)),
            debit_account_id="a:b",
            credit_account_id="c",
            amount=Money(currency_code="USD", minor_units=number),
            code=number,
            kind=pb.KIND_POSTED if number else pb.KIND_UNSPECIFIED,
        )
        for number in range(3)
    ]
    batch = await plain.plain_batch_of(service_pb.PostTransfersRequest(transfers=items))
    assert batch is not None
    assert list(batch.transfers()) == list(map(messages.transfer_of, items))
    unreadable = service_pb.PostTransfersRequest(transfers=items, unreadable={1: "odd"})
    assert await plain.plain_batch_of(unreadable) is None


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 8190])
async def test_all_posted_is_written_as_each_posted_is(count: int) -> None:
    ids = [str(UUID(int=number)) for number in range(count)]
    batch = PlainBatch(ids, ["a"] * count, ["b"] * count, ["USD"] * count, [1] * count, [0] * count)
    at_once = await plain.results(batch, [POSTED] * count)
    each = await plain.results(batch, [Verdict(TransferResult.OK)] * count)
    assert at_once == each
    assert [result.index for result in at_once.results] == list(range(count))
    assert {result.result for result in at_once.results} == {service_pb.TRANSFER_RESULT_OK}
