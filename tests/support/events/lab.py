"""A database with a table for effects, and what publishes into it and reacts on it.

The events are `plan.created` and `plan.updated`: the plan's id is the key, its version counts the events of
the key. An effect is a row that the reaction writes in the event's own transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from payments.events.v1.pricing_events_pb2 import PlanCreated
from psycopg.rows import dict_row

from services.runtime.clock import Clock, SystemClock
from services.runtime.context import CallContext, acting
from services.runtime.database import Database, UnitOfWork
from services.runtime.events.backbone import EventBackbone
from services.runtime.events.bus import EventBus
from services.runtime.events.envelope import Envelope, Reaction, RetryPolicy
from services.runtime.ids import new_ulid
from services.runtime.postgres.roles import DatabaseUrls, RoleNames
from tests.support.postgres.server import Server

QUICK = RetryPolicy(base_ms=20)

_EFFECTS = """
CREATE SCHEMA probe AUTHORIZATION "{owner}";
SET ROLE "{owner}";
CREATE TABLE probe.effect (
  seq       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL, consumer text NOT NULL, event_id text NOT NULL, key text NOT NULL,
  version   int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
ALTER TABLE probe.effect ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON probe.effect TO "{service}" USING (tenant_id = (SELECT mesh.current_tenant()));
GRANT USAGE ON SCHEMA probe TO "{service}";
GRANT SELECT, INSERT ON probe.effect TO "{service}";
"""
_INSERT = (
    "INSERT INTO probe.effect (tenant_id, consumer, event_id, key, version) "
    "VALUES (%(tenant_id)s, %(consumer)s, %(event_id)s, %(key)s, %(version)s)"
)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a reaction left behind, in the order of the commits of one key."""

    tenant_id: str
    consumer: str
    event_id: str
    key: str
    version: int


LATER_MESSAGE = "payments.events.v1.OfALaterRelease"


def new_tenant() -> str:
    """A tenant that no other test uses."""
    return f"t-{new_ulid()}"


def call(tenant: str, **fields: Any) -> CallContext:
    """A call on behalf of a tenant."""
    return CallContext(tenant, "test", frozenset(), new_ulid(), new_ulid(), **fields)


async def publish_of_later_release(database: Database, tenant: str, payload: bytes) -> str:
    """Write an event as a site of a later release sends it: of a message that nobody here knows; returns its id."""
    event_id = new_ulid()
    with acting(call(tenant)):
        async with database.unit_of_work("lab.publish_later") as work:
            await work.execute(
                "INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name, payload, "
                "correlation_id, causation_id, traceparent, created_at) VALUES (%(tenant_id)s, %(event_id)s, "
                "'plan.created.v2', 2, 'p', %(message_name)s, %(payload)s, '', '', '', %(now)s)",
                {
                    "tenant_id": tenant,
                    "event_id": event_id,
                    "message_name": LATER_MESSAGE,
                    "payload": payload,
                    "now": work.now,
                },
            )
    return event_id


class Lab:
    """Publishes, reacts and looks at what came of it."""

    def __init__(self, urls: DatabaseUrls, clock: Clock | None = None) -> None:
        self.urls = urls
        self.clock = clock or SystemClock()
        self.bus = EventBus()
        self.database = Database(urls.service, self.clock, wake=self.bus.wake)

    async def prepare(self) -> None:
        """Make the table of effects."""
        owner = (
            await self.rows(
                "SELECT nspowner::regrole::text AS o FROM pg_namespace WHERE nspname = 'mesh'"
            )
        )[0]["o"]
        names = RoleNames.of_owner(owner.strip('"'))
        async with await psycopg.AsyncConnection.connect(self.urls.owner_admin) as connection:
            await connection.execute(
                _EFFECTS.format(owner=names.owner, service=names.service).encode()
            )

    async def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Ask as the superuser, for whom every row can be seen."""
        async with (
            await psycopg.AsyncConnection.connect(self.urls.owner_admin) as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(query.encode(), parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def publish(self, tenant: str, key: str, *versions: int) -> list[str]:
        """Publish events of one key in one transaction; returns their ids."""
        with acting(call(tenant)):
            async with self.database.unit_of_work("lab.publish") as work:
                return [work.publish(PlanCreated(plan_id=key, plan_version=v)) for v in versions]

    async def effects(self, tenant: str, consumer: str = "lab.effects") -> list[Effect]:
        """Return what the consumer did for a tenant, in order."""
        found = await self.rows(
            "SELECT tenant_id, consumer, event_id, key, version FROM probe.effect "
            "WHERE tenant_id = %s AND consumer = %s ORDER BY seq",
            tenant,
            consumer,
        )
        return [Effect(**row) for row in found]

    @asynccontextmanager
    async def reacting(self, *reactions: Reaction, **options: Any) -> AsyncIterator[EventBackbone]:
        """Run a backbone with these reactions until the block ends."""
        backbone = EventBackbone(
            self.urls.relay, reactions, bus=self.bus, clock=self.clock, **options
        )
        await backbone.start()
        try:
            yield backbone
        finally:
            await backbone.stop()

    async def replay(
        self, consumer: str, tenant: str, key: str | None = None, rows_max: int = 1000
    ) -> int:
        """Bring a tenant's dead letters back into their lanes; returns how many."""
        with acting(call(tenant)):
            async with self.database.unit_of_work("lab.replay") as work:
                found = await work.execute(
                    "SELECT replayed FROM mesh.replay_dead_letters(%(consumer)s, %(key)s, NULL, %(rows_max)s)",
                    {"consumer": consumer, "key": key, "rows_max": rows_max},
                )
                replayed = int(found.scalar_one())
        self.bus.moved()
        return replayed

    async def close(self) -> None:
        """Close the database."""
        await self.database.close()


@asynccontextmanager
async def lab_alone(server: Server, prefix: str = "events") -> AsyncIterator[Lab]:
    """A lab on a database of its own, which goes with it."""
    urls = server.new_database(prefix)
    lab = Lab(urls)
    await lab.prepare()
    try:
        yield lab
    finally:
        await lab.close()
        # Waited for beside the loop, which clients that are just logging in need to go on.
        await asyncio.to_thread(server.drop_database(urls).join)


async def write_effect(work: UnitOfWork, envelope: Envelope, consumer: str = "lab.effects") -> None:
    """The effect: one row, as the services' role, for the event's tenant."""
    payload = envelope.payload
    assert isinstance(payload, PlanCreated)
    await work.execute(
        _INSERT,
        {
            "tenant_id": envelope.tenant_id,
            "consumer": consumer,
            "event_id": envelope.event_id,
            "key": envelope.key,
            "version": payload.plan_version,
        },
    )


def effects_reaction(
    subjects: Sequence[str] = ("plan.created",), *, consumer: str = "lab.effects", **fields: Any
) -> Reaction:
    """A reaction that only writes its effect."""

    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        await write_effect(work, envelope, consumer)

    return Reaction(consumer, tuple(subjects), handle, **{"retry": QUICK, **fields})


def inversions(effects: Sequence[Effect]) -> list[tuple[Effect, Effect]]:
    """Pairs of effects of one key that came in another order than their versions."""
    last: dict[tuple[str, str, str], Effect] = {}
    found = []
    for effect in effects:
        key = (effect.consumer, effect.tenant_id, effect.key)
        if key in last and last[key].version >= effect.version:
            found.append((last[key], effect))
        last[key] = effect
    return found
