"""Metering as pricing sees it, by its stub."""

from __future__ import annotations

from datetime import datetime

from payments.metering.v1 import metering_pb2, metering_service_pb2, metering_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.pricing.domain.rating import Usage
from services.pricing.ports import UsageSnapshot
from services.runtime.edge import values as edge
from services.runtime.edge.channels import Channels
from services.runtime.money import CONTEXT
from services.runtime.turns import aside


class MeteringClient:
    """MeteringService, for what pricing needs of it."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def read(self, org_id: str, start_at: datetime, end_at: datetime) -> UsageSnapshot:
        """Read sums and counts of all SKUs and projects in one snapshot.

        Raises:
            DomainError: metering's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """
        request = metering_service_pb2.QueryUsageRequest(
            org_id=org_id,
            window=metering_pb2.WINDOW_NONE,
            # Every row carries its number of events too, so one query serves SUM and COUNT.
            aggregation=type_pb2.AGGREGATION_SUM,
            period=edge.period(start_at, end_at),
        )
        stub = metering_service_pb2_grpc.MeteringServiceStub(self._channels.channel("metering"))
        response = await stub.QueryUsage(request)
        return await aside(len(response.rows), _snapshot, response)


def _snapshot(response: metering_service_pb2.QueryUsageResponse) -> UsageSnapshot:
    return UsageSnapshot(tuple(map(_usage, response.rows)), response.usage_snapshot)


def _usage(row: metering_pb2.UsageRow) -> Usage:
    return Usage(
        row.sku,
        row.project_id,
        CONTEXT.create_decimal(row.value),
        row.event_count,
        edge.moment_or_none(row, "first_event_at"),
        edge.moment_or_none(row, "last_event_at"),
    )
