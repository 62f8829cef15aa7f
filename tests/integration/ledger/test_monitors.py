"""Monitors of balances on a real server with real Postgres: each crossing is told once, whoever posts meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from payments.events.v1.ledger_events_pb2 import LedgerBalanceCrossed, LedgerBatchPosted
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import monitor_pb2
from payments.type.v1.type_pb2 import Money

from services.ledger import manifest as ledger
from services.ledger.domain import monitors
from services.runtime.clock import ManualClock
from tests.support.ledger.tenant import Ear, Tenant, move, refusal, settled, usd
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

BELOW, ABOVE = monitor_pb2.COMPARISON_BELOW, monitor_pb2.COMPARISON_ABOVE
AVAILABLE = monitor_pb2.BALANCE_SIDE_AVAILABLE
PENDING = monitor_pb2.BALANCE_SIDE_PENDING
ARMED, TRIGGERED = monitor_pb2.MONITOR_STATE_ARMED, monitor_pb2.MONITOR_STATE_TRIGGERED
EAR = Ear()


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls, clock: ManualClock) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE, EAR.build], clock=clock) as running_mesh:
        yield running_mesh


@pytest.fixture
async def books(mesh: Mesh) -> Tenant:
    tenant = Tenant(mesh, EAR)
    await tenant.open("bank")
    await tenant.open("wallet:1", "wallet:2", account_type="LIABILITY")
    return tenant


async def listed(books: Tenant, **filters: Any) -> dict[str, monitor_pb2.BalanceMonitor]:
    """All monitors by id, two on a page."""
    found: dict[str, monitor_pb2.BalanceMonitor] = {}
    request = monitor_pb2.ListBalanceMonitorsRequest(page_size=2, **filters)
    while True:
        page = await books.stub.ListBalanceMonitors(request)
        found |= {each.monitor_id: each for each in page.monitors}
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def delete(books: Tenant, monitor_id: str, request_id: str = "") -> Any:
    request = monitor_pb2.DeleteBalanceMonitorRequest(
        request_id=request_id or str(uuid4()), monitor_id=monitor_id
    )
    return await books.stub.DeleteBalanceMonitor(request)


async def crossed(books: Tenant) -> list[tuple[str, str, str, int]]:
    """Monitor, account, direction and balance of each crossing that was told."""
    return [
        (each.monitor_id, each.account_id, each.direction, each.balance.minor_units)
        for each in await books.told(LedgerBalanceCrossed)
    ]


async def test_a_crossing_is_told_once_and_again_only_after_it_came_back(books: Tenant) -> None:
    put = await books.watch(
        "low", account_id="wallet:1", comparison=BELOW, threshold=usd(10), description="top up"
    )
    assert put.state == TRIGGERED, "an empty wallet is low, and nobody crossed anything"
    fill, spend = ("bank", "wallet:1"), ("wallet:1", "bank")
    assert await books.post(move(*fill, 10)) == ["OK"]
    assert (await listed(books))["low"].state == ARMED
    sent = move(*spend, 1)
    await books.post(sent)
    await books.post(move(*spend, 1))
    assert (await listed(books))["low"].state == TRIGGERED
    await books.post(move(*fill, 5))
    await books.post(move(*spend, 4))
    first, second = await books.told(LedgerBalanceCrossed)
    batch_no = next(
        each.batch_no
        for each in await books.told(LedgerBatchPosted)
        if each.recorded_at == first.recorded_at and each.batch_no == first.batch_no
    )
    assert first == LedgerBalanceCrossed(
        monitor_id="low",
        account_id="wallet:1",
        side="posted",
        comparison="below",
        direction="fell",
        balance=usd(9),
        balance_before=usd(10),
        threshold=usd(10),
        batch_no=batch_no,
        transfer_id=sent.transfer_id,
        description="top up",
        recorded_at=first.recorded_at,
    )
    assert second.balance == usd(9)


async def test_a_batch_counts_as_one_step_and_names_the_transfer_that_crossed(
    books: Tenant,
) -> None:
    await books.watch("high", account_id="bank", comparison=ABOVE, threshold=usd(5))
    there, back = ("bank", "wallet:1"), ("wallet:1", "bank")
    # There and back within the batch: nobody could have seen it.
    assert await books.post(move(*there, 9), move(*back, 9)) == ["OK"] * 2
    assert await crossed(books) == []
    batch = [move(*there, 9), move(*back, 9), move(*there, 6), move(*there, 1)]
    assert await books.post(*batch) == ["OK"] * 4
    (told,) = await books.told(LedgerBalanceCrossed)
    assert (told.transfer_id, told.balance) == (batch[2].transfer_id, usd(7))


async def test_a_chain_that_is_undone_crosses_nothing(books: Tenant) -> None:
    await books.watch("high", account_id="bank", comparison=ABOVE, threshold=usd(5))
    broken = [move("bank", "wallet:1", 9, linked=True), move("bank", "nobody", 9)]
    assert await books.post(*broken) == ["LINKED_EVENT_FAILED", "CREDIT_ACCOUNT_NOT_FOUND"]
    assert await crossed(books) == []
    assert (await listed(books))["high"].state == ARMED


async def test_holds_move_what_is_pending_and_available_and_their_expiry_does(
    books: Tenant, clock: ManualClock
) -> None:
    assert await books.post(move("bank", "wallet:1", 10)) == ["OK"]
    for side, name in ((AVAILABLE, "available"), (PENDING, "pending"), (0, "posted")):
        for way, comparison in (("low", BELOW), ("high", ABOVE)):
            await books.watch(
                f"{name}-{way}",
                account_id="wallet:1",
                side=side,
                comparison=comparison,
                threshold=usd(5),
            )
    hold = move("wallet:1", "bank", 6, kind=pb.KIND_PENDING, timeout=Duration(seconds=60))
    assert await books.post(hold) == ["OK"]
    fell = [
        ("available-low", "wallet:1", "fell", 4),
        ("pending-low", "wallet:1", "fell", 4),
    ]
    assert await crossed(books) == fell
    # Holds that would bring money in make nothing available.
    assert await books.post(move("bank", "wallet:1", 3, kind=pb.KIND_PENDING)) == ["OK"]
    rose = [("pending-high", "wallet:1", "rose", 7)]
    assert await crossed(books) == fell + rose
    clock.advance(timedelta(seconds=60))

    async def look() -> bool:
        return len(await crossed(books)) > 3

    await settled(look)
    assert await crossed(books) == [*fell, *rose, ("available-high", "wallet:1", "rose", 10)]
    told = (await books.told(LedgerBalanceCrossed))[-1]
    assert (told.batch_no, told.transfer_id) == (0, hold.transfer_id)


async def test_a_prefix_watches_each_account_of_its_currency_also_new_ones(books: Tenant) -> None:
    await books.open("wallet:eur", account_type="LIABILITY", currency_code="EUR")
    await books.open("euros", currency_code="EUR")
    put = await books.watch("any", account_prefix="wallet:", comparison=ABOVE, threshold=usd(5))
    assert put.state == monitor_pb2.MONITOR_STATE_UNSPECIFIED
    await books.open("wallet:3", account_type="LIABILITY")
    in_euros = move("euros", "wallet:eur", None)
    in_euros.amount.CopyFrom(Money(currency_code="EUR", minor_units=9))
    batch = [move("bank", f"wallet:{n}", 2 + 2 * n) for n in (1, 2, 3)]
    assert await books.post(*batch, in_euros) == ["OK"] * 4
    # Of two accounts, in any order: each is the key of its own events.
    assert sorted(await crossed(books)) == [
        ("any", "wallet:2", "rose", 6),
        ("any", "wallet:3", "rose", 8),
    ]
    assert await books.post(move("bank", "wallet:1", 2), move("bank", "wallet:2", 2)) == ["OK"] * 2
    assert len(await crossed(books)) == 3


async def test_a_monitor_is_changed_moved_and_ended(books: Tenant, database: DatabaseUrls) -> None:
    await books.watch("m", account_id="wallet:1", comparison=ABOVE, threshold=usd(5))
    await books.watch("m", account_id="wallet:2", comparison=ABOVE, threshold=usd(7))
    assert await books.post(move("bank", "wallet:1", 6), move("bank", "wallet:2", 6)) == ["OK"] * 2
    assert await crossed(books) == []
    assert await books.post(move("bank", "wallet:2", 2)) == ["OK"]
    assert await crossed(books) == [("m", "wallet:2", "rose", 8)]
    # A lower threshold is satisfied by what there is: that is no crossing.
    changed = await books.watch("m", account_id="wallet:2", comparison=ABOVE, threshold=usd(1))
    assert changed.state == TRIGGERED
    assert await marked(books, database) == {"wallet:2"}
    await books.watch("other", account_id="wallet:2", comparison=ABOVE, threshold=usd(100))
    request_id = str(uuid4())
    ended = await delete(books, "m", request_id)
    assert ended.monitor.monitor_id == "m"
    assert await delete(books, "m", request_id) == ended
    assert (await refusal(delete(books, "m")))[0] == "NOT_FOUND"
    assert await marked(books, database) == {"wallet:2"}
    await books.watch("other", account_prefix="wallet:", comparison=ABOVE, threshold=usd(100))
    assert await marked(books, database) == set()
    assert await books.post(move("bank", "wallet:2", 100)) == ["OK"]
    assert [each[0] for each in await crossed(books)] == ["m", "other"]
    assert set(await listed(books)) == {"other"}


async def marked(books: Tenant, database: DatabaseUrls) -> set[str]:
    """The accounts that cost their batches a look at monitors."""
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", [books.name])
        found = connection.execute("SELECT account_id FROM ledger.balance WHERE monitored")
        return {row[0] for row in found}


async def test_monitors_are_listed_by_id_and_by_the_account_that_they_watch(books: Tenant) -> None:
    for name, target in (
        ("c", {"account_id": "wallet:1"}),
        ("a", {"account_prefix": "wallet:"}),
        ("b", {"account_id": "bank"}),
        ("d", {"account_prefix": "ban"}),
    ):
        await books.watch(name, comparison=BELOW, threshold=usd(1), **target)
    assert list(await listed(books)) == ["a", "b", "c", "d"]
    assert list(await listed(books, account_id="wallet:1")) == ["a", "c"]
    assert list(await listed(books, account_id="bank")) == ["b", "d"]
    assert (await refusal(listed(books, account_id="nobody")))[0] == "NOT_FOUND"


async def test_what_cannot_be_watched_is_refused(
    books: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {"comparison": BELOW, "threshold": usd(1)}
    euro = Money(currency_code="EUR", minor_units=1)
    odd = Money(currency_code="XXQ", minor_units=1)
    cases = {
        "NOT_FOUND": {**fields, "account_id": "nobody"},
        "UNKNOWN_CURRENCY": {**fields, "account_prefix": "w", "threshold": odd},
    }
    for reason, monitor in cases.items():
        assert (await refusal(books.watch("m", **monitor)))[0] == reason
    for monitor in (
        {**fields, "account_id": "bank", "threshold": euro},
        {**fields, "account_id": "bank", "account_prefix": "b"},
        fields,
        {"account_id": "bank", "threshold": usd(1)},
        {"account_id": "bank", "comparison": BELOW},
    ):
        assert (await refusal(books.watch("m", **monitor)))[0] == "INVALID_FIELD"
    monkeypatch.setattr("services.ledger.app.monitors.MONITORS_MAX", 2)
    monkeypatch.setattr("services.ledger.app.monitors.PREFIX_MONITORS_MAX", 1)
    await books.watch("p", account_prefix="w", **fields)
    full = ("BALANCE_MONITORS_FULL", {"monitors_max": "1"})
    assert await refusal(books.watch("q", account_prefix="w", **fields)) == full
    await books.watch("a", account_id="bank", **fields)
    full = ("BALANCE_MONITORS_FULL", {"monitors_max": "2"})
    assert await refusal(books.watch("b", account_id="bank", **fields)) == full
    # One that stands can be changed.
    await books.watch("p", account_prefix="wal", **fields)
    assert set(await listed(books)) == {"a", "p"}
    assert (monitors.MONITORS_MAX, monitors.PREFIX_MONITORS_MAX) == (10_000, 100)


async def test_another_tenant_sees_and_ends_none_of_it(mesh: Mesh, books: Tenant) -> None:
    await books.watch("m", account_id="bank", comparison=ABOVE, threshold=usd(1))
    other = Tenant(mesh, EAR)
    await other.open("bank", "x")
    assert await listed(other) == {}
    assert (await refusal(delete(other, "m")))[0] == "NOT_FOUND"
    await other.watch("m", account_id="bank", comparison=BELOW, threshold=usd(-5))
    assert await other.post(move("bank", "x", 9), move("x", "bank", 9)) == ["OK"] * 2
    assert await other.post(move("bank", "x", 9)) == ["OK"]
    assert await crossed(books) == await crossed(other) == []
    assert (await listed(books))["m"].comparison == ABOVE


async def test_the_crossings_that_many_callers_make_are_those_of_the_books(
    books: Tenant, database: DatabaseUrls
) -> None:
    """What was told is what the balances at the ends of the batches say, as the entries have them."""
    dice = random.Random(20261130)
    for name, comparison, threshold in (
        ("above", ABOVE, 3),
        ("below", BELOW, -2),
        ("at", monitor_pb2.COMPARISON_AT_OR_ABOVE, 0),
    ):
        await books.watch(name, account_id="bank", comparison=comparison, threshold=usd(threshold))
    await books.watch("any", account_prefix="ba", comparison=ABOVE, threshold=usd(3))

    async def client() -> None:
        for _ in range(25):
            accounts = ["bank", "wallet:1", "wallet:2"]
            batch = [
                move(debit, credit, dice.randint(1, 6))
                for debit, credit in (dice.sample(accounts, 2) for _ in range(dice.randint(1, 12)))
            ]
            assert set(await books.post(*batch)) == {"OK"}

    await asyncio.gather(*[client() for _ in range(5)])
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", [books.name])
        rows = connection.execute(
            "SELECT t.batch_no, (array_agg(e.balance_after_minor ORDER BY e.seq DESC))[1]"
            " FROM ledger.entry e JOIN ledger.transfer t USING (tenant_id, transfer_id, recorded_at)"
            " WHERE e.account_id = 'bank' GROUP BY t.batch_no ORDER BY max(e.seq)"
        ).fetchall()
    expected: dict[str, list[tuple[int, int]]] = {"above": [], "below": [], "at": []}
    before = 0
    for batch_no, balance in rows:
        held, holds = conditions(before), conditions(balance)
        for name, crossings in expected.items():
            if holds[name] and not held[name]:
                crossings.append((batch_no, balance))
        before = balance
    assert sum(map(len, expected.values())) > 10
    told: dict[str, list[tuple[int, int]]] = {"above": [], "below": [], "at": [], "any": []}
    for each in await books.told(LedgerBalanceCrossed):
        told[each.monitor_id].append((each.batch_no, each.balance.minor_units))
    assert told == {**expected, "any": expected["above"]}


def conditions(balance: int) -> dict[str, bool]:
    """What each monitor says of a balance."""
    return {"above": balance > 3, "below": balance < -2, "at": balance >= 0}


async def test_no_crossing_slips_past_a_monitor_that_is_being_put(books: Tenant) -> None:
    """Once a put is answered, whatever is not yet in the books is looked at, be it under way or not."""
    account = service_pb.GetAccountRequest(account_id="wallet:1")
    for round_no in range(15):
        name = f"w{round_no}"
        target = {"account_prefix": "wallet:"} if round_no % 2 else {"account_id": "wallet:1"}
        threshold = usd(100 * round_no + 50)

        async def fill() -> list[str]:
            return await books.post(move("bank", "wallet:1", 100))

        async def put(
            name: str = name, target: dict[str, str] = target, threshold: Money = threshold
        ) -> int:
            await books.watch(name, comparison=ABOVE, threshold=threshold, **target)
            found = (await books.stub.GetAccount(account)).account.balances
            return found.credits_posted

        _, seen = await asyncio.gather(fill(), put())
        told = [each for each in await crossed(books) if each[0] == name]
        # What the caller saw behind its put was above already, or it was told when it became so.
        assert len(told) <= 1
        assert told or seen > threshold.minor_units, round_no
