"""GuardrailService keeps organisations within budgets: what is used counts against them, and an action
may ask before it is taken.


Written by `make generate` from payments/metering/v1/guardrail_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.metering import v1 as metering_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncGuardrailService", "GuardrailService")

_PUT_BUDGET = Method(
    "/payments.metering.v1.GuardrailService/PutBudget",
    metering_v1.PutBudgetRequest,
    metering_v1.PutBudgetResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_BUDGETS = Method(
    "/payments.metering.v1.GuardrailService/ListBudgets",
    metering_v1.ListBudgetsRequest,
    metering_v1.ListBudgetsResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_BUDGET_STATUS = Method(
    "/payments.metering.v1.GuardrailService/GetBudgetStatus",
    metering_v1.GetBudgetStatusRequest,
    metering_v1.GetBudgetStatusResponse,
    repeatable=True,
    has_request_id=False,
)
_DELETE_BUDGET = Method(
    "/payments.metering.v1.GuardrailService/DeleteBudget",
    metering_v1.DeleteBudgetRequest,
    metering_v1.DeleteBudgetResponse,
    repeatable=True,
    has_request_id=True,
)
_RESERVE = Method(
    "/payments.metering.v1.GuardrailService/Reserve",
    metering_v1.ReserveRequest,
    metering_v1.ReserveResponse,
    repeatable=True,
    has_request_id=True,
)
_COMMIT = Method(
    "/payments.metering.v1.GuardrailService/Commit",
    metering_v1.CommitRequest,
    metering_v1.CommitResponse,
    repeatable=True,
    has_request_id=True,
)
_RELEASE = Method(
    "/payments.metering.v1.GuardrailService/Release",
    metering_v1.ReleaseRequest,
    metering_v1.ReleaseResponse,
    repeatable=True,
    has_request_id=True,
)
_LIST_HOLDS = Method(
    "/payments.metering.v1.GuardrailService/ListHolds",
    metering_v1.ListHoldsRequest,
    metering_v1.ListHoldsResponse,
    repeatable=True,
    has_request_id=False,
)


class GuardrailService:
    """GuardrailService keeps organisations within budgets: what is used counts against them, and an
    action may ask before it is taken.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def put_budget(
        self, request: metering_v1.PutBudgetRequest, *, timeout: float | None = None
    ) -> metering_v1.PutBudgetResponse:
        """PutBudget puts a budget, or changes it: limit, mode, thresholds, enforcing and description;
        what is used and held stays. A new budget counts what the organisation has used in its
        period so far. Audited. It waits for the batches of usage events that are under way and is
        seen by all that come behind the answer.

        Errors: BUDGET_FIXED when a budget of this name is of another organisation, SKU, period,
        time zone or currency; UNKNOWN_SKU when the catalogue has no such SKU; UNKNOWN_TIME_ZONE;
        UNKNOWN_CURRENCY; CURRENCY_MISMATCH when the organisation's plan is in another currency;
        NO_PLAN when a limit is an amount and the organisation has no plan; SKU_NOT_PRICED when that
        plan has no price for the SKU; BUDGETS_FULL when the tenant has as many as it may.
        """
        return self._caller.unary(_PUT_BUDGET, request, timeout)

    def list_budgets(
        self, request: metering_v1.ListBudgetsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListBudgetsResponse:
        """ListBudgets lists budgets, by budget_id.

        Errors: INVALID_PAGE_TOKEN.
        """
        return self._caller.unary(_LIST_BUDGETS, request, timeout)

    def all_budgets(
        self, request: metering_v1.ListBudgetsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.Budget]:
        """Yield the budgets of all pages of list_budgets, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.ListBudgetsRequest) -> metering_v1.ListBudgetsResponse:
            return self.list_budgets(asked, timeout=timeout)

        return items(page, request, "budgets", BY_TOKEN)

    def get_budget_status(
        self, request: metering_v1.GetBudgetStatusRequest, *, timeout: float | None = None
    ) -> metering_v1.GetBudgetStatusResponse:
        """GetBudgetStatus tells what is used, held and free of a budget in the period of now, or of
        another instant.

        Errors: NOT_FOUND.
        """
        return self._caller.unary(_GET_BUDGET_STATUS, request, timeout)

    def delete_budget(
        self, request: metering_v1.DeleteBudgetRequest, *, timeout: float | None = None
    ) -> metering_v1.DeleteBudgetResponse:
        """DeleteBudget ends a budget; holds that it counted stay, and count at the others. Audited.

        Errors: NOT_FOUND.
        """
        return self._caller.unary(_DELETE_BUDGET, request, timeout)

    def reserve(
        self, request: metering_v1.ReserveRequest, *, timeout: float | None = None
    ) -> metering_v1.ReserveResponse:
        """Reserve keeps a quantity free for an action, in every budget that applies to it or in none.
        However many call at once, used and held together never exceed the limit of a hard budget by
        it. Where no budget applies nothing is limited, and the hold is given all the same.

        Errors: BUDGET_EXCEEDED when a hard budget has not as much free: ask again with less, or
        once others have given theirs up; NO_PLAN, SKU_NOT_PRICED and CURRENCY_MISMATCH when a
        budget in money applies and the use cannot be rated; BUDGETS_CHANGING when budgets in money
        were put again and again meanwhile: repeat the same call.
        """
        return self._caller.unary(_RESERVE, request, timeout)

    def commit(
        self, request: metering_v1.CommitRequest, *, timeout: float | None = None
    ) -> metering_v1.CommitResponse:
        """Commit says how much of a hold was used: as much, less, or more. What is left of it is free
        again. More is taken from what is free, in all hard budgets or not at all, at the rate of
        the hold; then the hold stays as it is. The usage event that reports the same use names the
        hold in its metadata, as `hold_id`, and is not counted again.

        Errors: NOT_FOUND; HOLD_ENDED when it was committed or released, or its time is over;
        BUDGET_EXCEEDED when more is committed than is held and free.
        """
        return self._caller.unary(_COMMIT, request, timeout)

    def release(
        self, request: metering_v1.ReleaseRequest, *, timeout: float | None = None
    ) -> metering_v1.ReleaseResponse:
        """Release gives a hold up.

        Errors: NOT_FOUND; HOLD_ENDED when it was committed or released, or its time is over.
        """
        return self._caller.unary(_RELEASE, request, timeout)

    def list_holds(
        self, request: metering_v1.ListHoldsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListHoldsResponse:
        """ListHolds lists the open holds, the oldest first.

        Errors: INVALID_PAGE_TOKEN.
        """
        return self._caller.unary(_LIST_HOLDS, request, timeout)

    def all_holds(
        self, request: metering_v1.ListHoldsRequest, *, timeout: float | None = None
    ) -> Iterator[metering_v1.Hold]:
        """Yield the holds of all pages of list_holds, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: metering_v1.ListHoldsRequest) -> metering_v1.ListHoldsResponse:
            return self.list_holds(asked, timeout=timeout)

        return items(page, request, "holds", BY_TOKEN)


class AsyncGuardrailService:
    """GuardrailService keeps organisations within budgets: what is used counts against them, and an
    action may ask before it is taken.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def put_budget(
        self, request: metering_v1.PutBudgetRequest, *, timeout: float | None = None
    ) -> metering_v1.PutBudgetResponse:
        """PutBudget puts a budget, or changes it: limit, mode, thresholds, enforcing and description;
        what is used and held stays. A new budget counts what the organisation has used in its
        period so far. Audited. It waits for the batches of usage events that are under way and is
        seen by all that come behind the answer.

        Errors: BUDGET_FIXED when a budget of this name is of another organisation, SKU, period,
        time zone or currency; UNKNOWN_SKU when the catalogue has no such SKU; UNKNOWN_TIME_ZONE;
        UNKNOWN_CURRENCY; CURRENCY_MISMATCH when the organisation's plan is in another currency;
        NO_PLAN when a limit is an amount and the organisation has no plan; SKU_NOT_PRICED when that
        plan has no price for the SKU; BUDGETS_FULL when the tenant has as many as it may.
        """
        return await self._caller.unary(_PUT_BUDGET, request, timeout)

    async def list_budgets(
        self, request: metering_v1.ListBudgetsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListBudgetsResponse:
        """ListBudgets lists budgets, by budget_id.

        Errors: INVALID_PAGE_TOKEN.
        """
        return await self._caller.unary(_LIST_BUDGETS, request, timeout)

    def all_budgets(
        self, request: metering_v1.ListBudgetsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.Budget]:
        """Yield the budgets of all pages of list_budgets, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.ListBudgetsRequest) -> metering_v1.ListBudgetsResponse:
            return await self.list_budgets(asked, timeout=timeout)

        return items_async(page, request, "budgets", BY_TOKEN)

    async def get_budget_status(
        self, request: metering_v1.GetBudgetStatusRequest, *, timeout: float | None = None
    ) -> metering_v1.GetBudgetStatusResponse:
        """GetBudgetStatus tells what is used, held and free of a budget in the period of now, or of
        another instant.

        Errors: NOT_FOUND.
        """
        return await self._caller.unary(_GET_BUDGET_STATUS, request, timeout)

    async def delete_budget(
        self, request: metering_v1.DeleteBudgetRequest, *, timeout: float | None = None
    ) -> metering_v1.DeleteBudgetResponse:
        """DeleteBudget ends a budget; holds that it counted stay, and count at the others. Audited.

        Errors: NOT_FOUND.
        """
        return await self._caller.unary(_DELETE_BUDGET, request, timeout)

    async def reserve(
        self, request: metering_v1.ReserveRequest, *, timeout: float | None = None
    ) -> metering_v1.ReserveResponse:
        """Reserve keeps a quantity free for an action, in every budget that applies to it or in none.
        However many call at once, used and held together never exceed the limit of a hard budget by
        it. Where no budget applies nothing is limited, and the hold is given all the same.

        Errors: BUDGET_EXCEEDED when a hard budget has not as much free: ask again with less, or
        once others have given theirs up; NO_PLAN, SKU_NOT_PRICED and CURRENCY_MISMATCH when a
        budget in money applies and the use cannot be rated; BUDGETS_CHANGING when budgets in money
        were put again and again meanwhile: repeat the same call.
        """
        return await self._caller.unary(_RESERVE, request, timeout)

    async def commit(
        self, request: metering_v1.CommitRequest, *, timeout: float | None = None
    ) -> metering_v1.CommitResponse:
        """Commit says how much of a hold was used: as much, less, or more. What is left of it is free
        again. More is taken from what is free, in all hard budgets or not at all, at the rate of
        the hold; then the hold stays as it is. The usage event that reports the same use names the
        hold in its metadata, as `hold_id`, and is not counted again.

        Errors: NOT_FOUND; HOLD_ENDED when it was committed or released, or its time is over;
        BUDGET_EXCEEDED when more is committed than is held and free.
        """
        return await self._caller.unary(_COMMIT, request, timeout)

    async def release(
        self, request: metering_v1.ReleaseRequest, *, timeout: float | None = None
    ) -> metering_v1.ReleaseResponse:
        """Release gives a hold up.

        Errors: NOT_FOUND; HOLD_ENDED when it was committed or released, or its time is over.
        """
        return await self._caller.unary(_RELEASE, request, timeout)

    async def list_holds(
        self, request: metering_v1.ListHoldsRequest, *, timeout: float | None = None
    ) -> metering_v1.ListHoldsResponse:
        """ListHolds lists the open holds, the oldest first.

        Errors: INVALID_PAGE_TOKEN.
        """
        return await self._caller.unary(_LIST_HOLDS, request, timeout)

    def all_holds(
        self, request: metering_v1.ListHoldsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[metering_v1.Hold]:
        """Yield the holds of all pages of list_holds, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: metering_v1.ListHoldsRequest) -> metering_v1.ListHoldsResponse:
            return await self.list_holds(asked, timeout=timeout)

        return items_async(page, request, "holds", BY_TOKEN)
