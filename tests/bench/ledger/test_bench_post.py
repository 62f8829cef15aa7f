"""Transfers a second over gRPC in batches of 1,000, against what one raw connection writes of the same rows.

No target is set: the ratio shows what the service adds, on the day it is read.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
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
from tests.support.measures.figures import tell
from tests.support.mesh.process import service
from tests.support.mesh.serving import MESH_SECRET

BATCH = 1_000
BATCHES = 20
ACCOUNTS = 1_000

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


async def test_transfers_a_second(urls: DatabaseUrls) -> None:
    dice = random.Random(1)
    warm, timed = make_batches(dice)[:4], make_batches(dice)
    with service(urls, "services.ledger") as (address, _):
        await service_rate(address, warm)
        served = await service_rate(address, timed)
    floor = floor_rate(urls, make_batches(dice))
    tell(
        "ledger",
        f"PostTransfers, batches of {BATCH:,}",
        f"{served:,.0f} transfers/s",
        floor=f"raw Postgres, same rows: {floor:,.0f}/s",
        ratio=f"{served / floor:.2f}",
    )
