"""The demo's job, for whoever can make calls: REST by curl, gRPC by grpcurl.

The calls are made by the journey; what is to be sent, in which order, and what has to come out is said here once.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from payments.billing.v1 import billing_pb2
from payments.ledger.v1 import ledger_pb2
from payments.metering.v1 import metering_service_pb2
from payments.orchestration.v1 import orchestration_pb2
from payments.result.v1 import result_pb2
from payments.type.v1 import type_pb2

from services.runtime import documents

REPOSITORY = Path(__file__).parents[3]
DATA = REPOSITORY / "services" / "cli" / "data"
TRACES = {"code-assist": "llm-inference-code.csv.gz", "chat": "llm-inference-conversation.csv.gz"}
MERCHANT = "tollmesh-demo"
PERIOD = {"start_at": "2023-11-16T00:00:00Z", "end_at": "2023-11-17T00:00:00Z"}
EVENTS = 84_555
BATCH = 8_000
SETTLES_WITHIN_S = 30.0
WALLET_MINOR_MAX = 5_000


class Caller(Protocol):
    """The calls of the job; answers are the messages of the schemas."""

    def open_window(self, body: dict[str, Any]) -> None:
        """UpdateIngestSettings."""

    def apply_catalog(self, body: dict[str, Any]) -> None:
        """ApplyCatalog."""

    def put_merchant(self, body: dict[str, Any]) -> None:
        """PutMerchantConfig."""

    def ingest(self, events: list[dict[str, Any]]) -> metering_service_pb2.IngestEventsResponse:
        """IngestEvents."""

    def charge(self, body: dict[str, Any]) -> billing_pb2.Charge:
        """CreateCharge."""

    def pay(self, body: bytes, key: str) -> orchestration_pb2.Payment:
        """CreatePayment."""

    def accounts(self) -> Sequence[ledger_pb2.Account]:
        """ListAccounts."""

    def trial_balance(self) -> ledger_pb2.TrialBalance:
        """GetTrialBalance."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of the job gave."""

    accepted: int
    duplicate: int
    charges: dict[str, billing_pb2.Charge]
    payments: dict[str, orchestration_pb2.Payment]


def run(caller: Caller) -> Outcome:
    """Do the job; a second run sends the very same."""
    caller.open_window({"request_id": fresh(), "accept_past": "315360000s"})
    caller.apply_catalog({"request_id": fresh(), "catalog": document("catalog.yaml")})
    caller.put_merchant({"request_id": fresh(), "config": document("merchant-config.yaml")})
    answers = [caller.ingest(batch) for batch in usage()]
    charges = {org: caller.charge(charge_request(org)) for org in TRACES}
    payments = {
        org: caller.pay(payment_request(charge), stable(f"payment {charge.charge_id}"))
        for org, charge in charges.items()
    }
    return Outcome(
        sum(answer.accepted for answer in answers),
        sum(answer.duplicate for answer in answers),
        charges,
        payments,
    )


def check(outcome: Outcome, caller: Caller) -> None:
    """Compare with the bill that is computed by other means, and with what the ledger has to hold."""
    for org, charge in outcome.charges.items():
        expected = independent_bill(org)
        assert minor(charge.total) == cents(expected.total)
        lines = {line.sku: (line.quantity, minor(line.amount_gross)) for line in charge.lines}
        assert lines == {
            line.sku: (str(line.quantity), cents(line.amount)) for line in expected.lines
        }
        check_payment(outcome.payments[org], minor(charge.total))
    commission = sum(minor(line.partner_amount) for line in outcome.charges["code-assist"].lines)
    assert commission == cents(independent_bill("code-assist").commission) == 568
    assert [minor(outcome.charges[org].total) for org in TRACES] == [5684, 12955]
    check_ledger(caller, commission)


def check_payment(payment: orchestration_pb2.Payment, total: int) -> None:
    """Wallet up to its limit, the rest by card, whose first processor is down."""
    assert payment.status == orchestration_pb2.PAYMENT_STATUS_SUCCEEDED, payment
    assert minor(payment.result.total_processed) == total
    attempts = [(item.processor_id, minor(item.amount)) for item in payment.attempts]
    rest = total - WALLET_MINOR_MAX
    assert attempts == [
        ("sandbox-wallet", WALLET_MINOR_MAX),
        ("sandbox-card-down", rest),
        ("sandbox-card", rest),
    ]
    failed = [item for item in payment.attempts if item.error_code]
    assert [item.error_code for item in failed] == [result_pb2.ERROR_CODE_NETWORK_FAILURE]


def check_ledger(caller: Caller, commission: int) -> None:
    """Wait for the payments to reach the ledger, which they do as events; then everything balances."""
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    while True:
        balances = {
            account.account_id: account.balances.debits_posted - account.balances.credits_posted
            for account in caller.accounts()
        }
        owed = [amount for name, amount in balances.items() if name.startswith("receivable:")]
        if not any(owed) or time.monotonic() > give_up_at:
            break
        time.sleep(0.1)
    assert owed == [0, 0]
    assert balances["commission:USD"] == commission
    assert balances["payable:partner:northwind:USD"] == -commission
    assert sum(balances.values()) == 0
    cleared = sum(amount for name, amount in balances.items() if name.startswith("clearing:"))
    assert cleared == 5684 + 12955
    currencies = caller.trial_balance().currencies
    assert [(item.currency_code, minor(item.difference)) for item in currencies] == [("USD", 0)]


def usage() -> Iterator[list[dict[str, Any]]]:
    """The events of both traces, in batches; quantities are written as numbers, times as `time`."""
    batch: list[dict[str, Any]] = []
    for org, name in TRACES.items():
        for event in events(org, DATA / name):
            batch.append(event)
            if len(batch) == BATCH:
                yield batch
                batch = []
    yield batch


def events(org: str, path: Path) -> Iterator[dict[str, Any]]:
    """Three events a row."""
    with gzip.open(path, "rt") as file:
        next(file)
        for row, line in enumerate(file):
            at, received, generated = line.strip().split(",")
            for sku, quantity in (
                ("llm.requests", "1"),
                ("llm.input_tokens", received),
                ("llm.output_tokens", generated),
            ):
                yield {
                    "request_id": f"{org}-{row}-{sku}",
                    "sku": sku,
                    "quantity": quantity,
                    "org_id": org,
                    "project_id": "p",
                    # Seven digits of a second in the trace; times are kept in microseconds.
                    "time": at[:26].replace(" ", "T") + "Z",
                }


def charge_request(org: str) -> dict[str, Any]:
    """The same request_id on every run: a second run gets the first answer."""
    return {"request_id": stable(f"charge {org}"), "org_id": org, "period": PERIOD}


def payment_request(charge: billing_pb2.Charge) -> bytes:
    """A merchant's own request for the whole charge, wallet before card."""
    amount = minor(charge.total)
    request = {
        "merchant_id": MERCHANT,
        "order_id": charge.charge_id,
        "person_id": "accounts-payable",
        "org_id": charge.org_id,
        "amount": f"{amount // 100}.{amount % 100:02}",
        "currency": charge.total.currency_code,
        "payment_methods": [{"method": "wallet"}, {"method": "card"}],
    }
    return json.dumps(request).encode()


def document(name: str) -> Any:
    """A document that the demo ships."""
    return documents.read((DATA / name).read_bytes())


def independent_bill(org: str) -> Any:
    """The bill of a trace, computed without the product."""
    calculator = _calculator()
    return calculator.bill(calculator.read_trace(DATA / TRACES[org]))


def _calculator() -> ModuleType:
    name = "independent_bill"
    if name not in sys.modules:
        path = REPOSITORY / "tests" / "journeys" / "cli" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    return sys.modules[name]


def minor(amount: type_pb2.Money) -> int:
    """Minor units of an amount."""
    return amount.minor_units


def cents(text: str) -> int:
    """Read `56.84`."""
    return int(text.replace(".", ""))


def fresh() -> str:
    """A request_id of this call alone."""
    return str(uuid.uuid4())


def stable(name: str) -> str:
    """A request_id that is the same on every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"tests/{name}"))
