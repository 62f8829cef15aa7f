"""Histories of a ledger: what clients sent and were answered, and whether one thread could have said the same.

The method is Jepsen's for such systems: every call is logged with the time it was sent and answered; afterwards the
order of commit is read from the books, the calls are carried out again in that order by one thread, and everything
that was answered must be the same. A call that ended before another began must stand before it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.type.v1.type_pb2 import Money

from services.ledger.domain.accounts import NO_LIMITS, AccountType, Flags, Limits
from services.ledger.domain.posting import StoredTransfer, Verdict
from services.ledger.domain.transfers import (
    BURNING,
    Kind,
    Transfer,
    TransferFlags,
    TransferResult,
    fingerprint,
)
from tests.support.ledger.books import Ledger

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

R = TransferResult
ACCOUNTS = {
    **{f"open-{n}": (Flags(), Limits()) for n in range(12)},
    **{
        f"no-overdraft-{n}": (Flags(debits_must_not_exceed_credits=True), Limits())
        for n in range(3)
    },
    **{f"no-overpay-{n}": (Flags(credits_must_not_exceed_debits=True), Limits()) for n in range(2)},
    **{f"bounded-{n}": (Flags(), Limits(-300, 300)) for n in range(3)},
}
# What is answered to a call that is repeated because nobody knew what had become of it.
_AGAIN = {
    R.OK: {R.OK, R.EXISTS},
    **{burning: {burning, R.ID_ALREADY_FAILED} for burning in BURNING},
}

_FELL = R.LINKED_EVENT_FAILED


@dataclass(slots=True)
class Call:
    """A batch as a client sent it, until it was answered."""

    transfers: list[Transfer]
    own: set[UUID]
    sent_at: float = 0.0
    answered_at: float = 0.0
    tries: int = 0
    answers: list[tuple[TransferResult, TransferResult | None]] = field(default_factory=list)


class Client:
    """Draws batches: singles, chains, holds and their ends, repeats of what it sent before."""

    def __init__(self, seed: int, batch_max: int) -> None:
        self.dice = random.Random(seed)
        self.calls: list[Call] = []
        self._batch_max = batch_max
        self._holds: list[UUID] = []
        self._repeatable: list[Transfer] = []

    def next(self) -> Call:
        """Draw a batch."""
        dice, transfers, own = self.dice, [], set()
        for _ in range(dice.randint(1, self._batch_max)):
            if self._repeatable and dice.random() < 0.04:
                transfers.append(dice.choice(self._repeatable))
                continue
            length = dice.randint(2, 4) if dice.random() < 0.08 else 1
            for place in range(length):
                drawn = self._transfer(linked=place < length - 1)
                own.add(drawn.transfer_id)
                transfers.append(drawn)
        call = Call(transfers, own)
        self.calls.append(call)
        return call

    @property
    def unanswered(self) -> Call | None:
        """The batch that was sent last, if nobody knows what became of it."""
        return self.calls[-1] if self.calls and not self.calls[-1].answers else None

    def learn(self, call: Call) -> None:
        """Remember holds that can be ended, and transfers alone that can be sent again."""
        for transfer, (result, _) in zip(call.transfers, call.answers, strict=True):
            if result in (R.OK, R.EXISTS) and transfer.kind is Kind.PENDING:
                self._holds.append(transfer.transfer_id)
        alone = [
            now
            for before, now in zip([None, *call.transfers], call.transfers, strict=False)
            if not now.linked and (before is None or not before.linked)
        ]
        self._repeatable = (self._repeatable + self.dice.sample(alone, min(len(alone), 3)))[-50:]

    def _transfer(self, *, linked: bool) -> Transfer:
        dice = self.dice
        name = UUID(int=dice.getrandbits(128), version=4)
        if self._holds and dice.random() < 0.06:
            held = self._holds.pop(dice.randrange(len(self._holds)))
            kind = Kind.VOID_PENDING if dice.random() < 0.4 else Kind.POST_PENDING
            return Transfer(name, "", "", "", None, kind=kind, pending_id=held, linked=linked)
        debit, credit = dice.sample(list(ACCOUNTS), 2)
        if dice.random() < 0.01:
            debit = "nobody"
        kind = Kind.PENDING if dice.random() < 0.06 else Kind.POSTED
        flags = TransferFlags(balancing_debit=True) if dice.random() < 0.02 else TransferFlags()
        amount = dice.randint(1, 90)
        return Transfer(name, debit, credit, "USD", amount, kind=kind, linked=linked, flags=flags)


def message(transfer: Transfer) -> pb.Transfer:
    """Write a transfer of a history."""
    amount = transfer.amount_minor
    return pb.Transfer(
        transfer_id=str(transfer.transfer_id),
        debit_account_id=transfer.debit_account_id,
        credit_account_id=transfer.credit_account_id,
        amount=None if amount is None else Money(currency_code="USD", minor_units=amount),
        kind=int(transfer.kind),  # type: ignore[arg-type] # numbers agree
        linked=transfer.linked,
        pending_id=str(transfer.pending_id or ""),
        balancing_debit=transfer.flags.balancing_debit,
    )


async def create_accounts(stub: LedgerServiceAsyncStub, **options: Any) -> None:
    """Create the accounts of a history."""
    accounts = []
    for name, (flags, limits) in ACCOUNTS.items():
        account = pb.Account(account_id=name, currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET)
        account.flags.debits_must_not_exceed_credits = flags.debits_must_not_exceed_credits
        account.flags.credits_must_not_exceed_debits = flags.credits_must_not_exceed_debits
        for side, bound in (("floor", limits.floor_minor), ("ceiling", limits.ceiling_minor)):
            if bound is not None:
                money = Money(currency_code="USD", minor_units=bound)
                getattr(account.limits, side).CopyFrom(money)
        accounts.append(account)
    request = service_pb.CreateAccountsRequest(accounts=accounts)
    await stub.CreateAccounts(request, **options)


async def send(stub: LedgerServiceAsyncStub, call: Call, **options: Any) -> None:
    """Send a batch once and log it."""
    call.tries += 1
    call.sent_at = call.sent_at or time.monotonic()
    request = service_pb.PostTransfersRequest(transfers=[message(t) for t in call.transfers])
    response = await stub.PostTransfers(request, **options)
    call.answered_at = time.monotonic()
    call.answers = [
        (R(item.result), R(item.original_result) if item.original_result else None)
        for item in response.results
    ]


@dataclass(frozen=True)
class Books:
    """What was found in the database.

    Attributes:
        places: batch number and position of each transfer.
        burnt: refusals that were stored.
        sums: debits and credits, posted and pending, by account.
    """

    places: dict[UUID, tuple[int, int]]
    burnt: dict[UUID, TransferResult]
    sums: dict[str, tuple[int, int, int, int]]


_ODD_ENTRIES = """
SELECT count(*) FROM (
  SELECT seq, balance_after_minor,
         row_number() OVER w AS seq_wanted, sum(amount_minor) OVER w AS balance_wanted
    FROM ledger.entry
  WINDOW w AS (PARTITION BY account_id ORDER BY seq)) AS e
 WHERE seq <> seq_wanted OR balance_after_minor <> balance_wanted
"""
_ODD_BALANCES = """
SELECT count(*) FROM ledger.balance AS b
  LEFT JOIN (SELECT account_id, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits,
                    count(*) AS entries
               FROM ledger.entry GROUP BY account_id) AS e USING (account_id)
  LEFT JOIN (SELECT debit_account_id AS account_id, sum(remaining_minor) AS held FROM ledger.hold GROUP BY 1) AS d
         USING (account_id)
  LEFT JOIN (SELECT credit_account_id AS account_id, sum(remaining_minor) AS held FROM ledger.hold GROUP BY 1) AS c
         USING (account_id)
 WHERE (b.debits_posted, b.credits_posted, b.last_seq, b.debits_pending, b.credits_pending)
       <> (coalesce(e.debits, 0), coalesce(e.credits, 0), coalesce(e.entries, 0), coalesce(d.held, 0),
           coalesce(c.held, 0))
"""
# Of each transfer that posted something two entries, of all others none.
_ODD_TRANSFERS = """
SELECT count(*) FROM ledger.transfer AS t
  FULL JOIN (SELECT transfer_id, count(*) AS entries, sum(amount_minor) AS sum FROM ledger.entry GROUP BY 1) AS e
         USING (transfer_id)
 WHERE coalesce(e.entries, 0) <> CASE WHEN t.kind IN (1, 3) THEN 2 ELSE 0 END OR coalesce(e.sum, 0) <> 0
    OR t.transfer_id IS NULL
"""
_IDS = """
SELECT count(*) FROM ledger.transfer_id AS i FULL JOIN ledger.transfer AS t USING (tenant_id, transfer_id)
 WHERE (t.transfer_id IS NULL) <> (coalesce(i.result, 0) <> 1)
"""


def read_books(service_url: str, tenant: str) -> Books:
    """Read what the books of a tenant hold, and check that they agree with themselves."""
    with psycopg.connect(service_url) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
        for check in (_ODD_ENTRIES, _ODD_BALANCES, _ODD_TRANSFERS, _IDS):
            assert connection.execute(check.encode()).fetchone() == (0,), check
        rows = connection.execute("SELECT transfer_id, batch_no, position FROM ledger.transfer")
        places = {name: (batch_no, position) for name, batch_no, position in rows}
        rows = connection.execute(
            "SELECT transfer_id, result FROM ledger.transfer_id WHERE result <> 1"
        )
        burnt = {name: R(result) for name, result in rows}
        rows = connection.execute(
            "SELECT account_id, debits_posted, credits_posted, debits_pending, credits_pending FROM ledger.balance"
        )
        return Books(places, burnt, {name: tuple(sums) for name, *sums in rows})


def check(calls: Sequence[Call], books: Books) -> int:
    """Check a history against the books that it left; returns how many transfers were replayed.

    Raises:
        AssertionError: something that was answered is not what a ledger alone would have said, in any order that
            agrees with the books and with real time.
    """
    _check_presence(calls, books)
    placed = sorted(_placed(calls, books), key=lambda each: each[0])
    _check_real_time(placed)
    ledger = Ledger()
    for name, (flags, limits) in ACCOUNTS.items():
        bounds = NO_LIMITS if limits == NO_LIMITS else limits
        ledger.open(name, kind=AccountType.ASSET, flags=flags, limits=bounds)
    owners = {name: call for call in calls for name in call.own}
    in_order = {id(call) for _, call in placed}
    for _, call in placed:
        for transfer in call.transfers:
            owner = owners[transfer.transfer_id]
            if owner is not call and id(owner) not in in_order:
                _burn(ledger, transfer, books)
        _check_answers(call, ledger)
    assert set(ledger.asked) == set(books.places)
    for name, balance in ledger.balances.items():
        sums = (
            balance.debits_posted,
            balance.credits_posted,
            balance.debits_pending,
            balance.credits_pending,
        )
        assert books.sums[name] == sums, name
    return sum(len(call.transfers) for _, call in placed)


def _check_presence(calls: Sequence[Call], books: Books) -> None:
    for call in calls:
        assert call.answers, "every call was answered in the end"
        for transfer, (result, original) in zip(call.transfers, call.answers, strict=True):
            is_there = transfer.transfer_id in books.places
            assert is_there == (result in (R.OK, R.EXISTS)), (transfer, result)
            if result in BURNING or result is R.ID_ALREADY_FAILED:
                assert books.burnt[transfer.transfer_id] is (original or result)


def _placed(calls: Sequence[Call], books: Books) -> Iterator[tuple[tuple[int, int], Call]]:
    """Give the calls that left something, with the place of their commit; what a call left, it left in one."""
    for call in calls:
        places = [books.places[name] for name in call.own if name in books.places]
        if places:
            assert len({batch_no for batch_no, _ in places}) == 1, "one call, one transaction"
            yield min(places), call


def _check_real_time(placed: Sequence[tuple[tuple[int, int], Call]]) -> None:
    """No call stands before one that had been answered before it was sent."""
    moments: list[tuple[float, int, tuple[int, int]]] = []
    for place, call in placed:
        moments += [(call.sent_at, 1, place), (call.answered_at, 0, place)]
    last = (0, 0)
    for _, is_start, place in sorted(moments):
        if is_start:
            assert place > last, "real time and the books disagree"
        else:
            last = max(last, place)


def _burn(ledger: Ledger, transfer: Transfer, books: Books) -> None:
    """Have an id burnt by a call that left nothing else, and so has no place of its own."""
    if transfer.transfer_id in books.burnt and transfer.transfer_id not in ledger.known:
        ledger.known[transfer.transfer_id] = StoredTransfer(
            fingerprint(transfer), books.burnt[transfer.transfer_id]
        )


def _check_answers(call: Call, ledger: Ledger) -> None:
    verdicts = ledger.post(call.transfers).verdicts
    start = 0
    for end, transfer in enumerate(call.transfers, start=1):
        if transfer.linked and end < len(call.transfers):
            continue
        chain = slice(start, end)
        start = end
        if call.tries > 1 and _refused_anew(verdicts[chain], call.answers[chain], call.tries):
            continue
        for member, verdict, (result, original) in zip(
            call.transfers[chain], verdicts[chain], call.answers[chain], strict=True
        ):
            allowed = {verdict.result}
            if call.tries > 1:
                allowed |= _AGAIN.get(verdict.result, set())
            assert result in allowed, (member, verdict, result)
            if result is verdict.result:
                assert original == verdict.original


def _refused_anew(
    verdicts: Sequence[Verdict],
    answers: Sequence[tuple[TransferResult, TransferResult | None]],
    tries: int,
) -> bool:
    """Whether a repeated call found that a chain which was refused before is refused for another member now.

    Only the member that failed has its id burnt. Those before it are judged again by the balances of the repeat, and
    one of them may fail first; that one is burnt as well, which a third try finds.
    """
    burnt = BURNING | ({R.ID_ALREADY_FAILED} if tries > 2 else set())
    first = [place for place, each in enumerate(verdicts) if each.result is not _FELL]
    now = [place for place, (result, _) in enumerate(answers) if result is not _FELL]
    return (
        len(verdicts) > 1
        and len(first) == len(now) == 1
        and now < first
        and answers[now[0]][0] in burnt
    )


def until(count: int, clients: Sequence[Client]) -> Callable[[], bool]:
    """Return whether so many transfers were sent."""
    return lambda: sum(len(c.transfers) for client in clients for c in client.calls) >= count
