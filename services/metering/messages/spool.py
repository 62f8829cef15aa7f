"""Batches that were held, as messages."""

from __future__ import annotations

from payments.metering.v1 import spool_pb2

from services.metering.domain.spool import SpooledBatch
from services.metering.messages.usage import problem_of


def batch(found: SpooledBatch) -> spool_pb2.SpooledBatch:
    """Write a batch and what became of it."""
    message = spool_pb2.SpooledBatch(
        receipt_id=found.receipt_id,
        status=spool_pb2.SPOOL_STATUS_WAITING,
        events=found.events,
    )
    message.received_at.FromDatetime(found.received_at)
    if found.stored is None or found.drained_at is None:
        return message
    stored = found.stored
    message.status = spool_pb2.SPOOL_STATUS_DRAINED
    message.drained_at.FromDatetime(found.drained_at)
    message.stored_receipt_id = stored.receipt_id
    message.accepted = stored.accepted
    message.duplicate = stored.duplicate
    message.conflict = stored.conflict
    message.rejected = stored.rejected
    message.problems.extend(map(problem_of, stored.problems))
    return message
