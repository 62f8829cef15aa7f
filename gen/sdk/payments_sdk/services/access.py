"""AccessService makes, lists and revokes API keys. Every change leaves an audit entry.

Written by `make generate` from payments/access/v1/access_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.access import v1 as access_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncAccessService", "AccessService")

_CREATE_API_KEY = Method(
    "/payments.access.v1.AccessService/CreateApiKey",
    access_v1.CreateApiKeyRequest,
    access_v1.CreateApiKeyResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_API_KEYS = Method(
    "/payments.access.v1.AccessService/ListApiKeys",
    access_v1.ListApiKeysRequest,
    access_v1.ListApiKeysResponse,
    repeatable=True,
    has_request_id=False,
)
_REVOKE_API_KEY = Method(
    "/payments.access.v1.AccessService/RevokeApiKey",
    access_v1.RevokeApiKeyRequest,
    access_v1.RevokeApiKeyResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_AUDIT_ENTRIES = Method(
    "/payments.access.v1.AccessService/ListAuditEntries",
    access_v1.ListAuditEntriesRequest,
    access_v1.ListAuditEntriesResponse,
    repeatable=True,
    has_request_id=False,
)


class AccessService:
    """AccessService makes, lists and revokes API keys. Every change leaves an audit entry."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create_api_key(
        self, request: access_v1.CreateApiKeyRequest, *, timeout: float | None = None
    ) -> access_v1.CreateApiKeyResponse:
        """CreateApiKey makes a key. Its secret is in this answer and nowhere else: an answer that got
        lost is not given again with the same request_id; revoke the key and make another.

        A key can be given only scopes that its maker holds. A maker with scope `mesh:admin` may
        name another tenant, which need not exist before.
        """
        return self._caller.unary(_CREATE_API_KEY, request, timeout)

    def list_api_keys(
        self, request: access_v1.ListApiKeysRequest, *, timeout: float | None = None
    ) -> access_v1.ListApiKeysResponse:
        """ListApiKeys gives the keys of the tenant, revoked ones too, without their secrets."""
        return self._caller.unary(_LIST_API_KEYS, request, timeout)

    def all_api_keys(
        self, request: access_v1.ListApiKeysRequest, *, timeout: float | None = None
    ) -> Iterator[access_v1.ApiKey]:
        """Yield the api_keys of all pages of list_api_keys, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: access_v1.ListApiKeysRequest) -> access_v1.ListApiKeysResponse:
            return self.list_api_keys(asked, timeout=timeout)

        return items(page, request, "api_keys", BY_TOKEN)

    def revoke_api_key(
        self, request: access_v1.RevokeApiKeyRequest, *, timeout: float | None = None
    ) -> access_v1.RevokeApiKeyResponse:
        """RevokeApiKey ends a key within a second, for good, and with it the keys that it made, those
        that these made, and so on, of whichever tenant: `keys_ended` tells how many. Streams that
        they opened end too. Revoking it again ends only what was kept the first time
        (`keep_made_keys`), for a key that turns out to have leaked.
        """
        return self._caller.unary(_REVOKE_API_KEY, request, timeout)

    def list_audit_entries(
        self, request: access_v1.ListAuditEntriesRequest, *, timeout: float | None = None
    ) -> access_v1.ListAuditEntriesResponse:
        """ListAuditEntries pages through what was changed in configuration and reference data of the
        tenant, the newest first: who changed what, when, and its content before and after. An entry
        is written in the transaction of its change, so that there is neither one without the other.
        Entries are those of the database that the answering process uses.
        """
        return self._caller.unary(_LIST_AUDIT_ENTRIES, request, timeout)

    def all_audit_entries(
        self, request: access_v1.ListAuditEntriesRequest, *, timeout: float | None = None
    ) -> Iterator[access_v1.AuditEntry]:
        """Yield the entries of all pages of list_audit_entries, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: access_v1.ListAuditEntriesRequest) -> access_v1.ListAuditEntriesResponse:
            return self.list_audit_entries(asked, timeout=timeout)

        return items(page, request, "entries", BY_TOKEN)


class AsyncAccessService:
    """AccessService makes, lists and revokes API keys. Every change leaves an audit entry."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def create_api_key(
        self, request: access_v1.CreateApiKeyRequest, *, timeout: float | None = None
    ) -> access_v1.CreateApiKeyResponse:
        """CreateApiKey makes a key. Its secret is in this answer and nowhere else: an answer that got
        lost is not given again with the same request_id; revoke the key and make another.

        A key can be given only scopes that its maker holds. A maker with scope `mesh:admin` may
        name another tenant, which need not exist before.
        """
        return await self._caller.unary(_CREATE_API_KEY, request, timeout)

    async def list_api_keys(
        self, request: access_v1.ListApiKeysRequest, *, timeout: float | None = None
    ) -> access_v1.ListApiKeysResponse:
        """ListApiKeys gives the keys of the tenant, revoked ones too, without their secrets."""
        return await self._caller.unary(_LIST_API_KEYS, request, timeout)

    def all_api_keys(
        self, request: access_v1.ListApiKeysRequest, *, timeout: float | None = None
    ) -> AsyncIterator[access_v1.ApiKey]:
        """Yield the api_keys of all pages of list_api_keys, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: access_v1.ListApiKeysRequest) -> access_v1.ListApiKeysResponse:
            return await self.list_api_keys(asked, timeout=timeout)

        return items_async(page, request, "api_keys", BY_TOKEN)

    async def revoke_api_key(
        self, request: access_v1.RevokeApiKeyRequest, *, timeout: float | None = None
    ) -> access_v1.RevokeApiKeyResponse:
        """RevokeApiKey ends a key within a second, for good, and with it the keys that it made, those
        that these made, and so on, of whichever tenant: `keys_ended` tells how many. Streams that
        they opened end too. Revoking it again ends only what was kept the first time
        (`keep_made_keys`), for a key that turns out to have leaked.
        """
        return await self._caller.unary(_REVOKE_API_KEY, request, timeout)

    async def list_audit_entries(
        self, request: access_v1.ListAuditEntriesRequest, *, timeout: float | None = None
    ) -> access_v1.ListAuditEntriesResponse:
        """ListAuditEntries pages through what was changed in configuration and reference data of the
        tenant, the newest first: who changed what, when, and its content before and after. An entry
        is written in the transaction of its change, so that there is neither one without the other.
        Entries are those of the database that the answering process uses.
        """
        return await self._caller.unary(_LIST_AUDIT_ENTRIES, request, timeout)

    def all_audit_entries(
        self, request: access_v1.ListAuditEntriesRequest, *, timeout: float | None = None
    ) -> AsyncIterator[access_v1.AuditEntry]:
        """Yield the entries of all pages of list_audit_entries, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: access_v1.ListAuditEntriesRequest) -> access_v1.ListAuditEntriesResponse:
            return await self.list_audit_entries(asked, timeout=timeout)

        return items_async(page, request, "entries", BY_TOKEN)
