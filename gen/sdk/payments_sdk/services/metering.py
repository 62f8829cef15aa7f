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
_INGEST_CLOUD_EVENTS = Method(
    "/payments.metering.v1.MeteringService/IngestCloudEvents",
    metering_v1.IngestCloudEventsRequest,
    metering_v1.IngestCloudEventsResponse,
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
_AMEND_EVENTS = Method(
    "/payments.metering.v1.MeteringService/AmendEvents",
    metering_v1.AmendEventsRequest,
    metering_v1.AmendEventsResponse,
    repeatable=True,
    has_request_id=True,
)
_CANCEL_EVENTS = Method(
    "/payments.metering.v1.MeteringService/CancelEvents",
    metering_v1.CancelEventsRequest,
    metering_v1.CancelEventsResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_STORED_EVENTS = Method(
    "/payments.metering.v1.MeteringService/ListStoredEvents",
    metering_v1.ListStoredEventsRequest,
    metering_v1.ListStoredEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_USAGE_ORGS = Method(
    "/payments.metering.v1.MeteringService/ListUsageOrgs",
    metering_v1.ListUsageOrgsRequest,
    metering_v1.ListUsageOrgsResponse,
    repeatable=True,
    has_request_id=False,
)
_REPORT_USAGE_DRIFT = Method(
    "/payments.metering.v1.MeteringService/ReportUsageDrift",
    metering_v1.ReportUsageDriftRequest,
    metering_v1.ReportUsageDriftResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_EVENT = Method(
    "/payments.metering.v1.MeteringService/GetEvent",
    metering_v1.GetEventRequest,
    metering_v1.GetEventResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_EVENTS = Method(
    "/payments.metering.v1.MeteringService/ListEvents",
    metering_v1.ListEventsRequest,
    metering_v1.ListEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_REJECTED_EVENTS = Method(
    "/payments.metering.v1.MeteringService/ListRejectedEvents",
    metering_v1.ListRejectedEventsRequest,
    metering_v1.ListRejectedEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_REPLAY_REJECTED_EVENTS = Method(
    "/payments.metering.v1.MeteringService/ReplayRejectedEvents",
    metering_v1.ReplayRejectedEventsRequest,
    metering_v1.ReplayRejectedEventsResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_RECEIPT = Method(
    "/payments.metering.v1.MeteringService/GetReceipt",
    metering_v1.GetReceiptRequest,
    metering_v1.GetReceiptResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_RECEIPT_EVENTS = Method(
    "/payments.metering.v1.MeteringService/ListReceiptEvents",
    metering_v1.ListReceiptEventsRequest,
    metering_v1.ListReceiptEventsResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_SPOOLED_BATCH = Method(
    "/payments.metering.v1.MeteringService/GetSpooledBatch",
    metering_v1.GetSpooledBatchRequest,
    metering_v1.GetSpooledBatchResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_LOG_HEAD = Method(
    "/payments.metering.v1.MeteringService/GetLogHead",
    metering_v1.GetLogHeadRequest,
    metering_v1.GetLogHeadResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_LOG_HEADS = Method(
    "/payments.metering.v1.MeteringService/ListLogHeads",
    metering_v1.ListLogHeadsRequest,
    metering_v1.ListLogHeadsResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_LOG_CONSISTENCY = Method(
    "/payments.metering.v1.MeteringService/GetLogConsistency",
    metering_v1.GetLogConsistencyRequest,
    metering_v1.GetLogConsistencyResponse,
    repeatable=True,
    has_request_id=False,
)
_VERIFY_LOG = Method(
    "/payments.metering.v1.MeteringService/VerifyLog",
    metering_v1.VerifyLogRequest,
    metering_v1.VerifyLogResponse,
    repeatable=True,
    has_request_id=False,
)
_VERIFY_ROLLUPS = Method(
    "/payments.metering.v1.MeteringService/VerifyRollups",
    metering_v1.VerifyRollupsRequest,
    metering_v1.VerifyRollupsResponse,
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

        While the database is away a mesh with a spool answers ENQUEUED for every event: the batch
        is held durably, and stored with the same verdicts once the database is back.
        GetSpooledBatch tells them.

        Fails with BATCH_TOO_LARGE beyond 10,000 events, and with DEPENDENCY_UNAVAILABLE when an
        unknown SKU cannot be looked up; nothing of the batch is stored then. Fails with
        DATABASE_UNAVAILABLE while the database is away and there is no spool, and with
        SPOOL_UNAVAILABLE when there is one that cannot hold the batch now.
        """
        return self._caller.unary(_INGEST_EVENTS, request, timeout)

    def ingest_cloud_events(
        self, request: metering_v1.IngestCloudEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.IngestCloudEventsResponse:
        """IngestCloudEvents is IngestEvents for producers that send CloudEvents 1.0, with the same
        verdicts. Of each event `source` and `id`, joined by `|`, are the request_id, and beyond 128
        characters their SHA-256: `sha256:` and 64 hexadecimal digits. `subject` is the
        organisation, `time` the event_time, which is needed; `data` is an object whose `quantity`
        (a number or a decimal string), `sku` (`type` where it has none) and `project_id` are those
        of the event. Its other members, texts, numbers and booleans, are the metadata. Other
        attributes are checked, and not kept.

        Over REST all three modes are taken, by their Content-Type: one event in JSON
        (`application/cloudevents+json`), a batch in JSON (`application/cloudevents-batch+json`),
        and binary, where `ce-` headers hold the attributes and the body is the data.

        An event that is no sound CloudEvent is rejected alone, with CLOUD_EVENT_INVALID (an
        attribute, a `traceparent` that is none) or CLOUD_EVENT_UNSUPPORTED (`data_base64`, data
        that is no JSON); one whose data is no usage with INVALID_FIELD. Fails with
        CLOUD_EVENTS_CONTENT_TYPE for any other form, INVALID_FIELD for a body that is no JSON,
        EVENT_CHECK_TOO_COSTLY for one that takes too much work to read, and as IngestEvents does.
        """
        return self._caller.unary(_INGEST_CLOUD_EVENTS, request, timeout)

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
        window, as of one ordinal: now, or one that an earlier answer named. The answer for an
        ordinal is the same for ever. Any aggregation can be asked for of any SKU, whatever the
        catalogue says of it. WEIGHTED_SUM also reads what was before the period: all that the
        organisation ever used of the SKUs.

        SUM, COUNT, AVG, MAX, MIN and LATEST are answered from rollups where these keep apart what
        is asked for (IngestSettings' rollup_keys), and from the events where they don't, as all
        other aggregations are. The rows are the same.

        Fails with UNKNOWN_SKU when a SKU that is asked for was neither used nor is in the
        catalogue, UNKNOWN_TIME_ZONE, AGGREGATION_UNSUPPORTED for one that this release does not
        know, USAGE_ORDINAL_AHEAD when nothing has the ordinal yet that is asked for, and
        USAGE_TOO_WIDE when the answer would have more than 10,000 windows or rows.
        """
        return self._caller.unary(_QUERY_USAGE, request, timeout)

    def list_late_events(
        self, request: metering_v1.ListLateEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListLateEventsResponse:
        """ListLateEvents lists the usage that was stored for a period after a charge had closed it, by
        organisation and the time from which it counts in the period: no charge bills it yet. That
        is its event_time, or the start of the period, where a level holds on into it
        (WEIGHTED_SUM); such an event is listed once for each charge that it counts in. `usage.late`
        and a violation of `metering/late-usage` tell of it once a charge. A closing is known here a
        moment after the charge was made.
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

    def amend_events(
        self, request: metering_v1.AmendEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.AmendEventsResponse:
        """AmendEvents gives events another content. What was sent stays; usage from the receipt's
        ordinal on has the new content instead. For a period that a charge has closed the change is
        late usage. Sending the original event again answers DUPLICATE as before. Audited.

        An amendment of an unknown event is rejected with EVENT_NOT_FOUND, one of a cancelled event
        with EVENT_CANCELLED, one that adds more than a budget enforced in ingest has free with
        BUDGET_EXCEEDED. Budgets count the difference. Fails with BATCH_TOO_LARGE beyond 1,000
        amendments, and with SPOOL_NOT_DRAINED when it names an unknown event while batches of the
        tenant are enqueued: the event may be among theirs.
        """
        return self._caller.unary(_AMEND_EVENTS, request, timeout)

    def cancel_events(
        self, request: metering_v1.CancelEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.CancelEventsResponse:
        """CancelEvents has events count nowhere, from the receipt's ordinal on. What was sent stays,
        and its id with it: usage that is to count needs a new one. Audited.

        The id of an unknown event is rejected with EVENT_NOT_FOUND. Fails with BATCH_TOO_LARGE
        beyond 1,000 ids, and with SPOOL_NOT_DRAINED as AmendEvents does.
        """
        return self._caller.unary(_CANCEL_EVENTS, request, timeout)

    def list_stored_events(
        self, request: metering_v1.ListStoredEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListStoredEventsResponse:
        """ListStoredEvents lists the events of all organisations, as of one ordinal for all its pages,
        for whoever compares them with something else: those that were cancelled too, if asked for,
        and in no order of their times. A page may have no event although more follow.

        Fails with USAGE_ORDINAL_AHEAD when nothing has the ordinal yet that is asked for.
        """
        return self._caller.unary(_LIST_STORED_EVENTS, request, timeout)

    def all_stored_events(
        self, request: metering_v1.ListStoredEventsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.StoredEvent]:
        """Yield the events of all pages of list_stored_events, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.ListStoredEventsRequest) -> metering_v1.ListStoredEventsResponse:
            return self.list_stored_events(asked, timeout=timeout)

        return items(page, request, "events", BY_TOKEN)

    def list_usage_orgs(
        self, request: metering_v1.ListUsageOrgsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListUsageOrgsResponse:
        """ListUsageOrgs lists the organisations that sent events of a period, by id, so that nobody's
        usage is left unbilled. An event counts as it was sent: what corrections made of it is in
        ListStoredEvents. A page may have no organisation although more follow.
        """
        return self._caller.unary(_LIST_USAGE_ORGS, request, timeout)

    def all_usage_orgs(
        self, request: metering_v1.ListUsageOrgsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.UsageOrg]:
        """Yield the usage_orgs of all pages of list_usage_orgs, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.ListUsageOrgsRequest) -> metering_v1.ListUsageOrgsResponse:
            return self.list_usage_orgs(asked, timeout=timeout)

        return items(page, request, "usage_orgs", BY_TOKEN)

    def report_usage_drift(
        self, request: metering_v1.ReportUsageDriftRequest, *, timeout: float | None = None
    ) -> metering_v1.ReportUsageDriftResponse:
        """ReportUsageDrift tells the contract monitor where usage and a provider's log differ, as
        violations of `metering/usage-drift`. The same finding told again, on another day and with
        another request_id too, is the same violation: it is kept once.
        """
        return self._caller.unary(_REPORT_USAGE_DRIFT, request, timeout)

    def get_event(
        self, request: metering_v1.GetEventRequest, *, timeout: float | None = None
    ) -> metering_v1.GetEventResponse:
        """GetEvent shows an event as it was sent, and what corrections made of it.

        Fails with NOT_FOUND when no event with this id was stored.
        """
        return self._caller.unary(_GET_EVENT, request, timeout)

    def list_events(
        self, request: metering_v1.ListEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListEventsResponse:
        """ListEvents lists the events of an organisation over a period as they count, in the order of
        event_time: what was amended as amended, and what was cancelled not at all. The pages are
        all as of the ordinal that the first was read at, so together they are what QueryUsage sums
        up at that ordinal.

        Fails with UNKNOWN_SKU and USAGE_ORDINAL_AHEAD as QueryUsage does.
        """
        return self._caller.unary(_LIST_EVENTS, request, timeout)

    def all_events(
        self, request: metering_v1.ListEventsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.EventContent]:
        """Yield the events of all pages of list_events, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.ListEventsRequest) -> metering_v1.ListEventsResponse:
            return self.list_events(asked, timeout=timeout)

        return items(page, request, "events", BY_TOKEN)

    def list_rejected_events(
        self, request: metering_v1.ListRejectedEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListRejectedEventsResponse:
        """ListRejectedEvents lists events that broke a rule, in the order of their receipts."""
        return self._caller.unary(_LIST_REJECTED_EVENTS, request, timeout)

    def all_rejected_events(
        self, request: metering_v1.ListRejectedEventsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.RejectedEvent]:
        """Yield the rejected_events of all pages of list_rejected_events, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.ListRejectedEventsRequest) -> metering_v1.ListRejectedEventsResponse:
            return self.list_rejected_events(asked, timeout=timeout)

        return items(page, request, "rejected_events", BY_TOKEN)

    def replay_rejected_events(
        self, request: metering_v1.ReplayRejectedEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ReplayRejectedEventsResponse:
        """ReplayRejectedEvents takes rejected events in after all, each once: what was taken in is
        replayed no more. They are judged anew, by the rules of now.

        Fails with NOT_FOUND when an id names no rejected event, and with DEPENDENCY_UNAVAILABLE as
        IngestEvents does.
        """
        return self._caller.unary(_REPLAY_REJECTED_EVENTS, request, timeout)

    def get_receipt(
        self, request: metering_v1.GetReceiptRequest, *, timeout: float | None = None
    ) -> metering_v1.GetReceiptResponse:
        """GetReceipt shows a receipt and proves its place in the tenant's log of receipts. The log is
        closed a moment behind ingest: until then the receipt is PENDING, and the same call later
        shows the same receipt with its proof.

        Fails with NOT_FOUND when there is no such receipt, USAGE_ORDINAL_AHEAD when the log does
        not have tree_size leaves yet, and RECEIPT_BEHIND_HEAD when the receipt came after that
        head.
        """
        return self._caller.unary(_GET_RECEIPT, request, timeout)

    def list_receipt_events(
        self, request: metering_v1.ListReceiptEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListReceiptEventsResponse:
        """ListReceiptEvents lists what a receipt accepted, in the order in which it is hashed.

        Fails with NOT_FOUND when there is no such receipt.
        """
        return self._caller.unary(_LIST_RECEIPT_EVENTS, request, timeout)

    def all_receipt_events(
        self, request: metering_v1.ListReceiptEventsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.ReceiptEvent]:
        """Yield the events of all pages of list_receipt_events, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.ListReceiptEventsRequest) -> metering_v1.ListReceiptEventsResponse:
            return self.list_receipt_events(asked, timeout=timeout)

        return items(page, request, "events", BY_TOKEN)

    def get_spooled_batch(
        self, request: metering_v1.GetSpooledBatchRequest, *, timeout: float | None = None
    ) -> metering_v1.GetSpooledBatchResponse:
        """GetSpooledBatch tells what became of a batch that was answered with ENQUEUED: it waits, or
        it was stored, with the verdicts that the call would have been answered with.

        Fails with NOT_FOUND when no batch was enqueued under this id, and with SPOOL_UNAVAILABLE
        when none was stored and the spool cannot be asked whether one waits.
        """
        return self._caller.unary(_GET_SPOOLED_BATCH, request, timeout)

    def get_log_head(
        self, request: metering_v1.GetLogHeadRequest, *, timeout: float | None = None
    ) -> metering_v1.GetLogHeadResponse:
        """GetLogHead tells the root of the log at a size: any that it ever had, the same for ever.

        Fails with USAGE_ORDINAL_AHEAD when the log does not have so many leaves yet.
        """
        return self._caller.unary(_GET_LOG_HEAD, request, timeout)

    def list_log_heads(
        self, request: metering_v1.ListLogHeadsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListLogHeadsResponse:
        """ListLogHeads lists the heads that the log was closed at, the newest first."""
        return self._caller.unary(_LIST_LOG_HEADS, request, timeout)

    def all_log_heads(
        self, request: metering_v1.ListLogHeadsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.LogHead]:
        """Yield the heads of all pages of list_log_heads, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.ListLogHeadsRequest) -> metering_v1.ListLogHeadsResponse:
            return self.list_log_heads(asked, timeout=timeout)

        return items(page, request, "heads", BY_TOKEN)

    def get_log_consistency(
        self, request: metering_v1.GetLogConsistencyRequest, *, timeout: float | None = None
    ) -> metering_v1.GetLogConsistencyResponse:
        """GetLogConsistency proves that nothing up to an older head was rewritten since.

        Fails with USAGE_ORDINAL_AHEAD when the log does not have so many leaves yet.
        """
        return self._caller.unary(_GET_LOG_CONSISTENCY, request, timeout)

    def verify_log(
        self, request: metering_v1.VerifyLogRequest, *, timeout: float | None = None
    ) -> metering_v1.VerifyLogResponse:
        """VerifyLog computes a stretch of the log again from the events that are stored, and tells
        what is not as it was logged. Each stretch is a snapshot of its own, and bounded. What it
        finds is told to the contract monitor too, as `metering/log-integrity`.
        """
        return self._caller.unary(_VERIFY_LOG, request, timeout)

    def all_verify_log(
        self, request: metering_v1.VerifyLogRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.LogFinding]:
        """Yield the findings of all pages of verify_log, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.VerifyLogRequest) -> metering_v1.VerifyLogResponse:
            return self.verify_log(asked, timeout=timeout)

        return items(page, request, "findings", BY_TOKEN)

    def verify_rollups(
        self, request: metering_v1.VerifyRollupsRequest, *, timeout: float | None = None
    ) -> metering_v1.VerifyRollupsResponse:
        """VerifyRollups computes a stretch of the rollups again from the events, and tells which
        buckets are not what their events come to. Each stretch is a snapshot of its own, and
        bounded. Hours that wait to be rolled up anew are left out: nothing reads their buckets.
        What it finds is told to the contract monitor too, as `metering/rollup-integrity`.
        """
        return self._caller.unary(_VERIFY_ROLLUPS, request, timeout)

    def all_verify_rollups(
        self, request: metering_v1.VerifyRollupsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.RollupFinding]:
        """Yield the findings of all pages of verify_rollups, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.VerifyRollupsRequest) -> metering_v1.VerifyRollupsResponse:
            return self.verify_rollups(asked, timeout=timeout)

        return items(page, request, "findings", BY_TOKEN)

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

        While the database is away a mesh with a spool answers ENQUEUED for every event: the batch
        is held durably, and stored with the same verdicts once the database is back.
        GetSpooledBatch tells them.

        Fails with BATCH_TOO_LARGE beyond 10,000 events, and with DEPENDENCY_UNAVAILABLE when an
        unknown SKU cannot be looked up; nothing of the batch is stored then. Fails with
        DATABASE_UNAVAILABLE while the database is away and there is no spool, and with
        SPOOL_UNAVAILABLE when there is one that cannot hold the batch now.
        """
        return await self._caller.unary(_INGEST_EVENTS, request, timeout)

    async def ingest_cloud_events(
        self, request: metering_v1.IngestCloudEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.IngestCloudEventsResponse:
        """IngestCloudEvents is IngestEvents for producers that send CloudEvents 1.0, with the same
        verdicts. Of each event `source` and `id`, joined by `|`, are the request_id, and beyond 128
        characters their SHA-256: `sha256:` and 64 hexadecimal digits. `subject` is the
        organisation, `time` the event_time, which is needed; `data` is an object whose `quantity`
        (a number or a decimal string), `sku` (`type` where it has none) and `project_id` are those
        of the event. Its other members, texts, numbers and booleans, are the metadata. Other
        attributes are checked, and not kept.

        Over REST all three modes are taken, by their Content-Type: one event in JSON
        (`application/cloudevents+json`), a batch in JSON (`application/cloudevents-batch+json`),
        and binary, where `ce-` headers hold the attributes and the body is the data.

        An event that is no sound CloudEvent is rejected alone, with CLOUD_EVENT_INVALID (an
        attribute, a `traceparent` that is none) or CLOUD_EVENT_UNSUPPORTED (`data_base64`, data
        that is no JSON); one whose data is no usage with INVALID_FIELD. Fails with
        CLOUD_EVENTS_CONTENT_TYPE for any other form, INVALID_FIELD for a body that is no JSON,
        EVENT_CHECK_TOO_COSTLY for one that takes too much work to read, and as IngestEvents does.
        """
        return await self._caller.unary(_INGEST_CLOUD_EVENTS, request, timeout)

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
        window, as of one ordinal: now, or one that an earlier answer named. The answer for an
        ordinal is the same for ever. Any aggregation can be asked for of any SKU, whatever the
        catalogue says of it. WEIGHTED_SUM also reads what was before the period: all that the
        organisation ever used of the SKUs.

        SUM, COUNT, AVG, MAX, MIN and LATEST are answered from rollups where these keep apart what
        is asked for (IngestSettings' rollup_keys), and from the events where they don't, as all
        other aggregations are. The rows are the same.

        Fails with UNKNOWN_SKU when a SKU that is asked for was neither used nor is in the
        catalogue, UNKNOWN_TIME_ZONE, AGGREGATION_UNSUPPORTED for one that this release does not
        know, USAGE_ORDINAL_AHEAD when nothing has the ordinal yet that is asked for, and
        USAGE_TOO_WIDE when the answer would have more than 10,000 windows or rows.
        """
        return await self._caller.unary(_QUERY_USAGE, request, timeout)

    async def list_late_events(
        self, request: metering_v1.ListLateEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListLateEventsResponse:
        """ListLateEvents lists the usage that was stored for a period after a charge had closed it, by
        organisation and the time from which it counts in the period: no charge bills it yet. That
        is its event_time, or the start of the period, where a level holds on into it
        (WEIGHTED_SUM); such an event is listed once for each charge that it counts in. `usage.late`
        and a violation of `metering/late-usage` tell of it once a charge. A closing is known here a
        moment after the charge was made.
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

    async def amend_events(
        self, request: metering_v1.AmendEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.AmendEventsResponse:
        """AmendEvents gives events another content. What was sent stays; usage from the receipt's
        ordinal on has the new content instead. For a period that a charge has closed the change is
        late usage. Sending the original event again answers DUPLICATE as before. Audited.

        An amendment of an unknown event is rejected with EVENT_NOT_FOUND, one of a cancelled event
        with EVENT_CANCELLED, one that adds more than a budget enforced in ingest has free with
        BUDGET_EXCEEDED. Budgets count the difference. Fails with BATCH_TOO_LARGE beyond 1,000
        amendments, and with SPOOL_NOT_DRAINED when it names an unknown event while batches of the
        tenant are enqueued: the event may be among theirs.
        """
        return await self._caller.unary(_AMEND_EVENTS, request, timeout)

    async def cancel_events(
        self, request: metering_v1.CancelEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.CancelEventsResponse:
        """CancelEvents has events count nowhere, from the receipt's ordinal on. What was sent stays,
        and its id with it: usage that is to count needs a new one. Audited.

        The id of an unknown event is rejected with EVENT_NOT_FOUND. Fails with BATCH_TOO_LARGE
        beyond 1,000 ids, and with SPOOL_NOT_DRAINED as AmendEvents does.
        """
        return await self._caller.unary(_CANCEL_EVENTS, request, timeout)

    async def list_stored_events(
        self, request: metering_v1.ListStoredEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListStoredEventsResponse:
        """ListStoredEvents lists the events of all organisations, as of one ordinal for all its pages,
        for whoever compares them with something else: those that were cancelled too, if asked for,
        and in no order of their times. A page may have no event although more follow.

        Fails with USAGE_ORDINAL_AHEAD when nothing has the ordinal yet that is asked for.
        """
        return await self._caller.unary(_LIST_STORED_EVENTS, request, timeout)

    def all_stored_events(
        self, request: metering_v1.ListStoredEventsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.StoredEvent]:
        """Yield the events of all pages of list_stored_events, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.ListStoredEventsRequest) -> metering_v1.ListStoredEventsResponse:
            return await self.list_stored_events(asked, timeout=timeout)

        return items_async(page, request, "events", BY_TOKEN)

    async def list_usage_orgs(
        self, request: metering_v1.ListUsageOrgsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListUsageOrgsResponse:
        """ListUsageOrgs lists the organisations that sent events of a period, by id, so that nobody's
        usage is left unbilled. An event counts as it was sent: what corrections made of it is in
        ListStoredEvents. A page may have no organisation although more follow.
        """
        return await self._caller.unary(_LIST_USAGE_ORGS, request, timeout)

    def all_usage_orgs(
        self, request: metering_v1.ListUsageOrgsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.UsageOrg]:
        """Yield the usage_orgs of all pages of list_usage_orgs, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.ListUsageOrgsRequest) -> metering_v1.ListUsageOrgsResponse:
            return await self.list_usage_orgs(asked, timeout=timeout)

        return items_async(page, request, "usage_orgs", BY_TOKEN)

    async def report_usage_drift(
        self, request: metering_v1.ReportUsageDriftRequest, *, timeout: float | None = None
    ) -> metering_v1.ReportUsageDriftResponse:
        """ReportUsageDrift tells the contract monitor where usage and a provider's log differ, as
        violations of `metering/usage-drift`. The same finding told again, on another day and with
        another request_id too, is the same violation: it is kept once.
        """
        return await self._caller.unary(_REPORT_USAGE_DRIFT, request, timeout)

    async def get_event(
        self, request: metering_v1.GetEventRequest, *, timeout: float | None = None
    ) -> metering_v1.GetEventResponse:
        """GetEvent shows an event as it was sent, and what corrections made of it.

        Fails with NOT_FOUND when no event with this id was stored.
        """
        return await self._caller.unary(_GET_EVENT, request, timeout)

    async def list_events(
        self, request: metering_v1.ListEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListEventsResponse:
        """ListEvents lists the events of an organisation over a period as they count, in the order of
        event_time: what was amended as amended, and what was cancelled not at all. The pages are
        all as of the ordinal that the first was read at, so together they are what QueryUsage sums
        up at that ordinal.

        Fails with UNKNOWN_SKU and USAGE_ORDINAL_AHEAD as QueryUsage does.
        """
        return await self._caller.unary(_LIST_EVENTS, request, timeout)

    def all_events(
        self, request: metering_v1.ListEventsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.EventContent]:
        """Yield the events of all pages of list_events, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.ListEventsRequest) -> metering_v1.ListEventsResponse:
            return await self.list_events(asked, timeout=timeout)

        return items_async(page, request, "events", BY_TOKEN)

    async def list_rejected_events(
        self, request: metering_v1.ListRejectedEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListRejectedEventsResponse:
        """ListRejectedEvents lists events that broke a rule, in the order of their receipts."""
        return await self._caller.unary(_LIST_REJECTED_EVENTS, request, timeout)

    def all_rejected_events(
        self, request: metering_v1.ListRejectedEventsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.RejectedEvent]:
        """Yield the rejected_events of all pages of list_rejected_events, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.ListRejectedEventsRequest) -> metering_v1.ListRejectedEventsResponse:
            return await self.list_rejected_events(asked, timeout=timeout)

        return items_async(page, request, "rejected_events", BY_TOKEN)

    async def replay_rejected_events(
        self, request: metering_v1.ReplayRejectedEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ReplayRejectedEventsResponse:
        """ReplayRejectedEvents takes rejected events in after all, each once: what was taken in is
        replayed no more. They are judged anew, by the rules of now.

        Fails with NOT_FOUND when an id names no rejected event, and with DEPENDENCY_UNAVAILABLE as
        IngestEvents does.
        """
        return await self._caller.unary(_REPLAY_REJECTED_EVENTS, request, timeout)

    async def get_receipt(
        self, request: metering_v1.GetReceiptRequest, *, timeout: float | None = None
    ) -> metering_v1.GetReceiptResponse:
        """GetReceipt shows a receipt and proves its place in the tenant's log of receipts. The log is
        closed a moment behind ingest: until then the receipt is PENDING, and the same call later
        shows the same receipt with its proof.

        Fails with NOT_FOUND when there is no such receipt, USAGE_ORDINAL_AHEAD when the log does
        not have tree_size leaves yet, and RECEIPT_BEHIND_HEAD when the receipt came after that
        head.
        """
        return await self._caller.unary(_GET_RECEIPT, request, timeout)

    async def list_receipt_events(
        self, request: metering_v1.ListReceiptEventsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListReceiptEventsResponse:
        """ListReceiptEvents lists what a receipt accepted, in the order in which it is hashed.

        Fails with NOT_FOUND when there is no such receipt.
        """
        return await self._caller.unary(_LIST_RECEIPT_EVENTS, request, timeout)

    def all_receipt_events(
        self, request: metering_v1.ListReceiptEventsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.ReceiptEvent]:
        """Yield the events of all pages of list_receipt_events, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.ListReceiptEventsRequest) -> metering_v1.ListReceiptEventsResponse:
            return await self.list_receipt_events(asked, timeout=timeout)

        return items_async(page, request, "events", BY_TOKEN)

    async def get_spooled_batch(
        self, request: metering_v1.GetSpooledBatchRequest, *, timeout: float | None = None
    ) -> metering_v1.GetSpooledBatchResponse:
        """GetSpooledBatch tells what became of a batch that was answered with ENQUEUED: it waits, or
        it was stored, with the verdicts that the call would have been answered with.

        Fails with NOT_FOUND when no batch was enqueued under this id, and with SPOOL_UNAVAILABLE
        when none was stored and the spool cannot be asked whether one waits.
        """
        return await self._caller.unary(_GET_SPOOLED_BATCH, request, timeout)

    async def get_log_head(
        self, request: metering_v1.GetLogHeadRequest, *, timeout: float | None = None
    ) -> metering_v1.GetLogHeadResponse:
        """GetLogHead tells the root of the log at a size: any that it ever had, the same for ever.

        Fails with USAGE_ORDINAL_AHEAD when the log does not have so many leaves yet.
        """
        return await self._caller.unary(_GET_LOG_HEAD, request, timeout)

    async def list_log_heads(
        self, request: metering_v1.ListLogHeadsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListLogHeadsResponse:
        """ListLogHeads lists the heads that the log was closed at, the newest first."""
        return await self._caller.unary(_LIST_LOG_HEADS, request, timeout)

    def all_log_heads(
        self, request: metering_v1.ListLogHeadsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.LogHead]:
        """Yield the heads of all pages of list_log_heads, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.ListLogHeadsRequest) -> metering_v1.ListLogHeadsResponse:
            return await self.list_log_heads(asked, timeout=timeout)

        return items_async(page, request, "heads", BY_TOKEN)

    async def get_log_consistency(
        self, request: metering_v1.GetLogConsistencyRequest, *, timeout: float | None = None
    ) -> metering_v1.GetLogConsistencyResponse:
        """GetLogConsistency proves that nothing up to an older head was rewritten since.

        Fails with USAGE_ORDINAL_AHEAD when the log does not have so many leaves yet.
        """
        return await self._caller.unary(_GET_LOG_CONSISTENCY, request, timeout)

    async def verify_log(
        self, request: metering_v1.VerifyLogRequest, *, timeout: float | None = None
    ) -> metering_v1.VerifyLogResponse:
        """VerifyLog computes a stretch of the log again from the events that are stored, and tells
        what is not as it was logged. Each stretch is a snapshot of its own, and bounded. What it
        finds is told to the contract monitor too, as `metering/log-integrity`.
        """
        return await self._caller.unary(_VERIFY_LOG, request, timeout)

    def all_verify_log(
        self, request: metering_v1.VerifyLogRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.LogFinding]:
        """Yield the findings of all pages of verify_log, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.VerifyLogRequest) -> metering_v1.VerifyLogResponse:
            return await self.verify_log(asked, timeout=timeout)

        return items_async(page, request, "findings", BY_TOKEN)

    async def verify_rollups(
        self, request: metering_v1.VerifyRollupsRequest, *, timeout: float | None = None
    ) -> metering_v1.VerifyRollupsResponse:
        """VerifyRollups computes a stretch of the rollups again from the events, and tells which
        buckets are not what their events come to. Each stretch is a snapshot of its own, and
        bounded. Hours that wait to be rolled up anew are left out: nothing reads their buckets.
        What it finds is told to the contract monitor too, as `metering/rollup-integrity`.
        """
        return await self._caller.unary(_VERIFY_ROLLUPS, request, timeout)

    def all_verify_rollups(
        self, request: metering_v1.VerifyRollupsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.RollupFinding]:
        """Yield the findings of all pages of verify_rollups, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.VerifyRollupsRequest) -> metering_v1.VerifyRollupsResponse:
            return await self.verify_rollups(asked, timeout=timeout)

        return items_async(page, request, "findings", BY_TOKEN)

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
