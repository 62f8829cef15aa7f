"""Books in memory around the product's posting: what a store does from batch to batch, without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from services.ledger.domain.accounts import NO_ACCOUNT_FLAGS, NO_LIMITS, AccountType, Flags, Limits
from services.ledger.domain.balance import Balance
from services.ledger.domain.holds import Hold, HoldState
from services.ledger.domain.posting import Books, Evaluation, Leg, StoredTransfer, evaluate, release
from services.ledger.domain.scheduled import Scheduled, refused_at
from services.ledger.domain.timelines import Timeline
from services.ledger.domain.transfers import Malformed, Transfer, TransferResult, moved
from tests.support.ledger.model import Account, Done, Held, Model, Waiting

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Ledger:
    """What is kept between batches. It keeps only what an evaluation says has changed."""

    balances: dict[str, Balance] = field(default_factory=dict)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    known: dict[UUID, StoredTransfer] = field(default_factory=dict)
    asked: dict[UUID, Transfer] = field(default_factory=dict)
    legs: list[Leg] = field(default_factory=list)
    waiting: dict[UUID, Scheduled] = field(default_factory=dict)
    now: datetime = NOW
    closed_through: dict[str, datetime] = field(default_factory=dict)
    moves: dict[str, tuple[tuple[datetime, int], ...]] = field(default_factory=dict)

    def open(
        self,
        *names: str,
        currency: str = "USD",
        kind: AccountType = AccountType.ASSET,
        flags: Flags = NO_ACCOUNT_FLAGS,
        limits: Limits = NO_LIMITS,
    ) -> None:
        """Create accounts, all alike."""
        for name in names:
            self.balances[name] = Balance(
                name, currency, kind, flags, closed=flags.closed, limits=limits
            )

    def post(self, batch: Sequence[Transfer | Malformed]) -> Evaluation:
        """Judge a batch on copies of what it names, and keep what it changed."""
        asked = [item for item in batch if isinstance(item, Transfer)]
        pending = {item.pending_id for item in asked if item.pending_id is not None}
        holds = {i: replace(self.holds[i]) for i in pending if i in self.holds}
        names = {name for item in asked for name in (item.debit_account_id, item.credit_account_id)}
        names |= {n for h in holds.values() for n in (h.debit_account_id, h.credit_account_id)}
        balances = {n: replace(self.balances[n]) for n in names if n in self.balances}
        known = {i: self.known[i] for i in {t.transfer_id for t in asked} if i in self.known}
        no_holds = {
            i
            for i in pending
            if i in self.known and self.known[i].result is TransferResult.OK and i not in holds
        }
        for balance in balances.values():
            if balance.flags.limits_at_every_instant:
                balance.timeline = self.timeline(balance.account_id, asked)
        books = Books(
            balances, self.now, known, holds, no_holds, closed_through=self.closed_through
        )
        done = evaluate(batch, books)
        for balance in balances.values():
            balance.timeline = None
        assert done.moved <= set(balances)
        assert {n for n, b in balances.items() if b != self.balances[n]} <= done.moved
        assert {i for i, h in holds.items() if h != self.holds[i]} == set(done.moved_holds)
        self.balances |= {name: balances[name] for name in done.moved}
        self.holds |= done.opened | done.moved_holds
        for posting in done.postings:
            sent = batch[posting.position]
            assert isinstance(sent, Transfer)
            self.asked[sent.transfer_id] = sent
            self.known[posting.transfer.transfer_id] = StoredTransfer(
                posting.fingerprint, TransferResult.OK, posting.transfer
            )
            self.legs += posting.legs
            if posting.legs:
                self._keep_moves(posting.transfer)
        self.known |= done.burnt
        for transfer_id, scheduled in done.scheduled.items():
            self.waiting[transfer_id] = scheduled
            self.known[transfer_id] = StoredTransfer(
                scheduled.fingerprint, TransferResult.SCHEDULED, scheduled.transfer
            )
        return done

    def post_due(self, first: UUID) -> Evaluation:
        """Post the chain of a scheduled transfer as the use case does: its ids are claimed anew, refusals are kept."""
        chain = self.chain_of(first)
        for each in chain:
            del self.waiting[each.transfer.transfer_id], self.known[each.transfer.transfer_id]
        done = self.post([each.transfer for each in chain])
        if refused_at(done.verdicts) is not None:
            for each, verdict in zip(chain, done.verdicts, strict=True):
                self._burn(each, verdict.result)
        return done

    def cancel(self, transfer_id: UUID) -> None:
        """Take the chain of a scheduled transfer back."""
        for each in self.chain_of(self.waiting[transfer_id].first_id):
            del self.waiting[each.transfer.transfer_id]
            self._burn(each, TransferResult.CANCELLED)

    def chain_of(self, first: UUID) -> list[Scheduled]:
        """The scheduled transfers of a chain, in order."""
        chain = [each for each in self.waiting.values() if each.first_id == first]
        return sorted(chain, key=lambda each: each.position)

    def _burn(self, each: Scheduled, result: TransferResult) -> None:
        self.known[each.transfer.transfer_id] = StoredTransfer(each.fingerprint, result)

    def _keep_moves(self, transfer: Transfer) -> None:
        at, amount = transfer.effective_at or self.now, moved(transfer)
        for name, net in (
            (transfer.debit_account_id, amount),
            (transfer.credit_account_id, -amount),
        ):
            self.moves[name] = (*self.moves.get(name, ()), (at, net))

    def timeline(self, name: str, asked: Sequence[Transfer]) -> Timeline:
        """What the store makes of an account's entries: its lowest and highest balance between the times of a batch."""
        times = sorted({self.now, *(t.effective_at for t in asked if t.effective_at is not None)})
        moves = self.moves.get(name, ())
        instants = sorted({*times, *(at for at, _ in moves if at >= times[0])})
        spans: list[list[int]] = [[] for _ in times]
        for instant in instants:
            place = max(place for place, start in enumerate(times) if start <= instant)
            spans[place].append(sum(net for at, net in moves if at <= instant))
        return Timeline(
            tuple(times), tuple(min(span) for span in spans), tuple(max(span) for span in spans)
        )

    def expire(self) -> None:
        """Give up the open holds whose time is over."""
        for hold in self.holds.values():
            if hold.state is HoldState.OPEN and hold.is_due(self.now):
                debit = self.balances[hold.debit_account_id]
                credit = self.balances[hold.credit_account_id]
                release(hold, debit, credit, hold.remaining_minor, HoldState.EXPIRED)

    def model(self) -> Model:
        """The same books for the model."""
        return Model(
            {
                name: Account(
                    b.currency_code,
                    b.type,
                    b.flags,
                    b.limits,
                    b.debits_posted,
                    b.credits_posted,
                    moves=self.moves.get(name, ()),
                )
                for name, b in self.balances.items()
            },
            self.now,
            {
                i: Done(
                    self.asked[i],
                    stored.transfer.debit_account_id,
                    stored.transfer.credit_account_id,
                    stored.transfer.currency_code,
                    moved(stored.transfer),
                    stored.transfer.code,
                )
                for i, stored in self.known.items()
                if stored.transfer is not None and i not in self.waiting
            },
            {
                i: stored.result
                for i, stored in self.known.items()
                if stored.result is not TransferResult.OK and i not in self.waiting
            },
            {i: _held(hold) for i, hold in self.holds.items()},
            {i: Waiting(each.transfer, each.first_id) for i, each in self.waiting.items()},
            dict(self.closed_through),
        )


def _held(hold: Hold) -> Held:
    closes = {hold.debit_account_id} if hold.closing_debit else set()
    closes |= {hold.credit_account_id} if hold.closing_credit else set()
    return Held(
        hold.debit_account_id,
        hold.credit_account_id,
        hold.currency_code,
        hold.code,
        hold.amount_minor,
        hold.remaining_minor,
        hold.expires_at,
        frozenset(closes),
        hold.multi_capture,
        hold.state,
    )
