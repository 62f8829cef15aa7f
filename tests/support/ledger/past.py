"""Books with a past, posted to a real ledger and kept beside it as plain lists."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.type.v1.type_pb2 import Money, Period

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

START = datetime(2031, 11, 28, tzinfo=UTC)
END = START + timedelta(days=70)
ACCOUNTS = ("bank:USD", "wallet:a:1", "wallet:a:2", "wallet:b:1", "wallet:ab")
# Of every third one: of type liability.
TYPES = {
    name: pb.ACCOUNT_TYPE_LIABILITY if number % 3 == 1 else pb.ACCOUNT_TYPE_ASSET
    for number, name in enumerate(ACCOUNTS)
}


class Watch:
    """A clock that is set at will, back too, as the clocks of several machines are to one another."""

    def __init__(self, moment: datetime = START) -> None:
        self.moment = moment

    def now(self) -> datetime:
        """Return the time that it was set to."""
        return self.moment


@dataclass(frozen=True)
class Posted:
    """A transfer as it has to be found again; `place` is its place among all."""

    transfer: pb.Transfer
    recorded_at: datetime
    effective_at: datetime
    place: int

    @property
    def reference(self) -> tuple[str, str, str] | None:
        """Kind, id and part; None for none."""
        found = self.transfer.reference
        return (found.kind, found.id, found.part) if self.transfer.HasField("reference") else None


@dataclass(frozen=True)
class Entered:
    """An entry as it has to be found again: debits are positive, `balance` is debits less credits behind it."""

    account_id: str
    seq: int
    amount: int
    balance: int
    posted: Posted


@dataclass
class History:
    """What was posted so far."""

    stub: LedgerServiceAsyncStub
    watch: Watch
    transfers: list[Posted] = field(default_factory=list)
    entries: list[Entered] = field(default_factory=list)
    _seqs: Counter[str] = field(default_factory=Counter)
    _balances: Counter[str] = field(default_factory=Counter)

    async def open(self) -> None:
        """Create the accounts."""
        accounts = [
            pb.Account(account_id=name, currency_code="USD", type=TYPES[name], owner=name[:8])
            for name in ACCOUNTS
        ]
        await self.stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))

    async def post(self, batch: list[pb.Transfer], recorded_at: datetime) -> None:
        """Post a batch at a time, and keep what it leaves."""
        self.watch.moment = recorded_at
        answer = await self.stub.PostTransfers(service_pb.PostTransfersRequest(transfers=batch))
        assert {item.result for item in answer.results} == {service_pb.TRANSFER_RESULT_OK}
        for transfer in batch:
            self._keep(transfer, recorded_at)

    def _keep(self, transfer: pb.Transfer, recorded_at: datetime) -> None:
        is_given = transfer.HasField("effective_at")
        effective_at = transfer.effective_at.ToDatetime(UTC) if is_given else recorded_at
        posted = Posted(transfer, recorded_at, effective_at, len(self.transfers))
        self.transfers.append(posted)
        if transfer.kind == pb.KIND_PENDING:
            return
        for account_id, sign in ((transfer.debit_account_id, 1), (transfer.credit_account_id, -1)):
            amount = sign * transfer.amount.minor_units
            self._seqs[account_id] += 1
            self._balances[account_id] += amount
            self.entries.append(
                Entered(
                    account_id,
                    self._seqs[account_id],
                    amount,
                    self._balances[account_id],
                    posted,
                )
            )


def batches(seed: int, number: int) -> list[tuple[list[pb.Transfer], datetime]]:
    """Make batches of transfers: over months, some recorded before the one in front of them, some backdated."""
    chance = random.Random(seed)
    made = []
    moment = START
    for _ in range(number):
        moment += timedelta(hours=chance.choice((1, 30, 60)))
        recorded_at = moment - timedelta(minutes=chance.choice((0, 0, 0, 200)))
        made.append(
            ([_transfer(chance, recorded_at) for _ in range(chance.randint(1, 9))], recorded_at)
        )
    return made


def _transfer(chance: random.Random, recorded_at: datetime) -> pb.Transfer:
    debit, credit = chance.sample(ACCOUNTS, 2)
    transfer = pb.Transfer(
        transfer_id=str(UUID(int=chance.getrandbits(128), version=4)),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=Money(currency_code="USD", minor_units=chance.randint(1, 999)),
        code=chance.choice((0, 0, 7, 9)),
        kind=chance.choice((pb.KIND_POSTED,) * 9 + (pb.KIND_PENDING,)),
        metadata={"n": str(chance.randint(0, 9))},
    )
    if chance.random() < 0.4:
        transfer.effective_at.FromDatetime(
            recorded_at + timedelta(hours=chance.choice((-900, -30, -1, 40)))
        )
    if chance.random() < 0.6:
        kind, number = chance.choice(("charge", "order")), chance.randint(1, 3)
        part = chance.choice(("", "line-1"))
        transfer.reference.CopyFrom(pb.Reference(kind=kind, id=f"no {number}", part=part))
    return transfer


def period(start_at: datetime, end_at: datetime) -> Period:
    """Write a period."""
    found = Period()
    found.start_at.FromDatetime(start_at)
    found.end_at.FromDatetime(end_at)
    return found
