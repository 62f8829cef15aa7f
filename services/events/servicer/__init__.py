"""EventService: proto to domain and back, one method an RPC, one part of the service a module."""

from __future__ import annotations

from services.events.app.feed import EventReader
from services.events.app.journeys import Journeys
from services.events.app.operations import Operations
from services.events.app.publisher import Publisher
from services.events.app.timers import Timers
from services.events.app.types import TypeRegistry
from services.events.app.webhooks import Webhooks
from services.events.checks import Checks
from services.events.servicer.feed import FeedRpcs
from services.events.servicer.journeys import JourneyRpcs
from services.events.servicer.operations import OperationRpcs
from services.events.servicer.timers import TimerRpcs
from services.events.servicer.types import TypeRpcs, message_of, type_of
from services.events.servicer.webhooks import WebhookRpcs
from services.runtime.idempotency import Idempotency


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
        idempotency: Idempotency,
    ) -> None:
        self._reader = reader
        self._types = types
        self._publisher = publisher
        self._checks = checks
        self._webhooks = webhooks
        self._operations = operations
        self._timers = timers
        self._journeys = journeys
        self._idempotency = idempotency


__all__ = ["EventServicer", "message_of", "type_of"]
