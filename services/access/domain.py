"""Rules of API keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

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


def check_known(asked: Sequence[str], known: Collection[str]) -> None:
    """Refuse scopes that nothing asks for: a key with a misspelt one would be found out when it is used.

    Raises:
        InvalidField: names each such scope, and those that there are.
    """
    unknown = [
        FieldViolation(f"scopes[{index}]", _unknown(scope, known))
        for index, scope in enumerate(asked)
        if scope not in known and scope not in (SCOPE_ALL, OPERATOR_SCOPE)
    ]
    if unknown:
        raise InvalidField.of(unknown)


def _unknown(scope: str, known: Collection[str]) -> str:
    near = get_close_matches(scope, known, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    return (
        f"there is no scope {scope}. {meant}The scopes are: {SCOPE_ALL}, {', '.join(sorted(known))}"
    )


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
