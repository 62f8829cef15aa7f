"""Many clients at once: no deadlock, no lost cent, no gap; limits hold; one id posts once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
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
from services.ledger.domain.posting import Balance, StoredTransfer, evaluate
from services.ledger.domain.transfers import Transfer, TransferResult, fingerprint
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


def batch_of(dice: random.Random, shared: list[UUID]) -> list[pb.Transfer]:
    """Opposite transfers over few accounts; a tenth under ids that other clients use too, a fifth in chains."""
    batch = []
    for place in range(BATCH_SIZE):
        debit, credit = dice.sample(ACCOUNTS, 2)
        if dice.random() < 0.1:
            # The same id always means the same transfer, so that the rivals agree on its content.
            transfer_id = dice.choice(shared)
            debit, credit = (ACCOUNTS[transfer_id.int % 4], ACCOUNTS[(transfer_id.int + 1) % 4])
            batch.append(message(transfer_id, debit, credit, 7))
        else:
            linked = dice.random() < 0.2 and place < BATCH_SIZE - 1
            batch.append(message(uuid4(), debit, credit, dice.randint(1, 9), linked=linked))
    return batch


async def test_opposite_transfers_of_many_clients(
    stub: LedgerServiceAsyncStub, tenant: str, database: DatabaseUrls
) -> None:
    dice = random.Random(20261120)
    shared = [UUID(int=n + 1) for n in range(20)]
    answers: dict[UUID, list[str]] = {}

    async def client() -> None:
        for _ in range(BATCHES):
            batch = batch_of(dice, shared)
            response = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=batch))
            for asked, result in zip(batch, response.results, strict=True):
                name = service_pb.TransferResult.Name(result.result)
                answers.setdefault(UUID(asked.transfer_id), []).append(name)

    await asyncio.gather(*[client() for _ in range(CLIENTS)])
    acknowledged = {i for i, names in answers.items() if "TRANSFER_RESULT_OK" in names}
    assert len(acknowledged) > CLIENTS * BATCHES * BATCH_SIZE / 4
    assert all(names.count("TRANSFER_RESULT_OK") <= 1 for names in answers.values())
    stored = books_as_stored(database, tenant)
    assert {row.transfer_id for row in stored} == acknowledged
    replay(stored)


def books_as_stored(database: DatabaseUrls, tenant: str) -> list[Transfer]:
    """Check the sums of the stored books and return their transfers in order of posting."""
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
        rows = connection.execute(
            "SELECT transfer_id, debit_account_id, credit_account_id, currency_code, amount_minor"
            " FROM ledger.transfer ORDER BY batch_no, position"
        ).fetchall()
        entries = connection.execute(
            "SELECT account_id, seq, amount_minor, balance_after_minor FROM ledger.entry ORDER BY account_id, seq"
        ).fetchall()
        balances = connection.execute(
            "SELECT account_id, debits_posted, credits_posted, last_seq FROM ledger.balance"
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
    assert len(entries) == 2 * len(rows)
    for account_id, debits_posted, credits_posted, last_seq in balances:
        assert last_seq == count[account_id]
        assert debits_posted == debits[account_id]
        assert debits_posted - credits_posted == running_balance[account_id]
    return [Transfer(*row) for row in rows]


def replay(stored: list[Transfer]) -> None:
    """Post what is stored one by one in its order: a single-threaded ledger accepts all of it."""
    balances = {
        name: Balance(name, "USD", AccountType.ASSET, Flags(name == LIMITED, False))
        for name in ACCOUNTS
    }
    known: dict[UUID, StoredTransfer] = {}
    for transfer in stored:
        [verdict] = evaluate([transfer], balances, known).verdicts
        assert verdict.result is TransferResult.OK
        known[transfer.transfer_id] = StoredTransfer(
            fingerprint(transfer), TransferResult.OK, transfer
        )


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
