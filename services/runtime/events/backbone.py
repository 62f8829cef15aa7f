"""The event backbone of one process: its sequencer, its dispatcher and its subscriptions."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import psycopg
import structlog

from services.runtime.clock import Clock
from services.runtime.conditions import Conditions
from services.runtime.events import maintenance, owners, relay, sequencer, subscriptions
from services.runtime.events.bus import EventBus
from services.runtime.events.dispatcher import Dispatcher
from services.runtime.events.envelope import Reaction
from services.runtime.events.maintenance import Maintenance
from services.runtime.events.relay import LEASE_MS, Relay
from services.runtime.events.sequencer import Sequencer
from services.runtime.events.subscriptions import BackFill
from services.runtime.loops import stop_all
from services.runtime.outbox import registry
from services.runtime.postgres.roles import DatabaseUnfit, RoleNames
from services.runtime.postgres.session import Session
from services.runtime.telemetry import Silent, Telemetry

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
        retention_days: days that an event is kept at least; 0 keeps all.
        telemetry: where readings of the log's condition go.
        conditions: of the process.

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
        retention_days: int = maintenance.RETENTION_DAYS,
        telemetry: Telemetry | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        names = [reaction.consumer for reaction in reactions]
        if len(set(names)) < len(names):
            raise ValueError(f"two reactions share a consumer's name: {sorted(names)}")
        # A pattern that breaks the grammar is refused here, not in the middle of a start.
        for reaction in reactions:
            reaction.patterns()
        self._reactions = sorted(reactions, key=lambda reaction: reaction.consumer)
        self._bus = bus
        self._relay = Relay(
            relay_url, lease_ms=lease_ms, workers=workers, pooled=pooled, conditions=conditions
        )
        self._sequencer = Sequencer(self._relay, bus)
        self._dispatcher = Dispatcher(self._relay, reactions, bus, clock, telemetry or Silent())
        self._back_fill = BackFill(self._relay, bus)
        self._maintenance = Maintenance(
            self._relay, retention_days=retention_days, telemetry=telemetry
        )
        if telemetry is not None:
            # Taken at each scrape: an age that stands still says that all is well.
            telemetry.observe("tollmesh.events.tick_age_s", self._tick_age)
            telemetry.observe("tollmesh.events.stalled_s", lambda: [(self.stalled_seconds, {})])

    @property
    def stalled_seconds(self) -> float:
        """How long this process could not bring the feed up to date; next to nothing when all is well."""
        return self._sequencer.loop.stalled_seconds

    @property
    def failing_seconds(self) -> float:
        """How long every try to do so has failed; 0 while none does."""
        return self._sequencer.loop.failing_seconds

    def reconnect(self) -> None:
        """Give the sequencer a new session."""
        self._sequencer.reconnect()

    def _tick_age(self) -> list[tuple[float, dict[str, str]]]:
        age_s = min(self._sequencer.tick_age_seconds, self._maintenance.tick_age_seconds)
        return [(age_s, {})] if math.isfinite(age_s) else []

    async def start(self) -> None:
        """Register the subscriptions and begin.

        Raises:
            TypeError: a payload message is no well-formed event type.
            psycopg.Error: the database cannot be reached.
            DatabaseUnfit: it was not migrated.
        """
        registry.all_types()
        async with await self._relay.control(statement_ms=subscriptions.CHANGE_MS_MAX) as session:
            owner = await relay.row(session, "owner_role")
            if owner is None:
                raise DatabaseUnfit("the database has no schema mesh: migrate it first")
            role = RoleNames.of_owner(owner["owner"]).service
            await self._maintenance.prepare(session)
            await self._take_back(session)
            for reaction in self._reactions:
                await subscriptions.subscribe(session, reaction)
        self._sequencer.loop.start()
        self._dispatcher.start(role)
        self._back_fill.loop.start()
        self._maintenance.start(role)

    async def _take_back(self, session: Session) -> None:
        try:
            taken = await owners.take_back(session)
        except (psycopg.Error, TimeoutError) as error:
            # They run out by themselves.
            _log.warning("leases of processes that ended not taken back", error=str(error))
            return
        if taken:
            _log.warning("leases of processes that ended taken back", leases=taken)

    async def stop(self) -> None:
        """End after the transactions that are under way; what was not handled stays for the next start."""
        await stop_all(
            self._sequencer.loop,
            self._dispatcher.loop,
            self._back_fill.loop,
            self._maintenance.loop,
        )
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
