"""What a service is built from, and what it is to the runtime: servicers, reactions, background work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.runtime.access import KeyRing
from services.runtime.clock import Clock
from services.runtime.commands import Commands
from services.runtime.config import Settings
from services.runtime.contracts import Contract
from services.runtime.database import Database
from services.runtime.edge.channels import Channels
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
        channels: the other services, called as the service's own principal.
        clock: business time.
        violations: reports broken contracts outside a unit of work.
        bus: rings when the event feed has grown.
        telemetry: where measurements go.
        contracts: what the services of this release and the runtime promise.
        keys: of callers, for what was held while they could not be looked up.
    """

    settings: Settings
    database: Database
    commands: Commands
    channels: Channels
    clock: Clock
    violations: ViolationReporter
    bus: EventBus
    telemetry: Telemetry
    contracts: Sequence[Contract]
    keys: KeyRing


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
        servicers: the gRPC services that it answers.
        reactions: what it does on events.
        start: begins its background work; called once it can be reached.
        stop: ends it; called too when another service's start failed before this one's.
        follows_feed: it answers by the event feed, so it is healthy only while the feed is kept up to date.
        outlasting: whether calls to a gRPC service are taken although the database is away, by its full name.
    """

    servicers: Sequence[Servicer]
    reactions: Sequence[Reaction] = field(default_factory=tuple)
    start: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None
    follows_feed: bool = False
    outlasting: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
