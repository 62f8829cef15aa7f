"""Journeys against a model: events and timers in any order, twice, late, and with deaths in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from payments.events.v1.journey_events_pb2 import JourneyTimerFired
from payments.events.v1.orchestration_events_pb2 import PaymentFailed, PaymentReceived
from psycopg.rows import dict_row

from services.runtime.clock import ManualClock
from services.runtime.context import acting
from services.runtime.errors import NotFound
from services.runtime.events.envelope import Envelope
from services.runtime.journeys.runner import PostgresJourneys
from services.runtime.outbox import registry
from services.runtime.postgres.roles import DatabaseUrls
from tests.support.events.lab import call, new_tenant
from tests.support.timers.lab import START, TimerLab
from tests.support.timers.seasoning import REMINDER, SEASONING, seasoning

IDS = st.sampled_from(["a", "b"])
SETTINGS = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
READ = ("payment.received", "payment.failed", "journey.timer.fired")


class Died(Exception):
    """The process ended before its commit."""


@dataclass
class Model:
    """What a seasoning should be.

    Attributes:
        timers: when each of its timers is due.
        fired: those of them whose events are on their way.
        settled: facts that it published, besides the hold.
    """

    timers: dict[str, datetime]
    status: str = "running"
    state: str = "held"
    reminders: int = 0
    steps: int = 1
    fired: set[str] = field(default_factory=set)
    settled: str = ""

    def end(self, status: str, steps: int, settled: str) -> None:
        self.status, self.settled = status, settled
        self.steps += steps
        self.timers, self.fired = {}, set()


class Journeys(RuleBasedStateMachine):
    """One tenant's seasonings; its log is delivered by hand, so that anything may come in between."""

    # One for all runs; time only ever moves on.
    runner: asyncio.Runner
    lab: TimerLab
    clock: ManualClock
    reader: psycopg.AsyncConnection[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.tenant = new_tenant()
        self.engine = PostgresJourneys([seasoning()])
        self.handle = self.engine.reactions()[0].handler
        self.model: dict[str, Model] = {}
        self.strangers: Counter[str] = Counter()
        self.delivered = 0
        self._do(self._rows("DELETE FROM mesh.timer RETURNING key"))

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def _rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        return await (await self.reader.execute(query.encode(), parameters or None)).fetchall()

    async def _publish(self, payload: Message) -> None:
        with acting(call(self.tenant)):
            async with self.lab.database.unit_of_work("lab.publish") as work:
                work.publish(payload)

    # ---- What may happen

    @rule(name=IDS)
    def received(self, name: str) -> None:
        self._do(self._publish(PaymentReceived(payment_id=name, amount_cents=1)))

    @rule(name=IDS)
    def failed(self, name: str) -> None:
        self._do(self._publish(PaymentFailed(payment_id=name)))

    @rule(name=IDS)
    def start(self, name: str) -> None:
        async def started() -> bool:
            with acting(call(self.tenant)):
                async with self.lab.database.unit_of_work("lab.start") as work:
                    data = {"payment_id": name, "reminders": 0}
                    return await self.engine.start(work, "seasoning", name, data)

        assert self._do(started()) == (name not in self.model)
        self._begin(name)

    @rule(name=IDS, dies=st.booleans())
    def cancel(self, name: str, dies: bool) -> None:
        async def cancelled() -> bool | None:
            with acting(call(self.tenant)):
                async with self.lab.database.unit_of_work("lab.cancel") as work:
                    try:
                        found = await self.engine.cancel(work, "seasoning", name, "so")
                    except NotFound:
                        return None
                    if dies:
                        raise Died
                    return found

        there = self.model.get(name)
        try:
            found = self._do(cancelled())
        except Died:
            return
        if there is None:
            assert found is None
        else:
            assert found == (there.status == "running")
            if found:
                there.end("cancelled", 2, "undone")

    @rule(days=st.sampled_from([1, 7, 8, 14]), pumps=st.integers(1, 2))
    def time_passes(self, days: int, pumps: int) -> None:
        async def fire() -> None:
            await asyncio.gather(*(self.lab.fire() for _ in range(pumps)))

        self.clock.advance(timedelta(days=days))
        self._do(fire())
        for journey in self.model.values():
            journey.fired |= {
                k for k, due_at in journey.timers.items() if due_at <= self.clock.now()
            }

    @precondition(lambda self: self._do(self._waiting()))
    @rule(events=st.integers(1, 4), dies=st.booleans())
    def deliver(self, events: int, dies: bool) -> None:
        """Deliver the oldest events; who dies on the way delivers its event again."""
        for event in self._do(self._waiting())[:events]:
            if dies:
                with pytest.raises(Died):
                    self._do(self._handle(event, dies=True))
                self.agrees()
            self._do(self._handle(event, dies=False))
            self.delivered += 1
            self._happened(event.payload)

    async def _waiting(self) -> list[Envelope]:
        rows = await self._rows(
            "SELECT * FROM mesh.event WHERE tenant_id = %s AND subject = ANY(%s) ORDER BY seq OFFSET %s",
            self.tenant,
            list(READ),
            self.delivered,
        )
        return [
            Envelope(
                event_id=row["event_id"],
                subject=row["subject"],
                schema_version=1,
                tenant_id=self.tenant,
                key=row["key"],
                payload=registry.unpack(row["message_name"], bytes(row["payload"])),
                correlation_id=row["correlation_id"],
                causation_id=row["causation_id"],
                created_at=row["created_at"],
            )
            for row in rows
        ]

    async def _handle(self, event: Envelope, *, dies: bool) -> None:
        with acting(call(self.tenant, causation_id=event.event_id)):
            async with self.lab.database.unit_of_work("lab.handle") as work:
                await self.handle(work, event)  # type: ignore[misc]
                if dies:
                    raise Died

    # ---- What that should come to

    def _begin(self, name: str) -> None:
        if name not in self.model:
            now = self.clock.now()
            self.model[name] = Model({"reminder": now + REMINDER, "deadline": now + SEASONING})

    def _happened(self, payload: Message) -> None:
        name = (
            payload.journey_id
            if isinstance(payload, JourneyTimerFired)
            else str(payload.payment_id)  # type: ignore[attr-defined]
        )
        there = self.model.get(name)
        if isinstance(payload, JourneyTimerFired):
            assert there is not None
            self._timer(there, payload.timer)
        elif there is not None and isinstance(payload, PaymentFailed) and there.status == "running":
            there.end("failed", 3, "undone")
        elif there is not None:
            there.steps += 1
        elif isinstance(payload, PaymentReceived):
            self._begin(name)
        else:
            self.strangers[name] += 1

    def _timer(self, journey: Model, name: str) -> None:
        if name not in journey.timers:
            journey.steps += 1
        elif name == "deadline":
            journey.state = "released"
            journey.end("completed", 2, "released")
        else:
            journey.steps += 1
            journey.reminders += 1
            del journey.timers[name]
            journey.fired.discard(name)

    @invariant()
    def agrees(self) -> None:
        rows, steps, timers, facts = self._do(self._stored())
        expected = {
            name: (it.status, it.state, it.steps, it.timers.get("deadline"), it.reminders)
            for name, it in self.model.items()
        }
        assert rows == expected
        for name in {*self.model, *self.strangers}:
            mine = self.model[name].steps if name in self.model else 0
            assert steps[name] == mine + self.strangers[name]
        assert timers == {
            (f"journey/seasoning/{name}/{timer}", due_at)
            for name, it in self.model.items()
            for timer, due_at in it.timers.items()
            if timer not in it.fired
        }
        assert facts["payment.step.succeeded"] == len(self.model)
        settled = Counter(it.settled for it in self.model.values())
        assert facts["payment.step.failed"] == settled["undone"]
        assert facts["payment.completed"] == settled["released"]

    async def _stored(self) -> tuple[Any, ...]:
        journeys = await self._rows("SELECT * FROM mesh.journey WHERE tenant_id = %s", self.tenant)
        steps = await self._rows(
            "SELECT journey_id FROM mesh.journey_step WHERE tenant_id = %s", self.tenant
        )
        timers = await self._rows("SELECT key, due_at FROM mesh.timer")
        log = await self._rows("SELECT subject FROM mesh.event WHERE tenant_id = %s", self.tenant)
        return (
            {
                row["journey_id"]: (
                    row["status"],
                    row["state"],
                    row["step_count"],
                    row["deadline_at"],
                    _reminders(row["data"]),
                )
                for row in journeys
            },
            Counter(row["journey_id"] for row in steps),
            {(row["key"], row["due_at"]) for row in timers},
            Counter(row["subject"] for row in log),
        )


def _reminders(data: str) -> int:
    return int(data.partition('"reminders": ')[2][0])


def test_journeys_are_as_the_model_says(urls: DatabaseUrls) -> None:
    # With a loop of its own, that no other test finds gone.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        Journeys.runner = runner
        Journeys.clock = ManualClock(START)
        Journeys.lab = TimerLab(urls, Journeys.clock)
        connecting = psycopg.AsyncConnection.connect(
            urls.owner_admin, autocommit=True, row_factory=dict_row
        )
        Journeys.reader = runner.run(connecting)
        try:
            run_state_machine_as_test(Journeys, settings=SETTINGS)
        finally:
            runner.run(Journeys.reader.close())
            runner.run(Journeys.lab.close())
