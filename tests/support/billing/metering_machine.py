"""Metering against a model that is obviously right: whatever is sent, corrected, refused, replayed, held, rolled up."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

import grpc
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from payments.metering.v1 import corrections_pb2, guardrails_pb2, metering_pb2
from payments.metering.v1.guardrail_service_pb2_grpc import GuardrailServiceStub
from payments.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

from services.metering.store import rollups as store
from services.metering.work.ordinals import Sequencing
from services.metering.work.rollups import RollingUp
from services.runtime.edge.status import RemoteError
from tests.support.billing.guardrails import budget, commit, put, release, reserve, stands
from tests.support.billing.metering import NOW, batch, event, outcomes, usage_query
from tests.support.mesh.serving import Mesh

LIMIT = Decimal(40)
HOUR = timedelta(hours=1)
FIRST_HOUR = NOW.replace(minute=0)
ANSWER_SECONDS_MAX = 120.0
T = TypeVar("T")


@dataclass(frozen=True)
class Content:
    """What an event says."""

    quantity: Decimal
    hours_ago: int
    project_id: str

    def as_event(self, event_id: str, sku: str = "llm.tokens") -> metering_pb2.UsageEvent:
        """Spell it."""
        return event(
            event_id,
            quantity=f"{self.quantity:f}",
            at=FIRST_HOUR - self.hours_ago * HOUR,
            project_id=self.project_id,
            sku=sku,
        )


Rows = dict[tuple[str, int], tuple[Decimal, int]]
"""Quantity and number of events, by project and how many hours ago."""


@dataclass
class Model:
    """What metering has.

    Attributes:
        sent: the first content of each event, by which duplicates are told from conflicts.
        newest: the content that counts; None once it is cancelled.
        refused: events of a SKU that there is not, which wait to be replayed.
        holds: quantities by hold.
        committed: what of ended holds was used.
    """

    sent: dict[str, Content] = field(default_factory=dict)
    newest: dict[str, Content | None] = field(default_factory=dict)
    refused: dict[str, Content] = field(default_factory=dict)
    holds: dict[str, Decimal] = field(default_factory=dict)
    committed: Decimal = Decimal(0)

    def store(self, event_id: str, content: Content) -> str:
        """Take an event in; returns the verdict."""
        if event_id in self.sent:
            return "duplicate" if self.sent[event_id] == content else "conflict"
        self.sent[event_id] = self.newest[event_id] = content
        return "accepted"

    def correct(self, event_id: str, content: Content | None) -> str:
        """Amend or cancel an event; returns the verdict."""
        if event_id not in self.newest:
            return "rejected"
        before = self.newest[event_id]
        if before is None:
            return "duplicate" if content is None else "rejected"
        if before == content:
            return "duplicate"
        self.newest[event_id] = content
        return "accepted"

    def rows(self) -> Rows:
        """Return the usage of the day."""
        found: defaultdict[tuple[str, int], tuple[Decimal, int]] = defaultdict(
            lambda: (Decimal(0), 0)
        )
        for content in self.newest.values():
            if content is not None:
                quantity, count = found[content.project_id, content.hours_ago]
                found[content.project_id, content.hours_ago] = (
                    quantity + content.quantity,
                    count + 1,
                )
        return dict(found)

    @property
    def used(self) -> Decimal:
        """What a budget of all of it has counted."""
        return self.committed + sum(
            (content.quantity for content in self.newest.values() if content), Decimal(0)
        )

    @property
    def held(self) -> Decimal:
        """What is held."""
        return sum(self.holds.values(), Decimal(0))


IDS = st.sampled_from("abcde")
CONTENTS = st.builds(
    Content,
    st.sampled_from([Decimal(0), Decimal(1), Decimal(7), Decimal("0.000000000000000001")]),
    st.integers(0, 3),
    st.sampled_from(["", "web"]),
)
AMOUNTS = st.sampled_from([Decimal(1), Decimal(5), Decimal(30)])


class MeteringMachine(RuleBasedStateMachine):
    """One tenant of a running mesh; a class of its own for each run says which.

    Attributes:
        loop: that the mesh runs in; rules run in another thread.
        channel: of a tenant with every scope.
        roll_up: rolls up all that a tenant has.
    """

    loop: asyncio.AbstractEventLoop
    channel: Callable[[str], grpc.aio.Channel]
    roll_up: Callable[[str], Awaitable[None]]

    def __init__(self) -> None:
        super().__init__()
        self.tenant = f"t-{uuid4().hex[:12]}"
        self.stub: Any = MeteringServiceStub(type(self).channel(self.tenant))
        self.guard: Any = GuardrailServiceStub(type(self).channel(self.tenant))
        self.model = Model()
        self.at_ordinal: dict[int, Rows] = {0: {}}
        self.names = 0
        self.last_batch: Any = None
        limited = budget("all", limit_quantity=str(LIMIT))
        self._do(self.guard.PutBudget(put(limited)))

    def _do(self, call: Awaitable[T]) -> T:
        async def answered() -> T:
            return await call

        made: Coroutine[Any, Any, T] = answered()
        return asyncio.run_coroutine_threadsafe(made, self.loop).result(ANSWER_SECONDS_MAX)

    def _name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}-{self.names}"

    # ---- What may happen

    @rule(sent=st.lists(st.tuples(IDS, CONTENTS), min_size=1, max_size=14))
    def ingest(self, sent: list[tuple[str, Content]]) -> None:
        """Few and many, with ids that came before, and twice in a batch."""
        verdicts = Counter(self.model.store(event_id, content) for event_id, content in sent)
        self.last_batch = batch(*(content.as_event(event_id) for event_id, content in sent))
        answer = self._do(self.stub.IngestEvents(self.last_batch))
        assert Counter(outcomes(answer)) == verdicts

    @precondition(lambda self: self.last_batch is not None)
    @rule()
    def send_again(self) -> None:
        """As after a lost reply: nothing is new."""
        answer = self._do(self.stub.IngestEvents(self.last_batch))
        assert (answer.accepted, answer.rejected) == (0, 0)
        assert answer.duplicate + answer.conflict == len(self.last_batch.events)

    @rule(content=CONTENTS)
    def refused(self, content: Content) -> None:
        """Of a SKU that there is not."""
        name = self._name("refused")
        answer = self._do(self.stub.IngestEvents(batch(content.as_event(name, "no.such"))))
        assert answer.rejected == 1
        self.model.refused[name] = content

    @rule()
    def replay(self) -> None:
        """With the SKU that was meant."""
        request = corrections_pb2.ReplayRejectedEventsRequest(
            request_id=str(uuid4()),
            sku="no.such",
            fix=corrections_pb2.EventFix(sku="llm.tokens"),
        )
        waiting, self.model.refused = self.model.refused, {}
        for name, content in waiting.items():
            assert self.model.store(name, content) == "accepted"
        for _ in range(2):  # A lost reply.
            answer = self._do(self.stub.ReplayRejectedEvents(request))
            assert (answer.accepted, answer.rejected) == (len(waiting), 0)

    @rule(event_id=IDS, content=CONTENTS)
    def amend(self, event_id: str, content: Content) -> None:
        """Give an event another content, or the one that it has."""
        verdict = self.model.correct(event_id, content)
        request = corrections_pb2.AmendEventsRequest(request_id=str(uuid4()))
        request.amendments.add(event=content.as_event(event_id), reason="misread")
        for _ in range(2):
            assert getattr(self._do(self.stub.AmendEvents(request)), verdict) == 1

    @rule(event_id=IDS)
    def cancel(self, event_id: str) -> None:
        """Have an event count no more."""
        verdict = self.model.correct(event_id, None)
        request = corrections_pb2.CancelEventsRequest(
            request_id=str(uuid4()), request_ids=[event_id], reason="a test run"
        )
        for _ in range(2):
            assert getattr(self._do(self.stub.CancelEvents(request)), verdict) == 1

    @rule(quantity=AMOUNTS)
    def reserve(self, quantity: Decimal) -> None:
        """Hold something, if it is free."""
        request = reserve(str(quantity))
        is_free = self.model.used + self.model.held + quantity <= LIMIT
        try:
            first = self._do(self.guard.Reserve(request)).hold
            again = self._do(self.guard.Reserve(request)).hold
        except grpc.aio.AioRpcError as error:
            assert RemoteError.of(error, "metering").reason == "BUDGET_EXCEEDED"
            assert not is_free
            return
        assert is_free
        assert first.hold_id == again.hold_id
        assert first.status == guardrails_pb2.HOLD_STATUS_HELD
        self.model.holds[first.hold_id] = quantity

    @precondition(lambda self: self.model.holds)
    @rule(chosen=st.integers(0, 99), used=AMOUNTS)
    def commit(self, chosen: int, used: Decimal) -> None:
        """Use a hold, or some of it."""
        hold_id = sorted(self.model.holds)[chosen % len(self.model.holds)]
        quantity = min(used, self.model.holds.pop(hold_id))
        request = commit(hold_id, str(quantity))
        for _ in range(2):
            self._do(self.guard.Commit(request))
        self.model.committed += quantity

    @precondition(lambda self: self.model.holds)
    @rule(chosen=st.integers(0, 99))
    def release(self, chosen: int) -> None:
        """Give a hold up."""
        hold_id = sorted(self.model.holds)[chosen % len(self.model.holds)]
        del self.model.holds[hold_id]
        request = release(hold_id)
        for _ in range(2):
            self._do(self.guard.Release(request))

    @rule()
    def rolled_up(self) -> None:
        """Let rollups come up with all that there is."""
        self._do(type(self).roll_up(self.tenant))

    # ---- What must hold

    def _asked(self, **changes: Any) -> tuple[int, Rows]:
        asked = usage_query(window=metering_pb2.WINDOW_HOUR, **changes)
        answer = self._do(self.stub.QueryUsage(asked))
        rows = {
            (
                row.project_id,
                (FIRST_HOUR - row.window_start_at.ToDatetime(FIRST_HOUR.tzinfo)) // HOUR,
            ): (Decimal(row.value), row.event_count)
            for row in answer.rows
        }
        return answer.usage_ordinal, rows

    @invariant()
    def usage_is_the_models(self) -> None:
        """Now, at an ordinal of before, and as of the rollups."""
        ordinal, rows = self._asked()
        assert rows == self.model.rows()
        assert ordinal >= max(self.at_ordinal)
        assert self.at_ordinal.setdefault(ordinal, rows) == rows
        before = sorted(self.at_ordinal)[self.names * 7 % len(self.at_ordinal)]
        assert self._asked(at_ordinal=before) == (before, self.at_ordinal[before])
        rolled, rows = self._asked(freshness=metering_pb2.FRESHNESS_ROLLED_UP)
        assert rows == self.at_ordinal[rolled]

    @invariant()
    def the_budget_is_the_models(self) -> None:
        """Used by events as they count now, and by what was committed without them."""
        used, held, _ = self._do(stands(self.guard, "all"))
        assert (Decimal(used), Decimal(held)) == (self.model.used, self.model.held)


async def stands_as_the_model_does(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, how_long: settings
) -> None:
    """Run the machine beside the mesh."""

    async def none(*_: object) -> list[str]:
        return []

    async def rolled(tenant: str) -> None:
        await Sequencing(mesh.node.database).sequence(tenant)
        while await RollingUp(mesh.node.database).roll_up(tenant):
            pass

    # Rolled up when the machine says so, and not by the mesh.
    monkeypatch.setattr(store, "unrolled_tenants", none)

    class Machine(MeteringMachine):
        loop = asyncio.get_running_loop()
        channel = staticmethod(mesh.channel)
        roll_up = staticmethod(rolled)

    await asyncio.to_thread(run_state_machine_as_test, Machine, settings=how_long)
