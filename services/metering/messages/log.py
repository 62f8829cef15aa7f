"""The log of receipts, as messages."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from payments.metering.v1 import receipts_pb2

from services.metering.domain.log import (
    RETRY_SECONDS,
    Consistency,
    LogFinding,
    LoggedEvent,
    LogHead,
    ReceiptProof,
    event_leaf,
)
from services.metering.domain.receipts import RECEIPT_PREFIX, ReceiptKind
from services.metering.messages.corrections import content
from services.runtime.edge import values as edge

_KINDS = edge.Names(ReceiptKind, receipts_pb2.ReceiptKind, "RECEIPT_KIND_")


def receipt(tenant_id: str, proof: ReceiptProof) -> receipts_pb2.Receipt:
    """Write a receipt with its proof."""
    stored, leaf = proof.receipt, proof.leaf
    message = receipts_pb2.Receipt(
        receipt_id=f"{RECEIPT_PREFIX}{stored.receipt_id}",
        tenant_id=tenant_id,
        status=receipts_pb2.RECEIPT_STATUS_PENDING,
        kind=_KINDS.write(stored.kind),
        accepted=stored.accepted,
        duplicate=stored.duplicate,
        conflict=stored.conflict,
        rejected=stored.rejected,
        ordinal=stored.ordinal or 0,
        head=head(tenant_id, proof.head),
    )
    message.recorded_at.FromDatetime(stored.recorded_at)
    if leaf is None:
        message.retry_after.CopyFrom(Duration(seconds=RETRY_SECONDS))
        return message
    message.status = receipts_pb2.RECEIPT_STATUS_LOGGED
    message.events_root, message.leaf_hash = leaf.events_root.hex(), leaf.hash.hex()
    message.inclusion_proof.leaf_index = leaf.ordinal - 1
    message.inclusion_proof.tree_size = proof.head.tree_size
    message.inclusion_proof.hashes.extend(each.hex() for each in proof.path)
    return message


def head(tenant_id: str, found: LogHead) -> receipts_pb2.LogHead:
    """Write a head."""
    return receipts_pb2.LogHead(
        tenant_id=tenant_id,
        tree_size=found.tree_size,
        root_hash=found.root_hash.hex(),
        closed_at=edge.stamp_or_none(found.closed_at),
    )


def receipt_event(event: LoggedEvent) -> receipts_pb2.ReceiptEvent:
    """Write a leaf of the tree of a receipt's events."""
    return receipts_pb2.ReceiptEvent(
        event=content(event.content),
        version=event.version,
        cancelled=event.cancelled,
        reason=event.reason,
        event_key=event.event_key,
        fingerprint=event.fingerprint,
        leaf_hash=event_leaf(event).hex(),
    )


def consistency(tenant_id: str, found: Consistency) -> receipts_pb2.GetLogConsistencyResponse:
    """Write two heads and their proof."""
    return receipts_pb2.GetLogConsistencyResponse(
        first=head(tenant_id, found.first),
        second=head(tenant_id, found.second),
        hashes=[each.hex() for each in found.path],
    )


def finding(found: LogFinding) -> receipts_pb2.LogFinding:
    """Write what does not follow from what is stored."""
    return receipts_pb2.LogFinding(
        ordinal=found.ordinal,
        receipt_id=found.receipt_id,
        message=found.message,
        expected=found.expected,
        found=found.found,
    )
