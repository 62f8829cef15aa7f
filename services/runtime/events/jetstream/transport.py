"""The transport of one process: its connection to NATS, its sink and its sources."""

from __future__ import annotations

from services.runtime.conditions import Conditions
from services.runtime.context import CallContext
from services.runtime.contracts import INVARIANT
from services.runtime.events import relay, subscriptions
from services.runtime.events.bus import EventBus
from services.runtime.events.jetstream.broker import Broker
from services.runtime.events.jetstream.options import Options
from services.runtime.events.jetstream.sink import REACTION, Sink
from services.runtime.events.jetstream.source import Source
from services.runtime.events.relay import LEASE_MS, Relay
from services.runtime.ids import new_ulid
from services.runtime.loops import stop_all
from services.runtime.postgres.roles import DatabaseUnfit, RoleNames
from services.runtime.telemetry import Telemetry
from services.runtime.violations import Violation, ViolationReporter

# Batches that are under way at once in a process; a stream takes 50 of all its writers.
WORKERS = 8


class Transport:
    """Publishes what is born here, and takes in what other sites publish.

    A NATS that is away, at the start or later, keeps nothing else from working: deliveries wait in the database.

    Args:
        options: where NATS is, and which sites there are.
        relay_url: Postgres as the relay's role.
        bus: the process's bell.
        violations: told of events that contradict one another.
        lease_ms: how long a lane or share is held without renewal.
        pooled: a connection pooler in transaction mode stands before Postgres.
        broker: the connection to NATS; without one it is made from the options.
        workers: lanes that are published at once.
        conditions: of the process.
        telemetry: asks how far the sources are behind.
    """

    def __init__(
        self,
        options: Options,
        relay_url: str,
        *,
        bus: EventBus,
        violations: ViolationReporter | None = None,
        lease_ms: int = LEASE_MS,
        pooled: bool = False,
        broker: Broker | None = None,
        workers: int = WORKERS,
        conditions: Conditions | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._options = options
        self._violations = violations
        self._relay = Relay(
            relay_url, lease_ms=lease_ms, workers=workers, pooled=pooled, conditions=conditions
        )
        self.broker = broker or Broker(options)
        self.sink = Sink(self._relay, self.broker, bus)
        self.sources = [
            Source(self._relay, self.broker, site, bus, self._report) for site in options.sources
        ]
        self._role = ""
        if telemetry is not None:
            telemetry.observe("tollmesh.transport.behind", self._behind)

    async def subscribe(self) -> None:
        """Let the sink have events delivered from now on, and all that there are; before the backbone begins.

        Raises:
            psycopg.Error: the database cannot be reached.
            DatabaseUnfit: it was not migrated.
        """
        async with await self._relay.control(statement_ms=subscriptions.CHANGE_MS_MAX) as session:
            owner = await relay.row(session, "owner_role")
            if owner is None:
                raise DatabaseUnfit("the database has no schema mesh: migrate it first")
            self._role = RoleNames.of_owner(owner["owner"]).service
            await subscriptions.subscribe(session, REACTION)

    def start(self) -> None:
        """Begin, once the backbone has."""
        assert self._role, "subscribe first"
        self.sink.loop.start()
        for source in self.sources:
            source.start(self._role)

    async def stop(self) -> None:
        """End after what is under way; the rest waits for the next start."""
        await stop_all(self.sink.loop, *(source.loop for source in self.sources))
        await self.broker.close()
        await self._relay.close()

    def _behind(self) -> list[tuple[float, dict[str, str]]]:
        sites = zip(self._options.sources, self.sources, strict=True)
        return [(float(source.behind), {"site": site}) for site, source in sites]

    def _report(self, tenant_id: str, event_id: str, message: str) -> None:
        if self._violations is None:
            return
        call = CallContext(tenant_id, "mesh:transport", frozenset(), event_id, new_ulid(), event_id)
        self._violations.report(Violation(call, INVARIANT, "CRITICAL", message, event_id))
