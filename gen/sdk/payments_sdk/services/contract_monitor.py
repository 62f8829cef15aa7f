"""ContractMonitorService keeps the contracts that the mesh is watched by and every violation of them.
The services report their own violations by the event `contract.violated`; RecordViolations is for
what others notice.


Written by `make generate` from payments/contracts/v1/contracts_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.contracts import v1 as contracts_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncContractMonitorService", "ContractMonitorService")

_REGISTER_CONTRACTS = Method(
    "/payments.contracts.v1.ContractMonitorService/RegisterContracts",
    contracts_v1.RegisterContractsRequest,
    contracts_v1.RegisterContractsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_CONTRACTS = Method(
    "/payments.contracts.v1.ContractMonitorService/ListContracts",
    contracts_v1.ListContractsRequest,
    contracts_v1.ListContractsResponse,
    repeatable=True,
    has_request_id=False,
)
_RECORD_VIOLATIONS = Method(
    "/payments.contracts.v1.ContractMonitorService/RecordViolations",
    contracts_v1.RecordViolationsRequest,
    contracts_v1.RecordViolationsResponse,
    repeatable=False,
    has_request_id=False,
)
_LIST_VIOLATIONS = Method(
    "/payments.contracts.v1.ContractMonitorService/ListViolations",
    contracts_v1.ListViolationsRequest,
    contracts_v1.ListViolationsResponse,
    repeatable=True,
    has_request_id=False,
)


class ContractMonitorService:
    """ContractMonitorService keeps the contracts that the mesh is watched by and every violation of
    them. The services report their own violations by the event `contract.violated`;
    RecordViolations is for what others notice.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def register_contracts(
        self, request: contracts_v1.RegisterContractsRequest, *, timeout: float | None = None
    ) -> contracts_v1.RegisterContractsResponse:
        """RegisterContracts registers contracts or new versions of them, and answers for each. A
        contract that is registered with the same content is left alone, so that a call may be
        repeated.
        """
        return self._caller.unary(_REGISTER_CONTRACTS, request, timeout)

    def list_contracts(
        self, request: contracts_v1.ListContractsRequest, *, timeout: float | None = None
    ) -> contracts_v1.ListContractsResponse:
        """ListContracts lists the built-in and the registered contracts, by contract_id."""
        return self._caller.unary(_LIST_CONTRACTS, request, timeout)

    def all_contracts(
        self, request: contracts_v1.ListContractsRequest, *, timeout: float | None = None
    ) -> Iterator[contracts_v1.Contract]:
        """Yield the contracts of all pages of list_contracts, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: contracts_v1.ListContractsRequest) -> contracts_v1.ListContractsResponse:
            return self.list_contracts(asked, timeout=timeout)

        return items(page, request, "contracts", BY_TOKEN)

    def record_violations(
        self, request: contracts_v1.RecordViolationsRequest, *, timeout: float | None = None
    ) -> contracts_v1.RecordViolationsResponse:
        """RecordViolations records violations and answers for those that were not new. The same
        violation told again is counted as a duplicate and changes nothing.
        """
        return self._caller.unary(_RECORD_VIOLATIONS, request, timeout)

    def list_violations(
        self, request: contracts_v1.ListViolationsRequest, *, timeout: float | None = None
    ) -> contracts_v1.ListViolationsResponse:
        """ListViolations lists violations, the last recorded first. NOT_FOUND for a contract that is
        neither registered nor was ever said to be broken.
        """
        return self._caller.unary(_LIST_VIOLATIONS, request, timeout)

    def all_violations(
        self, request: contracts_v1.ListViolationsRequest, *, timeout: float | None = None
    ) -> Iterator[contracts_v1.ContractViolation]:
        """Yield the violations of all pages of list_violations, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: contracts_v1.ListViolationsRequest) -> contracts_v1.ListViolationsResponse:
            return self.list_violations(asked, timeout=timeout)

        return items(page, request, "violations", BY_TOKEN)


class AsyncContractMonitorService:
    """ContractMonitorService keeps the contracts that the mesh is watched by and every violation of
    them. The services report their own violations by the event `contract.violated`;
    RecordViolations is for what others notice.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def register_contracts(
        self, request: contracts_v1.RegisterContractsRequest, *, timeout: float | None = None
    ) -> contracts_v1.RegisterContractsResponse:
        """RegisterContracts registers contracts or new versions of them, and answers for each. A
        contract that is registered with the same content is left alone, so that a call may be
        repeated.
        """
        return await self._caller.unary(_REGISTER_CONTRACTS, request, timeout)

    async def list_contracts(
        self, request: contracts_v1.ListContractsRequest, *, timeout: float | None = None
    ) -> contracts_v1.ListContractsResponse:
        """ListContracts lists the built-in and the registered contracts, by contract_id."""
        return await self._caller.unary(_LIST_CONTRACTS, request, timeout)

    def all_contracts(
        self, request: contracts_v1.ListContractsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[contracts_v1.Contract]:
        """Yield the contracts of all pages of list_contracts, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: contracts_v1.ListContractsRequest) -> contracts_v1.ListContractsResponse:
            return await self.list_contracts(asked, timeout=timeout)

        return items_async(page, request, "contracts", BY_TOKEN)

    async def record_violations(
        self, request: contracts_v1.RecordViolationsRequest, *, timeout: float | None = None
    ) -> contracts_v1.RecordViolationsResponse:
        """RecordViolations records violations and answers for those that were not new. The same
        violation told again is counted as a duplicate and changes nothing.
        """
        return await self._caller.unary(_RECORD_VIOLATIONS, request, timeout)

    async def list_violations(
        self, request: contracts_v1.ListViolationsRequest, *, timeout: float | None = None
    ) -> contracts_v1.ListViolationsResponse:
        """ListViolations lists violations, the last recorded first. NOT_FOUND for a contract that is
        neither registered nor was ever said to be broken.
        """
        return await self._caller.unary(_LIST_VIOLATIONS, request, timeout)

    def all_violations(
        self, request: contracts_v1.ListViolationsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[contracts_v1.ContractViolation]:
        """Yield the violations of all pages of list_violations, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: contracts_v1.ListViolationsRequest) -> contracts_v1.ListViolationsResponse:
            return await self.list_violations(asked, timeout=timeout)

        return items_async(page, request, "violations", BY_TOKEN)
