"""The same request_id with the same body gets the first answer again; with another body it is refused.

Refusals that are about the request itself are answers too and are stored. One that depends on state which others
change is not: configure what was missing, make the same call again, and it is carried out. Rule: architecture, after
AIP-155; records are kept for good, because a money request may be retried long after.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import Code, DomainError, FieldViolation, RequestIdReused
from services.runtime.postgres import sql

_SQL = sql.load("services.runtime", "queries.sql")


class Request(Protocol):
    """A mutating request: a message with a request_id."""

    request_id: str

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:  # noqa: N802
        """Encode the message."""


ResponseT = TypeVar("ResponseT", bound=Message)


class StoredRefusal(DomainError):
    """The refusal that a request_id got before, given again."""

    state_dependent = False

    def __init__(self, stored: dict[str, Any]) -> None:
        fields = [FieldViolation(*pair) for pair in stored["fields"]]
        super().__init__(stored["message"], fields=fields)
        self.code = Code(stored["code"])
        self.reason = stored["reason"]
        self.metadata = stored["metadata"]


class Idempotency:
    """Runs use cases at most once for each (tenant, name, request_id)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def once(
        self,
        name: str,
        request: Request,
        response_type: type[ResponseT],
        handler: Callable[[UnitOfWork], Awaitable[ResponseT]],
    ) -> ResponseT:
        """Run `handler` and store its answer in one transaction, or give the stored answer.

        `name` names the use case and gives the crash points of its unit of work.

        Raises:
            RequestIdReused: the request_id came before with another body.
            DomainError: whatever the handler refused with, now or the first time.
        """
        async with self._database.unit_of_work(name) as work:
            key = _key(work, name, request)
            if not await _claimed(work, key, request):
                stored = await self._stored(work, key, request, response_type)
                if stored is None and not await self.hold(work, name, request):
                    stored = await self._stored(work, key, request, response_type)
                if stored is not None:
                    return stored
            refusal = None
            try:
                async with work.savepoint():
                    response = await handler(work)
                await _finish(work, key, response.SerializeToString(deterministic=True), None)
            except DomainError as error:
                if not error.is_answer:
                    raise
                work.forget()
                refusal = error
                await _finish(work, key, None, refusal_bytes(error))
        if refusal is not None:
            raise refusal
        return response

    async def claim(
        self, name: str, request: Request, response_type: type[ResponseT]
    ) -> ResponseT | None:
        """Claim a request whose use case crosses the network; returns its answer when it has one.

        None means: go on, from the start or from where an earlier call stopped.

        Raises:
            RequestIdReused: the request_id came before with another body.
        """
        async with self._database.unit_of_work(name) as work:
            key = _key(work, name, request)
            if await _claimed(work, key, request):
                return None
            return await self._stored(work, key, request, response_type)

    async def hold(self, work: UnitOfWork, name: str, request: Request) -> bool:
        """Keep others from answering a claimed request until this transaction ends; False when one did.

        For a step whose state and whose answer must not contradict each other, e.g. a charge that is stored by one
        call while another stores a refusal.
        """
        rows = await work.execute(_SQL["hold_request"], _key(work, name, request))
        return rows.first() is not None

    async def finish(
        self, work: UnitOfWork, name: str, request: Request, response: Message
    ) -> bool:
        """Store the answer of a claimed request; False when another call stored it before."""
        payload = response.SerializeToString(deterministic=True)
        return await _finish(work, _key(work, name, request), payload, None)

    async def refuse(
        self, work: UnitOfWork, name: str, request: Request, error: DomainError
    ) -> bool:
        """Store a refusal of a claimed request: as its answer if it is one, else as the latest that it got.

        Returns False for one that the request got before, and when another call has answered it.
        """
        key, stored = _key(work, name, request), refusal_bytes(error)
        if error.is_answer:
            return await _finish(work, key, None, stored)
        row = await work.execute(_SQL["note_refusal"], {**key, "error": stored})
        return row.first() is not None

    async def _stored(
        self,
        work: UnitOfWork,
        key: dict[str, Any],
        request: Request,
        response_type: type[ResponseT],
    ) -> ResponseT | None:
        row = (await work.execute(_SQL["read_request"], key)).one()
        if bytes(row.fingerprint) != fingerprint(request):
            raise RequestIdReused(
                f"request_id {request.request_id} was used before with another body; a new request needs a new one",
                request_id=request.request_id,
            )
        if row.status == "CLAIMED":
            return None
        if row.error is not None:
            raise StoredRefusal(json.loads(bytes(row.error)))
        return response_type.FromString(bytes(row.response))


def fingerprint(request: Request) -> bytes:
    """Return 32 bytes that differ when the content of the request differs."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def _key(work: UnitOfWork, name: str, request: Request) -> dict[str, Any]:
    return {"tenant_id": work.tenant_id, "name": name, "request_id": UUID(request.request_id)}


async def _claimed(work: UnitOfWork, key: dict[str, Any], request: Request) -> bool:
    row = await work.execute(_SQL["claim_request"], {**key, "fingerprint": fingerprint(request)})
    return row.first() is not None


async def _finish(
    work: UnitOfWork, key: dict[str, Any], response: bytes | None, error: bytes | None
) -> bool:
    row = await work.execute(_SQL["finish_request"], {**key, "response": response, "error": error})
    return row.first() is not None


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
