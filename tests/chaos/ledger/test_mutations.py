"""Each lock, order and ON CONFLICT of posting is needed: without it, clients that contend find something wrong."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.ledger import manifest as ledger
from services.ledger.store import accounts, posting
from services.runtime import commands
from tests.support.ledger import history
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

CLIENTS = 6
ROUNDS = 2
# Where clients meet in any order, about one round in six ends without a deadlock.
ROUNDS_OF_MUTATION = 10
# As many as one statement takes: so they meet within it.
ITEMS = 400


@dataclass(frozen=True)
class Mutation:
    """A statement without something that it has."""

    module: object
    statement: str
    without: str
    instead: str = ""

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        """Take it away."""
        statements = vars(self.module)["_SQL"]
        text = statements[self.statement]
        changed = re.sub(self.without, self.instead, text)
        assert changed != text, f"{self.statement} has no {self.without}"
        patch.setitem(statements, self.statement, changed)

    def __str__(self) -> str:
        return f"{self.statement} without {self.without}"


_DEFINITION = "SELECT pg_get_functiondef('ledger.post_plain'::regproc)"


@contextmanager
def function_without(admin_url: str, without: str, instead: str) -> Iterator[None]:
    """Take something away from the function that posts plain batches."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        ((text,),) = connection.execute(_DEFINITION).fetchall()
        changed = re.sub(without, instead, text)
        assert changed != text, f"the function has no {without}"
        connection.execute(changed.encode())
        try:
            yield
        finally:
            connection.execute(text.encode())


# Without an order rows are locked as they are found, which may be any order: so any order it is.
ANY_ORDER = "ORDER BY random()"
OF_FUNCTION = (
    (r"FOR NO KEY UPDATE OF b", ""),
    (r"ORDER BY b\.account_id", ANY_ORDER),
    (r"ORDER BY t\.transfer_id", ANY_ORDER),
    (r"ON CONFLICT DO NOTHING", ""),
)
MUTATIONS = (
    Mutation(posting, "lock_balances", r"FOR NO KEY UPDATE"),
    Mutation(posting, "lock_balances", r"ORDER BY account_id", ANY_ORDER),
    Mutation(posting, "lock_holds", r"FOR NO KEY UPDATE"),
    Mutation(posting, "lock_holds", r"ORDER BY transfer_id", ANY_ORDER),
    Mutation(posting, "claim_ids", r"ORDER BY t\.transfer_id", ANY_ORDER),
    Mutation(posting, "claim_ids", r"ON CONFLICT DO NOTHING"),
    Mutation(accounts, "insert_accounts", r'ORDER BY a\.account_id COLLATE "C"', ANY_ORDER),
    Mutation(accounts, "insert_accounts", r"ON CONFLICT DO NOTHING"),
)


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE]) as running_mesh:
        yield running_mesh


@pytest.fixture(autouse=True)
def seen_deadlocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The victim of a deadlock is told so, and not quietly tried again."""
    monkeypatch.setattr(commands, "_VICTIMS", ())


_ACCOUNT = """
INSERT INTO ledger.account (tenant_id, account_id, currency_code, type, debits_must_not_exceed_credits,
                            credits_must_not_exceed_debits, closed, owner, metadata, created_at)
VALUES (%(tenant)s, %(name)s, 'USD', 1, false, false, false, '', '{}', now())
"""
_ID = """
INSERT INTO ledger.transfer_id (tenant_id, transfer_id, fingerprint, result)
VALUES (%(tenant)s, %(name)s::uuid, decode('00112233445566778899aabbccddeeff', 'hex'), 1)
"""
_HOLD = """
SELECT 1 FROM ledger.hold WHERE tenant_id = %(tenant)s AND transfer_id = %(name)s::uuid FOR NO KEY UPDATE
"""
_BALANCE = """
SELECT 1 FROM ledger.balance WHERE tenant_id = %(tenant)s AND account_id = %(name)s FOR NO KEY UPDATE
"""
_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def names_of(round_no: int) -> list[str]:
    return [f"account-{round_no}-{n}" for n in range(ITEMS)]


def transfer(names: list[str], dice: random.Random, **more: Any) -> pb.Transfer:
    debit, credit = dice.sample(names, 2)
    amount = Money(currency_code="USD", minor_units=1)
    return pb.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=amount,
        **more,
    )


def end(held: pb.Transfer) -> pb.Transfer:
    return pb.Transfer(
        transfer_id=str(uuid4()), kind=pb.KIND_POST_PENDING, pending_id=held.transfer_id
    )


class Crowd:
    """Clients that do the same at once, each in its own order."""

    def __init__(self, stub: LedgerServiceAsyncStub, service_url: str, tenant: str) -> None:
        self._stub = stub
        self._service_url = service_url
        self._tenant = tenant
        self.posted: Counter[str] = Counter()

    async def create(self, names: list[str], dice: random.Random) -> None:
        accounts = [
            pb.Account(account_id=name, currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET)
            for name in dice.sample(names, len(names))
        ]
        await self._stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))

    async def post(self, transfers: list[pb.Transfer]) -> None:
        request = service_pb.PostTransfersRequest(transfers=transfers)
        answer = await self._stub.PostTransfers(request)
        for sent, item in zip(transfers, answer.results, strict=True):
            if item.result == service_pb.TRANSFER_RESULT_OK and sent.kind != pb.KIND_PENDING:
                self.posted[sent.pending_id or sent.transfer_id] += 1

    @asynccontextmanager
    async def _blocked(self, statement: str, name: str) -> AsyncIterator[None]:
        """Hold what all of them want until they wait: for it where they have an order, else with much of theirs."""
        async with await psycopg.AsyncConnection.connect(self._service_url) as connection:
            await connection.execute("SELECT set_config('mesh.tenant', %s, true)", (self._tenant,))
            await connection.execute(statement.encode(), {"tenant": self._tenant, "name": name})
            yield
            for _ in range(200):
                await asyncio.sleep(0.02)
                found = await connection.execute(_WAITING)
                if await found.fetchone() == (CLIENTS,):
                    break
            await connection.rollback()

    async def contend(self, round_no: int) -> None:
        """Create the same accounts; post between them; post the same ids; end the same holds."""
        dices = [random.Random(100 * round_no + number) for number in range(CLIENTS)]
        same, names = random.Random(round_no), names_of(round_no)
        async with self._blocked(_ACCOUNT, min(names)):
            creating = [asyncio.ensure_future(self.create(names, dice)) for dice in dices]
        await asyncio.gather(*creating)
        # Plain ones are posted by the function, those that say more are judged one by one.
        for more in ({}, {"metadata": {"k": "v"}}):
            await self._contend_for_balances_and_ids(names, dices, same, more)
        holds = [transfer(names, same, kind=pb.KIND_PENDING) for _ in range(ITEMS)]
        await self.post(holds)
        ends = [[end(held) for held in dice.sample(holds, ITEMS)] for dice in dices]
        async with self._blocked(_HOLD, min(held.transfer_id for held in holds)):
            posting = [asyncio.ensure_future(self.post(transfers)) for transfers in ends]
        await asyncio.gather(*posting)

    async def _contend_for_balances_and_ids(
        self, names: list[str], dices: list[random.Random], same: random.Random, more: Any
    ) -> None:
        own = [[transfer(names, dice, **more) for _ in range(ITEMS)] for dice in dices]
        async with self._blocked(_BALANCE, min(names)):
            posting = [asyncio.ensure_future(self.post(transfers)) for transfers in own]
        await asyncio.gather(*posting)
        shared = [transfer(names, same, **more) for _ in range(ITEMS)]
        async with self._blocked(_ID, min(item.transfer_id for item in shared)):
            posting = [
                asyncio.ensure_future(self.post(dice.sample(shared, ITEMS))) for dice in dices
            ]
        await asyncio.gather(*posting)


async def check(mesh: Mesh, database: DatabaseUrls, tenant: str, rounds: int) -> None:
    crowd = Crowd(LedgerServiceStub(mesh.channel(tenant)), database.service, tenant)
    for round_no in range(rounds):
        await crowd.contend(round_no)
        assert set(crowd.posted.values()) == {1}, "each id and each hold is posted once"
        count = (round_no + 1) * (2 * (CLIENTS + 1) + 1) * ITEMS
        assert len(crowd.posted) == count
        books = history.read_books(database.service, tenant)
        assert len(books.places) == count + (round_no + 1) * ITEMS


async def test_clients_that_contend_find_nothing_wrong(mesh: Mesh, database: DatabaseUrls) -> None:
    await check(mesh, database, f"t-{uuid4().hex[:12]}", ROUNDS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
async def test_nothing_of_it_can_be_left_out(
    mesh: Mesh, database: DatabaseUrls, mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation.apply(monkeypatch)
    with pytest.raises((AssertionError, grpc.aio.AioRpcError)):
        await check(mesh, database, f"t-{uuid4().hex[:12]}", ROUNDS_OF_MUTATION)


@pytest.mark.parametrize(("without", "instead"), OF_FUNCTION, ids=lambda each: each or "nothing")
async def test_nothing_of_the_function_can_be_left_out(
    mesh: Mesh, database: DatabaseUrls, without: str, instead: str
) -> None:
    with (
        function_without(database.owner_admin, without, instead),
        pytest.raises((AssertionError, grpc.aio.AioRpcError)),
    ):
        await check(mesh, database, f"t-{uuid4().hex[:12]}", ROUNDS_OF_MUTATION)
