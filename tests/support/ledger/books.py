"""Books in memory around the product's posting: what a store does from batch to batch, without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from services.ledger.domain.accounts import NO_ACCOUNT_FLAGS, NO_LIMITS, AccountType, Flags, Limits
from services.ledger.domain.holds import Hold, HoldState
from services.ledger.domain.posting import (
    Balance,
    Books,
    Evaluation,
    Leg,
    StoredTransfer,
    evaluate,
    release,
)
from services.ledger.domain.transfers import Malformed, Transfer, TransferResult, moved
from tests.support.ledger.model import Account, Done, Held, Model

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Ledger:
    """What is kept between batches. It keeps only what an evaluation says has changed."""

    balances: dict[str, Balance] = field(default_factory=dict)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    known: dict[UUID, StoredTransfer] = field(default_factory=dict)
    asked: dict[UUID, Transfer] = field(default_factory=dict)
    legs: list[Leg] = field(default_factory=list)
    now: datetime = NOW

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
        done = evaluate(batch, Books(balances, self.now, known, holds, no_holds))
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
        self.known |= done.burnt
        return done

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
                    b.currency_code, b.type, b.flags, b.limits, b.debits_posted, b.credits_posted
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
                if stored.transfer is not None
            },
            {
                i: stored.result
                for i, stored in self.known.items()
                if stored.result is not TransferResult.OK
            },
            {i: _held(hold) for i, hold in self.holds.items()},
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
