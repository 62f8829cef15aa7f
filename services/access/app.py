"""Use cases of API keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from services.access import store
from services.access.domain import (
    KEY_ID_PREFIX,
    ApiKey,
    KeepNotAllowed,
    MakerEnded,
    check_grant,
    check_known,
    check_maker,
    end_of,
    parent_of,
)
from services.runtime.access import NewKey, new_key
from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.edge import methods
from services.runtime.errors import NotFound
from services.runtime.ids import new_id


async def create(
    work: UnitOfWork, name: str, scopes: Sequence[str], lifetime: timedelta | None
) -> tuple[ApiKey, NewKey]:
    """Make a key for the unit of work's tenant. It ends no later than the key that it is made with.

    Raises:
        InvalidField: no RPC needs a scope.
        ScopeNotGrantable: the maker does not hold a scope, or is neither a key nor the operator.
        MakerEnded: the maker was revoked while it was asking.
    """
    maker = current()
    check_maker(maker.principal_id, maker.scopes)
    check_known(scopes, methods.scopes())
    check_grant(scopes, maker.scopes)
    parent_key_id = parent_of(maker.principal_id)
    if parent_key_id and not await store.hold(work, parent_key_id):
        raise MakerEnded(
            "the key that asks was revoked or has expired; ask with another", cause="revoked_key"
        )
    made = new_key()
    key = ApiKey(
        key_id=new_id(KEY_ID_PREFIX),
        prefix=made.prefix,
        name=name,
        scopes=tuple(sorted(scopes)),
        created_at=work.now,
        created_by=maker.principal_id,
        expires_at=end_of(work.now, lifetime, maker.expires_at),
        revoked_at=None,
        parent_key_id=parent_key_id,
    )
    await store.insert(work, key, made)
    work.audit("api_key", key.key_id, None, key.as_audited())
    return key, made


async def revoke(work: UnitOfWork, key_id: str, *, keep_made_keys: bool) -> ApiKey:
    """End a key, and what was made with it unless that is kept; one that was ended before stays as it is.

    Raises:
        NotFound: the tenant has no such key.
        KeepNotAllowed: the key that asks is this one, or was made with it, and made keys are to be kept.
    """
    caller = current()
    asking = parent_of(caller.principal_id)
    if keep_made_keys and asking and await store.is_of(work, key_id, asking):
        raise KeepNotAllowed(
            f"a key of the line of {key_id} cannot keep what that has made; ask with another key",
            key_id=key_id,
        )
    key = await store.lock(work, key_id)
    if key is None:
        raise NotFound("api_key", key_id)
    if key.revoked_at is not None:
        return key
    await store.revoke(work, key_id)
    ended = 0
    if keep_made_keys:
        await store.pass_on_made(work, key_id)
    else:
        ended = await store.end_made(work, key_id, caller.principal_id, caller.request_id)
    revoked_key = replace(key, revoked_at=work.now, keys_ended=ended)
    work.audit("api_key", key_id, key.as_audited(), revoked_key.as_audited())
    return revoked_key
