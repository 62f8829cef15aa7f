"""The product's posting against the plain model: the same batches, the same verdicts, the same books.

Few accounts, tiny limits and reused ids, so that limits, holds, chains and repeats meet all the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.ledger.domain.accounts import AccountType, Flags, Limits
from services.ledger.domain.balance import Balance
from services.ledger.domain.holds import Hold, HoldState
from services.ledger.domain.transfers import (
    Kind,
    Malformed,
    Transfer,
    TransferFlags,
    TransferResult,
)
from tests.support.ledger.books import NOW, Ledger
from tests.support.ledger.model import Model

NAMES = "abcde"


CLOSED = Flags(closed=True)
NO_AMOUNT = {"amount_minor": None, "currency_code": ""}
# Every transfer is drawn from a seed of its own: examples shrink by what they leave out.
SEEDS = st.integers(0, 65_535)


@dataclass(frozen=True)
class Draft:
    """A transfer whose ids are still to be chosen: None is a new one, a number counts back from the last."""

    fields: dict[str, Any]
    again: int | None
    pending: int | None = None
    any_pending: bool = False


def draft(random: Random) -> Draft | Malformed:
    """Draw what one transfer says: mostly sound, or little would get into the books."""
    if random.random() < 0.03:
        return Malformed("bad", False)
    (draw,) = random.choices([_posted, _pending, _ending, _balancing, _anything], [4, 5, 5, 2, 1])
    again = random.choice([None] * 16 + [0, 1, 4])
    return replace(draw(random), again=again)


def _plain(random: Random) -> dict[str, Any]:
    debit, credit = random.sample("abcd", 2)
    fields: dict[str, Any] = {
        "debit_account_id": debit,
        "credit_account_id": credit,
        "currency_code": "USD",
        "amount_minor": random.choice([1, 2, 3, 5]),
        "code": random.choice([0, 1]),
    }
    if random.random() < 0.4:
        fields["effective_at"] = NOW + timedelta(milliseconds=random.choice([-9, -4, -1, 0, 3, 12]))
    if random.random() < 0.1:
        odd = {
            "debit_account_id": [*NAMES, "missing"],
            "credit_account_id": [*NAMES, "missing"],
            "currency_code": ["EUR"],
            "amount_minor": [0, -1, 2**63 - 6, 2**63 - 2],
        }
        name = random.choice(list(odd))
        fields[name] = random.choice(odd[name])
    return fields


def _timeout_ms(random: Random) -> int:
    return random.choice([0] * 8 + [1, 5, 5, 20, 20, 20, 10**15])


def _posted(random: Random) -> Draft:
    return Draft(_plain(random) | _not_before(random, 0.2), None)


def _not_before(random: Random, share: float) -> dict[str, Any]:
    """When it is due: before, at or soon after the time at which all begins."""
    if random.random() >= share:
        return {}
    return {"not_before": NOW + timedelta(milliseconds=random.choice([-1, 0, 2, 2, 5, 20]))}


def _pending(random: Random) -> Draft:
    is_closing = random.random() < 0.04
    fields = _plain(random) | {"kind": Kind.PENDING, "timeout_ms": _timeout_ms(random)}
    fields["flags"] = TransferFlags(
        closing_debit=is_closing and random.random() < 0.5,
        closing_credit=is_closing,
        multi_capture=random.random() < 0.5,
    )
    if is_closing and random.random() < 0.5:
        fields["amount_minor"] = 0
    return Draft(fields, None)


def _ending(random: Random) -> Draft:
    fields = _plain(random)
    if random.random() < 0.85:
        fields |= {"debit_account_id": "", "credit_account_id": "", "code": 0}
    if random.random() < 0.5:
        fields |= NO_AMOUNT
    fields["kind"] = random.choice([Kind.POST_PENDING, Kind.POST_PENDING, Kind.VOID_PENDING])
    back = random.choice([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, None])
    return Draft(fields, None, back, random.random() < 0.05)


def _balancing(random: Random) -> Draft:
    sides = random.choice([(True, False), (False, True), (True, True)])
    fields = _plain(random) | {"flags": TransferFlags(*sides)} | _not_before(random, 0.1)
    if random.random() < 0.5:
        fields |= NO_AMOUNT
    if random.random() < 0.5:
        fields |= {"kind": Kind.PENDING, "timeout_ms": _timeout_ms(random)}
    return Draft(fields, None)


def _anything(random: Random) -> Draft:
    """Fields in any mixture, most of which break several rules at once."""
    fields = _plain(random) | {
        "kind": random.choice(list(Kind)),
        "timeout_ms": _timeout_ms(random),
        "flags": TransferFlags(*(random.random() < 0.3 for _ in range(5))),
        **_not_before(random, 0.2),
    }
    return Draft(fields, None, random.choice([None, 0, 1]), random.random() < 0.2)


def _alteration(random: Random, first: Transfer) -> dict[str, Any]:
    changes: list[dict[str, Any]] = [
        NO_AMOUNT,
        {"amount_minor": random.choice([1, 2, 3, 5, 9]), "currency_code": "USD"},
        {"amount_minor": 9, "currency_code": "EUR"},
        {"code": random.choice([0, 1])},
        {"metadata": {"k": "v"}},
        {"effective_at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"linked": not first.linked},
        {"timeout_ms": random.choice([0, 5])},
        {"not_before": random.choice([None, NOW, NOW + timedelta(milliseconds=2)])},
    ]
    if first.kind in (Kind.POST_PENDING, Kind.VOID_PENDING):
        debit, credit = random.choice([("", ""), ("a", "b"), ("b", "a"), ("a", "c"), ("d", "b")])
        changes.append({"debit_account_id": debit, "credit_account_id": credit})
    else:
        changes.append({random.choice(["debit_account_id", "credit_account_id"]): ""})
    return random.choice(changes)


class BothBooks(RuleBasedStateMachine):
    """Feeds the same batches to the product and to the model."""

    @initialize(seed=SEEDS)
    def open_accounts(self, seed: int) -> None:
        self.seed = seed
        random = Random(seed)
        self.ledger = Ledger()
        for name in NAMES:
            self.ledger.open(
                name,
                currency="EUR" if name == "e" else "USD",
                kind=random.choice(list(AccountType)),
                flags=replace(
                    random.choice([*[Flags()] * 16, Flags(True), Flags(False, True), CLOSED]),
                    limits_at_every_instant=random.random() < 0.5,
                ),
                limits=Limits(
                    random.choice([None] * 7 + [-6, -6, 0]), random.choice([None] * 7 + [9, 9, 0])
                ),
            )
        self.model: Model = self.ledger.model()
        self.ids: list[UUID] = []
        self.hold_ids: list[UUID] = []
        self.sent: list[Transfer | Malformed] = []

    @rule(seeds=st.lists(SEEDS, min_size=3, max_size=12))
    def post(self, seeds: list[int]) -> None:
        drawn = self.draw(seeds)
        self.send([self.settle(draft(r), linked=r.random() < 0.1) for r in drawn])

    @rule(seeds=st.lists(SEEDS, min_size=2, max_size=4))
    def post_chain(self, seeds: list[int]) -> None:
        """All kinds in one chain."""
        drawn = self.draw(seeds)
        self.send([self.settle(draft(r), linked=r is not drawn[-1]) for r in drawn])

    @rule(seeds=st.lists(SEEDS, min_size=2, max_size=4), milliseconds=st.sampled_from([2, 5, 20]))
    def post_chain_that_waits(self, seeds: list[int], milliseconds: int) -> None:
        """All due at once, as a chain must be; some are refused already."""
        due = {"not_before": NOW + timedelta(milliseconds=milliseconds)}
        drafts = [
            Draft(_plain(random) | due, random.choice([None] * 16 + [0, 1]))
            for random in self.draw(seeds)
        ]
        last = drafts[-1]
        self.send([self.settle(each, linked=each is not last) for each in drafts])

    def draw(self, seeds: list[int]) -> list[Random]:
        """Spread the seeds by their places: small numbers are drawn again and again."""
        places = enumerate(seeds, len(self.sent))
        return [Random(f"{self.seed} {place} {seed}") for place, seed in places]

    def settle(self, draft: Draft | Malformed, *, linked: bool) -> Transfer | Malformed:
        """Choose the ids of a draft."""
        if isinstance(draft, Malformed):
            return replace(draft, linked=linked)
        transfer_id = _recent(self.ids, draft.again) or UUID(int=len(self.ids) + 1)
        is_hold = draft.fields.get("kind") is Kind.PENDING
        held = _recent(self.ids if draft.any_pending else self.hold_ids, draft.pending)
        if transfer_id not in self.ids:
            self.ids.append(transfer_id)
            self.hold_ids += [transfer_id] * is_hold
        return Transfer(transfer_id, **draft.fields, linked=linked, pending_id=held)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """A lost reply: what was sent before comes again, in the same pieces or in others."""
        start = data.draw(st.integers(0, len(self.sent) - 1))
        self.send(self.sent[start : start + data.draw(st.integers(1, 6))])

    @precondition(lambda self: self.sent)
    @rule(seeds=st.lists(SEEDS, min_size=1, max_size=4))
    def send_altered(self, seeds: list[int]) -> None:
        """Ids of what is in the books with some field as another transfer has it, or with all left open."""
        altered: list[Transfer | Malformed] = []
        for random in self.draw(seeds):
            waiting = [each.transfer for each in self.ledger.waiting.values()]
            first = random.choice([*self.ledger.asked.values(), *waiting] or [None])
            if first is not None:
                altered.append(replace(first, **_alteration(random, first)))
        if altered:
            self.send(altered)

    @precondition(lambda self: self.ledger.waiting or any(h.expires_at for h in self.open_holds()))
    @rule(milliseconds=st.sampled_from([1, 4, 5, 15]))
    def wait(self, milliseconds: int) -> None:
        self.ledger.now += timedelta(milliseconds=milliseconds)
        self.model.now = self.ledger.now

    @precondition(lambda self: any(h.is_due(self.ledger.now) for h in self.open_holds()))
    @rule()
    def expire(self) -> None:
        """The holds that are due are given up."""
        self.ledger.expire()
        self.model.expire()

    @precondition(lambda self: self.due())
    @rule(seed=SEEDS)
    def post_due(self, seed: int) -> None:
        """One chain that is due posts itself, whichever comes first."""
        first = Random(seed).choice(sorted(self.due()))
        before = {n: b.last_seq for n, b in self.ledger.balances.items()}
        done = self.ledger.post_due(first)
        answers = self.model.post_due(first)
        assert [(v.result, v.original) for v in done.verdicts] == answers
        if any(v.result is not TransferResult.OK for v in done.verdicts):
            assert before == {n: b.last_seq for n, b in self.ledger.balances.items()}

    @precondition(lambda self: self.ledger.waiting)
    @rule(seed=SEEDS)
    def cancel(self, seed: int) -> None:
        """Any member of a chain takes all of it back."""
        transfer_id = Random(seed).choice(sorted(self.ledger.waiting))
        self.ledger.cancel(transfer_id)
        self.model.cancel(transfer_id)

    def due(self) -> set[UUID]:
        return {
            each.first_id
            for each in self.ledger.waiting.values()
            if each.transfer.not_before is not None and each.transfer.not_before <= self.ledger.now
        }

    @rule(
        currency=st.sampled_from(["USD", "USD", "EUR"]),
        milliseconds=st.sampled_from([None, -20, -9, -5, -2, 0]),
    )
    def close_or_reopen(self, currency: str, milliseconds: int | None) -> None:
        """A period is closed, further or less far, or wholly opened."""
        closed: dict[str, datetime] = self.ledger.closed_through
        closed.pop(currency, None)
        if milliseconds is not None:
            closed[currency] = self.ledger.now + timedelta(milliseconds=milliseconds)
        self.model.closed_through = dict(closed)

    def send(self, batch: Sequence[Transfer | Malformed]) -> None:
        note(str(batch))
        closed = {n for n in NAMES if self.model.is_closed(n)}
        before = {n: (self.ledger.balances[n].last_seq, self.held(n)) for n in closed}
        closed_through, moves = self.ledger.closed_through, dict(self.ledger.moves)
        done = self.ledger.post(batch)
        for name, after in self.ledger.moves.items():
            until = closed_through.get("EUR" if name == "e" else "USD")
            for at, _ in after[len(moves.get(name, ())) :]:
                assert until is None or at > until, "posted in a closed period"
        assert [(v.result, v.original) for v in done.verdicts] == self.model.post(batch)
        self.sent += batch
        self.hold_ids = list(self.ledger.holds)
        for name in closed:
            if self.model.is_closed(name) and not self.reopened(name, batch):
                last_seq, held = before[name]
                assert self.ledger.balances[name].last_seq == last_seq
                assert self.held(name) <= held

    def open_holds(self) -> list[Hold]:
        return [h for h in self.ledger.holds.values() if h.state is HoldState.OPEN]

    def held(self, name: str) -> set[UUID]:
        return {
            i
            for i, hold in self.ledger.holds.items()
            if name in (hold.debit_account_id, hold.credit_account_id)
        }

    def reopened(self, name: str, batch: Sequence[Transfer | Malformed]) -> bool:
        """True when a closing hold of an account was voided by this batch."""
        voided = {
            item.pending_id
            for item in batch
            if isinstance(item, Transfer) and item.kind is Kind.VOID_PENDING
        }
        return any(
            name in hold.closes and hold.state is HoldState.VOIDED and i in voided
            for i, hold in self.model.held.items()
        )

    @invariant()
    def both_have_the_same_books(self) -> None:
        for name, balance in self.ledger.balances.items():
            account = self.model.accounts[name]
            assert (balance.debits_posted, balance.credits_posted) == (
                account.debits,
                account.credits,
            )
            assert (balance.debits_pending, balance.credits_pending) == self.model.pending(name)
            assert balance.closed == self.model.is_closed(name)
        assert self.ledger.asked == {i: done.asked for i, done in self.model.done.items()}
        for i, done in self.model.done.items():
            transfer = self.ledger.known[i].transfer
            assert transfer is not None
            assert (
                transfer.debit_account_id,
                transfer.credit_account_id,
                transfer.currency_code,
                transfer.amount_minor,
                transfer.code,
            ) == (done.debit, done.credit, done.currency, done.amount, done.code)
        known = {*self.model.done, *self.model.burnt, *self.model.waiting}
        assert set(self.ledger.known) == known
        assert self.ledger.model().waiting == self.model.waiting
        refusals = {i: self.ledger.known[i].result for i in self.model.burnt}
        assert refusals == self.model.burnt

    @invariant()
    def both_have_the_same_holds(self) -> None:
        assert self.ledger.model().held == self.model.held

    @invariant()
    def debits_equal_credits(self) -> None:
        balances = self.ledger.balances.values()
        for currency in ("USD", "EUR"):
            ours = [b for b in balances if b.currency_code == currency]
            assert sum(b.debits_posted - b.credits_posted for b in ours) == 0
            assert sum(b.debits_pending - b.credits_pending for b in ours) == 0

    @invariant()
    def pending_sums_are_what_the_open_holds_have_left(self) -> None:
        opened = self.open_holds()
        for name, balance in self.ledger.balances.items():
            assert balance.debits_pending == sum(
                h.remaining_minor for h in opened if h.debit_account_id == name
            )
            assert balance.credits_pending == sum(
                h.remaining_minor for h in opened if h.credit_account_id == name
            )
        for hold in self.ledger.holds.values():
            assert 0 <= hold.remaining_minor <= hold.amount_minor
            assert hold.state is HoldState.OPEN or hold.remaining_minor == 0

    @invariant()
    def entries_have_no_gap(self) -> None:
        for name, balance in self.ledger.balances.items():
            legs = [leg for leg in self.ledger.legs if leg.account_id == name]
            assert [leg.seq for leg in legs] == list(range(1, balance.last_seq + 1))
            assert (
                tuple(leg.balance_after for leg in legs) == self.model.accounts[name].balances_after
            )

    @invariant()
    def no_limit_is_ever_broken(self) -> None:
        """Holds counted where that is the worse case."""
        for balance in self.ledger.balances.values():
            debits = balance.debits_posted + balance.debits_pending
            credits = balance.credits_posted + balance.credits_pending
            assert max(debits, credits) < 2**63
            flags, limits = balance.flags, balance.limits
            assert not flags.debits_must_not_exceed_credits or debits <= balance.credits_posted
            assert not flags.credits_must_not_exceed_debits or credits <= balance.debits_posted
            most, least = debits - balance.credits_posted, balance.debits_posted - credits
            if balance.type not in (AccountType.ASSET, AccountType.EXPENSE):
                most, least = -least, -most
            assert limits.ceiling_minor is None or most <= limits.ceiling_minor
            assert limits.floor_minor is None or least >= limits.floor_minor
            assert not flags.closed or (balance.last_seq, debits, credits) == (0, 0, 0)

    @invariant()
    def no_limit_is_ever_broken_at_an_instant(self) -> None:
        """What is posted, at each instant from the first to the last, of the accounts that ask for it."""
        for name, balance in self.ledger.balances.items():
            if balance.flags.limits_at_every_instant:
                moves = self.ledger.moves.get(name, ())
                assert (
                    sum(net for _, net in moves) == balance.debits_posted - balance.credits_posted
                )
                for instant, _ in moves:
                    net = sum(net for at, net in moves if at <= instant)
                    _assert_within(balance, net)


def _assert_within(balance: Balance, net: int) -> None:
    flags, limits = balance.flags, balance.limits
    assert not flags.debits_must_not_exceed_credits or net <= 0
    assert not flags.credits_must_not_exceed_debits or net >= 0
    ours = net if balance.type in (AccountType.ASSET, AccountType.EXPENSE) else -net
    assert limits.ceiling_minor is None or ours <= limits.ceiling_minor
    assert limits.floor_minor is None or ours >= limits.floor_minor


def _recent(ids: list[UUID], back: int | None) -> UUID | None:
    return None if back is None or not ids else ids[-1 - back % len(ids)]


TestBothBooks = BothBooks.TestCase
TestBothBooks.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
