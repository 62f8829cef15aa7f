"""The spool without NATS and without a database: what is sealed, and draining against a model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.metering.adapters.spool import NotABatch, seal, unseal
from services.metering.app.spooling import TurnTaken
from services.metering.domain.spool import (
    TRIES_MAX,
    HeldBatch,
    HeldCall,
    SpoolLevel,
    enqueued,
    fails_alone,
)
from services.metering.domain.times import instant
from services.metering.ports import SpoolAway, Waiting
from services.metering.work.spool import BACKOFF, STUCK_SECONDS, TAKEN_MAX, Draining
from services.runtime.conditions import Conditions
from services.runtime.errors import (
    DatabaseUnavailable,
    DeadlineExceeded,
    DependencyUnavailable,
    InvalidField,
    Overloaded,
)
from services.runtime.telemetry import Silent

MADE_AT = datetime(2026, 11, 20, tzinfo=UTC)
KEY = b"k" * 32


def a_batch(number: int = 0, tenant: str = "acme", **changes: Any) -> HeldBatch:
    return replace(
        HeldBatch(
            receipt_id=f"rcp_{number}",
            call=HeldCall.EVENTS,
            tenant_id=tenant,
            principal_id="key_1",
            key_sha256=b"\x01\xff",
            received_at=MADE_AT + timedelta(microseconds=number),
            authenticated_at=MADE_AT,
            request_id="r",
            correlation_id="c",
            causation_id="",
            traceparent="",
            tracestate="",
            events=1,
            content=b"content",
        ),
        **changes,
    )


# ---- What is sealed

_TEXTS = st.text(max_size=20)
_TIMES = st.integers(0, 7 * 10**15).map(instant)


@given(
    st.builds(
        HeldBatch,
        receipt_id=_TEXTS,
        call=st.sampled_from(HeldCall),
        tenant_id=_TEXTS,
        principal_id=_TEXTS,
        key_sha256=st.binary(max_size=32),
        received_at=_TIMES,
        authenticated_at=_TIMES,
        request_id=_TEXTS,
        correlation_id=_TEXTS,
        causation_id=_TEXTS,
        traceparent=_TEXTS,
        tracestate=_TEXTS,
        events=st.integers(1, 10_000),
        content=st.binary(max_size=200),
    ),
    st.data(),
)
def test_a_batch_comes_back_as_it_was_and_nothing_else_does(
    batch: HeldBatch, data: st.DataObject
) -> None:
    payload = seal(KEY, batch)
    assert unseal(KEY, payload) == batch
    at = data.draw(st.integers(0, len(payload) - 1))
    changed = payload[:at] + bytes([payload[at] ^ data.draw(st.integers(1, 255))])
    for other in (changed + payload[at + 1 :], payload[:at]):
        with pytest.raises(NotABatch):
            unseal(KEY, other)
    with pytest.raises(NotABatch):
        unseal(b"another", payload)


def test_what_is_larger_than_any_call_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.metering.adapters.spool.CONTENT_BYTES_MAX", 1000)
    assert unseal(KEY, seal(KEY, a_batch(content=b"\0" * 999))).content == b"\0" * 999
    with pytest.raises(NotABatch, match="larger than any call"):
        unseal(KEY, seal(KEY, a_batch(content=b"\0" * 1_000_000)))


def test_the_answer_names_every_event() -> None:
    answer = enqueued("rcp_1", ["a", "b"])
    assert (answer.accepted, answer.enqueued, answer.rejected) == (0, 2, 0)
    assert [(item.index, item.request_id) for item in answer.problems] == [(0, "a"), (1, "b")]


@pytest.mark.parametrize(
    ("error", "alone"),
    [
        (ValueError("no"), True),
        (InvalidField.one("f", "no"), True),
        (DatabaseUnavailable("away"), False),
        (DependencyUnavailable("away", service="pricing"), False),
        (Overloaded("busy"), False),
        (DeadlineExceeded("late"), False),
    ],
)
def test_what_passes_by_itself_is_no_fault_of_a_batch(error: Exception, alone: bool) -> None:
    assert fails_alone(error) is alone


# ---- Draining


@dataclass
class Store:
    """A database as the model has it, and the ways in which it fails.

    Attributes:
        stored: receipts in the order in which their batches were stored, by tenant.
        refused: those whose events were kept as rejected.
        poison: batches that never can be stored.
        stuck: batches that cannot even be rejected.
        script: what goes wrong at the next calls; nothing once it is over.
    """

    stored: dict[str, list[str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    script: Iterator[str] = field(default_factory=lambda: iter(()))

    async def drain(self, held: HeldBatch, failure: str = "") -> bool:
        fault = next(self.script, "")
        if fault == "database":
            raise DatabaseUnavailable("away")
        if fault == "turn":
            raise TurnTaken
        if fault == "pricing":
            raise DependencyUnavailable("away", service="pricing")
        if held.receipt_id in self.stuck or (held.receipt_id in self.poison and not failure):
            raise ValueError("poison")
        of_tenant = self.stored.setdefault(held.tenant_id, [])
        is_new = held.receipt_id not in of_tenant
        if is_new:
            of_tenant.append(held.receipt_id)
            if failure:
                self.refused.add(held.receipt_id)
        if fault == "reply":
            # It was stored, and nobody heard of it.
            raise DatabaseUnavailable("during the commit")
        return is_new

    async def take_lost(self) -> dict[str, str]:
        return {}


class Held:
    """A spool in memory."""

    def __init__(self) -> None:
        self.items: dict[int, Waiting] = {}
        self.last = 0
        self.script: Iterator[str] = iter(())

    def put(self, tenant: str, batch: HeldBatch | None) -> None:
        self.last += 1
        self.items[self.last] = Waiting(self.last, tenant, batch, "" if batch else "no seal")

    async def level(self) -> SpoolLevel:
        if next(self.script, "") == "nats":
            raise SpoolAway("away")
        return SpoolLevel(MADE_AT, len(self.items), 0, -1, None)

    async def next(self, sequence: int) -> Waiting | None:
        behind = [place for place in self.items if place > sequence]
        return self.items[min(behind)] if behind else None

    async def remove(self, sequence: int) -> None:
        if next(self.script, "") == "nats":
            raise SpoolAway("away")
        self.items.pop(sequence, None)

    async def close(self) -> None:
        return


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class _Database:
    conditions: Conditions


def draining(
    spool: Held, store: Store, clock: Clock, conditions: Conditions | None = None
) -> Draining:
    return Draining(
        cast("Any", spool),
        cast("Any", store),
        cast("Any", _Database(conditions or Conditions())),
        cast("Any", None),
        Silent(),
        clock=clock,
        draw=lambda: 0.0,
    )


async def rounds(drainer: Draining, clock: Clock, count: int) -> None:
    """Go round so often, whatever a round fails with, with enough time between two for every wait."""
    for _ in range(count):
        with contextlib.suppress(SpoolAway, DatabaseUnavailable):
            await drainer.go_round()
        clock.now += BACKOFF.max_seconds


_FAULTS = st.lists(
    st.sampled_from(["", "", "", "database", "reply", "turn", "pricing"]), max_size=30
)
_BATCHES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["", "", "", "poison", "stuck", "foreign"]),
    ),
    max_size=14,
)


@settings(max_examples=100)
@given(_BATCHES, _FAULTS, st.lists(st.sampled_from(["", "", "", "nats"]), max_size=30), st.data())
def test_each_batch_is_stored_once_and_in_the_order_of_its_tenant(
    batches: list[tuple[str, str]], faults: list[str], nats: list[str], data: st.DataObject
) -> None:
    spool, store, clock = Held(), Store(script=iter(faults)), Clock()
    spool.script = iter(nats)
    expected: dict[str, list[str]] = {}
    foreign = 0
    for number, (tenant, kind) in enumerate(batches):
        held = a_batch(number, tenant)
        spool.put(tenant, None if kind == "foreign" else held)
        if kind == "foreign":
            foreign += 1
            continue
        if kind == "stuck":
            store.stuck.add(held.receipt_id)
            continue
        expected.setdefault(tenant, []).append(held.receipt_id)
        if kind == "poison":
            store.poison.add(held.receipt_id)

    async def run() -> None:
        processes = [draining(spool, store, clock) for _ in range(2)]
        with capture_logs():
            for which in data.draw(st.lists(st.integers(0, 1), max_size=20)):
                await rounds(processes[which], clock, 1)
                assert all(
                    stored == expected[tenant][: len(stored)]
                    for tenant, stored in store.stored.items()
                )
            # Whatever went wrong is over.
            store.script = spool.script = iter(())
            await rounds(
                processes[0], clock, 2 + TRIES_MAX * (len(store.poison) + len(store.stuck))
            )

    asyncio.run(run())
    assert {tenant: stored for tenant, stored in store.stored.items() if stored} == expected
    assert store.refused == store.poison
    assert len(spool.items) == foreign + len(store.stuck)


async def test_a_batch_that_fails_holds_up_its_own_tenant_only() -> None:
    spool, store, clock = Held(), Store(poison={"rcp_0"}), Clock()
    for number, tenant in enumerate(["a", "a", "b", "a", "b"]):
        spool.put(tenant, a_batch(number, tenant))
    drainer = draining(spool, store, clock)
    with capture_logs() as lines:
        await drainer.go_round()
        assert store.stored == {"b": ["rcp_2", "rcp_4"]}
        # Not tried again before its time.
        await drainer.go_round()
        clock.now += BACKOFF.max_seconds
        for _ in range(TRIES_MAX - 2):
            await drainer.go_round()
            clock.now += BACKOFF.max_seconds
        assert "a" not in store.stored
        await drainer.go_round()
    assert store.stored["a"] == ["rcp_0", "rcp_1", "rcp_3"]
    assert store.refused == {"rcp_0"}
    assert not spool.items
    assert [line["event"] for line in lines] == [
        "a batch of the spool waits",
        "a batch of the spool was kept as rejected events: it could not be stored",
    ]


async def test_a_batch_that_can_be_neither_stored_nor_rejected_stays_and_holds_up_nobody() -> None:
    spool, store, clock = Held(), Store(stuck={"rcp_0"}), Clock()
    for number in range(3):
        spool.put("a", a_batch(number, "a"))
    drainer = draining(spool, store, clock)
    with capture_logs() as lines:
        await rounds(drainer, clock, TRIES_MAX + 1)
    assert store.stored == {"a": ["rcp_1", "rcp_2"]}
    assert list(spool.items) == [1]
    assert lines[-1]["event"].endswith("it stays there")
    # What kept it from being stored is mended.
    store.stuck.clear()
    clock.now += STUCK_SECONDS
    await drainer.go_round()
    assert store.stored == {"a": ["rcp_1", "rcp_2", "rcp_0"]}
    assert not spool.items


async def test_behind_a_batch_of_another_process_not_everything_is_read() -> None:
    spool, store = Held(), Store(script=iter(["turn"]))
    for number in range(TAKEN_MAX + 10):
        spool.put("a", a_batch(number, "a"))
    spool.put("b", a_batch(999, "b"))
    drainer = draining(spool, store, Clock())
    assert await drainer.go_round() is None
    assert not store.stored
    assert await drainer.go_round() == 0
    assert not spool.items


async def test_nothing_is_drained_while_there_is_nowhere_to_store_it() -> None:
    spool, store, conditions = Held(), Store(), Conditions()
    spool.put("a", a_batch(0, "a"))
    drainer = draining(spool, store, Clock(), conditions)
    for name in ("database_gone", "storage_low"):
        setattr(conditions, name, True)
        assert await drainer.go_round() is None
        setattr(conditions, name, False)
    assert not store.stored
    assert drainer.takes()
    assert await drainer.go_round() == 0
    assert store.stored == {"a": ["rcp_0"]}


async def test_a_spool_that_is_away_takes_nothing() -> None:
    spool, clock = Held(), Clock()
    drainer = draining(spool, Store(), clock)
    await drainer.go_round()
    assert drainer.takes()
    spool.script = iter(["nats"])
    with pytest.raises(SpoolAway):
        await drainer.go_round()
    assert not drainer.takes()
