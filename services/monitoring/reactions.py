"""The contract monitor's reaction: it records the violations that other services publish."""

from __future__ import annotations

from datetime import UTC

from payments.events.v1.monitoring_events_pb2 import ContractViolated

from services.monitoring.app import Monitor
from services.monitoring.domain import Violation
from services.runtime.database import UnitOfWork
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.texts import storable


def violations(monitor: Monitor) -> Reaction:
    """Record violations in the dispatcher's own transaction; a second delivery changes nothing."""

    async def on_contract_violated(work: UnitOfWork, envelope: Envelope) -> None:
        fact = envelope.payload
        assert isinstance(fact, ContractViolated)
        await monitor.record_in([_violation(fact, envelope)], work)

    return Reaction(
        consumer="monitoring.violations",
        subjects=("contract.violated",),
        handler=on_contract_violated,
    )


def _violation(fact: ContractViolated, envelope: Envelope) -> Violation:
    happened = fact.occurred_at.ToDatetime(UTC) if fact.HasField("occurred_at") else None
    return Violation(
        contract_id=storable(fact.contract_id),
        # Work that no request began, say a timer's, is known by its event.
        request_id=storable(fact.request_id) or envelope.event_id,
        severity=storable(fact.severity),
        message=storable(fact.message),
        service=storable(fact.service),
        subject_id=storable(fact.subject_id),
        occurred_at=happened or envelope.created_at,
    )
