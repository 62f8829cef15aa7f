"""The largest call of each kind leaves the event loop to the others, step by step."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf import struct_pb2
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc
from payments.metering.v1 import metering_service_pb2_grpc
from payments.orchestration.v1 import orchestration_service_pb2, orchestration_service_pb2_grpc
from payments.pricing.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    pricing_service_pb2,
    pricing_service_pb2_grpc,
)
from payments.type.v1 import type_pb2

from services.ledger import manifest as ledger
from services.ledger.messages.plain import BATCH_ITEMS_MAX
from services.metering import manifest as metering
from services.metering.domain.usage import ROWS_MAX
from services.orchestration import manifest as orchestration
from services.pricing import manifest as pricing
from services.pricing.messages import CATALOG_BYTES_MAX
from services.runtime.clock import ManualClock
from services.runtime.edge.weight import MESSAGE_BYTES_MAX
from tests.support.billing.metering import NOW, batch, event, usage_query
from tests.support.billing.pricing import declaration
from tests.support.measures.loop_watch import STEP_S, watching
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    builds = [ledger.SERVICE, pricing.SERVICE, metering.SERVICE, orchestration.SERVICE]
    async with running(database, builds, clock=ManualClock(NOW)) as found:
        yield found


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def accounts() -> ledger_service_pb2.CreateAccountsRequest:
    return ledger_service_pb2.CreateAccountsRequest(
        accounts=[
            ledger_pb2.Account(
                account_id=f"a-{number}", currency_code="USD", type=ledger_pb2.ACCOUNT_TYPE_ASSET
            )
            for number in range(BATCH_ITEMS_MAX)
        ]
    )


def transfers(*, linked: bool) -> ledger_service_pb2.PostTransfersRequest:
    found = [
        ledger_pb2.Transfer(
            transfer_id=str(uuid.uuid4()),
            debit_account_id=f"a-{number}",
            credit_account_id=f"a-{(number + 1) % BATCH_ITEMS_MAX}",
            amount=type_pb2.Money(currency_code="USD", minor_units=100),
            code=1,
            linked=linked,
            metadata={"order_id": f"o-{number}", "note": '\\ü"' * 14},
        )
        for number in range(BATCH_ITEMS_MAX)
    ]
    found[-1].linked = False
    return ledger_service_pb2.PostTransfersRequest(transfers=found)


async def test_a_full_batch_of_the_ledger(mesh: Mesh, tenant: str) -> None:
    stub = ledger_service_pb2_grpc.LedgerServiceStub(mesh.channel(tenant))
    opening = accounts()
    async with watching() as watch:
        opened = await stub.CreateAccounts(opening)
        again = await stub.CreateAccounts(opening)
    assert {item.result for item in opened.results} == {ledger_service_pb2.ACCOUNT_RESULT_OK}
    assert {item.result for item in again.results} == {ledger_service_pb2.ACCOUNT_RESULT_EXISTS}
    assert watch.longest_s < STEP_S

    for linked in (False, True):
        request = transfers(linked=linked)
        async with watching() as watch:
            posted = await stub.PostTransfers(request)
            repeated = await stub.PostTransfers(request)
        assert {item.result for item in posted.results} == {ledger_service_pb2.TRANSFER_RESULT_OK}
        assert {item.result for item in repeated.results} == {
            ledger_service_pb2.TRANSFER_RESULT_EXISTS
        }
        assert watch.longest_s < STEP_S
    for transfer in request.transfers:
        transfer.code = 2
    async with watching() as watch:
        differing = await stub.PostTransfers(request)
    assert len(differing.results) == BATCH_ITEMS_MAX
    assert watch.longest_s < STEP_S


def _members(*members: bytes) -> bytes:
    return b"{" + b",".join(members) + b"}"


def _struct(fields: int) -> struct_pb2.Struct:
    found = struct_pb2.Struct()
    for number in range(fields):
        found.fields[f"k{number}"].number_value = number
    return found


@pytest.mark.parametrize(
    "body",
    [
        {"raw_request": b'{"payment_methods":[' + b",".join([b'{"a":0}'] * 25_000) + b"]}"},
        {"raw_request": _members(*[b'"amount":1'] * 20_000)},
        {"raw_request": _members(*[b'"amount":%d' % n for n in range(15_000)])},
        {"raw_request": _members(b'"amount":' + _members(*[b'"a":0'] * 40_000))},
        {"external_request": _struct(12_000)},
    ],
)
async def test_a_payment_of_many_tiny_members(
    mesh: Mesh, tenant: str, body: dict[str, Any]
) -> None:
    stub = orchestration_service_pb2_grpc.PaymentServiceStub(mesh.channel(tenant))
    key = str(uuid.uuid4())
    async with watching() as watch:
        plan = orchestration_service_pb2.PlanPaymentRequest(**body)
        planned = await stub.PlanPayment(plan)
        create = orchestration_service_pb2.CreatePaymentRequest(request_id=key, **body)
        made = await stub.CreatePayment(create)
    assert planned.context.validation_errors
    assert made.payment.context.validation_errors
    assert watch.longest_s < STEP_S


def skus(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"sku": f"s-{number}", "unit": "u", **fields} for number in range(count)]


def plans(count: int, prices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"plan_id": f"p-{number}", "name": "P", "currency_code": "USD", "prices": prices}
        for number in range(count)
    ]


def tiers(count: int, unit_amount: str) -> list[dict[str, str]]:
    ends = [{"up_to": str(number), "unit_amount": unit_amount} for number in range(1, count)]
    return [*ends, {"unit_amount": unit_amount}]


def notes() -> dict[str, Any]:
    """Many SKUs with many notes."""
    return {"skus": skus(800, metadata={f"key-{number}": "x" for number in range(32)})}


def many_prices() -> dict[str, Any]:
    """Many plans that price many SKUs."""
    prices = [
        {"sku": f"s-{number}", "price": {"per_unit": {"unit_amount": "0.01"}}}
        for number in range(500)
    ]
    return {"skus": skus(500), "plans": plans(45, prices)}


def many_tiers() -> dict[str, Any]:
    """Plans with as many tiers as a price list may have."""
    prices = [
        {"sku": f"s-{number}", "price": {"graduated": {"tiers": tiers(100, "1")}}}
        for number in range(20)
    ]
    return {"skus": skus(20), "plans": plans(22, prices)}


def many_things() -> dict[str, Any]:
    """As many things as a declaration may have."""
    numbers = range(1_000)
    return {
        "skus": skus(1_000),
        "plans": plans(200, []),
        "business_models": [
            {"model_id": f"m-{number}", "currency_code": "USD"} for number in range(100)
        ],
        "org_business_models": [{"org_id": f"o-{n}", "model_id": f"m-{n % 100}"} for n in numbers],
        "entitlements": [{"org_id": f"o-{n}", "plan_id": f"p-{n % 200}"} for n in numbers],
        "partners": [{"partner_id": f"n-{n}", "tier": f"t-{n}"} for n in numbers],
        "partners_of_record": [{"org_id": f"o-{n}", "partner_id": f"n-{n}"} for n in numbers],
        "commission_rates": [{"partner_tier": f"t-{n}", "pct": "10"} for n in numbers],
    }


@pytest.mark.parametrize("made", [notes, many_prices, many_tiers, many_things])
async def test_the_largest_catalogue(
    mesh: Mesh, tenant: str, made: Callable[[], dict[str, Any]]
) -> None:
    options: dict[str, Any] = {"grpc.max_receive_message_length": MESSAGE_BYTES_MAX}
    channel = mesh.channel(tenant, **options)
    # Bytes in and out: what the caller decodes is not the mesh's.
    apply: Any = channel.unary_unary("/payments.pricing.v1.CatalogService/ApplyCatalog")
    request = declaration(made())
    assert CATALOG_BYTES_MAX // 6 < request.catalog.ByteSize() <= CATALOG_BYTES_MAX
    sent = [request.SerializeToString()]
    for plan in request.catalog.plans:
        plan.notes = "changed"
    sent.append(request.SerializeToString())
    async with watching() as watch:
        answers = [await apply(data) for data in sent]
    first, again = map(catalog_service_pb2.ApplyCatalogResponse.FromString, answers)
    assert len(first.changes) == len(again.changes) > 0
    assert watch.longest_s < STEP_S


@pytest.mark.parametrize("label", ["🧾" * 256, '\\"' * 128, "\t\n" * 128])
async def test_usage_whose_labels_have_to_be_escaped(mesh: Mesh, tenant: str, label: str) -> None:
    stub = metering_service_pb2_grpc.MeteringServiceStub(mesh.channel(tenant))
    known = catalog_service_pb2_grpc.CatalogServiceStub(mesh.channel(tenant))
    await known.ApplyCatalog(declaration({"skus": [{"sku": "llm.tokens", "unit": "token"}]}))
    labels = {f"k{number}": label for number in range(16)}
    sent = batch(
        *(event(f"e-{n}", at=NOW - timedelta(hours=1), metadata=labels) for n in range(600))
    )
    async with watching() as watch:
        answer = await stub.IngestEvents(sent)
    assert answer.accepted == 600
    assert watch.longest_s < STEP_S


async def test_rating_as_many_projects_as_there_can_be(mesh: Mesh, tenant: str) -> None:
    stub = metering_service_pb2_grpc.MeteringServiceStub(mesh.channel(tenant))
    known = catalog_service_pb2_grpc.CatalogServiceStub(mesh.channel(tenant))
    tiers = [{"up_to": str(100 * (n + 1)), "unit_amount": f"0.{n + 10}"} for n in range(30)]
    price = {"graduated": {"tiers": [*tiers, {"unit_amount": "0.01"}]}}
    plan: dict[str, Any] = {
        "plan_id": "p",
        "name": "P",
        "currency_code": "USD",
        "status": "STATUS_ACTIVE",
    }
    plan["prices"] = [{"sku": "llm.tokens", "price": price}]
    catalog = {
        "skus": [{"sku": "llm.tokens", "unit": "token"}],
        "plans": [plan],
        "entitlements": [{"org_id": "org", "plan_id": "p", "effective_at": "2020-01-01T00:00:00Z"}],
    }
    await known.ApplyCatalog(declaration(catalog))
    at = NOW - timedelta(hours=1)
    used = [
        event(f"e-{n}", at=at, org_id="org", project_id=f"p-{n}", quantity="90")
        for n in range(5_000)
    ]
    assert (await stub.IngestEvents(batch(*used))).accepted == 5_000
    request = pricing_service_pb2.RateUsageRequest(org_id="org")
    request.period.start_at.FromDatetime(at - timedelta(minutes=1))
    request.period.end_at.FromDatetime(at + timedelta(minutes=1))
    rating = pricing_service_pb2_grpc.PricingServiceStub(mesh.channel(tenant))
    async with watching() as watch:
        rated = await rating.RateUsage(request)
    assert len(rated.lines) == 5_000
    assert watch.longest_s < STEP_S


async def test_usage_up_to_its_limit(mesh: Mesh, tenant: str) -> None:
    stub = metering_service_pb2_grpc.MeteringServiceStub(mesh.channel(tenant))
    known = catalog_service_pb2_grpc.CatalogServiceStub(mesh.channel(tenant))
    await known.ApplyCatalog(declaration({"skus": [{"sku": "llm.tokens", "unit": "token"}]}))
    for start in range(0, ROWS_MAX, 5_000):
        events = [
            event(f"e-{number}", at=NOW - timedelta(hours=1), metadata={"user": f"u-{number}"})
            for number in range(start, start + 5_000)
        ]
        answer = await stub.IngestEvents(batch(*events))
        assert answer.accepted == 5_000
    query = usage_query(group_by=["user"])
    async with watching() as watch:
        usage = await stub.QueryUsage(query)
    assert len(usage.rows) == ROWS_MAX
    assert watch.longest_s < STEP_S
