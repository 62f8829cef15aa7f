"""Every service by reflection, and the demo's job by gRPC, with grpcurl."""

from __future__ import annotations

import base64
import functools
import importlib
import json
import subprocess
import uuid
from typing import Any, TypeVar

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from payments.access.v1 import access_service_pb2
from payments.billing.v1 import billing_pb2, charge_service_pb2
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2
from payments.metering.v1 import metering_service_pb2
from payments.orchestration.v1 import orchestration_pb2, orchestration_service_pb2

from tests.support.billing import demo_job
from tests.support.http import rest
from tests.support.mesh.up import Running

# One mesh serves all journeys of this folder.
pytestmark = pytest.mark.xdist_group("gateway-journeys")

Answer = TypeVar("Answer", bound=Message)

ANSWER_WITHIN_S = 120
# grpcurl ends with 64 plus the code of a gRPC error.
GRPC_EXIT = 64
UNAUTHENTICATED = GRPC_EXIT + 16

# A call of every service of ours that changes nothing and needs no data. Test `test_every_service_is_called`
# holds it against what reflection lists.
HARMLESS: dict[str, dict[str, Any]] = {
    "payments.access.v1.AccessService/ListApiKeys": {},
    "payments.agreements.v1.AgreementService/ListAgreements": {},
    "payments.billing.v1.ChargeService/ListCharges": {},
    "payments.contracts.v1.ContractMonitorService/ListViolations": {},
    "payments.events.v1.EventService/ListEvents": {},
    "payments.ledger.v1.LedgerService/GetTrialBalance": {},
    "payments.metering.v1.GuardrailService/ListBudgets": {},
    "payments.metering.v1.MeteringService/GetIngestSettings": {},
    "payments.orders.v1.CreditService/ListGrants": {},
    "payments.orders.v1.OrderService/ListOrders": {},
    "payments.orchestration.v1.MerchantConfigService/PutMerchantConfig": {
        "request_id": "6f1d2b0e-53a7-4b0c-9c38-2c1b0f1d7a10",
        "config": {**demo_job.document("merchant-config.yaml"), "merchant_id": "nobody"},
    },
    "payments.orchestration.v1.PaymentService/ListPayments": {},
    "payments.settlement.v1.PayoutService/ListPayouts": {},
    "payments.settlement.v1.SettlementService/GetSettlementPolicy": {},
    "payments.pricing.v1.CatalogService/ListSkus": {},
    "payments.pricing.v1.PricingService/EvaluatePrice": {
        "currency_code": "USD",
        "price": {"per_unit": {"unit_amount": "0.05"}},
        "input": {"quantity": "3"},
    },
}


@functools.cache
def program() -> str:
    """The grpcurl that go.mod of the facade names."""
    tool = [str(rest.go()), "-C", str(rest.SOURCE), "tool"]
    subprocess.run([*tool, "grpcurl", "-version"], capture_output=True, check=True)  # builds it
    run = subprocess.run([*tool, "-n", "grpcurl"], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def grpcurl(
    mesh: Running, *arguments: str, key: str = "", body: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run it; the schemas come from the server, by reflection."""
    sent = ["-H", f"authorization: Bearer {key}"] if key else []
    flags = ["-d", "@"] if body else []
    return subprocess.run(
        [program(), "-plaintext", *sent, *flags, mesh.grpc, *arguments],
        input=body,
        capture_output=True,
        text=True,
        timeout=ANSWER_WITHIN_S,
        check=False,
    )


def listed(mesh: Running, *arguments: str) -> list[str]:
    run = grpcurl(mesh, "list", *arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


class GrpcCaller:
    """Makes the job's calls by grpcurl."""

    def __init__(self, mesh: Running, key: str) -> None:
        self.mesh = mesh
        self.key = key

    def call(self, method: str, body: Any, answer: Answer) -> Answer:
        """Make one call; unknown names in the answer would be an error."""
        run = grpcurl(self.mesh, method, key=self.key, body=json.dumps(body))
        assert run.returncode == 0, run.stderr
        return json_format.Parse(run.stdout, answer)

    def open_window(self, body: dict[str, Any]) -> None:
        response = metering_service_pb2.UpdateIngestSettingsResponse()
        self.call("payments.metering.v1.MeteringService/UpdateIngestSettings", body, response)

    def apply_catalog(self, body: dict[str, Any]) -> None:
        run = grpcurl(
            self.mesh,
            "payments.pricing.v1.CatalogService/ApplyCatalog",
            key=self.key,
            body=json.dumps(body),
        )
        assert run.returncode == 0, run.stderr

    def put_merchant(self, body: dict[str, Any]) -> None:
        response = orchestration_service_pb2.PutMerchantConfigResponse()
        method = "payments.orchestration.v1.MerchantConfigService/PutMerchantConfig"
        self.call(method, body, response)

    def ingest(self, events: list[dict[str, Any]]) -> metering_service_pb2.IngestEventsResponse:
        response = metering_service_pb2.IngestEventsResponse()
        method = "payments.metering.v1.MeteringService/IngestEvents"
        return self.call(method, {"events": events}, response)

    def charge(self, body: dict[str, Any]) -> billing_pb2.Charge:
        response = charge_service_pb2.CreateChargeResponse()
        return self.call("payments.billing.v1.ChargeService/CreateCharge", body, response).charge

    def pay(self, body: bytes, key: str) -> orchestration_pb2.Payment:
        request = {"raw_request": base64.b64encode(body).decode(), "request_id": key}
        response = orchestration_service_pb2.CreatePaymentResponse()
        method = "payments.orchestration.v1.PaymentService/CreatePayment"
        return self.call(method, request, response).payment

    def accounts(self) -> list[ledger_pb2.Account]:
        response = ledger_service_pb2.ListAccountsResponse()
        method = "payments.ledger.v1.LedgerService/ListAccounts"
        return list(self.call(method, {"page_size": 1000}, response).accounts)

    def trial_balance(self) -> ledger_pb2.TrialBalance:
        response = ledger_service_pb2.GetTrialBalanceResponse()
        method = "payments.ledger.v1.LedgerService/GetTrialBalance"
        return self.call(method, {}, response).trial_balance


def declared_methods() -> dict[str, set[str]]:
    """The methods of every service in the schemas."""
    root = rest.REPOSITORY / "proto"
    modules = (
        ".".join(path.relative_to(root).with_suffix("").parts) + "_pb2"
        for path in root.glob("payments/*/v1/*_service.proto")
    )
    return {
        service.full_name: set(service.methods_by_name)
        for module in modules
        for service in importlib.import_module(module).DESCRIPTOR.services_by_name.values()
    }


def test_every_service_is_listed_with_its_methods(mesh: Running) -> None:
    services = listed(mesh)
    assert "grpc.health.v1.Health" in services
    declared = declared_methods()
    assert {name for name in services if name.startswith("payments.")} == set(declared)
    for service, methods in declared.items():
        found = {name.rpartition(".")[2] for name in listed(mesh, service)}
        assert found == methods


def test_every_service_is_called(mesh: Running) -> None:
    ours = {name for name in listed(mesh) if name.startswith("payments.")}
    assert {method.partition("/")[0] for method in HARMLESS} == ours
    for method, body in HARMLESS.items():
        run = grpcurl(mesh, method, key=mesh.api_key, body=json.dumps(body))
        assert run.returncode == 0, f"{method}: {run.stderr}"
        json.loads(run.stdout)


@pytest.mark.parametrize("key", ["", "wrong"])
def test_wrong_keys_are_unauthenticated(mesh: Running, key: str) -> None:
    for method, body in HARMLESS.items():
        run = grpcurl(mesh, method, key=key, body=json.dumps(body))
        assert run.returncode == UNAUTHENTICATED, f"{method}: {run.stdout}{run.stderr}"
        # The details are shown: reflection knows their types.
        assert '"reason": "UNAUTHENTICATED"' in run.stderr


def test_health_needs_no_key(mesh: Running) -> None:
    run = grpcurl(mesh, "grpc.health.v1.Health/Check")
    assert json.loads(run.stdout) == {"status": "SERVING"}


def test_the_demo_by_grpcurl(mesh: Running) -> None:
    operator = GrpcCaller(mesh, mesh.api_key)
    request = {
        "request_id": demo_job.fresh(),
        "name": "journey",
        "scopes": ["*"],
        "tenant_id": f"grpcurl-{uuid.uuid4().hex[:8]}",
    }
    response = access_service_pb2.CreateApiKeyResponse()
    key = operator.call("payments.access.v1.AccessService/CreateApiKey", request, response).secret
    caller = GrpcCaller(mesh, key)
    outcome = demo_job.run(caller)
    assert (outcome.accepted, outcome.duplicate) == (demo_job.EVENTS, 0)
    demo_job.check(outcome, caller)
