"""Balances as of any time: exact for every pair of times, wherever the sums behind them stand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from payments.ledger.v1 import balance_pb2
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.ledger import manifest as ledger
from services.ledger.work import sums as sums_work
from services.ledger.work.months import Months
from services.ledger.work.sums import Sums
from tests.integration.ledger.test_ledger import reason
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

START = datetime(2026, 3, 30, 22, tzinfo=UTC)
TYPES = {
    "a:1": pb.ACCOUNT_TYPE_ASSET,
    "a:2": pb.ACCOUNT_TYPE_LIABILITY,
    "a:20": pb.ACCOUNT_TYPE_ASSET,
    "b:1": pb.ACCOUNT_TYPE_INCOME,
}
SETTINGS = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
GROWS_BY_DEBIT = {pb.ACCOUNT_TYPE_ASSET, pb.ACCOUNT_TYPE_EXPENSE}


class LooseClock:
    """A time that is set: an account's batches may be recorded out of order, as each takes its time before it waits."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        """Return the time that was set last."""
        return self.moment


@dataclass(frozen=True)
class Entry:
    """One side of a transfer, as a list keeps it."""

    account: str
    amount: int
    effective_at: datetime
    recorded_at: datetime


@dataclass
class Books:
    """A tenant's ledger beside a plain list of its entries."""

    mesh: Mesh
    urls: DatabaseUrls
    clock: LooseClock
    sums: Sums
    tenant: str = field(default_factory=lambda: f"t-{uuid4().hex[:12]}")
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stub: LedgerServiceAsyncStub = LedgerServiceStub(self.mesh.channel(self.tenant))

    async def open(self, **flags: bool) -> None:
        """Create the accounts."""
        accounts = [
            pb.Account(
                account_id=name, currency_code="USD", type=kind, flags=pb.AccountFlags(**flags)
            )
            for name, kind in TYPES.items()
        ]
        await self.stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))

    async def post(
        self, debit: str, credit: str, amount: int, effective_at: datetime | None = None
    ) -> str:
        """Post one transfer and keep its entries, if it was posted."""
        transfer = pb.Transfer(
            transfer_id=str(uuid4()),
            debit_account_id=debit,
            credit_account_id=credit,
            amount=Money(currency_code="USD", minor_units=amount),
            effective_at=stamp(effective_at),
        )
        answer = await self.stub.PostTransfers(
            service_pb.PostTransfersRequest(transfers=[transfer])
        )
        result = service_pb.TransferResult.Name(answer.results[0].result)
        if answer.results[0].result == service_pb.TRANSFER_RESULT_OK:
            now = self.clock.now()
            for name, net in ((debit, amount), (credit, -amount)):
                self.entries.append(Entry(name, net, effective_at or now, now))
        return result.removeprefix("TRANSFER_RESULT_")

    def expected(
        self, names: list[str], effective_at: datetime | None, recorded_at: datetime | None
    ) -> dict[int, tuple[int, int, int]]:
        """By type: how many accounts, their debits and credits, counted one by one."""
        sums: dict[int, tuple[int, int, int]] = {}
        for name in names:
            amounts = [
                entry.amount
                for entry in self.entries
                if entry.account == name
                and (effective_at is None or entry.effective_at <= effective_at)
                and (recorded_at is None or entry.recorded_at <= recorded_at)
            ]
            accounts, debits, credits = sums.get(TYPES[name], (0, 0, 0))
            sums[TYPES[name]] = (
                accounts + 1,
                debits + sum(amount for amount in amounts if amount > 0),
                credits - sum(amount for amount in amounts if amount < 0),
            )
        return sums

    async def balance(self, **asked: Any) -> balance_pb2.Balance:
        """Ask for a balance."""
        for name in ("effective_at", "recorded_at"):
            asked[name] = stamp(asked.get(name))
        return (await self.stub.GetBalance(service_pb.GetBalanceRequest(**asked))).balance

    async def check(self, effective_at: datetime | None, recorded_at: datetime | None) -> None:
        """Compare all that can be asked for at two times with the list."""
        times = {"effective_at": effective_at, "recorded_at": recorded_at}
        for name in TYPES:
            found = await self.balance(account_id=name, **times)
            assert lines(found) == self.expected([name], **times), (name, times)
        for prefix in ("a", "a:2", "b:"):
            names = [name for name in TYPES if name.startswith(prefix)]
            found = await self.balance(account_prefix=prefix, **times)
            assert lines(found) == self.expected(names, **times), (prefix, times)
        trial = await self.stub.GetTrialBalance(
            service_pb.GetTrialBalanceRequest(
                effective_at=stamp(effective_at), recorded_at=stamp(recorded_at)
            )
        )
        (dollars,) = trial.trial_balance.currencies
        assert dollars.difference.minor_units == 0
        assert {
            item.type: (item.accounts, item.debits.minor_units, item.credits.minor_units)
            for item in dollars.types
        } == self.expected(list(TYPES), **times)


def lines(found: balance_pb2.Balance) -> dict[int, tuple[int, int, int]]:
    """The lines of an answer; that each stands on its type's own side is checked in passing."""
    for line in found.lines:
        net = line.debits.minor_units - line.credits.minor_units
        assert line.balance.minor_units == (net if line.type in GROWS_BY_DEBIT else -net)
    return {
        line.type: (line.accounts, line.debits.minor_units, line.credits.minor_units)
        for line in found.lines
    }


def stamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message


@pytest.fixture(autouse=True)
def nobody_else_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in sums is up to each test; a few entries at a time, so that sums end anywhere."""
    monkeypatch.setattr(sums_work, "REST_SECONDS", 3600.0)
    monkeypatch.setattr(sums_work, "ENTRIES_SUMMED", 3)


@pytest.fixture
async def books(new_database: Callable[..., DatabaseUrls]) -> AsyncIterator[Books]:
    clock = LooseClock()
    urls = new_database()
    async with running(urls, [ledger.SERVICE], clock=clock) as mesh:
        # Made before anything is recorded in them, as in life: a month that is being made takes no rows.
        await Months(mesh.node.database).make()
        yield Books(mesh, urls, clock, Sums(mesh.node.database))


class Times(RuleBasedStateMachine):
    """Posts back and forth in time, sums now and then, and compares with a plain list."""

    runner: asyncio.Runner
    mesh: Mesh
    urls: DatabaseUrls
    clock: LooseClock

    @initialize()
    def open_books(self) -> None:
        self.clock.moment = START
        self.books = Books(self.mesh, self.urls, self.clock, Sums(self.mesh.node.database))
        self.runner.run(self.books.open())

    @rule(
        names=st.permutations(list(TYPES)),
        amount=st.integers(1, 9),
        hours=st.sampled_from([None, None, None, -900, -49, -25, -24, -2, 0, 1, 30, 800]),
    )
    def post(self, names: list[str], amount: int, hours: int | None) -> None:
        at = None if hours is None else self.clock.moment + timedelta(hours=hours)
        assert self.runner.run(self.books.post(names[0], names[1], amount, at)) == "OK"

    @rule(hours=st.sampled_from([-1, 1, 2, 5, 24, 700]))
    def wait(self, hours: int) -> None:
        """Time goes on, or a batch that began earlier is recorded later."""
        self.clock.moment += timedelta(hours=hours, microseconds=1)

    @rule()
    def sum_all(self) -> None:
        self.runner.run(self.books.sums.sweep())

    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        moments = {START, self.clock.moment}
        for entry in self.books.entries:
            for moment in (entry.effective_at, entry.recorded_at):
                day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
                moments |= {moment, moment - timedelta(microseconds=1), day, day.replace(day=1)}
        times = st.none() | st.sampled_from(sorted(moments))
        effective_at, recorded_at = data.draw(times), data.draw(times)
        self.runner.run(self.books.check(effective_at, recorded_at))


def test_balances_at_any_times_are_those_of_a_plain_list(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    with asyncio.Runner() as runner:
        Times.runner, Times.clock, Times.urls = runner, LooseClock(), new_database()
        serving = running(Times.urls, [ledger.SERVICE], clock=Times.clock)
        Times.mesh = runner.run(serving.__aenter__())
        runner.run(Months(Times.mesh.node.database).make())
        try:
            run_state_machine_as_test(Times, settings=SETTINGS)
        finally:
            runner.run(serving.__aexit__(None, None, None))


async def test_each_entry_counts_once_before_while_and_after_it_is_summed(books: Books) -> None:
    await books.open()
    dice = random.Random(7)
    for _ in range(40):
        debit, credit = dice.sample(list(TYPES), 2)
        at = books.clock.moment + timedelta(hours=dice.randint(-1500, 300))
        await books.post(debit, credit, dice.randint(1, 9), dice.choice([None, at]))
        books.clock.moment += timedelta(hours=dice.choice([-1, 3, 30]))
    times = [None, *(START + timedelta(hours=hours) for hours in (-800, -1, 2, 300, 900))]
    for _ in range(2):
        for effective_at in times:
            for recorded_at in times:
                await books.check(effective_at, recorded_at)
        await books.sums.sweep()
    summed = rows(books, "SELECT count(*), sum(summed_seq) FROM ledger.account_mark")
    assert summed == [(4, 80)]


async def test_many_sum_at_once_and_none_sums_twice(books: Books) -> None:
    await books.open()

    async def post() -> None:
        for _ in range(10):
            await books.post("a:1", "b:1", 1)

    async def sum_up() -> None:
        for _ in range(6):
            await Sums(books.mesh.node.database).sweep()

    await asyncio.gather(post(), post(), sum_up(), sum_up(), sum_up())
    await books.sums.sweep()
    await books.check(books.clock.moment, None)
    assert rows(books, SUMMED) == [("a:1", 20, 0), ("b:1", 0, 20)]


async def test_an_account_whose_entries_are_broken_holds_up_no_other(books: Books) -> None:
    await books.open()
    first, second, third, *_ = TYPES
    await books.post(first, second, 5)
    await books.post(first, second, 6)
    await books.post(third, second, 7)
    with psycopg.connect(books.urls.owner_admin) as owner:
        gone = "DELETE FROM ledger.entry WHERE tenant_id = %s AND account_id = %s AND seq = 1"
        assert owner.execute(gone, [books.tenant, first]).rowcount == 1
    await books.sums.sweep()
    with psycopg.connect(books.urls.owner_admin) as owner:
        found = owner.execute(
            "SELECT account_id FROM ledger.account_day WHERE tenant_id = %s GROUP BY 1",
            [books.tenant],
        ).fetchall()
    assert {row[0] for row in found} == {second, third}


async def test_a_backdated_post_adds_to_its_day_and_touches_no_other(books: Books) -> None:
    await books.open()
    for days in range(6):
        await books.post("a:1", "b:1", 1, START - timedelta(days=days))
    await books.sums.sweep()
    versions = "SELECT effective_day, xmin::text FROM ledger.account_day WHERE account_id = 'a:1' AND grain = 2"
    before = dict(rows(books, versions))
    await books.post("a:1", "b:1", 1, START - timedelta(days=4))
    await books.sums.sweep()
    after = dict(rows(books, versions))
    changed = {day for day, version in after.items() if version != before[day]}
    assert changed == {(START - timedelta(days=4)).date()}


async def test_the_balance_of_now_shows_what_is_held(books: Books) -> None:
    await books.open()
    await books.post("a:1", "b:1", 5)
    hold = pb.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id="a:1",
        credit_account_id="a:2",
        amount=Money(currency_code="USD", minor_units=3),
        kind=pb.KIND_PENDING,
    )
    await books.stub.PostTransfers(service_pb.PostTransfersRequest(transfers=[hold]))
    found = await books.balance(account_prefix="a")
    assert [
        (
            line.type,
            line.accounts,
            line.debits_pending.minor_units,
            line.credits_pending.minor_units,
        )
        for line in found.lines
    ] == [(pb.ACCOUNT_TYPE_ASSET, 2, 3, 0), (pb.ACCOUNT_TYPE_LIABILITY, 1, 0, 3)]
    assert (found.recorded_at, found.HasField("effective_at")) == (stamp(START), False)
    earlier = await books.balance(account_id="a:1", effective_at=START)
    assert not earlier.lines[0].HasField("debits_pending")
    assert (earlier.effective_at, earlier.recorded_at) == (stamp(START), stamp(START))
    assert earlier.lines[0].balance == Money(currency_code="USD", minor_units=5)


async def test_what_cannot_be_added_up_is_refused(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await books.open()
    for asked, code in (
        ({}, "INVALID_FIELD"),
        ({"account_id": "a:1", "account_prefix": "a"}, "INVALID_FIELD"),
        ({"account_id": "a:3"}, "NOT_FOUND"),
        ({"account_id": "a:3", "effective_at": START}, "NOT_FOUND"),
        ({"account_id": "a"}, "NOT_FOUND"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await books.balance(**asked)
        assert reason(refused.value) == code, asked
    assert not (await books.balance(account_prefix="c")).lines
    monkeypatch.setattr("services.ledger.app.balances.ACCOUNTS_MAX", 2)
    assert len((await books.balance(account_prefix="b")).lines) == 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.balance(account_prefix="a")
    assert reason(refused.value) == "TOO_MANY_ACCOUNTS"


async def test_an_account_may_keep_its_limits_at_every_instant(books: Books) -> None:
    await books.open(debits_must_not_exceed_credits=True, limits_at_every_instant=True)
    free = [pb.Account(account_id="f", currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET)]
    await books.stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=free))
    day = timedelta(days=1)
    assert await books.post("f", "a:2", 10) == "OK"
    assert await books.post("a:2", "f", 1, START - day) == "EXCEEDS_CREDITS"
    assert await books.post("f", "a:2", 4, START - 3 * day) == "OK"
    assert await books.post("a:2", "f", 5, START - day) == "EXCEEDS_CREDITS"
    assert await books.post("a:2", "f", 3, START - 2 * day) == "OK"
    # One is left of three days ago until now, whichever day in between takes it.
    assert await books.post("a:2", "f", 2, START - 3 * day) == "EXCEEDS_CREDITS"
    assert await books.post("f", "a:2", 7, START + day) == "OK"
    assert await books.post("a:2", "f", 12) == "EXCEEDS_CREDITS"
    assert await books.post("a:2", "f", 11) == "OK"
    assert await books.post("a:2", "f", 1, START - 3 * day) == "EXCEEDS_CREDITS"
    assert await books.post("a:2", "f", 7, START + day) == "OK"
    found = await books.stub.GetAccount(service_pb.GetAccountRequest(account_id="a:2"))
    assert found.account.flags.limits_at_every_instant


async def test_a_batch_is_judged_with_what_it_has_posted_itself(books: Books) -> None:
    await books.open(debits_must_not_exceed_credits=True, limits_at_every_instant=True)
    free = [pb.Account(account_id="f", currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET)]
    await books.stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=free))
    asked = [
        # A chain that fails leaves no trace in what the next ones are judged by.
        ("f", "a:1", 9, -5, True, "LINKED_EVENT_FAILED"),
        ("a:1", "f", 1, -6, False, "EXCEEDS_CREDITS"),
        ("f", "a:1", 5, -3, False, "OK"),
        ("a:1", "f", 3, -2, False, "OK"),
        ("a:1", "f", 3, -3, False, "EXCEEDS_CREDITS"),
        ("a:1", "f", 2, -3, False, "OK"),
        ("a:1", "f", 1, 0, False, "EXCEEDS_CREDITS"),
    ]
    batch = [
        pb.Transfer(
            transfer_id=str(uuid4()),
            debit_account_id=debit,
            credit_account_id=credit,
            amount=Money(currency_code="USD", minor_units=amount),
            effective_at=stamp(START + timedelta(days=days)),
            linked=linked,
        )
        for debit, credit, amount, days, linked, _ in asked
    ]
    answer = await books.stub.PostTransfers(service_pb.PostTransfersRequest(transfers=batch))
    names = [service_pb.TransferResult.Name(item.result)[16:] for item in answer.results]
    assert names == [row[-1] for row in asked]


SUMMED = """
SELECT account_id, sum(debits)::bigint, sum(credits)::bigint
  FROM ledger.account_day WHERE grain = 2 GROUP BY 1 ORDER BY 1
"""


def rows(books: Books, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(books.urls.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", (books.tenant,))
        return connection.execute(statement.encode()).fetchall()
