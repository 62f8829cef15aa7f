"""MerchantConfigService keeps how each merchant wants to be paid, in immutable versions.

Written by `make generate` from payments/orchestration/v1/orchestration_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.config import v1 as config_v1
from ..payments.orchestration import v1 as orchestration_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncMerchantConfigService", "MerchantConfigService")

_PUT_MERCHANT_CONFIG = Method(
    "/payments.orchestration.v1.MerchantConfigService/PutMerchantConfig",
    orchestration_v1.PutMerchantConfigRequest,
    orchestration_v1.PutMerchantConfigResponse,
    repeatable=True,
    has_request_id=True,
)
_SIMULATE_ROUTING = Method(
    "/payments.orchestration.v1.MerchantConfigService/SimulateRouting",
    orchestration_v1.SimulateRoutingRequest,
    orchestration_v1.SimulateRoutingResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_MERCHANT_CONFIG = Method(
    "/payments.orchestration.v1.MerchantConfigService/GetMerchantConfig",
    orchestration_v1.GetMerchantConfigRequest,
    orchestration_v1.GetMerchantConfigResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_MERCHANT_CONFIG_VERSIONS = Method(
    "/payments.orchestration.v1.MerchantConfigService/ListMerchantConfigVersions",
    orchestration_v1.ListMerchantConfigVersionsRequest,
    orchestration_v1.ListMerchantConfigVersionsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_MERCHANT_CONFIGS = Method(
    "/payments.orchestration.v1.MerchantConfigService/ListMerchantConfigs",
    orchestration_v1.ListMerchantConfigsRequest,
    orchestration_v1.ListMerchantConfigsResponse,
    repeatable=True,
    has_request_id=False,
)


class MerchantConfigService:
    """MerchantConfigService keeps how each merchant wants to be paid, in immutable versions."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def put_merchant_config(
        self, request: orchestration_v1.PutMerchantConfigRequest, *, timeout: float | None = None
    ) -> orchestration_v1.PutMerchantConfigResponse:
        """PutMerchantConfig stores a new version, audited. A configuration that equals the current
        version changes nothing and answers with that version.
        """
        return self._caller.unary(_PUT_MERCHANT_CONFIG, request, timeout)

    def simulate_routing(
        self, request: orchestration_v1.SimulateRoutingRequest, *, timeout: float | None = None
    ) -> orchestration_v1.SimulateRoutingResponse:
        """SimulateRouting plans the merchant's latest payments anew with a configuration that is not
        stored, and tells what would be otherwise: nothing is stored, nothing is charged. It is
        checked as PutMerchantConfig checks it, and fails alike. Processors' health is that of now,
        limits are not counted, and a payment that was refused for what it said itself is left out.
        """
        return self._caller.unary(_SIMULATE_ROUTING, request, timeout)

    def get_merchant_config(
        self, request: orchestration_v1.GetMerchantConfigRequest, *, timeout: float | None = None
    ) -> orchestration_v1.GetMerchantConfigResponse:
        """GetMerchantConfig answers with the current version, or with the one asked for."""
        return self._caller.unary(_GET_MERCHANT_CONFIG, request, timeout)

    def list_merchant_config_versions(
        self, request: orchestration_v1.ListMerchantConfigVersionsRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ListMerchantConfigVersionsResponse:
        """ListMerchantConfigVersions answers with the versions of a merchant, the newest first;
        NOT_FOUND when it has none.
        """
        return self._caller.unary(_LIST_MERCHANT_CONFIG_VERSIONS, request, timeout)

    def all_merchant_config_versions(
        self, request: orchestration_v1.ListMerchantConfigVersionsRequest, *, timeout: float | None = None
    ) -> Iterator[config_v1.MerchantConfig]:
        """Yield the configs of all pages of list_merchant_config_versions, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: orchestration_v1.ListMerchantConfigVersionsRequest) -> orchestration_v1.ListMerchantConfigVersionsResponse:
            return self.list_merchant_config_versions(asked, timeout=timeout)

        return items(page, request, "configs", BY_TOKEN)

    def list_merchant_configs(
        self, request: orchestration_v1.ListMerchantConfigsRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ListMerchantConfigsResponse:
        """ListMerchantConfigs answers with the current version of every merchant, by merchant_id."""
        return self._caller.unary(_LIST_MERCHANT_CONFIGS, request, timeout)

    def all_merchant_configs(
        self, request: orchestration_v1.ListMerchantConfigsRequest, *, timeout: float | None = None
    ) -> Iterator[config_v1.MerchantConfig]:
        """Yield the configs of all pages of list_merchant_configs, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: orchestration_v1.ListMerchantConfigsRequest) -> orchestration_v1.ListMerchantConfigsResponse:
            return self.list_merchant_configs(asked, timeout=timeout)

        return items(page, request, "configs", BY_TOKEN)


class AsyncMerchantConfigService:
    """MerchantConfigService keeps how each merchant wants to be paid, in immutable versions."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def put_merchant_config(
        self, request: orchestration_v1.PutMerchantConfigRequest, *, timeout: float | None = None
    ) -> orchestration_v1.PutMerchantConfigResponse:
        """PutMerchantConfig stores a new version, audited. A configuration that equals the current
        version changes nothing and answers with that version.
        """
        return await self._caller.unary(_PUT_MERCHANT_CONFIG, request, timeout)

    async def simulate_routing(
        self, request: orchestration_v1.SimulateRoutingRequest, *, timeout: float | None = None
    ) -> orchestration_v1.SimulateRoutingResponse:
        """SimulateRouting plans the merchant's latest payments anew with a configuration that is not
        stored, and tells what would be otherwise: nothing is stored, nothing is charged. It is
        checked as PutMerchantConfig checks it, and fails alike. Processors' health is that of now,
        limits are not counted, and a payment that was refused for what it said itself is left out.
        """
        return await self._caller.unary(_SIMULATE_ROUTING, request, timeout)

    async def get_merchant_config(
        self, request: orchestration_v1.GetMerchantConfigRequest, *, timeout: float | None = None
    ) -> orchestration_v1.GetMerchantConfigResponse:
        """GetMerchantConfig answers with the current version, or with the one asked for."""
        return await self._caller.unary(_GET_MERCHANT_CONFIG, request, timeout)

    async def list_merchant_config_versions(
        self, request: orchestration_v1.ListMerchantConfigVersionsRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ListMerchantConfigVersionsResponse:
        """ListMerchantConfigVersions answers with the versions of a merchant, the newest first;
        NOT_FOUND when it has none.
        """
        return await self._caller.unary(_LIST_MERCHANT_CONFIG_VERSIONS, request, timeout)

    def all_merchant_config_versions(
        self, request: orchestration_v1.ListMerchantConfigVersionsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[config_v1.MerchantConfig]:
        """Yield the configs of all pages of list_merchant_config_versions, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: orchestration_v1.ListMerchantConfigVersionsRequest) -> orchestration_v1.ListMerchantConfigVersionsResponse:
            return await self.list_merchant_config_versions(asked, timeout=timeout)

        return items_async(page, request, "configs", BY_TOKEN)

    async def list_merchant_configs(
        self, request: orchestration_v1.ListMerchantConfigsRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ListMerchantConfigsResponse:
        """ListMerchantConfigs answers with the current version of every merchant, by merchant_id."""
        return await self._caller.unary(_LIST_MERCHANT_CONFIGS, request, timeout)

    def all_merchant_configs(
        self, request: orchestration_v1.ListMerchantConfigsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[config_v1.MerchantConfig]:
        """Yield the configs of all pages of list_merchant_configs, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: orchestration_v1.ListMerchantConfigsRequest) -> orchestration_v1.ListMerchantConfigsResponse:
            return await self.list_merchant_configs(asked, timeout=timeout)

        return items_async(page, request, "configs", BY_TOKEN)
