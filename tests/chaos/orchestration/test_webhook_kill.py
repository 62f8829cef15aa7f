"""Kill -9 of the service while it takes a processor's word; the peer's own lists are the oracle."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from typing import Any

import grpc
import pytest
import stripe
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.orchestration.v1.orchestration_service_pb2_grpc import (
    MerchantConfigServiceStub,
    PaymentServiceStub,
)

from services.runtime.access import MeshTokens, Principal
from tests.support.mesh.process import service
from tests.support.mesh.serving import MESH_SECRET
from tests.support.peers.cutter import Fault, cutting
from tests.support.peers.faulted import processor
from tests.support.peers.localstripe import KEY, localstripe
from tests.support.postgres.server import DatabaseUrls

from .test_kill import END_WITHIN_S, FINAL, count, let_the_lease_run_out

SECRET = "whsec_of_the_peer"
TAKEN = "SELECT count(*) FROM orchestration.processor_event WHERE tenant_id = %s"


def signed(merchant_ref: str) -> service_pb.ReceiveWebhookRequest:
    told = {
        "id": "evt_1",
        "type": "payment_intent.succeeded",
        "data": {"object": {"metadata": {"merchant_ref": merchant_ref}}},
    }
    body = json.dumps(told)
    header = stripe.WebhookSignature.generate_signature_header(body, SECRET)
    return service_pb.ReceiveWebhookRequest(
        processor_id="stripe", raw_request=body.encode(), headers={"stripe-signature": header}
    )


@pytest.mark.parametrize(
    "point", ["orchestration.webhook.before_commit", "orchestration.webhook.after_commit"]
)
async def test_a_word_is_taken_once(database: DatabaseUrls, point: str) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    principal = Principal(tenant, "chaos", frozenset({"*"}))
    headers = [("authorization", f"Mesh {MeshTokens(MESH_SECRET).issue(principal)}")]
    async with localstripe() as peer, cutting(peer.port, 2.2) as (cutter, port):
        base_url = f"http://127.0.0.1:{port}"
        kept = {"secret": KEY, "base_urls": [base_url], "webhook_secrets": [SECRET]}
        settings = {
            "TOLLMESH_PROCESSOR_ALLOW": "127.0.0.1",
            "TOLLMESH_PROCESSOR_CREDENTIALS": json.dumps({f"{tenant}/peer": kept}),
        }

        def lose(request: bytes) -> Fault:
            lost = b"/confirm " in request or request.startswith(b"GET ")
            return Fault.REPLY_LOST if lost else Fault.NONE

        cutter.fault = lose
        with service(database, "services.orchestration", crashpoint=point, settings=settings) as (
            address,
            process,
        ):
            async with grpc.aio.insecure_channel(address) as channel:
                attempt_id = await pay(channel, headers, base_url)
                cutter.fault = lambda request: Fault.NONE
                payments: Any = PaymentServiceStub(channel)
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await payments.ReceiveWebhook(signed(attempt_id), metadata=headers, timeout=20)
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL
        let_the_lease_run_out(database, tenant)
        assert count(database, TAKEN, tenant) == point.endswith(".after_commit")
        with service(database, "services.orchestration", settings=settings) as (address, _):
            async with grpc.aio.insecure_channel(address) as channel:
                payments = PaymentServiceStub(channel)
                # Its sender had no answer, so it sends it again.
                await payments.ReceiveWebhook(signed(attempt_id), metadata=headers, timeout=20)
                payment = await ended(channel, headers)
        assert payment.status == pb.PAYMENT_STATUS_SUCCEEDED, payment
        assert peer.net_minor() == {attempt_id: 1234}
        assert count(database, TAKEN, tenant) == 1


async def pay(channel: grpc.aio.Channel, headers: Any, base_url: str) -> str:
    """Make a payment whose answer is lost; returns its attempt's id."""
    config = config_pb2.MerchantConfig(merchant_id="acme", processors=[processor(base_url)])
    config.methods.add(method="card", processor_id="stripe")
    put = service_pb.PutMerchantConfigRequest(request_id=str(uuid.uuid4()), config=config)
    configs: Any = MerchantConfigServiceStub(channel)
    await configs.PutMerchantConfig(put, metadata=headers)
    body = {
        "merchant_id": "acme",
        "order_id": "o-1",
        "currency": "USD",
        "amount": "12.34",
        "payment_methods": [{"method": "card", "token": "pm_card_visa"}],
    }
    request = service_pb.CreatePaymentRequest(
        raw_request=json.dumps(body).encode(), request_id=str(uuid.uuid4())
    )
    payments: Any = PaymentServiceStub(channel)
    payment = (await payments.CreatePayment(request, metadata=headers, timeout=20)).payment
    (attempt,) = payment.attempts
    assert attempt.status == pb.ATTEMPT_STATUS_UNKNOWN, payment
    return str(attempt.attempt_id)


async def ended(channel: grpc.aio.Channel, headers: Any) -> pb.Payment:
    """Wait for the end of the only payment."""
    payments: Any = PaymentServiceStub(channel)
    deadline = time.monotonic() + END_WITHIN_S
    while True:
        request = service_pb.ListPaymentsRequest()
        (payment,) = (await payments.ListPayments(request, metadata=headers)).payments
        if payment.status in FINAL:
            found: pb.Payment = payment
            return found
        assert time.monotonic() < deadline, payment
        await asyncio.sleep(0.2)
