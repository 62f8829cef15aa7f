"""Transfers that post themselves when they are due, on a real server with real Postgres and a clock of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from payments.events.v1.ledger_events_pb2 import LedgerBatchPosted, LedgerScheduledRefused
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import schedule_pb2, scheduled_pb2

from services.ledger import manifest as ledger
from services.ledger.app.scheduled import post_due
from services.runtime.clock import ManualClock
from services.runtime.commands import Commands
from services.runtime.context import CallContext, acting
from tests.support.ledger.tenant import Ear, Tenant, move, refusal, settled, stamp, usd
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EAR = Ear()


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls, clock: ManualClock) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE, EAR.build], clock=clock) as running_mesh:
        yield running_mesh


@pytest.fixture
async def books(mesh: Mesh) -> Tenant:
    tenant = Tenant(mesh, EAR)
    await tenant.open("a", "b", "c")
    return tenant


async def ended(books: Tenant, *transfers: pb.Transfer) -> set[str]:
    """Wait until none of them waits; returns how they stand."""

    async def look() -> bool:
        return "WAITING" not in {await books.state(each) for each in transfers}

    await settled(look)
    return {await books.state(each) for each in transfers}


async def test_a_scheduled_transfer_posts_itself_once_when_it_is_due(
    books: Tenant, clock: ManualClock
) -> None:
    due = clock.now() + HOUR
    sent = move("a", "b", 5, not_before=due, code=3, metadata={"why": "rent"})
    assert await books.post(sent, sent) == ["SCHEDULED", "SCHEDULED"]
    assert await books.post(sent) == ["SCHEDULED"]
    assert await books.sums("a") == (0, 0)
    waiting = await books.get(sent)
    assert waiting.transfer == sent
    assert waiting.schedule == schedule_pb2.Schedule(
        state=schedule_pb2.SCHEDULE_STATE_WAITING,
        accepted_at=stamp(clock.now()),
        first_transfer_id=sent.transfer_id,
    )
    assert not waiting.HasField("recorded_at")
    clock.advance(HOUR)
    assert await ended(books, sent) == {"POSTED"}
    assert await books.sums("a") == (5, 0)
    assert await books.post(sent) == ["EXISTS"]
    found = await books.get(sent)
    assert found.transfer.not_before == stamp(due)
    assert found.transfer.effective_at == found.recorded_at == stamp(clock.now())
    assert found.schedule.ended_at == found.recorded_at
    (told,) = await books.told(LedgerBatchPosted)
    assert told.transfer_count == 1


async def test_what_differs_of_one_that_waits_is_named(books: Tenant, clock: ManualClock) -> None:
    due = clock.now() + HOUR
    sent = move("a", "b", 5, not_before=due)
    capped = move("a", "b", 5, not_before=due, balancing_debit=True)
    assert await books.post(sent, capped) == ["SCHEDULED", "SCHEDULED"]
    changed = {
        "EXISTS_WITH_DIFFERENT_NOT_BEFORE": {"not_before": stamp(due + HOUR)},
        "EXISTS_WITH_DIFFERENT_AMOUNT": {"amount": usd(6)},
        "EXISTS_WITH_DIFFERENT_KIND": {"kind": pb.KIND_PENDING},
        "EXISTS_WITH_DIFFERENT_EFFECTIVE_AT": {"effective_at": stamp(due)},
    }
    for result, fields in changed.items():
        asked = pb.Transfer()
        asked.CopyFrom(sent)
        asked.MergeFrom(pb.Transfer(**fields))  # type: ignore[arg-type] # of several types
        assert await books.post(asked) == [result]
    at_once = pb.Transfer()
    at_once.CopyFrom(sent)
    at_once.ClearField("not_before")
    assert await books.post(at_once) == ["EXISTS_WITH_DIFFERENT_NOT_BEFORE"]
    # Nothing has moved yet, so another cap is another amount.
    capped.amount.minor_units = 9
    assert await books.post(capped) == ["EXISTS_WITH_DIFFERENT_AMOUNT"]


async def test_a_time_that_has_passed_posts_at_once(books: Tenant, clock: ManualClock) -> None:
    sent = move("a", "b", 5, not_before=clock.now())
    assert await books.post(sent, sent) == ["OK", "EXISTS"]
    found = await books.get(sent)
    assert found.transfer.not_before == sent.not_before
    assert not found.HasField("schedule")
    other = pb.Transfer()
    other.CopyFrom(sent)
    other.not_before.CopyFrom(stamp(clock.now() - HOUR))
    assert await books.post(other) == ["EXISTS_WITH_DIFFERENT_NOT_BEFORE"]


async def test_it_is_judged_in_full_when_it_is_due_and_refused_for_good(
    books: Tenant, clock: ManualClock
) -> None:
    flags = pb.AccountFlags(debits_must_not_exceed_credits=True)
    await books.open("wallet", account_type="LIABILITY", flags=flags)
    reference = pb.Reference(kind="order", id="ord_1")
    due = clock.now() + HOUR
    early = move("wallet", "b", 5, not_before=due, reference=reference)
    late = move("wallet", "b", 5, not_before=due + HOUR)
    assert await books.post(early, late) == ["SCHEDULED", "SCHEDULED"]
    clock.advance(HOUR)
    assert await ended(books, early) == {"REFUSED"}
    assert (await books.get(early)).schedule.refusal == "EXCEEDS_CREDITS"
    (told,) = await books.told(LedgerScheduledRefused)
    assert (told.transfer_id, told.first_transfer_id) == (early.transfer_id, early.transfer_id)
    assert (told.result, told.transfer_count) == ("EXCEEDS_CREDITS", 1)
    assert (told.reference.id, list(told.reference.transfer_ids)) == ("ord_1", [early.transfer_id])
    assert await books.post(move("a", "wallet", 9)) == ["OK"]
    clock.advance(HOUR)
    assert await ended(books, late) == {"POSTED"}
    # Money is there by now; the one that was refused stays so.
    assert await books.post(early, late) == ["ID_ALREADY_FAILED: EXCEEDS_CREDITS", "EXISTS"]


async def test_a_refusal_that_would_leave_an_id_free_is_kept_too(
    books: Tenant, clock: ManualClock
) -> None:
    most = 2**63 - 1
    late = move("a", "b", most, not_before=clock.now() + HOUR)
    assert await books.post(late, move("a", "c", 1)) == ["SCHEDULED", "OK"]
    clock.advance(HOUR)
    assert await ended(books, late) == {"REFUSED"}
    assert await books.post(late) == ["ID_ALREADY_FAILED: OVERFLOWS_DEBITS"]


async def test_what_cannot_change_is_judged_when_it_is_sent(
    books: Tenant, clock: ManualClock
) -> None:
    await books.open("eur", currency_code="EUR")
    due = clock.now() + HOUR
    missing = move("a", "nobody", 5, not_before=due)
    assert await books.post(
        missing,
        missing,
        move("a", "eur", 5, not_before=due),
        move("a", "b", 0, not_before=due),
        move("a", "b", 5, not_before=due, kind=pb.KIND_PENDING),
        move("a", "b", 5, not_before=due, linked=True),
        move("b", "c", 5, not_before=due + HOUR),
    ) == [
        "CREDIT_ACCOUNT_NOT_FOUND",
        "ID_ALREADY_FAILED: CREDIT_ACCOUNT_NOT_FOUND",
        "ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY",
        "AMOUNT_MUST_BE_POSITIVE",
        "NOT_BEFORE_RESERVED_FOR_POSTED_TRANSFER",
        "LINKED_EVENT_FAILED",
        "LINKED_EVENT_HAS_DIFFERENT_NOT_BEFORE",
    ]


async def test_a_chain_is_posted_whole_or_not_at_all(books: Tenant, clock: ManualClock) -> None:
    flags = pb.AccountFlags(debits_must_not_exceed_credits=True)
    await books.open("wallet", account_type="LIABILITY", flags=flags)
    due = clock.now() + HOUR
    sound = [
        move("a", "b", 5, not_before=due, linked=True),
        move("b", "c", 5, not_before=due),
    ]
    broken = [
        move("a", "b", 7, not_before=due, linked=True),
        move("wallet", "c", 7, not_before=due, linked=True),
        move("b", "c", 7, not_before=due),
    ]
    assert await books.post(*sound, *broken) == ["SCHEDULED"] * 5
    assert await books.post(*broken) == ["SCHEDULED"] * 3
    # A part of a chain is another chain.
    assert await books.post(sound[1]) == ["SCHEDULED"]
    clock.advance(HOUR)
    assert await ended(books, *sound) == {"POSTED"}
    assert await ended(books, *broken) == {"REFUSED"}
    assert await books.sums("b") == (5, 5)
    assert [(await books.get(each)).schedule.refusal for each in broken] == [
        "LINKED_EVENT_FAILED",
        "EXCEEDS_CREDITS",
        "LINKED_EVENT_FAILED",
    ]
    assert await books.post(*sound) == ["EXISTS", "EXISTS"]
    assert await books.post(*broken) == [
        "ID_ALREADY_FAILED: LINKED_EVENT_FAILED",
        "ID_ALREADY_FAILED: EXCEEDS_CREDITS",
        "ID_ALREADY_FAILED: LINKED_EVENT_FAILED",
    ]
    for each, result in zip(broken, ["LINKED_EVENT_FAILED", "EXCEEDS_CREDITS"], strict=False):
        alone = pb.Transfer()
        alone.CopyFrom(each)
        alone.linked = False
        assert await books.post(alone) == [f"ID_ALREADY_FAILED: {result}"]
    (told,) = await books.told(LedgerScheduledRefused)
    assert (told.first_transfer_id, told.transfer_id) == (
        broken[0].transfer_id,
        broken[1].transfer_id,
    )
    assert told.transfer_count == 3


async def test_one_that_waits_is_cancelled_once_with_its_chain(
    books: Tenant, clock: ManualClock
) -> None:
    due = clock.now() + HOUR
    chain = [move("a", "b", 5, not_before=due, linked=True), move("b", "c", 5, not_before=due)]
    assert await books.post(*chain) == ["SCHEDULED"] * 2
    request_id = str(uuid4())
    answer = await books.cancel(chain[1], request_id)
    assert answer.cancelled_count == 2
    assert answer.scheduled_transfer.transfer == chain[1]
    schedule = answer.scheduled_transfer.schedule
    assert schedule.state == schedule_pb2.SCHEDULE_STATE_CANCELLED
    assert schedule.cancel_reason == "changed my mind"
    assert await books.cancel(chain[1], request_id) == answer
    found = await refusal(books.cancel(chain[0]))
    assert found == (
        "SCHEDULED_TRANSFER_ENDED",
        {"transfer_id": chain[0].transfer_id, "state": "CANCELLED"},
    )
    assert (await refusal(books.cancel(move("a", "b", 1))))[0] == "NOT_FOUND"
    assert await books.state(chain[0]) == "CANCELLED"
    # Its id is used for good, and its time passes without anything happening.
    clock.advance(HOUR)
    sign = move("a", "b", 1, not_before=clock.now() + HOUR)
    assert await books.post(sign) == ["SCHEDULED"]
    clock.advance(HOUR)
    assert await ended(books, sign) == {"POSTED"}
    assert await books.post(*chain) == ["ID_ALREADY_FAILED: CANCELLED"] * len(chain)
    assert await books.sums("c") == (0, 0)
    assert (await refusal(books.cancel(sign)))[1]["state"] == "POSTED"


async def test_they_are_listed_by_when_they_are_due(books: Tenant, clock: ManualClock) -> None:
    times = [3, 1, 2, 2, 1]
    sent = [move("a", "b", 1, not_before=clock.now() + n * HOUR) for n in times]
    assert await books.post(*sent) == ["SCHEDULED"] * 5
    await books.cancel(sent[2])
    request = scheduled_pb2.ListScheduledTransfersRequest(page_size=2)
    listed: list[scheduled_pb2.ScheduledTransfer] = []
    while True:
        page = await books.stub.ListScheduledTransfers(request)
        listed += page.scheduled_transfers
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    waiting = [sent[i] for i in (0, 1, 3, 4)]
    expected = sorted(waiting, key=lambda t: (t.not_before.seconds, UUID(t.transfer_id)))
    assert [each.transfer for each in listed] == expected
    request = scheduled_pb2.ListScheduledTransfersRequest(
        state=schedule_pb2.SCHEDULE_STATE_CANCELLED
    )
    (gone,) = (await books.stub.ListScheduledTransfers(request)).scheduled_transfers
    assert gone.transfer == sent[2]


async def test_whoever_posts_and_cancels_at_once_does_one_of_it_once(
    mesh: Mesh, books: Tenant, clock: ManualClock
) -> None:
    """Two that believe to hold the lease, a cancel and retries of the sender, all at the same moment."""
    commands = Commands(mesh.node.database)
    outcomes = set()
    for _ in range(12):
        sent = move("a", "b", 1, not_before=clock.now() + timedelta(milliseconds=1))
        assert await books.post(sent) == ["SCHEDULED"]
        clock.advance(timedelta(milliseconds=1))

        async def post(sent: pb.Transfer = sent) -> bool:
            call = CallContext(books.name, "test", frozenset(), request_id="r", correlation_id="c")
            with acting(call):
                return await commands.apply(
                    "ledger.post_scheduled", post_due, UUID(sent.transfer_id)
                )

        answers = await asyncio.gather(
            post(),
            post(),
            books.cancel(sent),
            books.post(sent),
            books.post(sent),
            return_exceptions=True,
        )
        assert [answer for answer in answers[:2] if isinstance(answer, BaseException)] == []
        cancelled = not isinstance(answers[2], BaseException)
        assert sum(map(bool, answers[:2])) <= 1
        state = await books.state(sent)
        assert (state == "CANCELLED") == cancelled
        outcomes.add(state)
    posted = (await books.sums("a"))[0]
    request = scheduled_pb2.ListScheduledTransfersRequest(
        state=schedule_pb2.SCHEDULE_STATE_POSTED, page_size=100
    )
    listed = (await books.stub.ListScheduledTransfers(request)).scheduled_transfers
    assert posted == len(listed)
    assert outcomes <= {"POSTED", "CANCELLED"}


async def test_another_tenant_sees_and_cancels_none_of_it(
    mesh: Mesh, books: Tenant, clock: ManualClock
) -> None:
    sent = move("a", "b", 5, not_before=clock.now() + HOUR)
    assert await books.post(sent) == ["SCHEDULED"]
    other = Tenant(mesh, EAR)
    await other.open("a", "b")
    assert (await refusal(other.get(sent)))[0] == "NOT_FOUND"
    assert (await refusal(other.cancel(sent)))[0] == "NOT_FOUND"
    request = scheduled_pb2.ListScheduledTransfersRequest()
    assert not (await other.stub.ListScheduledTransfers(request)).scheduled_transfers
    # The same id is the other's own.
    assert await other.post(sent) == ["SCHEDULED"]
    await other.cancel(sent)
    assert await books.state(sent) == "WAITING"


async def test_it_waits_through_the_end_of_the_process(
    database: DatabaseUrls, mesh: Mesh, books: Tenant, clock: ManualClock
) -> None:
    """A lease that a process took to its grave runs out, and the next one posts."""
    sent = move("a", "b", 5, not_before=clock.now() + HOUR)
    assert await books.post(sent) == ["SCHEDULED"]
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", [books.name])
        connection.execute(
            "UPDATE ledger.scheduled SET lease_owner = 'dead', lease_until = clock_timestamp() + interval '3 s'"
            " WHERE transfer_id = %s",
            [sent.transfer_id],
        )
    clock.advance(HOUR)
    await asyncio.sleep(1.5)
    assert await books.state(sent) == "WAITING"
    assert await ended(books, sent) == {"POSTED"}
    assert await books.sums("a") == (5, 0)


async def test_the_event_of_a_batch_names_what_its_transfers_are_for(books: Tenant) -> None:
    order = pb.Reference(kind="order", id="ord_1", part="line-1")
    batch = [
        move("a", "b", 1, reference=order),
        move("a", "b", 1),
        move("a", "b", 1, reference=order),
        *(move("a", "b", 1, reference=pb.Reference(kind="order", id=f"{n}")) for n in range(100)),
    ]
    assert await books.post(*batch) == ["OK"] * 103
    (told,) = await books.told(LedgerBatchPosted)
    assert told.transfer_count == 103
    assert len(told.references) == 99
    first = told.references[0]
    assert (first.kind, first.id, first.part) == ("order", "ord_1", "line-1")
    assert list(first.transfer_ids) == [batch[0].transfer_id, batch[2].transfer_id]
    assert told.references_left_out == 2
    request = service_pb.GetTransferRequest(transfer_id=batch[1].transfer_id)
    assert not (await books.stub.GetTransfer(request)).transfer.transfer.HasField("reference")
