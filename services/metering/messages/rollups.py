"""Findings of a verification of rollups, as messages."""

from __future__ import annotations

from payments.metering.v1 import rollups_pb2

from services.metering.domain.rollups import RollupFinding


def finding(found: RollupFinding) -> rollups_pb2.RollupFinding:
    """Write a bucket that is not what its events come to."""
    message = rollups_pb2.RollupFinding(
        org_id=found.org_id,
        sku=found.sku,
        project_id=found.project_id,
        minutes=found.minutes,
        expected=found.expected,
        found=found.found,
    )
    message.bucket_at.FromDatetime(found.bucket_at)
    return message
