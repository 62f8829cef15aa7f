"""Usage events out of CloudEvents: what each attribute and each member of the data is.

What is read is read exactly: a quantity is the digits that its sender wrote. What cannot be read is a fault of its own
event, which is handed on with what could be read of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from payments.metering.v1 import metering_pb2, metering_service_pb2

from services.metering.domain.events import Batch, Policy
from services.metering.domain.receipts import Receipt
from services.metering.messages import intake
from services.metering.messages.usage import problem_of
from services.runtime.cloudevents import CloudEventInvalid, ReadCloudEvent
from services.runtime.errors import DomainError, InvalidField
from services.runtime.json_cuts import Fault
from services.runtime.strict_json import DECODER, explain, pointer
from services.runtime.telemetry import read_traceparent

REQUEST_ID_CHARS_MAX = 128
SEPARATOR = "|"
"""Between source and id: no URI has it, so that no two pairs make one request_id."""
DATA_BYTES_MAX = 64 * 1024
"""Of one event: ten times what the largest that is taken needs."""
_TEXTS = ("sku", "project_id")
_OWN = frozenset({*_TEXTS, "quantity"})
_KEPT_CHARS_MAX = 256


@dataclass(slots=True)
class ReadBatch:
    """Usage events of a batch of CloudEvents.

    Attributes:
        faults: why events could not be read, by their position; what stands there is what could be read of them.
    """

    events: list[metering_pb2.UsageEvent] = field(default_factory=list)
    faults: dict[int, DomainError] = field(default_factory=dict)

    @property
    def skus(self) -> set[str]:
        """The SKUs of what could be read."""
        return intake.skus_of(
            [event for at, event in enumerate(self.events) if at not in self.faults]
        )


def usage_events(found: Sequence[ReadCloudEvent | Fault]) -> ReadBatch:
    """Make usage events of CloudEvents."""
    batch = ReadBatch()
    for index, item in enumerate(found):
        event = metering_pb2.UsageEvent()
        try:
            if isinstance(item, Fault):
                event.request_id = item.event_id
                raise item.error
            _fill(event, item)
        except DomainError as error:
            batch.faults[index] = error
        except (ValueError, RecursionError) as error:
            batch.faults[index] = InvalidField.one("data", explain(error), "/data")
        if index in batch.faults:
            event.unreadable = batch.faults[index].message[:500]
        batch.events.append(event)
    return batch


async def judge(read: ReadBatch, policy: Policy) -> Batch:
    """Judge the events of a batch by the rules of events; those that could not be read are refused for that."""
    batch = await intake.judge(read.events, policy)
    batch.rejections = [
        replace(item, reason=fault.reason, message=fault.message)
        if (fault := read.faults.get(item.index))
        else item
        for item in batch.rejections
    ]
    return batch


def receipt(stored: Receipt) -> metering_service_pb2.IngestCloudEventsResponse:
    """Write the receipt of a batch."""
    response = metering_service_pb2.IngestCloudEventsResponse(
        accepted=stored.accepted,
        duplicate=stored.duplicate,
        conflict=stored.conflict,
        rejected=stored.rejected,
        receipt_id=stored.receipt_id,
        enqueued=stored.enqueued,
    )
    response.problems.extend(map(problem_of, stored.problems))
    return response


def request_id_of(source: str, event_id: str) -> str:
    """Return the request_id of a CloudEvent: source and id, or their SHA-256 where that is too long."""
    joined = f"{source}{SEPARATOR}{event_id}"
    if len(joined) <= REQUEST_ID_CHARS_MAX:
        return joined
    return f"sha256:{hashlib.sha256(joined.encode()).hexdigest()}"


def _fill(event: metering_pb2.UsageEvent, item: ReadCloudEvent) -> None:
    """Write a CloudEvent into a usage event. Raises DomainError, ValueError."""
    found = item.read
    event.request_id = request_id_of(found.source, found.event_id)
    event.org_id = found.subject
    event.sku = found.type
    if found.created_at is not None:
        event.event_time.FromDatetime(found.created_at)
    _fill_data(event, _data(item.data))
    for name, why in (
        ("subject", "it is the organisation whose usage it is"),
        ("time", "it is when it was used, and the same when the event is sent again"),
    ):
        if not (found.subject if name == "subject" else found.created_at):
            raise CloudEventInvalid(f"{name!r} is missing: {why}", pointer=f"/{name}")
    if found.traceparent and not read_traceparent(found.traceparent):
        raise CloudEventInvalid(
            "'traceparent' is no W3C trace context; correct it, or leave it out",
            pointer="/traceparent",
        )


def _data(text: bytes | None) -> dict[str, Any]:
    """Read the data of an event. Raises CloudEventInvalid, InvalidField, ValueError."""
    if text is None:
        raise CloudEventInvalid(
            'an event of usage needs data, an object such as {"sku": …, "quantity": …}',
            pointer="/data",
        )
    if len(text) > DATA_BYTES_MAX:
        raise InvalidField.one(
            "data", f"it has {len(text):,} bytes; at most {DATA_BYTES_MAX:,} are read", "/data"
        )
    data = DECODER.decode(text.decode())
    if not isinstance(data, dict):
        raise InvalidField.one("data", "it must be an object", "/data")
    return {name: value for name, value in data.items() if value is not None}


def _fill_data(event: metering_pb2.UsageEvent, data: Mapping[str, Any]) -> None:
    for name in _TEXTS:
        if name in data:
            if not isinstance(data[name], str):
                raise _unfit(name, "it must be a string")
            setattr(event, name, data[name])
    if "quantity" not in data:
        raise _unfit("quantity", "it is missing: say how much was used; 1 where events are counted")
    quantity = data["quantity"]
    if isinstance(quantity, bool) or not isinstance(quantity, str | int | Decimal):
        raise _unfit("quantity", "it must be a number, or a decimal in a string")
    event.quantity = _text(quantity)
    labels = {name: value for name, value in data.items() if name not in _OWN}
    for name, value in labels.items():
        if not isinstance(value, str | int | Decimal):
            raise _unfit(name, "labels are strings, numbers and booleans; this is neither")
    event.metadata.update({name: _text(value) for name, value in labels.items()})


def _unfit(name: str, what: str) -> InvalidField:
    shown = name[:_KEPT_CHARS_MAX]
    return InvalidField.one(f"data.{shown}", what, pointer(["data", shown]))


def _text(value: str | int | Decimal) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return format(value, "f") if isinstance(value, Decimal) else str(value)
