"""EventService: proto to domain and back, one method an RPC, one part of the service a module."""

from __future__ import annotations

from services.events.adapters.checks import Checks
from services.events.app.feed import EventReader
from services.events.app.journeys import Journeys
from services.events.app.operations import Operations
from services.events.app.publisher import Publisher
from services.events.app.timers import Timers
from services.events.app.types import TypeRegistry
from services.events.app.webhooks import Webhooks
from services.events.servicer.feed import FeedRpcs
from services.events.servicer.journeys import JourneyRpcs
from services.events.servicer.operations import OperationRpcs
from services.events.servicer.timers import TimerRpcs
from services.events.servicer.types import TypeRpcs
from services.events.servicer.webhooks import WebhookRpcs
from services.runtime.commands import Commands


class EventServicer(TypeRpcs, FeedRpcs, WebhookRpcs, OperationRpcs, TimerRpcs, JourneyRpcs):
    """Answers EventService."""

    def __init__(
        self,
        reader: EventReader,
        types: TypeRegistry,
        publisher: Publisher,
        checks: Checks,
        webhooks: Webhooks,
        operations: Operations,
        timers: Timers,
        journeys: Journeys,
        commands: Commands,
    ) -> None:
        TypeRpcs.__init__(self, types, publisher, checks)
        FeedRpcs.__init__(self, reader)
        WebhookRpcs.__init__(self, webhooks, commands)
        OperationRpcs.__init__(self, operations, commands)
        TimerRpcs.__init__(self, timers, checks, commands)
        JourneyRpcs.__init__(self, journeys)


__all__ = ["EventServicer"]
