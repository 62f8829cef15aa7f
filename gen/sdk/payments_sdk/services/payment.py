"""PaymentService takes payments from outside and carries them through, once and only once.

Written by `make generate` from payments/orchestration/v1/orchestration_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.orchestration import v1 as orchestration_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncPaymentService", "PaymentService")

_CREATE_PAYMENT = Method(
    "/payments.orchestration.v1.PaymentService/CreatePayment",
    orchestration_v1.CreatePaymentRequest,
    orchestration_v1.CreatePaymentResponse,
    repeatable=True,
    has_request_id=True,
)
_PLAN_PAYMENT = Method(
    "/payments.orchestration.v1.PaymentService/PlanPayment",
    orchestration_v1.PlanPaymentRequest,
    orchestration_v1.PlanPaymentResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_PAYMENT = Method(
    "/payments.orchestration.v1.PaymentService/GetPayment",
    orchestration_v1.GetPaymentRequest,
    orchestration_v1.GetPaymentResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_PAYMENTS = Method(
    "/payments.orchestration.v1.PaymentService/ListPayments",
    orchestration_v1.ListPaymentsRequest,
    orchestration_v1.ListPaymentsResponse,
    repeatable=True,
    has_request_id=False,
)


class PaymentService:
    """PaymentService takes payments from outside and carries them through, once and only once."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create_payment(
        self, request: orchestration_v1.CreatePaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.CreatePaymentResponse:
        """CreatePayment reads a request as well as it can be read, plans it and charges it. It answers
        with the payment in the state that was reached within the call's deadline; what is still
        PENDING or RESOLVING then goes on without the caller. A request that cannot be charged
        beyond doubt gets a REFUSED payment, not an error. The same key and body again give the same
        payment, another body is refused. A payment that was REFUSED for the merchant's
        configuration alone is planned again by the same call, and keeps its id.
        """
        return self._caller.unary(_CREATE_PAYMENT, request, timeout)

    def plan_payment(
        self, request: orchestration_v1.PlanPaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.PlanPaymentResponse:
        """PlanPayment shows what CreatePayment would do: nothing is stored, nothing is charged."""
        return self._caller.unary(_PLAN_PAYMENT, request, timeout)

    def get_payment(
        self, request: orchestration_v1.GetPaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.GetPaymentResponse:
        """GetPayment answers with one payment."""
        return self._caller.unary(_GET_PAYMENT, request, timeout)

    def list_payments(
        self, request: orchestration_v1.ListPaymentsRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ListPaymentsResponse:
        """ListPayments answers with payments, the newest first. NOT_FOUND for a merchant that has
        neither a configuration nor a payment.
        """
        return self._caller.unary(_LIST_PAYMENTS, request, timeout)

    def all_payments(
        self, request: orchestration_v1.ListPaymentsRequest, *, timeout: float | None = None
    ) -> Iterator[orchestration_v1.Payment]:
        """Yield the payments of all pages of list_payments, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: orchestration_v1.ListPaymentsRequest) -> orchestration_v1.ListPaymentsResponse:
            return self.list_payments(asked, timeout=timeout)

        return items(page, request, "payments", BY_TOKEN)


class AsyncPaymentService:
    """PaymentService takes payments from outside and carries them through, once and only once."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def create_payment(
        self, request: orchestration_v1.CreatePaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.CreatePaymentResponse:
        """CreatePayment reads a request as well as it can be read, plans it and charges it. It answers
        with the payment in the state that was reached within the call's deadline; what is still
        PENDING or RESOLVING then goes on without the caller. A request that cannot be charged
        beyond doubt gets a REFUSED payment, not an error. The same key and body again give the same
        payment, another body is refused. A payment that was REFUSED for the merchant's
        configuration alone is planned again by the same call, and keeps its id.
        """
        return await self._caller.unary(_CREATE_PAYMENT, request, timeout)

    async def plan_payment(
        self, request: orchestration_v1.PlanPaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.PlanPaymentResponse:
        """PlanPayment shows what CreatePayment would do: nothing is stored, nothing is charged."""
        return await self._caller.unary(_PLAN_PAYMENT, request, timeout)

    async def get_payment(
        self, request: orchestration_v1.GetPaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.GetPaymentResponse:
        """GetPayment answers with one payment."""
        return await self._caller.unary(_GET_PAYMENT, request, timeout)

    async def list_payments(
        self, request: orchestration_v1.ListPaymentsRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ListPaymentsResponse:
        """ListPayments answers with payments, the newest first. NOT_FOUND for a merchant that has
        neither a configuration nor a payment.
        """
        return await self._caller.unary(_LIST_PAYMENTS, request, timeout)

    def all_payments(
        self, request: orchestration_v1.ListPaymentsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[orchestration_v1.Payment]:
        """Yield the payments of all pages of list_payments, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: orchestration_v1.ListPaymentsRequest) -> orchestration_v1.ListPaymentsResponse:
            return await self.list_payments(asked, timeout=timeout)

        return items_async(page, request, "payments", BY_TOKEN)
