"""Statements on `mesh.api_key` and `mesh.audit`, which the runtime owns."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from services.access.domain import ApiKey, AuditEntry, AuditFilter
from services.runtime.access import NewKey
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

# Of one page, as they are stored: compressed.
AUDIT_BYTES_MAX = 512 * 1024

_SQL = sql.load("services.runtime", "queries.sql")


async def insert(work: UnitOfWork, key: ApiKey, new: NewKey) -> None:
    """Store a key for the unit of work's tenant."""
    await work.execute(
        _SQL["insert_api_key"],
        {
            "tenant_id": work.tenant_id,
            "key_id": key.key_id,
            "prefix": new.prefix,
            "secret_sha256": new.secret_sha256,
            "name": key.name,
            "scopes": list(key.scopes),
            "created_at": key.created_at,
            "created_by": key.created_by,
            "expires_at": key.expires_at,
            "parent_key_id": key.parent_key_id or None,
        },
    )


async def page(work: UnitOfWork, after: str, limit: int) -> list[ApiKey]:
    """Read keys in order of making, behind `after`."""
    rows = await work.execute(
        _SQL["list_api_keys"], {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    )
    return [_key(row) for row in rows]


async def lock(work: UnitOfWork, key_id: str) -> ApiKey | None:
    """Read a key and hold its row."""
    parameters = {"tenant_id": work.tenant_id, "key_id": key_id}
    row = (await work.execute(_SQL["lock_api_key"], parameters)).first()
    return _key(row) if row else None


async def revoke(work: UnitOfWork, key_id: str) -> None:
    """Mark a key as revoked now."""
    parameters = {"tenant_id": work.tenant_id, "key_id": key_id, "revoked_at": work.now}
    await work.execute(_SQL["revoke_api_key"], parameters)


async def hold(work: UnitOfWork, key_id: str) -> bool:
    """Keep a key of any tenant from being revoked until this transaction ends; False when it works no more."""
    found = await work.execute(_SQL["hold_api_key"], {"key_id": key_id})
    return bool(found.scalar_one())


async def end_made(work: UnitOfWork, key_id: str, actor: str, request_id: str) -> int:
    """End what a key has made, and what that has made, with an audit entry for each; returns how many."""
    parameters = {
        "key_id": key_id,
        "revoked_at": work.now,
        "actor": actor,
        "request_id": request_id,
    }
    return int((await work.execute(_SQL["end_keys_made_by"], parameters)).scalar_one())


async def take_back_made(work: UnitOfWork, key_id: str) -> int:
    """Let what an ended key had made, and was passed on, count among its keys again; returns how many."""
    taken = await work.execute(_SQL["take_back_keys_made_by"], {"key_id": key_id})
    return int(taken.scalar_one())


async def is_of(work: UnitOfWork, key_id: str, made_key_id: str) -> bool:
    """True when a key is the other one, or was made with it, or with what was made with it."""
    parameters = {"key_id": key_id, "made": made_key_id}
    return bool((await work.execute(_SQL["is_of_key"], parameters)).scalar_one())


async def pass_on_made(work: UnitOfWork, key_id: str) -> None:
    """Let what a key has made count among the keys of its own maker."""
    await work.execute(_SQL["pass_on_keys_made_by"], {"key_id": key_id})


async def page_of_audit(
    work: UnitOfWork, wanted: AuditFilter, before: tuple[datetime, UUID], limit: int
) -> tuple[list[AuditEntry], int]:
    """Read audit entries, the newest first, from those that stand before a place; and how many there are up to a limit.

    Of large entries only some are read.
    """
    rows = await work.execute(
        _SQL["page_of_audit"],
        {
            "tenant_id": work.tenant_id,
            "kinds": list(wanted.kinds),
            "entity_id": wanted.subject_id,
            "actor": wanted.actor,
            "start_at": wanted.start_at,
            "end_at": wanted.end_at,
            "before_at": before[0],
            "before_id": before[1],
            "limit": limit,
            "bytes": AUDIT_BYTES_MAX,
        },
    )
    found = list(rows)
    entries = [
        AuditEntry(
            row.audit_id,
            row.entity,
            row.entity_id,
            row.actor,
            row.before,
            row.after,
            row.request_id or "",
            row.recorded_at,
        )
        for row in found
    ]
    return entries, found[0].found if found else 0


def _key(row: Any) -> ApiKey:
    return ApiKey(
        row.key_id,
        row.prefix,
        row.name,
        tuple(row.scopes),
        row.created_at,
        row.created_by,
        row.expires_at,
        row.revoked_at,
        row.parent_key_id or "",
        row.revoked_with or "",
        row.keys_ended,
    )
