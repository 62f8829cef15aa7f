"""The event backbone of one process: its sequencer, its dispatcher and its subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from services.runtime.clock import Clock
from services.runtime.events import registry, relay, sequencer
from services.runtime.events.bus import EventBus
from services.runtime.events.dispatcher import Dispatcher
from services.runtime.events.envelope import Reaction
from services.runtime.events.relay import LEASE_MS, Relay, Session
from services.runtime.events.sequencer import Sequencer
from services.runtime.roles import DatabaseUnfit, RoleNames

STOP_SECONDS_MAX = 15.0
_DRAIN_POLL_SECONDS = 0.02

_log = structlog.get_logger(__name__)


class EventBackbone:
    """Carries events from the log to the reactions of this process.

    Args:
        relay_url: Postgres as the relay's role.
        reactions: what the services of this process do on events.
        bus: the bell that units of work ring.
        clock: business time, for the reactions.
        workers: transactions that handle events at once.
        lease_ms: how long a lane is held without renewal; a vanished process holds its lanes so long.
        pooled: a connection pooler in transaction mode stands before Postgres.

    Raises:
        ValueError: two reactions share a consumer's name, or a subject breaks the grammar.
    """

    def __init__(
        self,
        relay_url: str,
        reactions: Sequence[Reaction],
        *,
        bus: EventBus,
        clock: Clock,
        workers: int = 4,
        lease_ms: int = LEASE_MS,
        pooled: bool = False,
    ) -> None:
        names = [reaction.consumer for reaction in reactions]
        if len(set(names)) < len(names):
            raise ValueError(f"two reactions share a consumer's name: {sorted(names)}")
        self._subscriptions = {reaction.consumer: reaction.patterns() for reaction in reactions}
        self._bus = bus
        self._relay = Relay(relay_url, lease_ms=lease_ms, workers=workers, pooled=pooled)
        self._sequencer = Sequencer(self._relay, bus)
        self._dispatcher = Dispatcher(self._relay, reactions, bus, clock)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Register the subscriptions and begin.

        Raises:
            TypeError: a payload message is no well-formed event type.
            psycopg.Error: the database cannot be reached.
            DatabaseUnfit: it was not migrated.
        """
        registry.all_types()
        # A first start may have to give a new consumer every event that there is.
        async with await self._relay.control(statement_ms=sequencer.TICK_MS_MAX) as session:
            owner = await relay.row(session, "owner_role")
            if owner is None:
                raise DatabaseUnfit("the database has no schema mesh: migrate it first")
            role = RoleNames.of_owner(owner["owner"]).service
            for consumer in sorted(self._subscriptions):
                await self._subscribe(session, consumer)
        self._tasks = [
            asyncio.create_task(self._sequencer.run(), name="event-sequencer"),
            asyncio.create_task(self._dispatcher.run(role), name="event-dispatcher"),
        ]

    async def stop(self) -> None:
        """End after the transactions that are under way; what was not handled stays for the next start."""
        self._sequencer.stop()
        self._dispatcher.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS_MAX)
            for task in late:
                _log.warning("event loop cancelled", task=task.get_name())
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._relay.close()

    async def drain(self) -> None:
        """Wait until every event published so far, and every event that its reactions published, was
        handled by the consumers of this process or lies in the dead letters.
        """
        consumers = self._dispatcher.consumers
        async with await self._relay.control(statement_ms=sequencer.TICK_MS_MAX) as session:
            while True:
                if await sequencer.tick(session) > 0:
                    self._bus.moved()
                found = await relay.row(session, "is_quiet", consumers=consumers)
                assert found is not None
                if found["quiet"]:
                    return
                await asyncio.sleep(_DRAIN_POLL_SECONDS)

    async def replay(self, consumer: str, tenant_id: str, key: str) -> int:
        """Bring the dead letters of a key back into their lane, with a fresh set of tries.

        Returns how many there were; what waited behind them follows.
        """
        async with (
            await self._relay.control() as session,
            relay.transaction(session, self._relay.transaction_ms),
        ):
            letters = await relay.rows(
                session, "replay_key", consumer=consumer, tenant_id=tenant_id, key=key
            )
        self._bus.moved()
        return len(letters)

    async def _subscribe(self, session: Session, consumer: str) -> None:
        patterns = self._subscriptions[consumer]
        wanted = {
            "consumer": consumer,
            "texts": [pattern.text for pattern in patterns],
            "prefixes": [pattern.is_prefix for pattern in patterns],
        }
        async with relay.transaction(session, sequencer.TICK_MS_MAX):
            await relay.rows(session, "hold_feed")
            await relay.changed(session, "drop_subscriptions", **wanted)
            added = await relay.rows(session, "add_subscriptions", **wanted)
            if not added:
                return
            await relay.changed(session, "evict_lanes", consumer=consumer)
            await relay.changed(
                session,
                "back_fill",
                consumer=consumer,
                texts=[row["text"] for row in added],
                prefixes=[row["is_prefix"] for row in added],
            )
