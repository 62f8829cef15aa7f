"""CreditService keeps what owners have in credits, in money or in units of yours. Credits are used by
the priority of their grants, then by expiry, then by age. Whatever happens to credits in money
reaches the ledger soon after, on the account `credit-balance:{owner}:{currency}`.


Written by `make generate` from payments/orders/v1/credit_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.orders import v1 as orders_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncCreditService", "CreditService")

_GRANT_CREDITS = Method(
    "/payments.orders.v1.CreditService/GrantCredits",
    orders_v1.GrantCreditsRequest,
    orders_v1.GrantCreditsResponse,
    repeatable=True,
    has_request_id=True,
)
_REVERSE_GRANT = Method(
    "/payments.orders.v1.CreditService/ReverseGrant",
    orders_v1.ReverseGrantRequest,
    orders_v1.ReverseGrantResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_GRANTS = Method(
    "/payments.orders.v1.CreditService/ListGrants",
    orders_v1.ListGrantsRequest,
    orders_v1.ListGrantsResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_CREDIT_BALANCE = Method(
    "/payments.orders.v1.CreditService/GetCreditBalance",
    orders_v1.GetCreditBalanceRequest,
    orders_v1.GetCreditBalanceResponse,
    repeatable=True,
    has_request_id=False,
)


class CreditService:
    """CreditService keeps what owners have in credits, in money or in units of yours. Credits are used
    by the priority of their grants, then by expiry, then by age. Whatever happens to credits in
    money reaches the ledger soon after, on the account `credit-balance:{owner}:{currency}`.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def grant_credits(
        self, request: orders_v1.GrantCreditsRequest, *, timeout: float | None = None
    ) -> orders_v1.GrantCreditsResponse:
        """GrantCredits gives an owner credits. The same request_id gives the same grant. What was
        PURCHASED is told as `credit.purchased`, in the same transaction.

        Errors: INVALID_FIELD for an amount that is not above zero or has more places than the unit,
        a source that nothing comes from, PURCHASED without an order and anything else with one, an
        expiry that is not after it becomes effective, and a rollover without an expiry;
        UNKNOWN_CURRENCY for three capital letters that are no currency.
        """
        return self._caller.unary(_GRANT_CREDITS, request, timeout)

    def reverse_grant(
        self, request: orders_v1.ReverseGrantRequest, *, timeout: float | None = None
    ) -> orders_v1.ReverseGrantResponse:
        """ReverseGrant takes back what is available of a grant, and tells what was used of it and what
        is held: used stays used, and what is held is taken back when its reservation is released. A
        grant that was reversed before stays as it is. It is told as `credit.reversed`, in the same
        transaction.

        Errors: NOT_FOUND.
        """
        return self._caller.unary(_REVERSE_GRANT, request, timeout)

    def list_grants(
        self, request: orders_v1.ListGrantsRequest, *, timeout: float | None = None
    ) -> orders_v1.ListGrantsResponse:
        """ListGrants lists grants, the latest given first."""
        return self._caller.unary(_LIST_GRANTS, request, timeout)

    def all_grants(
        self, request: orders_v1.ListGrantsRequest, *, timeout: float | None = None
    ) -> Iterator[orders_v1.Grant]:
        """Yield the grants of all pages of list_grants, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: orders_v1.ListGrantsRequest) -> orders_v1.ListGrantsResponse:
            return self.list_grants(asked, timeout=timeout)

        return items(page, request, "grants", BY_TOKEN)

    def get_credit_balance(
        self, request: orders_v1.GetCreditBalanceRequest, *, timeout: float | None = None
    ) -> orders_v1.GetCreditBalanceResponse:
        """GetCreditBalance tells what an owner has in a unit at a time: at one in the past as it stood
        then, at one in the future as it will stand if nothing else happens. An owner who was never
        given any has zero.

        Errors: UNKNOWN_CURRENCY for three capital letters that are no currency.
        """
        return self._caller.unary(_GET_CREDIT_BALANCE, request, timeout)


class AsyncCreditService:
    """CreditService keeps what owners have in credits, in money or in units of yours. Credits are used
    by the priority of their grants, then by expiry, then by age. Whatever happens to credits in
    money reaches the ledger soon after, on the account `credit-balance:{owner}:{currency}`.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def grant_credits(
        self, request: orders_v1.GrantCreditsRequest, *, timeout: float | None = None
    ) -> orders_v1.GrantCreditsResponse:
        """GrantCredits gives an owner credits. The same request_id gives the same grant. What was
        PURCHASED is told as `credit.purchased`, in the same transaction.

        Errors: INVALID_FIELD for an amount that is not above zero or has more places than the unit,
        a source that nothing comes from, PURCHASED without an order and anything else with one, an
        expiry that is not after it becomes effective, and a rollover without an expiry;
        UNKNOWN_CURRENCY for three capital letters that are no currency.
        """
        return await self._caller.unary(_GRANT_CREDITS, request, timeout)

    async def reverse_grant(
        self, request: orders_v1.ReverseGrantRequest, *, timeout: float | None = None
    ) -> orders_v1.ReverseGrantResponse:
        """ReverseGrant takes back what is available of a grant, and tells what was used of it and what
        is held: used stays used, and what is held is taken back when its reservation is released. A
        grant that was reversed before stays as it is. It is told as `credit.reversed`, in the same
        transaction.

        Errors: NOT_FOUND.
        """
        return await self._caller.unary(_REVERSE_GRANT, request, timeout)

    async def list_grants(
        self, request: orders_v1.ListGrantsRequest, *, timeout: float | None = None
    ) -> orders_v1.ListGrantsResponse:
        """ListGrants lists grants, the latest given first."""
        return await self._caller.unary(_LIST_GRANTS, request, timeout)

    def all_grants(
        self, request: orders_v1.ListGrantsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[orders_v1.Grant]:
        """Yield the grants of all pages of list_grants, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: orders_v1.ListGrantsRequest) -> orders_v1.ListGrantsResponse:
            return await self.list_grants(asked, timeout=timeout)

        return items_async(page, request, "grants", BY_TOKEN)

    async def get_credit_balance(
        self, request: orders_v1.GetCreditBalanceRequest, *, timeout: float | None = None
    ) -> orders_v1.GetCreditBalanceResponse:
        """GetCreditBalance tells what an owner has in a unit at a time: at one in the past as it stood
        then, at one in the future as it will stand if nothing else happens. An owner who was never
        given any has zero.

        Errors: UNKNOWN_CURRENCY for three capital letters that are no currency.
        """
        return await self._caller.unary(_GET_CREDIT_BALANCE, request, timeout)
