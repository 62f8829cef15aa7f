"""Use cases of API keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from services.access import store
from services.access.domain import ApiKey, check_grant, end_of
from services.runtime.access import NewKey, new_key
from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.ids import new_id


async def create(
    work: UnitOfWork, name: str, scopes: Sequence[str], lifetime: timedelta | None
) -> tuple[ApiKey, NewKey]:
    """Make a key for the unit of work's tenant. It ends no later than the key that it is made with.

    Raises:
        ScopeNotGrantable: the maker does not hold a scope.
    """
    maker = current()
    check_grant(scopes, maker.scopes)
    made = new_key()
    key = ApiKey(
        key_id=new_id("key"),
        prefix=made.prefix,
        name=name,
        scopes=tuple(sorted(scopes)),
        created_at=work.now,
        created_by=maker.principal_id,
        expires_at=end_of(work.now, lifetime, maker.expires_at),
        revoked_at=None,
    )
    await store.insert(work, key, made)
    work.audit("api_key", key.key_id, None, key.as_audited())
    return key, made


async def revoke(work: UnitOfWork, key_id: str) -> ApiKey:
    """End a key; one that was ended before stays as it is.

    Raises:
        NotFound: the tenant has no such key.
    """
    key = await store.lock(work, key_id)
    if key is None:
        raise NotFound("api_key", key_id)
    if key.revoked_at is not None:
        return key
    await store.revoke(work, key_id)
    revoked = replace(key, revoked_at=work.now)
    work.audit("api_key", key_id, key.as_audited(), revoked.as_audited())
    return revoked
