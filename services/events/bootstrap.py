"""Builds the feed's reader from the runtime."""

from __future__ import annotations

from payments.events.v1 import events_service_pb2_grpc

from services.events.app import EventReader
from services.events.servicer import EventServicer
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    return Service(
        name="events",
        servicers=[
            Servicer(
                events_service_pb2_grpc.add_EventServiceServicer_to_server,
                EventServicer(EventReader(runtime.database, runtime.bus)),
                "payments.events.v1.EventService",
            )
        ],
    )
