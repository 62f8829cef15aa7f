"""Budgets and holds on a real server with a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
import pytest_asyncio
from payments.metering.v1 import (
    corrections_pb2,
    guardrail_service_pb2,
    guardrails_pb2,
    metering_pb2,
)
from payments.metering.v1.guardrail_service_pb2_grpc import GuardrailServiceStub
from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from payments.type.v1 import type_pb2

from services.metering import manifest
from services.metering.app import guarding
from services.metering.domain.holds import BudgetsChanging, NotRated
from services.runtime.clock import ManualClock
from services.runtime.edge.status import RemoteError
from services.runtime.errors import DomainError
from tests.support.billing.guardrails import (
    SOFT,
    PriceList,
    budget,
    commit,
    price_list_of,
    put,
    release,
    reserve,
    stands,
)
from tests.support.billing.metering import (
    NOW,
    batch,
    catalogue_of,
    event,
    outcomes,
    usage_query,
)
from tests.support.mesh.serving import Mesh, Served, running
from tests.support.postgres.server import DatabaseUrls, Server

CALLERS = 1_000
MONTH = guardrails_pb2.BUDGET_PERIOD_CALENDAR_MONTH
DAY = guardrails_pb2.BUDGET_PERIOD_DAY


@pytest.fixture(scope="module")
def urls(postgres_server: Server, worker_id: str) -> DatabaseUrls:
    """Of these tests alone: they set the clock."""
    return postgres_server.new_database(f"guardrails_{worker_id}")


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    """Business time; tests only let it go on."""
    return ManualClock(NOW)


@pytest.fixture(scope="module")
def prices() -> PriceList:
    """Two tokens are free, then half a cent each."""
    return price_list_of({"llm.tokens": ("2", "0.005"), "gpu.seconds": ("0", "1")})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(urls: DatabaseUrls, clock: ManualClock, prices: PriceList) -> AsyncIterator[Mesh]:
    """Metering, a catalogue and prices on one port."""
    catalogue = catalogue_of("llm.tokens", "llm.requests", "gpu.seconds", "free.calls")
    builds: Served = [manifest.SERVICE, catalogue.build, prices.build]
    async with running(urls, builds, clock=clock) as served:
        yield served


@pytest.fixture
def guard(guarded: Mesh, tenant: str) -> Any:
    """Guardrails, called by the tenant."""
    return GuardrailServiceStub(guarded.channel(tenant))


@pytest.fixture
def meter(guarded: Mesh, tenant: str) -> Any:
    """Usage of the same tenant."""
    return MeteringServiceStub(guarded.channel(tenant))


async def refusal(call: Any) -> DomainError:
    """Return what a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return RemoteError.of(failed.value, "metering")


def money(minor_units: int) -> type_pb2.Money:
    return type_pb2.Money(currency_code="USD", minor_units=minor_units)


async def test_a_hold_is_made_committed_and_what_is_left_is_free(guard: Any) -> None:
    await guard.PutBudget(put(budget("cap")))
    hold = (await guard.Reserve(reserve("40"))).hold
    assert (hold.status, hold.remaining) == (guardrails_pb2.HOLD_STATUS_HELD, "60")
    assert await stands(guard, "cap") == ("0", "40", "60")
    done = (await guard.Commit(commit(hold.hold_id, "25.5"))).hold
    assert (done.committed_quantity, done.remaining) == ("25.5", "74.5")
    assert await stands(guard, "cap") == ("25.5", "0", "74.5")


async def test_what_is_not_free_is_refused_and_says_how_it_stands(guard: Any) -> None:
    await guard.PutBudget(put(budget("cap")))
    await guard.Reserve(reserve("70"))
    error = await refusal(guard.Reserve(reserve("31")))
    assert error.reason == "BUDGET_EXCEEDED"
    assert error.metadata == {
        "budget_id": "cap",
        "limit": "100",
        "used": "0",
        "held": "70",
        "asked": "31",
    }
    assert await stands(guard, "cap") == ("0", "70", "30")


async def test_a_refused_reservation_is_made_once_there_is_room(guard: Any) -> None:
    await guard.PutBudget(put(budget("cap")))
    first = (await guard.Reserve(reserve("100"))).hold
    again = reserve("10")
    assert (await refusal(guard.Reserve(again))).reason == "BUDGET_EXCEEDED"
    await guard.Release(release(first.hold_id))
    assert (await guard.Reserve(again)).hold.remaining == "90"


async def test_several_budgets_hold_all_or_none(guard: Any) -> None:
    await guard.PutBudget(put(budget("a-wide", sku="", limit_quantity="1000")))
    await guard.PutBudget(put(budget("b-narrow", limit_quantity="5")))
    await guard.PutBudget(put(budget("c-other", org_id="other", limit_quantity="0")))
    assert (await refusal(guard.Reserve(reserve("6")))).metadata["budget_id"] == "b-narrow"
    assert await stands(guard, "a-wide") == ("0", "0", "1000")
    hold = (await guard.Reserve(reserve("5"))).hold
    assert [share.budget_id for share in hold.shares] == ["a-wide", "b-narrow"]
    assert await stands(guard, "a-wide") == ("0", "5", "995")
    assert (await guard.Reserve(reserve("900", sku="llm.requests"))).hold.remaining == "95"


async def test_an_organisation_without_a_budget_is_not_limited(guard: Any) -> None:
    hold = (await guard.Reserve(reserve("1000000"))).hold
    assert (hold.remaining, list(hold.shares)) == ("", [])
    assert (await guard.Commit(commit(hold.hold_id))).hold.committed_quantity == "1000000"


async def test_a_thousand_at_once_never_exceed_the_cap_and_a_retry_holds_once(guard: Any) -> None:
    await guard.PutBudget(put(budget("cap", limit_quantity="300")))
    asked = [reserve("1") for _ in range(CALLERS)]
    # Each is sent twice, as by a caller whose answer got lost.
    calls = [guard.Reserve(request) for request in [*asked, *asked]]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    firsts, seconds = answers[:CALLERS], answers[CALLERS:]
    made = {answer.hold.hold_id for answer in answers if not isinstance(answer, BaseException)}
    assert len(made) == 300
    for one, two in zip(firsts, seconds, strict=True):
        if not isinstance(one, Exception) and not isinstance(two, Exception):
            assert one == two
    assert await stands(guard, "cap") == ("0", "300", "0")
    assert (
        await refusal(guard.Reserve(reserve("0.000000000000000001")))
    ).reason == "BUDGET_EXCEEDED"


async def test_the_same_request_id_with_another_body_is_refused(guard: Any) -> None:
    request_id = str(uuid4())
    await guard.Reserve(reserve("1", request_id))
    assert (await refusal(guard.Reserve(reserve("2", request_id)))).reason == "REQUEST_ID_REUSED"


async def test_a_hold_ends_once(guard: Any) -> None:
    await guard.PutBudget(put(budget("cap")))
    hold_id = (await guard.Reserve(reserve("10"))).hold.hold_id
    first = commit(hold_id, "10")
    answer = await guard.Commit(first)
    assert await guard.Commit(first) == answer
    refused = commit(hold_id, "5")
    for _ in range(2):
        error = await refusal(guard.Commit(refused))
        assert (error.reason, error.metadata["status"]) == ("HOLD_ENDED", "COMMITTED")
    assert (await refusal(guard.Release(release(hold_id)))).reason == "HOLD_ENDED"
    assert (await refusal(guard.Release(release(f"hold_{uuid4()}")))).reason == "NOT_FOUND"
    assert (await refusal(guard.Release(release("nothing")))).reason == "NOT_FOUND"
    assert await stands(guard, "cap") == ("10", "0", "90")


async def test_more_than_is_held_is_taken_from_what_is_free_or_not_at_all(guard: Any) -> None:
    await guard.PutBudget(put(budget("cap")))
    hold_id = (await guard.Reserve(reserve("60"))).hold.hold_id
    other = (await guard.Reserve(reserve("30"))).hold.hold_id
    assert (await refusal(guard.Commit(commit(hold_id, "71")))).reason == "BUDGET_EXCEEDED"
    assert await stands(guard, "cap") == ("0", "90", "10")
    await guard.Commit(commit(hold_id, "70"))
    assert await stands(guard, "cap") == ("70", "30", "0")
    await guard.Release(release(other))
    assert await stands(guard, "cap") == ("70", "0", "30")


async def until_all_is_free(guard: Any) -> None:
    while (await stands(guard, "cap")) != ("0", "0", "100"):  # noqa: ASYNC110 - another task of the mesh frees it
        await asyncio.sleep(0.05)


async def test_a_hold_ends_by_itself(guarded: Mesh, guard: Any, clock: ManualClock) -> None:
    await guard.PutBudget(put(budget("cap")))
    hold_id = (await guard.Reserve(reserve("100", seconds=1))).hold.hold_id
    clock.advance(timedelta(seconds=1))
    assert (await refusal(guard.Commit(commit(hold_id)))).metadata["status"] == "EXPIRED"
    async with asyncio.timeout(20):
        await until_all_is_free(guard)
    assert (await guard.Reserve(reserve("100"))).hold.remaining == "0"


async def test_open_holds_are_listed(guard: Any) -> None:
    made = [(await guard.Reserve(reserve("1"))).hold.hold_id for _ in range(3)]
    await guard.Release(release(made[1]))
    page = await guard.ListHolds(guardrail_service_pb2.ListHoldsRequest(page_size=1))
    rest = await guard.ListHolds(
        guardrail_service_pb2.ListHoldsRequest(page_size=1, page_token=page.next_page_token)
    )
    assert [hold.hold_id for hold in [*page.holds, *rest.holds]] == [made[0], made[2]]
    assert not rest.next_page_token
    other = await guard.ListHolds(guardrail_service_pb2.ListHoldsRequest(org_id="other"))
    assert not other.holds


async def test_a_new_limit_keeps_what_is_used_and_held(guard: Any) -> None:
    await guard.PutBudget(put(budget("cap")))
    hold = (await guard.Reserve(reserve("50"))).hold
    await guard.Commit(commit(hold.hold_id, "30"))
    await guard.Reserve(reserve("20"))
    await guard.PutBudget(put(budget("cap", limit_quantity="40")))
    assert await stands(guard, "cap") == ("30", "20", "0")
    assert (await refusal(guard.Reserve(reserve("1")))).reason == "BUDGET_EXCEEDED"
    await guard.PutBudget(put(budget("cap", limit_quantity="51")))
    assert (await guard.Reserve(reserve("1"))).hold.remaining == "0"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("org_id", {"org_id": "other"}),
        ("sku", {"sku": ""}),
        ("period", {"period": DAY}),
        ("time_zone", {"time_zone": "Europe/Berlin"}),
        ("currency_code", {"limit_amount": money(100)}),
    ],
)
async def test_what_a_budget_counts_is_fixed(guard: Any, field: str, changes: Any) -> None:
    await guard.PutBudget(put(budget("cap")))
    error = await refusal(guard.PutBudget(put(budget("cap", **changes))))
    assert (error.reason, error.metadata["field"]) == ("BUDGET_FIXED", field)


async def test_putting_and_deleting_is_audited_and_repeats_change_nothing(
    guard: Any, tenant: str, urls: DatabaseUrls
) -> None:
    first = put(budget("cap", thresholds_pct=[100, 50]))
    answer = await guard.PutBudget(first)
    assert list(answer.budget.thresholds_pct) == [50, 100]
    assert await guard.PutBudget(first) == answer
    delete = guardrail_service_pb2.DeleteBudgetRequest(request_id=str(uuid4()), budget_id="cap")
    assert await guard.DeleteBudget(delete) == await guard.DeleteBudget(delete)
    missing = guardrail_service_pb2.GetBudgetStatusRequest(budget_id="cap")
    assert (await refusal(guard.GetBudgetStatus(missing))).reason == "NOT_FOUND"
    with psycopg.connect(urls.owner_admin) as connection:
        found = connection.execute(
            "SELECT before ->> 'limit', after ->> 'limit' FROM mesh.audit"
            " WHERE tenant_id = %s AND entity = 'budget' ORDER BY audit_id",
            (tenant,),
        ).fetchall()
    assert found == [(None, "100"), ("100", None)]


async def test_a_budget_that_is_put_again_knows_nothing_of_old_holds(guard: Any) -> None:
    await guard.PutBudget(put(budget("cap")))
    hold_id = (await guard.Reserve(reserve("10"))).hold.hold_id
    await guard.DeleteBudget(
        guardrail_service_pb2.DeleteBudgetRequest(request_id=str(uuid4()), budget_id="cap")
    )
    await guard.PutBudget(put(budget("cap")))
    await guard.Commit(commit(hold_id))
    assert await stands(guard, "cap") == ("0", "0", "100")


async def test_budgets_are_listed(guard: Any) -> None:
    for name in ("a", "b", "c"):
        await guard.PutBudget(put(budget(name, org_id="chat" if name != "b" else "other")))
    page = await guard.ListBudgets(guardrail_service_pb2.ListBudgetsRequest(page_size=2))
    rest = await guard.ListBudgets(
        guardrail_service_pb2.ListBudgetsRequest(page_size=2, page_token=page.next_page_token)
    )
    assert [item.budget_id for item in [*page.budgets, *rest.budgets]] == ["a", "b", "c"]
    mine = await guard.ListBudgets(guardrail_service_pb2.ListBudgetsRequest(org_id="other"))
    assert [item.budget_id for item in mine.budgets] == ["b"]


# ---- Usage events.


async def test_usage_counts_in_its_period_before_and_after_the_budget_is_put(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now = clock.now()
    await meter.IngestEvents(
        batch(
            event("before", quantity="3", at=now),
            event("last-month", quantity="50", at=now - timedelta(days=31)),
            event("other", quantity="7", sku="llm.requests", at=now),
        )
    )
    for name, period in (("day", DAY), ("month", MONTH)):
        await guard.PutBudget(put(budget(name, period=period)))
    await guard.PutBudget(put(budget("total")))
    await guard.PutBudget(put(budget("all", sku="")))
    await meter.IngestEvents(
        batch(
            event("after", quantity="4", at=now),
            event("yesterday", quantity="5", at=now - timedelta(days=1)),
        )
    )
    assert (await stands(guard, "day"))[0] == "7"
    assert (await stands(guard, "month"))[0] == "12"
    assert (await stands(guard, "total"))[0] == "62"
    assert (await stands(guard, "all"))[0] == "69"
    at = guardrail_service_pb2.GetBudgetStatusRequest(budget_id="day")
    at.at.FromDatetime(now - timedelta(days=1))
    assert (await guard.GetBudgetStatus(at)).status.used == "5"


async def test_events_beyond_an_enforced_budget_are_rejected_one_by_one(
    guard: Any, meter: Any, tenant: str, urls: DatabaseUrls, clock: ManualClock
) -> None:
    await guard.PutBudget(put(budget("cap", limit_quantity="10", enforce_in_ingest=True)))
    now = clock.now()
    sent = batch(
        event("one", quantity="6", at=now),
        event("two", quantity="5", at=now),
        event("three", quantity="4", at=now),
        event("two", quantity="5", at=now),
        event("elsewhere", quantity="99", org_id="other", at=now),
    )
    answer = await meter.IngestEvents(sent)
    assert outcomes(answer) == {"accepted": 3, "duplicate": 0, "conflict": 0, "rejected": 2}
    assert [(item.index, item.request_id, item.reason) for item in answer.problems] == [
        (1, "two", "BUDGET_EXCEEDED"),
        (3, "two", "BUDGET_EXCEEDED"),
    ]
    assert await stands(guard, "cap") == ("10", "0", "0")
    again = await meter.IngestEvents(sent)
    assert outcomes(again) == {"accepted": 0, "duplicate": 3, "conflict": 0, "rejected": 2}
    assert await stands(guard, "cap") == ("10", "0", "0")
    with psycopg.connect(urls.owner_admin) as connection:
        (content,) = connection.execute(
            "SELECT content FROM metering.rejected_event WHERE tenant_id = %s LIMIT 1", (tenant,)
        ).fetchone() or (b"",)
    assert content == sent.events[1].SerializeToString(deterministic=True)


async def test_an_event_that_names_its_hold_is_not_counted_again(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    await guard.PutBudget(put(budget("cap", limit_quantity="10", enforce_in_ingest=True)))
    hold_id = (await guard.Reserve(reserve("8"))).hold.hold_id
    other = (await guard.Reserve(reserve("2"))).hold.hold_id
    now, names = clock.now(), {"hold_id": hold_id}
    early = event("early", quantity="3", metadata=names, at=now)
    assert (await meter.IngestEvents(batch(early))).accepted == 1
    assert await stands(guard, "cap") == ("0", "10", "0")
    await guard.Commit(commit(hold_id, "7"))
    assert await stands(guard, "cap") == ("7", "2", "1")
    late = batch(
        event("late", quantity="4", metadata=names, at=now),
        event("over", quantity="1", metadata=names, at=now),
        event("beyond", quantity="1", metadata=names, at=now),
    )
    assert outcomes(await meter.IngestEvents(late)) == {
        "accepted": 2,
        "duplicate": 0,
        "conflict": 0,
        "rejected": 1,
    }
    assert await stands(guard, "cap") == ("8", "2", "0")
    # What was reported of a hold stays used when it is given up.
    told = event("told", quantity="1.5", metadata={"hold_id": other}, at=now)
    assert (await meter.IngestEvents(batch(told))).accepted == 1
    await guard.Release(release(other))
    assert await stands(guard, "cap") == ("9.5", "0", "0.5")


async def test_batches_and_holds_at_once_never_exceed_an_enforced_budget(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    await guard.PutBudget(put(budget("cap", limit_quantity="100", enforce_in_ingest=True)))
    now = clock.now()

    async def ingest(number: int) -> int:
        events = [event(f"e-{number}-{each}", quantity="1", at=now) for each in range(10)]
        return int((await meter.IngestEvents(batch(*events))).accepted)

    async def hold() -> int:
        try:
            await guard.Reserve(reserve("1"))
        except grpc.aio.AioRpcError:
            return 0
        return 1

    counts = await asyncio.gather(*(ingest(n) for n in range(15)), *(hold() for _ in range(60)))
    stored, held = sum(counts[:15]), sum(counts[15:])
    assert stored + held == 100
    assert await stands(guard, "cap") == (str(stored), str(held), "0")


async def test_no_usage_is_missed_while_a_budget_is_put(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now = clock.now()

    async def ingest(number: int) -> None:
        await meter.IngestEvents(batch(event(f"e-{number}", quantity="1", at=now)))

    async def watch() -> None:
        for number in range(5):
            await guard.PutBudget(put(budget(f"b-{number}", mode=SOFT)))

    await asyncio.gather(*(ingest(number) for number in range(60)), watch())
    assert {(await stands(guard, f"b-{number}"))[0] for number in range(5)} == {"60"}


# ---- Corrections and replays.


def amendment(*events: metering_pb2.UsageEvent) -> corrections_pb2.AmendEventsRequest:
    """Ask for events to have another content."""
    request = corrections_pb2.AmendEventsRequest(request_id=str(uuid4()))
    for item in events:
        request.amendments.add(event=item, reason="misread")
    return request


def cancellation(*ids: str) -> corrections_pb2.CancelEventsRequest:
    """Ask for events to count nowhere."""
    return corrections_pb2.CancelEventsRequest(
        request_id=str(uuid4()), request_ids=ids, reason="a test run"
    )


async def used_in(guard: Any, budget_id: str, at: datetime) -> str:
    """Return what is used of a budget in the period of an instant."""
    request = guardrail_service_pb2.GetBudgetStatusRequest(budget_id=budget_id)
    request.at.FromDatetime(at)
    return str((await guard.GetBudgetStatus(request)).status.used)


async def test_corrections_count_by_their_difference(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now, day = clock.now(), timedelta(days=1)
    await guard.PutBudget(put(budget("cap")))
    await guard.PutBudget(put(budget("day", period=DAY)))
    await guard.PutBudget(put(budget("requests", sku="llm.requests")))
    sent = [event(name, quantity="10", at=now) for name in ("up", "down", "gone", "moved", "other")]
    await meter.IngestEvents(batch(*sent))
    amend = amendment(
        event("up", quantity="15", at=now),
        event("down", quantity="4", at=now),
        event("moved", quantity="10", at=now - day),
        event("other", quantity="10", sku="llm.requests", at=now),
    )
    assert (await meter.AmendEvents(amend)).accepted == 4
    for _ in range(2):  # a repeat counts nothing
        assert (await meter.CancelEvents(cancellation("gone"))).rejected == 0
        assert (await meter.AmendEvents(amend)).accepted == 4
        assert await stands(guard, "cap") == ("29", "0", "71")
        assert await stands(guard, "day") == ("19", "0", "81")
        assert await used_in(guard, "day", now - day) == "10"
        assert await stands(guard, "requests") == ("10", "0", "90")
    await meter.AmendEvents(amendment(event("up", org_id="other", quantity="15", at=now)))
    assert await stands(guard, "cap") == ("14", "0", "86")


async def test_a_new_budget_begins_with_the_newest_versions(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now = clock.now()
    await meter.IngestEvents(
        batch(*(event(name, quantity="10", at=now) for name in ("a", "b", "c", "d")))
    )
    await meter.AmendEvents(
        amendment(event("a", quantity="7", at=now), event("d", org_id="other", at=now))
    )
    await meter.AmendEvents(amendment(event("a", quantity="3", at=now)))
    await meter.CancelEvents(cancellation("b"))
    await guard.PutBudget(put(budget("cap")))
    assert await stands(guard, "cap") == ("13", "0", "87")
    await meter.CancelEvents(cancellation("a", "c"))
    assert await stands(guard, "cap") == ("0", "0", "100")


async def test_an_amendment_beyond_an_enforced_budget_is_rejected(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now = clock.now()
    await guard.PutBudget(put(budget("cap", limit_quantity="20", enforce_in_ingest=True)))
    await meter.IngestEvents(batch(*(event(name, quantity="8", at=now) for name in ("a", "b"))))
    answer = await meter.AmendEvents(
        amendment(event("a", quantity="13", at=now), event("b", quantity="5", at=now))
    )
    assert (answer.accepted, answer.rejected) == (1, 1)
    assert [(item.index, item.reason) for item in answer.problems] == [(0, "BUDGET_EXCEEDED")]
    assert await stands(guard, "cap") == ("13", "0", "7")
    answer = await meter.AmendEvents(amendment(event("a", quantity="13", at=now)))
    assert (answer.accepted, answer.rejected) == (1, 0)
    # Less of what is used is always taken, also of a budget that is overdrawn by now.
    await guard.PutBudget(put(budget("cap", limit_quantity="1", enforce_in_ingest=True)))
    assert (await meter.AmendEvents(amendment(event("a", quantity="12", at=now)))).accepted == 1
    assert await stands(guard, "cap") == ("17", "0", "0")
    usage = await meter.QueryUsage(usage_query(start_at=now.replace(hour=0, minute=0)))
    assert [row.value for row in usage.rows] == ["17"]


async def test_corrections_of_what_a_hold_accounts_for(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now = clock.now()
    await guard.PutBudget(put(budget("cap")))
    names = [(await guard.Reserve(reserve("10"))).hold.hold_id for _ in range(2)]
    kept, given_up = ({"hold_id": name} for name in names)
    await meter.IngestEvents(
        batch(
            event("kept", quantity="12", metadata=kept, at=now),
            event("given-up", quantity="6", metadata=given_up, at=now),
        )
    )
    assert await stands(guard, "cap") == ("2", "20", "78")
    await meter.AmendEvents(amendment(event("kept", quantity="11", metadata=kept, at=now)))
    assert await stands(guard, "cap") == ("1", "20", "79")
    await meter.AmendEvents(amendment(event("kept", quantity="4", metadata=kept, at=now)))
    assert await stands(guard, "cap") == ("0", "20", "80")
    # It reports 6 more of the hold, and 1 beyond.
    await meter.IngestEvents(batch(event("more", quantity="7", metadata=kept, at=now)))
    assert await stands(guard, "cap") == ("1", "20", "79")
    await guard.Commit(commit(names[0], "10"))
    await guard.Release(release(names[1]))
    assert await stands(guard, "cap") == ("17", "0", "83")
    # What was committed stands; what only an event reported of a hold that was given up does not.
    await meter.CancelEvents(cancellation("kept", "given-up"))
    assert await stands(guard, "cap") == ("11", "0", "89")


async def test_corrections_of_a_budget_in_money_are_rated_by_their_difference(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now = clock.now()
    await guard.PutBudget(put(budget("spend", sku="", limit_amount=money(1000))))
    for number in range(3):
        await meter.IngestEvents(batch(event(f"e-{number}", quantity="2", at=now)))
    await meter.IngestEvents(batch(event("free", sku="free.calls", at=now)))
    assert (await stands(guard, "spend"))[0] == "0.02"
    await meter.AmendEvents(amendment(event("e-0", quantity="5", at=now)))
    assert (await stands(guard, "spend"))[0] == "0.035"
    await meter.CancelEvents(cancellation("e-0", "free"))
    assert (await stands(guard, "spend"))[0] == "0.01"
    # Below the units that are free.
    await meter.CancelEvents(cancellation("e-1"))
    assert (await stands(guard, "spend"))[0] == "0"
    await meter.AmendEvents(amendment(event("e-2", sku="gpu.seconds", quantity="2", at=now)))
    assert (await stands(guard, "spend"))[0] == "2"
    await meter.IngestEvents(batch(event("e-3", quantity="3", at=now)))
    assert (await stands(guard, "spend"))[0] == "2.005"


async def test_a_correction_that_was_rated_before_a_budget_was_put_is_rated_again(
    guard: Any, meter: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    await meter.IngestEvents(batch(event("a", sku="gpu.seconds", quantity="5", at=now)))
    asked = guarding.Guarding.correction_guard
    puts = [put(budget("spend", sku="gpu.seconds", limit_amount=money(1000)))]

    async def late(self: Any, batch: Any) -> Any:
        made = await asked(self, batch)
        while puts:
            await guard.PutBudget(puts.pop())
        return made

    monkeypatch.setattr(guarding.Guarding, "correction_guard", late)
    answer = await meter.AmendEvents(amendment(event("a", sku="gpu.seconds", quantity="2", at=now)))
    assert answer.accepted == 1
    assert (await stands(guard, "spend"))[0] == "2"


async def test_a_threshold_that_a_correction_puts_out_of_reach_is_told_of_again(
    guard: Any, meter: Any, tenant: str, urls: DatabaseUrls, clock: ManualClock
) -> None:
    now = clock.now()
    await guard.PutBudget(put(budget("soft", mode=SOFT, thresholds_pct=[50])))
    await meter.IngestEvents(batch(event("a", quantity="60", at=now)))
    assert len(await told(urls, tenant, "budget.threshold.reached")) == 1
    await meter.AmendEvents(amendment(event("a", quantity="70", at=now)))
    assert len(await told(urls, tenant, "budget.threshold.reached")) == 1
    await meter.AmendEvents(amendment(event("a", quantity="40", at=now)))
    await meter.IngestEvents(batch(event("b", quantity="10", at=now)))
    assert len(await told(urls, tenant, "budget.threshold.reached")) == 2


async def test_a_replay_is_enforced_as_ingest_is(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now = clock.now()
    await guard.PutBudget(put(budget("cap", limit_quantity="10", enforce_in_ingest=True)))
    await meter.IngestEvents(
        batch(
            *(event(name, quantity="6", at=now) for name in ("a", "b")),
            event("c", sku="no.such", at=now),
        )
    )
    rejected = await meter.ListRejectedEvents(
        corrections_pb2.ListRejectedEventsRequest(reason="BUDGET_EXCEEDED", sku="llm.tokens")
    )
    assert [item.event.request_id for item in rejected.rejected_events] == ["b"]

    def replay(**asked: Any) -> corrections_pb2.ReplayRejectedEventsRequest:
        return corrections_pb2.ReplayRejectedEventsRequest(
            request_id=str(uuid4()), org_id="chat", **asked
        )

    fix = corrections_pb2.EventFix(sku="llm.tokens", quantity="4.5")
    answer = await meter.ReplayRejectedEvents(replay(fix=fix))
    assert (answer.accepted, answer.rejected) == (0, 2)
    assert {item.reason for item in answer.problems} == {"BUDGET_EXCEEDED"}
    assert await stands(guard, "cap") == ("6", "0", "4")
    fix.quantity = "3"
    request = replay(fix=fix)
    for _ in range(2):
        answer = await meter.ReplayRejectedEvents(request)
        assert (answer.accepted, answer.rejected) == (1, 1)
        assert await stands(guard, "cap") == ("9", "0", "1")
    await guard.PutBudget(put(budget("cap", limit_quantity="12", enforce_in_ingest=True)))
    assert (await meter.ReplayRejectedEvents(replay(fix=fix))).accepted == 1
    assert (await meter.ReplayRejectedEvents(replay(fix=fix))).accepted == 0
    assert await stands(guard, "cap") == ("12", "0", "0")


async def test_corrections_and_batches_at_once_count_each_event_once(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now = clock.now()
    await meter.IngestEvents(batch(*(event(f"e-{n}", quantity="1", at=now) for n in range(40))))

    async def amend(number: int) -> None:
        await meter.AmendEvents(amendment(event(f"e-{number}", quantity="3", at=now)))

    async def cancel(number: int) -> None:
        await meter.CancelEvents(cancellation(f"e-{number}"))

    async def ingest(number: int) -> None:
        await meter.IngestEvents(batch(event(f"f-{number}", quantity="1", at=now)))

    async def watch() -> None:
        for number in range(4):
            await guard.PutBudget(put(budget(f"b-{number}", mode=SOFT)))

    await asyncio.gather(
        *(amend(n) for n in range(20)),
        *(cancel(n) for n in range(20, 30)),
        *(ingest(n) for n in range(20)),
        watch(),
    )
    # 20 of 3, 10 untouched, 20 new.
    assert {(await stands(guard, f"b-{number}"))[0] for number in range(4)} == {"90"}


# ---- Thresholds.


async def told(urls: DatabaseUrls, tenant: str, subject: str) -> list[Any]:
    """Return the payloads of what was published."""
    with psycopg.connect(urls.owner_admin) as connection:
        rows = connection.execute(
            "SELECT payload FROM mesh.event WHERE tenant_id = %s AND subject = %s ORDER BY event_id",
            (tenant, subject),
        ).fetchall()
    return [row[0] for row in rows]


async def test_a_threshold_is_told_once_a_period(
    guard: Any, meter: Any, tenant: str, urls: DatabaseUrls, clock: ManualClock
) -> None:
    await guard.PutBudget(put(budget("soft", mode=SOFT, thresholds_pct=[50, 100], period=DAY)))
    now = clock.now()
    for number in range(12):
        await meter.IngestEvents(batch(event(f"e-{number}", quantity="10", at=now)))
    assert await stands(guard, "soft") == ("120", "0", "0")
    assert len(await told(urls, tenant, "budget.threshold.reached")) == 2
    assert len(await told(urls, tenant, "contract.violated")) == 2
    await meter.IngestEvents(batch(event("y", quantity="60", at=now - timedelta(days=1))))
    assert len(await told(urls, tenant, "budget.threshold.reached")) == 3
    # Out of reach under the new limit, and reached again.
    await guard.PutBudget(
        put(budget("soft", mode=SOFT, thresholds_pct=[50, 100], period=DAY, limit_quantity="200"))
    )
    hold = (await guard.Reserve(reserve("500"))).hold
    await guard.Commit(commit(hold.hold_id, "80"))
    assert len(await told(urls, tenant, "budget.threshold.reached")) == 4
    status = await guard.GetBudgetStatus(
        guardrail_service_pb2.GetBudgetStatusRequest(budget_id="soft")
    )
    assert [(item.pct, item.value, item.reached) for item in status.status.thresholds] == [
        (50, "100", True),
        (100, "200", True),
    ]


# ---- Money.


async def test_a_budget_in_money_rates_by_the_plan_of_the_organisation(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    now = clock.now()
    await meter.IngestEvents(batch(event("before", quantity="4", at=now)))
    await guard.PutBudget(put(budget("spend", limit_amount=money(2))))
    assert await stands(guard, "spend") == ("0.01", "0", "0.01")
    hold = (await guard.Reserve(reserve("1"))).hold
    (share,) = hold.shares
    assert (share.value, share.currency_code, hold.remaining) == ("0.005", "USD", "")
    assert (await refusal(guard.Reserve(reserve("2")))).reason == "BUDGET_EXCEEDED"
    await guard.Commit(commit(hold.hold_id, "2"))
    assert await stands(guard, "spend") == ("0.02", "0", "0")


async def test_free_units_cost_nothing_until_they_are_used(guard: Any) -> None:
    await guard.PutBudget(put(budget("spend", limit_amount=money(1))))
    for expected in ("0", "0", "0.005"):
        (share,) = (await guard.Reserve(reserve("1"))).hold.shares
        assert share.value == expected


async def test_events_beyond_a_budget_in_money_are_rejected(
    guard: Any, meter: Any, clock: ManualClock
) -> None:
    item = budget("spend", sku="", limit_amount=money(350), enforce_in_ingest=True)
    await guard.PutBudget(put(item))
    now = clock.now()
    sent = [event(f"g-{n}", sku="gpu.seconds", quantity="1", at=now) for n in range(5)]
    unpriced = event("free", sku="free.calls", quantity="1000", at=now)
    answer = await meter.IngestEvents(batch(*sent, unpriced))
    assert (answer.accepted, answer.rejected) == (4, 2)
    assert await stands(guard, "spend") == ("3", "0", "0.5")


async def test_what_cannot_be_rated_is_refused_clearly(guard: Any, prices: PriceList) -> None:
    prices.planless.add("planless")
    item = budget("none", org_id="planless", limit_amount=money(100))
    assert (await refusal(guard.PutBudget(put(item)))).reason == "NO_PLAN"
    unpriced = budget("free", sku="free.calls", limit_amount=money(100))
    assert (await refusal(guard.PutBudget(put(unpriced)))).reason == "SKU_NOT_PRICED"
    euros = type_pb2.Money(currency_code="EUR", minor_units=100)
    error = await refusal(guard.PutBudget(put(budget("eur", limit_amount=euros))))
    assert error.reason == "CURRENCY_MISMATCH"
    await guard.PutBudget(put(budget("all", sku="", limit_amount=money(100))))
    assert (await refusal(guard.Reserve(reserve("1", sku="free.calls")))).reason == "SKU_NOT_PRICED"


async def test_a_budget_of_a_sku_that_the_catalogue_does_not_have_is_refused(guard: Any) -> None:
    error = await refusal(guard.PutBudget(put(budget("cap", sku="llm.tokenz"))))
    assert (error.reason, error.metadata["sku"]) == ("UNKNOWN_SKU", "llm.tokenz")
    every = await guard.PutBudget(put(budget("cap", sku="")))
    assert every.budget.sku == ""


async def test_a_use_that_is_overtaken_each_time_it_is_rated_may_be_repeated() -> None:
    tried = 0

    async def overtaken() -> None:
        nonlocal tried
        tried += 1
        raise NotRated("spend:chat")

    with pytest.raises(BudgetsChanging, match="repeat the same call") as told:
        await guarding.rated_anew(overtaken)
    assert tried == guarding.RATINGS_MAX
    assert told.value.metadata == {"budget_id": "spend:chat"}
    assert told.value.retry_after_ms
    assert not told.value.is_answer
