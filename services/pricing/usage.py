"""Reads usage from metering, by its stub."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from payments.metering.v1 import metering_pb2, metering_service_pb2, metering_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.pricing.domain.rating import Usage
from services.runtime.edge.channels import Channels
from services.runtime.money import CONTEXT


@dataclass(frozen=True, slots=True)
class UsageSnapshot:
    """The usage of an organisation over a period, and which state of the store it is."""

    usages: tuple[Usage, ...]
    snapshot: str


class UsageReader:
    """Asks MeteringService."""

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
        )
        request.period.start_at.FromDatetime(start_at)
        request.period.end_at.FromDatetime(end_at)
        stub = metering_service_pb2_grpc.MeteringServiceStub(self._channels.channel("metering"))
        response = await stub.QueryUsage(request)
        usages = tuple(_usage(row) for row in response.rows)
        return UsageSnapshot(usages, response.usage_snapshot)


def _usage(row: metering_pb2.UsageRow) -> Usage:
    return Usage(
        row.sku,
        row.project_id,
        CONTEXT.create_decimal(row.value),
        row.event_count,
        _time(row.first_event_at) if row.HasField("first_event_at") else None,
        _time(row.last_event_at) if row.HasField("last_event_at") else None,
    )


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
