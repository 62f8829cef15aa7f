"""The evaluator against a naive model: one transfer at a time on plain dictionaries, chains by copying everything.

Few accounts, tiny limits and reused ids, so that limits, chains and repeats meet all the time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.ledger.domain.accounts import AccountType, Flags
from services.ledger.domain.posting import Balance, StoredTransfer, evaluate
from services.ledger.domain.transfers import (
    BURNING,
    Malformed,
    Transfer,
    TransferResult,
    fingerprint,
    first_difference,
)

R = TransferResult
FLAGS = st.sampled_from(
    [Flags(), Flags(), Flags(True, False), Flags(False, True), Flags(closed=True)]
)
TRANSFERS = st.builds(
    Transfer,
    transfer_id=st.integers(0, 40).map(lambda number: UUID(int=number)),
    debit_account_id=st.sampled_from(["a", "b", "c", "d", "e", "missing"]),
    credit_account_id=st.sampled_from(["a", "b", "c", "d", "e", "missing"]),
    currency_code=st.sampled_from(["USD", "USD", "USD", "EUR"]),
    amount_minor=st.sampled_from([1, 2, 3, 5, 0, 2**63 - 6]),
    code=st.integers(0, 1),
    linked=st.booleans(),
)
ITEMS = st.one_of(*[TRANSFERS] * 9, st.builds(Malformed, st.just("bad"), st.booleans()))


@dataclass
class Model:
    """The books as dictionaries."""

    flags: dict[str, Flags]
    debits: dict[str, int] = field(default_factory=dict)
    credits: dict[str, int] = field(default_factory=dict)
    posted: dict[UUID, Transfer] = field(default_factory=dict)
    burnt: dict[UUID, TransferResult] = field(default_factory=dict)

    def post(self, batch: list[Transfer | Malformed]) -> list[TransferResult]:
        answers: list[TransferResult] = []
        chain: list[Transfer | Malformed] = []
        for item in batch:
            chain.append(item)
            if not item.linked:
                answers += self.post_chain(chain)
                chain = []
        if chain:
            answers += [R.LINKED_EVENT_FAILED] * (len(chain) - 1) + [R.LINKED_EVENT_CHAIN_OPEN]
        return answers

    def post_chain(self, chain: list[Transfer | Malformed]) -> list[TransferResult]:
        if all(isinstance(item, Transfer) and self.repeat(item) is R.EXISTS for item in chain):
            return [R.EXISTS] * len(chain)
        before = copy.deepcopy(self)
        seen: set[UUID] = set()
        for index, item in enumerate(chain):
            answer = self.post_one(item, seen)
            if answer is not R.OK:
                self.__dict__.update(before.__dict__)
                if answer in BURNING:
                    assert isinstance(item, Transfer)
                    self.burnt[item.transfer_id] = answer
                answers = [R.LINKED_EVENT_FAILED] * len(chain)
                answers[index] = answer
                return answers
        return [R.OK] * len(chain)

    def repeat(self, asked: Transfer) -> TransferResult | None:
        if asked.transfer_id in self.burnt:
            return R.ID_ALREADY_FAILED
        if asked.transfer_id not in self.posted:
            return None
        first = self.posted[asked.transfer_id]
        return R.EXISTS if first == asked else first_difference(first, asked)

    def post_one(self, item: Transfer | Malformed, seen: set[UUID]) -> TransferResult:
        if isinstance(item, Malformed):
            return R.INVALID_TRANSFER
        if item.transfer_id in seen:
            return R.DUPLICATE_IN_CHAIN
        repeated = self.repeat(item)
        if repeated is not None:
            return repeated
        refusal = self.refusal(item)
        if refusal is not None:
            return refusal
        seen.add(item.transfer_id)
        self.posted[item.transfer_id] = item
        self.debits[item.debit_account_id] = (
            self.debits.get(item.debit_account_id, 0) + item.amount_minor
        )
        self.credits[item.credit_account_id] = (
            self.credits.get(item.credit_account_id, 0) + item.amount_minor
        )
        return R.OK

    def refusal(self, item: Transfer) -> TransferResult | None:
        debit, credit = item.debit_account_id, item.credit_account_id
        no_debit, no_credit = debit not in self.flags, credit not in self.flags
        currency = {name: "EUR" if name == "e" else "USD" for name in self.flags}
        debits = self.debits.get(debit, 0) + item.amount_minor
        credits = self.credits.get(credit, 0) + item.amount_minor
        rules: list[tuple[Callable[[], bool], TransferResult]] = [
            (lambda: debit == credit, R.ACCOUNTS_MUST_BE_DIFFERENT),
            (lambda: item.amount_minor < 1, R.AMOUNT_MUST_BE_POSITIVE),
            (lambda: no_debit, R.DEBIT_ACCOUNT_NOT_FOUND),
            (lambda: no_credit, R.CREDIT_ACCOUNT_NOT_FOUND),
            (lambda: currency[debit] != currency[credit], R.ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY),
            (
                lambda: item.currency_code != currency[debit],
                R.AMOUNT_MUST_HAVE_THE_CURRENCY_OF_THE_ACCOUNTS,
            ),
            (lambda: self.flags[debit].closed, R.DEBIT_ACCOUNT_CLOSED),
            (lambda: self.flags[credit].closed, R.CREDIT_ACCOUNT_CLOSED),
            (lambda: debits >= 2**63, R.OVERFLOWS_DEBITS),
            (lambda: credits >= 2**63, R.OVERFLOWS_CREDITS),
            (
                lambda: (
                    self.flags[debit].debits_must_not_exceed_credits
                    and debits > self.credits.get(debit, 0)
                ),
                R.EXCEEDS_CREDITS,
            ),
            (
                lambda: (
                    self.flags[credit].credits_must_not_exceed_debits
                    and credits > self.debits.get(credit, 0)
                ),
                R.EXCEEDS_DEBITS,
            ),
        ]
        return next((answer for applies, answer in rules if applies()), None)


class Books(RuleBasedStateMachine):
    """Feeds the same batches to both."""

    @initialize(flags=st.lists(FLAGS, min_size=5, max_size=5))
    def open_accounts(self, flags: list[Flags]) -> None:
        named = dict(zip("abcde", flags, strict=True))
        self.model = Model(named)
        self.balances = {
            name: Balance(name, "EUR" if name == "e" else "USD", AccountType.ASSET, flag)
            for name, flag in named.items()
        }
        self.known: dict[UUID, StoredTransfer] = {}
        self.sent: list[Transfer | Malformed] = []
        self.history: dict[str, list[tuple[int, int]]] = {name: [] for name in named}

    @rule(batch=st.lists(ITEMS, min_size=1, max_size=8))
    def post(self, batch: list[Transfer | Malformed]) -> None:
        self.send(batch)

    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """A lost reply: what was sent before comes again, in the same pieces or in others."""
        if self.sent:
            start = data.draw(st.integers(0, len(self.sent) - 1))
            self.send(self.sent[start : start + data.draw(st.integers(1, 6))])

    def send(self, batch: list[Transfer | Malformed]) -> None:
        done = evaluate(batch, self.balances, self.known)
        assert [verdict.result for verdict in done.verdicts] == self.model.post(batch)
        for posting in done.postings:
            self.known[posting.transfer.transfer_id] = StoredTransfer(
                fingerprint(posting.transfer), R.OK, posting.transfer
            )
            for leg in (posting.debit, posting.credit):
                self.history[leg.account_id].append((leg.seq, leg.balance_after))
        self.known |= done.burnt
        self.sent += batch

    @invariant()
    def both_have_the_same_books(self) -> None:
        for name, balance in self.balances.items():
            assert balance.debits_posted == self.model.debits.get(name, 0)
            assert balance.credits_posted == self.model.credits.get(name, 0)
        posted = {i for i, known in self.known.items() if known.result is R.OK}
        assert posted == set(self.model.posted)

    @invariant()
    def debits_equal_credits_and_history_has_no_gap(self) -> None:
        assert sum(b.debits_posted - b.credits_posted for b in self.balances.values()) == 0
        for name, balance in self.balances.items():
            seqs = [seq for seq, _ in self.history[name]]
            assert seqs == list(range(1, balance.last_seq + 1))
            if seqs:
                assert self.history[name][-1][1] == balance.debits_posted - balance.credits_posted

    @invariant()
    def no_limit_is_ever_broken(self) -> None:
        for balance in self.balances.values():
            flags = balance.flags
            assert (
                not flags.debits_must_not_exceed_credits
                or balance.debits_posted <= balance.credits_posted
            )
            assert (
                not flags.credits_must_not_exceed_debits
                or balance.credits_posted <= balance.debits_posted
            )
            assert not flags.closed or balance.last_seq == 0


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=150, stateful_step_count=15, deadline=None)
