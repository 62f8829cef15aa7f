"""Typed errors. A handler raises one; the errors interceptor turns it into a google.rpc.Status.

Pure: domain modules import it. Each class names a reason of `payments.errors.v1.ErrorReason`, where the
reason is documented with an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.runtime.texts import encodable


class Code(StrEnum):
    """gRPC status codes, by their names."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"


# What a refusal with one of these codes depends on passes by itself: the same call may be made again as it is.
TRANSIENT_CODES = frozenset(
    {
        Code.ABORTED,
        Code.DEADLINE_EXCEEDED,
        Code.INTERNAL,
        Code.RESOURCE_EXHAUSTED,
        Code.UNAVAILABLE,
    }
)


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken rule of one field.

    Attributes:
        field: path of the field as the proto spells it, e.g. `transfers[3].amount.currency_code`.
        description: what is wrong and what would be right.
    """

    field: str
    description: str


def _written(found: FieldViolation) -> FieldViolation:
    return FieldViolation(encodable(found.field), encodable(found.description))


class DomainError(Exception):
    """Root of every error that a caller may see.

    Attributes:
        code: gRPC status code.
        reason: name in ErrorReason without its prefix.
        state_dependent: True when the refusal depends on what others may change (a plan, a configuration, what is
            stored, a key's scopes): the same request may succeed then, so the refusal is not its answer. False when
            it is about the request itself and stays true of it. Every class says which.
        message: a sentence that says what is wrong and what to do.
        metadata: every dynamic value of the message, by name, as text.
        fields: the fields at fault, for google.rpc.BadRequest.
        retry_after_ms: when the same call may be made again; None when that cannot help.
    """

    code: Code = Code.INTERNAL
    reason: str = "INTERNAL"
    state_dependent: bool = True

    def __init__(
        self,
        message: str,
        *,
        fields: Sequence[FieldViolation] = (),
        retry_after_ms: int | None = None,
        **metadata: object,
    ) -> None:
        # They quote what a caller sent, and have to be written down for it all the same.
        super().__init__(encodable(message))
        self.message = encodable(message)
        self.fields = tuple(map(_written, fields))
        self.retry_after_ms = retry_after_ms
        self.metadata = {key: encodable(str(value)) for key, value in metadata.items()}

    @property
    def transient(self) -> bool:
        """True when the same call may end differently soon, without anybody changing anything."""
        return self.code in TRANSIENT_CODES

    @property
    def is_answer(self) -> bool:
        """True when the same request would be refused for ever, so that the refusal is stored as its answer."""
        return not (self.state_dependent or self.transient or self.retry_after_ms is not None)


class InvalidField(DomainError):
    """A field breaks its rule."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_FIELD"
    state_dependent = False

    @classmethod
    def of(cls, violations: Sequence[FieldViolation]) -> InvalidField:
        """Name every violation in one error."""
        first = violations[0]
        rest = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        error = cls(f"{first.field}: {first.description}{rest}", fields=violations)
        error.metadata["fields"] = ",".join(violation.field for violation in violations[:20])
        return error

    @classmethod
    def one(cls, field: str, description: str) -> InvalidField:
        """Name one violation."""
        return cls.of([FieldViolation(field, description)])


class UndecodableRequest(DomainError):
    """The bytes of a request are not a message of the expected type."""

    code = Code.INVALID_ARGUMENT
    reason = "UNDECODABLE_REQUEST"
    state_dependent = False


class Unauthenticated(DomainError):
    """No key, or one that is unknown, expired or revoked."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"
    state_dependent = True


class ScopeMissing(DomainError):
    """The key is good but lacks the scope of the RPC."""

    code = Code.PERMISSION_DENIED
    reason = "SCOPE_MISSING"
    state_dependent = True


class TenantMismatch(DomainError):
    """The request names a tenant that is not its credential's."""

    code = Code.PERMISSION_DENIED
    reason = "TENANT_MISMATCH"
    state_dependent = True


class RequestIdReused(DomainError):
    """A request_id came again with another body."""

    code = Code.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"
    state_dependent = False


class RequestInProgress(DomainError):
    """The same request is being worked on by another call."""

    code = Code.ABORTED
    reason = "REQUEST_IN_PROGRESS"
    state_dependent = True


class IdempotencyKeyMismatch(DomainError):
    """Header Idempotency-Key and field request_id name different requests."""

    code = Code.INVALID_ARGUMENT
    reason = "IDEMPOTENCY_KEY_MISMATCH"
    state_dependent = False


class InvalidPageToken(DomainError):
    """A page_token that this List did not give for these arguments."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_PAGE_TOKEN"
    state_dependent = False


class NotFound(DomainError):
    """A resource does not exist for this tenant."""

    code = Code.NOT_FOUND
    reason = "NOT_FOUND"
    state_dependent = True

    def __init__(self, resource: str, resource_id: str) -> None:
        super().__init__(
            f"{resource} {resource_id} does not exist", resource=resource, id=resource_id
        )


class DatabaseUnavailable(DomainError):
    """The database cannot be reached, or broke off, be it during the commit; the same request finds out."""

    code = Code.UNAVAILABLE
    reason = "DATABASE_UNAVAILABLE"
    state_dependent = True


class StorageLow(DomainError):
    """Little or no room is left where the database keeps its files; nothing was changed."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "STORAGE_LOW"
    state_dependent = True


class DependencyUnavailable(DomainError):
    """Another service of the mesh cannot be reached."""

    code = Code.UNAVAILABLE
    reason = "DEPENDENCY_UNAVAILABLE"
    state_dependent = True


class DeadlineExceeded(DomainError):
    """The deadline of the call passed."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"
    state_dependent = True


class Overloaded(DomainError):
    """A limit on load was reached."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    state_dependent = True


class Internal(DomainError):
    """An internal error."""

    code = Code.INTERNAL
    reason = "INTERNAL"
    state_dependent = True


class AmountOverflow(DomainError):
    """An amount leaves the range of 64-bit minor units."""

    code = Code.OUT_OF_RANGE
    reason = "AMOUNT_OVERFLOW"
    state_dependent = True


class CurrencyMismatch(DomainError):
    """Amounts of different currencies meet where only one may be."""

    code = Code.INVALID_ARGUMENT
    reason = "CURRENCY_MISMATCH"
    state_dependent = True


class UnknownCurrency(DomainError):
    """A currency code that is not in ISO 4217."""

    code = Code.INVALID_ARGUMENT
    reason = "UNKNOWN_CURRENCY"
    state_dependent = False


class BatchTooLarge(DomainError):
    """More items than one call may carry."""

    code = Code.INVALID_ARGUMENT
    reason = "BATCH_TOO_LARGE"
    state_dependent = False
