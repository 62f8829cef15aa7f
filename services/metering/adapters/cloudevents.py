"""Reading bodies of CloudEvents: the work grows with them, so it is done where it holds up nobody."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from payments.metering.v1 import metering_pb2

from services.metering.domain.events import EVENTS_MAX
from services.metering.messages import cloudevents as messages
from services.metering.messages.cloudevents import ReadBatch
from services.runtime import cloudevents
from services.runtime.cloudevents import Mode
from services.runtime.context import current
from services.runtime.errors import DomainError
from services.runtime.workers import (
    CPU_SECONDS,
    MEMORY_BYTES_MAX,
    CheckTooCostly,
    Overrun,
    Workers,
)

# A body of 4 MiB takes a tenth of it.
_BUDGETS = 2

_Faults = Mapping[int, DomainError]


class CloudEvents:
    """Reads usage events out of CloudEvents.

    Args:
        workers: where bodies are read.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def read(self, content_type: str, headers: Mapping[str, str], body: bytes) -> ReadBatch:
        """Read the events of an HTTP request, in each of the modes.

        Raises:
            ContentTypeUnknown: it is in none of the modes.
            InvalidField: the body is not what it should be.
            BatchTooLarge: there are more than 10,000 events.
            CheckTooCostly: reading it takes more work than one call may.
        """
        mode = cloudevents.mode_of(content_type, headers)
        if mode is Mode.BINARY:
            cut = cloudevents.binary(content_type, headers, body)
            return messages.usage_events([cloudevents.read_attributes(cut)])
        call = current()
        now = time.monotonic()
        until = math.inf if call.deadline_at is None else now + (call.deadline_at - now) / 2
        (found,) = await self._workers.run(
            call.tenant_id, _read, mode is Mode.BATCH, [body], budgets=_BUDGETS, until=until
        )
        if isinstance(found, Overrun):
            raise CheckTooCostly(
                f"reading it exceeded the limit of {_BUDGETS * CPU_SECONDS:g} s of CPU time and "
                f"{MEMORY_BYTES_MAX // 1024**3} GiB; send fewer events in one call",
                subject="",
                cpu_seconds=_BUDGETS * CPU_SECONDS,
            )
        if isinstance(found, DomainError):
            raise found
        return _unpacked(*found)


# ---- In the other process


def _read(is_batch: bool, body: bytes) -> tuple[list[bytes], _Faults]:
    cuts = cloudevents.cut(body, batch=is_batch, events_max=EVENTS_MAX)
    batch = messages.usage_events([cloudevents.read_attributes(cut) for cut in cuts])
    return [event.SerializeToString() for event in batch.events], batch.faults


def _unpacked(events: Sequence[Any], faults: _Faults) -> ReadBatch:
    return ReadBatch([metering_pb2.UsageEvent.FromString(event) for event in events], dict(faults))
