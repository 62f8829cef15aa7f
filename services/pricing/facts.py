"""What pricing publishes: plans, as they are made, changed and deprecated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from payments.events.v1 import pricing_events_pb2

from services.pricing.domain.catalog import Plan, Status
from services.pricing.domain.changes import Change
from services.pricing.domain.values import document


def of_change(change: Change) -> tuple[dict[str, Any] | None, dict[str, Any], list[Message]]:
    """Return what a change is audited with, before and after, and the facts that tell of it."""
    before = None if change.before is None else document(change.before)
    after = document(change.after)
    if not isinstance(change.after, Plan):
        return before, after, []
    assert change.before is None or isinstance(change.before, Plan)
    return before, after, _plan_events(change.before, change.after, after)


def _plan_events(before: Plan | None, after: Plan, written: dict[str, Any]) -> list[Message]:
    events: list[Message] = []
    if after.version == 0:
        # Nobody can be on a draft.
        return events
    message = pricing_events_pb2.PlanCreated(plan_id=after.plan_id, plan_version=after.version)
    json_format.ParseDict(written, message.plan)
    if before is None or before.version == 0:
        events.append(message)
    elif replace(before, status=after.status) != after:
        updated = pricing_events_pb2.PlanUpdated(
            plan_id=after.plan_id,
            plan_version=after.version,
            previous_plan_version=before.version,
            plan=message.plan,
        )
        events.append(updated)
    was_active = before is None or before.status in (Status.ACTIVE, Status.DRAFT)
    if was_active and after.status in (Status.DEPRECATED, Status.ARCHIVED):
        deprecated = pricing_events_pb2.PlanDeprecated(
            plan_id=after.plan_id, plan_version=after.version
        )
        events.append(deprecated)
    return events
