"""Runs use cases: the request_id, the unit of work, what Postgres makes lose, the answer that is kept.

A use case is `(command, unit of work) → answer` in words of the domain. The same request_id with the same body gets
the first answer again; with another body it is refused. Refusals that are about the request itself are answers too
and are stored. One that depends on state which others change is not: configure what was missing, make the same call
again, and it is carried out. Rule: architecture, after AIP-155; records are kept for good, because a money request
may be retried long after.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import psycopg
from google.protobuf.message import Message

from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import (
    Code,
    DatabaseUnavailable,
    DomainError,
    FieldViolation,
    RequestIdReused,
    RequestInProgress,
)
from services.runtime.postgres import sql

# Of a transaction that Postgres chose as the victim of a deadlock or of a conflict.
ATTEMPTS_MAX = 4
# How often a call starts over because another call of the same request ended first. Once suffices, save for crashes.
TRIES_MAX = 3

_SQL = sql.load("services.runtime", "queries.sql")
_VICTIMS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)

CommandT = TypeVar("CommandT")
AnswerT = TypeVar("AnswerT")
ResultT = TypeVar("ResultT")
ResponseT = TypeVar("ResponseT", bound=Message)


class Request(Protocol):
    """A mutating request: a message with a request_id."""

    request_id: str

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:  # noqa: N802
        """Encode the message."""


@dataclass(frozen=True, slots=True)
class UseCase(Generic[CommandT, AnswerT, ResponseT]):
    """A use case that changes something in one unit of work, and how its response is built.

    Attributes:
        name: of its records, and of the crash points of its unit of work. Never change it: answers are kept under it.
        run: carries a command out. It may be run several times before it is committed once.
        respond: writes the answer as a response; a coroutine where that takes long.
        response_type: of what `respond` returns.
        kept: what of a response is stored; without it all, but a secret is shown only once.
    """

    name: str
    run: Callable[[CommandT, UnitOfWork], Awaitable[AnswerT]]
    respond: Callable[[AnswerT], ResponseT | Awaitable[ResponseT]]
    response_type: type[ResponseT]
    kept: Callable[[ResponseT], ResponseT] | None = None


@dataclass(frozen=True, slots=True)
class SteppedUseCase(Generic[CommandT, AnswerT, ResponseT]):
    """A use case that crosses the network: steps that each commit or may be repeated.

    Whoever makes the same call after a crash goes on from the last step that was stored.

    Attributes:
        name: of its records.
        run: carries a command out, from the start or from where an earlier call stopped; ends with `Claimed.finish`.
        respond: writes the answer as a response.
        response_type: of what `respond` returns.
    """

    name: str
    run: Callable[[CommandT, Claimed[AnswerT]], Awaitable[None]]
    respond: Callable[[AnswerT], ResponseT]
    response_type: type[ResponseT]


class AnsweredMeanwhile(Exception):
    """Another call of the same request ended first: what it stored is the answer of this one too."""


class StoredRefusal(DomainError):
    """The refusal that a request_id got before, given again."""

    state_dependent = False

    def __init__(self, stored: dict[str, Any]) -> None:
        fields = [FieldViolation(*pair) for pair in stored["fields"]]
        super().__init__(stored["message"], fields=fields)
        self.code = Code(stored["code"])
        self.reason = stored["reason"]
        self.metadata = stored["metadata"]


@dataclass(frozen=True, slots=True)
class _Record:
    """The record of one request: which use case, which id, which body."""

    name: str
    request_id: str
    fingerprint: bytes

    def key(self, work: UnitOfWork) -> dict[str, Any]:
        return {
            "tenant_id": work.tenant_id,
            "name": self.name,
            "request_id": UUID(self.request_id),
        }

    async def claim(self, work: UnitOfWork) -> bool:
        """Be the first; False when another call was. One that is under way is waited for."""
        values = {**self.key(work), "fingerprint": self.fingerprint}
        return (await work.execute(_SQL["claim_request"], values)).first() is not None

    async def hold(self, work: UnitOfWork) -> bool:
        """Keep others from answering until the transaction ends; False when one did.

        For a step whose state and whose answer must not contradict each other, e.g. a charge that is stored by one
        call while another stores a refusal.
        """
        return (await work.execute(_SQL["hold_request"], self.key(work))).first() is not None

    async def finish(
        self, work: UnitOfWork, response: bytes | None, error: bytes | None = None
    ) -> bool:
        """Store an answer; False when another call stored one before."""
        values = {**self.key(work), "response": response, "error": error}
        return (await work.execute(_SQL["finish_request"], values)).first() is not None

    async def note(self, work: UnitOfWork, error: bytes) -> bool:
        """Store the latest refusal of a request that stays open; False for one that it got before."""
        values = {**self.key(work), "error": error}
        return (await work.execute(_SQL["note_refusal"], values)).first() is not None

    async def stored(self, work: UnitOfWork) -> bytes | None:
        """Return the stored response; None while there is none.

        Raises:
            RequestIdReused: the request_id came before with another body.
            StoredRefusal: it was refused.
        """
        row = (await work.execute(_SQL["read_request"], self.key(work))).one()
        if bytes(row.fingerprint) != self.fingerprint:
            raise RequestIdReused(
                f"request_id {self.request_id} was already used with a different body; a new request needs a new one",
                request_id=self.request_id,
            )
        if row.status == "CLAIMED":
            return None
        if row.error is not None:
            raise StoredRefusal(json.loads(bytes(row.error)))
        return bytes(row.response)


class Commands:
    """Runs use cases, at most once for each (tenant, name, request_id)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(
        self,
        use_case: UseCase[CommandT, AnswerT, ResponseT],
        command: CommandT,
        request: Request,
    ) -> ResponseT:
        """Carry a command out and store its answer in one transaction, or give the stored answer.

        With `validate_only` the same is done and undone: the response says what would come of it. A request whose
        request_id may be missing, and is, is carried out each time that it comes.

        Raises:
            RequestIdReused: the request_id came before with another body.
            DomainError: whatever the use case refused with, now or the first time.
        """
        if getattr(request, "validate_only", False):
            return await _retried(lambda: self._tried(use_case, command))
        if not request.request_id:
            return await _retried(lambda: self._carried_out(use_case, command))
        record = _record(use_case.name, request)
        return await _retried(lambda: self._once(use_case, command, record))

    async def apply(
        self,
        name: str,
        run: Callable[[CommandT, UnitOfWork], Awaitable[AnswerT]],
        command: CommandT,
    ) -> AnswerT:
        """Carry a command out that needs no request_id, since what it holds has ids of its own.

        `name` gives the crash points of its unit of work.
        """

        async def attempt() -> AnswerT:
            async with self._database.unit_of_work(name) as work:
                return await run(command, work)

        return await _retried(attempt)

    async def run_steps(
        self,
        use_case: SteppedUseCase[CommandT, AnswerT, ResponseT],
        command: CommandT,
        request: Request,
    ) -> ResponseT:
        """Carry a command out that crosses the network, from where an earlier call stopped.

        Raises:
            RequestIdReused: the request_id came before with another body.
            RequestInProgress: other calls of the same request keep ending first.
            DomainError: whatever the use case refused with, now or the first time.
        """
        record = _record(use_case.name, request)
        for _ in range(TRIES_MAX):
            async with self._database.unit_of_work(use_case.name) as work:
                known = None if await record.claim(work) else await record.stored(work)
            if known is not None:
                return use_case.response_type.FromString(known)
            with contextlib.suppress(AnsweredMeanwhile):
                claimed = Claimed(self._database, record, use_case.respond)
                await use_case.run(command, claimed)
                response: ResponseT = claimed.response
                assert response is not None, "a use case ended without its answer"
                return response
        raise RequestInProgress(
            f"other calls with request_id {request.request_id} keep getting in first; repeat the same call",
            request_id=request.request_id,
            retry_after_ms=100,
        )

    async def claim_for(
        self, work: UnitOfWork, name: str, request_id: str, fingerprint: bytes, subject_id: str
    ) -> str:
        """Claim a request for the thing that it makes, and whose state is its answer.

        Returns the id of the thing that the request stands for: `subject_id` the first time, and later the one that
        it named then. The record commits with `work`.

        Raises:
            RequestIdReused: the request_id came before with another body.
        """
        record = _Record(name, request_id, fingerprint)
        values = {
            **record.key(work),
            "fingerprint": fingerprint,
            "response": subject_id.encode(),
        }
        if (await work.execute(_SQL["claim_answered"], values)).first() is not None:
            return subject_id
        stored = await record.stored(work)
        assert stored is not None, "it was stored with its answer"
        return stored.decode()

    async def _once(
        self,
        use_case: UseCase[CommandT, AnswerT, ResponseT],
        command: CommandT,
        record: _Record,
    ) -> ResponseT:
        refusal = None
        async with self._database.unit_of_work(use_case.name) as work:
            if not await record.claim(work):
                known = await record.stored(work)
                if known is None and not await record.hold(work):
                    known = await record.stored(work)
                if known is not None:
                    return use_case.response_type.FromString(known)
            try:
                async with work.savepoint():
                    response = await _responded(use_case, await use_case.run(command, work))
                kept = use_case.kept(response) if use_case.kept else response
                await record.finish(work, kept.SerializeToString(deterministic=True))
            except DomainError as error:
                if not error.is_answer:
                    raise
                work.forget()
                refusal = error
                await record.finish(work, None, refusal_bytes(error))
        if refusal is not None:
            raise refusal
        return response

    async def _tried(
        self, use_case: UseCase[CommandT, AnswerT, ResponseT], command: CommandT
    ) -> ResponseT:
        async with self._database.trial() as work:
            return await _responded(use_case, await use_case.run(command, work))

    async def _carried_out(
        self, use_case: UseCase[CommandT, AnswerT, ResponseT], command: CommandT
    ) -> ResponseT:
        async with self._database.unit_of_work(use_case.name) as work:
            return await _responded(use_case, await use_case.run(command, work))


class Claimed(Generic[AnswerT]):
    """A request that this call works on, step by step; others may work on it too.

    Attributes:
        response: what was answered, once it was.
    """

    def __init__(
        self, database: Database, record: _Record, respond: Callable[[AnswerT], Any]
    ) -> None:
        self._database = database
        self._record = record
        self._respond = respond
        self.response: Any = None

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[UnitOfWork]:
        """Open the unit of work of a step; nobody else answers the request before it ends.

        The request is locked before anything else: locks in one order do not meet in a circle.

        Raises:
            AnsweredMeanwhile: somebody has answered it.
        """
        async with self._database.unit_of_work(name) as work:
            if not await self._record.hold(work):
                raise AnsweredMeanwhile
            yield work

    async def finish(self, work: UnitOfWork, answer: AnswerT) -> None:
        """Store the answer with the last step."""
        response = self._respond(answer)
        await self._record.finish(work, response.SerializeToString(deterministic=True))
        self.response = response

    @asynccontextmanager
    async def refusing(
        self, name: str, told: Callable[[DomainError, UnitOfWork, bool], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Store what the steps inside refuse with: as the answer if it is one, else as the latest refusal.

        What another try may get past, e.g. a service that cannot be reached, passes as it is.

        Args:
            name: of the unit of work that stores it.
            told: called in it with the refusal, and whether it is another one than before.
        """
        try:
            yield
        except DomainError as error:
            if not error.transient and error.retry_after_ms is None:
                async with self.step(name) as work:
                    stored = refusal_bytes(error)
                    if error.is_answer:
                        is_new = await self._record.finish(work, None, stored)
                    else:
                        is_new = await self._record.note(work, stored)
                    await told(error, work, is_new)
            raise


def fingerprint(request: Request) -> bytes:
    """Return 32 bytes that differ when the content of the request differs."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def refusal_bytes(error: DomainError) -> bytes:
    """Return a refusal as it is stored: the same bytes for the same refusal."""
    stored = {
        "code": error.code.value,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
        "fields": [[field.field, field.description] for field in error.fields],
    }
    # Sorted, so that the same refusal has the same bytes: metadata from the wire comes in any order.
    return json.dumps(stored, sort_keys=True).encode()


def _record(name: str, request: Request) -> _Record:
    return _Record(name, request.request_id, fingerprint(request))


async def _responded(use_case: UseCase[CommandT, AnswerT, ResponseT], answer: AnswerT) -> ResponseT:
    response = use_case.respond(answer)
    if inspect.isawaitable(response):
        response = await response
    return response


async def _retried(attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Run a transaction again when Postgres chose it as the victim of a deadlock or a conflict.

    It was rolled back for certain, so running it again repeats nothing.
    """
    for _ in range(ATTEMPTS_MAX - 1):
        try:
            return await attempt()
        except DatabaseUnavailable as error:
            if not isinstance(error.__cause__, _VICTIMS):
                raise
        await asyncio.sleep(0)
    return await attempt()
