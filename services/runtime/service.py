"""What a service is to the runtime: servicers, reactions, migrations, background work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.runtime.channels import Channels
from services.runtime.clock import Clock
from services.runtime.commands import Commands
from services.runtime.config import Settings
from services.runtime.database import Database
from services.runtime.events.bus import EventBus
from services.runtime.events.envelope import Reaction
from services.runtime.telemetry import Telemetry
from services.runtime.violations import ViolationReporter


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a service is built from.

    Attributes:
        settings: how it runs.
        database: units of work through the services' role.
        commands: runs use cases, once a request_id.
        channels: the other services.
        clock: business time.
        violations: reports broken contracts outside a unit of work.
        bus: rings when the event feed has grown.
        telemetry: where measurements go.
    """

    settings: Settings
    database: Database
    commands: Commands
    channels: Channels
    clock: Clock
    violations: ViolationReporter
    bus: EventBus
    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class Servicer:
    """A gRPC service and who answers it.

    Attributes:
        add_to_server: the generated `add_…Servicer_to_server`.
        instance: the servicer.
        full_name: `payments.ledger.v1.LedgerService`.
    """

    add_to_server: Callable[[Any, Any], None]
    instance: Any
    full_name: str


@dataclass(frozen=True, slots=True)
class Service:
    """A service, built.

    Attributes:
        name: its folder, e.g. `ledger`.
        servicers: the gRPC services that it answers.
        reactions: what it does on events.
        migrations: package of its Alembic environment, or an empty text.
        start: begins its background work; called once it can be reached.
        stop: ends it; called too when another service's start failed before this one's.
        follows_feed: it answers by the event feed, so it is healthy only while the feed is kept up to date.
    """

    name: str
    servicers: Sequence[Servicer]
    reactions: Sequence[Reaction] = field(default_factory=tuple)
    migrations: str = ""
    start: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None
    follows_feed: bool = False


Build = Callable[[Runtime], Service]
