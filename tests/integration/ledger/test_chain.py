"""Blocks of the chain: no transfer is ever skipped, no block is made twice, and nobody who posts waits for one."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.integrity_pb2 import INTEGRITY_CHECK_CHAIN
from psycopg.rows import dict_row
from pydantic import SecretStr

from services.ledger import manifest as ledger
from services.ledger.work.chain import Chaining
from services.runtime import crashpoints
from services.runtime.secrets import new_key
from tests.support.ledger.living import LivingBooks, move
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

KEYS = SecretStr(new_key())
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE], secrets_keys=KEYS) as running_mesh:
        yield running_mesh


@pytest.fixture
async def books(mesh: Mesh) -> LivingBooks:
    made = LivingBooks(mesh)
    await made.open("a", "b")
    return made


@pytest.fixture
def owner(database: DatabaseUrls) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.owner_admin, autocommit=True) as connection:
        yield connection


def rows(owner: psycopg.Connection, statement: str, tenant: str) -> list[dict[str, Any]]:
    with owner.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, {"tenant": tenant}).fetchall()


BLOCKS = "SELECT * FROM ledger.block WHERE tenant_id = %(tenant)s ORDER BY block_no"
TRANSFERS = "SELECT * FROM ledger.transfer WHERE tenant_id = %(tenant)s ORDER BY batch_no, position"
ENTRIES = "SELECT * FROM ledger.entry WHERE tenant_id = %(tenant)s ORDER BY account_id, seq"


async def test_a_block_can_be_hashed_again_by_what_is_written_of_it(
    mesh: Mesh, owner: psycopg.Connection
) -> None:
    """As an auditor would, with nothing of the product but the page that says how."""
    books = LivingBooks(mesh)
    await books.live()
    head = await books.seal()
    transfers, entries = (rows(owner, each, books.tenant) for each in (TRANSFERS, ENTRIES))
    previous, total = "0" * 64, 0
    blocks = rows(owner, BLOCKS, books.tenant)
    for number, block in enumerate(blocks, start=1):
        first, last = ((block[f"{x}_batch_no"], block[f"{x}_position"]) for x in ("first", "last"))
        own = [t for t in transfers if first <= (t["batch_no"], t["position"]) <= last]
        total += len(own)
        lines = [
            {
                "version": 1,
                "tenant_id": books.tenant,
                "block_no": number,
                "first": first,
                "last": last,
                "transfer_count": len(own),
                "transfer_total": total,
                "previous_hash": previous,
                "recorded_at_us": micros(block["recorded_at"]),
            },
            *(
                audited(t, [e for e in entries if e["transfer_id"] == t["transfer_id"]])
                for t in own
            ),
        ]
        text = "".join(
            json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
            for line in lines
        )
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert block["hash"].hex() == previous
    assert total == len(transfers) > 30
    assert (head.block_no, head.hash, head.transfer_count) == (len(blocks), previous, total)
    Ed25519PublicKey.from_public_bytes(head.public_key).verify(
        head.signature, head.signed_text.encode()
    )
    told = json.loads(head.signed_text)
    assert (told["hash"], told["block_no"], told["tenant_id"]) == (
        previous,
        len(blocks),
        books.tenant,
    )
    listed = await books.stub.ListBlocks(
        service_pb.ListBlocksRequest(newest_first=True, page_size=1)
    )
    assert [each.hash for each in listed.blocks] == [previous]
    assert bool(listed.next_page_token) == (len(blocks) > 1)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def audited(transfer: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    told = {name: value for name, value in transfer.items() if value is not None}
    reference = [told.pop(f"reference_{part}", None) for part in ("kind", "id", "part")]
    for name in ("effective_at", "recorded_at"):
        told[f"{name}_us"] = micros(told.pop(name))
    for name in ("transfer_id", "pending_id", "reverses_id", "posting_id"):
        if name in told:
            told[name] = str(told[name])
    for name in ("linked", "asked_all"):
        told[name] = int(told[name])
    del told["tenant_id"]
    if reference[0] is not None:
        told["reference"] = reference
    told["entries"] = []
    for entry in entries:
        shown = {n: v for n, v in entry.items() if n not in ("tenant_id", "transfer_id")}
        for name in ("effective_at", "recorded_at"):
            shown[f"{name}_us"] = micros(shown.pop(name))
        told["entries"].append(shown)
    return told


async def test_blocks_are_bounded_and_a_batch_goes_on_in_the_next(
    books: LivingBooks, owner: psycopg.Connection
) -> None:
    batch = [move("a", "b", 1) for _ in range(2_500)]
    await books.post(*batch)
    await books.post(move("b", "a", 1))
    head = await books.seal()
    blocks = rows(owner, BLOCKS, books.tenant)
    assert [block["transfer_count"] for block in blocks][:2] == [1000, 1000]
    assert sum(block["transfer_count"] for block in blocks) == head.transfer_count == 2_501
    assert blocks[1]["first_batch_no"] == blocks[0]["last_batch_no"]
    assert blocks[1]["first_position"] == blocks[0]["last_position"] + 1
    assert await books.verify(head) == []


async def test_a_batch_that_is_still_open_is_waited_for_and_never_skipped(
    books: LivingBooks, owner: psycopg.Connection, database: DatabaseUrls
) -> None:
    """The batch that drew its number first commits last."""
    with psycopg.connect(database.service) as late:
        late.execute("SELECT set_config('mesh.tenant', %s, true)", [books.tenant])
        post_by_hand(late, books.tenant, uuid4())
        await books.post(move("a", "b", 2))
        await books.post(move("a", "b", 3))
        chaining = Chaining(books.mesh.node.database)
        assert await chaining.close(books.tenant) is False
        assert rows(owner, BLOCKS, books.tenant) == []
        late.commit()
    await books.seal()
    transfers = rows(owner, TRANSFERS, books.tenant)
    assert [each["amount_minor"] for each in transfers] == [1, 2, 3]
    blocks = rows(owner, BLOCKS, books.tenant)
    assert sum(block["transfer_count"] for block in blocks) == 3
    assert await books.verify(checks=[INTEGRITY_CHECK_CHAIN]) == []


async def test_a_batch_that_is_rolled_back_leaves_a_gap_that_nobody_waits_for(
    books: LivingBooks, owner: psycopg.Connection, database: DatabaseUrls
) -> None:
    with psycopg.connect(database.service) as gone:
        gone.execute("SELECT set_config('mesh.tenant', %s, true)", [books.tenant])
        post_by_hand(gone, books.tenant, uuid4())
        await books.post(move("a", "b", 2))
        gone.rollback()
    await books.seal()
    assert [block["transfer_count"] for block in rows(owner, BLOCKS, books.tenant)] == [1]


def post_by_hand(connection: psycopg.Connection, tenant: str, transfer_id: Any) -> None:
    """Post one cent in the order in which the ledger does: the id, then the number of the batch, then the rows."""
    values = {"tenant": tenant, "id": transfer_id}
    connection.execute(
        "INSERT INTO ledger.transfer_id (tenant_id, transfer_id, fingerprint, result, recorded_at)"
        " VALUES (%(tenant)s, %(id)s, decode(repeat('00', 16), 'hex'), 1, now())",
        values,
    )
    connection.execute(
        "INSERT INTO ledger.transfer (tenant_id, transfer_id, batch_no, position, debit_account_id, credit_account_id,"
        " currency_code, amount_minor, code, kind, linked, effective_at, recorded_at, metadata)"
        " VALUES (%(tenant)s, %(id)s, nextval('ledger.batch_no'), 0, 'x', 'y', 'USD', 1, 0, 1, false,"
        " now(), now(), '{}')",
        values,
    )


async def test_several_processes_and_those_who_post_make_one_chain(
    books: LivingBooks, owner: psycopg.Connection, database: DatabaseUrls
) -> None:
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(running(database, [ledger.SERVICE], secrets_keys=KEYS))
            for _ in range(2)
        ]
        chainings = [Chaining(mesh.node.database) for mesh in nodes]
        posting = asyncio.gather(
            *(post_often(LivingBooks(mesh, books.tenant)) for mesh in (books.mesh, *nodes))
        )
        closing = [
            asyncio.create_task(close_often(chaining, books.tenant, posting))
            for chaining in chainings
        ]
        await asyncio.gather(posting, *closing)
    # Where all came before the first block was closed, one comes behind it.
    await books.seal()
    assert await books.post(move("a", "b", 1)) == ["OK"]
    head = await books.seal()
    blocks = rows(owner, BLOCKS, books.tenant)
    assert [block["block_no"] for block in blocks] == [*range(1, len(blocks) + 1)]
    assert sum(block["transfer_count"] for block in blocks) == head.transfer_count == 3 * 10 * 7 + 1
    assert len(blocks) > 1
    assert await books.verify(head) == []


async def post_often(books: LivingBooks) -> None:
    for _ in range(10):
        batch = [move("a", "b", 1) for _ in range(7)]
        assert await books.post(*batch) == ["OK"] * 7


async def close_often(chaining: Chaining, tenant: str, posting: asyncio.Future[Any]) -> None:
    while not posting.done():
        await chaining.close(tenant)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_death_between_blocks_leaves_a_chain_that_goes_on(
    point: str, books: LivingBooks, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await books.post(*[move("a", "b", 1) for _ in range(2_100)])
    died = 0

    def die(name: str) -> None:
        nonlocal died
        if name == f"ledger.close_block.{point}" and died < 2:
            died += 1
            raise Death

    monkeypatch.setattr("services.runtime.database.crashpoint", die)
    chaining = Chaining(books.mesh.node.database)
    for _ in range(20):
        try:
            await chaining.close(books.tenant)
        except Death:
            continue
        if not await books.unchained():
            break
    monkeypatch.setattr("services.runtime.database.crashpoint", crashpoints.crashpoint)
    assert died == 2
    head = await books.seal()
    assert head.transfer_count == 2_100
    numbers = [block["block_no"] for block in rows(owner, BLOCKS, books.tenant)]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert await books.verify(head) == []


class Death(BaseException):
    """What a crash point does in this test."""


async def test_a_head_is_signed_once_and_by_one_key(books: LivingBooks) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.stub.GetLedgerHead(service_pb.GetLedgerHeadRequest())
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    await books.post(move("a", "b", 1))
    chaining = Chaining(books.mesh.node.database)
    while await books.unchained():
        await chaining.close(books.tenant)
    asked = [books.stub.GetLedgerHead(service_pb.GetLedgerHeadRequest()) for _ in range(5)]
    heads = [answer.head for answer in await asyncio.gather(*asked)]
    assert all(head == heads[0] for head in heads)
    await books.post(move("a", "b", 1))
    later = await books.seal()
    assert (later.block_no, later.key_id) == (heads[0].block_no + 1, heads[0].key_id)
    assert await books.verify(heads[0], later) == []


async def test_without_a_key_blocks_are_closed_and_heads_are_refused(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    async with running(new_database(), [ledger.SERVICE]) as mesh:
        books = LivingBooks(mesh)
        await books.open("a", "b")
        await books.post(move("a", "b", 1))
        while await books.unchained():
            await Chaining(mesh.node.database).close(books.tenant)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await books.stub.GetLedgerHead(service_pb.GetLedgerHeadRequest())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "TOLLMESH_SECRETS_KEYS" in str(refused.value.details())
        assert await books.verify() == []


async def test_the_chain_is_read_by_its_indexes(books: LivingBooks, database: DatabaseUrls) -> None:
    await books.post(*[move("a", "b", 1) for _ in range(3)])
    keys = {"t": books.tenant}
    with psycopg.connect(database.service) as service:
        service.execute("SELECT set_config('mesh.tenant', %(t)s, true)", keys)
        service.execute(
            "SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true)"
        )
        for statement, index in (
            (
                "SELECT * FROM ledger.transfer WHERE tenant_id = %(t)s AND (batch_no, position) > (1, 1)"
                " AND (batch_no, position) <= (5, 5) ORDER BY batch_no, position LIMIT 10",
                '(batch_no, "position") > ',
            ),
            (
                "SELECT * FROM ledger.entry WHERE tenant_id = %(t)s AND recorded_at = ANY (ARRAY[now()])",
                "recorded_at = ANY",
            ),
            (
                "SELECT * FROM ledger.transfer WHERE tenant_id = %(t)s"
                " AND pending_id = ANY (ARRAY['0190c1de-0000-7000-8000-000000000001'::uuid])",
                "pending_id = ANY",
            ),
            (
                "SELECT * FROM ledger.entry WHERE tenant_id = %(t)s AND (account_id, seq) > ('a', 3)"
                " ORDER BY account_id, seq LIMIT 10",
                "account_id",
            ),
        ):
            plan = "\n".join(row[0] for row in service.execute(f"EXPLAIN {statement}", keys))
            conditions = [line for line in plan.splitlines() if "Index Cond" in line]
            assert any(index in line.replace("ROW", "") for line in conditions), plan
            assert "Seq Scan" not in plan, plan
