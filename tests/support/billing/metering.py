"""Usage events to send, and a catalogue that counts what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from payments.metering.v1 import metering_pb2, metering_service_pb2, spool_pb2
from payments.pricing.v1 import catalog_service_pb2, catalog_service_pb2_grpc

from services.runtime.context import current
from services.runtime.errors import DependencyUnavailable
from services.runtime.service import Runtime, Service, Servicer

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def event(request_id: str, **changes: Any) -> metering_pb2.UsageEvent:
    """Make a valid event, NOW unless `at` says otherwise, with the fields that `changes` names."""
    at = changes.pop("at", NOW)
    fields = {"org_id": "chat", "project_id": "web", "sku": "llm.tokens", "quantity": "12.5"}
    made = metering_pb2.UsageEvent(request_id=request_id, **{**fields, **changes})
    if at is not None:
        made.event_time.FromDatetime(at)
    return made


def batch(*events: metering_pb2.UsageEvent) -> metering_service_pb2.IngestEventsRequest:
    """Make a batch of events."""
    return metering_service_pb2.IngestEventsRequest(events=events)


def usage_query(
    org_id: str = "chat", length: timedelta = timedelta(days=1), **changes: Any
) -> metering_service_pb2.QueryUsageRequest:
    """Ask for the usage of the day of NOW, or from `start_at` for as long as `length` says."""
    start_at = changes.pop("start_at", NOW.replace(hour=0, minute=0))
    request = metering_service_pb2.QueryUsageRequest(org_id=org_id, **changes)
    request.period.start_at.FromDatetime(start_at)
    request.period.end_at.FromDatetime(start_at + length)
    return request


def outcomes(
    response: metering_service_pb2.IngestEventsResponse | spool_pb2.SpooledBatch,
) -> Mapping[str, int]:
    """Return the four counts of an answer."""
    names = ("accepted", "duplicate", "conflict", "rejected")
    return {name: getattr(response, name) for name in names}


class Catalogue(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Has the SKUs that a test gives it, the same for every tenant.

    Attributes:
        skus: what it has.
        asked: one entry a call: tenant and the SKUs asked for.
        down: answers UNAVAILABLE while true.
    """

    def __init__(self, *skus: str) -> None:
        self.skus = set(skus)
        self.asked: list[tuple[str, list[str]]] = []
        self.down = False

    async def ListSkus(  # noqa: N802
        self, request: catalog_service_pb2.ListSkusRequest, context: Any
    ) -> catalog_service_pb2.ListSkusResponse:
        """Answer those of the SKUs asked for that it has."""
        self.asked.append((current().tenant_id, list(request.skus)))
        if self.down:
            raise DependencyUnavailable("the catalogue is down", service="pricing")
        response = catalog_service_pb2.ListSkusResponse()
        for sku in request.skus:
            if sku in self.skus:
                response.skus.add(sku=sku)
        return response

    def build(self, runtime: Runtime) -> Service:
        """Build it as a service of the mesh."""
        add = catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server
        return Service([Servicer(add, self, "payments.pricing.v1.CatalogService")])


def catalogue_of(*skus: str) -> Catalogue:
    """Make a catalogue that has these SKUs."""
    # The generated base answers UNIMPLEMENTED for the rest; only its stub file calls it abstract.
    return Catalogue(*skus)  # type: ignore[abstract]
