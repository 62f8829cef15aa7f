"""What can go wrong, each a class of its own. All are TollmeshError."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from payments_sdk.google.rpc import BadRequest, ErrorInfo, RetryInfo, Status
from payments_sdk.payments.metering.v1 import UsageEvent

DETAILS_KEY = "grpc-status-details-bin"
CALL_ID_KEY = "x-request-id"
# Of bytes that are no such message. betterproto2 does not check wire types: a value of another one fails where it is
# first used as what it is not.
_UNREADABLE = (
    *(ValueError, EOFError, struct.error, OverflowError),
    *(AttributeError, LookupError, TypeError),
)


class TollmeshError(Exception):
    """Anything that this package raises by itself."""


class ConfigurationError(TollmeshError, ValueError):
    """An address, key or setting cannot be used; the message says which and what would be right."""


class ClientClosed(TollmeshError):
    """The client was closed before the call."""


class UsedAfterFork(TollmeshError):
    """A client or ingester was used in a process forked from its own, or cannot be made there. Nothing was done.

    Threads, connections and locks do not come along: make one in each process, after the fork.
    """


class MessageTooLarge(TollmeshError, ValueError):
    """A request is larger than a mesh takes (16 MiB). Nothing was sent: split it."""


# ---- Calls


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request that breaks a rule.

    Attributes:
        field: path of the field, e.g. `price.tiers[1].up_to`.
        description: the rule that it breaks.
    """

    field: str
    description: str


@dataclass(frozen=True)
class Details:
    """What the mesh says of an error beside code and message.

    Attributes:
        reason: name of the payments.errors.v1.ErrorReason without its prefix, e.g. `PERIOD_NOT_ENDED`; empty when no
            service of the mesh wrote the error.
        domain: `tollmesh.dev`, or who else named the reason.
        metadata: the dynamic values of the reason.
        field_violations: fields that break rules.
        retry_after: seconds after which the same call may succeed; None when the mesh does not say.
    """

    reason: str = ""
    domain: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    field_violations: tuple[FieldViolation, ...] = ()
    retry_after: float | None = None


class CallError(TollmeshError):
    """A call failed. The subclass tells the code of gRPC.

    Attributes:
        code: name of the code of gRPC, e.g. `NOT_FOUND`.
        message: what is wrong and what to do, for people.
        details: what else the mesh says; reason, metadata, field_violations and retry_after are its.
        method: path of the RPC.
        request_id: idempotency key of the request, given or generated; empty for an RPC without one. The same request
            with this id gives the answer of the first one, or carries it out once.
        call_id: id of the call in the logs of the mesh; empty when the mesh did not answer.
        attempts: how often it was tried.
    """

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        details: Details | None = None,
        method: str = "",
        call_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or Details()
        self.method = method
        self.request_id = ""
        self.call_id = call_id
        self.attempts = 1

    @property
    def reason(self) -> str:
        """Name of the ErrorReason; see Details."""
        return self.details.reason

    @property
    def metadata(self) -> Mapping[str, str]:
        """Dynamic values of the reason."""
        return self.details.metadata

    @property
    def field_violations(self) -> tuple[FieldViolation, ...]:
        """Fields of the request that break rules."""
        return self.details.field_violations

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the same call may succeed."""
        return self.details.retry_after

    def __str__(self) -> str:
        name = f"{self.code} {self.reason}".strip()
        fields = "".join(f"; {at.field}: {at.description}" for at in self.field_violations)
        return f"{name}: {self.message}{fields}"


class Cancelled(CallError):
    """The call was cancelled, by this side or by the other. It may have been carried out."""

    code = "CANCELLED"


class UnknownError(CallError):
    """A server or proxy failed without saying how."""

    code = "UNKNOWN"


class InvalidArgument(CallError):
    """The request breaks rules whatever the state of the mesh; `field_violations` names the fields."""

    code = "INVALID_ARGUMENT"


class DeadlineExceeded(CallError):
    """No answer in time. The call may have been carried out: the same request_id finds out."""

    code = "DEADLINE_EXCEEDED"


class NotFound(CallError):
    """There is no such thing."""

    code = "NOT_FOUND"


class AlreadyExists(CallError):
    """There is one already, or the request_id was used for another request."""

    code = "ALREADY_EXISTS"


class PermissionDenied(CallError):
    """The key has not the scope."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(CallError):
    """A limit is reached."""

    code = "RESOURCE_EXHAUSTED"


class FailedPrecondition(CallError):
    """The state of the mesh does not allow it; the reason says which."""

    code = "FAILED_PRECONDITION"


class Aborted(CallError):
    """Another call came between."""

    code = "ABORTED"


class OutOfRange(CallError):
    """A value lies outside of what exists."""

    code = "OUT_OF_RANGE"


class Unimplemented(CallError):
    """The server does not know this call: it is another service, or a mesh of another version."""

    code = "UNIMPLEMENTED"


class Internal(CallError):
    """A fault of the mesh. The same request may be sent again; nothing is done twice."""

    code = "INTERNAL"


class Unavailable(CallError):
    """The mesh, or something that it needs, cannot be reached now."""

    code = "UNAVAILABLE"


class DataLoss(CallError):
    """Stored data is damaged."""

    code = "DATA_LOSS"


class Unauthenticated(CallError):
    """The API key is missing, unknown, revoked or expired."""

    code = "UNAUTHENTICATED"


BY_CODE: Mapping[str, type[CallError]] = {kind.code: kind for kind in CallError.__subclasses__()}


def call_error(
    code: str, message: str, trailers: Iterable[tuple[str, str | bytes]], method: str
) -> CallError:
    """Return the error of a call that ended with a code and trailing metadata."""
    values = dict(trailers)
    call_id = values.get(CALL_ID_KEY, "")
    kind = BY_CODE.get(code, UnknownError)
    return kind(
        message,
        details=read_details(values.get(DETAILS_KEY, b"")),
        method=method,
        call_id=call_id if isinstance(call_id, str) else "",
    )


def read_details(data: str | bytes) -> Details:
    """Read an encoded google.rpc.Status; what is none has no details."""
    if not isinstance(data, bytes) or not data:
        return Details()
    info, fields, retry_after = ErrorInfo(), BadRequest(), None
    try:
        for detail in Status.parse(data).details:
            name = detail.type_url.rpartition("/")[2]
            if name == "google.rpc.ErrorInfo":
                info = ErrorInfo.parse(detail.value)
            elif name == "google.rpc.BadRequest":
                fields = BadRequest.parse(detail.value)
            elif name == "google.rpc.RetryInfo":
                delay = RetryInfo.parse(detail.value).retry_delay
                retry_after = None if delay is None else max(delay.total_seconds(), 0.0)
        return Details(
            reason=info.reason,
            domain=info.domain,
            metadata=dict(info.metadata),
            field_violations=tuple(
                FieldViolation(at.field, at.description) for at in fields.field_violations
            ),
            retry_after=retry_after,
        )
    except _UNREADABLE:
        return Details()


# ---- Ingest


class IngestError(TollmeshError):
    """An event was not taken over. Events that were taken over before are not affected."""


class IngesterClosed(IngestError):
    """The ingester was closed; the event was not taken over."""


class QueueFull(IngestError):
    """There is no room for more events: the mesh is away or slower than they come. The event was not taken over."""


class EventTooLarge(IngestError, ValueError):
    """One event is larger than a batch may be."""


class EventsUnsent(IngestError):
    """Time ran out while events still waited for the mesh.

    Attributes:
        pending: how many. With a spool they are on the disk, and go out after the next start.
    """

    def __init__(self, message: str, pending: int) -> None:
        super().__init__(message)
        self.pending = pending


class SpoolError(IngestError):
    """The spool cannot be used.

    Attributes:
        path: file or directory.
    """

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class SpoolFull(QueueFull, SpoolError):
    """The spool has reached its own limit. The event was not taken over; all in the spool stay."""


class SpoolDiskFull(SpoolError):
    """The disk of the spool has no room. The event was not taken over; all in the spool stay."""


class SpoolInUse(SpoolError):
    """Another ingester, here or in another process, uses the directory: give each one of its own."""


class SpoolDamaged(SpoolError):
    """A file of the spool is damaged before its end; nothing was changed.

    Attributes:
        offset: where the damage begins, in bytes.
    """

    def __init__(self, message: str, path: Path, offset: int) -> None:
        super().__init__(message, path)
        self.offset = offset


@dataclass(frozen=True)
class Verdict:
    """What became of an event that was not accepted.

    Attributes:
        request_id: id of the event.
        outcome: `DUPLICATE` (stored before: nothing is wrong), `CONFLICT` (another event has its id), `REJECTED` (it
            breaks a rule), or `FAILED` (the mesh refuses a call that holds only this event).
        reason: ErrorReason without prefix, e.g. `UNKNOWN_SKU`.
        message: what is wrong and what to do.
        encoded: the event as it was sent.
    """

    request_id: str
    outcome: str
    reason: str
    message: str
    encoded: bytes = field(repr=False)

    @property
    def event(self) -> UsageEvent:
        """The event."""
        return UsageEvent.parse(self.encoded)
