"""Typed errors. A handler raises one; the errors interceptor turns it into a google.rpc.Status.

Pure: domain modules import it. Each class names a reason of `payments.errors.v1.ErrorReason`, where the
reason is documented with an example.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self, dataclass_transform

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


@dataclass(frozen=True, slots=True)
class Key:
    """One metadata key of an error class.

    Attributes:
        name: as ErrorInfo spells it, and the argument of the constructor.
        optional: False when every error of the class has it.
        given: False when the class fills it in itself, so that no constructor takes it.
    """

    name: str
    optional: bool
    given: bool = True


@dataclass(frozen=True, slots=True)
class _Declared:
    alias: str
    init: bool


def declared(*, alias: str = "", init: bool = True, kw_only: bool = True) -> Any:
    """Declare a key whose name cannot be the attribute's (`alias`), or that its class fills in itself (`init`)."""
    return _Declared(alias, init)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(declared,))
class _WithKeys(Exception):
    """Lets type checkers read the constructor of each error class off its annotated attributes.

    They are the metadata keys of the class. One whose default is None is optional, and left out when it is None.
    """

    code: Code = Code.INTERNAL
    reason: str = "INTERNAL"
    state_dependent: bool = True
    metadata: dict[str, str]
    keys: Mapping[str, Key] = MappingProxyType({})


class DomainError(_WithKeys):
    """Root of every error that a caller may see.

    A class declares its metadata keys as annotated attributes, and its constructor takes exactly these:

        class ScopeMissing(DomainError):
            code = Code.PERMISSION_DENIED
            reason = "SCOPE_MISSING"
            state_dependent = True
            scope: str
            method: str

    Attributes:
        code: gRPC status code.
        reason: name in ErrorReason without its prefix.
        state_dependent: True when the refusal depends on what others may change (a plan, a configuration, what is
            stored, a key's scopes): the same request may succeed then, so the refusal is not its answer. False when
            it is about the request itself and stays true of it. Every class says which.
        keys: the metadata keys of the class, by attribute.
        message: a sentence that says what is wrong and what to do.
        metadata: every dynamic value of the message, by name, as text.
        fields: the fields at fault, for google.rpc.BadRequest.
        retry_after_ms: when the same call may be made again; None when that cannot help.
    """

    message: str = declared(kw_only=False)
    fields: Sequence[FieldViolation] = ()
    retry_after_ms: int | None = None

    def __init_subclass__(cls) -> None:
        own = {}
        for attribute in inspect.get_annotations(cls):
            default = cls.__dict__.get(attribute, ...)
            if isinstance(default, _Declared):
                own[attribute] = Key(default.alias or attribute, optional=False, given=default.init)
                delattr(cls, attribute)
            else:
                own[attribute] = Key(attribute, optional=default is None)
        cls.keys = MappingProxyType({**cls.keys, **own})

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
        self.metadata = {}
        for attribute, key in self.keys.items():
            if not key.given:
                continue
            if (value := metadata.pop(key.name, None)) is not None:
                setattr(self, attribute, value)
                self.metadata[key.name] = encodable(str(value))
            elif not key.optional:
                raise TypeError(f"{type(self).__name__} needs {key.name}")
        if metadata:
            raise TypeError(f"{type(self).__name__} does not declare {', '.join(metadata)}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Made again as it is: its constructor would ask for its keys.
        return _bare, (type(self), *self.args), self.__dict__

    @property
    def transient(self) -> bool:
        """True when the same call may end differently soon, without anybody changing anything."""
        return self.code in TRANSIENT_CODES

    @property
    def is_answer(self) -> bool:
        """True when the same request would be refused for ever, so that the refusal is stored as its answer."""
        return not (self.state_dependent or self.transient or self.retry_after_ms is not None)


def _bare(kind: type[DomainError], *args: object) -> DomainError:
    return kind.__new__(kind, *args)


class InvalidField(DomainError):
    """A field breaks its rule."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_FIELD"
    state_dependent = False
    paths: str = declared(alias="fields", init=False)
    pointer: str | None = None

    @classmethod
    def of(cls, violations: Sequence[FieldViolation], pointer: str | None = None) -> Self:
        """Name every violation in one error; `pointer` is the JSON pointer of the fault, of an event."""
        first = violations[0]
        rest = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        error = cls(f"{first.field}: {first.description}{rest}", fields=violations, pointer=pointer)
        error.paths = ",".join(violation.field for violation in violations[:20])
        error.metadata["fields"] = encodable(error.paths)
        return error

    @classmethod
    def one(cls, field: str, description: str, pointer: str | None = None) -> Self:
        """Name one violation."""
        return cls.of([FieldViolation(field, description)], pointer)


class UnfitNow(InvalidField):
    """A field that is sound does not fit what is stored, or the time of the call: the same request may fit later."""

    state_dependent = True


class UndecodableRequest(DomainError):
    """The bytes of a request are not a message of the expected type."""

    code = Code.INVALID_ARGUMENT
    reason = "UNDECODABLE_REQUEST"
    state_dependent = False
    method: str | None = None
    messages_max: int | None = None


class Unauthenticated(DomainError):
    """No key, or one that is unknown, expired or revoked."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"
    state_dependent = True
    cause: str


class ScopeMissing(DomainError):
    """The key is good but lacks the scope of the RPC."""

    code = Code.PERMISSION_DENIED
    reason = "SCOPE_MISSING"
    state_dependent = True
    scope: str
    method: str


class TenantMismatch(DomainError):
    """The request names a tenant that is not its credential's."""

    code = Code.PERMISSION_DENIED
    reason = "TENANT_MISMATCH"
    state_dependent = True
    tenant_id: str
    pointer: str | None = None


class RequestIdReused(DomainError):
    """A request_id came again with another body."""

    code = Code.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"
    state_dependent = False
    request_id: str


class RequestInProgress(DomainError):
    """The same request is being worked on by another call."""

    code = Code.ABORTED
    reason = "REQUEST_IN_PROGRESS"
    state_dependent = True
    request_id: str


class IdempotencyKeyMismatch(DomainError):
    """Header Idempotency-Key and field request_id name different requests."""

    code = Code.INVALID_ARGUMENT
    reason = "IDEMPOTENCY_KEY_MISMATCH"
    state_dependent = False
    header: str
    field: str


class IdempotencyKeyUnused(DomainError):
    """Header Idempotency-Key came with a call that has no request_id to take it, and changes something."""

    code = Code.INVALID_ARGUMENT
    reason = "IDEMPOTENCY_KEY_UNUSED"
    state_dependent = False
    method: str


class InvalidPageToken(DomainError):
    """A page_token that this List did not give for these arguments."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_PAGE_TOKEN"
    state_dependent = False
    page_token: str


class NotFound(DomainError):
    """A resource does not exist for this tenant."""

    code = Code.NOT_FOUND
    reason = "NOT_FOUND"
    state_dependent = True
    resource: str
    id: str

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
    free_bytes: int | None = None
    free_bytes_min: int | None = None


class DependencyUnavailable(DomainError):
    """Another service of the mesh cannot be reached."""

    code = Code.UNAVAILABLE
    reason = "DEPENDENCY_UNAVAILABLE"
    state_dependent = True
    service: str


class DeadlineExceeded(DomainError):
    """The deadline of the call passed."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"
    state_dependent = True
    method: str | None = None
    service: str | None = None


class Overloaded(DomainError):
    """A limit on load was reached."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    state_dependent = True
    limit: int | None = None


class Internal(DomainError):
    """An internal error."""

    code = Code.INTERNAL
    reason = "INTERNAL"
    state_dependent = True
    request_id: str | None = None


class AmountOverflow(DomainError):
    """An amount leaves the range of 64-bit minor units."""

    code = Code.OUT_OF_RANGE
    reason = "AMOUNT_OVERFLOW"
    state_dependent = True
    currency_code: str


class CurrencyMismatch(DomainError):
    """Amounts of different currencies meet where only one may be."""

    code = Code.INVALID_ARGUMENT
    reason = "CURRENCY_MISMATCH"
    state_dependent = True
    left: str
    right: str


class UnknownCurrency(DomainError):
    """A currency code that is not in ISO 4217."""

    code = Code.INVALID_ARGUMENT
    reason = "UNKNOWN_CURRENCY"
    state_dependent = False
    currency_code: str


class BatchTooLarge(DomainError):
    """More items than one call may carry."""

    code = Code.INVALID_ARGUMENT
    reason = "BATCH_TOO_LARGE"
    state_dependent = False
    items: int | str
    items_max: int
