"""Blocks and heads: what they seal cannot change, be it one field of one row, and pages find what the whole finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain import chain
from services.ledger.domain.chain import (
    BLOCK_TRANSFERS_MAX,
    GENESIS,
    Block,
    BookedEntry,
    BookedTransfer,
    Place,
    canonical,
    line_of,
    sealed,
    transfer_record,
)
from services.ledger.domain.findings import Check
from services.ledger.domain.heads import LedgerHead, SigningKey, signed
from services.ledger.domain.integrity_accounts import KeptBalance, KeptEntry, Running, followed
from services.ledger.domain.integrity_chain import block_faults, head_faults
from services.ledger.domain.transfers import Kind, Reference, Transfer, TransferFlags

NOW = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
IDS = [UUID(int=number) for number in range(1, 9)]


def next_block(
    tenant_id: str, head: Block | None, transfers: Sequence[BookedTransfer], now: datetime
) -> Block:
    return chain.next_block(tenant_id, head, [line_of(each) for each in transfers], now)


def entry(account_id: str, counter: str, amount: int) -> BookedEntry:
    return BookedEntry(account_id, 1, IDS[0], amount, amount, counter, "USD", 7, NOW, NOW)


FULL = BookedTransfer(
    place=Place(3, 1),
    transfer=Transfer(
        transfer_id=IDS[0],
        debit_account_id="a",
        credit_account_id="b",
        currency_code="USD",
        amount_minor=5,
        code=7,
        kind=Kind.POST_PENDING,
        linked=True,
        effective_at=NOW,
        metadata={"ü": "x", "a": "\n"},
        pending_id=IDS[1],
        timeout_ms=3,
        flags=TransferFlags(multi_capture=True),
        asked_all=True,
        reverses_id=IDS[2],
        reference=Reference("charge", "chg", "1"),
        posting_id=IDS[3],
        not_before=NOW,
    ),
    flag_bits=16,
    effective_at=NOW,
    recorded_at=NOW,
    entries=(entry("a", "b", 5), entry("b", "a", -5)),
)
OTHERS: dict[type, Any] = {
    str: "other",
    int: 99,
    bool: False,
    UUID: IDS[7],
    datetime: NOW + timedelta(microseconds=1),
    dict: {"ü": "y"},
    Reference: Reference("charge", "chg", "2"),
    Kind: Kind.POSTED,
    Place: Place(3, 2),
}
# Of a transfer: what is stored beside it under other names.
TWICE = {"effective_at", "flags", "entries", "transfer"}


def test_what_is_hashed_is_text_that_anybody_can_write() -> None:
    assert canonical(transfer_record(FULL)) == (
        '{"amount_minor":5,"asked_all":1,"batch_no":3,"code":7,"credit_account_id":"b","currency_code":"USD",'
        '"debit_account_id":"a","effective_at_us":1772366400000005,"entries":[{"account_id":"a","amount_minor":5,'
        '"balance_after_minor":5,"code":7,"counter_account_id":"b","currency_code":"USD",'
        '"effective_at_us":1772366400000005,"recorded_at_us":1772366400000005,"seq":1},{"account_id":"b",'
        '"amount_minor":-5,"balance_after_minor":-5,"code":7,"counter_account_id":"a","currency_code":"USD",'
        '"effective_at_us":1772366400000005,"recorded_at_us":1772366400000005,"seq":1}],"flags":16,"kind":3,'
        '"linked":1,"metadata":{"a":"\\n","ü":"x"},"not_before_us":1772366400000005,"pending_id":"00000000-0000-0000-0000-000000000002",'
        '"position":1,"posting_id":"00000000-0000-0000-0000-000000000004","recorded_at_us":1772366400000005,'
        '"reference":["charge","chg","1"],"reverses_id":"00000000-0000-0000-0000-000000000003","timeout_ms":3,'
        '"transfer_id":"00000000-0000-0000-0000-000000000001"}'
    )


def variants() -> list[tuple[str, BookedTransfer]]:
    found = []
    for field in fields(BookedTransfer):
        if field.name not in {"transfer", "entries"}:
            other = OTHERS[type(getattr(FULL, field.name))]
            found.append((field.name, replace(FULL, **{field.name: other})))
    for field in fields(Transfer):
        if field.name not in TWICE:
            other = OTHERS[type(getattr(FULL.transfer, field.name))]
            changed = replace(FULL.transfer, **{field.name: other})
            found.append((f"transfer.{field.name}", replace(FULL, transfer=changed)))
    for field in fields(BookedEntry):
        if field.name != "transfer_id":
            other = OTHERS[type(getattr(FULL.entries[1], field.name))]
            entries = (FULL.entries[0], replace(FULL.entries[1], **{field.name: other}))
            found.append((f"entry.{field.name}", replace(FULL, entries=entries)))
    found.append(("entries", replace(FULL, entries=FULL.entries[:1])))
    return found


@pytest.mark.parametrize(("what", "changed"), variants(), ids=[name for name, _ in variants()])
def test_each_field_of_a_transfer_and_its_entries_is_sealed(
    what: str, changed: BookedTransfer
) -> None:
    block = next_block("t", None, [FULL], NOW)
    assert sealed("t", block, [changed]).hash != block.hash, what
    assert [each.check for each in block_faults("t", None, block, [changed])] == [Check.CHAIN]
    assert block_faults("t", None, block, [FULL]) == []


@pytest.mark.parametrize("name", [field.name for field in fields(Block) if field.name != "hash"])
def test_each_field_of_a_block_is_sealed(name: str) -> None:
    block = next_block("t", None, [FULL], NOW)
    others = {**OTHERS, bytes: b"x" * 32}
    changed = replace(block, **{name: others[type(getattr(block, name))]})
    assert sealed("t", changed, [FULL]).hash != block.hash
    assert sealed("u", block, [FULL]).hash != block.hash
    assert block_faults("t", None, changed, [FULL])


def at(batch_no: int) -> BookedTransfer:
    return replace(FULL, place=Place(batch_no, 0))


def test_blocks_follow_one_another() -> None:
    first = next_block("t", None, [at(1), at(2)], NOW)
    second = next_block("t", first, [at(5)], NOW)
    assert (first.previous_hash, second.previous_hash) == (GENESIS, first.hash)
    assert (second.block_no, second.transfer_count, second.transfer_total) == (2, 1, 3)
    assert block_faults("t", first, second, [at(5)]) == []
    messages = [each.message for each in block_faults("t", None, second, [at(5)])]
    assert messages[0] == "blocks are missing before this one"
    with pytest.raises(AssertionError):
        next_block("t", second, [at(5)], NOW)
    with pytest.raises(AssertionError):
        next_block("t", None, [at(number) for number in range(BLOCK_TRANSFERS_MAX + 1)], NOW)


def test_a_head_says_what_was_signed_and_nothing_else() -> None:
    key = SigningKey(1, b"k" * 32)
    block = next_block("t", None, [FULL], NOW)
    head = signed("t", block, key, NOW)
    keys = {key.key_id: key.public}
    assert head.is_signed
    assert "kkkk" not in repr(key)
    assert head_faults(head, block, "t", keys) == []
    others = {**OTHERS, bytes: b"x" * 32}
    for field in fields(LedgerHead):
        changed = replace(head, **{field.name: others[type(getattr(head, field.name))]})
        assert not changed.is_signed, field.name
        assert head_faults(changed, block, "t", keys), field.name
    assert not replace(head, public_key=b"short").is_signed
    assert [each.message for each in head_faults(head, None, "t", keys)] == [
        "the chain does not hold the block of the head"
    ]
    assert head_faults(head, replace(block, transfer_total=2), "t", keys)
    assert [each.expected for each in head_faults(head, block, "t", {})] == [key.key_id]


KEPT = st.builds(
    KeptEntry,
    account_id=st.sampled_from("abcd"),
    seq=st.integers(1, 4),
    transfer_id=st.sampled_from(IDS),
    amount_minor=st.sampled_from([-2, -1, 1, 2]),
    balance_after_minor=st.integers(-2, 2),
    currency_code=st.just("USD"),
    has_transfer=st.booleans(),
)
BALANCE = st.builds(
    KeptBalance,
    account_id=st.sampled_from("abcde"),
    debits_posted=st.integers(0, 3),
    credits_posted=st.integers(0, 3),
    last_seq=st.integers(0, 3),
    has_balance=st.booleans(),
    has_account=st.booleans(),
    agrees=st.booleans(),
)


@given(
    st.lists(KEPT, unique_by=lambda e: (e.account_id, e.seq)),
    st.lists(BALANCE, unique_by=lambda b: b.account_id),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_pages_of_accounts_find_what_the_whole_finds(
    entries: list[KeptEntry], balances: list[KeptBalance], accounts_a_page: int, entries_a_page: int
) -> None:
    entries.sort(key=lambda e: (e.account_id, e.seq))
    balances.sort(key=lambda b: b.account_id)
    _, whole = followed(Running(), entries, balances, all_read=True)
    running, inclusive, found = Running(), True, []
    while True:
        page = [
            b
            for b in balances
            if b.account_id >= running.account_id
            and (inclusive or b.account_id != running.account_id)
        ][:accounts_a_page]
        is_last = len(page) < accounts_a_page
        place = (running.account_id, running.seq if inclusive else 10)
        behind = [
            e
            for e in entries
            if (e.account_id, e.seq) > place and (is_last or e.account_id <= page[-1].account_id)
        ][:entries_a_page]
        all_read = len(behind) < entries_a_page
        running, findings = followed(running, behind, page, all_read=all_read)
        found += findings
        if all_read and is_last:
            break
        if all_read:
            running = Running(page[-1].account_id)
        inclusive = not all_read
    assert found == whole
