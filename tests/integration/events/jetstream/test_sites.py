"""Events of one site arrive in another's log, whole and in order, and have their effects there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from payments.events.v1 import events_service_pb2, events_service_pb2_grpc
from payments.events.v1.events_pb2 import Event, EventMetadata
from payments.events.v1.monitoring_events_pb2 import ContractViolated

from services.events import manifest
from services.runtime.context import acting
from services.runtime.events.jetstream import broker, look_at
from services.runtime.events.jetstream.broker import BATCH_BYTES_MAX, Reader
from services.runtime.violations import ViolationReporter
from tests.integration.events.jetstream.conftest import MakeLab
from tests.support.events.lab import Lab, call, effects_reaction, inversions, new_tenant
from tests.support.events.outside import payload_of
from tests.support.jetstream import nats
from tests.support.jetstream.nats import Nats
from tests.support.jetstream.sites import arrived, options, running, sent
from tests.support.mesh.serving import running as serving

ALL_OF_IT = (
    "SELECT e.tenant_id, e.event_id, e.subject, e.schema_version, e.key, e.message_name, e.payload, e.correlation_id, "
    "e.causation_id, e.traceparent, e.created_at, i.id_hash, i.content_hash FROM mesh.event e "
    "JOIN mesh.event_identity i ON i.tenant_id = e.tenant_id "
    "AND i.id_hash = substring(sha256(convert_to(e.event_id, 'UTF8')) FOR 16) "
    "WHERE e.tenant_id = %s ORDER BY e.event_id"
)
REFUSALS = "SELECT reason, event_id, detail FROM mesh.transport_refusal ORDER BY sequence"


async def test_from_database_to_database(server: Nats, new_lab: MakeLab) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    for version in range(5):
        await east.publish(tenant, "k1", version)
    async with (
        running(east, options(server.url, "east1")),
        running(west, options(server.url, "west1", "east1"), [effects_reaction()]) as site,
    ):
        for version in range(5, 10):
            await east.publish(tenant, "k1", version)
        found = await arrived(west, tenant, 10)
        await site.backbone.drain()
    assert [row["origin"] for row in found] == ["east1"] * 10
    effects = await west.effects(tenant)
    assert [effect.version for effect in effects] == list(range(10))
    assert inversions(effects) == []


async def test_every_field_of_the_envelope_travels(server: Nats, new_lab: MakeLab) -> None:
    east, west = await new_lab(), await new_lab()
    # What NATS does not allow in a subject, nor HTTP in a header.
    tenant = "a.b *>:ü-" + new_tenant()
    await _publish_odd_ones(east, tenant)
    async with (
        running(east, options(server.url, "east2")),
        running(west, options(server.url, "west2", "east2")),
    ):
        await arrived(west, tenant, 4)
    there, here = await east.rows(ALL_OF_IT, tenant), await west.rows(ALL_OF_IT, tenant)
    assert here == there
    assert {row["message_name"] for row in there} == {"", "payments.events.v1.PlanCreated"}
    assert {bytes(row["payload"]) for row in there if not row["message_name"]} >= {ODD_JSON}


ODD_JSON = b'{ "b": 1.10,\n "a": "\xc3\xbc\\u0000" }'


async def _publish_odd_ones(lab: Lab, tenant: str) -> None:
    """A message of ours, and JSON of an outside producer, with the oddest texts that the log can hold."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    odd = replace(
        call(tenant),
        correlation_id=" corr\nelation %41 ",
        causation_id="caus\tation",
        traceparent=trace,
    )
    await lab.publish(tenant, "k 1", 1)
    with acting(odd):
        async with lab.database.unit_of_work("lab.publish") as work:
            for event_id, subject, version in (
                ("id with \r\n%", "order.created", 1),
                ("ü" * 128, "order.created.v2", 2),
                (".*>", "lead.handoff.context.recorded", 1),
            ):
                await work.execute(
                    "WITH i AS (INSERT INTO mesh.event_identity VALUES "
                    "(%(t)s, substring(sha256(convert_to(%(e)s, 'UTF8')) FOR 16), %(h)s)) "
                    "INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name, payload, "
                    "correlation_id, causation_id, traceparent, created_at) VALUES "
                    "(%(t)s, %(e)s, %(s)s, %(v)s, %(k)s, '', %(p)s, %(co)s, %(ca)s, %(tp)s, "
                    "'1999-12-31 23:59:59.123456Z')",
                    {
                        "t": tenant,
                        "e": event_id,
                        "h": b"fingerprint 1234",
                        "s": subject,
                        "v": version,
                        "k": "ключ " * 40,
                        "p": ODD_JSON,
                        "co": odd.correlation_id,
                        "ca": odd.causation_id,
                        "tp": trace,
                    },
                )


async def test_two_sites_do_not_echo(server: Nats, new_lab: MakeLab) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    async with (
        running(east, options(server.url, "east3", "west3"), [effects_reaction()]) as one,
        running(west, options(server.url, "west3", "east3"), [effects_reaction()]) as two,
    ):
        for version in range(20):
            await east.publish(tenant, "of-east", version)
            await west.publish(tenant, "of-west", version)
        for lab in (east, west):
            await arrived(lab, tenant, 40)
        await sent(east)
        await sent(west)
        for site in (one, two):
            await site.backbone.drain()
        states = [
            await site.transport.broker.state(name)
            for site, name in ((one, "east3"), (two, "west3"))
        ]
    assert [state and state.messages for state in states] == [20, 20]
    for lab, other in ((east, "west3"), (west, "east3")):
        assert len(await arrived(lab, tenant, 40)) == 40
        origins = await lab.rows(
            "SELECT origin, count(*) AS n FROM mesh.event WHERE tenant_id = %s GROUP BY 1 ORDER BY 1",
            tenant,
        )
        assert origins == [{"origin": "", "n": 20}, {"origin": other, "n": 20}]
        effects = await lab.effects(tenant)
        assert len({effect.event_id for effect in effects}) == len(effects) == 40
        assert inversions(effects) == []


async def test_large_events_travel_a_few_at_a_time(server: Nats, new_lab: MakeLab) -> None:
    east, west = await new_lab(), await new_lab()
    tenant, count = new_tenant(), 12
    for number in range(count):
        with acting(call(tenant)):
            async with east.database.unit_of_work("lab.publish") as work:
                text = chr(97 + number) * 1_000_000
                work.publish(ContractViolated(contract_id="k", message=text))
    assert count * 1_000_000 > Reader.BATCH_BYTES_MAX > BATCH_BYTES_MAX
    async with (
        running(east, options(server.url, "large")),
        running(west, options(server.url, "reader8", "large")),
    ):
        found = await arrived(west, tenant, count)
    assert [row["payload"][-1] for row in found] == [97 + number for number in range(count)]


AUTHORIZATION = """
authorization {{ users: [
  {{ user: east, password: "geheim%1", permissions: {{ publish: [{east}], subscribe: ["_INBOX.>"] }} }}
  {{ user: west, password: geheim2, permissions: {{ publish: [{west}], subscribe: ["_INBOX.>"] }} }}
] }}
"""


async def test_sites_have_users_of_their_own_that_nothing_prints(
    tmp_path: Path,
    new_lab: MakeLab,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    # As the guide says.
    rights = {
        name: f'"ev.{name}.>", "$JS.API.>", "$JS.ACK.>"' for name in ("east", "west", "north")
    }
    authorization = AUTHORIZATION.format(east=rights["east"], west=rights["west"])
    with nats.serving(tmp_path, authorization=authorization) as server:
        urls = {
            name: server.url.replace("//", f"//{name}:{word}@")
            for name, word in (("east", "geheim%251"), ("west", "geheim2"), ("north", "geheim3"))
        }
        async with (
            running(east, options(urls["east"], "east", "west")),
            running(west, options(urls["west"], "west", "east")),
        ):
            await east.publish(tenant, "k", 1)
            await west.publish(tenant, "k", 2)
            for lab in (east, west):
                await arrived(lab, tenant, 2)
        ok, told = await look_at(options(urls["east"], "east"))
        assert ok
        assert "stream tollmesh-east: 1 messages, 1 replicas" in told
        monkeypatch.setattr(broker, "CONNECT_SECONDS", 1.0)
        ok, refused = await look_at(options(urls["north"], "north"))
        assert not ok
        # Its words may be lost with the connection that it ends; what is told then says where to look.
        assert "Authorization" in refused or "user and password" in refused
    said = capfd.readouterr()
    assert "geheim" not in said.out + said.err + told + refused


async def test_the_guide_s_words_turn_it_off_for_good(server: Nats, new_lab: MakeLab) -> None:
    lab, tenant = await new_lab(), new_tenant()
    async with running(lab, options(server.url, "off1")):
        await lab.publish(tenant, "k", 1)
        await sent(lab)
    guide = (Path(__file__).parents[4] / "docs/guides/jetstream.md").read_text()
    words = guide.partition("```sql\n")[2].partition("```")[0]
    await lab.publish(tenant, "k", 2)
    await lab.rows(words)
    async with lab.reacting(effects_reaction()) as backbone:
        await lab.publish(tenant, "k", 3)
        await backbone.drain()
    assert await lab.rows("SELECT DISTINCT consumer FROM mesh.delivery") == []
    # Turned on again, it sends what there is, as at first: the stream takes it, sites know it.
    async with running(lab, options(server.url, "off1")) as site:
        await sent(lab)
        state = await site.transport.broker.state("off1")
    assert state is not None
    assert state.messages == 3


async def test_one_id_with_two_contents_is_recorded_and_not_overwritten(
    server: Nats, new_lab: MakeLab
) -> None:
    east, west = await new_lab(), await new_lab()
    tenant = new_tenant()
    monitor = ViolationReporter(west.database)
    for lab, number in ((east, 1), (west, 2)):
        async with serving(lab.urls, [manifest.SERVICE]) as mesh:
            stub = events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))
            response = await stub.PublishEvents(
                events_service_pb2.PublishEventsRequest(
                    events=[_outside("same"), _outside("other", number)]
                )
            )
            assert len(response.results) == 2
    async with (
        running(east, options(server.url, "east4")),
        running(west, options(server.url, "west4", "east4"), violations=monitor) as site,
    ):
        await east.publish(tenant, "behind", 1)
        await arrived(west, tenant, 3)
        source = site.transport.sources[0]
        taken, behind = source.taken, source.behind
    assert (taken, behind) == (1, 0)
    assert monitor.reported == 1
    refusals = await west.rows(REFUSALS)
    assert [(row["reason"], row["event_id"]) for row in refusals] == [("CONFLICT", "other")]
    stored = await west.rows("SELECT origin FROM mesh.event WHERE event_id IN ('same', 'other')")
    assert [row["origin"] for row in stored] == ["", ""]


def _outside(event_id: str, number: int = 0) -> Event:
    payload = payload_of("order.created")
    event = Event(id=event_id, subject="order.created", key=f"k{number}", metadata=EventMetadata())
    event.data.update(payload)
    return event
