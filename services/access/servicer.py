"""AccessService: proto to use case and back."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

from payments.access.v1 import access_service_pb2 as service_pb
from payments.access.v1 import access_service_pb2_grpc

from services.access import app, messages
from services.access.domain import (
    LATEST,
    NO_ENTRY,
    AuditEntry,
    AuditFilter,
    CreateKey,
    RevokeKey,
)
from services.runtime.commands import Commands, UseCase
from services.runtime.database import Database
from services.runtime.edge.paging import Page, fitting

_CREATE = UseCase(
    "access.create_api_key",
    app.create,
    messages.created,
    service_pb.CreateApiKeyResponse,
    kept=messages.without_secret,
)
_REVOKE = UseCase(
    "access.revoke_api_key", app.revoke, messages.revoked, service_pb.RevokeApiKeyResponse
)


class AccessServicer(access_service_pb2_grpc.AccessServiceServicer):
    """Answers AccessService."""

    def __init__(self, database: Database, commands: Commands) -> None:
        self._database = database
        self._commands = commands

    async def CreateApiKey(
        self, request: service_pb.CreateApiKeyRequest, context: Any
    ) -> service_pb.CreateApiKeyResponse:
        """Make a key; the stored answer leaves its secret out."""
        lifetime = request.lifetime.ToTimedelta() if request.HasField("lifetime") else None
        command = CreateKey(request.name, request.scopes, lifetime)
        with app.acting_for(request.tenant_id):
            return await self._commands.run(_CREATE, command, request)

    async def ListApiKeys(
        self, request: service_pb.ListApiKeysRequest, context: Any
    ) -> service_pb.ListApiKeysResponse:
        """Give a page of keys."""
        page = Page.of(request, "access.list_api_keys", {"after": str})
        found = await app.page(self._database, page.after.get("after", ""), page.limit)
        api_keys, token = await page.cut(
            found, messages.api_key, lambda view: {"after": view.key.key_id}
        )
        return service_pb.ListApiKeysResponse(api_keys=api_keys, next_page_token=token)

    async def RevokeApiKey(
        self, request: service_pb.RevokeApiKeyRequest, context: Any
    ) -> service_pb.RevokeApiKeyResponse:
        """End a key, and the keys that it made."""
        command = RevokeKey(request.key_id, request.keep_made_keys)
        return await self._commands.run(_REVOKE, command, request)

    async def ListAuditEntries(
        self, request: service_pb.ListAuditEntriesRequest, context: Any
    ) -> service_pb.ListAuditEntriesResponse:
        """Give a page of audit entries, the newest first."""
        wanted = messages.audit_filter(request)
        scope = f"access.list_audit_entries:{_spelt(wanted)}"
        page = Page.of(request, scope, {"recorded_at": datetime, "audit_id": UUID})
        before = (page.after.get("recorded_at", LATEST), page.after.get("audit_id", NO_ENTRY))
        found, count = await app.audit_page(self._database, wanted, before, page.limit)
        kept = found[: page.size]
        entries = await asyncio.to_thread(lambda: fitting(map(messages.audit_entry, kept)))
        more = len(entries) < count
        token = page.token(kept[: len(entries)], _place, more=more)
        return service_pb.ListAuditEntriesResponse(entries=entries, next_page_token=token)


def _place(entry: AuditEntry) -> dict[str, str | int]:
    return {"recorded_at": entry.recorded_at.isoformat(), "audit_id": str(entry.audit_id)}


def _spelt(wanted: AuditFilter) -> str:
    during = f"{wanted.start_at.isoformat()}/{wanted.end_at.isoformat()}"
    return f"{','.join(wanted.kinds)}:{wanted.subject_id}:{wanted.actor}:{during}"
