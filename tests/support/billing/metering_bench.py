"""What the benches of metering share: batches to send."""

from __future__ import annotations

from payments.metering.v1 import metering_service_pb2

from tests.support.billing.metering import event
from tests.support.billing.metering_process import SKUS

_TEMPLATES = [event("-", org_id="code-assist", project_id="ide", sku=sku) for sku in SKUS]


def make_batch(prefix: str, first: int, size: int) -> metering_service_pb2.IngestEventsRequest:
    """Make a batch as the demo's trace has them: an hour of requests, three events each."""
    request = metering_service_pb2.IngestEventsRequest()
    for number in range(first, first + size):
        row, kind = divmod(number, 3)
        made = request.events.add()
        made.CopyFrom(_TEMPLATES[kind])
        made.request_id = f"{prefix}-{row:08d}-{SKUS[kind]}"
        made.quantity = str(1 if kind == 2 else 7 + row % 7000)
        made.event_time.seconds += row // 40 % 86_400
        made.event_time.nanos = row * 7919 % 1_000_000 * 1000
    return request
