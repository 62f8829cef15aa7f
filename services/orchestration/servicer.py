"""PaymentService and MerchantConfigService: proto to use case and back. Protobuf types stop here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.orchestration.v1 import orchestration_service_pb2_grpc as service_grpc

from services.orchestration.app.configs import PAYMENTS_DEFAULT, MerchantConfigs
from services.orchestration.app.findings import ResolveAttempt
from services.orchestration.app.instructions import Instructions
from services.orchestration.app.payments import PART_BYTES, Payments
from services.orchestration.app.processors import ProcessorList
from services.orchestration.app.watching import Watching
from services.orchestration.app.webhooks import ReceiveWebhook
from services.orchestration.domain.instructions import Instruct
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.record import Filter
from services.orchestration.messages import configs as config_messages
from services.orchestration.messages import incoming
from services.orchestration.messages import payments as messages
from services.orchestration.messages import processors as processor_messages
from services.orchestration.messages.simulation import simulated
from services.orchestration.ports import Webhook
from services.runtime.commands import Commands, UseCase, fingerprint
from services.runtime.edge import values as edge
from services.runtime.edge.paging import Int32, Page
from services.runtime.turns import aside


def _parts(request: service_pb.CreatePaymentRequest | service_pb.PlanPaymentRequest) -> int:
    """Return how much there is to read, at most."""
    return request.ByteSize() // PART_BYTES


class PaymentServicer(service_grpc.PaymentServiceServicer):
    """Answers PaymentService."""

    def __init__(
        self,
        payments: Payments,
        instructions: Instructions,
        resolve: ResolveAttempt,
        processors: ProcessorList,
        watching: Watching,
        receive: ReceiveWebhook,
    ) -> None:
        self._receive = receive
        self._watching = watching
        self._processors = processors
        self._resolve = resolve
        self._payments = payments
        self._instructions = instructions

    async def CreatePayment(
        self, request: service_pb.CreatePaymentRequest, context: Any
    ) -> service_pb.CreatePaymentResponse:
        """Take a payment."""
        read = await aside(_parts(request), incoming.read, request, request.request_id)
        if request.HasField("order_limit"):
            read = replace(read, order_limit=edge.money_of(request.order_limit))
        payment, repeated = await self._payments.create(read)
        return service_pb.CreatePaymentResponse(
            payment=messages.payment_message(payment), repeated=repeated
        )

    async def CapturePayment(
        self, request: service_pb.CapturePaymentRequest, context: Any
    ) -> service_pb.CapturePaymentResponse:
        """Take what is authorised."""
        command = Instruct(
            Operation.CAPTURE,
            request.payment_id,
            edge.money_of(request.amount) if request.HasField("amount") else None,
            request.keep_open,
            request.reason,
        )
        given = await self._instructions.give(command, request.request_id, fingerprint(request))
        return service_pb.CapturePaymentResponse(
            payment=messages.payment_message(given[0]),
            instruction=messages.instruction_message(*given),
        )

    async def VoidPayment(
        self, request: service_pb.VoidPaymentRequest, context: Any
    ) -> service_pb.VoidPaymentResponse:
        """Let go what is authorised."""
        command = Instruct(Operation.VOID, request.payment_id, reason=request.reason)
        given = await self._instructions.give(command, request.request_id, fingerprint(request))
        return service_pb.VoidPaymentResponse(
            payment=messages.payment_message(given[0]),
            instruction=messages.instruction_message(*given),
        )

    async def RefundPayment(
        self, request: service_pb.RefundPaymentRequest, context: Any
    ) -> service_pb.RefundPaymentResponse:
        """Give back what was taken."""
        command = Instruct(
            Operation.REFUND,
            request.payment_id,
            edge.money_of(request.amount) if request.HasField("amount") else None,
            reason=request.reason,
        )
        given = await self._instructions.give(command, request.request_id, fingerprint(request))
        return service_pb.RefundPaymentResponse(
            payment=messages.payment_message(given[0]),
            instruction=messages.instruction_message(*given),
        )

    async def ResolveAttempt(
        self, request: service_pb.ResolveAttemptRequest, context: Any
    ) -> service_pb.ResolveAttemptResponse:
        """Take an operator's verdict."""
        command = messages.resolve_of(request)
        payment, attempt = await self._resolve(command, request.request_id, fingerprint(request))
        return service_pb.ResolveAttemptResponse(
            payment=messages.payment_message(payment),
            attempt=messages.attempt_message(payment, attempt),
        )

    async def PlanPayment(
        self, request: service_pb.PlanPaymentRequest, context: Any
    ) -> service_pb.PlanPaymentResponse:
        """Show what would be done."""
        read = await aside(_parts(request), incoming.read, request)
        planned = await self._payments.plan(read)
        return messages.planned(planned)

    async def GetPayment(
        self, request: service_pb.GetPaymentRequest, context: Any
    ) -> service_pb.GetPaymentResponse:
        """Give one payment."""
        payment = await self._payments.get(request.payment_id)
        return service_pb.GetPaymentResponse(payment=messages.payment_message(payment))

    async def ListPayments(
        self, request: service_pb.ListPaymentsRequest, context: Any
    ) -> service_pb.ListPaymentsResponse:
        """Give a page of payments."""
        status = messages.status_of(request.status)
        wanted = Filter(request.merchant_id, request.order_id, status)
        scope = f"payments:{wanted.merchant_id}:{wanted.order_id}:{wanted.status}"
        page = Page.of(request, scope, {"before": str})
        before = page.after.get("before", "")
        found = await self._payments.list(wanted, before=before, limit=page.limit)
        payments, token = await page.cut(
            found, messages.payment_message, lambda payment: {"before": payment.payment_id}
        )
        return service_pb.ListPaymentsResponse(payments=payments, next_page_token=token)

    async def WatchPayment(
        self, request: service_pb.WatchPaymentRequest, context: Any
    ) -> AsyncIterator[service_pb.WatchPaymentResponse]:
        """Follow a payment."""
        async with aclosing(self._watching.watch(request.payment_id)) as found:
            async for payment in found:
                yield service_pb.WatchPaymentResponse(payment=messages.payment_message(payment))

    async def ListProcessors(
        self, request: service_pb.ListProcessorsRequest, context: Any
    ) -> service_pb.ListProcessorsResponse:
        """Give a page of the processors that a merchant may name."""
        page = Page.of(request, f"processors:{request.merchant_id}", {"after": str})
        found = await self._processors.offered(
            request.merchant_id, after=page.after.get("after", ""), limit=page.limit
        )
        processors, token = await page.cut(
            found, processor_messages.processor, lambda offered: {"after": offered.processor_id}
        )
        return service_pb.ListProcessorsResponse(processors=processors, next_page_token=token)

    async def GetProcessorHealth(
        self, request: service_pb.GetProcessorHealthRequest, context: Any
    ) -> service_pb.GetProcessorHealthResponse:
        """Tell how a processor has fared."""
        window = processor_messages.window_of(request)
        found = await self._processors.fared(request.merchant_id, request.processor_id, window)
        return service_pb.GetProcessorHealthResponse(health=processor_messages.health(found))

    async def ReceiveWebhook(
        self, request: service_pb.ReceiveWebhookRequest, context: Any
    ) -> service_pb.ReceiveWebhookResponse:
        """Take what a processor tells by itself."""
        webhook = Webhook(dict(request.headers), request.raw_request)
        received = await self._receive(request.processor_id, webhook)
        return processor_messages.received(received)


class MerchantConfigServicer(service_grpc.MerchantConfigServiceServicer):
    """Answers MerchantConfigService."""

    def __init__(self, configs: MerchantConfigs, commands: Commands) -> None:
        self._configs = configs
        self._commands = commands
        self._put = UseCase(
            "orchestration.put_merchant_config",
            configs.put,
            config_messages.config_put,
            service_pb.PutMerchantConfigResponse,
        )

    async def PutMerchantConfig(
        self, request: service_pb.PutMerchantConfigRequest, context: Any
    ) -> service_pb.PutMerchantConfigResponse:
        """Store a version."""
        return await self._commands.run(
            self._put, config_messages.config_of(request.config), request
        )

    async def SimulateRouting(
        self, request: service_pb.SimulateRoutingRequest, context: Any
    ) -> service_pb.SimulateRoutingResponse:
        """Tell what a configuration would change."""
        config = config_messages.config_of(request.config)
        found = await self._configs.simulate(config, request.payments_max or PAYMENTS_DEFAULT)
        return simulated(found)

    async def GetMerchantConfig(
        self, request: service_pb.GetMerchantConfigRequest, context: Any
    ) -> service_pb.GetMerchantConfigResponse:
        """Give a version."""
        stored = await self._configs.get(request.merchant_id, request.version)
        return service_pb.GetMerchantConfigResponse(config=config_messages.config_message(stored))

    async def ListMerchantConfigVersions(
        self, request: service_pb.ListMerchantConfigVersionsRequest, context: Any
    ) -> service_pb.ListMerchantConfigVersionsResponse:
        """Give a page of versions."""
        scope = f"merchant_configs:{request.merchant_id}"
        page = Page.of(request, scope, {"before": Int32})
        before = page.after.get("before", 0)
        found = await self._configs.versions(request.merchant_id, before=before, limit=page.limit)
        configs, token = await page.cut(
            found, config_messages.config_message, lambda stored: {"before": stored.config.version}
        )
        return service_pb.ListMerchantConfigVersionsResponse(configs=configs, next_page_token=token)

    async def ListMerchantConfigs(
        self, request: service_pb.ListMerchantConfigsRequest, context: Any
    ) -> service_pb.ListMerchantConfigsResponse:
        """Give a page of merchants."""
        page = Page.of(request, "merchant_configs", {"after": str})
        found = await self._configs.current(after=page.after.get("after", ""), limit=page.limit)
        configs, token = await page.cut(
            found,
            config_messages.config_message,
            lambda stored: {"after": stored.config.merchant_id},
        )
        return service_pb.ListMerchantConfigsResponse(configs=configs, next_page_token=token)
