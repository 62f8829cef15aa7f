"""The demo's job by REST, with curl."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from payments.billing.v1 import billing_pb2
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2
from payments.metering.v1 import metering_service_pb2
from payments.orchestration.v1 import orchestration_pb2

from tests.support.billing import demo_job
from tests.support.http import curl
from tests.support.http.curl import Curl, tenant_key
from tests.support.http.rest import Reply
from tests.support.mesh.up import Running

# One mesh serves all journeys of this folder.
pytestmark = pytest.mark.xdist_group("gateway-journeys")

Answer = TypeVar("Answer", bound=Message)


def read(reply: Reply, status: int, message: Answer) -> Answer:
    """Read a good answer; unknown names in it would be an error."""
    assert reply.status == status, reply.body
    return json_format.Parse(reply.body, message)


class RestCaller:
    """Makes the job's calls over REST."""

    def __init__(self, call: Curl) -> None:
        self.call = call

    def send(self, method: str, path: str, body: Any) -> Reply:
        return self.call(method, path, json.dumps(body).encode())

    def open_window(self, body: dict[str, Any]) -> None:
        assert self.send("PATCH", "/v1/metering/ingest-settings", body).status == 200

    def apply_catalog(self, body: dict[str, Any]) -> None:
        assert self.send("POST", "/v1/pricing/catalog", body).status == 200

    def put_merchant(self, body: dict[str, Any]) -> None:
        path = f"/v1/merchant-configs/{demo_job.MERCHANT}"
        assert self.send("PUT", path, body).status == 200

    def ingest(self, events: list[dict[str, Any]]) -> metering_service_pb2.IngestEventsResponse:
        # A bare array, and quantities as numbers.
        events = [event | {"quantity": int(event["quantity"])} for event in events]
        reply = self.send("POST", "/v1/metering/events", events)
        return read(reply, 202, metering_service_pb2.IngestEventsResponse())

    def charge(self, body: dict[str, Any]) -> billing_pb2.Charge:
        reply = self.send("POST", "/v1/billing/charges", body)
        charge = read(reply, 201, billing_pb2.Charge())
        found = read(self.call("GET", reply.headers["location"]), 200, billing_pb2.Charge())
        assert found == charge
        return charge

    def pay(self, body: bytes, key: str) -> orchestration_pb2.Payment:
        reply = self.call("POST", "/v1/payments", body, f"Idempotency-Key: {key}")
        return read(reply, 201, orchestration_pb2.Payment())

    def accounts(self) -> list[ledger_pb2.Account]:
        reply = self.call("GET", "/v1/ledger/accounts?page_size=1000")
        return list(read(reply, 200, ledger_service_pb2.ListAccountsResponse()).accounts)

    def trial_balance(self) -> ledger_pb2.TrialBalance:
        return read(self.call("GET", "/v1/ledger/trial-balance"), 200, ledger_pb2.TrialBalance())


def test_the_demo_by_curl(mesh: Running, tmp_path: Path) -> None:
    operator = Curl(mesh.rest, mesh.api_key, tmp_path)
    tenant = f"curl-{uuid.uuid4().hex[:8]}"
    caller = RestCaller(Curl(mesh.rest, tenant_key(operator, tenant), tmp_path))
    first = demo_job.run(caller)
    assert (first.accepted, first.duplicate) == (demo_job.EVENTS, 0)
    demo_job.check(first, caller)

    again = demo_job.run(caller)
    assert (again.accepted, again.duplicate) == (0, demo_job.EVENTS)
    assert again.charges == first.charges
    assert {org: made.payment_id for org, made in again.payments.items()} == {
        org: made.payment_id for org, made in first.payments.items()
    }
    demo_job.check(again, caller)


@pytest.mark.parametrize(
    "key", ["", "wrong", "tmk_00000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
)
def test_wrong_keys_get_401(mesh: Running, tmp_path: Path, key: str) -> None:
    refused = Curl(mesh.rest, key, tmp_path)("GET", "/v1/billing/charges")
    assert (refused.status, refused.reason) == (401, "UNAUTHENTICATED")
    assert refused.headers["www-authenticate"].startswith("Bearer ")


def test_the_stand_in_for_curl_makes_the_same_calls(
    mesh: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Curl(mesh.rest, mesh.api_key, tmp_path)
    body = json.dumps([{"request_id": "r", "quantity": "x"}]).encode()
    by_curl = call("POST", "/v1/metering/events", body, "X-Request-Id: one")
    monkeypatch.setattr(curl, "program", lambda: [sys.executable, "-m", "tests.support.http.curl"])
    by_stand_in = call("POST", "/v1/metering/events", body, "X-Request-Id: one")
    assert by_curl.status == by_stand_in.status == 202
    assert by_curl.json().keys() == by_stand_in.json().keys()
    assert by_curl.headers.keys() == by_stand_in.headers.keys()
