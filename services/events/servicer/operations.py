"""Consumers, dead letters and replays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import events_service_pb2_grpc, operations_pb2

from services.events.app.operations import Operations, Period
from services.events.domain.operations import Consumer, DeadLetter, FailingKey
from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.errors import InvalidField
from services.runtime.idempotency import Idempotency
from services.runtime.outbox.subjects import Pattern

_CONSUMERS = "events.consumers"


class OperationRpcs(events_service_pb2_grpc.EventServiceServicer):
    """ListConsumers, ListDeadLetters, ReplayDeadLetters and ReplayEvents."""

    _operations: Operations
    _idempotency: Idempotency

    async def ListConsumers(
        self, request: service_pb2.ListConsumersRequest, context: Any
    ) -> service_pb2.ListConsumersResponse:
        """Read a page of consumers."""
        limit = clamp_page_size(request.page_size)
        after = decode_token(request.page_token, _CONSUMERS, {"name": str})
        found = await self._operations.consumers(after.get("name", ""), limit + 1)
        response = service_pb2.ListConsumersResponse(
            consumers=[_consumer(item) for item in found[:limit]]
        )
        if len(found) > limit:
            response.next_page_token = encode_token({"name": found[limit - 1].name}, _CONSUMERS)
        return response

    async def ListDeadLetters(
        self, request: service_pb2.ListDeadLettersRequest, context: Any
    ) -> service_pb2.ListDeadLettersResponse:
        """Read a page of dead letters."""
        limit = clamp_page_size(request.page_size)
        scope = f"events.dead_letters:{current().tenant_id}:{request.consumer}"
        kinds = {"consumer": str, "position": int, "generation": int}
        after = decode_token(request.page_token, scope, kinds)
        place = (
            after.get("consumer", ""),
            after.get("position", 0),
            after.get("generation", 0),
        )
        found = await self._operations.dead_letters(request.consumer, place, limit + 1)
        response = service_pb2.ListDeadLettersResponse(
            dead_letters=[_letter(item) for item in found[:limit]]
        )
        if len(found) > limit:
            last = found[limit - 1]
            response.next_page_token = encode_token(
                {
                    "consumer": last.consumer,
                    "position": last.position,
                    "generation": last.generation,
                },
                scope,
            )
        return response

    async def ReplayDeadLetters(
        self, request: service_pb2.ReplayDeadLettersRequest, context: Any
    ) -> service_pb2.ReplayDeadLettersResponse:
        """Bring dead letters back."""

        async def replay(work: UnitOfWork) -> service_pb2.ReplayDeadLettersResponse:
            replayed, more = await self._operations.replay_dead_letters(
                work, request.consumer, request.key, request.event_ids
            )
            return service_pb2.ReplayDeadLettersResponse(replayed_count=replayed, more=more)

        response = await self._idempotency.once(
            "events.replay_dead_letters", request, service_pb2.ReplayDeadLettersResponse, replay
        )
        self._operations.wake()
        return response

    async def ReplayEvents(
        self, request: service_pb2.ReplayEventsRequest, context: Any
    ) -> service_pb2.ReplayEventsResponse:
        """Have a period handled again."""
        period = Period(
            _time(request.period.start_at),
            _time(request.period.end_at),
            _subjects(request.subjects),
        )
        scope = _replay_scope(request.consumer, period)
        place = decode_token(request.page_token, scope, {"generation": int})

        async def replay(work: UnitOfWork) -> service_pb2.ReplayEventsResponse:
            if not place:
                count, found = await self._operations.begin_replay(work, request.consumer, period)
            else:
                count, found = await self._operations.go_on(
                    work, request.consumer, place["generation"]
                )
            response = service_pb2.ReplayEventsResponse(
                replayed_count=count, generation=found.generation
            )
            if not found.is_through:
                response.next_page_token = encode_token({"generation": found.generation}, scope)
            return response

        response = await self._idempotency.once(
            "events.replay_events", request, service_pb2.ReplayEventsResponse, replay
        )
        self._operations.wake()
        return response


def _replay_scope(consumer: str, period: Period) -> str:
    span = f"{period.start_at.isoformat()}:{period.end_at.isoformat()}"
    chosen = ",".join(sorted(period.subjects))
    return f"events.replay:{current().tenant_id}:{consumer}:{span}:{chosen}"


def _subjects(subjects: Sequence[str]) -> list[str]:
    try:
        for subject in subjects:
            Pattern.parse(subject)
    except ValueError as error:
        raise InvalidField.one("subjects", str(error)) from error
    return sorted(set(subjects))


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


def _consumer(item: Consumer) -> operations_pb2.Consumer:
    message = operations_pb2.Consumer(
        consumer=item.name,
        subjects=item.subjects,
        replayable=item.replayable,
        parks_keys=item.parks_keys,
        waiting_count=item.waiting,
        retrying_count=item.retrying,
        dead_letter_count=item.dead_letters,
        failing_keys=[_failing(key) for key in item.failing_keys],
    )
    if item.oldest_at is not None:
        message.oldest_recorded_at.FromDatetime(item.oldest_at)
    return message


def _failing(key: FailingKey) -> operations_pb2.FailingKey:
    message = operations_pb2.FailingKey(
        key=key.key,
        event_id=key.event_id,
        tries=key.tries,
        last_error=key.last_error,
        parked=key.parked,
    )
    if key.next_at is not None:
        message.next_try_at.FromDatetime(key.next_at)
    return message


def _letter(letter: DeadLetter) -> operations_pb2.DeadLetter:
    message = operations_pb2.DeadLetter(
        consumer=letter.consumer,
        event_id=letter.event_id,
        subject=letter.subject,
        key=letter.key,
        tries=letter.tries,
        last_error=letter.last_error,
        generation=letter.generation,
        parked=letter.parked,
    )
    message.buried_at.FromDatetime(letter.buried_at)
    return message
