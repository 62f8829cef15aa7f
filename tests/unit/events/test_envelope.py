"""Retries, event types and the bells."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payments.errors.v1 import errors_pb2
from payments.events.v1 import events_pb2
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.events.domain.feed import Progress, Status, StreamEnded
from services.runtime.events.bus import EventBus
from services.runtime.events.envelope import Reaction, RetryPolicy
from services.runtime.outbox import publish, registry
from services.runtime.outbox.publish import EventTooLarge, Pending
from services.runtime.outbox.subjects import is_subject


@given(draw=st.floats(min_value=0, max_value=1, exclude_max=True))
def test_waits_double_and_spread_by_a_fifth(draw: float) -> None:
    policy = RetryPolicy()
    waits = [policy.delay_ms(tries, lambda: draw) for tries in (1, 2, 3)]
    for wait, middle in zip(waits, (1000, 2000, 4000), strict=True):
        assert middle * 0.8 <= wait <= middle * 1.2


def test_an_event_is_tried_once_and_three_times_more() -> None:
    assert RetryPolicy().tries_max == 4


def test_money_waits_behind_its_dead_letter_unless_it_is_said_otherwise() -> None:
    async def handle(*_: object) -> None: ...

    assert Reaction("a.b", ("plan.*",), handle).on_dead == "park_key"


def test_every_payload_message_is_a_well_formed_event_type() -> None:
    types = registry.all_types()
    assert len(types) >= 10
    for name, kind in types.items():
        assert name == kind.message_class.DESCRIPTOR.full_name
        assert is_subject(kind.subject)
        assert kind.version >= 1
        assert kind.key_field in kind.message_class.DESCRIPTOR.fields_by_name


def test_a_type_is_read_from_the_message_s_own_options() -> None:
    kind = registry.of(PlanCreated)
    assert (kind.subject, kind.version, kind.owner, kind.key_field) == (
        "plan.created",
        1,
        "pricing",
        "plan_id",
    )


def test_a_message_without_the_option_is_no_event() -> None:
    with pytest.raises(TypeError, match=r"payments\.options\.v1\.event"):
        registry.of(events_pb2.Event)


def test_a_payload_comes_back_as_it_was() -> None:
    payload = PlanCreated(plan_id="p", plan_version=3)
    name = PlanCreated.DESCRIPTOR.full_name
    assert registry.unpack(name, payload.SerializeToString()) == payload
    with pytest.raises(LookupError, match="not part of this release"):
        registry.unpack("payments.events.v1.Unheard", b"")


def test_an_event_needs_its_key() -> None:
    with pytest.raises(ValueError, match="plan_id"):
        Pending("id", PlanCreated(), "")
    with pytest.raises(ValueError, match="plan_id"):
        Pending("id", PlanCreated(plan_id="x" * 201), "")


def test_what_is_published_is_what_the_message_said_at_that_moment() -> None:
    payload = PlanCreated(plan_id="p", plan_version=1)
    pending = Pending("id", payload, "cause")
    payload.plan_version = 2
    assert PlanCreated.FromString(pending.data).plan_version == 1
    assert (pending.key, pending.causation_id) == ("p", "cause")


def test_a_payload_that_is_too_large_is_refused_by_name() -> None:
    payload = PlanCreated(plan_id="p")
    payload.plan.notes = "x" * (publish.PAYLOAD_BYTES_MAX + 1)
    with pytest.raises(EventTooLarge) as refused:
        Pending("id", payload, "")
    assert refused.value.metadata["subject"] == "plan.created"
    assert refused.value.metadata["bytes_max"] == "1048576"


@pytest.mark.parametrize("kind", [EventTooLarge, StreamEnded])
def test_reasons_are_declared(kind: type[EventTooLarge | StreamEnded]) -> None:
    assert f"ERROR_REASON_{kind.reason}" in set(errors_pb2.ErrorReason.keys())


@pytest.mark.parametrize(
    ("waiting", "dead", "tries", "status"),
    [
        (0, 0, 0, Status.PUBLISHED),
        (2, 0, 0, Status.PENDING),
        (1, 0, 2, Status.RETRYING),
        (1, 1, 4, Status.DEAD),
        (0, 1, 4, Status.DEAD),
    ],
)
def test_status_says_the_worst(waiting: int, dead: int, tries: int, status: Status) -> None:
    assert Progress(waiting, dead, tries, None, "").status is status


async def test_a_ring_between_two_waits_is_not_lost() -> None:
    bus = EventBus()
    bus.wake()
    assert await bus.published(0.01)
    assert not await bus.published(0.01)
    with bus.listener() as first, bus.listener() as second:
        bus.moved()
        assert await first.wait(0.01)
        assert await second.wait(0.01)
        assert not await first.wait(0.01)
        first.ring()
        assert not await second.wait(0.01)


async def test_who_waits_is_told_at_once() -> None:
    bus = EventBus()
    with bus.listener() as listener:
        waiting = asyncio.create_task(listener.wait(10))
        await asyncio.sleep(0)
        bus.close()
        assert await asyncio.wait_for(waiting, 1)
        assert listener.closed
