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
_CAPTURE_PAYMENT = Method(
    "/payments.orchestration.v1.PaymentService/CapturePayment",
    orchestration_v1.CapturePaymentRequest,
    orchestration_v1.CapturePaymentResponse,
    repeatable=True,
    has_request_id=True,
)
_VOID_PAYMENT = Method(
    "/payments.orchestration.v1.PaymentService/VoidPayment",
    orchestration_v1.VoidPaymentRequest,
    orchestration_v1.VoidPaymentResponse,
    repeatable=True,
    has_request_id=True,
)
_REFUND_PAYMENT = Method(
    "/payments.orchestration.v1.PaymentService/RefundPayment",
    orchestration_v1.RefundPaymentRequest,
    orchestration_v1.RefundPaymentResponse,
    repeatable=True,
    has_request_id=True,
)
_RESOLVE_ATTEMPT = Method(
    "/payments.orchestration.v1.PaymentService/ResolveAttempt",
    orchestration_v1.ResolveAttemptRequest,
    orchestration_v1.ResolveAttemptResponse,
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
_WATCH_PAYMENT = Method(
    "/payments.orchestration.v1.PaymentService/WatchPayment",
    orchestration_v1.WatchPaymentRequest,
    orchestration_v1.WatchPaymentResponse,
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
_LIST_PROCESSORS = Method(
    "/payments.orchestration.v1.PaymentService/ListProcessors",
    orchestration_v1.ListProcessorsRequest,
    orchestration_v1.ListProcessorsResponse,
    repeatable=True,
    has_request_id=False,
)
_GET_PROCESSOR_HEALTH = Method(
    "/payments.orchestration.v1.PaymentService/GetProcessorHealth",
    orchestration_v1.GetProcessorHealthRequest,
    orchestration_v1.GetProcessorHealthResponse,
    repeatable=True,
    has_request_id=False,
)
_RECEIVE_WEBHOOK = Method(
    "/payments.orchestration.v1.PaymentService/ReceiveWebhook",
    orchestration_v1.ReceiveWebhookRequest,
    orchestration_v1.ReceiveWebhookResponse,
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

        Errors: ORDER_LIMIT_EXCEEDED; nothing is stored then, and the same call may be made again.
        """
        return self._caller.unary(_CREATE_PAYMENT, request, timeout)

    def capture_payment(
        self, request: orchestration_v1.CapturePaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.CapturePaymentResponse:
        """CapturePayment takes what a payment with manual capture has authorised, or a part of it. It
        answers in the state that was reached within the call's deadline; what is still PENDING then
        goes on without the caller. What a processor refuses is an answer, not an error: see the
        instruction's status. One instruction is carried out at a time.

        Errors: PAYMENT_NOT_AUTHORIZED, AMOUNT_EXCEEDS_LEFT, CAPTURE_NOT_PARTIAL, PAYMENT_UNDER_WAY
        (try again in a moment), PAYMENT_AWAITS_VERDICT.
        """
        return self._caller.unary(_CAPTURE_PAYMENT, request, timeout)

    def void_payment(
        self, request: orchestration_v1.VoidPaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.VoidPaymentResponse:
        """VoidPayment lets go what a payment has authorised and not captured. It answers as
        CapturePayment does.

        Errors: PAYMENT_NOT_AUTHORIZED, PAYMENT_UNDER_WAY, PAYMENT_AWAITS_VERDICT.
        """
        return self._caller.unary(_VOID_PAYMENT, request, timeout)

    def refund_payment(
        self, request: orchestration_v1.RefundPaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.RefundPaymentResponse:
        """RefundPayment gives back what a payment has taken, or a part of it: the last step first. It
        answers as CapturePayment does. Refunds never exceed what was taken, however many come at
        once.

        Errors: NOTHING_TO_REFUND, AMOUNT_EXCEEDS_LEFT, REFUNDS_USED_UP, PAYMENT_UNDER_WAY,
        PAYMENT_AWAITS_VERDICT.
        """
        return self._caller.unary(_REFUND_PAYMENT, request, timeout)

    def resolve_attempt(
        self, request: orchestration_v1.ResolveAttemptRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ResolveAttemptResponse:
        """ResolveAttempt tells the outcome of an attempt that no processor can prove any more
        (MANUAL), audited, and lets its payment go on. It answers as CapturePayment does. A verdict
        that the processor contradicts later is handled as any word that comes late: what was
        charged after all is given back.

        Errors: ATTEMPT_NOT_MANUAL, NOT_FOUND, PAYMENT_UNDER_WAY.
        """
        return self._caller.unary(_RESOLVE_ATTEMPT, request, timeout)

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

    def watch_payment(
        self, request: orchestration_v1.WatchPaymentRequest, *, timeout: float | None = None
    ) -> Iterator[orchestration_v1.WatchPaymentResponse]:
        """WatchPayment sends a payment as it stands, and then each of its states that differs from the
        one before; states that follow each other within a moment may be told as one. It ends when
        nothing is left to do on it without an instruction or a verdict, or after five minutes: call
        again then.

        Errors: NOT_FOUND; OVERLOADED when as many streams are open as the process keeps (64), or of
        one tenant (16).
        """
        return self._caller.stream(_WATCH_PAYMENT, request, timeout)

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

    def list_processors(
        self, request: orchestration_v1.ListProcessorsRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ListProcessorsResponse:
        """ListProcessors answers with a page of the processors that a merchant's current configuration
        may name, by processor_id: those of every merchant, and its own. NOT_FOUND for a merchant
        without a configuration.
        """
        return self._caller.unary(_LIST_PROCESSORS, request, timeout)

    def all_processors(
        self, request: orchestration_v1.ListProcessorsRequest, *, timeout: float | None = None
    ) -> Iterator[orchestration_v1.Processor]:
        """Yield the processors of all pages of list_processors, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: orchestration_v1.ListProcessorsRequest) -> orchestration_v1.ListProcessorsResponse:
            return self.list_processors(asked, timeout=timeout)

        return items(page, request, "processors", BY_TOKEN)

    def get_processor_health(
        self, request: orchestration_v1.GetProcessorHealthRequest, *, timeout: float | None = None
    ) -> orchestration_v1.GetProcessorHealthResponse:
        """GetProcessorHealth answers with how a processor has fared lately, and whether its circuit
        breaker lets payments try it first: one of every merchant with all payments of the tenant, a
        merchant's own with those of the merchant. NOT_FOUND for one that is no processor of every
        merchant, and that the named merchant neither brings nor has tried.
        """
        return self._caller.unary(_GET_PROCESSOR_HEALTH, request, timeout)

    def receive_webhook(
        self, request: orchestration_v1.ReceiveWebhookRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ReceiveWebhookResponse:
        """ReceiveWebhook takes what a processor tells by itself: a request of its own, with its
        signature. What a word is about is asked of the processor, and what it answers then is
        applied, so a word that is late, repeated or out of order changes nothing. Over REST it
        comes to an address that holds a key of this scope, `?key=<key>`, for processors send none;
        the key alone says nothing.

        Errors: SIGNATURE_INVALID, WEBHOOKS_NOT_EXPECTED, NOT_FOUND; PAYMENT_UNDER_WAY and
        PROCESSOR_SILENT (nothing is kept: the processor is to send it again).
        """
        return self._caller.unary(_RECEIVE_WEBHOOK, request, timeout)


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

        Errors: ORDER_LIMIT_EXCEEDED; nothing is stored then, and the same call may be made again.
        """
        return await self._caller.unary(_CREATE_PAYMENT, request, timeout)

    async def capture_payment(
        self, request: orchestration_v1.CapturePaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.CapturePaymentResponse:
        """CapturePayment takes what a payment with manual capture has authorised, or a part of it. It
        answers in the state that was reached within the call's deadline; what is still PENDING then
        goes on without the caller. What a processor refuses is an answer, not an error: see the
        instruction's status. One instruction is carried out at a time.

        Errors: PAYMENT_NOT_AUTHORIZED, AMOUNT_EXCEEDS_LEFT, CAPTURE_NOT_PARTIAL, PAYMENT_UNDER_WAY
        (try again in a moment), PAYMENT_AWAITS_VERDICT.
        """
        return await self._caller.unary(_CAPTURE_PAYMENT, request, timeout)

    async def void_payment(
        self, request: orchestration_v1.VoidPaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.VoidPaymentResponse:
        """VoidPayment lets go what a payment has authorised and not captured. It answers as
        CapturePayment does.

        Errors: PAYMENT_NOT_AUTHORIZED, PAYMENT_UNDER_WAY, PAYMENT_AWAITS_VERDICT.
        """
        return await self._caller.unary(_VOID_PAYMENT, request, timeout)

    async def refund_payment(
        self, request: orchestration_v1.RefundPaymentRequest, *, timeout: float | None = None
    ) -> orchestration_v1.RefundPaymentResponse:
        """RefundPayment gives back what a payment has taken, or a part of it: the last step first. It
        answers as CapturePayment does. Refunds never exceed what was taken, however many come at
        once.

        Errors: NOTHING_TO_REFUND, AMOUNT_EXCEEDS_LEFT, REFUNDS_USED_UP, PAYMENT_UNDER_WAY,
        PAYMENT_AWAITS_VERDICT.
        """
        return await self._caller.unary(_REFUND_PAYMENT, request, timeout)

    async def resolve_attempt(
        self, request: orchestration_v1.ResolveAttemptRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ResolveAttemptResponse:
        """ResolveAttempt tells the outcome of an attempt that no processor can prove any more
        (MANUAL), audited, and lets its payment go on. It answers as CapturePayment does. A verdict
        that the processor contradicts later is handled as any word that comes late: what was
        charged after all is given back.

        Errors: ATTEMPT_NOT_MANUAL, NOT_FOUND, PAYMENT_UNDER_WAY.
        """
        return await self._caller.unary(_RESOLVE_ATTEMPT, request, timeout)

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

    def watch_payment(
        self, request: orchestration_v1.WatchPaymentRequest, *, timeout: float | None = None
    ) -> AsyncIterator[orchestration_v1.WatchPaymentResponse]:
        """WatchPayment sends a payment as it stands, and then each of its states that differs from the
        one before; states that follow each other within a moment may be told as one. It ends when
        nothing is left to do on it without an instruction or a verdict, or after five minutes: call
        again then.

        Errors: NOT_FOUND; OVERLOADED when as many streams are open as the process keeps (64), or of
        one tenant (16).
        """
        return self._caller.stream(_WATCH_PAYMENT, request, timeout)

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

    async def list_processors(
        self, request: orchestration_v1.ListProcessorsRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ListProcessorsResponse:
        """ListProcessors answers with a page of the processors that a merchant's current configuration
        may name, by processor_id: those of every merchant, and its own. NOT_FOUND for a merchant
        without a configuration.
        """
        return await self._caller.unary(_LIST_PROCESSORS, request, timeout)

    def all_processors(
        self, request: orchestration_v1.ListProcessorsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[orchestration_v1.Processor]:
        """Yield the processors of all pages of list_processors, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: orchestration_v1.ListProcessorsRequest) -> orchestration_v1.ListProcessorsResponse:
            return await self.list_processors(asked, timeout=timeout)

        return items_async(page, request, "processors", BY_TOKEN)

    async def get_processor_health(
        self, request: orchestration_v1.GetProcessorHealthRequest, *, timeout: float | None = None
    ) -> orchestration_v1.GetProcessorHealthResponse:
        """GetProcessorHealth answers with how a processor has fared lately, and whether its circuit
        breaker lets payments try it first: one of every merchant with all payments of the tenant, a
        merchant's own with those of the merchant. NOT_FOUND for one that is no processor of every
        merchant, and that the named merchant neither brings nor has tried.
        """
        return await self._caller.unary(_GET_PROCESSOR_HEALTH, request, timeout)

    async def receive_webhook(
        self, request: orchestration_v1.ReceiveWebhookRequest, *, timeout: float | None = None
    ) -> orchestration_v1.ReceiveWebhookResponse:
        """ReceiveWebhook takes what a processor tells by itself: a request of its own, with its
        signature. What a word is about is asked of the processor, and what it answers then is
        applied, so a word that is late, repeated or out of order changes nothing. Over REST it
        comes to an address that holds a key of this scope, `?key=<key>`, for processors send none;
        the key alone says nothing.

        Errors: SIGNATURE_INVALID, WEBHOOKS_NOT_EXPECTED, NOT_FOUND; PAYMENT_UNDER_WAY and
        PROCESSOR_SILENT (nothing is kept: the processor is to send it again).
        """
        return await self._caller.unary(_RECEIVE_WEBHOOK, request, timeout)
