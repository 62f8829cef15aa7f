"""What the source does with messages that come again, late or never, and with a NATS that comes and goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from payments.events.v1 import events_service_pb2, events_service_pb2_grpc
from pydantic import SecretStr

from services.events import manifest
from services.runtime.events.jetstream import broker as brokers
from services.runtime.events.jetstream.broker import Broker, BrokerAway, Reader, StreamState
from services.runtime.events.jetstream.source import SHARES
from services.runtime.events.lanes import lane_of
from tests.integration.events.jetstream.conftest import MakeLab
from tests.support.events.lab import Lab, new_tenant
from tests.support.jetstream import nats
from tests.support.jetstream.nats import Nats
from tests.support.jetstream.sites import (
    WITHIN_SECONDS,
    arrived,
    eventually,
    options,
    running,
    sent,
)
from tests.support.mesh.serving import running as serving

# Longer than an idle source takes to renew it.
SHORT_LEASE_MS = 1500
POSITION = "SELECT max(sequence) AS n FROM mesh.transport_position WHERE site = %s"
REFUSALS = "SELECT reason, detail FROM mesh.transport_refusal ORDER BY sequence"


async def _read_up_to(lab: Lab, site: str, sequence: int) -> None:
    async def there() -> bool:
        return bool((await lab.rows(POSITION, site))[0]["n"] == sequence)

    await eventually(there)


async def _send_again(broker: Broker, site: str, sequence: int) -> int:
    """Publish a message of a stream once more, as soon as the stream has forgotten it; returns its sequence."""
    jetstream = await broker.jetstream()
    message = await jetstream.get_msg(f"tollmesh-{site}", sequence)
    headers = {
        name: text
        for name, text in (message.headers or {}).items()
        if not name.startswith("Nats-Batch-") and not name.startswith("Nats-Expected-")
    }
    found = 0

    async def stored() -> bool:
        nonlocal found
        assert message.subject is not None
        ack = await jetstream.publish(message.subject, message.data or b"", headers=headers)
        found = ack.seq
        return not ack.duplicate

    await eventually(stored)
    return found


async def test_a_message_that_comes_again_has_no_effect(server: Nats, new_lab: MakeLab) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    async with (
        running(east, options(server.url, "sent-twice", duplicate_window_s=0.1)) as site,
        running(west, options(server.url, "reader3", "sent-twice")),
    ):
        ids = await east.publish(tenant, "k", 1, 2, 3)
        await arrived(west, tenant, 3)
        last = 0
        for sequence in (1, 3, 2, 2):
            last = await _send_again(site.transport.broker, "sent-twice", sequence)
        assert last == 7
        await _read_up_to(west, "sent-twice", last)
        # The sink finds a tail that is not its own, and goes on behind it.
        ids += await east.publish(tenant, "k", 4)
        found = await arrived(west, tenant, 4)
    assert [row["event_id"] for row in found] == ids
    assert await west.rows(REFUSALS) == []


class Unwilling(Broker):
    """Refuses the first consumers."""

    states = 0
    refusals = 0

    async def state(self, site: str) -> StreamState | None:
        self.states += 1
        return await super().state(site)

    async def reader(self, site: str, share: int, shares: int, after: int) -> Reader:
        if self.states < 4:
            self.refusals += 1
            raise BrokerAway("not now")
        return await super().reader(site, share, shares, after)


async def test_a_nats_that_refuses_is_asked_again_after_a_while(
    server: Nats, new_lab: MakeLab
) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    how = options(server.url, "reader9", "unwilling")
    broker = Unwilling(how)
    async with running(east, options(server.url, "unwilling")):
        ids = await east.publish(tenant, "k", 1)
        await sent(east)
        async with running(west, how, broker=broker):
            found = await arrived(west, tenant, 1)
    assert [row["event_id"] for row in found] == ids
    # Eight shares a round, at most: a share that failed is not begun again before the wait.
    assert 0 < broker.refusals <= 8 * 4


async def test_what_is_no_event_is_told_once_and_stops_nothing(
    server: Nats, new_lab: MakeLab
) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    async with running(east, options(server.url, "odd")) as site:
        await east.publish(tenant, "k", 1, 2)
        await sent(east)
        jetstream = await site.transport.broker.jetstream()
        sound = await jetstream.get_msg("tollmesh-odd", 2)
        assert sound.subject is not None
        assert sound.headers is not None
        headers = {name: text for name, text in sound.headers.items() if "Nats-" not in name}
        changes: list[tuple[dict[str, str], bytes]] = [
            ({"Tollmesh-Number": str(2**63)}, b"{}"),
            ({"Tollmesh-Number": "1" + "0" * 30}, b"{}"),
            ({"Tollmesh-Number": "5"}, b"no JSON"),
            ({"Tollmesh-Number": "6", "ce-id": "a%00b"}, b"{}"),
        ]
        for change, body in changes:
            await jetstream.publish(sound.subject, body, headers=headers | change)
        await east.publish(tenant, "k", 3)
        await sent(east)
        last = await jetstream.get_msg("tollmesh-odd", 7)
        assert (last.headers or {})["Tollmesh-Number"] == "7"
        async with running(west, options(server.url, "reader10", "odd")):
            found = await arrived(west, tenant, 3)
        assert len(found) == 3
        refused = await west.rows(REFUSALS)
    assert [row["reason"] for row in refused] == ["UNREADABLE"] * len(changes)


class Onesided(Broker):
    """Has one share that cannot be read, for a reason of its own."""

    broken: int | None = None
    opened: Counter[int]

    async def reader(self, site: str, share: int, shares: int, after: int) -> Reader:
        self.opened[share] += 1
        if share == self.broken:
            raise ValueError("this share cannot be read")
        return await super().reader(site, share, shares, after)


async def test_a_share_that_fails_neither_ends_nor_delays_the_others(
    server: Nats, new_lab: MakeLab
) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    how = options(server.url, "reader11", "one-sided")
    broker = Onesided(how)
    broker.opened = Counter()
    keys = {lane_of(tenant, f"k{n}") % SHARES: f"k{n}" for n in range(200)}
    assert len(keys) == SHARES
    broken = broker.broken = 3
    async with (
        running(east, options(server.url, "one-sided")),
        running(west, how, broker=broker),
    ):
        for key in keys.values():
            await east.publish(tenant, key, 1)
        await sent(east)

        async def tried_again() -> bool:
            return broker.opened[broken] > 3

        await eventually(tried_again)
        found = await arrived(west, tenant, SHARES - 1)
        assert {row["key"] for row in found} == set(keys.values()) - {keys[broken]}
        others = {share: count for share, count in broker.opened.items() if share != broken}
        assert others == dict.fromkeys(set(range(SHARES)) - {broken}, 1)
        broker.broken = None
        await arrived(west, tenant, SHARES)


async def test_a_late_double_acknowledgement_settles_nothing_that_was_not_taken_in(
    server: Nats, new_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    reached, resume = asyncio.Event(), asyncio.Event()
    late: list[Any] = []
    acknowledge = brokers.acknowledge

    async def pause_once(received: Any) -> None:
        if not late:
            late.append(received)
            reached.set()
            await resume.wait()
            for _ in range(2):
                received._ackd = False  # the client would not send a second one
                await acknowledge(received)
            return
        await acknowledge(received)

    monkeypatch.setattr(brokers, "acknowledge", pause_once)
    how = options(server.url, "reader4", "late")
    async with (
        running(east, options(server.url, "late")),
        running(west, how, lease_ms=SHORT_LEASE_MS) as paused,
    ):
        ids = await east.publish(tenant, "k", 1, 2, 3)
        await asyncio.wait_for(reached.wait(), WITHIN_SECONDS)
        # Committed, and not acknowledged. Another lease of the share begins once this one has run out.
        async with running(west, how, lease_ms=SHORT_LEASE_MS) as heir:
            ids += await east.publish(tenant, "k", 4, 5)
            await arrived(west, tenant, 5)
            resume.set()
            ids += await east.publish(tenant, "k", 6, 7)
            found = await arrived(west, tenant, 7)
            taken = [site.transport.sources[0].taken for site in (paused, heir)]
    assert sum(taken) == 7
    assert [row["event_id"] for row in found] == ids


async def test_what_grew_old_before_it_was_read_is_said_and_mended_by_a_replay(
    server: Nats, new_lab: MakeLab
) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    ids = await east.publish(tenant, "k", 1, 2, 3, 4)
    async with running(east, options(server.url, "old")) as site:
        await sent(east)
        await (await site.transport.broker.jetstream()).purge_stream("tollmesh-old", seq=3)
        async with running(west, options(server.url, "reader5", "old")):
            found = await arrived(west, tenant, 2)
            assert [row["event_id"] for row in found] == ids[2:]
            refused = await west.rows(REFUSALS)
            assert [row["reason"] for row in refused] == ["LOST"]
            assert "numbers 1 to 2 are no longer in the stream" in refused[0]["detail"]
            await _replay(east, tenant)
            found = await arrived(west, tenant, 4)
    # What was missing comes behind what overtook it; the rest is known.
    assert [row["event_id"] for row in found] == [ids[2], ids[3], ids[0], ids[1]]


async def test_a_stream_that_is_gone_is_made_again_by_a_replay(
    server: Nats, new_lab: MakeLab
) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    async with (
        running(east, options(server.url, "gone")) as site,
        running(west, options(server.url, "reader6", "gone")),
    ):
        ids = await east.publish(tenant, "k", 1, 2)
        await arrived(west, tenant, 2)
        await (await site.transport.broker.jetstream()).delete_stream("tollmesh-gone")
        ids += await east.publish(tenant, "k", 3)
        assert [row["event_id"] for row in await arrived(west, tenant, 3)] == ids
        await _replay(east, tenant)
        await sent(east)
        # Three, and again three: the newcomer finds all, whoever had them has them once.
        await _read_up_to(west, "gone", 4)
        late = await new_lab()
        async with running(late, options(server.url, "reader7", "gone")):
            found = await arrived(late, tenant, 3)
        assert sorted(row["event_id"] for row in found) == sorted(ids)
    assert [row["event_id"] for row in await arrived(west, tenant, 3)] == ids


async def _replay(lab: Lab, tenant: str) -> None:
    """Send everything again, as the guide says: by the RPC behind `tollmesh events replay`."""
    request = events_service_pb2.ReplayEventsRequest(
        request_id=str(uuid4()), consumer="transport.jetstream"
    )
    request.period.start_at.FromDatetime(datetime(2020, 1, 1, tzinfo=UTC))
    request.period.end_at.FromDatetime(datetime.now(UTC) + timedelta(minutes=1))
    async with serving(lab.urls, [manifest.SERVICE]) as mesh:
        stub = events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))
        response = await stub.ReplayEvents(request)
    assert response.replayed_count
    lab.bus.moved()


async def test_a_mesh_starts_and_works_without_its_nats(tmp_path: Path, new_lab: MakeLab) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    with nats.serving(tmp_path) as servers:
        server = servers.servers["n0"]
        server.kill()
        url = SecretStr(servers.url)
        async with (
            serving(east.urls, [], nats_url=url, nats_site="east"),
            serving(west.urls, [], nats_url=url, nats_site="west", nats_from="east"),
        ):
            ids = await east.publish(tenant, "k", 1)
            server.start()
            await arrived(west, tenant, 1)
            server.kill()
            ids += await east.publish(tenant, "k", 2)
            server.start()
            found = await arrived(west, tenant, 2)
    assert [row["event_id"] for row in found] == ids
