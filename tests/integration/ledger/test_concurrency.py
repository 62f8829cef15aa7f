"""Many clients at once: no deadlock, no lost cent, no gap; limits hold; one id posts once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg
import pytest
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.ledger import manifest as ledger
from services.ledger.domain.accounts import AccountType, Flags
from services.ledger.domain.balance import Balance
from services.ledger.domain.holds import Hold
from services.ledger.domain.posting import Books, evaluate
from services.ledger.domain.transfers import Kind, Transfer, TransferFlags, TransferResult
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

CLIENTS = 6
BATCHES = 8
BATCH_SIZE = 25
ACCOUNTS = [f"account-{n}" for n in range(5)]
LIMITED = "account-4"


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE]) as running_mesh:
        yield running_mesh


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
async def stub(mesh: Mesh, tenant: str) -> LedgerServiceAsyncStub:
    made = LedgerServiceStub(mesh.channel(tenant))
    accounts = [
        pb.Account(
            account_id=name,
            currency_code="USD",
            type=pb.ACCOUNT_TYPE_ASSET,
            flags=pb.AccountFlags(debits_must_not_exceed_credits=name == LIMITED),
        )
        for name in ACCOUNTS
    ]
    await made.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))
    return made


def message(
    transfer_id: UUID, debit: str, credit: str, amount: int, *, linked: bool = False
) -> pb.Transfer:
    return pb.Transfer(
        transfer_id=str(transfer_id),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=Money(currency_code="USD", minor_units=amount),
        linked=linked,
    )


def end_of(dice: random.Random, hold_id: UUID, amount: int) -> pb.Transfer:
    """A transfer that posts, in part or whole, or voids a hold."""
    kind = pb.KIND_VOID_PENDING if dice.random() < 0.3 else pb.KIND_POST_PENDING
    part = dice.randint(1, amount) if dice.random() < 0.5 and kind == pb.KIND_POST_PENDING else None
    return pb.Transfer(
        transfer_id=str(uuid4()),
        pending_id=str(hold_id),
        kind=kind,
        amount=None if part is None else Money(currency_code="USD", minor_units=part),
    )


def batch_of(
    dice: random.Random, shared: list[UUID], holds: list[tuple[UUID, int]]
) -> list[pb.Transfer]:
    """Opposite transfers over few accounts; a tenth under ids that other clients use too, a fifth in chains.

    A fifth are holds, another fifth end one, of this client or of any other.
    """
    batch: list[pb.Transfer] = []
    for place in range(BATCH_SIZE):
        debit, credit = dice.sample(ACCOUNTS, 2)
        choice = dice.random()
        if choice < 0.1:
            # The same id always means the same transfer, so that the rivals agree on its content.
            transfer_id = dice.choice(shared)
            debit, credit = (ACCOUNTS[transfer_id.int % 4], ACCOUNTS[(transfer_id.int + 1) % 4])
            batch.append(message(transfer_id, debit, credit, 7))
            continue
        if choice < 0.3 and holds:
            batch.append(end_of(dice, *dice.choice(holds)))
        else:
            amount = dice.randint(1, 9)
            batch.append(message(uuid4(), debit, credit, amount))
            if choice < 0.5:
                batch[-1].kind = pb.KIND_PENDING
                batch[-1].multi_capture = dice.random() < 0.5
                holds.append((UUID(batch[-1].transfer_id), amount))
        batch[-1].linked = dice.random() < 0.2 and place < BATCH_SIZE - 1
    return batch


async def test_opposite_transfers_of_many_clients(
    stub: LedgerServiceAsyncStub, tenant: str, database: DatabaseUrls
) -> None:
    dice = random.Random(20261120)
    shared = [UUID(int=n + 1) for n in range(20)]
    holds: list[tuple[UUID, int]] = []
    answers: dict[UUID, list[str]] = {}

    async def client() -> None:
        for _ in range(BATCHES):
            batch = batch_of(dice, shared, holds)
            response = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=batch))
            for asked, result in zip(batch, response.results, strict=True):
                name = service_pb.TransferResult.Name(result.result)
                answers.setdefault(UUID(asked.transfer_id), []).append(name)

    await asyncio.gather(*[client() for _ in range(CLIENTS)])
    acknowledged = {i for i, names in answers.items() if "TRANSFER_RESULT_OK" in names}
    assert len(acknowledged) > CLIENTS * BATCHES * BATCH_SIZE / 4
    assert all(names.count("TRANSFER_RESULT_OK") <= 1 for names in answers.values())
    stored, books = books_as_stored(database, tenant)
    assert {row.transfer_id for row in stored} == acknowledged
    assert {transfer.kind for transfer in stored} == set(Kind)
    replay(stored, books)


@dataclass(frozen=True)
class Stored:
    """What is stored of accounts (both sums posted, both pending) and of holds (what is left, and their state)."""

    sums: dict[str, tuple[int, int, int, int]]
    holds: dict[UUID, tuple[int, int]]


def books_as_stored(database: DatabaseUrls, tenant: str) -> tuple[list[Transfer], Stored]:
    """Check the sums of the stored books and return their transfers in order of posting, and what they led to."""
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
        rows = connection.execute(
            "SELECT transfer_id, debit_account_id, credit_account_id, currency_code, amount_minor, kind, pending_id,"
            " flags FROM ledger.transfer ORDER BY batch_no, position"
        ).fetchall()
        entries = connection.execute(
            "SELECT account_id, seq, amount_minor, balance_after_minor FROM ledger.entry ORDER BY account_id, seq"
        ).fetchall()
        balances = connection.execute(
            "SELECT account_id, debits_posted, credits_posted, last_seq, debits_pending, credits_pending"
            " FROM ledger.balance"
        ).fetchall()
        holds = connection.execute(
            "SELECT transfer_id, debit_account_id, credit_account_id, remaining_minor, state FROM ledger.hold"
        ).fetchall()
    running_balance: Counter[str] = Counter()
    count: Counter[str] = Counter()
    debits: Counter[str] = Counter()
    for account_id, seq, amount, balance_after in entries:
        count[account_id] += 1
        running_balance[account_id] += amount
        debits[account_id] += max(amount, 0)
        assert seq == count[account_id], "seq has no gap"
        assert balance_after == running_balance[account_id], (
            "each balance follows from the one before"
        )
    assert sum(running_balance.values()) == 0
    assert len(entries) == 2 * sum(row[5] in (Kind.POSTED, Kind.POST_PENDING) for row in rows)
    for (
        account_id,
        debits_posted,
        credits_posted,
        last_seq,
        debits_pending,
        credits_pending,
    ) in balances:
        assert last_seq == count[account_id]
        assert debits_posted == debits[account_id]
        assert debits_posted - credits_posted == running_balance[account_id]
        assert debits_pending == sum(left for _, debit, _, left, _ in holds if debit == account_id)
        assert credits_pending == sum(
            left for _, _, credit, left, _ in holds if credit == account_id
        )
    sums = {
        row[0]: (row[1], row[2], row[4], row[5]) for row in balances if any((*row[1:3], *row[4:]))
    }
    transfers = [
        replace(
            Transfer(*row[:5]),
            kind=Kind(row[5]),
            pending_id=row[6],
            flags=TransferFlags(multi_capture=bool(row[7])),
        )
        for row in rows
    ]
    return transfers, Stored(sums, {row[0]: (row[3], row[4]) for row in holds})


def replay(stored: list[Transfer], found: Stored) -> None:
    """Post what is stored one by one in its order: a single-threaded ledger accepts all of it and comes to the same."""
    balances = {
        name: Balance(name, "USD", AccountType.ASSET, Flags(name == LIMITED, False))
        for name in ACCOUNTS
    }
    books = Books(balances, datetime(2026, 1, 1, tzinfo=UTC))
    holds: dict[UUID, Hold] = {}
    for transfer in stored:
        done = evaluate([transfer], replace(books, holds=holds))
        assert done.verdicts[0].result is TransferResult.OK
        holds |= done.opened
    sums = {
        name: (
            balance.debits_posted,
            balance.credits_posted,
            balance.debits_pending,
            balance.credits_pending,
        )
        for name, balance in balances.items()
    }
    assert {name: each for name, each in sums.items() if any(each)} == found.sums
    assert {
        hold.transfer_id: (hold.remaining_minor, int(hold.state)) for hold in holds.values()
    } == found.holds


async def test_a_limit_holds_against_everybody_at_once(stub: LedgerServiceAsyncStub) -> None:
    fund = message(uuid4(), "account-0", LIMITED, 10)
    await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=[fund]))

    async def spend() -> int:
        request = service_pb.PostTransfersRequest(
            transfers=[message(uuid4(), LIMITED, "account-1", 3)]
        )
        result: int = (await stub.PostTransfers(request)).results[0].result
        return result

    results = Counter(await asyncio.gather(*[spend() for _ in range(20)]))
    assert results == {
        service_pb.TRANSFER_RESULT_OK: 3,
        service_pb.TRANSFER_RESULT_EXCEEDS_CREDITS: 17,
    }


async def test_callers_of_one_transfer_each_share_transactions_and_keep_their_verdicts(
    stub: LedgerServiceAsyncStub, database: DatabaseUrls, tenant: str
) -> None:
    """Among them are refused ones, ill-formed ones, chains and repeats; nobody's verdict is another's."""
    dice = random.Random(5)
    ids = [UUID(int=dice.getrandbits(128), version=4) for _ in range(40)]

    async def send(*transfers: pb.Transfer) -> list[str]:
        request = service_pb.PostTransfersRequest(transfers=transfers)
        answer = await stub.PostTransfers(request)
        assert [item.transfer_id for item in answer.results] == [t.transfer_id for t in transfers]
        return [
            service_pb.TransferResult.Name(item.result).removeprefix("TRANSFER_RESULT_")
            for item in answer.results
        ]

    def kinds(name: UUID) -> dict[str, tuple[list[pb.Transfer], list[str]]]:
        other = UUID(int=name.int ^ 1)
        a, b = ACCOUNTS[0], ACCOUNTS[1]
        good, chained = message(name, a, b, 3), message(name, a, b, 3, linked=True)
        missing = "DEBIT_ACCOUNT_NOT_FOUND"
        return {
            "good": ([good], ["OK"]),
            "refused": ([message(name, "nobody", b, 3)], [missing]),
            "ill-formed": ([message(name, "no such name!", b, 3)], ["INVALID_TRANSFER"]),
            "chain": ([chained, message(other, b, a, 2)], ["OK", "OK"]),
            "broken chain": (
                [chained, message(other, "nobody", b, 2)],
                ["LINKED_EVENT_FAILED", missing],
            ),
            "open chain": ([chained], ["LINKED_EVENT_CHAIN_OPEN"]),
        }

    names = list(kinds(ids[0]))
    asked = [kinds(name)[names[n % len(names)]] for n, name in enumerate(ids)]
    answers = await asyncio.gather(*[send(*transfers) for transfers, _ in asked])
    assert answers == [expected for _, expected in asked]
    stored, books = books_as_stored(database, tenant)
    assert len(stored) == sum(expected.count("OK") for _, expected in asked)
    replay(stored, books)
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
        ((batches,),) = connection.execute("SELECT count(DISTINCT batch_no) FROM ledger.transfer")
    assert batches < len(asked) / 2, "they shared transactions"


async def test_one_id_sent_by_everybody_at_once_is_posted_once(
    stub: LedgerServiceAsyncStub,
) -> None:
    chain = [
        message(uuid4(), "account-0", "account-1", 5, linked=True),
        message(uuid4(), "account-1", "account-2", 5),
    ]

    async def send() -> tuple[int, ...]:
        response = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=chain))
        return tuple(result.result for result in response.results)

    results = Counter(await asyncio.gather(*[send() for _ in range(10)]))
    ok, exists = service_pb.TRANSFER_RESULT_OK, service_pb.TRANSFER_RESULT_EXISTS
    assert results == {(ok, ok): 1, (exists, exists): 9}


async def test_accounts_created_by_everybody_at_once(stub: LedgerServiceAsyncStub) -> None:
    names = [f"new-{n}" for n in range(20)]

    async def create(seed: int) -> Counter[int]:
        shuffled = random.Random(seed).sample(names, len(names))
        accounts = [
            pb.Account(account_id=name, currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET)
            for name in shuffled
        ]
        response = await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))
        return Counter(result.result for result in response.results)

    total: Counter[int] = Counter()
    for counted in await asyncio.gather(*[create(seed) for seed in range(8)]):
        total += counted
    assert total == {
        service_pb.ACCOUNT_RESULT_OK: 20,
        service_pb.ACCOUNT_RESULT_EXISTS: 7 * 20,
    }
