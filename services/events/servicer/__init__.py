"""EventService: proto to domain and back, one method an RPC, one part of the service a module."""

from __future__ import annotations

from services.events.app.feed import EventReader
from services.events.app.publisher import Publisher
from services.events.app.types import TypeRegistry
from services.events.servicer.feed import FeedRpcs
from services.events.servicer.types import TypeRpcs, message_of, type_of


class EventServicer(TypeRpcs, FeedRpcs):
    """Answers EventService."""

    def __init__(self, reader: EventReader, types: TypeRegistry, publisher: Publisher) -> None:
        self._reader = reader
        self._types = types
        self._publisher = publisher


__all__ = ["EventServicer", "message_of", "type_of"]
