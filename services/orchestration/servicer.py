"""PaymentService and MerchantConfigService: proto to use case and back. Protobuf types stop here."""

from __future__ import annotations

from typing import Any

from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.orchestration.v1 import orchestration_service_pb2_grpc as service_grpc

from services.orchestration import incoming, rendering
from services.orchestration.app import MerchantConfigs, Payments
from services.orchestration.store import Filter
from services.runtime.database import UnitOfWork
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.idempotency import Idempotency


class PaymentServicer(service_grpc.PaymentServiceServicer):
    """Answers PaymentService."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    async def CreatePayment(
        self, request: service_pb.CreatePaymentRequest, context: Any
    ) -> service_pb.CreatePaymentResponse:
        """Take a payment."""
        payment, repeated = await self._payments.create(incoming.read(request, request.request_id))
        return service_pb.CreatePaymentResponse(
            payment=rendering.payment_message(payment), repeated=repeated
        )

    async def PlanPayment(
        self, request: service_pb.PlanPaymentRequest, context: Any
    ) -> service_pb.PlanPaymentResponse:
        """Show what would be done."""
        read = incoming.read(request)
        planned = await self._payments.plan(read)
        response = service_pb.PlanPaymentResponse(
            context=rendering.context_message(planned.context, planned.request_key),
            decisions=[rendering.decision_message(decision) for decision in planned.decisions],
            config_version=planned.config.version if planned.config else 0,
        )
        if planned.plan is not None:
            response.plan.CopyFrom(rendering.plan_message(planned.plan))
        return response

    async def GetPayment(
        self, request: service_pb.GetPaymentRequest, context: Any
    ) -> service_pb.GetPaymentResponse:
        """Give one payment."""
        payment = await self._payments.get(request.payment_id)
        return service_pb.GetPaymentResponse(payment=rendering.payment_message(payment))

    async def ListPayments(
        self, request: service_pb.ListPaymentsRequest, context: Any
    ) -> service_pb.ListPaymentsResponse:
        """Give a page of payments."""
        status = pb.PaymentStatus.Name(request.status).removeprefix("PAYMENT_STATUS_")
        wanted = Filter(
            request.merchant_id, request.order_id, "" if status == "UNSPECIFIED" else status
        )
        scope = f"payments:{wanted.merchant_id}:{wanted.order_id}:{wanted.status}"
        token = decode_token(request.page_token, scope, {"before": str})
        size = clamp_page_size(request.page_size)
        found = await self._payments.list(wanted, before=token.get("before", ""), limit=size + 1)
        response = service_pb.ListPaymentsResponse(
            payments=[rendering.payment_message(payment) for payment in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = encode_token({"before": found[size - 1].payment_id}, scope)
        return response


class MerchantConfigServicer(service_grpc.MerchantConfigServiceServicer):
    """Answers MerchantConfigService."""

    def __init__(self, configs: MerchantConfigs, idempotency: Idempotency) -> None:
        self._configs = configs
        self._idempotency = idempotency

    async def PutMerchantConfig(
        self, request: service_pb.PutMerchantConfigRequest, context: Any
    ) -> service_pb.PutMerchantConfigResponse:
        """Store a version."""

        async def handler(work: UnitOfWork) -> service_pb.PutMerchantConfigResponse:
            version = await self._configs.put(work, rendering.config_of(request.config))
            return service_pb.PutMerchantConfigResponse(version=version)

        return await self._idempotency.once(
            "orchestration.put_merchant_config",
            request,
            service_pb.PutMerchantConfigResponse,
            handler,
        )

    async def GetMerchantConfig(
        self, request: service_pb.GetMerchantConfigRequest, context: Any
    ) -> service_pb.GetMerchantConfigResponse:
        """Give a version."""
        stored = await self._configs.get(request.merchant_id, request.version)
        return service_pb.GetMerchantConfigResponse(config=rendering.config_message(stored))

    async def ListMerchantConfigVersions(
        self, request: service_pb.ListMerchantConfigVersionsRequest, context: Any
    ) -> service_pb.ListMerchantConfigVersionsResponse:
        """Give a page of versions."""
        scope = f"merchant_configs:{request.merchant_id}"
        token = decode_token(request.page_token, scope, {"before": int})
        size = clamp_page_size(request.page_size)
        found = await self._configs.versions(
            request.merchant_id, before=token.get("before", 0), limit=size + 1
        )
        response = service_pb.ListMerchantConfigVersionsResponse(
            configs=[rendering.config_message(stored) for stored in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = encode_token(
                {"before": found[size - 1].config.version}, scope
            )
        return response
