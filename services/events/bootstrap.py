"""Builds the event service from the runtime."""

from __future__ import annotations

from payments.events.v1 import events_service_pb2_grpc

from services.events import catalogue
from services.events.app.feed import EventReader
from services.events.app.publisher import Publisher
from services.events.app.types import TypeRegistry
from services.events.servicer import EventServicer
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service. A catalogue that breaks a rule fails the start.

    Raises:
        CatalogueUnfit: an entry of the release's catalogue breaks a rule.
    """
    catalogue.entries()
    return Service(
        name="events",
        servicers=[
            Servicer(
                events_service_pb2_grpc.add_EventServiceServicer_to_server,
                EventServicer(
                    EventReader(runtime.database, runtime.bus),
                    TypeRegistry(runtime.database),
                    Publisher(runtime.database, runtime.bus),
                ),
                "payments.events.v1.EventService",
            )
        ],
        migrations="services.events.migrations",
        follows_feed=True,
    )
