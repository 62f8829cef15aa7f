"""The main job, on real input: two traces metered, rated, posted, paid and watched."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

from google.protobuf import json_format
from payments.billing.v1 import billing_pb2
from payments.config.v1 import config_pb2
from payments.contracts.v1 import contracts_service_pb2, contracts_service_pb2_grpc
from payments.ledger.v1 import ledger_pb2
from payments.metering.v1 import metering_service_pb2, metering_service_pb2_grpc
from payments.orchestration.v1 import (
    orchestration_pb2,
    orchestration_service_pb2,
    orchestration_service_pb2_grpc,
)

from services.cli import debts, lists, periods, trace
from services.cli.client import Client, Session
from services.cli.commands import catalog, charges, ledger, payments
from services.cli.commands.up import DEFAULT_DATA_DIR
from services.cli.commands.usage import advance, bar
from services.cli.errors import EXIT_FAULT, EXIT_UNAVAILABLE, CliError
from services.cli.output import bold, enum_name, plain_money, print_table, say
from services.cli.payment_tables import show_payment
from services.cli.sender import Sender, Totals
from services.runtime import documents
from services.runtime.ids import derived_uuid
from services.runtime.money import Money, format_money
from services.runtime.processes import tied_to_parent

MERCHANT = "tollmesh-demo"
PERIOD = "2023-11-16"
ACCEPT_PAST_SECONDS = 3660 * 86_400
# Time that a payment may take to the ledger.
SETTLE_SECONDS = 20.0


@dataclass(slots=True)
class Story:
    """What the demo did, for people and for programs."""

    totals: Totals = field(default_factory=Totals)
    charges: list[billing_pb2.Charge] = field(default_factory=list)
    payments: list[orchestration_pb2.Payment] = field(default_factory=list)
    accounts: list[ledger_pb2.Account] = field(default_factory=list)
    trial_balance: ledger_pb2.TrialBalance = field(default_factory=ledger_pb2.TrialBalance)
    violations: list[Any] = field(default_factory=list)

    def commissions(self) -> Decimal:
        """Sum of what the partners get."""
        return sum(
            (
                Decimal(plain_money(line.partner_amount))
                for charge in self.charges
                for line in charge.lines
                if line.partner_id
            ),
            Decimal("0.00"),
        )

    def as_json(self) -> dict[str, Any]:
        """Render it for programs; amounts are decimal strings."""
        return {
            "events": {
                "accepted": self.totals.accepted,
                "duplicate": self.totals.duplicate,
                "seconds": round(self.totals.seconds, 3),
            },
            "charges": [_charge_json(charge) for charge in self.charges],
            "commissions": str(self.commissions()),
            "payments": [_payment_json(payment) for payment in self.payments],
            "trial_balance": {
                item.currency_code: plain_money(item.difference)
                for item in self.trial_balance.currencies
            },
            "violations": len(self.violations),
        }


@contextmanager
def mesh(data_dir: Path) -> Iterator[Session]:
    """Run `tollmesh up` as a child on free ports until the block ends.

    Raises:
        CliError: it did not start; what it said is above.
    """
    arguments = ["--data-dir", str(data_dir), "--grpc-port", "0", "--rest-port", "0"]
    process = subprocess.Popen(  # noqa: S603 - our own program
        tied_to_parent(
            [sys.executable, "-m", "services.cli", "up", *arguments, "--output", "json"]
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        up = json.loads(line or "{}")
        if "grpc" not in up:
            raise CliError("the mesh did not start", exit_code=EXIT_UNAVAILABLE)
        yield Session(up["grpc"], up["api_key"], up["rest"] or "")
    finally:
        process.terminate()
        process.wait(60)


class Demo:
    """Drives a mesh through the five steps; `tell` also prints them."""

    def __init__(self, client: Client, tell: bool) -> None:
        self._client = client
        self._tell = tell
        self.story = Story()

    def run(self) -> Story:
        """Do all steps. A second run on the same data gives the same bill and posts nothing again."""
        self._prepare()
        self._ingest()
        self._charge()
        self._pay()
        self._show_ledger()
        self._show_payments()
        self._watch()
        return self.story

    def _prepare(self) -> None:
        stub = self._client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        request = metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid4()))
        request.accept_past.seconds = ACCEPT_PAST_SECONDS
        self._client.call(stub.UpdateIngestSettings, request)
        wanted = catalog.parse_catalog(_document("catalog.yaml"), "catalog.yaml")
        catalog.apply_catalog(self._client, wanted)
        config = json_format.ParseDict(
            _document("merchant-config.yaml"), config_pb2.MerchantConfig()
        )
        merchants = self._client.stub(orchestration_service_pb2_grpc.MerchantConfigServiceStub)
        # Derived from the content: the same configuration makes no second version.
        put = orchestration_service_pb2.PutMerchantConfigRequest(
            request_id=str(
                derived_uuid("demo", config.SerializeToString(deterministic=True).hex())
            ),
            config=config,
        )
        self._client.call(merchants.PutMerchantConfig, put)

    def _ingest(self) -> None:
        self._heading(1, "metering: ingest two hours of LLM requests, three events per request")
        rows = chain.from_iterable(trace.events(item) for item in trace.TRACES)
        with bar("ingest") as progress:
            progress.disable = progress.disable or not self._tell
            task = progress.add_task("ingest", total=None, rate="", events=0)
            sender = Sender(self._client, lambda done: advance(progress, task, done))
            totals = Totals()
            sender.send(rows, totals)
        self.story.totals = totals
        if not totals.complete:
            raise CliError(
                f"{totals.rejected + totals.conflict} events were refused: {totals.problems[:3]}"
            )
        rate = totals.sent / totals.seconds if totals.seconds else 0.0
        self._say(
            f"{totals.accepted:,} stored, {totals.duplicate:,} duplicates, "
            f"in {totals.seconds:.1f} s ({rate:,.0f}/s)"
        )

    def _charge(self) -> None:
        self._heading(2, f"rating: {PERIOD} under plan standard-usd")
        period = periods.parse(PERIOD)
        for item in trace.TRACES:
            made = charges.create_charge(self._client, item.org_id, period)
            self.story.charges.append(made)
            if self._tell:
                charges.show_charge(made)

    def _pay(self) -> None:
        for charge in self.story.charges:
            # The data directory may hold what the demo of an earlier release paid, by another request.
            before = next(debts.payments_of(self._client, charge.charge_id), None)
            if before is not None:
                self.story.payments.append(before)
                continue
            body = payments.external_request(
                MERCHANT,
                charge.charge_id,
                "",
                plain_money(charge.total),
                charge.total.currency_code,
                ["wallet", "card"],
                org=charge.org_id,
            )
            request_id = str(derived_uuid("demo-payment", charge.charge_id))
            made = payments.create_payment(self._client, body, request_id)
            self.story.payments.append(made.payment)
        self._await_settlement()

    def _await_settlement(self) -> None:
        """Wait until the payments are in the books, which they are soon after. Raises CliError."""
        deadline = time.monotonic() + SETTLE_SECONDS
        # The tenant may have debts of its own.
        mine = {
            f"receivable:{charge.org_id}:{charge.total.currency_code}"
            for charge in self.story.charges
        }
        while True:
            self.story.accounts = list(ledger.accounts(self._client))
            owed = [
                account.balances.debits_posted - account.balances.credits_posted
                for account in self.story.accounts
                if account.account_id in mine
            ]
            if not any(owed):
                break
            if time.monotonic() > deadline:
                raise CliError(
                    f"the payments did not reach the ledger within {SETTLE_SECONDS:.0f} s",
                    "run the demo again: nothing is done twice",
                    exit_code=EXIT_FAULT,
                )
            time.sleep(0.05)
        self.story.trial_balance = ledger.get_trial_balance(self._client)

    def _show_ledger(self) -> None:
        self._heading(3, "ledger: charges and payments posted, debits equal credits")
        if self._tell:
            ledger.show_balances(self.story.accounts)
            for currency in self.story.trial_balance.currencies:
                difference = plain_money(currency.difference)
                self._say(f"trial balance {currency.currency_code}: {difference}")

    def _show_payments(self) -> None:
        self._heading(4, "payments: wallet up to 50.00, then card; its first processor is down")
        if self._tell:
            for made in self.story.payments:
                show_payment(made)

    def _watch(self) -> None:
        self._heading(5, "contract monitor: contract violations")
        stub = self._client.stub(contracts_service_pb2_grpc.ContractMonitorServiceStub)
        request = contracts_service_pb2.ListViolationsRequest()
        found = lists.up_to(self._client, stub.ListViolations, request, "violations", 100)
        self.story.violations = list(found.violations)
        if self._tell:
            rows = [
                (item.contract_id, item.severity, item.message) for item in self.story.violations
            ]
            if rows:
                print_table("", ("contract", "severity", "violation"), rows)
            self._say(f"{len(rows)} violations")

    def _heading(self, number: int, text: str) -> None:
        if self._tell:
            say()
            say(bold(f"{number}/5", "bold cyan"), " ", bold(text))

    def _say(self, text: str) -> None:
        if self._tell:
            say(f"    {text}")


def show_next_steps(session: Session, data_dir: Path, story: Story, *, keeps: bool) -> None:
    """Print the lines to look further; with `keeps` the mesh of `session` serves on."""
    charge = story.charges[0].charge_id
    program = program_name()
    say()
    say(bold("Next steps"))
    if not keeps:
        elsewhere = (
            "" if data_dir == DEFAULT_DATA_DIR else f" --data-dir {shlex.quote(str(data_dir))}"
        )
        say("run ", bold(f"{program} up{elsewhere}"), ", and in another terminal:")
    else:
        say("in another terminal:")
    lines = [
        f"{program} explain {charge}",
        f"{program} events tail --from-start --subject 'payment.*'",
        f"{program} ledger entries receivable:code-assist:USD",
        f"{program} api GET /v1/billing/charges/{charge}",
        f"{program} api payments.ledger.v1.LedgerService/GetTrialBalance",
    ]
    if data_dir != DEFAULT_DATA_DIR:
        lines.insert(0, f"export TOLLMESH_DATA_DIR={shlex.quote(str(data_dir.absolute()))}")
    if keeps and session.rest:
        key = f"Authorization: Bearer {session.api_key}"
        lines.append(f'curl -H "{key}" {session.rest}/v1/billing/charges/{charge}')
    for line in lines:
        say(f"  {line}")


def program_name() -> str:
    """Return how the person at the terminal can call this program: by name, or by its path from here."""
    if shutil.which("tollmesh"):
        return "tollmesh"
    program = Path(sys.argv[0])
    return os.path.relpath(program) if program.name == "tollmesh" else "tollmesh"


def _document(name: str) -> Any:
    return documents.read(resources.files("services.cli.data").joinpath(name).read_bytes())


def _charge_json(charge: billing_pb2.Charge) -> dict[str, Any]:
    return {
        "org_id": charge.org_id,
        "total": plain_money(charge.total),
        "lines": [
            {"sku": line.sku, "quantity": line.quantity, "amount": plain_money(line.amount_gross)}
            for line in charge.lines
        ],
    }


def _payment_json(payment: orchestration_pb2.Payment) -> dict[str, Any]:
    processed = payment.result.total_processed
    return {
        "org_id": payment.org_id or payment.person_id,
        "status": enum_name(payment, "status").upper(),
        "total_processed": format_money(Money(processed.currency_code, processed.minor_units)),
        "attempts": [
            {
                "step_index": attempt.step_index,
                "processor_id": attempt.processor_id,
                "payment_method": attempt.payment_method,
                "status": enum_name(attempt, "status").upper(),
                "success": attempt.status == orchestration_pb2.ATTEMPT_STATUS_SUCCEEDED,
                "amount": plain_money(attempt.amount),
            }
            for attempt in payment.attempts
        ],
    }
