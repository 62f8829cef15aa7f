"""MerchantConfigService, PlanPayment, GetPayment and ListPayments, errors included."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from .conftest import CARD, CARD_WITH_FALLBACK, WALLET, Bench, reason, status


async def test_versions_are_immutable_audited_and_listed(bench: Bench) -> None:
    assert await bench.configure(CARD) == 1
    assert await bench.configure(CARD) == 1, "an equal configuration is no new version"
    assert await bench.configure(WALLET, CARD_WITH_FALLBACK, partial_allowed=True) == 2
    get = service_pb.GetMerchantConfigRequest(merchant_id="acme")
    current = (await bench.configs.GetMerchantConfig(get)).config
    assert (current.version, current.partial_allowed) == (2, True)
    assert current.methods[0].max_amount.minor_units == 5000
    assert list(current.methods[1].fallback_processor_ids) == ["sandbox-card"]
    assert current.timeouts.call_timeout.seconds == 5
    assert current.retry_policy.attempts_per_processor_max == 2
    assert current.created_by == f"test:{bench.tenant_id}"
    get.version = 1
    first = (await bench.configs.GetMerchantConfig(get)).config
    assert [m.method for m in first.methods] == ["card"]

    audits = bench.rows(
        "SELECT before, after FROM mesh.audit WHERE tenant_id = %(tenant)s ORDER BY recorded_at"
    )
    assert [(row["before"] or {}).get("version") for row in audits] == [None, 1]
    assert [row["after"]["version"] for row in audits] == [1, 2]

    listing = service_pb.ListMerchantConfigVersionsRequest(merchant_id="acme", page_size=1)
    page = await bench.configs.ListMerchantConfigVersions(listing)
    assert [c.version for c in page.configs] == [2]
    listing.page_token = page.next_page_token
    page = await bench.configs.ListMerchantConfigVersions(listing)
    assert ([c.version for c in page.configs], page.next_page_token) == ([1], "")


async def test_every_merchant_is_listed_with_its_current_version(bench: Bench) -> None:
    for merchant_id in ("b", "a", "c"):
        config = config_pb2.MerchantConfig(merchant_id=merchant_id)
        config.methods.add(**CARD)
        for partial_allowed in (False, True)[: 1 + (merchant_id == "b")]:
            config.partial_allowed = partial_allowed
            put = service_pb.PutMerchantConfigRequest(request_id=str(uuid.uuid4()), config=config)
            await bench.configs.PutMerchantConfig(put)
    listing = service_pb.ListMerchantConfigsRequest(page_size=2)
    page = await bench.configs.ListMerchantConfigs(listing)
    assert [(c.merchant_id, c.version) for c in page.configs] == [("a", 1), ("b", 2)]
    get = service_pb.GetMerchantConfigRequest(merchant_id="b")
    assert page.configs[1] == (await bench.configs.GetMerchantConfig(get)).config
    listing.page_token = page.next_page_token
    page = await bench.configs.ListMerchantConfigs(listing)
    assert ([c.merchant_id for c in page.configs], page.next_page_token) == (["c"], "")
    versions = service_pb.ListMerchantConfigVersionsRequest(merchant_id="b", page_size=1)
    token = (await bench.configs.ListMerchantConfigVersions(versions)).next_page_token
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.configs.ListMerchantConfigs(
            service_pb.ListMerchantConfigsRequest(page_token=token)
        )
    assert reason(refused.value) == "INVALID_PAGE_TOKEN"


async def test_a_payment_keeps_the_version_that_it_was_planned_with(bench: Bench) -> None:
    await bench.configure(CARD)
    first = await bench.pay()
    await bench.configure(WALLET, CARD)
    second = await bench.pay()
    assert (first.config_version, second.config_version) == (1, 2)
    assert (await bench.get(first.payment_id)).plan == first.plan


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ([{"method": "card", "processor_id": "acme-card"}], "UNKNOWN_PROCESSOR"),
        ([CARD, CARD], "INVALID_FIELD"),
        ([CARD | {"fallback_processor_ids": ["sandbox-card"]}], "INVALID_FIELD"),
        ([], "INVALID_FIELD"),
        ([CARD | {"max_amount": {"currency_code": "USD", "minor_units": 0}}], "INVALID_FIELD"),
        ([CARD | {"max_amount": {"currency_code": "XXQ", "minor_units": 1}}], "UNKNOWN_CURRENCY"),
    ],
)
async def test_configurations_that_cannot_be_carried_out(
    bench: Bench, methods: list[dict[str, object]], expected: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.configure(*methods)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(refused.value) == expected


async def test_putting_with_one_key_twice(bench: Bench) -> None:
    config = config_pb2.MerchantConfig(merchant_id="acme")
    config.methods.add(**CARD)
    request = service_pb.PutMerchantConfigRequest(request_id=str(uuid.uuid4()), config=config)
    assert (await bench.configs.PutMerchantConfig(request)).version == 1
    assert (await bench.configs.PutMerchantConfig(request)).version == 1
    request.config.partial_allowed = True
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.configs.PutMerchantConfig(request)
    assert reason(refused.value) == "REQUEST_ID_REUSED"


async def test_unknown_merchants_versions_and_payments(bench: Bench) -> None:
    await bench.configure(CARD)
    for request in (
        service_pb.GetMerchantConfigRequest(merchant_id="nobody"),
        service_pb.GetMerchantConfigRequest(merchant_id="acme", version=9),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await bench.configs.GetMerchantConfig(request)
        assert (refused.value.code(), reason(refused.value)) == (
            grpc.StatusCode.NOT_FOUND,
            "NOT_FOUND",
        )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.get("pay_nothing")
    assert reason(refused.value) == "NOT_FOUND"
    empty = service_pb.ListMerchantConfigVersionsRequest(merchant_id="nobody")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.configs.ListMerchantConfigVersions(empty)
    assert reason(refused.value) == "NOT_FOUND"


async def test_planning_stores_and_charges_nothing(bench: Bench) -> None:
    await bench.configure(WALLET, CARD_WITH_FALLBACK)
    raw = bench.request().raw_request
    planned = await bench.payments.PlanPayment(service_pb.PlanPaymentRequest(raw_request=raw))
    assert [(s.method, s.max_amount.minor_units, s.processor_id) for s in planned.plan.steps] == [
        ("wallet", 5000, "sandbox-wallet"),
        ("card", 684, "sandbox-card-down"),
    ]
    assert planned.plan.total_amount.minor_units == 5684
    assert (planned.context.amount_cents, planned.config_version) == (5684, 1)
    assert [(d.method, d.chosen, d.reason) for d in planned.decisions] == [
        ("wallet", True, "CAPPED_BY_MERCHANT"),
        ("card", True, "TAKES_THE_REST"),
    ]
    again = await bench.payments.PlanPayment(service_pb.PlanPaymentRequest(raw_request=raw))
    assert again == planned
    listed = await bench.payments.ListPayments(service_pb.ListPaymentsRequest())
    assert not listed.payments
    assert bench.net_at_processors() == 0
    paid = await bench.pay()
    assert paid.plan == planned.plan

    doubtful = await bench.payments.PlanPayment(service_pb.PlanPaymentRequest(raw_request=b"{}"))
    assert not doubtful.HasField("plan")
    assert doubtful.context.validation_errors


async def test_lists_filter_and_page_newest_first(bench: Bench) -> None:
    await bench.configure(CARD)
    ids = [(await bench.pay(order_id=f"order-{n % 2}")).payment_id for n in range(5)]
    refused = await bench.pay(amount="nothing", order_id="order-0")
    assert status(refused) == "REFUSED"

    async def listed(**filters: Any) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            request = service_pb.ListPaymentsRequest(page_size=2, page_token=token, **filters)
            page = await bench.payments.ListPayments(request)
            found += [payment.payment_id for payment in page.payments]
            token = page.next_page_token
            if not token:
                return found

    assert await listed() == [refused.payment_id, *reversed(ids)]
    assert await listed(order_id="order-1") == [ids[3], ids[1]]
    assert await listed(status=pb.PAYMENT_STATUS_REFUSED) == [refused.payment_id]
    assert await listed(order_id="order-9") == []
    for unknown in ("nobody", "m", "shop "):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await listed(merchant_id=unknown)
        assert reason(refusal.value) in {"NOT_FOUND", "INVALID_FIELD"}
    first = await bench.payments.ListPayments(service_pb.ListPaymentsRequest(page_size=2))
    with pytest.raises(grpc.aio.AioRpcError) as stale:
        other = service_pb.ListPaymentsRequest(order_id="order-1", page_token=first.next_page_token)
        await bench.payments.ListPayments(other)
    assert reason(stale.value) == "INVALID_PAGE_TOKEN"


async def test_tenants_see_nothing_of_one_another(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay()
    other = Bench(
        bench.mesh, bench.runs, bench.booker, bench.clock, bench.urls, f"{bench.tenant_id}-b"
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await other.get(payment.payment_id)
    assert not (await other.payments.ListPayments(service_pb.ListPaymentsRequest())).payments
    assert status(await other.pay()) == "REFUSED", "the other's merchant is not configured"


async def test_scopes(bench: Bench) -> None:
    channel = bench.mesh.channel(bench.tenant_id, scopes={"orchestration:read"})
    reader = type(bench.payments)(channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await reader.CreatePayment(bench.request())
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await reader.ListPayments(service_pb.ListPaymentsRequest())
