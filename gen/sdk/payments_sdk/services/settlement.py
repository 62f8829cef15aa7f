"""SettlementService keeps the rules by which money goes to sellers and partners.

Written by `make generate` from payments/settlement/v1/settlement_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.settlement import v1 as settlement_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncSettlementService", "SettlementService")

_PUT_SETTLEMENT_POLICY = Method(
    "/payments.settlement.v1.SettlementService/PutSettlementPolicy",
    settlement_v1.PutSettlementPolicyRequest,
    settlement_v1.PutSettlementPolicyResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_SETTLEMENT_POLICY = Method(
    "/payments.settlement.v1.SettlementService/GetSettlementPolicy",
    settlement_v1.GetSettlementPolicyRequest,
    settlement_v1.GetSettlementPolicyResponse,
    repeatable=True,
    has_request_id=False,
)


class SettlementService:
    """SettlementService keeps the rules by which money goes to sellers and partners."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def put_settlement_policy(
        self, request: settlement_v1.PutSettlementPolicyRequest, *, timeout: float | None = None
    ) -> settlement_v1.PutSettlementPolicyResponse:
        """PutSettlementPolicy makes a policy, or replaces the whole policy of its seller. It holds for
        what is earned and swept from then on. Each change leaves an audit entry.

        Errors: INVALID_FIELD for a threshold or a minimum that is below zero or given twice, and
        for a sweep in a party's own policy; SCHEDULE_INVALID for an expression or a time zone that
        cannot be used.
        """
        return self._caller.unary(_PUT_SETTLEMENT_POLICY, request, timeout)

    def get_settlement_policy(
        self, request: settlement_v1.GetSettlementPolicyRequest, *, timeout: float | None = None
    ) -> settlement_v1.GetSettlementPolicyResponse:
        """GetSettlementPolicy returns the policy that holds for a seller, with everything that it
        leaves out filled in.
        """
        return self._caller.unary(_GET_SETTLEMENT_POLICY, request, timeout)


class AsyncSettlementService:
    """SettlementService keeps the rules by which money goes to sellers and partners."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def put_settlement_policy(
        self, request: settlement_v1.PutSettlementPolicyRequest, *, timeout: float | None = None
    ) -> settlement_v1.PutSettlementPolicyResponse:
        """PutSettlementPolicy makes a policy, or replaces the whole policy of its seller. It holds for
        what is earned and swept from then on. Each change leaves an audit entry.

        Errors: INVALID_FIELD for a threshold or a minimum that is below zero or given twice, and
        for a sweep in a party's own policy; SCHEDULE_INVALID for an expression or a time zone that
        cannot be used.
        """
        return await self._caller.unary(_PUT_SETTLEMENT_POLICY, request, timeout)

    async def get_settlement_policy(
        self, request: settlement_v1.GetSettlementPolicyRequest, *, timeout: float | None = None
    ) -> settlement_v1.GetSettlementPolicyResponse:
        """GetSettlementPolicy returns the policy that holds for a seller, with everything that it
        leaves out filled in.
        """
        return await self._caller.unary(_GET_SETTLEMENT_POLICY, request, timeout)
