"""Identifiers. Ids that Tollmesh gives are a prefix and a UUIDv7; event ids are ULIDs."""

from __future__ import annotations

from uuid import UUID, uuid5

from ulid import ULID
from uuid6 import uuid7

# Namespace of every derived id; a constant of the product: changing it would double what was derived before.
_NAMESPACE = UUID("5b1f9f4e-3c02-5d0f-9c57-70e0c8a4f1d2")


def new_uuid() -> UUID:
    """Make a UUIDv7: time-ordered, so that inserts stay local in an index."""
    return UUID(int=uuid7().int)


def new_id(prefix: str) -> str:
    """Make an id such as `chg_0190c1de-…`."""
    return f"{prefix}_{new_uuid()}"


def new_ulid() -> str:
    """Make an event id: 26 characters, ordered by the millisecond of its making."""
    return str(ULID())


def derived_uuid(*parts: str) -> UUID:
    """Make the same UUID for the same parts, always.

    Each part goes in with its length, so that ("a", "bc") and ("ab", "c") differ.

    Raises:
        UnicodeEncodeError: names the part that holds half a surrogate pair.
    """
    for part in parts:
        part.encode()
    return uuid5(_NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts))


def derived_id(prefix: str, *parts: str) -> str:
    """Make the same prefixed id for the same parts, always."""
    return f"{prefix}_{derived_uuid(prefix, *parts)}"


def request_id_of(idempotency_key: str) -> str:
    """Return the request_id that an Idempotency-Key stands for."""
    try:
        return str(UUID(idempotency_key))
    except ValueError:
        return str(derived_uuid("idempotency-key", idempotency_key))
