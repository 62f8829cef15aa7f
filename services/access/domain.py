"""Rules of API keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from uuid import UUID

from services.runtime.errors import (
    Code,
    DomainError,
    FieldViolation,
    InvalidField,
    TenantMismatch,
    Unauthenticated,
)

OPERATOR_SCOPE = "mesh:admin"
SCOPE_ALL = "*"
KEY_ID_PREFIX = "key"


class ScopeNotGrantable(DomainError):
    """A key may not be given scopes that its maker does not hold."""

    code = Code.PERMISSION_DENIED
    reason = "SCOPE_NOT_GRANTABLE"
    state_dependent = True
    scope: str


class MakerEnded(Unauthenticated):
    """The key that asks for another one was revoked, or has expired, meanwhile."""

    @property
    def transient(self) -> bool:
        """True: that is no answer to the request, which another key may make again."""
        return True


class KeepNotAllowed(DomainError):
    """What a leaked key has made would outlive it, if its holder could have it kept."""

    code = Code.PERMISSION_DENIED
    reason = "KEEP_NOT_ALLOWED"
    state_dependent = True
    key_id: str


# Before and after everything that is recorded.
EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
NO_ENTRY = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which audit entries are asked for; what is empty narrows nothing.

    Attributes:
        start_at: first instant.
        end_at: first instant after them.
    """

    kinds: tuple[str, ...] = ()
    subject_id: str = ""
    actor: str = ""
    start_at: datetime = EARLIEST
    end_at: datetime = LATEST


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change of configuration or reference data.

    Attributes:
        before: the content before, as JSON; None for what is new.
        after: the content now, as JSON; None for what was removed.
        request_id: of the call; "" for none.
    """

    audit_id: UUID
    kind: str
    subject_id: str
    actor: str
    before: str | None
    after: str | None
    request_id: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key; times are UTC.

    Attributes:
        parent_key_id: the key that made it, with which it ends; empty when no key did.
        revoked_with: the key with whose revocation it ended; empty when it was revoked itself.
        keys_ended: how many ended with it.
    """

    key_id: str
    prefix: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    parent_key_id: str = ""
    revoked_with: str = ""
    keys_ended: int = 0

    def as_audited(self) -> dict[str, object]:
        """Return what an audit entry shows of it."""
        return {
            "name": self.name,
            "prefix": self.prefix,
            "scopes": list(self.scopes),
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
            "revoked_at": self.revoked_at.isoformat() if self.revoked_at else None,
        }


def parent_of(maker_id: str) -> str:
    """Return the id of the key that a principal creates keys with; empty when it is not a key."""
    return maker_id if maker_id.startswith(f"{KEY_ID_PREFIX}_") else ""


def check_maker(maker_id: str, held: Collection[str]) -> None:
    """Refuse a service: its token lasts minutes, but a key created with it lives on.

    Raises:
        ScopeNotGrantable: the maker is neither a key nor the operator.
    """
    if not parent_of(maker_id) and OPERATOR_SCOPE not in held:
        raise ScopeNotGrantable(
            f"keys are created with another key, or by the operator with scope {OPERATOR_SCOPE}; not by a service",
            scope=OPERATOR_SCOPE,
        )


def check_grant(asked: Iterable[str], held: Collection[str]) -> None:
    """Refuse scopes that the maker does not hold.

    The operator's scope is held only by name: `*` is every scope of a tenant, not of the mesh.

    Raises:
        ScopeNotGrantable: names the first such scope.
    """
    for scope in asked:
        held_by_all = SCOPE_ALL in held and scope != OPERATOR_SCOPE
        if scope not in held and not held_by_all:
            raise ScopeNotGrantable(
                f"a key cannot grant scope {scope}, which it does not have", scope=scope
            )


def check_kinds(asked: Sequence[str], known: Collection[str]) -> None:
    """Refuse kinds of audit entries that nothing has: a misspelt one would look like a trail without changes.

    Raises:
        InvalidField: names each such kind, and those that there are.
    """
    unknown = [
        FieldViolation(f"kinds[{index}]", _not_among("kind", kind, sorted(known)))
        for index, kind in enumerate(asked)
        if kind not in known
    ]
    if unknown:
        raise InvalidField.of(unknown)


def check_known(asked: Sequence[str], known: Collection[str]) -> None:
    """Refuse scopes that nothing asks for: a key with a misspelt one would be found out when it is used.

    Raises:
        InvalidField: names each such scope, and those that there are.
    """
    unknown = [
        FieldViolation(f"scopes[{index}]", _not_among("scope", scope, [SCOPE_ALL, *sorted(known)]))
        for index, scope in enumerate(asked)
        if scope not in known and scope not in (SCOPE_ALL, OPERATOR_SCOPE)
    ]
    if unknown:
        raise InvalidField.of(unknown)


def _not_among(what: str, asked: str, known: Sequence[str]) -> str:
    near = get_close_matches(asked, known, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    return f"there is no {what} {asked}. {meant}The {what}s are: {', '.join(known)}"


def end_of(
    now: datetime, lifetime: timedelta | None, maker_ends_at: datetime | None
) -> datetime | None:
    """Return when a key ends: after its lifetime, and no later than its maker; None for never.

    Else whoever holds a key for a day could hold one for good.
    """
    ends = [maker_ends_at] if maker_ends_at is not None else []
    if lifetime is not None:
        ends.append(now + lifetime)
    return min(ends, default=None)


def choose_tenant(asked: str, own: str, held: Collection[str]) -> str:
    """Return the tenant that a key is made for.

    Raises:
        TenantMismatch: another tenant is asked for without scope `mesh:admin`.
    """
    if asked in {"", own}:
        return own
    if OPERATOR_SCOPE not in held:
        raise TenantMismatch(
            f"creating a key for tenant {asked} needs scope {OPERATOR_SCOPE}; leave tenant_id empty for your own",
            tenant_id=asked,
        )
    return asked


@dataclass(frozen=True, slots=True)
class CreateKey:
    """A key to be made; without a lifetime it ends with the key that makes it."""

    name: str
    scopes: Sequence[str]
    lifetime: timedelta | None


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key and whose it is; its secret only when it was just made, for that is kept nowhere."""

    key: ApiKey
    tenant_id: str
    secret: str = ""


@dataclass(frozen=True, slots=True)
class RevokeKey:
    """A key to be ended, and with it those that it made, unless they are kept."""

    key_id: str
    keep_made_keys: bool
