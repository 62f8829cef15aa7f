"""How many plans a second: by the planner alone, and by PlanPayment over gRPC on a durable Postgres."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.orchestration.v1.orchestration_service_pb2_grpc import (
    MerchantConfigServiceStub,
    PaymentServiceStub,
)

from services.local.postgres.server import EmbeddedPostgres
from services.orchestration import manifest
from services.orchestration.domain.issues import Findings
from services.orchestration.domain.plan import build
from services.orchestration.domain.request import Context
from services.orchestration.messages.configs import config_of
from services.runtime import migrations
from services.runtime.postgres import roles
from services.runtime.postgres.roles import Passwords
from tests.support.measures.figures import tell
from tests.support.mesh.serving import running

RULES = 20
PLANS = 2_000
CALLS = 1_500
CALLERS = 16
ROUNDS = 3
TARGET = 1_500
"""Plans a second that are aimed at, over gRPC with client, server and Postgres on the same two cores; shown, since how
many it comes to hangs on the machine."""
RATIO_MIN = 0.2
"""Share of the floor, reading the same configuration, that is reached at least."""


GET = service_pb.GetMerchantConfigRequest(merchant_id="acme")
PLAN = service_pb.PlanPaymentRequest(
    raw_request=json.dumps(
        {
            "merchant_id": "acme",
            "amount": "56.84",
            "currency": "USD",
            "order_id": "o",
            "person_id": "p",
            "metadata": {"shop": f"shop-{RULES - 1}"},
        }
    ).encode()
)


def config() -> config_pb2.MerchantConfig:
    """Wallet, then card by fee; the last of twenty rules decides."""
    found = config_pb2.MerchantConfig(merchant_id="acme")
    wallet = found.methods.add(method="wallet", processor_id="sandbox-wallet")
    wallet.max_amount.currency_code = "USD"
    wallet.max_amount.minor_units = 5000
    both = ["sandbox-card", "sandbox-card-second"]
    found.methods.add(method="card", processor_id=both[0], fallback_processor_ids=both[1:])
    for number in range(RULES):
        rule = found.rules.add(name=f"rule-{number}", methods=["card"])
        rule.when.metadata.add(key="shop", values=[f"shop-{number}"])
        rule.route.processor_ids.extend(both)
        rule.route.strategy.least_cost.SetInParent()
    for processor_id in both:
        found.fees.add(processor_id=processor_id, percent="2.9")
    return found


def test_plans_a_second_in_process() -> None:
    merchant = config_of(config())
    context = Context(
        merchant_id="acme",
        amount_minor=5684,
        currency="USD",
        metadata=(("shop", f"shop-{RULES - 1}"),),
    )
    best = 0.0
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(PLANS):
            plan, _ = build(context, merchant, Findings(), (), "key")
        best = max(best, PLANS / (time.process_time() - began))
    assert plan is not None
    assert len(plan.steps) == 2
    tell(
        "payments",
        f"plan two steps in process, {RULES} rules, by fee, one core",
        f"{best:,.0f} plans/s",
        target=f">= {TARGET:,}/s",
    )
    assert best >= TARGET / 2


async def test_plan_payment_over_grpc(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "data") as server:
        urls = roles.prepare_now(server.create_database("bench"), passwords=Passwords.generate())
        migrations.upgrade(urls.owner_admin, ["services.orchestration.migrations"])
        async with running(urls, [manifest.SERVICE]) as mesh:
            channel = mesh.channel("bench")
            put = service_pb.PutMerchantConfigRequest(request_id=str(uuid.uuid4()), config=config())
            await MerchantConfigServiceStub(channel).PutMerchantConfig(put)
            configs: Any = MerchantConfigServiceStub(channel)
            payments: Any = PaymentServiceStub(channel)
            best = floor = 0.0
            for _ in range(ROUNDS):
                floor = max(floor, await rate(configs.GetMerchantConfig, GET))
                best = max(best, await rate(payments.PlanPayment, PLAN))
    tell(
        "payments",
        f"PlanPayment, {RULES} rules, by fee, {CALLERS} callers",
        f"{best:,.0f} calls/s",
        floor=f"GetMerchantConfig: {floor:,.0f} calls/s",
        ratio=f"{best / floor:.2f}",
        target=f">= {TARGET:,}/s",
    )
    assert best >= RATIO_MIN * floor


async def rate(call: Any, request: Message) -> float:
    """Return the calls a second."""
    left = iter(range(CALLS))

    async def one_after_the_other() -> None:
        for _ in left:
            await call(request)

    began = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(CALLERS)))
    return CALLS / (time.perf_counter() - began)
