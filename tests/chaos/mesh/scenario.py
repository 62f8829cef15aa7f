"""The whole job of a small tenant: every write that the mesh knows, each with an id of its own.

Running it again, in part or whole, must change nothing: that is what the suite proves after each death.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import psycopg
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc
from payments.agreements.v1 import (
    agreement_service_pb2,
    agreement_service_pb2_grpc,
    agreements_pb2,
)
from payments.billing.v1 import charge_service_pb2, charge_service_pb2_grpc
from payments.config.v1 import config_pb2
from payments.contracts.v1 import contracts_pb2, contracts_service_pb2, contracts_service_pb2_grpc
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc
from payments.ledger.v1 import (
    ledger_pb2,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    monitor_pb2,
    posting_pb2,
    recipe_pb2,
    scheduled_pb2,
)
from payments.metering.v1 import (
    corrections_pb2,
    drift_pb2,
    guardrail_service_pb2,
    guardrail_service_pb2_grpc,
    guardrails_pb2,
    metering_service_pb2,
    metering_service_pb2_grpc,
    receipts_pb2,
)
from payments.orchestration.v1 import (
    orchestration_pb2,
    orchestration_service_pb2,
    orchestration_service_pb2_grpc,
)
from payments.orders.v1 import (
    credit_service_pb2,
    credit_service_pb2_grpc,
    credits_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    orders_pb2,
)
from payments.pricing.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from payments.settlement.v1 import (
    payout_service_pb2,
    payout_service_pb2_grpc,
    settlement_pb2,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
)
from payments.type.v1 import type_pb2

from services.cli.client import Client, Session
from services.cli.commands.catalog import apply_catalog, parse_catalog
from services.cli.errors import CliError
from services.runtime.edge import json_messages
from tests.support.billing import books

EVENTS = 300
UNIT_PRICE = "0.50"
TOTAL_MINOR = 15_000
"""300 uses at 0.50 USD."""
COMMISSION_MINOR = 1_500
BACK_MINOR = 5_000
SHORT_MINOR = 5
HELD_MINOR = 4
MOVED_MINOR = 3
MOVES = 3
SOON_MINOR = 3
SOON_SECONDS = 0.5
"""What is charged for the payment that then fails, and given back."""
TOLD = 5
COMMITTED = 2
"""What is committed of a budget, beside the usage that it counts."""
AMENDED = 3
"""What is used of another budget: a use that was amended to 2, one that was rejected at first, and none cancelled."""
MENDED_MINOR = 50
"""One use of an organisation whose charge is adjusted by another use and then taken back."""
MENDED_TAX_MINOR = 5
"""The tax on it, which has a transfer of its own in each of its charges."""
CORRECTIONS = 3
CAPTURED_MINOR, REFUNDED_MINOR = 2_000, 500
"""What is captured of 30.00 that are authorised, and given back of it; the rest is let go."""
ASKED_MINOR = 500
"""What is paid out of the commission when it is asked for; the rest is swept."""
ORDER_MINOR, CASH_MINOR, CASH_BACK_MINOR = 9_000, 4_300, 1_100
"""Of an order behind its adjustment, of one that is paid in cash, and what is given back of that."""
PERSON = "per_0190c1de-0000-7000-8000-000000000001"
CREDIT_MINOR = 250
"""Of each of two grants: one is over when it is given, and one is taken back."""
PAYOUTS = 3
PAYOUT_TRANSFERS = PAYOUTS + 2
"""What is claimed at once, asked for and swept; the first comes back, and the second is paid."""
TRANSFERS = 7 + 4 + MOVES + 1 + 2 * CORRECTIONS + 2 + PAYOUT_TRANSFERS + 2 + 4
"""Charge and commission; two steps of the split payment and one of the lost one; one there and back; two holds, what
was posted of one, and its reversal; what a recipe moved; one that was scheduled; a charge, its adjustment and its
reversal, each with its tax; cash for an order, and some of it
back; two grants of credits, and the end of each."""
SETTLE_SECONDS = 30.0
PERIOD = type_pb2.Period()
PERIOD.start_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
PERIOD.end_at.FromDatetime(datetime(2026, 2, 1, tzinfo=UTC))

CATALOG = {
    "skus": [
        {
            "sku": "calls",
            "type": "SKU_TYPE_ACTION",
            "unit": "call",
            "aggregation": "AGGREGATION_SUM",
        },
        {
            "sku": "shut",
            "type": "SKU_TYPE_ACTION",
            "unit": "call",
            "aggregation": "AGGREGATION_SUM",
        },
    ],
    "plans": [
        {
            "plan_id": "basic",
            "name": "Basic",
            "currency_code": "USD",
            "status": "STATUS_ACTIVE",
            "prices": [
                {"sku": sku, "price": {"per_unit": {"unit_amount": UNIT_PRICE}}}
                for sku in ("calls", "shut")
            ],
        },
        {"plan_id": "old", "currency_code": "USD"},
    ],
    "business_models": [{"model_id": "model", "currency_code": "USD", "default_plan_id": "basic"}],
    "entitlements": [
        *(
            {"org_id": org_id, "plan_id": "basic", "effective_at": "2020-01-01T00:00:00Z"}
            for org_id in ("org", "shut-org", "mended-org")
        ),
        {"org_id": "old-org", "plan_id": "old", "effective_at": "2020-01-01T00:00:00Z"},
    ],
    "partners": [{"partner_id": "reseller", "name": "Reseller", "tier": "gold"}],
    "partners_of_record": [
        {
            "org_id": "org",
            "partner_id": "reseller",
            "start_at": "2020-01-01T00:00:00Z",
            "status": "STATUS_ACTIVE",
        }
    ],
    "commission_rates": [{"partner_tier": "gold", "pct": "10"}],
    "tax_rates": [{"jurisdiction": "CA", "tax": "GST", "rate_percent": "10"}],
    "tax_profiles": [{"org_id": "mended-org", "country": "CA"}],
    "tax_policies": [{"missing": "TAX_MISSING_UNTAXED"}],
}


DRAFT = {"plans": [{"plan_id": "next", "currency_code": "USD", "status": "STATUS_DRAFT"}]}

_RECIPE = {
    "name": "move",
    "parameters": [{"name": "amount", "type": "PARAMETER_TYPE_AMOUNT"}],
    "accounts": [
        {
            "name": name,
            "account_id": f"moved:{name}:{{amount.currency}}",
            "currency": "{amount.currency}",
            "type": "ACCOUNT_TYPE_ASSET",
        }
        for name in ("from", "to")
    ],
    "legs": [{"name": "moved", "debit": "to", "credit": "from", "amount": "amount"}],
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """The job of one tenant; its requests have the same ids at every run.

    Attributes:
        tenant: whose job it is.
        loses_an_answer: whether the answer to one of its payments gets lost. It is asked for a second later, so
            this is left out where it has nothing to do with what is tried.
        due: when a scheduled transfer is due; the same at every run, from the first that came so far.
    """

    tenant: str
    loses_an_answer: bool = True
    due: list[datetime] = field(default_factory=list)

    def run(self, operator: Session) -> None:
        """Do everything once.

        Raises:
            CliError: the mesh went away, or refused what it should not.
        """
        with Client(operator) as client:
            secret = self._make_key(client)
        with Client(Session(operator.grpc, secret)) as client:
            self._configure(client)
            self._ingest(client)
            self._guard(client)
            self._amend(client)
            self._charge(client)
            self._charge_refused(client)
            # What takes its time begins here, and is looked after between the rest.
            payments = self._pay(client)
            self._hold(client)
            self._schedule(client)
            self._take_back(client)
            self._correct(client)
            self._instruct(client)
            self._pay_out(client)
            self._order(client)
            self._credit(client)
            self._agree(client)
            self._post_by_recipe(client)
            self._close(client)
            self._watch(client)
            self._tell(client)
            self._revoke(client)
            self._sweep(client)
            self._await_payments(client, payments)
            self._await_settlement(client)
            self._replay(client)
            self._verify(client)

    def request_id(self, name: str) -> str:
        """Return the id of one of the scenario's requests."""
        return str(uuid5(NAMESPACE_OID, f"{self.tenant}/{name}"))

    def _make_key(self, client: Client) -> str:
        # A key whose answer got lost is not given again, so each run asks for another.
        stub = client.stub(access_service_pb2_grpc.AccessServiceStub)
        request = access_service_pb2.CreateApiKeyRequest(
            request_id=self.request_id(f"key-{time.time_ns()}"),
            name="scenario",
            scopes=["*"],
            tenant_id=self.tenant,
        )
        return client.call(stub.CreateApiKey, request).secret

    def _configure(self, client: Client) -> None:
        metering = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        settings = metering_service_pb2.UpdateIngestSettingsRequest(
            request_id=self.request_id("settings")
        )
        settings.accept_past.seconds = 3660 * 86_400
        client.call(metering.UpdateIngestSettings, settings)
        apply_catalog(client, parse_catalog(CATALOG, "catalog"))
        self._plan(client)
        settlement = client.stub(settlement_service_pb2_grpc.SettlementServiceStub)
        policy = settlement_service_pb2.PutSettlementPolicyRequest(
            request_id=self.request_id("policy")
        )
        policy.policy.payout_threshold.CopyFrom(usd(COMMISSION_MINOR - 1))
        client.call(settlement.PutSettlementPolicy, policy)
        merchants = client.stub(orchestration_service_pb2_grpc.MerchantConfigServiceStub)
        config = config_pb2.MerchantConfig(merchant_id="shop")
        config.methods.add(method="wallet", processor_id="sandbox-wallet").max_amount.CopyFrom(
            type_pb2.Money(currency_code="USD", minor_units=5000)
        )
        config.methods.add(
            method="card",
            processor_id="sandbox-card-down",
            fallback_processor_ids=["sandbox-card"],
        )
        # So that a charge is given back when a later step is refused.
        config.split = config_pb2.SPLIT_CHARGE_IN_TURN
        # A payment that was left half-way is taken up when the call that it waited for must have ended.
        config.timeouts.call_timeout.FromMilliseconds(1000)
        put = orchestration_service_pb2.PutMerchantConfigRequest(
            request_id=self.request_id("merchant"), config=config
        )
        client.call(merchants.PutMerchantConfig, put)

    def _plan(self, client: Client) -> None:
        """Publish a draft, move somebody to it, end the plan that is left, and assign a business model."""
        stub = client.stub(catalog_service_pb2_grpc.CatalogServiceStub)
        plans = client.call(stub.ListPlans, catalog_service_pb2.ListPlansRequest()).plans
        # Once it is published it is no draft again.
        if "next" not in {plan.plan_id for plan in plans}:
            apply_catalog(client, parse_catalog(DRAFT, "draft"))
        publish = catalog_service_pb2.PublishPlanRequest(
            request_id=self.request_id("publish"), plan_id="next"
        )
        assert client.call(stub.PublishPlan, publish).plan.version == 1
        move = catalog_service_pb2.MigratePlanRequest(
            request_id=self.request_id("migrate"), plan_id="old", to_plan_id="next"
        )
        move.effective_at.FromDatetime(datetime(2021, 1, 1, tzinfo=UTC))
        assert [item.org_id for item in client.call(stub.MigratePlan, move).moves] == ["old-org"]
        archive = catalog_service_pb2.ArchivePlanRequest(
            request_id=self.request_id("archive"), plan_id="old"
        )
        assert client.call(stub.ArchivePlan, archive).plan.version == 1
        assign = catalog_service_pb2.AssignBusinessModelRequest(
            request_id=self.request_id("assign"), org_id="model-org", model_id="model"
        )
        client.call(stub.AssignBusinessModel, assign)

    def _ingest(self, client: Client) -> None:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        request = metering_service_pb2.IngestEventsRequest()
        for number in range(EVENTS):
            self._event(request, f"use-{number}", "org", "calls")
        self._event(request, "use-shut", "shut-org", "shut")
        answer = client.call(stub.IngestEvents, request)
        assert answer.accepted + answer.duplicate == EVENTS + 1, answer

    def _amend(self, client: Client) -> None:
        """Amend a use, cancel another, and take in one that was rejected for its SKU."""
        guard = client.stub(guardrail_service_pb2_grpc.GuardrailServiceStub)
        budget = guardrails_pb2.Budget(
            budget_id="amended",
            org_id="spare-org",
            period=guardrails_pb2.BUDGET_PERIOD_TOTAL,
            limit_quantity="100",
            mode=guardrails_pb2.BUDGET_MODE_HARD,
        )
        put = guardrail_service_pb2.PutBudgetRequest(
            request_id=self.request_id("put-amended"), budget=budget
        )
        client.call(guard.PutBudget, put)
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        request = metering_service_pb2.IngestEventsRequest()
        for name, sku in (("amended", "calls"), ("cancelled", "calls"), ("misnamed", "cals")):
            self._event(request, name, "spare-org", sku)
        answer = client.call(stub.IngestEvents, request)
        assert (answer.accepted + answer.duplicate, answer.rejected) == (2, 1), answer
        amend = corrections_pb2.AmendEventsRequest(request_id=self.request_id("amend"))
        amend.amendments.add(reason="two at once").event.CopyFrom(request.events[0])
        amend.amendments[0].event.quantity = "2"
        assert client.call(stub.AmendEvents, amend).accepted == 1
        cancel = corrections_pb2.CancelEventsRequest(
            request_id=self.request_id("cancel-use"), request_ids=["cancelled"], reason="a test"
        )
        assert client.call(stub.CancelEvents, cancel).accepted == 1
        replay = corrections_pb2.ReplayRejectedEventsRequest(
            request_id=self.request_id("take-in"),
            sku="cals",
            fix=corrections_pb2.EventFix(sku="calls"),
        )
        assert client.call(stub.ReplayRejectedEvents, replay).accepted == 1
        asked = metering_service_pb2.QueryUsageRequest(org_id="spare-org", period=PERIOD)
        (row,) = client.call(stub.QueryUsage, asked).rows
        assert (row.value, row.event_count) == (str(AMENDED), 2), row
        finding = drift_pb2.DriftFinding(
            kind=drift_pb2.DRIFT_KIND_MISSING, org_id="spare-org", sku="calls", event_count=1
        )
        finding.start_at.FromDatetime(datetime(2026, 1, 15, tzinfo=UTC))
        drift = drift_pb2.ReportUsageDriftRequest(
            request_id=self.request_id("drift"), provider="depot", findings=[finding]
        )
        assert client.call(stub.ReportUsageDrift, drift).reported == 1

    def _event(
        self, request: metering_service_pb2.IngestEventsRequest, name: str, org_id: str, sku: str
    ) -> None:
        event = request.events.add(
            request_id=name, org_id=org_id, project_id="p", sku=sku, quantity="1"
        )
        event.event_time.FromDatetime(datetime(2026, 1, 15, tzinfo=UTC))

    def _guard(self, client: Client) -> None:
        """Put budgets, hold something of them, and end the holds in each of the three ways."""
        stub = client.stub(guardrail_service_pb2_grpc.GuardrailServiceStub)
        for name in ("cap", "spare"):
            budget = guardrails_pb2.Budget(
                budget_id=name,
                org_id="org",
                period=guardrails_pb2.BUDGET_PERIOD_TOTAL,
                limit_quantity=str(EVENTS + 3 * COMMITTED),
                mode=guardrails_pb2.BUDGET_MODE_HARD,
                thresholds_pct=[98],
            )
            put = guardrail_service_pb2.PutBudgetRequest(
                request_id=self.request_id(f"put-{name}"), budget=budget
            )
            client.call(stub.PutBudget, put)
        delete = guardrail_service_pb2.DeleteBudgetRequest(
            request_id=self.request_id("delete-spare"), budget_id="spare"
        )
        client.call(stub.DeleteBudget, delete)
        made = [
            client.call(stub.Reserve, self._reserve(name, seconds)).hold.hold_id
            for name, seconds in (("used", 86_400), ("unused", 86_400), ("forgotten", 1))
        ]
        commit = guardrail_service_pb2.CommitRequest(
            request_id=self.request_id("commit"), hold_id=made[0], quantity=str(COMMITTED)
        )
        client.call(stub.Commit, commit)
        release = guardrail_service_pb2.ReleaseRequest(
            request_id=self.request_id("release"), hold_id=made[1]
        )
        client.call(stub.Release, release)
        too_much = self._reserve("too-much", 1)
        too_much.quantity = "1000"
        self._refused(client, stub.Reserve, too_much, "BUDGET_EXCEEDED")

    def _reserve(self, name: str, seconds: int) -> guardrail_service_pb2.ReserveRequest:
        request = guardrail_service_pb2.ReserveRequest(
            request_id=self.request_id(f"reserve-{name}"),
            org_id="org",
            sku="calls",
            quantity=str(COMMITTED),
        )
        request.hold_for.FromSeconds(seconds)
        return request

    def _charge(self, client: Client) -> None:
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        request = charge_service_pb2.CreateChargeRequest(
            request_id=self.request_id("charge"), org_id="org", period=PERIOD
        )
        charge = client.call(stub.CreateCharge, request).charge
        assert charge.total.minor_units == TOTAL_MINOR, charge

    def _charge_refused(self, client: Client) -> None:
        """Two charges that cannot be made: an organisation without a plan, and a closed account."""
        ledger = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        closed = ledger_pb2.Account(
            account_id="revenue:shut:USD",
            currency_code="USD",
            type=ledger_pb2.ACCOUNT_TYPE_INCOME,
            flags=ledger_pb2.AccountFlags(closed=True),
        )
        client.call(
            ledger.CreateAccounts, ledger_service_pb2.CreateAccountsRequest(accounts=[closed])
        )
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        for org_id, reason in (("planless", "NO_PLAN"), ("shut-org", "POSTING_REFUSED")):
            request = charge_service_pb2.CreateChargeRequest(
                request_id=self.request_id(org_id), org_id=org_id, period=PERIOD
            )
            self._refused(client, stub.CreateCharge, request, reason)

    def _correct(self, client: Client) -> None:
        """A charge that is adjusted by usage that came late, and then taken back."""
        metering = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
        for name in ("use-billed", "use-late"):
            usage = metering_service_pb2.IngestEventsRequest()
            self._event(usage, name, "mended-org", "calls")
            client.call(metering.IngestEvents, usage)
            if name == "use-billed":
                request = charge_service_pb2.CreateChargeRequest(
                    request_id=self.request_id("mended"), org_id="mended-org", period=PERIOD
                )
                charge = client.call(stub.CreateCharge, request).charge
        adjust = charge_service_pb2.AdjustChargeRequest(
            request_id=self.request_id("adjust"), charge_id=charge.charge_id
        )
        made = client.call(stub.AdjustCharge, adjust).charge
        assert made.total.minor_units == MENDED_MINOR, made
        reverse = charge_service_pb2.ReverseChargeRequest(
            request_id=self.request_id("reverse"),
            charge_id=charge.charge_id,
            reason="a trial",
        )
        made = client.call(stub.ReverseCharge, reverse).charge
        assert made.total.minor_units == -2 * MENDED_MINOR, made
        adjust.request_id = self.request_id("adjust-again")
        self._refused(client, stub.AdjustCharge, adjust, "CHARGE_NOT_CORRECTABLE")
        reverse.request_id = self.request_id("reverse-again")
        self._refused(client, stub.ReverseCharge, reverse, "CHARGE_NOT_CORRECTABLE")

    def _take_back(self, client: Client) -> None:
        """What the partner earned is claimed at once and comes back; a part of it is asked for."""
        stub = client.stub(payout_service_pb2_grpc.PayoutServiceStub)
        claimed = self._claimed(client, settlement_pb2.PAYOUT_KIND_REALTIME)
        back = payout_service_pb2.RecordPayoutReturnRequest(
            request_id=self.request_id("return"), payout_id=claimed.payout_id, return_code="R03"
        )
        client.call(stub.RecordPayoutReturn, back)
        create = payout_service_pb2.CreatePayoutRequest(
            request_id=self.request_id("payout"), party="reseller", amount=usd(ASKED_MINOR)
        )
        client.call(stub.CreatePayout, create)

    def _pay_out(self, client: Client) -> None:
        """The part is paid, and what is left is to be swept."""
        stub = client.stub(payout_service_pb2_grpc.PayoutServiceStub)
        claimed = self._claimed(client, settlement_pb2.PAYOUT_KIND_REQUESTED)
        paid = payout_service_pb2.RecordPayoutPaymentRequest(
            request_id=self.request_id("paid"), payout_id=claimed.payout_id
        )
        client.call(stub.RecordPayoutPayment, paid)
        sweep = payout_service_pb2.SweepCommissionsRequest(request_id=self.request_id("sweep"))
        assert client.call(stub.SweepCommissions, sweep).sweep.payout_count == 1

    def _sweep(self, client: Client) -> None:
        """Wait until the rest is swept."""
        self._claimed(client, settlement_pb2.PAYOUT_KIND_SWEEP)

    def _order(self, client: Client) -> None:
        """A draft that is adjusted, opened, noted and cancelled."""
        stub = client.stub(order_service_pb2_grpc.OrderServiceStub)
        order = orders_pb2.Order(
            person_id=PERSON,
            organization_id="org_0190c1de-0000-7000-8000-000000000002",
            status="DRAFT",
            amount_total=usd(ORDER_MINOR + 1),
        )
        create = order_service_pb2.CreateOrderRequest(
            request_id=self.request_id("order"), order=order
        )
        order_id = client.call(stub.CreateOrder, create).order.order_id
        adjust = order_service_pb2.AdjustOrderTotalRequest(
            request_id=self.request_id("order-adjusted"),
            order_id=order_id,
            amount_total=usd(ORDER_MINOR),
        )
        client.call(stub.AdjustOrderTotal, adjust)
        opened = order_service_pb2.OpenOrderRequest(
            request_id=self.request_id("order-opened"), order_id=order_id
        )
        assert client.call(stub.OpenOrder, opened).order.status == "OPEN"
        notes = order_service_pb2.UpdateOrderNotesRequest(
            request_id=self.request_id("order-noted"), order_id=order_id, notes="called"
        )
        client.call(stub.UpdateOrderNotes, notes)
        cancel = order_service_pb2.CancelOrderRequest(
            request_id=self.request_id("order-cancelled"), order_id=order_id, reason="a trial"
        )
        assert client.call(stub.CancelOrder, cancel).order.status == "CANCELLED"
        order.status = "OPEN"
        order.amount_total.minor_units = CASH_MINOR
        create = order_service_pb2.CreateOrderRequest(
            request_id=self.request_id("order-paid"), order=order
        )
        record = order_service_pb2.RecordPaymentRequest(
            request_id=self.request_id("order-cash"),
            order_id=client.call(stub.CreateOrder, create).order.order_id,
            method="cash",
            amount=usd(CASH_MINOR),
            operator="Ada",
        )
        assert client.call(stub.RecordPayment, record).order.status == "PAID"
        back = order_service_pb2.InitiateRefundRequest(
            request_id=self.request_id("order-refund"),
            order_id=record.order_id,
            amount=usd(CASH_BACK_MINOR),
            reason="a trial",
            initiated_by="Ada",
        )
        client.call(stub.InitiateRefund, back)

    def _credit(self, client: Client) -> None:
        """Credits of which some are over at once, and some are taken back."""
        stub = client.stub(credit_service_pb2_grpc.CreditServiceStub)
        for name in ("lapses", "reversed"):
            wanted = credits_pb2.Grant(
                owner_id="creditor",
                unit="USD",
                amount=f"{CREDIT_MINOR / 100:.2f}",
                source="PROMOTION",
            )
            if name == "lapses":
                wanted.effective_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
                wanted.expires_at.FromDatetime(datetime(2026, 2, 1, tzinfo=UTC))
            request = credit_service_pb2.GrantCreditsRequest(
                request_id=self.request_id(f"credits-{name}"), grant=wanted
            )
            made = client.call(stub.GrantCredits, request).grant
        reverse = credit_service_pb2.ReverseGrantRequest(
            request_id=self.request_id("credits-back"), grant_id=made.grant_id, reason="a trial"
        )
        answer = client.call(stub.ReverseGrant, reverse)
        assert answer.taken_back == wanted.amount, answer

    def _agree(self, client: Client) -> None:
        """A contract that is activated, and whose price is corrected for the past."""
        stub = client.stub(agreement_service_pb2_grpc.AgreementServiceStub)
        begin = agreements_pb2.Create(buyer="acme", seller="north", currency_code="USD")
        begin.term.start_at.FromJsonString("2026-01-01T00:00:00Z")
        product = agreements_pb2.Product(
            product_id="rack", sku="colo", quantity="2", unit_price="450"
        )
        request = agreement_service_pb2.ApplyEditsRequest(
            request_id=self.request_id("agreement"),
            edits=[
                agreements_pb2.Edit(create=begin),
                agreements_pb2.Edit(add_product=agreements_pb2.AddProduct(product=product)),
                agreements_pb2.Edit(activate=agreements_pb2.Activate()),
            ],
            effective_at=begin.term.start_at,
        )
        made = client.call(stub.ApplyEdits, request).agreement
        corrected = agreements_pb2.ChangePrice(product_id="rack", unit_price="420")
        request = agreement_service_pb2.ApplyEditsRequest(
            request_id=self.request_id("agreement-corrected"),
            agreement_id=made.agreement_id,
            edits=[agreements_pb2.Edit(change_price=corrected)],
            expected_revision=made.revision,
        )
        request.effective_at.FromJsonString("2026-02-01T00:00:00Z")
        (change,) = client.call(stub.ApplyEdits, request).changes
        assert (change.before, change.after) == ("450", "420")

    def _claimed(
        self, client: Client, kind: settlement_pb2.PayoutKind.ValueType
    ) -> settlement_pb2.Payout:
        """Wait until the one payout of a kind, and all that was said of any, is in the books; returns it."""
        stub = client.stub(payout_service_pb2_grpc.PayoutServiceStub)
        give_up_at = time.monotonic() + SETTLE_SECONDS
        while True:
            found = client.call(stub.ListPayouts, payout_service_pb2.ListPayoutsRequest()).payouts
            of_kind = [payout for payout in found if payout.kind == kind]
            if of_kind and all(step.posting_id for payout in found for step in payout.postings):
                (payout,) = of_kind
                return payout
            assert time.monotonic() < give_up_at, found
            time.sleep(0.05)

    def _refused(self, client: Client, method: object, request: object, reason: str) -> None:
        try:
            client.call(method, request)  # type: ignore[arg-type]
        except CliError as error:
            if error.reason != reason:
                raise
            return
        raise AssertionError(f"{reason} expected")

    def _pay(self, client: Client) -> dict[str, int]:
        """Make payments; returns how each will end, by its id."""
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        wallet: dict[str, object] = {"method": "wallet"}
        declined = {"method": "card", "token": "tok_decline"}
        payments = [
            ("split", "150.00", "org", [wallet, {"method": "card"}]),
            # Its wallet is charged and given back, since the card is refused.
            ("back", "60.00", "returner", [wallet, declined]),
        ]
        if self.loses_an_answer:
            lost = {**wallet, "token": "tok_timeout_books_late"}
            payments.append(("lost", "7.00", "walk-in", [lost]))
        succeeded = orchestration_pb2.PAYMENT_STATUS_SUCCEEDED
        ends: dict[str, int] = {
            "split": succeeded,
            "back": orchestration_pb2.PAYMENT_STATUS_FAILED,
            "lost": succeeded,
        }
        made: dict[str, str] = {}
        for name, amount, person, methods in payments:
            document: dict[str, object] = {
                "merchant_id": "shop",
                "order_id": f"order-{name}",
                "person_id": person,
                "amount": amount,
                "currency": "USD",
                "payment_methods": methods,
            }
            request = orchestration_service_pb2.CreatePaymentRequest(
                request_id=self.request_id(f"pay-{name}"),
                raw_request=json.dumps(document).encode(),
            )
            made[name] = client.call(stub.CreatePayment, request).payment.payment_id
            # One after the other, but for the one that is asked for a second later.
            if name != "lost":
                self._await_payment(client, made[name], ends[name])
        return {payment_id: ends[name] for name, payment_id in made.items()}

    def _await_payments(self, client: Client, ends: dict[str, int]) -> None:
        for payment_id, end in ends.items():
            self._await_payment(client, payment_id, end)

    def _instruct(self, client: Client) -> None:
        """Authorise, capture a part, let go the rest, give some of it back."""
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        document = {
            "merchant_id": "shop",
            "order_id": "order-held",
            "person_id": "holder",
            "amount": "30.00",
            "currency": "USD",
            "method": "card",
            "capture": "manual",
        }
        request = orchestration_service_pb2.CreatePaymentRequest(
            request_id=self.request_id("pay-held"), raw_request=json.dumps(document).encode()
        )
        payment_id = client.call(stub.CreatePayment, request).payment.payment_id
        self._await_rest(client, stub, payment_id)
        of_payment = {"payment_id": payment_id}
        captured = type_pb2.Money(currency_code="USD", minor_units=CAPTURED_MINOR)
        capture = orchestration_service_pb2.CapturePaymentRequest(
            request_id=self.request_id("capture"), amount=captured, keep_open=True, **of_payment
        )
        client.call(stub.CapturePayment, capture)
        self._await_rest(client, stub, payment_id)
        void = orchestration_service_pb2.VoidPaymentRequest(
            request_id=self.request_id("void"), **of_payment
        )
        client.call(stub.VoidPayment, void)
        self._await_rest(client, stub, payment_id)
        given_back = type_pb2.Money(currency_code="USD", minor_units=REFUNDED_MINOR)
        refund = orchestration_service_pb2.RefundPaymentRequest(
            request_id=self.request_id("refund"), amount=given_back, **of_payment
        )
        client.call(stub.RefundPayment, refund)
        self._await_rest(client, stub, payment_id)

    def _await_rest(self, client: Client, stub: Any, payment_id: str) -> None:
        """Wait until a payment takes its next instruction."""
        deadline = time.monotonic() + SETTLE_SECONDS
        request = orchestration_service_pb2.GetPaymentRequest(payment_id=payment_id)
        while True:
            payment = client.call(stub.GetPayment, request).payment
            pending = orchestration_pb2.INSTRUCTION_STATUS_PENDING
            if payment.status >= orchestration_pb2.PAYMENT_STATUS_SUCCEEDED and not any(
                each.status == pending for each in payment.instructions
            ):
                return
            assert time.monotonic() < deadline, payment
            time.sleep(0.05)

    def _await_payment(self, client: Client, payment_id: str, end: int) -> None:
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        deadline = time.monotonic() + SETTLE_SECONDS
        request = orchestration_service_pb2.GetPaymentRequest(payment_id=payment_id)
        while True:
            payment = client.call(stub.GetPayment, request).payment
            if payment.status == end:
                return
            assert time.monotonic() < deadline, payment
            time.sleep(0.05)

    def _watch(self, client: Client) -> None:
        stub = client.stub(contracts_service_pb2_grpc.ContractMonitorServiceStub)
        contract = contracts_pb2.Contract(
            contract_id="shop/promise",
            title="A promise",
            owner="shop",
            severity="LOW",
            kind=contracts_pb2.CONTRACT_KIND_POLICY,
        )
        client.call(
            stub.RegisterContracts,
            contracts_service_pb2.RegisterContractsRequest(contracts=[contract]),
        )
        violation = contracts_pb2.ContractViolation(
            contract_id="shop/promise", request_id="seen-1", severity="LOW", message="not kept"
        )
        client.call(
            stub.RecordViolations,
            contracts_service_pb2.RecordViolationsRequest(violations=[violation]),
        )
        metering = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        broken = metering_service_pb2.UpdateIngestSettingsRequest(request_id="no uuid")
        self._refused(client, metering.UpdateIngestSettings, broken, "INVALID_FIELD")

    def _tell(self, client: Client) -> None:
        """Register a type of events and publish some, as an outside producer."""
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        stock = events_pb2.EventType(subject="stock.moved", owner="shop")
        stock.versions.add(version=1, json_schema='{"type": "object"}')
        register = events_service_pb2.RegisterEventTypesRequest(event_types=[stock])
        (registered,) = client.call(stub.RegisterEventTypes, register).results
        assert registered.outcome in _NEW_OR_KNOWN, registered
        events = [
            events_pb2.Event(id=f"told-{number}", subject="stock.moved", json=b'{"sku": "a"}')
            for number in range(TOLD)
        ]
        publish = events_service_pb2.PublishEventsRequest(events=events)
        for result in client.call(stub.PublishEvents, publish).results:
            assert result.outcome in _NEW_OR_KNOWN, result

    def _replay(self, client: Client) -> None:
        """Have the monitor record its violations again, which changes nothing; nothing lies in its dead letters."""
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        replay = events_service_pb2.ReplayEventsRequest(
            request_id=self.request_id("replay"), consumer="monitoring.violations"
        )
        replay.period.start_at.FromDatetime(datetime(2020, 1, 1, tzinfo=UTC))
        replay.period.end_at.FromDatetime(datetime(2100, 1, 1, tzinfo=UTC))
        answer = client.call(stub.ReplayEvents, replay)
        assert (answer.generation, answer.next_page_token) == (1, ""), answer
        letters = events_service_pb2.ReplayDeadLettersRequest(
            request_id=self.request_id("letters"), consumer="monitoring.violations"
        )
        assert client.call(stub.ReplayDeadLetters, letters).replayed_count == 0

    def _hold(self, client: Client) -> None:
        """Hold an amount that is given up at once, and one that is posted and then reversed."""
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        accounts = [
            ledger_pb2.Account(
                account_id=name, currency_code="USD", type=ledger_pb2.ACCOUNT_TYPE_ASSET
            )
            for name in ("held:from", "held:to")
        ]
        client.call(
            stub.CreateAccounts, ledger_service_pb2.CreateAccountsRequest(accounts=accounts)
        )
        short, held = (
            ledger_pb2.Transfer(
                transfer_id=self.request_id(name),
                debit_account_id="held:from",
                credit_account_id="held:to",
                amount=type_pb2.Money(currency_code="USD", minor_units=amount),
                kind=ledger_pb2.KIND_PENDING,
            )
            for name, amount in (("short", SHORT_MINOR), ("hold", HELD_MINOR))
        )
        short.timeout.FromMilliseconds(1)
        part = ledger_pb2.Transfer(
            transfer_id=self.request_id("part"),
            pending_id=held.transfer_id,
            kind=ledger_pb2.KIND_POST_PENDING,
        )
        batch = ledger_service_pb2.PostTransfersRequest(transfers=[short, held, part])
        for result in client.call(stub.PostTransfers, batch).results:
            assert result.result in _POSTED, result
        reverse = ledger_service_pb2.ReverseTransferRequest(
            request_id=self.request_id("reverse"), transfer_id=part.transfer_id, reason="again"
        )
        client.call(stub.ReverseTransfer, reverse)

    def _post_by_recipe(self, client: Client) -> None:
        """Post by a recipe of its own, once alone and once in a batch."""
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        put = ledger_service_pb2.PutRecipeRequest(
            request_id=self.request_id("recipe"),
            recipe=json_messages.parse(_RECIPE, recipe_pb2.Recipe()),
        )
        assert client.call(stub.PutRecipe, put).recipe.version == 1
        amount = posting_pb2.Parameter(
            amount=type_pb2.Money(currency_code="USD", minor_units=MOVED_MINOR)
        )
        alone = ledger_service_pb2.PostRecipeRequest(
            request_id=self.request_id("alone"),
            recipe="move",
            parameters={"amount": amount},
            reference=ledger_pb2.Reference(kind="move", id="alone"),
        )
        assert len(client.call(stub.PostRecipe, alone).posting.legs) == 1
        batch = ledger_service_pb2.PostRecipesRequest()
        for name in ("alone", "second", "third"):
            batch.postings.add(
                recipe="move",
                parameters={"amount": amount},
                reference=ledger_pb2.Reference(kind="move", id=name),
            )
        for result in client.call(stub.PostRecipes, batch).results:
            assert len(result.posting.legs) == 1, result

    def _verify(self, client: Client) -> None:
        """Wait until all transfers are in blocks, and find nothing wrong by the head of that chain."""
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        deadline = time.monotonic() + SETTLE_SECONDS
        wanted = TRANSFERS if self.loses_an_answer else TRANSFERS - 1
        while True:
            blocks = ledger_service_pb2.ListBlocksRequest(newest_first=True, page_size=1)
            found = client.call(stub.ListBlocks, blocks).blocks
            if found and found[0].transfer_total == wanted:
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        head = client.call(stub.GetLedgerHead, ledger_service_pb2.GetLedgerHeadRequest()).head
        verify = ledger_service_pb2.VerifyIntegrityRequest(heads=[head])
        for answer in client.stream(stub.VerifyIntegrity, verify):
            assert not answer.HasField("finding"), answer

    def _schedule(self, client: Client) -> None:
        """Schedule a transfer that is due within a moment and one that is taken back, and watch an account."""
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        for name, account_id in (("watch", "held:to"), ("spare-watch", "held:from")):
            monitor = monitor_pb2.BalanceMonitor(
                monitor_id=name,
                account_id=account_id,
                comparison=monitor_pb2.COMPARISON_BELOW,
                threshold=type_pb2.Money(currency_code="USD", minor_units=-SOON_MINOR + 1),
            )
            put = monitor_pb2.PutBalanceMonitorRequest(
                request_id=self.request_id(name), monitor=monitor
            )
            client.call(stub.PutBalanceMonitor, put)
        delete = monitor_pb2.DeleteBalanceMonitorRequest(
            request_id=self.request_id("unwatch"), monitor_id="spare-watch"
        )
        client.call(stub.DeleteBalanceMonitor, delete)
        soon, never = (
            ledger_pb2.Transfer(
                transfer_id=self.request_id(name),
                debit_account_id="held:from",
                credit_account_id="held:to",
                amount=type_pb2.Money(currency_code="USD", minor_units=SOON_MINOR),
            )
            for name in ("soon", "never")
        )
        if not self.due:
            self.due.append(datetime.now(UTC) + timedelta(seconds=SOON_SECONDS))
        soon.not_before.FromDatetime(self.due[0])
        never.not_before.FromDatetime(datetime(2100, 1, 1, tzinfo=UTC))
        batch = ledger_service_pb2.PostTransfersRequest(transfers=[soon, never])
        first, second = client.call(stub.PostTransfers, batch).results
        assert first.result in (*_POSTED, ledger_service_pb2.TRANSFER_RESULT_SCHEDULED), first
        assert second.result in _WAITING, second
        cancel = scheduled_pb2.CancelScheduledTransferRequest(
            request_id=self.request_id("cancel"), transfer_id=never.transfer_id, reason="given up"
        )
        client.call(stub.CancelScheduledTransfer, cancel)

    def _close(self, client: Client) -> None:
        """Close the books of a year, and reopen its last month."""
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        close = ledger_service_pb2.ClosePeriodRequest(
            request_id=self.request_id("close"), currency_code="USD"
        )
        close.closed_through.FromDatetime(datetime(2019, 12, 31, tzinfo=UTC))
        client.call(stub.ClosePeriod, close)
        reopen = ledger_service_pb2.ReopenPeriodRequest(
            request_id=self.request_id("reopen"), currency_code="USD", reason="late"
        )
        reopen.closed_through.FromDatetime(datetime(2019, 11, 30, tzinfo=UTC))
        client.call(stub.ReopenPeriod, reopen)

    def _revoke(self, client: Client) -> None:
        """Make a key and revoke it."""
        stub = client.stub(access_service_pb2_grpc.AccessServiceStub)
        request = access_service_pb2.CreateApiKeyRequest(
            request_id=self.request_id("spare"), name="spare", scopes=["ledger:read"]
        )
        spare = client.call(stub.CreateApiKey, request).api_key
        revoke = access_service_pb2.RevokeApiKeyRequest(
            request_id=self.request_id("revoke"), key_id=spare.key_id
        )
        client.call(stub.RevokeApiKey, revoke)

    def _await_settlement(self, client: Client) -> None:
        """Wait until payments are in the books, and violations where their events go."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while waiting := self._not_arrived(client):
            assert time.monotonic() < deadline, waiting
            time.sleep(0.05)

    def _not_arrived(self, client: Client) -> list[str]:
        """Name what the ledger and the monitor have not heard of yet."""
        ledger = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        monitor = client.stub(contracts_service_pb2_grpc.ContractMonitorServiceStub)
        waiting = []
        owed = {"org": TOTAL_MINOR, "returner": BACK_MINOR, "holder": CAPTURED_MINOR}
        owed[PERSON] = CASH_MINOR
        back = {"returner": BACK_MINOR, "holder": REFUNDED_MINOR, PERSON: CASH_BACK_MINOR}
        owed |= {"walk-in": 700} if self.loses_an_answer else {}
        accounts = {f"receivable:{person}:USD": paid for person, paid in owed.items()}
        gone = {f"receivable:{person}:USD": given for person, given in back.items()}
        accounts["credit-balance:creditor:USD"] = 2 * CREDIT_MINOR
        gone["credit-balance:creditor:USD"] = 2 * CREDIT_MINOR
        for account, paid in accounts.items():
            request = ledger_service_pb2.GetAccountRequest(account_id=account)
            try:
                balances = client.call(ledger.GetAccount, request).account.balances
            except CliError as error:
                if error.reason != "NOT_FOUND":
                    raise
                waiting.append(account)
                continue
            given_back = gone.get(account, 0)
            if balances.credits_posted < paid or balances.debits_posted < given_back:
                waiting.append(account)
        short = ledger_service_pb2.GetTransferRequest(transfer_id=self.request_id("short"))
        held = client.call(ledger.GetTransfer, short).transfer.hold
        if held.state != ledger_pb2.HOLD_STATE_EXPIRED:
            waiting.append("the end of a hold")
        guard = client.stub(guardrail_service_pb2_grpc.GuardrailServiceStub)
        if client.call(guard.ListHolds, guardrail_service_pb2.ListHoldsRequest()).holds:
            waiting.append("the end of a hold of a budget")
        metering = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        asked = metering_service_pb2.QueryUsageRequest(org_id="org", period=PERIOD)
        usage = client.call(metering.QueryUsage, asked)
        metered = usage.usage_ordinal
        if usage.rollup_ordinal < metered:
            waiting.append("usage rolled up")
        head = client.call(metering.GetLogHead, receipts_pb2.GetLogHeadRequest()).head
        if head.tree_size < metered:
            waiting.append("receipts in their log")
        soon = ledger_service_pb2.GetTransferRequest(transfer_id=self.request_id("soon"))
        if not client.call(ledger.GetTransfer, soon).transfer.HasField("recorded_at"):
            waiting.append("a transfer that is due")
        told = ["mesh/request-validation"] + ["router/timeout"] * self.loses_an_answer
        for contract_id in told:
            seen = contracts_service_pb2.ListViolationsRequest(contract_id=contract_id)
            if not client.call(monitor.ListViolations, seen).violations:
                waiting.append(contract_id)
        return waiting

    def let_leases_run_out(self, database_url: str) -> None:
        """Make what a dead process held free, of payments, holds and what is due, as it is some seconds later."""
        with psycopg.connect(database_url) as connection:
            connection.execute("SELECT set_config('mesh.tenant', %s, true)", [self.tenant])
            for table in (
                "orchestration.payment",
                "orchestration.booking",
                "ledger.hold",
                "metering.hold",
                "ledger.verification",
                "ledger.scheduled",
                "orders.posting",
                "orders.credit_due",
                "settlement.intake",
                "settlement.posting",
                "settlement.sweep",
            ):
                connection.execute(
                    f"UPDATE {table} SET lease_until = clock_timestamp()"
                    " WHERE tenant_id = %s AND lease_until IS NOT NULL",
                    [self.tenant],
                )

    def check(self, database_url: str) -> None:
        """Compare what the services' role sees of the tenant with what must be: nothing lost, nothing doubled."""
        with psycopg.connect(database_url) as connection:
            connection.execute("SELECT set_config('mesh.tenant', %s, false)", [self.tenant])
            found = {
                name: connection.execute(statement, {"t": self.tenant}).fetchone()
                for name, (statement, _) in _FACTS.items()
            }
            apart = books.differences(books.read(connection, self.tenant))
        assert not apart, apart
        wanted = {name: expected for name, (_, expected) in _FACTS.items()}
        if not self.loses_an_answer:
            wanted |= _WITHOUT_THE_LOST
        wrong = {
            name: f"{found[name]} instead of {expected}"
            for name, expected in wanted.items()
            if found[name] != expected
        }
        assert not wrong, wrong


def usd(minor_units: int) -> type_pb2.Money:
    return type_pb2.Money(currency_code="USD", minor_units=minor_units)


_POSTED = (ledger_service_pb2.TRANSFER_RESULT_OK, ledger_service_pb2.TRANSFER_RESULT_EXISTS)
_WAITING = (
    ledger_service_pb2.TRANSFER_RESULT_SCHEDULED,
    ledger_service_pb2.TRANSFER_RESULT_ID_ALREADY_FAILED,
)
_NEW_OR_KNOWN = (type_pb2.OUTCOME_ACCEPTED, type_pb2.OUTCOME_DUPLICATE)
_EVENT_COUNT = "SELECT count(*) FROM mesh.event WHERE tenant_id = %(t)s AND subject = "

# What is stored for the tenant when all is done.
_FACTS: dict[str, tuple[str, tuple[object, ...]]] = {
    "usage": (
        "SELECT count(*), sum(quantity)::bigint FROM metering.usage_event"
        " WHERE tenant_id = %(t)s AND org_id = 'org'",
        (EVENTS, EVENTS),
    ),
    "versions of events": (
        "SELECT count(*), count(*) FILTER (WHERE cancelled), max(version) FROM metering.event_version"
        " WHERE tenant_id = %(t)s",
        (4, 1, 1),
    ),
    "rejected events taken in": (
        "SELECT count(DISTINCT request_id), count(DISTINCT replayed_receipt_id) FROM metering.rejected_event"
        " WHERE tenant_id = %(t)s AND replayed_receipt_id IS NOT NULL",
        (1, 1),
    ),
    "ordinals without a gap": (
        "SELECT max(ordinal) - count(ordinal), count(ordinal) - count(DISTINCT ordinal) FROM metering.receipt"
        " WHERE tenant_id = %(t)s",
        (0, 0),
    ),
    "a log of all receipts, and all of its nodes": (
        "SELECT (SELECT max(ordinal) FROM metering.receipt WHERE tenant_id = %(t)s) - count(*),"
        " max(ordinal) - count(*),"
        " (SELECT max(tree_size) FROM metering.log_head WHERE tenant_id = %(t)s) - count(*)"
        " FROM metering.log_leaf WHERE tenant_id = %(t)s",
        (0, 0, 0),
    ),
    # Of hours, of their quarters, and of events that stand: each once.
    "usage rolled up": (
        "SELECT sum(event_count) FILTER (WHERE minutes = 60) - sum(event_count) FILTER (WHERE minutes = 15),"
        " (SELECT count(*) FROM metering.usage_event WHERE tenant_id = %(t)s)"
        " - sum(event_count) FILTER (WHERE minutes = 60)"
        " - (SELECT count(*) FROM metering.event_version WHERE tenant_id = %(t)s AND cancelled)"
        " FROM metering.usage_rollup WHERE tenant_id = %(t)s AND NOT keyed",
        (0, 0),
    ),
    # A hold that was made anew by a run after its first one had ended would be one more.
    "holds of budgets": (
        "SELECT array_agg(status ORDER BY status), sum(accounted)::int FROM metering.hold WHERE tenant_id = %(t)s",
        (["COMMITTED", "EXPIRED", "RELEASED"], COMMITTED),
    ),
    "uses of budgets": (
        "SELECT count(*), sum(used)::int, sum(held)::int FROM metering.budget_use WHERE tenant_id = %(t)s",
        (2, EVENTS + COMMITTED + AMENDED, 0),
    ),
    "budgets": ("SELECT count(*) FROM metering.budget WHERE tenant_id = %(t)s", (2,)),
    # Two budgets had come to it when they were put.
    "budget.threshold.reached": (_EVENT_COUNT + "'budget.threshold.reached'", (2,)),
    "charges": (
        "SELECT count(*), sum(total_minor)::bigint FROM billing.charge"
        " WHERE tenant_id = %(t)s AND org_id = 'org' AND status = 2",
        (1, TOTAL_MINOR),
    ),
    "transfers": (
        "SELECT count(*), sum(amount_minor)::bigint FROM ledger.transfer WHERE tenant_id = %(t)s",
        (
            TRANSFERS,
            TOTAL_MINOR
            + COMMISSION_MINOR
            + TOTAL_MINOR
            + 700
            + 2 * BACK_MINOR
            + SHORT_MINOR
            + 3 * HELD_MINOR
            + MOVES * MOVED_MINOR
            + SOON_MINOR
            + 4 * (MENDED_MINOR + MENDED_TAX_MINOR)
            + CAPTURED_MINOR
            + REFUNDED_MINOR
            + 3 * COMMISSION_MINOR
            + ASKED_MINOR
            + CASH_MINOR
            + CASH_BACK_MINOR
            + 4 * CREDIT_MINOR,
        ),
    ),
    "corrections": (
        "SELECT array_agg(kind ORDER BY kind), array_agg(status ORDER BY kind), sum(total_minor)::bigint"
        " FROM billing.charge WHERE tenant_id = %(t)s AND org_id = 'mended-org'",
        ([1, 2, 3], [3, 3, 2], 0),
    ),
    "recipes": (
        "SELECT count(*), max(version) FROM ledger.recipe WHERE tenant_id = %(t)s",
        (1, 1),
    ),
    "postings": (
        "SELECT count(*), count(DISTINCT reference_id), sum(cardinality(transfer_ids))::bigint FROM ledger.posting"
        " WHERE tenant_id = %(t)s AND recipe = 'move'",
        (MOVES, MOVES, MOVES),
    ),
    # One was taken back. The other may have been due before it came so far: then it was posted at once.
    "scheduled": (
        "SELECT count(*) FILTER (WHERE state IN (1, 3)), count(*) FILTER (WHERE state = 4) FROM ledger.scheduled"
        " WHERE tenant_id = %(t)s",
        (0, 1),
    ),
    "monitors": ("SELECT count(*) FROM ledger.monitor WHERE tenant_id = %(t)s", (1,)),
    "ledger.balance.crossed": (_EVENT_COUNT + "'ledger.balance.crossed'", (1,)),
    "holds": (
        "SELECT count(*), sum(remaining_minor)::bigint, array_agg(state ORDER BY state) FROM ledger.hold"
        " WHERE tenant_id = %(t)s",
        (2, 0, [2, 4]),
    ),
    "chain": (
        "SELECT sum(transfer_count)::bigint, max(transfer_total), max(block_no) - count(*) FROM ledger.block"
        " WHERE tenant_id = %(t)s",
        (TRANSFERS, TRANSFERS, 0),
    ),
    "signing keys": ("SELECT count(*) FROM ledger.signing_key WHERE tenant_id = %(t)s", (1,)),
    "pending sums": (
        "SELECT sum(debits_pending + credits_pending)::bigint FROM ledger.balance WHERE tenant_id = %(t)s",
        (0,),
    ),
    "periods": (
        "SELECT currency_code, closed_through::date::text FROM ledger.period WHERE tenant_id = %(t)s",
        ("USD", "2019-11-30"),
    ),
    "ledger.period.closed": (_EVENT_COUNT + "'ledger.period.closed'", (1,)),
    "ledger.period.reopened": (_EVENT_COUNT + "'ledger.period.reopened'", (1,)),
    "sums that are not of their entries": (
        "SELECT count(*) FROM ledger.account_mark AS m WHERE m.tenant_id = %(t)s AND EXISTS"
        " (SELECT FROM (VALUES (1), (2)) AS g (grain)"
        " WHERE (SELECT coalesce(sum(debits - credits), 0) FROM ledger.account_day AS d"
        " WHERE d.tenant_id = m.tenant_id AND d.account_id = m.account_id AND d.grain = g.grain) IS DISTINCT FROM"
        " (SELECT coalesce(sum(amount_minor), 0) FROM ledger.entry AS e"
        " WHERE e.tenant_id = m.tenant_id AND e.account_id = m.account_id AND e.seq <= m.summed_seq))",
        (0,),
    ),
    "sandbox charges": (
        "SELECT count(*), sum(amount_minor)::bigint FROM orchestration.sandbox_order"
        " WHERE tenant_id = %(t)s AND done AND operation = 'CHARGE'",
        (4, TOTAL_MINOR + 700 + BACK_MINOR),
    ),
    "payments": (
        "SELECT count(*) FROM orchestration.payment WHERE tenant_id = %(t)s AND status = 'SUCCEEDED'",
        (2,),
    ),
    "orders": (
        "SELECT array_agg(status ORDER BY status), max(notes), sum(total_minor)::bigint, sum(paid_minor)::bigint"
        " FROM orders.sales_order WHERE tenant_id = %(t)s",
        (["CANCELLED", "PAID"], "called", ORDER_MINOR + CASH_MINOR, CASH_MINOR),
    ),
    "payments of orders": (
        "SELECT count(*), count(p.posting_id), sum(a.amount_minor)::bigint FROM orders.external_action AS a"
        " JOIN orders.posting AS p USING (tenant_id, external_action_id) WHERE a.tenant_id = %(t)s",
        (2, 2, CASH_MINOR + CASH_BACK_MINOR),
    ),
    "refunds of orders": (
        "SELECT count(*), sum(amount_minor)::bigint FROM orders.refund WHERE tenant_id = %(t)s",
        (1, CASH_BACK_MINOR),
    ),
    "grants of credits": (
        "SELECT count(*), sum(lapsed)::bigint, sum(taken_back)::bigint FROM orders.credit_grant"
        " WHERE tenant_id = %(t)s",
        (2, CREDIT_MINOR, CREDIT_MINOR),
    ),
    "entries of credits": (
        "SELECT array_agg(e.kind ORDER BY e.kind), count(d.posting_id) FROM orders.credit_entry AS e"
        " JOIN orders.credit_due AS d ON d.tenant_id = e.tenant_id AND d.item_id = e.entry_id"
        " WHERE e.tenant_id = %(t)s",
        (["GRANTED", "GRANTED", "LAPSED", "TAKEN_BACK"], 4),
    ),
    "credit.reversed": (_EVENT_COUNT + "'credit.reversed'", (1,)),
    "refund.completed": (_EVENT_COUNT + "'refund.completed'", (1,)),
    "order.created": (_EVENT_COUNT + "'order.created'", (2,)),
    "order.updated": (_EVENT_COUNT + "'order.updated'", (4,)),
    "agreements": (
        "SELECT a.revision, array_agg(e.kind ORDER BY e.revision) FROM agreements.agreement AS a"
        " JOIN agreements.edit AS e USING (tenant_id, agreement_id) WHERE a.tenant_id = %(t)s"
        " GROUP BY a.agreement_id, a.revision",
        (4, ["create", "add_product", "activate", "change_price"]),
    ),
    "agreement.created": (_EVENT_COUNT + "'agreement.created'", (1,)),
    "agreement.product.added": (_EVENT_COUNT + "'agreement.product.added'", (1,)),
    "agreement.status.changed": (_EVENT_COUNT + "'agreement.status.changed'", (1,)),
    "agreement.price.changed": (_EVENT_COUNT + "'agreement.price.changed'", (1,)),
    "payouts": (
        "SELECT array_agg(kind ORDER BY kind), array_agg(status ORDER BY kind), sum(amount_minor)::bigint"
        " FROM settlement.payout WHERE tenant_id = %(t)s",
        ([1, 2, 3], [4, 2, 3], 2 * COMMISSION_MINOR),
    ),
    "how the partner stands": (
        "SELECT earned_minor, claimed_minor, paid_minor FROM settlement.balance WHERE tenant_id = %(t)s",
        (COMMISSION_MINOR, COMMISSION_MINOR - ASKED_MINOR, ASKED_MINOR),
    ),
    "postings of payouts": (
        "SELECT count(*), count(DISTINCT posting_id), sum(cardinality(transfer_ids))::bigint FROM ledger.posting"
        " WHERE tenant_id = %(t)s AND reference_kind = 'payout'",
        (PAYOUT_TRANSFERS, PAYOUT_TRANSFERS, PAYOUT_TRANSFERS),
    ),
    "payout.claimed": (_EVENT_COUNT + "'payout.claimed'", (PAYOUTS,)),
    "payout.paid": (_EVENT_COUNT + "'payout.paid'", (1,)),
    "payout.returned": (_EVENT_COUNT + "'payout.returned'", (1,)),
    "commissions.swept": (_EVENT_COUNT + "'commissions.swept'", (1,)),
    "bookings": (
        "SELECT count(*), count(booked_at) FROM orchestration.booking WHERE tenant_id = %(t)s",
        (7, 7),
    ),
    "instructions": (
        "SELECT array_agg(operation ORDER BY ordinal) FROM orchestration.instruction WHERE tenant_id = %(t)s",
        (["CAPTURE", "VOID", "REFUND"],),
    ),
    "what was held": (
        "SELECT sum(amount_minor) FILTER (WHERE operation = 'AUTHORIZE')::bigint,"
        " sum(amount_minor) FILTER (WHERE operation = 'CAPTURE')::bigint,"
        " sum(amount_minor) FILTER (WHERE operation = 'VOID')::bigint"
        " FROM orchestration.sandbox_order WHERE tenant_id = %(t)s AND done",
        (3_000, CAPTURED_MINOR, 3_000 - CAPTURED_MINOR),
    ),
    "payment.received": (_EVENT_COUNT + "'payment.received'", (4,)),
    "payment.failed": (_EVENT_COUNT + "'payment.failed'", (1,)),
    "payment.step.succeeded": (_EVENT_COUNT + "'payment.step.succeeded'", (5,)),
    "payment.step.refunded": (_EVENT_COUNT + "'payment.step.refunded'", (2,)),
    "sandbox refunds": (
        "SELECT count(*), sum(amount_minor)::bigint FROM orchestration.sandbox_order"
        " WHERE tenant_id = %(t)s AND done AND operation = 'REFUND'",
        (2, BACK_MINOR + REFUNDED_MINOR),
    ),
    "stock.moved": (_EVENT_COUNT + "'stock.moved'", (TOLD,)),
    "event types": (
        "SELECT count(*) FROM events.event_type_version WHERE tenant_id = %(t)s",
        (1,),
    ),
    "rating.completed": (_EVENT_COUNT + "'rating.completed'", (2,)),
    "charge.reversed": (_EVENT_COUNT + "'charge.reversed'", (1,)),
    # Two charges are in the books and one was adjusted, one found an account closed; one could not be rated.
    "usage.aggregated": (_EVENT_COUNT + "'usage.aggregated'", (4,)),
    "usage.rated": (_EVENT_COUNT + "'usage.rated'", (4,)),
    "rating.failed": (_EVENT_COUNT + "'rating.failed'", (1,)),
    "plan.created": (_EVENT_COUNT + "'plan.created'", (3,)),
    "plan.deprecated": (_EVENT_COUNT + "'plan.deprecated'", (1,)),
    # Who was on the old plan, and who was put on a model.
    "moves": (
        "SELECT string_agg(plan_id, ',' ORDER BY effective_at) FROM pricing.entitlement"
        " WHERE tenant_id = %(t)s AND org_id = 'old-org'",
        ("old,next",),
    ),
    "assignments": (
        "SELECT count(*) FROM pricing.org_business_model WHERE tenant_id = %(t)s",
        (1,),
    ),
    "violations": (
        "SELECT count(*) FROM monitoring.violation"
        " WHERE tenant_id = %(t)s AND contract_id = 'shop/promise'",
        (1,),
    ),
}

# The same without the payment whose answer gets lost.
_WITHOUT_THE_LOST: dict[str, tuple[object, ...]] = {
    "chain": (TRANSFERS - 1, TRANSFERS - 1, 0),
    "transfers": (
        TRANSFERS - 1,
        TOTAL_MINOR
        + COMMISSION_MINOR
        + TOTAL_MINOR
        + 2 * BACK_MINOR
        + SHORT_MINOR
        + 3 * HELD_MINOR
        + MOVES * MOVED_MINOR
        + SOON_MINOR
        + 4 * (MENDED_MINOR + MENDED_TAX_MINOR)
        + CAPTURED_MINOR
        + REFUNDED_MINOR
        + 3 * COMMISSION_MINOR
        + ASKED_MINOR
        + CASH_MINOR
        + CASH_BACK_MINOR
        + 4 * CREDIT_MINOR,
    ),
    "sandbox charges": (3, TOTAL_MINOR + BACK_MINOR),
    "bookings": (6, 6),
    "payments": (1,),
    "payment.received": (3,),
    "payment.step.succeeded": (4,),
}
