"""Journeys: advanced by events and timers, ended by time, undone in reverse, and all of it on record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message
from payments.events.v1.orchestration_events_pb2 import (
    PaymentCompleted,
    PaymentFailed,
    PaymentReceived,
    StepFailed,
    StepSucceeded,
)

from services.runtime.context import acting
from services.runtime.errors import NotFound
from services.runtime.events.backbone import EventBackbone
from services.runtime.journeys import store
from services.runtime.journeys.definition import (
    Compensation,
    Data,
    JourneyType,
    Outcome,
    Publish,
    SetTimer,
    State,
    Trigger,
)
from services.runtime.journeys.machine import Journey, Status, Step
from services.runtime.journeys.runner import PostgresJourneys
from tests.support.events.lab import QUICK, call, new_tenant
from tests.support.timers.lab import TimerLab
from tests.support.timers.seasoning import hold, object_, payment_of, release, seasoning


@asynccontextmanager
async def travelling(lab: TimerLab, *types: JourneyType) -> AsyncIterator[EventBackbone]:
    """Run journeys until the block ends."""
    found = PostgresJourneys(types or [seasoning()]).reactions()
    async with lab.reacting(*(replace(item, retry=QUICK) for item in found)) as backbone:
        yield backbone


async def tell(lab: TimerLab, tenant: str, *payloads: Message) -> None:
    """Publish facts in one transaction."""
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.publish") as work:
            for payload in payloads:
                work.publish(payload)


def payment(payment_id: str, cents: int = 100) -> PaymentReceived:
    return PaymentReceived(payment_id=payment_id, amount_cents=cents)


async def journey(lab: TimerLab, tenant: str, name: str = "p", kind: str = "seasoning") -> Journey:
    with acting(call(tenant)):
        async with lab.database.read() as work:
            found = await store.find(work, kind, name)
    assert found is not None
    return found


async def steps(lab: TimerLab, tenant: str, name: str = "p", kind: str = "seasoning") -> list[Step]:
    with acting(call(tenant)):
        async with lab.database.read() as work:
            return await store.steps(work, kind, name, 100)


def kinds(found: Sequence[Step]) -> list[str]:
    return [f"{step.kind}:{step.cause}" for step in found]


async def said(lab: TimerLab, tenant: str, *messages: type[Message]) -> list[Any]:
    """The facts of some messages in a tenant's log, in order."""
    names = {message.DESCRIPTOR.full_name: message for message in messages}
    return [
        names[row["message_name"]].FromString(bytes(row["payload"]))
        for row in await lab.log(tenant)
        if row["message_name"] in names
    ]


async def replay(lab: TimerLab, tenant: str) -> int:
    """Bring the dead letters of the seasoning back into their lanes."""
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.replay") as work:
            query = "SELECT replayed FROM mesh.replay_dead_letters('journeys.seasoning', NULL, NULL, 100)"
            return int((await work.execute(query)).scalar_one())


async def pass_days(lab: TimerLab, backbone: EventBackbone, days: float) -> None:
    lab.advance(days=days)
    await lab.fire()
    await backbone.drain()


async def test_a_hold_is_released_after_fourteen_days(lab: TimerLab) -> None:
    tenant = new_tenant()
    async with travelling(lab) as backbone:
        await tell(lab, tenant, payment("p"))
        await backbone.drain()
        held = await journey(lab, tenant)
        assert (held.state, held.status, held.version) == ("held", Status.RUNNING, 1)
        assert (held.deadline_at, set(held.timers)) == (
            held.started_at.replace(day=15),
            {"deadline", "reminder"},
        )
        await pass_days(lab, backbone, 13.99)
        assert (await journey(lab, tenant)).data["reminders"] == 1
        await pass_days(lab, backbone, 0.01)
        await pass_days(lab, backbone, 100)
    done = await journey(lab, tenant)
    assert (done.state, done.status, done.timers) == ("released", Status.COMPLETED, {})
    assert done.ended_at == done.started_at.replace(day=15)
    assert len(await said(lab, tenant, PaymentCompleted)) == 1
    assert kinds(await steps(lab, tenant)) == [
        "started:payment.received",
        "advanced:reminder",
        "deadline_passed:deadline",
        "completed:deadline",
    ]
    assert done.step_count == 4
    assert await lab.rows("SELECT 1 FROM mesh.timer") == []


async def test_every_step_says_what_brought_it_about_and_what_it_did(lab: TimerLab) -> None:
    tenant = new_tenant()
    async with travelling(lab) as backbone:
        await tell(lab, tenant, payment("p"), PaymentFailed(payment_id="p"))
        await backbone.drain()
    started, failed, undone, ended = await steps(lab, tenant)
    (cause, objection) = [
        row["event_id"] for row in await lab.log(tenant) if row["correlation_id"]
    ][:2]
    assert (started.from_state, started.to_state, started.cause_id) == ("", "held", cause)
    assert started.commands == [
        {"publish": "payments.events.v1.StepSucceeded"},
        {"set_timer": "reminder", "after": "7 days, 0:00:00"},
    ]
    assert (failed.kind, failed.cause_id, undone.cause) == ("advanced", objection, "hold")
    assert undone.commands == [{"publish": "payments.events.v1.StepFailed"}]
    assert (ended.kind, ended.to_state) == ("failed", "held")
    assert (await journey(lab, tenant)).reason == "disputed"
    assert len(await said(lab, tenant, StepFailed)) == 1
    assert await lab.rows("SELECT 1 FROM mesh.timer") == [], "its timers went with it"
    log = await lab.log(tenant)
    follow_up = next(row for row in log if row["subject"] == "payment.step.failed")
    assert follow_up["causation_id"] == objection
    assert follow_up["correlation_id"] == log[1]["correlation_id"]


async def test_a_cancelled_journey_undoes_what_it_did_the_last_first(lab: TimerLab) -> None:
    tenant = new_tenant()
    async with travelling(lab) as backbone:
        await tell(lab, tenant, payment("p"))
        await backbone.drain()
        journeys = PostgresJourneys([seasoning()])
        with acting(call(tenant)):
            async with lab.database.unit_of_work("lab.cancel") as work:
                assert await journeys.cancel(work, "seasoning", "p", "the buyer asked")
                assert not await journeys.cancel(work, "seasoning", "p", "again")
                with pytest.raises(NotFound):
                    await journeys.cancel(work, "seasoning", "never", "")
        await pass_days(lab, backbone, 30)
    gone = await journey(lab, tenant)
    assert (gone.status, gone.reason) == (Status.CANCELLED, "the buyer asked")
    assert kinds(await steps(lab, tenant)) == [
        "started:payment.received",
        "compensated:hold",
        "cancelled:cancel",
    ]
    assert len(await said(lab, tenant, StepFailed)) == 1
    assert await said(lab, tenant, PaymentCompleted) == []


async def test_a_timer_that_was_fired_but_came_too_late_changes_nothing(lab: TimerLab) -> None:
    """The deadline's event is in the log when the journey fails."""
    tenant = new_tenant()
    async with travelling(lab) as backbone:
        await tell(lab, tenant, payment("p"))
        await backbone.drain()
    lab.advance(days=14)
    journeys = PostgresJourneys([seasoning()])
    await lab.fire()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.cancel") as work:
            await journeys.cancel(work, "seasoning", "p", "just in time")
    async with travelling(lab) as backbone:
        await backbone.drain()
    assert kinds(await steps(lab, tenant))[-2:] == ["ignored:reminder", "ignored:deadline"]
    assert (await journey(lab, tenant)).status is Status.CANCELLED
    assert await said(lab, tenant, PaymentCompleted) == []


async def test_who_starts_it_twice_starts_it_once(lab: TimerLab) -> None:
    tenant = new_tenant()
    journeys = PostgresJourneys([seasoning()])

    async def start() -> bool:
        with acting(call(tenant)):
            async with lab.database.unit_of_work("lab.start") as work:
                return await journeys.start(
                    work, "seasoning", "p", {"payment_id": "p", "reminders": 0}
                )

    assert sorted(await asyncio.gather(*(start() for _ in range(8)))) == [False] * 7 + [True]
    assert len(await said(lab, tenant, StepSucceeded)) == 1
    assert kinds(await steps(lab, tenant)) == ["started:start"]
    async with travelling(lab) as backbone:
        await tell(lab, tenant, payment("p"))
        await backbone.drain()
    assert kinds(await steps(lab, tenant)) == ["started:start", "ignored:payment.received"]


async def test_events_that_concern_no_journey_leave_no_trace(lab: TimerLab) -> None:
    tenant = new_tenant()
    async with travelling(lab) as backbone:
        await tell(lab, tenant, payment("other-shop"), payment("nothing", 0))
        await tell(lab, tenant, PaymentFailed(payment_id="stranger"))
        await backbone.drain()
    assert await steps(lab, tenant, "other-shop") == []
    assert kinds(await steps(lab, tenant, "nothing")) == ["ignored:payment.received"]
    assert kinds(await steps(lab, tenant, "stranger")) == ["ignored:payment.failed"]
    assert await lab.rows("SELECT 1 FROM mesh.journey WHERE tenant_id = %s", tenant) == []


@pytest.mark.parametrize("which", ["unknown", "unexpected"])
async def test_a_definition_may_refuse_what_it_does_not_expect(lab: TimerLab, which: str) -> None:
    tenant = new_tenant()
    strict = seasoning(unknown="refuse") if which == "unknown" else seasoning(unexpected="refuse")
    async with travelling(lab, strict) as backbone:
        if which == "unexpected":
            await tell(lab, tenant, payment("p"), payment("p"))
        else:
            await tell(lab, tenant, PaymentFailed(payment_id="p"))
        await backbone.drain()
        (letter,) = await lab.rows(
            "SELECT consumer, attempts, last_error FROM mesh.dead_letter WHERE tenant_id = %s",
            tenant,
        )
        assert (letter["consumer"], letter["attempts"]) == ("journeys.seasoning", 4)
        assert letter["last_error"].startswith("JourneyEventRefused")
        if which == "unknown":
            # Once it is there the letter is good.
            with acting(call(tenant)):
                async with lab.database.unit_of_work("lab.start") as work:
                    data = {"payment_id": "p", "reminders": 0}
                    await PostgresJourneys([strict]).start(work, "seasoning", "p", data)
            assert await replay(lab, tenant) == 1
            await backbone.drain()
            assert (await journey(lab, tenant)).status is Status.FAILED


async def test_a_journey_keeps_the_version_that_it_was_started_with(lab: TimerLab) -> None:
    tenant = new_tenant()
    eager = seasoning(2, states={"held": State(), "released": State(is_end=True)})
    async with travelling(lab) as backbone:
        await tell(lab, tenant, payment("old"))
        await backbone.drain()
    async with travelling(lab, seasoning(), eager) as backbone:
        await tell(lab, tenant, payment("new"))
        await backbone.drain()
        await pass_days(lab, backbone, 14)
    old, new = await journey(lab, tenant, "old"), await journey(lab, tenant, "new")
    assert (old.version, old.status) == (1, Status.COMPLETED)
    assert (new.version, new.status, new.deadline_at) == (2, Status.RUNNING, None)


async def test_a_release_without_its_version_parks_it(lab: TimerLab) -> None:
    tenant = new_tenant()
    async with travelling(lab, seasoning(3)) as backbone:
        await tell(lab, tenant, payment("p"))
        await backbone.drain()
    async with travelling(lab, seasoning(2)) as backbone:
        await tell(lab, tenant, PaymentFailed(payment_id="p"), payment("fresh"))
        await backbone.drain()
        (letter,) = await lab.rows(
            "SELECT last_error FROM mesh.dead_letter WHERE tenant_id = %s", tenant
        )
    assert letter["last_error"].startswith("JourneyVersionUnknown")
    assert "version 3" in letter["last_error"]
    assert (await journey(lab, tenant)).state == "held"
    assert (await journey(lab, tenant, "fresh")).version == 2
    async with travelling(lab, seasoning(2), seasoning(3)) as backbone:
        assert await replay(lab, tenant) == 1
        await backbone.drain()
    assert (await journey(lab, tenant)).status is Status.FAILED


def _book(data: Data, trigger: Trigger) -> Outcome:
    return Outcome(
        "booked", commands=(SetTimer("check", data["wait"]),) if "wait" in data else (), done="a"
    )


def _second(data: Data, trigger: Trigger) -> Outcome:
    return Outcome("booked", done="b")


def _undone(name: str, confirmed_by: str = "") -> Compensation:
    return Compensation(
        lambda data: (Publish(StepFailed(payment_id="p", processor_id=name)),), confirmed_by
    )


def _trip(confirmed_by: str = "") -> JourneyType:
    """Two things are done, each in its step; a deadline without a handler fails it."""
    return seasoning(
        name="trip",
        begin=_book,
        states={
            "booked": State(
                on={"payment.completed": _second, "payment.failed": object_},
                deadline=seasoning().states["held"].deadline,
            )
        },
        locate=dict.fromkeys(
            ("payment.received", "payment.failed", "payment.completed"), payment_of
        ),
        compensations={"a": _undone("a"), "b": _undone("b", confirmed_by)},
    )


async def test_a_passed_deadline_without_a_handler_fails_and_undoes_in_reverse(
    lab: TimerLab,
) -> None:
    tenant = new_tenant()
    async with travelling(lab, _trip()) as backbone:
        await tell(lab, tenant, payment("p"), PaymentCompleted(payment_id="p"))
        await backbone.drain()
        await pass_days(lab, backbone, 14)
    failed = await journey(lab, tenant, kind="trip")
    assert (failed.status, failed.reason) == (Status.FAILED, "the deadline of booked passed")
    assert [fact.processor_id for fact in await said(lab, tenant, StepFailed)] == ["b", "a"]


async def test_what_has_to_be_confirmed_is_waited_for(lab: TimerLab) -> None:
    tenant = new_tenant()
    async with travelling(lab, _trip("payment.received")) as backbone:
        await tell(lab, tenant, payment("p"), PaymentCompleted(payment_id="p"))
        await tell(lab, tenant, PaymentFailed(payment_id="p"), PaymentFailed(payment_id="p"))
        await backbone.drain()
        waiting = await journey(lab, tenant, kind="trip")
        assert (waiting.status, waiting.undoing) == (Status.COMPENSATING, "b")
        assert [fact.processor_id for fact in await said(lab, tenant, StepFailed)] == ["b"]
        await tell(lab, tenant, payment("p"))
        await backbone.drain()
    assert (await journey(lab, tenant, kind="trip")).status is Status.FAILED
    assert [fact.processor_id for fact in await said(lab, tenant, StepFailed)] == ["b", "a"]
    assert kinds(await steps(lab, tenant, kind="trip"))[-5:] == [
        "compensated:b",
        "ignored:payment.failed",
        "advanced:payment.received",
        "compensated:a",
        "failed:payment.received",
    ]


async def test_what_a_failing_handler_did_is_undone_by_the_database(lab: TimerLab) -> None:
    tenant = new_tenant()

    def fails(data: Data, trigger: Trigger) -> Outcome:
        raise RuntimeError("no idea")

    async with travelling(lab, seasoning(begin=fails)) as backbone:
        await tell(lab, tenant, payment("p"))
        await backbone.drain()
    assert await lab.rows("SELECT 1 FROM mesh.journey WHERE tenant_id = %s", tenant) == []
    assert await lab.rows("SELECT 1 FROM mesh.timer WHERE tenant_id = %s", tenant) == []


async def test_journeys_are_listed_in_pages(lab: TimerLab) -> None:
    tenant = new_tenant()
    async with travelling(lab) as backbone:
        await tell(lab, tenant, *(payment(f"p{number}") for number in range(4)))
        await tell(lab, tenant, PaymentFailed(payment_id="p1"))
        await backbone.drain()
    with acting(call(tenant)):
        async with lab.database.read() as work:
            every = await store.page(work, "", "", None, ("", ""), 3)
            assert [found.journey_id for found in every] == ["p0", "p1", "p2"]
            rest = await store.page(work, "seasoning", "held", None, ("seasoning", "p2"), 3)
            assert [found.journey_id for found in rest] == ["p3"]
            running = await store.page(work, "", "", Status.RUNNING, ("", ""), 9)
            assert [found.journey_id for found in running] == ["p0", "p2", "p3"]
            assert await store.page(work, "trip", "", None, ("", ""), 3) == []


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"name": ""}, "needs a name"),
        ({"version": 0}, "version"),
        ({"locate": {}}, "whose are"),
        ({"locate": {"no subject": payment_of}}, "is not a valid subject"),
        ({"states": {"": State()}}, "a state needs a name"),
        ({"states": {"s": State(on={"payment.failed": hold}, is_end=True)}}, "is an end"),
        ({"states": {"s": State(timers={"deadline": release})}}, "the name of its deadline"),
        ({"starts": {"payment.captured": lambda trigger: {}}}, "whose are"),
    ],
)
def test_a_definition_that_contradicts_itself_is_refused(
    fields: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        seasoning(**fields)


def test_a_version_stands_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        PostgresJourneys([seasoning(), seasoning()])
