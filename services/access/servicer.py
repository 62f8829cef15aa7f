"""AccessService: proto to use case and back."""

from __future__ import annotations

import dataclasses
from typing import Any

from payments.access.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc

from services.access import app, store
from services.access.domain import ApiKey, choose_tenant
from services.runtime.access import SCOPE_ALL
from services.runtime.context import acting, current
from services.runtime.database import Database, UnitOfWork
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.idempotency import Idempotency

_PAGES = "access.list_api_keys"


class AccessServicer(access_service_pb2_grpc.AccessServiceServicer):
    """Answers AccessService."""

    def __init__(self, database: Database, idempotency: Idempotency) -> None:
        self._database = database
        self._idempotency = idempotency

    async def CreateApiKey(
        self, request: access_service_pb2.CreateApiKeyRequest, context: Any
    ) -> access_service_pb2.CreateApiKeyResponse:
        """Make a key; the stored answer leaves its secret out."""
        maker = current()
        tenant_id = choose_tenant(request.tenant_id, maker.tenant_id, maker.scopes)
        lifetime = request.lifetime.ToTimedelta() if request.HasField("lifetime") else None
        secrets: list[str] = []

        async def handler(work: UnitOfWork) -> access_service_pb2.CreateApiKeyResponse:
            key, made = await app.create(work, request.name, request.scopes, lifetime)
            secrets.append(made.secret)
            return access_service_pb2.CreateApiKeyResponse(api_key=_message(key, work.tenant_id))

        scopes = maker.scopes if tenant_id == maker.tenant_id else maker.scopes | {SCOPE_ALL}
        with acting(dataclasses.replace(maker, tenant_id=tenant_id, scopes=scopes)):
            response = await self._idempotency.once(
                "access.create_api_key",
                request,
                access_service_pb2.CreateApiKeyResponse,
                handler,
            )
        if secrets:
            response.secret = secrets[0]
        return response

    async def ListApiKeys(
        self, request: access_service_pb2.ListApiKeysRequest, context: Any
    ) -> access_service_pb2.ListApiKeysResponse:
        """Give a page of keys."""
        token = decode_token(request.page_token, _PAGES, {"after": str})
        size = clamp_page_size(request.page_size)
        async with self._database.read() as work:
            keys = await store.page(work, token.get("after", ""), size + 1)
            tenant_id = work.tenant_id
        response = access_service_pb2.ListApiKeysResponse(
            api_keys=[_message(key, tenant_id) for key in keys[:size]]
        )
        if len(keys) > size:
            response.next_page_token = encode_token({"after": keys[size - 1].key_id}, _PAGES)
        return response

    async def RevokeApiKey(
        self, request: access_service_pb2.RevokeApiKeyRequest, context: Any
    ) -> access_service_pb2.RevokeApiKeyResponse:
        """End a key, and the keys that it made."""

        async def handler(work: UnitOfWork) -> access_service_pb2.RevokeApiKeyResponse:
            key = await app.revoke(work, request.key_id, keep_made_keys=request.keep_made_keys)
            return access_service_pb2.RevokeApiKeyResponse(api_key=_message(key, work.tenant_id))

        return await self._idempotency.once(
            "access.revoke_api_key", request, access_service_pb2.RevokeApiKeyResponse, handler
        )


def _message(key: ApiKey, tenant_id: str) -> access_pb2.ApiKey:
    message = access_pb2.ApiKey(
        key_id=key.key_id,
        tenant_id=tenant_id,
        prefix=key.prefix,
        name=key.name,
        scopes=key.scopes,
        created_by=key.created_by,
        parent_key_id=key.parent_key_id,
        revoked_with_key_id=key.revoked_with,
        keys_ended=key.keys_ended,
    )
    message.created_at.FromDatetime(key.created_at)
    if key.expires_at is not None:
        message.expires_at.FromDatetime(key.expires_at)
    if key.revoked_at is not None:
        message.revoked_at.FromDatetime(key.revoked_at)
    return message
