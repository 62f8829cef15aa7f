"""Use cases of API keys, and reading the audit trail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.access import store
from services.access.domain import (
    KEY_ID_PREFIX,
    ApiKey,
    AuditEntry,
    AuditFilter,
    CreateKey,
    KeepNotAllowed,
    KeyView,
    MakerEnded,
    RevokeKey,
    check_grant,
    check_known,
    check_maker,
    choose_tenant,
    end_of,
    parent_of,
)
from services.runtime.access import SCOPE_ALL, new_key
from services.runtime.context import acting, current
from services.runtime.database import Database, UnitOfWork
from services.runtime.edge import methods
from services.runtime.errors import NotFound
from services.runtime.ids import new_id


@contextmanager
def acting_for(tenant_id: str) -> Iterator[None]:
    """Act for the tenant whose key is to be made. Raises PermissionDenied when the caller may not."""
    maker = current()
    chosen = choose_tenant(tenant_id, maker.tenant_id, maker.scopes)
    scopes = maker.scopes if chosen == maker.tenant_id else maker.scopes | {SCOPE_ALL}
    with acting(replace(maker, tenant_id=chosen, scopes=scopes)):
        yield


async def create(command: CreateKey, work: UnitOfWork) -> KeyView:
    """Make a key for the unit of work's tenant. It ends no later than the key that it is made with.

    Raises:
        InvalidField: no RPC needs a scope.
        ScopeNotGrantable: the maker does not hold a scope, or is neither a key nor the operator.
        MakerEnded: the maker was revoked while it was asking.
    """
    maker = current()
    check_maker(maker.principal_id, maker.scopes)
    check_known(command.scopes, methods.scopes())
    check_grant(command.scopes, maker.scopes)
    parent_key_id = parent_of(maker.principal_id)
    if parent_key_id and not await store.hold(work, parent_key_id):
        raise MakerEnded(
            "the key of this call was revoked or has expired; use another key", cause="revoked_key"
        )
    made = new_key()
    key = ApiKey(
        key_id=new_id(KEY_ID_PREFIX),
        prefix=made.prefix,
        name=command.name,
        scopes=tuple(sorted(command.scopes)),
        created_at=work.now,
        created_by=maker.principal_id,
        expires_at=end_of(work.now, command.lifetime, maker.expires_at),
        revoked_at=None,
        parent_key_id=parent_key_id,
    )
    await store.insert(work, key, made)
    work.audit("api_key", key.key_id, None, key.as_audited())
    return KeyView(key, work.tenant_id, made.secret)


async def revoke(command: RevokeKey, work: UnitOfWork) -> KeyView:
    """End a key, and what was made with it unless that is kept.

    One that was ended before stays as it is. What was kept then ends now, if it is not to be kept any more: a key that
    was replaced may turn out to have leaked.

    Raises:
        NotFound: the tenant has no such key.
        KeepNotAllowed: the key that asks is this one, or was made with it, and made keys are to be kept.
    """
    key_id, keep_made_keys = command.key_id, command.keep_made_keys
    caller = current()
    asking = parent_of(caller.principal_id)
    if keep_made_keys and asking and await store.is_of(work, key_id, asking):
        raise KeepNotAllowed(
            f"{key_id}, or a key created with it, cannot revoke it and keep its keys; use another key",
            key_id=key_id,
        )
    key = await store.lock(work, key_id)
    if key is None:
        raise NotFound("api_key", key_id)
    if key.revoked_at is not None:
        if not keep_made_keys and await store.take_back_made(work, key_id):
            ended = await store.end_made(work, key_id, caller.principal_id, caller.request_id)
            key = replace(key, keys_ended=ended)
        return KeyView(key, work.tenant_id)
    await store.revoke(work, key_id)
    ended = 0
    if keep_made_keys:
        await store.pass_on_made(work, key_id)
    else:
        ended = await store.end_made(work, key_id, caller.principal_id, caller.request_id)
    revoked_key = replace(key, revoked_at=work.now, keys_ended=ended)
    work.audit("api_key", key_id, key.as_audited(), revoked_key.as_audited())
    return KeyView(revoked_key, work.tenant_id)


async def page(database: Database, after: str, limit: int) -> list[KeyView]:
    """Return the first keys behind an id."""
    async with database.read() as work:
        return [KeyView(key, work.tenant_id) for key in await store.page(work, after, limit)]


async def audit_page(
    database: Database, wanted: AuditFilter, before: tuple[datetime, UUID], limit: int
) -> tuple[list[AuditEntry], int]:
    """Return audit entries, the newest first, from those before a place, and how many there are up to a limit."""
    async with database.read() as work:
        return await store.page_of_audit(work, wanted, before, limit)
