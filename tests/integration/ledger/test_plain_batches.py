"""The function that posts plain batches leaves the books as judging one by one does, and posts what that would.

The same batches are sent to two tenants; of one of them nothing may go the short way.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import monitor_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money
from psycopg.rows import dict_row

from services.ledger import manifest as ledger
from services.ledger.app import posting
from services.ledger.domain.plain import Layout, PlainBatch
from services.ledger.store import plain
from services.ledger.store.plain import Posted
from services.runtime.database import UnitOfWork
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

# More than callers share a transaction with.
ITEMS = range(9, 15)
BATCHES = 40
TABLES = ("transfer_id", "transfer", "entry", "balance")
# What differs between any two tenants, or two moments.
APART = {"tenant_id", "recorded_at", "effective_at", "updated_at", "claimed_by", "batch_no"}


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE]) as running_mesh:
        yield running_mesh


def money(minor_units: int, currency: str = "USD") -> Money:
    return Money(currency_code=currency, minor_units=minor_units)


def account(name: str, **fields: Any) -> pb.Account:
    given = {"currency_code": "USD", "type": pb.ACCOUNT_TYPE_ASSET, **fields}
    return pb.Account(account_id=name, **given)


ACCOUNTS = [
    *(account(f"open-{n}") for n in range(6)),
    account("liability", type=pb.ACCOUNT_TYPE_LIABILITY),
    account("euro", currency_code="EUR"),
    account("euros", currency_code="EUR"),
    account("no-overdraft", flags=pb.AccountFlags(debits_must_not_exceed_credits=True)),
    account("no-overpay", flags=pb.AccountFlags(credits_must_not_exceed_debits=True)),
    account("closed", flags=pb.AccountFlags(closed=True)),
    *(
        account(
            f"bounded-{kind}",
            type=kind,
            limits=pb.AccountLimits(floor=money(-30), ceiling=money(30)),
        )
        for kind in (pb.ACCOUNT_TYPE_ASSET, pb.ACCOUNT_TYPE_INCOME)
    ),
]
NAMES = [item.account_id for item in ACCOUNTS] + ["missing"]
# Most batches stay among these, so that both ways are gone.
MILD = [name for name in NAMES if name not in ("closed", "missing", "euro", "euros")]


def transfer(debit: str, credit: str, minor_units: int, **more: Any) -> pb.Transfer:
    given = {"transfer_id": str(uuid4()), "amount": money(minor_units), **more}
    return pb.Transfer(debit_account_id=debit, credit_account_id=credit, **given)


def drawn(dice: random.Random, ids: list[str]) -> list[pb.Transfer]:
    names = NAMES if dice.random() < 0.2 else MILD[:6] if dice.random() < 0.3 else MILD
    batch = []
    for _ in range(dice.choice(ITEMS)):
        again = ids and dice.random() < 0.01
        id_ = dice.choice(ids) if again else str(UUID(int=dice.getrandbits(128), version=4))
        ids.append(id_)
        amount = money(dice.randint(1, 4), "EUR" if dice.random() < 0.01 else "USD")
        debit, credit = dice.sample(names, 2)
        batch.append(
            transfer(debit, credit, 0, transfer_id=id_, amount=amount, code=dice.randint(0, 2))
        )
    return batch


class Tenant:
    def __init__(self, mesh: Mesh, owner: psycopg.Connection) -> None:
        self.name = f"t-{uuid4().hex[:12]}"
        self.stub: LedgerServiceAsyncStub = LedgerServiceStub(mesh.channel(self.name))
        self._owner = owner

    async def open(self) -> None:
        made = service_pb.CreateAccountsRequest(accounts=ACCOUNTS)
        answer = await self.stub.CreateAccounts(made)
        assert {r.result for r in answer.results} == {service_pb.ACCOUNT_RESULT_OK}

    async def post(self, batch: list[pb.Transfer]) -> list[tuple[int, int]]:
        answer = await self.stub.PostTransfers(service_pb.PostTransfersRequest(transfers=batch))
        assert [r.transfer_id for r in answer.results] == [t.transfer_id for t in batch]
        return [(r.result, r.original_result) for r in answer.results]

    def books(self) -> dict[str, list[dict[str, Any]]]:
        """Return what is stored, batches by their order."""
        found = {}
        for table in TABLES:
            with self._owner.cursor(row_factory=dict_row) as cursor:
                cursor.execute(f"SELECT * FROM ledger.{table} WHERE tenant_id = %s", (self.name,))
                rows = cursor.fetchall()
            numbers = sorted({row["batch_no"] for row in rows if "batch_no" in row})
            for row in rows:
                if "batch_no" in row:
                    row["nth"] = numbers.index(row["batch_no"])
            kept = [{k: v for k, v in row.items() if k not in APART} for row in rows]
            found[table] = sorted(kept, key=str)
        return found


@pytest.fixture
def owner(database: DatabaseUrls) -> Any:
    with psycopg.connect(database.owner_admin, autocommit=True) as connection:
        yield connection


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what became of batches that were tried as a whole."""
    seen: Counter[str] = Counter()

    async def post(work: UnitOfWork, batch: PlainBatch, layout: Layout) -> Posted:
        posted = await plain.post_plain(work, batch, layout)
        claimed = "looked at no id" if posted.claimed is None else "claimed"
        seen["posted" if posted.batch_no is not None else claimed] += 1
        return posted

    monkeypatch.setattr(posting, "plain", type("plain", (), {"post_plain": staticmethod(post)}))
    return seen


@pytest.mark.parametrize("seed", range(4))
async def test_both_ways_leave_the_same_books(
    mesh: Mesh,
    owner: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    ways: Counter[str],
    seed: int,
) -> None:
    dice, ids = random.Random(seed), list[str]()
    short, long = Tenant(mesh, owner), Tenant(mesh, owner)
    await short.open()
    await long.open()
    for _ in range(BATCHES):
        batch = drawn(dice, ids)
        verdicts = await short.post(batch)
        with monkeypatch.context() as patch:
            patch.setattr(posting, "lay_out", lambda batch: None)
            assert await long.post(batch) == verdicts
    assert short.books() == long.books()
    assert min(ways["posted"], ways["claimed"]) > 5


@pytest.mark.parametrize(
    ("name", "is_debit", "at_most"),
    [
        ("no-overdraft", True, 0),
        ("no-overpay", False, 0),
        ("bounded-1", True, 30),
        ("bounded-1", False, 30),
        ("bounded-4", True, 30),
        ("bounded-4", False, 30),
    ],
)
async def test_a_limit_is_reached_as_a_whole_and_passed_by_nobody(
    mesh: Mesh,
    owner: psycopg.Connection,
    ways: Counter[str],
    name: str,
    is_debit: bool,
    at_most: int,
) -> None:
    tenant = Tenant(mesh, owner)
    await tenant.open()

    def moves(amount: int) -> list[pb.Transfer]:
        sides = (name, "open-0") if is_debit else ("open-0", name)
        return [transfer(*sides, 1) for _ in range(amount)]

    back = ("open-0", name) if is_debit else (name, "open-0")
    if not at_most:
        at_most = 12
        assert {r for r, _ in await tenant.post([transfer(*back, 12)])} == {1}
        ways.clear()
    assert {r for r, _ in await tenant.post(moves(at_most))} == {service_pb.TRANSFER_RESULT_OK}
    assert ways == {"posted": 1}
    refused = await tenant.post(moves(9))
    assert service_pb.TRANSFER_RESULT_OK not in {result for result, _ in refused}
    assert len({result for result, _ in refused}) == 1
    # Once it is at its limit it can still be moved away from it.
    assert {r for r, _ in await tenant.post([transfer(*back, 1) for _ in range(9)])} == {1}
    assert ways == {"posted": 2, "claimed": 1}


async def test_what_is_watched_is_judged_one_by_one_and_told(
    mesh: Mesh, owner: psycopg.Connection, ways: Counter[str]
) -> None:
    tenant = Tenant(mesh, owner)
    await tenant.open()
    batch = [transfer("open-0", "open-1", 1) for _ in range(9)]
    await tenant.post(batch)
    assert ways == {"posted": 1}
    monitor: Any = {
        "side": monitor_pb2.BALANCE_SIDE_POSTED,
        "comparison": monitor_pb2.COMPARISON_ABOVE,
        "threshold": money(100),
    }
    watched: list[Any] = [{"account_id": "open-2"}, {"account_prefix": "open-3"}]
    for more in watched:
        put = monitor_pb2.PutBalanceMonitorRequest(
            request_id=str(uuid4()),
            monitor=monitor_pb2.BalanceMonitor(monitor_id=next(iter(more)), **monitor, **more),
        )
        await tenant.stub.PutBalanceMonitor(put)
    ways.clear()
    for name, way in (("open-2", "claimed"), ("open-3", "looked at no id"), ("open-4", "posted")):
        results = await tenant.post([transfer(name, "open-5", 1) for _ in range(9)])
        assert {result for result, _ in results} == {service_pb.TRANSFER_RESULT_OK}
        assert ways.pop(way) == 1, name
    assert not ways


async def test_what_came_before_is_answered_as_before(
    mesh: Mesh, owner: psycopg.Connection, ways: Counter[str]
) -> None:
    tenant = Tenant(mesh, owner)
    await tenant.open()
    batch = [transfer("open-0", "open-1", 1) for _ in range(9)]
    await tenant.post(batch)
    assert set(await tenant.post(batch)) == {(service_pb.TRANSFER_RESULT_EXISTS, 0)}
    new = [transfer("open-0", "open-1", 1) for _ in range(9)]
    changed = transfer("open-0", "open-1", 2, transfer_id=batch[0].transfer_id)
    results = [result for result, _ in await tenant.post([*new, changed, batch[1]])]
    different = service_pb.TRANSFER_RESULT_EXISTS_WITH_DIFFERENT_AMOUNT
    assert results == [*([1] * 9), different, service_pb.TRANSFER_RESULT_EXISTS]
    assert ways == {"posted": 1, "claimed": 2}


async def test_a_closed_period_refuses_what_takes_effect_in_it(
    mesh: Mesh, owner: psycopg.Connection, ways: Counter[str]
) -> None:
    tenant = Tenant(mesh, owner)
    await tenant.open()
    for when, way in (
        ("now() - interval '1 day'", "posted"),
        ("now() + interval '1 day'", "looked at no id"),
    ):
        owner.execute("DELETE FROM ledger.period WHERE tenant_id = %s", (tenant.name,))
        owner.execute(
            f"INSERT INTO ledger.period VALUES (%s, 'USD', {when}, 'test', now())".encode(),
            (tenant.name,),
        )
        ways.clear()
        results = await tenant.post([transfer("open-0", "open-1", 1) for _ in range(9)])
        closed = service_pb.TRANSFER_RESULT_EFFECTIVE_AT_IN_CLOSED_PERIOD
        assert {r for r, _ in results} == {1 if way == "posted" else closed}
        assert ways == {way: 1}
