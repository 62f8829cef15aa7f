"""Processors as messages."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.type.v1 import type_pb2

from services.orchestration.domain.breaker import BreakerState
from services.orchestration.domain.health import Fared
from services.orchestration.domain.processors import Capabilities, Offered
from services.orchestration.domain.webhooks import Received, WebhookOutcome
from services.runtime.edge import values as edge

WINDOW_DEFAULT = timedelta(minutes=15)
_OUTCOMES = edge.Names(WebhookOutcome, pb.WebhookOutcome, "WEBHOOK_OUTCOME_")
_STATES = edge.Names(BreakerState, pb.BreakerState, "BREAKER_STATE_")


def window_of(request: service_pb.GetProcessorHealthRequest) -> timedelta:
    """Read how far back is looked."""
    return request.window.ToTimedelta() if request.HasField("window") else WINDOW_DEFAULT


def processor(offered: Offered) -> pb.Processor:
    """Write a processor."""
    return pb.Processor(
        processor_id=offered.processor_id,
        adapter=offered.adapter,
        own=offered.own,
        capabilities=_capabilities(offered.capabilities),
    )


def health(fared: Fared) -> pb.ProcessorHealth:
    """Write how a processor fared."""
    standing = fared.breaker
    return pb.ProcessorHealth(
        processor_id=fared.processor_id,
        window=_duration(fared.window),
        attempts=fared.attempts,
        succeeded=fared.done,
        failed=fared.failed,
        latency_p50_ms=fared.latency_p50_ms,
        latency_p95_ms=fared.latency_p95_ms,
        last_attempt_at=edge.stamp(fared.last_at) if fared.last_at else None,
        breaker=_STATES.write(standing.state),
        faults_in_a_row=standing.faults,
        try_again_at=edge.stamp(standing.again_at) if standing.again_at else None,
    )


def received(found: Received) -> service_pb.ReceiveWebhookResponse:
    """Write what came of an event."""
    return service_pb.ReceiveWebhookResponse(
        event_id=found.event_id,
        outcome=_OUTCOMES.write(found.outcome),
        payment_id=found.payment_id,
    )


def _capabilities(found: Capabilities) -> pb.ProcessorCapabilities:
    return pb.ProcessorCapabilities(
        holds=found.holds,
        partial_capture=found.partial_capture,
        captures_many=found.captures_many,
        replay_key=found.replay_key,
        key_ttl=_duration(found.key_ttl),
        two_phase=found.two_phase,
        lookup_by_ref=found.lookup_by_ref,
        settle_window=_duration(found.settle_window),
        refunds_max=found.refunds_max or 0,
        min_amounts=[
            type_pb2.Money(currency_code=code, minor_units=minor)
            for code, minor in sorted(found.min_amount_minor.items())
        ],
    )


def _duration(span: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(span)
    return message
