"""Transfers a second over gRPC, in batches of 1,000, against what a raw connection writes of the same rows; one a call
from 64 callers; both against a ledger of functions on the same Postgres.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import grpc
import psycopg
import pytest
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.local.postgres.server import EmbeddedPostgres
from services.runtime import migrations
from services.runtime.access import MeshTokens, Principal
from services.runtime.ids import new_uuid
from services.runtime.postgres import roles
from services.runtime.postgres.roles import DatabaseUrls, Passwords
from tests.bench.ledger import peer
from tests.support.measures.figures import tell
from tests.support.mesh.process import service
from tests.support.mesh.serving import MESH_SECRET

BATCH = 1_000
BATCHES = 20
ACCOUNTS = 1_000
CALLERS = 64

_FLOOR = """
WITH asked AS (
  SELECT * FROM unnest(%(ids)s::uuid[], %(debits)s::text[], %(credits)s::text[], %(amounts)s::bigint[])
           AS t (id, debit, credit, amount)
), ids AS (
  INSERT INTO ledger.transfer_id
  SELECT 'floor', id, decode('00112233445566778899aabbccddeeff', 'hex'), 1, now() FROM asked
), transfers AS (
  INSERT INTO ledger.transfer
  SELECT 'floor', id, 1, 1, debit, credit, 'USD', amount, 0, 1, false, now(), now(), '{}' FROM asked
), legs AS (
  SELECT id, debit AS account, credit AS counter, amount FROM asked
   UNION ALL SELECT id, credit, debit, -amount FROM asked
), entries AS (
  INSERT INTO ledger.entry
  SELECT 'floor', l.account, b.last_seq + row_number() OVER (PARTITION BY l.account), l.id, l.amount, 0, l.counter,
         'USD', 0, now(), now()
    FROM legs AS l JOIN ledger.balance AS b ON b.tenant_id = 'floor' AND b.account_id = l.account
)
UPDATE ledger.balance AS b
   SET debits_posted = debits_posted + s.debits, credits_posted = credits_posted + s.credits, last_seq = last_seq + s.n
  FROM (SELECT account, count(*) AS n, sum(greatest(amount, 0)) AS debits, sum(greatest(-amount, 0)) AS credits
          FROM legs GROUP BY account) AS s
 WHERE b.tenant_id = 'floor' AND b.account_id = s.account
"""


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseUrls]:
    """A durable Postgres of the bench's own."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("bench") / "data") as server:
        made = roles.prepare_now(server.create_database("bench"), passwords=Passwords.generate())
        migrations.upgrade(made.owner_admin, ["services.ledger.migrations"])
        yield made


Row = tuple[UUID, str, str, int]


def make_batches(dice: random.Random) -> list[list[Row]]:
    """Transfers between 1,000 accounts, ids in the order of time as clients make them."""
    names = [f"account-{n}" for n in range(ACCOUNTS)]
    return [
        [(new_uuid(), *dice.sample(names, 2), dice.randint(1, 1000)) for _ in range(BATCH)]  # type: ignore[misc]
        for _ in range(BATCHES)
    ]


def floor_rate(urls: DatabaseUrls, batches: Sequence[Sequence[Row]]) -> float:
    """Transfers a second that one connection writes, with nothing decided and no service between."""
    with psycopg.connect(urls.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 'floor', false)")
        connection.execute(
            "INSERT INTO ledger.balance SELECT 'floor', 'account-' || n, 'USD', 1, false, false, false, 0, 0, 0, now()"
            " FROM generate_series(0, %s) AS n",
            (ACCOUNTS - 1,),
        )
        connection.commit()
        started = time.perf_counter()
        for batch in batches:
            ids, debits, credits, amounts = (list(column) for column in zip(*batch, strict=True))
            connection.execute(
                _FLOOR.encode(),
                {"ids": ids, "debits": debits, "credits": credits, "amounts": amounts},
            )
            connection.commit()
        return BATCH * len(batches) / (time.perf_counter() - started)


async def service_rate(address: str, batches: Sequence[Sequence[Row]]) -> float:
    """Transfers a second over gRPC, two batches under way."""
    token = MeshTokens(MESH_SECRET).issue(Principal("bench", "bench", frozenset({"*"})))
    headers = (("authorization", f"Mesh {token}"),)
    requests = [
        service_pb.PostTransfersRequest(transfers=[transfer(row) for row in batch])
        for batch in batches
    ]
    accounts = [
        pb.Account(account_id=f"account-{n}", currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET)
        for n in range(ACCOUNTS)
    ]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = LedgerServiceStub(channel)
        created = service_pb.CreateAccountsRequest(accounts=accounts)
        await stub.CreateAccounts(created, metadata=headers)
        started = time.perf_counter()
        await asyncio.gather(*[post(stub, requests[lane::2], headers) for lane in range(2)])
        return BATCH * len(batches) / (time.perf_counter() - started)


async def post(
    stub: object, requests: Sequence[service_pb.PostTransfersRequest], headers: object
) -> None:
    """Post one batch after the other; each is posted whole."""
    for request in requests:
        response = await stub.PostTransfers(request, metadata=headers)  # type: ignore[attr-defined]
        assert {result.result for result in response.results} == {service_pb.TRANSFER_RESULT_OK}


def transfer(row: Row) -> pb.Transfer:
    """Make the message of a row."""
    return pb.Transfer(
        transfer_id=str(row[0]),
        debit_account_id=row[1],
        credit_account_id=row[2],
        amount=Money(currency_code="USD", minor_units=row[3]),
    )


def peer_rate(urls: DatabaseUrls, accounts: dict[str, str], batches: list[list[Row]]) -> float:
    """Transfers a second that the ledger of functions posts by its call with arrays."""
    with psycopg.connect(urls.owner_admin) as connection:
        started = time.perf_counter()
        for batch in batches:
            connection.execute(
                "SELECT count(*) FROM peer.post_all(%s::uuid[], %s::uuid[], %s::numeric[])",
                (
                    [accounts[debit] for _, debit, _, _ in batch],
                    [accounts[credit] for _, _, credit, _ in batch],
                    [amount for _, _, _, amount in batch],
                ),
            )
            connection.commit()
        return BATCH * len(batches) / (time.perf_counter() - started)


async def peer_singles(urls: DatabaseUrls, accounts: dict[str, str], rows: list[Row]) -> Latencies:
    """Post one transfer a call by function, from a connection a caller."""
    connections = [
        await psycopg.AsyncConnection.connect(urls.owner_admin, autocommit=True)
        for _ in range(CALLERS)
    ]

    async def post_one(caller: int, row: Row) -> None:
        _, debit, credit, amount = row
        await connections[caller].execute(
            "SELECT peer.post(%s::uuid, %s::uuid, %s)", (accounts[debit], accounts[credit], amount)
        )

    try:
        return await timed(rows, post_one)
    finally:
        for connection in connections:
            await connection.close()


async def service_singles(address: str, rows: list[Row]) -> Latencies:
    """Post one transfer a call over gRPC, all callers on one channel."""
    token = MeshTokens(MESH_SECRET).issue(Principal("bench", "bench", frozenset({"*"})))
    headers = (("authorization", f"Mesh {token}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = LedgerServiceStub(channel)

        async def post_one(_caller: int, row: Row) -> None:
            await post(stub, [service_pb.PostTransfersRequest(transfers=[transfer(row)])], headers)

        return await timed(rows, post_one)


@dataclass(frozen=True)
class Latencies:
    """What callers saw."""

    rate: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"


async def timed(rows: list[Row], post_one: Callable[[int, Row], Awaitable[None]]) -> Latencies:
    """Have all callers post their share of the rows, one after the other."""
    waited: list[float] = []

    async def call(caller: int) -> None:
        for row in rows[caller::CALLERS]:
            began = time.perf_counter()
            await post_one(caller, row)
            waited.append((time.perf_counter() - began) * 1000)

    started = time.perf_counter()
    await asyncio.gather(*[call(caller) for caller in range(CALLERS)])
    rate = len(rows) / (time.perf_counter() - started)
    waited.sort()
    return Latencies(rate, waited[len(waited) // 2], waited[len(waited) * 99 // 100])


async def test_transfers_a_second(urls: DatabaseUrls) -> None:
    dice = random.Random(1)
    warm, measured = make_batches(dice)[:4], make_batches(dice)
    singles = [row for batch in make_batches(dice)[:8] for row in batch]
    with service(urls, "services.ledger") as (address, _):
        await service_rate(address, warm)
        served = await service_rate(address, measured)
        served_singles = await service_singles(address, singles)
    floor = floor_rate(urls, make_batches(dice))
    accounts = peer.build(urls.owner_admin, ACCOUNTS)
    of_peer = peer_rate(urls, accounts, make_batches(dice)[:5])
    of_peer_singles = await peer_singles(urls, accounts, singles)
    what = f"PostTransfers, batches of {BATCH:,}"
    rate = f"{served:,.0f} transfers/s"
    tell(
        "ledger",
        what,
        rate,
        floor=f"raw Postgres, same rows: {floor:,.0f}/s",
        ratio=f"{served / floor:.2f}",
        target="0.60",
    )
    tell(
        "ledger",
        what,
        rate,
        floor=f"functions in Postgres, an array a call: {of_peer:,.0f}/s",
        ratio=f"{served / of_peer:.2f}",
        target="5",
    )
    tell(
        "ledger",
        f"PostTransfers, one transfer a call, {CALLERS} callers",
        str(served_singles),
        floor=f"functions in Postgres, one a call: {of_peer_singles}",
        ratio=f"{served_singles.rate / of_peer_singles.rate:.2f}",
        target="1.5",
    )
