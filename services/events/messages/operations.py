"""Consumers, dead letters and replays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import operations_pb2

from services.events.domain.operations import (
    Consumer,
    DeadLetter,
    FailingKey,
    Period,
    ReplayedLetters,
    ReplayedPeriod,
    ReplayLetters,
    ReplayPeriod,
)
from services.runtime.context import current
from services.runtime.edge.paging import Int32, decode_token, encode_token
from services.runtime.errors import InvalidField
from services.runtime.outbox.subjects import Pattern


def to_replay_letters(request: service_pb2.ReplayDeadLettersRequest) -> ReplayLetters:
    """Read which dead letters are to be handled again."""
    return ReplayLetters(request.consumer, request.key, request.event_ids)


def to_replay_period(request: service_pb2.ReplayEventsRequest) -> ReplayPeriod:
    """Read which period is to be handled again, from its start or on from where a call before ended.

    Raises:
        InvalidField: a subject is none.
        InvalidPageToken: the token belongs to another replay.
    """
    period = Period(
        request.period.start_at.ToDatetime(UTC),
        request.period.end_at.ToDatetime(UTC),
        _subjects(request.subjects),
    )
    command = ReplayPeriod(request.consumer, period)
    place = decode_token(request.page_token, _scope(command), {"generation": Int32})
    return ReplayPeriod(request.consumer, period, place.get("generation"))


def letters_replayed(done: ReplayedLetters) -> service_pb2.ReplayDeadLettersResponse:
    """Write how many dead letters are handled again."""
    return service_pb2.ReplayDeadLettersResponse(replayed_count=done.count, more=done.more)


def period_replayed(done: ReplayedPeriod) -> service_pb2.ReplayEventsResponse:
    """Write how many events were put into the queue, and how to go on."""
    generation = done.replay.generation
    token = ""
    if not done.replay.is_through:
        token = encode_token({"generation": generation}, _scope(done.command))
    return service_pb2.ReplayEventsResponse(
        replayed_count=done.count, generation=generation, next_page_token=token
    )


def _scope(command: ReplayPeriod) -> str:
    period = command.period
    span = f"{period.start_at.isoformat()}:{period.end_at.isoformat()}"
    chosen = ",".join(sorted(period.subjects))
    return f"events.replay:{current().tenant_id}:{command.consumer}:{span}:{chosen}"


def _subjects(subjects: Sequence[str]) -> list[str]:
    try:
        for subject in subjects:
            Pattern.parse(subject)
    except ValueError as error:
        raise InvalidField.one("subjects", str(error)) from error
    return sorted(set(subjects))


def consumer(item: Consumer) -> operations_pb2.Consumer:
    """Write a consumer, and what it is behind with."""
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


def letter(letter: DeadLetter) -> operations_pb2.DeadLetter:
    """Write a dead letter."""
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
