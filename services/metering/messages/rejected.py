"""Rejected events, as messages and back."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Literal

from payments.errors.v1 import errors_pb2
from payments.metering.v1 import corrections_pb2, metering_pb2

from services.metering.domain.receipts import RECEIPT_PREFIX
from services.metering.domain.rejected import RejectedEvent, RejectedFilter, RejectedId, Replayed
from services.metering.messages.usage import problem_of
from services.runtime.edge.values import moment_of
from services.runtime.errors import InvalidField

_FIXED: tuple[Literal["org_id", "project_id", "sku", "quantity"], ...]
_FIXED = ("org_id", "project_id", "sku", "quantity")
_REASONS = frozenset(
    name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()[1:]
)
_Asking = corrections_pb2.ListRejectedEventsRequest | corrections_pb2.ReplayRejectedEventsRequest


def _no_reason(asked: str) -> str:
    near = get_close_matches(asked, _REASONS, n=1)
    meant = f"did you mean {near[0]}?" if near else "such as UNKNOWN_SKU"
    return f"{asked} is no reason of an error, {meant}"


def to_filter(request: _Asking, *, include_replayed: bool = False) -> RejectedFilter:
    """Read which rejected events are asked for.

    Raises:
        InvalidField: the reason is none that any error has.
    """
    if request.reason and request.reason not in _REASONS:
        raise InvalidField.one("reason", _no_reason(request.reason))
    bounded = request.HasField("period")
    return RejectedFilter(
        org_id=request.org_id,
        sku=request.sku,
        reason=request.reason,
        start_at=moment_of(request.period.start_at) if bounded else None,
        end_at=moment_of(request.period.end_at) if bounded else None,
        include_replayed=include_replayed,
    )


def asked(
    request: corrections_pb2.ReplayRejectedEventsRequest,
) -> tuple[list[RejectedId], RejectedFilter]:
    """Read which rejected events are to be replayed.

    Raises:
        InvalidField: both ids and a filter name them, or neither does, or the filter's reason is none.
    """
    wanted = to_filter(request)
    if bool(request.events) == (wanted != RejectedFilter()):
        raise InvalidField.one(
            "events",
            "name rejected events by events or by a filter (org_id, sku, reason, period), by one of the two",
        )
    ids = [
        RejectedId(item.receipt_id.removeprefix(RECEIPT_PREFIX), item.index)
        for item in request.events
    ]
    return ids, wanted


def fixed(
    found: Sequence[RejectedEvent], fix: corrections_pb2.EventFix
) -> list[metering_pb2.UsageEvent]:
    """Read the events out of what is kept of them, corrected."""
    return [_fixed(metering_pb2.UsageEvent.FromString(item.content), fix) for item in found]


def _fixed(
    event: metering_pb2.UsageEvent, fix: corrections_pb2.EventFix
) -> metering_pb2.UsageEvent:
    for name in _FIXED:
        if fix.HasField(name):
            setattr(event, name, getattr(fix, name))
    if fix.HasField("event_time"):
        event.event_time.CopyFrom(fix.event_time)
    for key in fix.drop_metadata:
        event.metadata.pop(key, None)
    return event


def rejected_event(rejected: RejectedEvent) -> corrections_pb2.RejectedEvent:
    """Write a rejected event; a time that is none, which JSON could not say, is left out."""
    content = metering_pb2.EventContent.FromString(rejected.content)
    try:
        content.event_time.ToJsonString()
    except ValueError:
        content.ClearField("event_time")
    message = corrections_pb2.RejectedEvent(
        receipt_id=f"{RECEIPT_PREFIX}{rejected.place.receipt_id}",
        index=rejected.place.index,
        event=content,
        reason=rejected.reason,
        message=rejected.message,
        replayed_receipt_id=rejected.replayed_receipt_id or "",
    )
    message.rejected_at.FromDatetime(rejected.rejected_at)
    return message


def replayed(done: Replayed) -> corrections_pb2.ReplayRejectedEventsResponse:
    """Write what became of rejected events."""
    response = corrections_pb2.ReplayRejectedEventsResponse(
        events=[
            corrections_pb2.RejectedEventId(
                receipt_id=f"{RECEIPT_PREFIX}{place.receipt_id}", index=place.index
            )
            for place in done.places
        ]
    )
    if done.receipt is not None:
        receipt = done.receipt
        response.accepted, response.duplicate = receipt.accepted, receipt.duplicate
        response.conflict, response.rejected = receipt.conflict, receipt.rejected
        response.receipt_id = receipt.receipt_id
        response.problems.extend(map(problem_of, receipt.problems))
    return response
