"""Metering as pricing sees it, by its stub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal

from payments.metering.v1 import metering_pb2, metering_service_pb2, metering_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.pricing.domain.rating import Usage
from services.pricing.domain.readings import Reading, ValueUsage
from services.pricing.ports import UsageSnapshot
from services.runtime.edge import values as edge
from services.runtime.edge.channels import Channels
from services.runtime.money import CONTEXT
from services.runtime.turns import aside

EVENTS_A_PAGE = 10_000


class MeteringClient:
    """MeteringService, for what pricing needs of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def read(
        self, org_id: str, start_at: datetime, end_at: datetime, at_ordinal: int | None
    ) -> UsageSnapshot:
        """Read sums and counts of all SKUs and projects in one snapshot.

        Args:
            at_ordinal: as of which; None for now.

        Raises:
            DomainError: metering's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """
        request = metering_service_pb2.QueryUsageRequest(
            org_id=org_id,
            window=metering_pb2.WINDOW_NONE,
            # Every row carries its number of events too, so one query serves SUM and COUNT.
            aggregation=type_pb2.AGGREGATION_SUM,
            at_ordinal=at_ordinal,
            period=edge.period(start_at, end_at),
            # Only the first of several readings is what a charge keeps.
            with_log_root=at_ordinal is None,
        )
        response = await self._query(request)
        return await aside(len(response.rows), _snapshot, response)

    async def read_values(
        self,
        org_id: str,
        start_at: datetime,
        end_at: datetime,
        reading: Reading,
        skus: Sequence[str],
        at_ordinal: int | None,
    ) -> list[ValueUsage]:
        """Read usage of some SKUs by an aggregation and, if the reading names one, by value of a dimension.

        Args:
            at_ordinal: as of which; None for now.

        Raises:
            DomainError: metering's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """
        request = metering_service_pb2.QueryUsageRequest(
            org_id=org_id,
            skus=skus,
            window=metering_pb2.WINDOW_NONE,
            aggregation=type_pb2.Aggregation.Value(reading.aggregation.value),
            group_by=[reading.dimension] if reading.dimension else [],
            at_ordinal=at_ordinal,
            period=edge.period(start_at, end_at),
        )
        response = await self._query(request)
        return [_value_usage(row, reading.dimension) for row in response.rows]

    async def amounts(
        self, org_id: str, sku: str, start_at: datetime, end_at: datetime, at_ordinal: int | None
    ) -> AsyncIterator[list[tuple[str, Decimal]]]:
        """Read the project and the amount of all events of a SKU in pages of bounded size, zero amounts included.

        Args:
            at_ordinal: as of which; None for now.

        Raises:
            DomainError: metering's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """
        stub = metering_service_pb2_grpc.MeteringServiceStub(self._channels.channel("metering"))
        request = metering_service_pb2.ListEventsRequest(
            org_id=org_id,
            sku=sku,
            period=edge.period(start_at, end_at),
            at_ordinal=at_ordinal,
            page_size=EVENTS_A_PAGE,
        )
        while True:
            page: metering_service_pb2.ListEventsResponse = await stub.ListEvents(request)
            yield await aside(len(page.events), _amounts, page)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _query(
        self, request: metering_service_pb2.QueryUsageRequest
    ) -> metering_service_pb2.QueryUsageResponse:
        stub = metering_service_pb2_grpc.MeteringServiceStub(self._channels.channel("metering"))
        response: metering_service_pb2.QueryUsageResponse = await stub.QueryUsage(request)
        return response


def _amounts(page: metering_service_pb2.ListEventsResponse) -> list[tuple[str, Decimal]]:
    return [(event.project_id, CONTEXT.create_decimal(event.quantity)) for event in page.events]


def _snapshot(response: metering_service_pb2.QueryUsageResponse) -> UsageSnapshot:
    ordinal = response.usage_ordinal if response.HasField("usage_ordinal") else None
    usages = tuple(map(_usage, response.rows))
    return UsageSnapshot(usages, response.usage_snapshot, ordinal, response.usage_log_root)


def _usage(row: metering_pb2.UsageRow) -> Usage:
    return Usage(
        row.sku,
        row.project_id,
        CONTEXT.create_decimal(row.value),
        row.event_count,
        edge.moment_or_none(row, "first_event_at"),
        edge.moment_or_none(row, "last_event_at"),
    )


def _value_usage(row: metering_pb2.UsageRow, dimension: str) -> ValueUsage:
    value = row.group.get(dimension, "")
    return ValueUsage(
        row.sku, row.project_id, value, CONTEXT.create_decimal(row.value), row.event_count
    )
