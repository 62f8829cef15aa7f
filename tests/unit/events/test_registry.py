"""The catalogue of the release: complete, sound, and what the seeds ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.events.domain import payloads, schemas
from services.events.store import catalogue
from services.runtime.outbox import facts, registry
from services.runtime.outbox.subjects import is_subject

SEED_004 = """
subscription.created subscription.updated subscription.canceled subscription.price.updated
subscription.status.changed usage.reported usage.rated usage.aggregated usage.status.changed
rating.completed rating.failed invoice.generated invoice.sent invoice.paid invoice.due
invoice.voided invoice.status.changed credit.applied credit.reversed plan.created plan.updated
plan.deprecated billing.cycle.closed billing.invoice.pending
"""
SEED_000 = """
coach.assigned coaching.lesson.confirmation_decided lead.coach.confirmation.requested
credit.locked credit.reserved intake.captured intake.matched person.updated role.assigned
role.retired lead.handoff.context.recorded lead.qualified sales.lead.onboarded lesson.cancelled
lesson.delivered lesson.rescheduled lesson.scheduled order.created order.updated order.cancelled
platform.comms.inbound geography.market.archived geography.market.upserted
geography.service-area.archived geography.service-area.upserted delivery.lesson-hold.cancelled
delivery.lesson-hold.created payment.received payment.failed refund.completed credit.purchased
credit.funded customer.handoff
"""
UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def words(text: str) -> list[str]:
    return text.split()


def schema_of(subject: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(catalogue.entries()[subject].type.versions[-1].json_schema)
    return found


@pytest.mark.parametrize("subject", sorted({*words(SEED_004), *words(SEED_000)}))
def test_every_named_event_is_listed(subject: str) -> None:
    entry = catalogue.entries()[subject]
    assert is_subject(subject)
    assert entry.type.owner
    assert entry.type.consumers
    assert entry.type.description


def test_our_own_come_from_their_messages() -> None:
    for kind in registry.all_types().values():
        entry = catalogue.entries()[kind.subject]
        assert entry.schema_by == "mesh"
        assert entry.type.is_ours
        assert (entry.type.owner, entry.type.key_field) == (kind.owner, kind.key_field)
        assert kind.message_name in {item.protobuf_message for item in entry.type.versions}


def test_who_made_a_schema_is_marked() -> None:
    given = {name for name, entry in catalogue.entries().items() if entry.schema_by == "producer"}
    assert given == {"lesson.scheduled", "order.created", "order.updated"}
    assert {entry.schema_by for entry in catalogue.entries().values()} == {"us", "mesh", "producer"}


def test_schemas_are_closed_and_their_key_is_required() -> None:
    for entry in catalogue.entries().values():
        for version in entry.type.versions:
            if not version.json_schema:
                continue
            schema = schemas.read(version.json_schema)
            assert schema["additionalProperties"] is False, entry.type.subject
            assert entry.type.key_field in schema["required"], entry.type.subject


@pytest.mark.parametrize(
    ("subject", "required", "patterns"),
    [
        (
            "lesson.scheduled",
            "lesson_id organization_id participant_id reservation_id reservation_lock_id coach_id "
            "lesson_site_id service_area_id lesson_zip lesson_type_id window",
            {},
        ),
        (
            "order.created",
            "order_id person_id organization_id status currency amount_total_cents created_via "
            "created_at",
            {
                "order_id": f"^ord_{UUID7}$",
                "person_id": f"^per_{UUID7}$",
                "organization_id": f"^org_{UUID7}$",
                "currency": "^[A-Z]{3}$",
            },
        ),
        (
            "order.updated",
            "order_id person_id status_from status_to amount_paid_cents_from amount_paid_cents_to "
            "amount_total_cents updated_via updated_at",
            {"order_id": f"^ord_{UUID7}$", "person_id": f"^per_{UUID7}$"},
        ),
    ],
)
def test_given_schemas_are_as_given(subject: str, required: str, patterns: dict[str, str]) -> None:
    schema = schema_of(subject)
    assert schema["required"] == required.split()
    assert set(schema["properties"]) == set(required.split())
    found = {
        name: item["pattern"] for name, item in schema["properties"].items() if "pattern" in item
    }
    assert found == patterns


def test_lists_of_values_stay_open() -> None:
    """No enum: a value that a consumer does not know is safe to ignore, so none is refused."""
    for subject in ("order.created", "order.updated", "invoice.status.changed"):
        assert b'"enum"' not in payloads.canonical(schema_of(subject))


def test_the_facts_of_the_runtime_have_payloads_with_the_fields_that_it_fills() -> None:
    broken = facts.fact(
        facts.VIOLATED,
        contract_id="mesh/invariant",
        request_id="r",
        severity="LOW",
        message="m",
        subject_id="s",
        occurred_at=Timestamp(seconds=1),
    )
    assert registry.of(type(broken)).key(broken) == "mesh/invariant"
    fired = facts.fact(
        facts.JOURNEY_TIMER_FIRED,
        journey_type="t",
        journey_id="j",
        timer="deadline",
        due_at=Timestamp(seconds=1),
    )
    assert facts.tells(fired, facts.JOURNEY_TIMER_FIRED)
    assert not facts.tells(broken, facts.JOURNEY_TIMER_FIRED)


def test_a_fact_that_no_schema_declares_is_refused() -> None:
    with pytest.raises(LookupError, match="no such"):
        facts.fact("no such")
    with pytest.raises(ValueError, match="colour"):
        facts.fact(facts.VIOLATED, colour="red")
