"""MeteringService takes usage events in, once each, and sums them up.

Written by `make generate` from payments/metering/v1/metering_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.metering import v1 as metering_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncMeteringService", "MeteringService")

_INGEST_EVENTS = Method(
    "/payments.metering.v1.MeteringService/IngestEvents",
    metering_v1.IngestEventsRequest,
    metering_v1.IngestEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_STREAM_EVENTS = Method(
    "/payments.metering.v1.MeteringService/StreamEvents",
    metering_v1.StreamEventsRequest,
    metering_v1.StreamEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_QUERY_USAGE = Method(
    "/payments.metering.v1.MeteringService/QueryUsage",
    metering_v1.QueryUsageRequest,
    metering_v1.QueryUsageResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_LATE_EVENTS = Method(
    "/payments.metering.v1.MeteringService/ListLateEvents",
    metering_v1.ListLateEventsRequest,
    metering_v1.ListLateEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_INGEST_SETTINGS = Method(
    "/payments.metering.v1.MeteringService/GetIngestSettings",
    metering_v1.GetIngestSettingsRequest,
    metering_v1.GetIngestSettingsResponse,
    repeatable=True,
    has_request_id=False,
)
_UPDATE_INGEST_SETTINGS = Method(
    "/payments.metering.v1.MeteringService/UpdateIngestSettings",
    metering_v1.UpdateIngestSettingsRequest,
    metering_v1.UpdateIngestSettingsResponse,
    repeatable=True,
    has_request_id=True,
)


class MeteringService:
    """MeteringService takes usage events in, once each, and sums them up."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def ingest_events(
        self, request: metering_v1.IngestEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.IngestEventsResponse:
        """IngestEvents stores a batch of events and answers after the commit with a verdict for each.
        Every event is judged alone: one bad event never fails its batch. The same batch may be sent
        again at any time: what was stored answers DUPLICATE.

        Fails with BATCH_TOO_LARGE beyond 10,000 events, and with DEPENDENCY_UNAVAILABLE when an
        unknown SKU cannot be looked up; nothing of the batch is stored then.
        """
        return self._caller.unary(_INGEST_EVENTS, request, timeout)

    def stream_events(
        self, requests: Iterable[metering_v1.StreamEventsRequest], *, timeout: float | None = None
    ) -> Iterator[metering_v1.StreamEventsResponse]:
        """StreamEvents is IngestEvents without the wait between batches: up to four batches are worked
        on at a time, and each is answered after its commit, in the order of the requests. A batch
        that fails as a whole ends the stream with its error; batches that were not answered are to
        be sent again.
        """
        return self._caller.both_ways(_STREAM_EVENTS, requests, timeout)

    def query_usage(
        self, request: metering_v1.QueryUsageRequest, *, timeout: float | None = None
    ) -> metering_v1.QueryUsageResponse:
        """QueryUsage aggregates the events of an organisation over a period, by SKU, project and
        window, as one snapshot of the store saw them.

        Fails with UNKNOWN_SKU when a SKU that is asked for was neither used nor is in the
        catalogue, UNKNOWN_TIME_ZONE, AGGREGATION_UNSUPPORTED (now: SUM and COUNT), and
        USAGE_TOO_WIDE when the answer would have more than 10,000 windows or rows.
        """
        return self._caller.unary(_QUERY_USAGE, request, timeout)

    def list_late_events(
        self, request: metering_v1.ListLateEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListLateEventsResponse:
        """ListLateEvents lists the usage that was stored for a period after a charge had closed it, by
        organisation and event_time: no charge bills it yet. `usage.late` and a violation of
        `metering/late-usage` tell of it once. A closing is known here a moment after the charge was
        made.
        """
        return self._caller.unary(_LIST_LATE_EVENTS, request, timeout)

    def all_late_events(
        self, request: metering_v1.ListLateEventsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.LateEvent]:
        """Yield the late_events of all pages of list_late_events, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.ListLateEventsRequest) -> metering_v1.ListLateEventsResponse:
            return self.list_late_events(asked, timeout=timeout)

        return items(page, request, "late_events", BY_TOKEN)

    def get_ingest_settings(
        self, request: metering_v1.GetIngestSettingsRequest, *, timeout: float | None = None
    ) -> metering_v1.GetIngestSettingsResponse:
        """GetIngestSettings tells how far from now the tenant's events may lie."""
        return self._caller.unary(_GET_INGEST_SETTINGS, request, timeout)

    def update_ingest_settings(
        self, request: metering_v1.UpdateIngestSettingsRequest, *, timeout: float | None = None
    ) -> metering_v1.UpdateIngestSettingsResponse:
        """UpdateIngestSettings sets them. Audited. Holds for every batch that begins after the answer;
        another process of metering may refuse by the old settings never, and accept by them for one
        second more.
        """
        return self._caller.unary(_UPDATE_INGEST_SETTINGS, request, timeout)


class AsyncMeteringService:
    """MeteringService takes usage events in, once each, and sums them up."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def ingest_events(
        self, request: metering_v1.IngestEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.IngestEventsResponse:
        """IngestEvents stores a batch of events and answers after the commit with a verdict for each.
        Every event is judged alone: one bad event never fails its batch. The same batch may be sent
        again at any time: what was stored answers DUPLICATE.

        Fails with BATCH_TOO_LARGE beyond 10,000 events, and with DEPENDENCY_UNAVAILABLE when an
        unknown SKU cannot be looked up; nothing of the batch is stored then.
        """
        return await self._caller.unary(_INGEST_EVENTS, request, timeout)

    def stream_events(
        self, requests: AsyncIterable[metering_v1.StreamEventsRequest], *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.StreamEventsResponse]:
        """StreamEvents is IngestEvents without the wait between batches: up to four batches are worked
        on at a time, and each is answered after its commit, in the order of the requests. A batch
        that fails as a whole ends the stream with its error; batches that were not answered are to
        be sent again.
        """
        return self._caller.both_ways(_STREAM_EVENTS, requests, timeout)

    async def query_usage(
        self, request: metering_v1.QueryUsageRequest, *, timeout: float | None = None
    ) -> metering_v1.QueryUsageResponse:
        """QueryUsage aggregates the events of an organisation over a period, by SKU, project and
        window, as one snapshot of the store saw them.

        Fails with UNKNOWN_SKU when a SKU that is asked for was neither used nor is in the
        catalogue, UNKNOWN_TIME_ZONE, AGGREGATION_UNSUPPORTED (now: SUM and COUNT), and
        USAGE_TOO_WIDE when the answer would have more than 10,000 windows or rows.
        """
        return await self._caller.unary(_QUERY_USAGE, request, timeout)

    async def list_late_events(
        self, request: metering_v1.ListLateEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListLateEventsResponse:
        """ListLateEvents lists the usage that was stored for a period after a charge had closed it, by
        organisation and event_time: no charge bills it yet. `usage.late` and a violation of
        `metering/late-usage` tell of it once. A closing is known here a moment after the charge was
        made.
        """
        return await self._caller.unary(_LIST_LATE_EVENTS, request, timeout)

    def all_late_events(
        self, request: metering_v1.ListLateEventsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.LateEvent]:
        """Yield the late_events of all pages of list_late_events, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.ListLateEventsRequest) -> metering_v1.ListLateEventsResponse:
            return await self.list_late_events(asked, timeout=timeout)

        return items_async(page, request, "late_events", BY_TOKEN)

    async def get_ingest_settings(
        self, request: metering_v1.GetIngestSettingsRequest, *, timeout: float | None = None
    ) -> metering_v1.GetIngestSettingsResponse:
        """GetIngestSettings tells how far from now the tenant's events may lie."""
        return await self._caller.unary(_GET_INGEST_SETTINGS, request, timeout)

    async def update_ingest_settings(
        self, request: metering_v1.UpdateIngestSettingsRequest, *, timeout: float | None = None
    ) -> metering_v1.UpdateIngestSettingsResponse:
        """UpdateIngestSettings sets them. Audited. Holds for every batch that begins after the answer;
        another process of metering may refuse by the old settings never, and accept by them for one
        second more.
        """
        return await self._caller.unary(_UPDATE_INGEST_SETTINGS, request, timeout)
