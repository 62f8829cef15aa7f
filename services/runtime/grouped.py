"""Use cases that many callers share a transaction for, each request_id carried out at most once.

What the command runner does for one request, this does for a group of them: answers that are stored are given again;
the others are decided one by one in memory, over rows that were locked for all, and written together. The records of
the requests are written last: where a process that carries one of them out at the same time wins, the group is run
again and finds its answer.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.runtime.commands import (
    AnsweredMeanwhile,
    Commands,
    Request,
    StoredRefusal,
    fingerprint,
    refusal_bytes,
)
from services.runtime.database import UnitOfWork
from services.runtime.errors import DomainError, RequestIdReused, RequestInProgress
from services.runtime.groups import Groups
from services.runtime.postgres import sql

TRIES_MAX = 4
_SQL = sql.load("services.runtime", "queries.sql")

CommandT = TypeVar("CommandT")
CommandT_contra = TypeVar("CommandT_contra", contravariant=True)
AnswerT_co = TypeVar("AnswerT_co", covariant=True)
AnswerT = TypeVar("AnswerT")
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Kind(Generic[AnswerT, ResponseT]):
    """A use case of the group.

    Attributes:
        name: of its records. Never change it: answers are kept under it.
        respond: writes the answer as a response.
        response_type: of what `respond` returns.
    """

    name: str
    respond: Callable[[AnswerT], ResponseT]
    response_type: type[ResponseT]


class Decisions(Protocol[CommandT_contra, AnswerT_co]):
    """A group's state, locked and in memory."""

    def decide(self, command: CommandT_contra, /) -> AnswerT_co:
        """Carry a command out in memory, behind those before it. One that raises has changed nothing."""

    def write(self) -> None:
        """Have what was decided written with the next statement."""


Begin = Callable[[Sequence[CommandT], UnitOfWork], Awaitable[Decisions[CommandT, AnswerT]]]


@dataclass(frozen=True, slots=True)
class _Record:
    name: str
    request_id: UUID
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class _Item(Generic[CommandT, AnswerT]):
    command: CommandT
    kind: Kind[AnswerT, Any] | None
    record: _Record | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a request is answered; `fresh` is stored for it, as bytes and whether they are a refusal."""

    fingerprint: bytes
    outcome: Any
    fresh: tuple[bytes | None, bytes | None] | None = None


class GroupedCommands(Generic[CommandT, AnswerT]):
    """Carries commands out in groups.

    Args:
        commands: runs the group's transaction.
        name: of its unit of work, which gives its crash points.
        begin: locks what commands need and reads it.
        items_max: commands of one transaction at most.
    """

    def __init__(
        self,
        commands: Commands,
        name: str,
        begin: Begin[CommandT, AnswerT],
        *,
        items_max: int,
    ) -> None:
        self._commands = commands
        self._name = name
        self._begin = begin
        self._groups: Groups[_Item[CommandT, AnswerT], Any] = Groups(
            name, self._carried_out, items_max=items_max
        )

    async def run(
        self, kind: Kind[AnswerT, ResponseT], command: CommandT, request: Request
    ) -> ResponseT:
        """Carry a command out with those of others that come at the same time, or give the stored answer.

        Raises:
            RequestIdReused: the request_id came before with another body.
            DomainError: what it was refused with, now or the first time.
        """
        record = _Record(kind.name, UUID(request.request_id), fingerprint(request))
        (outcome,) = await self._groups.apply([_Item(command, kind, record)])
        if isinstance(outcome, DomainError):
            raise outcome
        response: ResponseT = outcome
        return response

    async def apply(self, command: CommandT) -> AnswerT:
        """Carry a command out that needs no request_id, since repeating it changes nothing. Raises DomainError."""
        (outcome,) = await self._groups.apply([_Item(command, None, None)])
        if isinstance(outcome, DomainError):
            raise outcome
        answer: AnswerT = outcome
        return answer

    async def _carried_out(self, items: Sequence[_Item[CommandT, AnswerT]]) -> Sequence[Any]:
        for _ in range(TRIES_MAX):
            try:
                return await self._commands.apply(self._name, self._together, items)
            except AnsweredMeanwhile:
                continue
        raise RequestInProgress(
            "other calls with the same request_id keep getting in first; repeat the same call",
            request_id=str(items[0].record.request_id if items[0].record else ""),
            retry_after_ms=100,
        )

    async def _together(
        self, items: Sequence[_Item[CommandT, AnswerT]], work: UnitOfWork
    ) -> list[Any]:
        decisions = await self._begin([item.command for item in items], work)
        answers = await _stored(work, [item.record for item in items if item.record])
        outcomes = [_outcome(item, decisions, answers) for item in items]
        decisions.write()
        await _store(work, answers)
        return outcomes


def _outcome(
    item: _Item[CommandT, AnswerT],
    decisions: Decisions[CommandT, AnswerT],
    answers: dict[tuple[str, UUID], _Answer],
) -> Any:
    record = item.record
    if record is None or item.kind is None:
        try:
            return decisions.decide(item.command)
        except DomainError as error:
            return error
    key = (record.name, record.request_id)
    known = answers.get(key)
    if known is None:
        known = answers[key] = _decided(item, item.kind, record, decisions)
    if known.fingerprint != record.fingerprint:
        return RequestIdReused(
            f"request_id {record.request_id} was already used with a different body; a new request needs a new one",
            request_id=str(record.request_id),
        )
    if isinstance(known.outcome, bytes):
        return item.kind.response_type.FromString(known.outcome)
    return known.outcome


def _decided(
    item: _Item[CommandT, AnswerT],
    kind: Kind[AnswerT, Any],
    record: _Record,
    decisions: Decisions[CommandT, AnswerT],
) -> _Answer:
    try:
        response = kind.respond(decisions.decide(item.command))
    except DomainError as error:
        fresh = (None, refusal_bytes(error)) if error.is_answer else None
        return _Answer(record.fingerprint, error, fresh)
    kept = response.SerializeToString(deterministic=True)
    return _Answer(record.fingerprint, response, (kept, None))


async def _stored(work: UnitOfWork, records: Sequence[_Record]) -> dict[tuple[str, UUID], _Answer]:
    """Read the answers that requests have got before."""
    if not records:
        return {}
    parameters = {
        "tenant_id": work.tenant_id,
        "names": [record.name for record in records],
        "request_ids": [record.request_id for record in records],
    }
    found = {}
    for row in await work.execute(_SQL["read_requests"], parameters):
        refused = None if row.error is None else StoredRefusal(json.loads(bytes(row.error)))
        outcome = bytes(row.response) if refused is None else refused
        found[(row.name, row.request_id)] = _Answer(bytes(row.fingerprint), outcome)
    return found


async def _store(work: UnitOfWork, answers: dict[tuple[str, UUID], _Answer]) -> None:
    """Store new answers. Raises AnsweredMeanwhile: another process has stored one of them."""
    # Sorted, so that two groups that share requests do not wait for one another in a circle.
    fresh = [(key, answers[key]) for key in sorted(answers) if answers[key].fresh]
    if not fresh:
        return
    parameters = {
        "tenant_id": work.tenant_id,
        "names": [name for (name, _), _ in fresh],
        "request_ids": [request_id for (_, request_id), _ in fresh],
        "fingerprints": [answer.fingerprint for _, answer in fresh],
        "responses": [answer.fresh[0] for _, answer in fresh if answer.fresh],
        "errors": [answer.fresh[1] for _, answer in fresh if answer.fresh],
    }
    stored = await work.execute(_SQL["store_answers"], parameters)
    if len(stored) < len(fresh):
        raise AnsweredMeanwhile
