"""Corrections and versions of events, as messages and back."""

from __future__ import annotations

from collections.abc import Sequence

from payments.metering.v1 import corrections_pb2, metering_pb2

from services.metering.domain.corrections import (
    Correction,
    CorrectionBatch,
    EventVersion,
    named_twice,
)
from services.metering.domain.events import EventContent, Policy, digest
from services.metering.domain.receipts import Problem, Receipt, Verdict
from services.metering.messages import intake
from services.metering.messages.usage import problem_of
from services.runtime.cards import remark
from services.runtime.edge.validation import violations
from services.runtime.errors import InvalidField
from services.runtime.money import format_decimal


def skus_of(amendments: Sequence[corrections_pb2.EventAmendment]) -> set[str]:
    """Return the SKUs that amendments name, valid or not."""
    return {amendment.event.sku for amendment in amendments}


async def judge(
    amendments: Sequence[corrections_pb2.EventAmendment], policy: Policy
) -> CorrectionBatch:
    """Judge every amendment of a batch by the rules of events."""
    batch = await intake.judge([amendment.event for amendment in amendments], policy)
    problems = [
        Problem(item.index, item.request_id, Verdict.REJECTED, item.reason, item.message)
        for item in batch.rejections
    ]
    problems += [named_twice(repeat.index, repeat.request_id) for repeat in batch.repeats]
    items = []
    for row in batch.rows:
        request_id, *_, key, _ = row
        index = batch.first_index[request_id]
        reason = amendments[index].reason
        if len(reason) > REASON_CHARS_MAX or "\0" in reason:
            problems.append(_unfit(index, request_id))
        else:
            items.append(Correction(index, request_id, key, row, remark(reason)))
    return CorrectionBatch(len(amendments), items, problems)


REASON_CHARS_MAX = 500


def _unfit(index: int, request_id: str) -> Problem:
    told = f"reason has at most {REASON_CHARS_MAX} characters, none of them NUL"
    return Problem(index, request_id, Verdict.REJECTED, InvalidField.reason, told)


def cancellations(request: corrections_pb2.CancelEventsRequest) -> CorrectionBatch:
    """Read which events are to be cancelled."""
    problems: list[Problem] = []
    items: dict[str, Correction] = {}
    reason = remark(request.reason)
    for index, request_id in enumerate(request.request_ids):
        broken = violations(corrections_pb2.GetEventRequest(event_id=request_id))
        if broken:
            told = InvalidField.of(broken).message
            kept = request_id[:128]
            problems.append(Problem(index, kept, Verdict.REJECTED, InvalidField.reason, told))
        elif request_id in items:
            problems.append(named_twice(index, request_id))
        else:
            key = digest(request_id)
            items[request_id] = Correction(index, request_id, key, None, reason)
    return CorrectionBatch(len(request.request_ids), list(items.values()), problems)


def amended(receipt: Receipt) -> corrections_pb2.AmendEventsResponse:
    """Write the receipt of a batch of amendments."""
    return corrections_pb2.AmendEventsResponse(
        accepted=receipt.accepted,
        duplicate=receipt.duplicate,
        rejected=receipt.rejected,
        receipt_id=receipt.receipt_id,
        problems=map(problem_of, receipt.problems),
    )


def cancelled(receipt: Receipt) -> corrections_pb2.CancelEventsResponse:
    """Write the receipt of a batch of cancellations."""
    return corrections_pb2.CancelEventsResponse(
        accepted=receipt.accepted,
        duplicate=receipt.duplicate,
        rejected=receipt.rejected,
        receipt_id=receipt.receipt_id,
        problems=map(problem_of, receipt.problems),
    )


def content(said: EventContent) -> metering_pb2.EventContent:
    """Write the content of an event."""
    message = metering_pb2.EventContent(
        request_id=said.request_id,
        org_id=said.org_id,
        project_id=said.project_id,
        sku=said.sku,
        quantity=format_decimal(said.quantity),
        source=said.source,  # type: ignore[arg-type] # stored as the number that came
        metadata=said.metadata,
    )
    message.event_time.FromDatetime(said.event_time)
    return message


def version(stored: EventVersion) -> corrections_pb2.EventVersion:
    """Write a version of an event."""
    message = corrections_pb2.EventVersion(
        version=stored.version,
        event=content(stored.content),
        cancelled=stored.cancelled,
        reason=stored.reason,
        receipt_id=stored.receipt_id,
        ordinal=stored.ordinal,
        recorded_by=stored.recorded_by,
    )
    message.recorded_at.FromDatetime(stored.recorded_at)
    return message
