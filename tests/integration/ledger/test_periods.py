"""Periods: what is closed does not change any more, whoever posts at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from payments.events.v1 import ledger_events_pb2
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import period_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.ledger import manifest as ledger
from services.ledger.store import periods as store
from services.runtime.clock import ManualClock
from services.runtime.context import CallContext, acting
from tests.integration.ledger.test_ledger import reason
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

START = datetime(2026, 3, 2, tzinfo=UTC)
FEBRUARY_END = datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@dataclass
class Books:
    """A tenant with two accounts."""

    mesh: Mesh
    clock: ManualClock
    urls: DatabaseUrls
    tenant: str = field(default_factory=lambda: f"t-{uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        self.stub: LedgerServiceAsyncStub = LedgerServiceStub(self.mesh.channel(self.tenant))

    async def open(self, *names: str, currency: str = "USD") -> None:
        """Create asset accounts."""
        accounts = [
            pb.Account(account_id=name, currency_code=currency, type=pb.ACCOUNT_TYPE_ASSET)
            for name in names
        ]
        await self.stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))

    async def post(self, *transfers: pb.Transfer) -> list[str]:
        """Post and name the results."""
        request = service_pb.PostTransfersRequest(transfers=transfers)
        answer = await self.stub.PostTransfers(request)
        return [service_pb.TransferResult.Name(item.result)[16:] for item in answer.results]

    async def close(
        self, through: datetime, currency: str = "USD", request_id: str = ""
    ) -> period_pb2.AccountingPeriod:
        """Close the books."""
        request = service_pb.ClosePeriodRequest(
            request_id=request_id or str(uuid4()),
            currency_code=currency,
            closed_through=stamp(through),
        )
        return (await self.stub.ClosePeriod(request)).period

    async def reopen(self, through: datetime | None = None) -> period_pb2.AccountingPeriod:
        """Open the books again."""
        request = service_pb.ReopenPeriodRequest(
            request_id=str(uuid4()), currency_code="USD", reason="forgotten invoice"
        )
        if through is not None:
            request.closed_through.CopyFrom(stamp(through))
        return (await self.stub.ReopenPeriod(request)).period

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Read as the superuser."""
        with psycopg.connect(self.urls.owner_admin) as owner:
            return owner.execute(statement.encode()).fetchall()


def stamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def transfer(
    effective_at: datetime | None = None, debit: str = "a", credit: str = "b", **more: Any
) -> pb.Transfer:
    made = pb.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=Money(currency_code="USD", minor_units=1),
        **more,
    )
    if effective_at is not None:
        made.effective_at.CopyFrom(stamp(effective_at))
    return made


@pytest.fixture
async def books(new_database: Callable[..., DatabaseUrls]) -> AsyncIterator[Books]:
    clock, urls = ManualClock(START), new_database()
    async with running(urls, [ledger.SERVICE], clock=clock) as mesh:
        made = Books(mesh, clock, urls)
        await made.open("a", "b")
        yield made


async def test_nothing_takes_effect_in_a_closed_period(books: Books) -> None:
    late = transfer(FEBRUARY_END)
    assert await books.post(transfer(FEBRUARY_END)) == ["OK"]
    closed = await books.close(FEBRUARY_END)
    assert (closed.currency_code, closed.closed_through) == ("USD", stamp(FEBRUARY_END))
    await books.open("c", "d", currency="EUR")
    euros = transfer(FEBRUARY_END, "c", "d")
    euros.amount.currency_code = "EUR"
    assert await books.post(late, transfer(FEBRUARY_END + TICK), transfer(), euros) == [
        "EFFECTIVE_AT_IN_CLOSED_PERIOD",
        "OK",
        "OK",
        "OK",
    ]
    assert await books.post(late) == ["ID_ALREADY_FAILED"]
    await books.reopen()
    assert await books.post(late) == ["ID_ALREADY_FAILED"]
    assert await books.post(transfer(FEBRUARY_END)) == ["OK"]


async def test_holds_are_made_but_not_posted_in_a_closed_period(books: Books) -> None:
    await books.close(START)
    hold = transfer(FEBRUARY_END, kind=pb.KIND_PENDING)
    part = pb.Transfer(
        transfer_id=str(uuid4()), pending_id=hold.transfer_id, kind=pb.KIND_POST_PENDING
    )
    refused = "EFFECTIVE_AT_IN_CLOSED_PERIOD"
    assert await books.post(hold, part) == ["OK", refused]
    books.clock.advance(TICK)
    again = pb.Transfer(
        transfer_id=str(uuid4()), pending_id=hold.transfer_id, kind=pb.KIND_POST_PENDING
    )
    assert await books.post(again) == ["OK"]
    await books.close(books.clock.now())
    reverse = service_pb.ReverseTransferRequest(
        request_id=str(uuid4()), transfer_id=again.transfer_id, reason="wrong"
    )
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await books.stub.ReverseTransfer(reverse)
    assert reason(error.value) == "REVERSAL_REFUSED"
    assert refused in str(error.value.details())
    books.clock.advance(TICK)
    assert (await books.stub.ReverseTransfer(reverse)).transfer.transfer.amount.minor_units == 1


async def test_a_period_is_closed_further_and_reopened_less_far(books: Books) -> None:
    earlier = FEBRUARY_END - timedelta(days=28)

    async def refused(call: Any) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        return reason(error.value)

    assert await refused(books.reopen()) == "PERIOD_NOT_CLOSED"
    assert await refused(books.close(START + TICK)) == "PERIOD_IN_FUTURE"
    assert await refused(books.close(START, "XXQ")) == "UNKNOWN_CURRENCY"
    request_id = str(uuid4())
    first = await books.close(FEBRUARY_END, request_id=request_id)
    books.clock.advance(timedelta(hours=1))
    assert await books.close(FEBRUARY_END, request_id=request_id) == first
    assert await books.close(FEBRUARY_END) == first, "closed so far already"
    assert await refused(books.close(earlier)) == "PERIOD_ALREADY_CLOSED"
    assert await refused(books.reopen(FEBRUARY_END)) == "PERIOD_NOT_CLOSED"
    less = await books.reopen(earlier)
    assert (less.closed_through, less.reason) == (stamp(earlier), "forgotten invoice")
    assert await books.post(transfer(earlier), transfer(FEBRUARY_END)) == [
        "EFFECTIVE_AT_IN_CLOSED_PERIOD",
        "OK",
    ]
    assert not (await books.reopen()).HasField("closed_through")
    await books.close(START, "EUR")
    listed = await books.stub.ListPeriods(service_pb.ListPeriodsRequest(page_size=1))
    assert [item.currency_code for item in listed.periods] == ["EUR"]
    rest = await books.stub.ListPeriods(
        service_pb.ListPeriodsRequest(page_size=1, page_token=listed.next_page_token)
    )
    assert [item.currency_code for item in rest.periods] == ["USD"]
    assert not rest.next_page_token
    audited = books.rows(
        "SELECT entity_id, before ->> 'closed_through', after ->> 'closed_through', after ->> 'reason'"
        " FROM mesh.audit WHERE entity = 'ledger.period' ORDER BY audit_id"
    )
    end, start = "2026-02-28T23:59:59.999999Z", "2026-01-31T23:59:59.999999Z"
    assert audited == [
        ("USD", None, end, ""),
        ("USD", end, start, "forgotten invoice"),
        ("USD", start, None, "forgotten invoice"),
        ("EUR", None, "2026-03-02T00:00:00Z", ""),
    ]


async def test_closing_and_reopening_are_told(books: Books) -> None:
    await books.close(FEBRUARY_END)
    await books.close(FEBRUARY_END)
    await books.close(START)
    await books.reopen(FEBRUARY_END)
    payloads = books.rows(
        "SELECT subject, payload FROM mesh.event WHERE subject LIKE 'ledger.period.%' ORDER BY seq"
    )
    closed = [
        ledger_events_pb2.LedgerPeriodClosed.FromString(payload)
        for subject, payload in payloads
        if subject == "ledger.period.closed"
    ]
    assert [item.closed_through for item in closed] == [stamp(FEBRUARY_END), stamp(START)]
    assert [item.HasField("closed_through_before") for item in closed] == [False, True]
    (reopened,) = (
        ledger_events_pb2.LedgerPeriodReopened.FromString(payload)
        for subject, payload in payloads
        if subject == "ledger.period.reopened"
    )
    assert (reopened.closed_through, reopened.closed_through_before, reopened.reason) == (
        stamp(FEBRUARY_END),
        stamp(START),
        "forgotten invoice",
    )


async def test_a_close_waits_for_batches_under_way_and_batches_for_a_close(books: Books) -> None:
    """Two connections: neither the first close, of which there is no row yet, nor a later one is overtaken."""
    database, call = books.mesh.node.database, CallContext(books.tenant, "t", frozenset(), "r", "r")
    for through in (FEBRUARY_END, START):
        with acting(call):
            async with database.unit_of_work("test.post") as batch:
                before = await store.share(batch)
                closing = asyncio.create_task(books.close(through))
                waiting = await _until_somebody_waits(books)
                assert waiting == 1 and not closing.done()
                # A batch that comes while the close waits comes behind it.
                posting = asyncio.create_task(books.post(transfer(through)))
                assert await _until_somebody_waits(books, 2) == 2
                assert await store.share(batch) == before, "the one under way goes on"
        await closing
        assert await posting == ["EFFECTIVE_AT_IN_CLOSED_PERIOD"]


async def _until_somebody_waits(books: Books, many: int = 1) -> int:
    statement = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    for _ in range(500):
        (row,) = books.rows(statement)
        if row[0] >= many:
            return int(row[0])
        await asyncio.sleep(0.01)
    return 0


async def test_what_a_close_answers_for_stays(books: Books) -> None:
    """Everybody posts into the period while it is closed and reopened again and again."""
    names = [f"n{number}" for number in range(4)]
    await books.open(*names)
    closed = asyncio.Event()

    async def post(worker: int) -> list[str]:
        found = []
        for _ in range(25):
            pair = (names[worker % 4], names[(worker + 1) % 4])
            found += await books.post(
                transfer(FEBRUARY_END, *pair), transfer(FEBRUARY_END, *reversed(pair))
            )
        return found

    async def close_and_reopen() -> None:
        for _ in range(8):
            await books.close(FEBRUARY_END)
            before = await _posted(books)
            await asyncio.sleep(0.02)
            assert await _posted(books) == before, "posted in a closed period"
            await books.reopen()
            await asyncio.sleep(0.02)
        closed.set()

    results = await asyncio.gather(*[post(worker) for worker in range(4)], close_and_reopen())
    found = {name for names in results if names for name in names}
    assert found == {"OK", "EFFECTIVE_AT_IN_CLOSED_PERIOD"}


async def _posted(books: Books) -> int:
    (row,) = await asyncio.to_thread(
        books.rows, "SELECT count(*) FROM ledger.transfer WHERE effective_at < '2026-03-01'"
    )
    return int(row[0])
