"""MeteringService: proto to domain and back, one method an RPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from payments.metering.v1 import (
    corrections_pb2,
    drift_pb2,
    metering_service_pb2,
    metering_service_pb2_grpc,
    receipts_pb2,
    rollups_pb2,
    spool_pb2,
)

from services.metering.adapters.held import Requests
from services.metering.app import drift
from services.metering.app.corrections import Corrections, carry_out
from services.metering.app.listing import Listing
from services.metering.app.log import BEYOND_ALL, ReceiptLog
from services.metering.app.metering import Metering
from services.metering.app.rejected import Rejected, replay
from services.metering.app.rollups import Rollups
from services.metering.app.spooling import Spooling
from services.metering.app.usage import Usages
from services.metering.domain.corrections import CORRECTIONS_MAX
from services.metering.domain.late import LatePlace
from services.metering.domain.listing import LAST_SKU, ListPlace, OrgPlace
from services.metering.domain.rejected import RejectedId
from services.metering.domain.rollups import VerifyPlace
from services.metering.domain.spool import HeldCall
from services.metering.domain.usage import EventPlace
from services.metering.messages import cloudevents, intake, listing
from services.metering.messages import corrections as corrected
from services.metering.messages import drift as drift_messages
from services.metering.messages import late as late_messages
from services.metering.messages import log as log_messages
from services.metering.messages import rejected as rejected_messages
from services.metering.messages import rollups as rollup_messages
from services.metering.messages import spool as spool_messages
from services.metering.messages import usage as messages
from services.runtime.commands import Commands, UseCase
from services.runtime.context import acting, current
from services.runtime.edge.paging import Int32, Page, encode_token, fitting
from services.runtime.edge.validation import check_batch
from services.runtime.pipelining import in_order
from services.runtime.turns import in_slices

IN_FLIGHT_MAX = 4
"""Batches of one stream that are worked on at a time: enough to keep the database busy meanwhile."""
BATCH_SECONDS = 30.0
"""What one batch of a stream may take. A stream as a whole may last as long as it likes."""
LATE_PLACE = {"org_id": str, "at": datetime, "key": UUID, "version": Int32}
LIST_PLACE = {
    "ordinal": int,
    "corrected": int,
    "org_id": str,
    "sku": str,
    "at": datetime,
    "key": UUID,
}
ORG_PLACE = {"org_id": str, "sku": str}
EVENT_PLACE = {"at": datetime, "key": UUID, "ordinal": int}
EVENTS_ON_PAGE_MAX = 10_000
SLICE_ROWS = 100
"""Rows of an answer that are written before others have their turn."""


class MeteringServicer(metering_service_pb2_grpc.MeteringServiceServicer):
    """Answers MeteringService."""

    def __init__(
        self,
        metering: Metering,
        usages: Usages,
        corrections: Corrections,
        rejected: Rejected,
        listing_: Listing,
        requests: Requests,
        spooling: Spooling,
        log: ReceiptLog,
        rollups: Rollups,
        commands: Commands,
    ) -> None:
        self._metering = metering
        self._usages = usages
        self._corrections = corrections
        self._rejected = rejected
        self._listing = listing_
        self._requests = requests
        self._spooling = spooling
        self._report_drift = UseCase(
            "metering.report_usage_drift",
            drift.report,
            drift_messages.reported,
            drift_pb2.ReportUsageDriftResponse,
        )
        self._log = log
        self._rollups = rollups
        self._replay = UseCase(
            "metering.replay_rejected",
            replay,
            rejected_messages.replayed,
            corrections_pb2.ReplayRejectedEventsResponse,
        )
        self._commands = commands
        self._amend = UseCase(
            "metering.amend_events",
            carry_out,
            corrected.amended,
            corrections_pb2.AmendEventsResponse,
        )
        self._cancel = UseCase(
            "metering.cancel_events",
            carry_out,
            corrected.cancelled,
            corrections_pb2.CancelEventsResponse,
        )
        self._change_settings = UseCase(
            "metering.update_ingest_settings",
            metering.change_settings,
            messages.settings_changed,
            metering_service_pb2.UpdateIngestSettingsResponse,
        )

    async def IngestEvents(
        self, request: metering_service_pb2.IngestEventsRequest, context: Any
    ) -> metering_service_pb2.IngestEventsResponse:
        """Store a batch; a verdict an event."""
        return await self._ingest(request)

    async def IngestCloudEvents(
        self, request: metering_service_pb2.IngestCloudEventsRequest, context: Any
    ) -> metering_service_pb2.IngestCloudEventsResponse:
        """Store a batch of CloudEvents; a verdict an event."""
        read = await self._requests.cloud_events(request)
        content = partial(_bytes, request)
        return cloudevents.receipt(await self._spooling.take(HeldCall.CLOUD_EVENTS, content, read))

    async def StreamEvents(
        self,
        request_iterator: AsyncIterator[metering_service_pb2.StreamEventsRequest],
        context: Any,
    ) -> AsyncIterator[metering_service_pb2.StreamEventsResponse]:
        """Store the batches of a stream, several at a time; answer in order."""
        answers = in_order(request_iterator, self._ingest_of_stream, IN_FLIGHT_MAX)
        async with aclosing(answers):
            async for answer in answers:
                yield metering_service_pb2.StreamEventsResponse(result=answer)

    async def QueryUsage(
        self, request: metering_service_pb2.QueryUsageRequest, context: Any
    ) -> metering_service_pb2.QueryUsageResponse:
        """Aggregate usage."""
        usage = await self._usages.query(messages.query(request))
        response = metering_service_pb2.QueryUsageResponse(
            usage_snapshot=usage.snapshot,
            usage_ordinal=usage.ordinal,
            usage_log_root=usage.log_root.hex() if usage.log_root else "",
            rollup_ordinal=usage.rolled_ordinal,
        )
        if usage.recorded_at is not None:
            response.usage_recorded_at.FromDatetime(usage.recorded_at)
        async for row in in_slices(usage.rows, SLICE_ROWS):
            response.rows.append(messages.usage_row(row))
        return response

    async def ListEvents(
        self, request: metering_service_pb2.ListEventsRequest, context: Any
    ) -> metering_service_pb2.ListEventsResponse:
        """List the events that count."""
        wanted = messages.events_query(request)
        page = Page.of(request, f"events|{wanted}", EVENT_PLACE, maximum=EVENTS_ON_PAGE_MAX)
        after = None
        if page.after:
            after = EventPlace(page.after["at"], page.after["key"])
        ordinal = await self._usages.reached(page.after.get("ordinal", wanted.at_ordinal))
        found = await self._usages.events(wanted, ordinal, after, page.limit)

        events, token = await page.cut(
            found,
            lambda item: corrected.content(item[1]),
            lambda last: {
                "at": last[0].event_time.isoformat(),
                "key": str(last[0].event_key),
                "ordinal": ordinal,
            },
        )
        return metering_service_pb2.ListEventsResponse(
            events=events, next_page_token=token, usage_ordinal=ordinal
        )

    async def ListLateEvents(
        self, request: metering_service_pb2.ListLateEventsRequest, context: Any
    ) -> metering_service_pb2.ListLateEventsResponse:
        """List usage that was stored for closed periods."""
        wanted = late_messages.late_filter(request)
        page = Page.of(request, f"late|{wanted}", LATE_PLACE)
        after = None
        if page.after:
            place = page.after
            after = LatePlace(place["org_id"], place["at"], str(place["key"]), place["version"])
        found = await self._metering.list_late(wanted, after, page.limit)
        late, token = await page.cut(
            found,
            late_messages.late_event,
            lambda last: {
                "org_id": last.place.org_id,
                "at": last.place.event_time.isoformat(),
                "key": last.place.event_key,
                "version": last.place.version,
            },
        )
        return metering_service_pb2.ListLateEventsResponse(late_events=late, next_page_token=token)

    async def ListStoredEvents(
        self, request: drift_pb2.ListStoredEventsRequest, context: Any
    ) -> drift_pb2.ListStoredEventsResponse:
        """List events as they count, as of one ordinal."""
        asked = listing.asked(request)
        at_ordinal = request.at_ordinal if request.HasField("at_ordinal") else None
        page = Page.of(request, f"stored|{asked}|{at_ordinal}", LIST_PLACE)
        after = ListPlace()
        if page.after:
            place = page.after
            at_ordinal = place["ordinal"]
            after = ListPlace(
                bool(place["corrected"]),
                place["org_id"],
                place["sku"],
                place["at"],
                str(place["key"]),
            )
        ordinal = await self._listing.ordinal(at_ordinal)
        found = await self._listing.page(asked, ordinal, after, page.size)
        events = fitting(map(listing.stored_event, found.events))
        end = found.end
        if len(events) < len(found.events):
            end = found.events[len(events) - 1].place
        token = page.token([end], partial(_list_place, ordinal), more=True) if end else ""
        return drift_pb2.ListStoredEventsResponse(
            events=events, next_page_token=token, usage_ordinal=ordinal
        )

    async def ListUsageOrgs(
        self, request: metering_service_pb2.ListUsageOrgsRequest, context: Any
    ) -> metering_service_pb2.ListUsageOrgsResponse:
        """List the organisations that sent events of a period."""
        start_at, end_at = listing.bounds(request.period)
        page = Page.of(request, f"orgs|{start_at}|{end_at}", ORG_PLACE)
        after = OrgPlace(page.after["org_id"], page.after["sku"]) if page.after else OrgPlace()
        found = await self._listing.orgs(start_at, end_at, after, page.size)
        orgs = fitting(metering_service_pb2.UsageOrg(org_id=each) for each in found.org_ids)
        end = found.end
        if len(orgs) < len(found.org_ids):
            end = OrgPlace(orgs[-1].org_id, LAST_SKU)
        token = page.token([end], asdict, more=True) if end else ""
        return metering_service_pb2.ListUsageOrgsResponse(usage_orgs=orgs, next_page_token=token)

    async def ReportUsageDrift(
        self, request: drift_pb2.ReportUsageDriftRequest, context: Any
    ) -> drift_pb2.ReportUsageDriftResponse:
        """Tell the contract monitor where usage and a provider's log differ."""
        command = drift_messages.to_report(request)
        return await self._commands.run(self._report_drift, command, request)

    async def AmendEvents(
        self, request: corrections_pb2.AmendEventsRequest, context: Any
    ) -> corrections_pb2.AmendEventsResponse:
        """Give events another content."""
        check_batch(request.amendments, CORRECTIONS_MAX, field="amendments")
        judge = partial(corrected.judge, request.amendments)
        skus = corrected.skus_of(request.amendments)
        return await self._corrections.amend(self._amend, request, skus, judge)

    async def CancelEvents(
        self, request: corrections_pb2.CancelEventsRequest, context: Any
    ) -> corrections_pb2.CancelEventsResponse:
        """Have events count nowhere."""
        check_batch(request.request_ids, CORRECTIONS_MAX, field="request_ids")
        batch = corrected.cancellations(request)
        return await self._corrections.cancel(self._cancel, request, batch)

    async def GetEvent(
        self, request: corrections_pb2.GetEventRequest, context: Any
    ) -> corrections_pb2.GetEventResponse:
        """Show the versions of an event."""
        versions = await self._corrections.event(request.event_id)
        return corrections_pb2.GetEventResponse(versions=map(corrected.version, versions))

    async def ListRejectedEvents(
        self, request: corrections_pb2.ListRejectedEventsRequest, context: Any
    ) -> corrections_pb2.ListRejectedEventsResponse:
        """List events that broke a rule."""
        wanted = rejected_messages.to_filter(request, include_replayed=request.include_replayed)
        page = Page.of(request, f"rejected|{wanted}", {"receipt": UUID, "index": Int32})
        after = None
        if page.after:
            after = RejectedId(str(page.after["receipt"]), page.after["index"])
        found = await self._rejected.list(wanted, after, page.limit)
        events, token = await page.cut(
            found,
            rejected_messages.rejected_event,
            lambda last: {"receipt": last.place.receipt_id, "index": last.place.index},
        )
        return corrections_pb2.ListRejectedEventsResponse(
            rejected_events=events, next_page_token=token
        )

    async def ReplayRejectedEvents(
        self, request: corrections_pb2.ReplayRejectedEventsRequest, context: Any
    ) -> corrections_pb2.ReplayRejectedEventsResponse:
        """Take rejected events in after all."""
        found = await self._rejected.find(*rejected_messages.asked(request))
        events = rejected_messages.fixed(found, request.fix)
        judge = partial(intake.judge, events)
        refuse = partial(intake.refuse, events)
        skus = intake.skus_of(events)
        return await self._rejected.replay(self._replay, request, found, skus, judge, refuse)

    async def GetReceipt(
        self, request: receipts_pb2.GetReceiptRequest, context: Any
    ) -> receipts_pb2.GetReceiptResponse:
        """Show a receipt with its proof."""
        proof = await self._log.receipt(request.receipt_id, request.tree_size)
        return receipts_pb2.GetReceiptResponse(
            receipt=log_messages.receipt(current().tenant_id, proof)
        )

    async def ListReceiptEvents(
        self, request: receipts_pb2.ListReceiptEventsRequest, context: Any
    ) -> receipts_pb2.ListReceiptEventsResponse:
        """List what a receipt accepted."""
        page = Page.of(request, f"receipt-events|{request.receipt_id}", {"key": UUID})
        after = str(page.after["key"]) if page.after else None
        found = await self._log.events(request.receipt_id, after, page.limit)
        events, token = await page.cut(
            found, log_messages.receipt_event, lambda last: {"key": str(UUID(last.event_key))}
        )
        return receipts_pb2.ListReceiptEventsResponse(events=events, next_page_token=token)

    async def GetSpooledBatch(
        self, request: spool_pb2.GetSpooledBatchRequest, context: Any
    ) -> spool_pb2.GetSpooledBatchResponse:
        """Tell what became of a batch that was enqueued."""
        found = await self._spooling.batch(request.receipt_id)
        return spool_pb2.GetSpooledBatchResponse(spooled_batch=spool_messages.batch(found))

    async def GetLogHead(
        self, request: receipts_pb2.GetLogHeadRequest, context: Any
    ) -> receipts_pb2.GetLogHeadResponse:
        """Tell the root of the log at a size."""
        found = await self._log.head(request.tree_size)
        return receipts_pb2.GetLogHeadResponse(head=log_messages.head(current().tenant_id, found))

    async def ListLogHeads(
        self, request: receipts_pb2.ListLogHeadsRequest, context: Any
    ) -> receipts_pb2.ListLogHeadsResponse:
        """List the heads that the log was closed at."""
        page = Page.of(request, "log-heads", {"size": int})
        before = page.after["size"] if page.after else BEYOND_ALL
        heads, token = await page.cut(
            await self._log.heads(before, page.limit),
            partial(log_messages.head, current().tenant_id),
            lambda last: {"size": last.tree_size},
        )
        return receipts_pb2.ListLogHeadsResponse(heads=heads, next_page_token=token)

    async def GetLogConsistency(
        self, request: receipts_pb2.GetLogConsistencyRequest, context: Any
    ) -> receipts_pb2.GetLogConsistencyResponse:
        """Prove that nothing up to an older head was rewritten."""
        found = await self._log.consistency(request.first_tree_size, request.second_tree_size)
        return log_messages.consistency(current().tenant_id, found)

    async def VerifyLog(
        self, request: receipts_pb2.VerifyLogRequest, context: Any
    ) -> receipts_pb2.VerifyLogResponse:
        """Compute a stretch of the log again."""
        page = Page.of(request, "verify-log", {"ordinal": int})
        found = await self._log.verify(page.after["ordinal"] if page.after else 0, page.size)
        token = ""
        if found.last_ordinal is not None:
            token = encode_token({"ordinal": found.last_ordinal}, page.scope)
        return receipts_pb2.VerifyLogResponse(
            findings=fitting(map(log_messages.finding, found.findings)),
            receipts=found.receipts,
            events=found.events,
            next_page_token=token,
        )

    async def VerifyRollups(
        self, request: rollups_pb2.VerifyRollupsRequest, context: Any
    ) -> rollups_pb2.VerifyRollupsResponse:
        """Compute a stretch of the rollups again."""
        page = Page.of(request, "verify-rollups", {"org_id": str, "sku": str, "at": datetime})
        after = None
        if page.after:
            after = VerifyPlace(page.after["org_id"], page.after["sku"], page.after["at"])
        found = await self._rollups.verify(after, page.size)
        token = ""
        if found.end is not None:
            end = found.end
            place = {"org_id": end.org_id, "sku": end.sku, "at": end.from_at.isoformat()}
            token = encode_token(place, page.scope)
        return rollups_pb2.VerifyRollupsResponse(
            findings=fitting(map(rollup_messages.finding, found.findings)),
            hours=found.hours,
            events=found.events,
            next_page_token=token,
            rollup_ordinal=found.rolled_ordinal,
        )

    async def GetIngestSettings(
        self, request: metering_service_pb2.GetIngestSettingsRequest, context: Any
    ) -> metering_service_pb2.GetIngestSettingsResponse:
        """Tell how far from now events may lie."""
        settings = await self._metering.ingest_settings()
        return metering_service_pb2.GetIngestSettingsResponse(
            ingest_settings=messages.settings(settings)
        )

    async def UpdateIngestSettings(
        self, request: metering_service_pb2.UpdateIngestSettingsRequest, context: Any
    ) -> metering_service_pb2.UpdateIngestSettingsResponse:
        """Set how far from now events may lie."""
        command = messages.to_change_settings(request)
        return await self._commands.run(self._change_settings, command, request)

    async def _ingest(
        self, request: metering_service_pb2.IngestEventsRequest
    ) -> metering_service_pb2.IngestEventsResponse:
        read = self._requests.events(request)
        receipt = await self._spooling.take(HeldCall.EVENTS, partial(_bytes, request), read)
        return messages.receipt(receipt)

    async def _ingest_of_stream(
        self, request: metering_service_pb2.StreamEventsRequest
    ) -> metering_service_pb2.IngestEventsResponse:
        call = replace(current(), deadline_at=time.monotonic() + BATCH_SECONDS)
        with acting(call):
            async with asyncio.timeout(BATCH_SECONDS):
                return await self._ingest(request.batch)


def _bytes(request: Message) -> bytes:
    """Write a request; the same one in the same way."""
    return request.SerializeToString(deterministic=True)


def _list_place(ordinal: int, place: ListPlace) -> dict[str, str | int]:
    return {
        "ordinal": ordinal,
        "corrected": int(place.corrected),
        "org_id": place.org_id,
        "sku": place.sku,
        "at": place.at.isoformat(),
        "key": place.key,
    }
