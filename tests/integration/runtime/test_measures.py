"""What the mesh counts of the business, as Prometheus reads it; and that all that is measured is declared."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import urllib.request
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from payments.billing.v1 import charge_service_pb2, charge_service_pb2_grpc
from payments.config.v1 import config_pb2
from payments.metering.v1 import metering_service_pb2_grpc
from payments.orchestration.v1 import orchestration_service_pb2 as orchestration_pb
from payments.orchestration.v1 import orchestration_service_pb2_grpc as orchestration_grpc
from payments.pricing.v1 import catalog_service_pb2_grpc

import services
from services.runtime.clock import ManualClock
from services.runtime.manifests import Manifest, found, measured
from services.runtime.measures import MESH, Measure
from tests.support.billing.metering import NOW, batch, event
from tests.support.billing.pricing import declaration
from tests.support.mesh.serving import running
from tests.support.postgres.server import DatabaseUrls
from tests.support.processes.forked import REPOSITORY
from tools import metrics_page

CATALOG = {
    "skus": [{"sku": "llm.tokens", "unit": "token"}],
    "plans": [
        {
            "plan_id": "p",
            "name": "P",
            "currency_code": "USD",
            "status": "STATUS_ACTIVE",
            "prices": [{"sku": "llm.tokens", "price": {"per_unit": {"unit_amount": "0.10"}}}],
        }
    ],
    "entitlements": [{"org_id": "acme", "plan_id": "p", "effective_at": "2020-01-01T00:00:00Z"}],
}


async def test_what_was_committed_is_counted_once(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listen = f"127.0.0.1:{port}"
    clock = ManualClock(NOW)
    async with running(new_database(), found(), clock=clock, metrics_listen=listen) as mesh:
        channel = mesh.channel("t")
        catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        await catalog.ApplyCatalog(declaration(CATALOG))
        metering = metering_service_pb2_grpc.MeteringServiceStub(channel)
        at = NOW - timedelta(days=1)
        used = [event(f"e-{number}", at=at, org_id="acme", quantity="10") for number in range(5)]
        unknown = event("odd", at=at, org_id="acme", sku="nobody.sells")
        for _ in range(2):
            await metering.IngestEvents(batch(*used, unknown))
        request = charge_service_pb2.CreateChargeRequest(
            request_id=str(uuid.uuid4()), org_id="acme"
        )
        request.period.start_at.FromDatetime(NOW - timedelta(days=2))
        request.period.end_at.FromDatetime(NOW)
        charges = charge_service_pb2_grpc.ChargeServiceStub(channel)
        for _ in range(2):
            await charges.CreateCharge(request)
        config = config_pb2.MerchantConfig(merchant_id="m")
        config.methods.add(
            method="card", processor_id="sandbox-card-down", fallback_processor_ids=["sandbox-card"]
        )
        merchants = orchestration_grpc.MerchantConfigServiceStub(channel)
        await merchants.PutMerchantConfig(
            orchestration_pb.PutMerchantConfigRequest(request_id=str(uuid.uuid4()), config=config)
        )
        payments = orchestration_grpc.PaymentServiceStub(channel)
        body = {"merchant_id": "m", "amount": "5.00", "currency": "USD", "org_id": "acme"}
        pay = orchestration_pb.CreatePaymentRequest(
            raw_request=json.dumps(body).encode(), request_id=str(uuid.uuid4())
        )
        for _ in range(2):
            await payments.CreatePayment(pay)
        await mesh.drain_events()
        read = await asyncio.to_thread(_scraped, port)
        for _ in range(200):
            if read["tollmesh_ledger_entries_total"] == {("USD",): 4}:
                break
            await asyncio.sleep(0.05)
            read = await asyncio.to_thread(_scraped, port)
    assert read["tollmesh_metering_events_total"] == {
        ("accepted",): 5,
        ("duplicate",): 5,
        ("rejected",): 2,
    }
    assert read["tollmesh_metering_rejections_total"] == {("UNKNOWN_SKU",): 2}
    assert read["tollmesh_billing_charges_total"] == {("USD",): 1}
    assert read["tollmesh_billing_charged_total"] == {("USD",): 500}
    # The charge, and the payment, which is booked within moments.
    assert read["tollmesh_ledger_transfers_total"] == {("ok",): 2}
    assert read["tollmesh_ledger_entries_total"] == {("USD",): 4}
    assert read["tollmesh_ledger_posted_total"] == {("USD",): 1000}
    assert read["tollmesh_payments_finished_total"] == {("USD", "succeeded"): 1}
    assert read["tollmesh_payments_attempts_total"] == {
        ("charge", "not_sent", "sandbox-card-down"): 1,
        ("charge", "succeeded", "sandbox-card"): 1,
    }
    assert read["tollmesh_payments_processed_total"] == {("USD", "charge", "sandbox-card"): 500}
    assert read["tollmesh_payments_unknown"] == {(): 0}
    assert read["tollmesh_payments_unknown_oldest_s"] == {(): 0}


def test_whatever_is_measured_is_declared() -> None:
    declared = {measure.name for measure in measured()}
    assert {measure.name for measure in MESH} < declared
    folder = Path(services.__path__[0])
    named = {
        name
        for file in folder.rglob("*.py")
        if "measures" not in file.name
        for name in re.findall(r'"(tollmesh\.[a-z_]+\.[a-z_.]+)"', file.read_text("utf-8"))
    }
    assert len(named) > 10
    assert named <= declared


def _scraped(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    """Read the metrics: by name, then by the values of their labels in the order of their names."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = str(answer.read().decode())
    read: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value in re.findall(
        r"^(tollmesh_[a-z_]+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE
    ):
        pairs = sorted(re.findall(r'(\w+)="([^"]*)"', labels))
        values = tuple(value for key, value in pairs if not key.startswith("otel_scope"))
        read.setdefault(name, {})[values] = float(value)
    return read


def test_no_two_measures_have_one_name_in_prometheus() -> None:
    first, second = (
        Measure(name, "{row}", "Rows.") for name in ("tollmesh.a.b_c", "tollmesh.a.b.c")
    )
    assert measured([Manifest("one", measures=(first,))])[-1] is first
    with pytest.raises(
        ValueError, match=r"tollmesh\.a\.b\.c is declared twice, once as tollmesh\.a\.b_c"
    ):
        measured([Manifest("one", measures=(first,)), Manifest("two", measures=(second,))])


def test_alert_rules_ask_for_nothing_that_is_not_measured() -> None:
    declared = {metrics_page.in_prometheus(measure) for measure in measured()}
    rules = (REPOSITORY / "deploy/alerts.yaml").read_text("utf-8")
    without_labels = re.sub(r"\{[^}]*\}|\bby \([^)]*\)", "", rules)
    asked = set(re.findall(r"\b(?:tollmesh|rpc)_[a-z_]+", without_labels))
    assert len(asked) > 5
    assert {re.sub(r"_(count|bucket|sum)$", "", name) for name in asked} <= declared
