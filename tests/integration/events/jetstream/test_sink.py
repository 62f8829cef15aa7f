"""What the sink does when answers get lost, when it is paused, and with what cannot be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.runtime.context import acting
from services.runtime.events.jetstream.broker import BATCH_MAX, Broker, BrokerUnfit, TailMoved
from services.runtime.events.jetstream.message import Event, subjects_of
from services.runtime.events.lanes import lane_of
from tests.integration.events.jetstream.conftest import MakeLab
from tests.support.events.lab import Lab, call, new_tenant
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

SHORT_LEASE_MS = 500


class Paused(Broker):
    """Stops before its first batch is sent, as a process that the machine does not run."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.reached = asyncio.Event()
        self.resume = asyncio.Event()
        self.batches = 0
        self.refused: list[str] = []

    async def publish(self, lane: int, events: Sequence[Event], after: int, number: int) -> int:
        self.batches += 1
        if self.batches == 1:
            self.reached.set()
            await self.resume.wait()
        try:
            return await super().publish(lane, events, after, number)
        except Exception as error:
            self.refused.append(str(error))
            raise


class Deaf(Broker):
    """Loses the first answer."""

    lost = 0

    async def publish(self, lane: int, events: Sequence[Event], after: int, number: int) -> int:
        sequence = await super().publish(lane, events, after, number)
        if not self.lost:
            self.lost += 1
            raise TimeoutError("the answer got lost")
        return sequence


async def _stream(server: Nats, site: str) -> list[tuple[int, str]]:
    """Number and event of every message of a site's stream, in order."""
    broker = Broker(options(server.url, "onlooker"))
    try:
        state = await broker.state(site)
        assert state is not None
        jetstream = await broker.jetstream()
        name = f"tollmesh-{site}"
        found = [await jetstream.get_msg(name, seq) for seq in range(state.first, state.last + 1)]
    finally:
        await broker.close()
    headers = [item.headers or {} for item in found]
    return [(int(item["Tollmesh-Number"]), item["ce-id"]) for item in headers]


async def test_a_sink_that_was_paused_past_its_lease_is_refused(
    server: Nats, new_lab: MakeLab
) -> None:
    lab, tenant = await new_lab(), new_tenant()
    ids = await lab.publish(tenant, "k", 1, 2, 3)
    how = options(server.url, "zombie1", duplicate_window_s=0.1)
    zombie = Paused(how)
    # One worker: a paused process does nothing else meanwhile.
    async with running(lab, how, broker=zombie, lease_ms=SHORT_LEASE_MS, workers=1) as paused:
        await asyncio.wait_for(zombie.reached.wait(), WITHIN_SECONDS)
        async with running(lab, how):
            await sent(lab)
            zombie.resume.set()
            await eventually(_said(zombie))
            ids += await lab.publish(tenant, "k", 4)
            await sent(lab)
        assert zombie.batches in {1, 2}
        assert paused.transport.sink.published == zombie.batches - 1
    assert await _stream(server, "zombie1") == list(enumerate(ids, 1))


def _said(zombie: Paused):  # type: ignore[no-untyped-def]
    async def refused() -> bool:
        return bool(zombie.refused)

    return refused


async def test_a_batch_behind_another_tail_is_refused_whole(server: Nats) -> None:
    broker = Broker(options(server.url, "tails"))
    try:
        await broker.ensure_stream("1/1")
        assert await broker.tail(7) is None
        assert await broker.publish(7, [_event("a"), _event("b")], 0, 1) == 2
        for wrong in (0, 1, 3):
            with pytest.raises(TailMoved, match="10071"):
                await broker.publish(7, [_event("c"), _event("d")], wrong, 3)
        assert await broker.publish(8, [_event("e")], 0, 1) == 3
        assert await broker.publish(7, [_event("c")], 2, 3) == 4
        with pytest.raises(TailMoved, match="10201"):
            await broker.publish(7, [_event("d"), _event("c")], 4, 4)
    finally:
        await broker.close()
    assert await _stream(server, "tails") == [(1, "a"), (2, "b"), (1, "e"), (3, "c")]


def _event(event_id: str) -> Event:
    texts = ("order.created", 1, "k", "", b"{}", "", "", "")
    return Event("t", event_id, *texts, datetime.now(UTC), b"fingerprint 1234", 0, "tails")


async def test_what_a_paused_sink_sends_first_is_not_sent_again(
    server: Nats, new_lab: MakeLab
) -> None:
    lab, tenant = await new_lab(), new_tenant()
    ids = await lab.publish(tenant, "k", 1, 2, 3)
    how = options(server.url, "zombie2")
    zombie, heir = Paused(how), Paused(how)
    # One worker: a paused process does nothing else meanwhile.
    async with running(lab, how, broker=zombie, lease_ms=SHORT_LEASE_MS, workers=1) as paused:
        await asyncio.wait_for(zombie.reached.wait(), WITHIN_SECONDS)
        async with running(lab, how, broker=heir):
            # The heir has read the lane's tail and what lies in it, and is about to send the same.
            await asyncio.wait_for(heir.reached.wait(), WITHIN_SECONDS)
            zombie.resume.set()

            async def published() -> bool:
                return paused.transport.sink.published == len(ids)

            await eventually(published)
            heir.resume.set()
            await sent(lab)
            ids += await lab.publish(tenant, "k", 4)
            await sent(lab)
        assert len(heir.refused) == 1
    assert await _stream(server, "zombie2") == list(enumerate(ids, 1))


async def test_a_lost_answer_is_looked_up_and_not_guessed(server: Nats, new_lab: MakeLab) -> None:
    lab, tenant = await new_lab(), new_tenant()
    ids = await lab.publish(tenant, "k", 1, 2, 3)
    how = options(server.url, "deaf")
    broker = Deaf(how)
    async with running(lab, how, broker=broker):
        await sent(lab)
        ids += await lab.publish(tenant, "k", 4, 5)
        await sent(lab)
    assert broker.lost == 1
    assert await _stream(server, "deaf") == list(enumerate(ids, 1))


async def test_a_replay_of_the_last_place_of_a_batch_is_not_passed_over(
    server: Nats, new_lab: MakeLab
) -> None:
    lab, tenant = await new_lab(), new_tenant()
    how = options(server.url, "again")
    async with running(lab, how):
        ids = await lab.publish(tenant, "k", 0)
        await sent(lab)
    # A full batch, behind whose end the last place comes once more.
    ids += await lab.publish(tenant, "k", *range(1, BATCH_MAX + 1))
    async with lab.reacting() as backbone:
        await backbone.drain()
    await lab.rows(
        "INSERT INTO mesh.delivery (consumer, lane, position, generation, tenant_id, key, event_id, recorded_at) "
        "SELECT consumer, lane, position, 1, tenant_id, key, event_id, recorded_at FROM mesh.delivery "
        "ORDER BY position DESC LIMIT 1"
    )
    async with running(lab, how):
        await sent(lab)
    assert await _stream(server, "again") == list(enumerate([*ids, ids[-1]], 1))


async def test_a_foreign_message_in_a_lane_stops_nobody(server: Nats, new_lab: MakeLab) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    how = options(server.url, "littered")
    async with (
        running(east, how) as site,
        running(west, options(server.url, "reader1", "littered")),
    ):
        await east.publish(tenant, "k", 1)
        await sent(east)
        lane = lane_of(tenant, "k")
        subject = subjects_of("littered", lane).replace(">", "x.order.created")
        await (await site.transport.broker.jetstream()).publish(subject, b"rubbish")
        ids = await east.publish(tenant, "k", 2)
        found = await arrived(west, tenant, 2)
    assert found[1]["event_id"] == ids[0]
    refused = await west.rows("SELECT reason, payload FROM mesh.transport_refusal")
    assert refused == [{"reason": "UNREADABLE", "payload": b"rubbish"}]


async def test_an_event_too_large_for_nats_waits_with_its_key(
    tmp_path: Path, new_lab: MakeLab
) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    how = options
    with nats.serving(tmp_path, max_payload="64KB") as server:
        async with (
            running(east, how(server.url, "small")),
            running(west, how(server.url, "reader2", "small")),
        ):
            await _publish_large(east, tenant, "k")
            await east.publish(tenant, "k", 2)
            await east.publish(tenant, "other", 1)
            assert [row["key"] for row in await arrived(west, tenant, 1)] == ["other"]
            await eventually(_has_letter(east))
            server.servers["n0"].change("64KB", "4MB")
            with acting(call(tenant)):
                async with east.database.unit_of_work("lab.replay") as work:
                    await work.execute(
                        "SELECT mesh.replay_dead_letters('transport.jetstream', 'k', NULL, 10)"
                    )
            found = await arrived(west, tenant, 3)
        assert [row["key"] for row in found] == ["other", "k", "k"]
        assert len(found[1]["payload"]) > 64 * 1024
        assert len(found[2]["payload"]) < 1024


def _has_letter(lab: Lab):  # type: ignore[no-untyped-def]
    async def there() -> bool:
        letters = await lab.rows("SELECT consumer, attempts, last_error FROM mesh.dead_letter")
        if letters:
            assert letters[0]["consumer"] == "transport.jetstream"
            assert "max_payload" in letters[0]["last_error"]
        return bool(letters)

    return there


async def _publish_large(lab: Lab, tenant: str, key: str) -> None:
    from payments.events.v1.monitoring_events_pb2 import ContractViolated

    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.publish") as work:
            work.publish(ContractViolated(contract_id=key, message="x" * 100_000))


async def test_a_stream_of_another_database_is_not_touched(server: Nats, new_lab: MakeLab) -> None:
    lab, other = await new_lab(), await new_lab()
    tenant = new_tenant()
    how = options(server.url, "taken")
    async with running(lab, how):
        ids = await lab.publish(tenant, "k", 1)
        await sent(lab)
        async with running(other, how) as late:
            await other.publish(tenant, "k", 7)
            with pytest.raises(BrokerUnfit, match="written by another database"):
                await late.transport.broker.ensure_stream("1/2")
            ids += await lab.publish(tenant, "k", 2)
            await sent(lab)
            assert late.transport.sink.published == 0
    assert await _stream(server, "taken") == list(enumerate(ids, 1))
