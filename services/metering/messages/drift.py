"""Findings of a comparison with a provider's log, as messages and back."""

from __future__ import annotations

from payments.metering.v1 import drift_pb2

from services.metering.domain.drift import DriftFinding, DriftKind, ReportDrift
from services.runtime.edge.values import moment_of


def to_report(request: drift_pb2.ReportUsageDriftRequest) -> ReportDrift:
    """Read what was found."""
    return ReportDrift(request.provider, [_finding(item) for item in request.findings])


def reported(count: int) -> drift_pb2.ReportUsageDriftResponse:
    """Write how many were told."""
    return drift_pb2.ReportUsageDriftResponse(reported=count)


def _finding(item: drift_pb2.DriftFinding) -> DriftFinding:
    kind = drift_pb2.DriftKind.Name(item.kind).removeprefix("DRIFT_KIND_")
    return DriftFinding(
        kind=DriftKind(kind),
        org_id=item.org_id,
        sku=item.sku,
        start_at=moment_of(item.start_at),
        event_count=item.event_count,
        quantity=item.quantity,
        stored_quantity=item.stored_quantity,
        detail=item.detail,
    )
