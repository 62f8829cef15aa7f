"""Ids of messages in a stream of several sites, behind a retry and across an upgrade; with one copy and with three."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest
from nats.js import api

from services.runtime.events.jetstream import message
from services.runtime.events.jetstream.broker import Broker, BrokerAway, TailMoved
from services.runtime.events.jetstream.message import Event
from services.runtime.events.lanes import lane_of
from tests.integration.events.jetstream.conftest import MakeLab
from tests.support.events.lab import Lab, new_tenant
from tests.support.jetstream import nats
from tests.support.jetstream.nats import Nats
from tests.support.jetstream.sites import (
    WITHIN_SECONDS,
    eventually,
    options,
    patiently,
    running,
    sent,
)

EVENT = Event(
    tenant_id="t",
    event_id="a",
    subject="order.created",
    schema_version=1,
    key="k",
    message_name="",
    payload=b"{}",
    correlation_id="",
    causation_id="",
    traceparent="",
    created_at=datetime(2026, 11, 20, tzinfo=UTC),
    fingerprint=b"fingerprint 1234",
    generation=0,
    site="",
)


@pytest.fixture(scope="session", params=[1, 3], ids=["one copy", "three copies"])
def copies(
    request: pytest.FixtureRequest, server: Nats, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nats]:
    """A server by itself, then a cluster."""
    if request.param == 1:
        yield server
        return
    with nats.serving(tmp_path_factory.mktemp("cluster"), 3) as cluster:
        yield cluster


class Killed(Broker):
    """Publishes one batch and is gone before the answer is accounted for."""

    published = False

    async def publish(self, lane: int, events: Sequence[Event], after: int, number: int) -> int:
        sequence = await super().publish(lane, events, after, number)
        self.published = True
        await self.close()
        raise BrokerAway(f"killed behind {sequence}")

    async def client(self):  # type: ignore[no-untyped-def]
        if self.published:
            raise BrokerAway("killed")
        return await super().client()


async def _stream(servers: Nats, name: str) -> list[dict[str, str]]:
    """The headers of every message of a stream, in order."""
    broker = Broker(options(servers.url, "onlooker"))
    try:
        jetstream = await broker.jetstream()
        state = (await patiently(partial(jetstream.stream_info, name))).state
        numbers = range(state.first_seq, state.last_seq + 1)
        found = [await patiently(partial(jetstream.get_msg, name, number)) for number in numbers]
    finally:
        await broker.close()
    return [item.headers or {} for item in found]


async def test_a_hub_that_gets_its_sources_later_keeps_equal_ids_of_two_sites(copies: Nats) -> None:
    hub, sites = "hub", ("hub-east", "hub-west", "hub-north")
    brokers = [Broker(options(copies.url, site)) for site in sites]
    try:
        jetstream = await brokers[0].jetstream()
        # A stream that is made with sources knows no id again; one that is given them goes on knowing them.
        config = api.StreamConfig(
            name=hub, subjects=["hub.>"], duplicate_window=120, num_replicas=len(copies.servers)
        )
        await patiently(partial(jetstream.add_stream, config))
        config.sources = [api.StreamSource(name=message.stream_of(site)) for site in sites]
        for broker in brokers:
            await patiently(partial(broker.ensure_stream, "1/1"))
        await patiently(partial(jetstream.update_stream, config))
        for index, broker in enumerate(brokers):
            event = replace(EVENT, site=sites[index], payload=b'{"born": %d}' % index)
            # As a batch, and by itself.
            both = [event, replace(event, event_id="b")]
            # The tail has moved when only the answer was late.
            with contextlib.suppress(TailMoved):
                await patiently(partial(broker.publish, 7, both, 0, 1))
            with contextlib.suppress(TailMoved):
                await patiently(partial(broker.publish_one, 8, replace(event, event_id="c"), 0, 1))

        async def all_are_there() -> bool:
            found = await patiently(partial(jetstream.stream_info, hub))
            return found.state.messages >= 3 * len(sites)

        await eventually(all_are_there)
    finally:
        for broker in brokers:
            await broker.close()
    found = sorted((item["Tollmesh-Site"], item["ce-id"]) for item in await _stream(copies, hub))
    assert found == sorted((site, event_id) for site in sites for event_id in "abc")


async def test_a_retried_publish_is_there_once_however_the_stream_says_so(copies: Nats) -> None:
    event = replace(EVENT, site="retried")
    broker = Broker(options(copies.url, "retried"))
    try:
        await patiently(partial(broker.ensure_stream, "1/1"))
        again = partial(patiently, partial(broker.publish_one, 7, event, 0, 1))
        if len(copies.servers) == 1:
            assert await again() == 1
            with pytest.raises(TailMoved, match="10071"):
                await again()
        else:
            # None when only the answer was late.
            assert await again() in (1, None)
            assert await again() is None
        # Behind the tail as it is, both know it again.
        assert await patiently(partial(broker.publish_one, 7, event, 1, 2)) is None
        tail = await patiently(partial(broker.tail, 7))
        assert tail is not None
        assert (tail.sequence, tail.identity) == (1, event.identity)
    finally:
        await broker.close()


class Interfered(Broker):
    """Has somebody else write to the lane just before it publishes singly."""

    meddled = 0

    async def publish_one(self, lane: int, event: Event, after: int, number: int) -> int | None:
        if not self.meddled:
            self.meddled += 1
            other = replace(event, event_id="zombie", generation=99)
            await super().publish_one(lane, other, after, number)
        return await super().publish_one(lane, event, after, number)


async def test_what_the_stream_has_already_is_settled_and_nothing_else(
    copies: Nats, new_lab: MakeLab
) -> None:
    lab, tenant = await new_lab(), new_tenant()
    how = options(copies.url, "known")
    async with running(lab, how):
        ids = await lab.publish(tenant, "k", 1, 2)
        await sent(lab)
    await _deliver_again(lab, tenant)
    broker = Interfered(how)
    async with running(lab, how, broker=broker):
        ids += await lab.publish(tenant, "k", 3)
        await sent(lab)
        ids += await lab.publish(tenant, "k", 4)
        await sent(lab)
    assert broker.meddled == 1
    stream = await _stream(copies, message.stream_of(how.site))
    found = [(int(item["Tollmesh-Number"]), item["ce-id"]) for item in stream]
    ids.insert(2, "zombie")
    assert found == list(enumerate(ids, 1))


async def _deliver_again(lab: Lab, tenant: str) -> None:
    """Let every event wait for the sink once more, as in a database that was set back."""
    await lab.rows("UPDATE mesh.lane_lease SET low = 0 WHERE consumer = 'transport.jetstream'")
    await lab.rows(
        "INSERT INTO mesh.delivery (consumer, lane, position, generation, tenant_id, key, event_id, recorded_at) "
        "SELECT 'transport.jetstream', %s, f.position, 0, f.tenant_id, e.key, f.event_id, f.recorded_at "
        "FROM mesh.feed f JOIN mesh.event e USING (tenant_id, recorded_at, event_id) WHERE f.tenant_id = %s",
        lane_of(tenant, "k"),
        tenant,
    )


async def test_what_a_sink_of_before_sent_and_did_not_settle_is_not_sent_again(
    copies: Nats, new_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, tenant = await new_lab(), new_tenant()
    how = options(copies.url, "upgraded")
    ids = await lab.publish(tenant, "k", 1, 2, 3)
    killed = Killed(how)
    with monkeypatch.context() as patch:
        now = message.message_id
        patch.setattr(message, "message_id", lambda event: now(event).removeprefix("upgraded/"))
        async with running(lab, how, broker=killed):

            async def was_published() -> bool:
                return killed.published

            await asyncio.wait_for(eventually(was_published), WITHIN_SECONDS)
    assert [row["n"] for row in await lab.rows("SELECT count(*) AS n FROM mesh.delivery")] == [3]
    async with running(lab, how):
        ids += await lab.publish(tenant, "k", 4)
        await sent(lab)
    found = await _stream(copies, message.stream_of(how.site))
    assert [item["ce-id"] for item in found] == ids
    assert [item["Nats-Msg-Id"].split("/")[0] for item in found] == [tenant] * 3 + ["upgraded"]
