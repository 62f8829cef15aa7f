"""One tenant's whole estate: something of everything that the mesh keeps, recognisable by its marker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from payments.access.v1 import access_service_pb2, access_service_pb2_grpc
from payments.agreements.v1 import (
    agreement_service_pb2,
    agreement_service_pb2_grpc,
    agreements_pb2,
)
from payments.config.v1 import config_pb2
from payments.contracts.v1 import contracts_pb2, contracts_service_pb2, contracts_service_pb2_grpc
from payments.events.v1 import (
    events_pb2,
    events_service_pb2,
    events_service_pb2_grpc,
    timers_pb2,
    webhooks_pb2,
)
from payments.ledger.v1 import (
    integrity_pb2,
    ledger_pb2,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    monitor_pb2,
    recipe_pb2,
)
from payments.metering.v1 import (
    corrections_pb2,
    guardrail_service_pb2,
    guardrail_service_pb2_grpc,
    guardrails_pb2,
    metering_service_pb2,
    metering_service_pb2_grpc,
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
from payments.settlement.v1 import (
    payout_service_pb2,
    payout_service_pb2_grpc,
    settlement_pb2,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
)
from payments.type.v1 import type_pb2

from services.cli import periods
from services.cli.client import Client, Session
from services.cli.commands.catalog import apply_catalog, parse_catalog
from services.cli.commands.charges import create_charge
from services.cli.commands.payments import create_payment, external_request
from services.runtime.edge import json_messages
from services.runtime.ids import new_id

PERIOD = periods.parse("2026-01")
USED_AT = datetime(2026, 1, 15, tzinfo=UTC)
CLOSED_THROUGH = datetime(2019, 12, 31, tzinfo=UTC)
SETTLES_WITHIN_S = 30.0
# What every tenant calls the same: names are each tenant's own.
SHARED_ORG = "shared-org"
SHARED_ACCOUNT = "shared:USD"
SHARED_SUBJECT = "shared.moved"
SHARED_SCHEDULE = "morning"


@dataclass(slots=True)
class Estate:
    """A tenant and what it has.

    Attributes:
        marker: part of every name that the tenant chose, and of no other tenant's.
        uses: how many times each of its organisations used its SKU; tells apart what is named the same.
        session: how to reach the mesh as this tenant.
        ids: what the mesh named: charge_id, payment_id, key_id and transfer ids.
    """

    marker: str
    uses: int
    session: Session
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def tenant(self) -> str:
        """The tenant's id."""
        return f"{self.marker}-tenant"

    @property
    def accept_past_seconds(self) -> int:
        """A setting that no two tenants have alike."""
        return 3_000 * 86_400 + self.uses

    @property
    def total_minor(self) -> int:
        """What its organisation is charged: 1.00 a use."""
        return 100 * self.uses

    def name(self, what: str) -> str:
        """A name of the tenant's own."""
        return f"{self.marker}-{what}"

    def marks(self) -> list[bytes]:
        """What no answer to another tenant may hold."""
        return [self.marker.encode(), *(text.encode() for text in self.ids.values())]

    def build(self) -> None:
        """Make all of it, and wait until its events have arrived."""
        with Client(self.session) as client:
            self._configure(client)
            self._ingest(client)
            self._put_policy(client)
            self._order(client)
            self._credit(client)
            self._agree(client)
            charge = create_charge(client, self.name("org"), PERIOD)
            assert charge.total.minor_units == self.total_minor
            self.ids["charge"] = charge.charge_id
            self.ids |= {f"transfer {n}": text for n, text in enumerate(charge.transfer_ids)}
            self._limit(client)
            self._open_account(client)
            self._put_recipe(client)
            self._pay(client)
            self._watch(client)
            self._register(client)
            self._hook(client)
            self._tell(client)
            self._unhook(client)
            self._await_times(client)
            self._settle(client)
            self._pay_out(client)
            self._be_late(client)
            self._replay(client)
            self._prove(client)

    def _configure(self, client: Client) -> None:
        metering = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        settings = metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid4()))
        settings.accept_past.seconds = self.accept_past_seconds
        client.call(metering.UpdateIngestSettings, settings)
        apply_catalog(client, parse_catalog(self.catalog(), self.marker))
        merchants = client.stub(orchestration_service_pb2_grpc.MerchantConfigServiceStub)
        config = config_pb2.MerchantConfig(merchant_id=self.name("shop"))
        config.methods.add(method="wallet", processor_id="sandbox-wallet")
        config.processors.add(processor_id=self.name("till"), adapter="sandbox")
        limit = config.limits.add(name="often", scope=config_pb2.LIMIT_SCOPE_MERCHANT)
        limit.window.FromSeconds(3600)
        limit.payments_max = 100_000
        put = orchestration_service_pb2.PutMerchantConfigRequest(
            request_id=str(uuid4()), config=config
        )
        client.call(merchants.PutMerchantConfig, put)
        keys = client.stub(access_service_pb2_grpc.AccessServiceStub)
        create = access_service_pb2.CreateApiKeyRequest(
            request_id=str(uuid4()), name=self.name("key"), scopes=["ledger:read"]
        )
        self.ids["key"] = client.call(keys.CreateApiKey, create).api_key.key_id

    def catalog(self) -> dict[str, object]:
        """A SKU, a plan and a partner, and who is on the plan."""
        return {
            "skus": [
                {
                    "sku": self.name("calls"),
                    "type": "SKU_TYPE_ACTION",
                    "unit": "call",
                    "aggregation": "AGGREGATION_SUM",
                },
                {
                    "sku": self.name("disk"),
                    "type": "SKU_TYPE_HOSTING",
                    "unit": "hour",
                    "aggregation": "AGGREGATION_WEIGHTED_SUM",
                },
            ],
            "plans": [
                {
                    "plan_id": self.name("plan"),
                    "name": self.name("plan"),
                    "currency_code": "USD",
                    "status": "STATUS_ACTIVE",
                    "prices": [
                        {"sku": self.name(sku), "price": {"per_unit": {"unit_amount": "1"}}}
                        for sku in ("calls", "disk")
                    ],
                },
                *(
                    {
                        "plan_id": self.name(draft),
                        "name": self.name(draft),
                        "currency_code": "USD",
                        "status": "STATUS_DRAFT",
                        "prices": [
                            {"sku": self.name("calls"), "price": {"per_unit": {"unit_amount": "1"}}}
                        ],
                    }
                    for draft in ("draft", "spare")
                ),
            ],
            "entitlements": [
                {
                    "org_id": org_id,
                    "plan_id": self.name("plan"),
                    "effective_at": "2020-01-01T00:00:00Z",
                }
                for org_id in (self.name("org"), SHARED_ORG)
            ],
            "business_models": [
                {
                    "model_id": self.name("model"),
                    "code": self.name("model"),
                    "name": self.name("model"),
                    "status": "STATUS_ACTIVE",
                    "currency_code": "USD",
                    "default_plan_id": self.name("plan"),
                }
            ],
            "org_business_models": [
                {
                    "org_id": self.name("other-org"),
                    "model_id": self.name("model"),
                    "plan_id": self.name("plan"),
                }
            ],
            "partners": [
                {"partner_id": self.name("partner"), "name": self.name("partner"), "tier": "gold"}
            ],
            "partners_of_record": [
                {
                    "org_id": self.name("org"),
                    "partner_id": self.name("partner"),
                    "start_at": "2020-01-01T00:00:00Z",
                    "status": "STATUS_ACTIVE",
                }
            ],
            "billing_account_orgs": [
                {"billing_account_id": self.name("group"), "org_id": self.name("other-org")}
            ],
            "billing_account_partners": [
                {"billing_account_id": self.name("group"), "partner_id": self.name("partner")}
            ],
            "commission_rates": [
                {"partner_tier": "gold", "pct": "10"},
                {"partner_tier": self.name("tier"), "pct": "5"},
            ],
            "tax_rates": [
                {
                    "jurisdiction": "DE",
                    "tax": self.name("vat"),
                    "rate_percent": "19",
                    "authority": self.name("revenue"),
                }
            ],
            "tax_profiles": [
                {"org_id": org_id, "country": "DE", "tax_id": self.name("de")}
                for org_id in (self.name("org"), self.name("other-org"), SHARED_ORG)
            ],
            "tax_policies": [{"missing": "TAX_MISSING_UNTAXED"}],
        }

    def events(self) -> metering_service_pb2.IngestEventsRequest:
        """The usage of both organisations; one event more, of a SKU that there is not."""
        request = metering_service_pb2.IngestEventsRequest()
        for org_id in (self.name("org"), SHARED_ORG):
            for number in range(self.uses):
                event = request.events.add(
                    request_id=f"{org_id}-use-{number}",
                    org_id=org_id,
                    project_id=self.name("project"),
                    sku=self.name("calls"),
                    quantity="1",
                    metadata={"who": self.marker},
                )
                event.event_time.FromDatetime(USED_AT)
        lost = request.events.add(
            request_id=self.name("lost"), org_id=SHARED_ORG, sku=self.name("none"), quantity="1"
        )
        lost.event_time.FromDatetime(USED_AT)
        return request

    def _ingest(self, client: Client) -> None:
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        answer = client.call(stub.IngestEvents, self.events())
        assert (answer.accepted, answer.rejected) == (2 * self.uses, 1), answer
        self.ids["receipt"] = answer.receipt_id
        self._amend(client)

    def _amend(self, client: Client) -> None:
        """Use something in an organisation that nobody charges, and correct it."""
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        request = metering_service_pb2.IngestEventsRequest()
        event = request.events.add(
            request_id=self.name("spare"),
            org_id=self.name("spare-org"),
            sku=self.name("calls"),
            quantity="1",
        )
        event.event_time.FromDatetime(USED_AT)
        client.call(stub.IngestEvents, request)
        amend = corrections_pb2.AmendEventsRequest(request_id=str(uuid4()))
        amend.amendments.add(event=event, reason=self.name("reason"))
        amend.amendments[0].event.quantity = "2"
        assert client.call(stub.AmendEvents, amend).accepted == 1

    def _be_late(self, client: Client) -> None:
        """Send usage behind its charge, once metering has heard of that."""
        stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        request = metering_service_pb2.IngestEventsRequest()
        late = request.events.add(
            request_id=self.name("late"),
            org_id=self.name("org"),
            sku=self.name("calls"),
            quantity="1",
        )
        late.event_time.FromDatetime(USED_AT)
        assert client.call(stub.IngestEvents, request).accepted == 1
        found = client.call(stub.ListLateEvents, metering_service_pb2.ListLateEventsRequest())
        assert [item.request_id for item in found.late_events] == [self.name("late")]

    def budget(self, limit_quantity: str = "1000") -> guardrails_pb2.Budget:
        """A budget of an organisation of its own."""
        return guardrails_pb2.Budget(
            budget_id=self.name("budget"),
            org_id=self.name("org"),
            period=guardrails_pb2.BUDGET_PERIOD_TOTAL,
            limit_quantity=limit_quantity,
            mode=guardrails_pb2.BUDGET_MODE_HARD,
            description=self.name("limit"),
        )

    def _limit(self, client: Client) -> None:
        """Put a budget, and hold something of it."""
        stub = client.stub(guardrail_service_pb2_grpc.GuardrailServiceStub)
        put = guardrail_service_pb2.PutBudgetRequest(request_id=str(uuid4()), budget=self.budget())
        client.call(stub.PutBudget, put)
        reserve = guardrail_service_pb2.ReserveRequest(
            request_id=str(uuid4()), org_id=self.name("org"), sku=self.name("calls"), quantity="1"
        )
        reserve.hold_for.FromSeconds(86_400)
        self.ids["budget hold"] = client.call(stub.Reserve, reserve).hold.hold_id

    def _open_account(self, client: Client) -> None:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        account = ledger_pb2.Account(
            account_id=SHARED_ACCOUNT,
            currency_code="USD",
            type=ledger_pb2.ACCOUNT_TYPE_ASSET,
            owner=self.name("owner"),
            metadata={"who": self.marker},
        )
        other = ledger_pb2.Account(
            account_id=self.name("held"),
            currency_code="USD",
            type=ledger_pb2.ACCOUNT_TYPE_LIABILITY,
        )
        request = ledger_service_pb2.CreateAccountsRequest(accounts=[account, other])
        for result in client.call(stub.CreateAccounts, request).results:
            assert result.result == ledger_service_pb2.ACCOUNT_RESULT_OK
        self.ids["hold"] = str(uuid4())
        hold = ledger_pb2.Transfer(
            transfer_id=self.ids["hold"],
            debit_account_id=SHARED_ACCOUNT,
            credit_account_id=self.name("held"),
            amount=type_pb2.Money(currency_code="USD", minor_units=self.uses),
            kind=ledger_pb2.KIND_PENDING,
        )
        self.ids["scheduled"] = str(uuid4())
        scheduled = ledger_pb2.Transfer(
            transfer_id=self.ids["scheduled"],
            debit_account_id=SHARED_ACCOUNT,
            credit_account_id=self.name("held"),
            amount=type_pb2.Money(currency_code="USD", minor_units=self.uses),
        )
        scheduled.not_before.FromDatetime(datetime(2100, 1, 1, tzinfo=UTC))
        posting = ledger_service_pb2.PostTransfersRequest(transfers=[hold, scheduled])
        posted, waits = client.call(stub.PostTransfers, posting).results
        assert posted.result == ledger_service_pb2.TRANSFER_RESULT_OK
        assert waits.result == ledger_service_pb2.TRANSFER_RESULT_SCHEDULED
        put = monitor_pb2.PutBalanceMonitorRequest(
            request_id=str(uuid4()), monitor=self.monitor(self.name("monitor"))
        )
        client.call(stub.PutBalanceMonitor, put)
        close = ledger_service_pb2.ClosePeriodRequest(request_id=str(uuid4()), currency_code="USD")
        close.closed_through.FromDatetime(CLOSED_THROUGH)
        client.call(stub.ClosePeriod, close)
        reopen = ledger_service_pb2.ReopenPeriodRequest(
            request_id=str(uuid4()), currency_code="USD", reason=self.name("late invoice")
        )
        reopen.closed_through.FromDatetime(CLOSED_THROUGH - timedelta(days=31))
        client.call(stub.ReopenPeriod, reopen)

    def monitor(self, monitor_id: str) -> monitor_pb2.BalanceMonitor:
        """A monitor of an account of the tenant's own."""
        return monitor_pb2.BalanceMonitor(
            monitor_id=monitor_id,
            account_id=self.name("held"),
            comparison=monitor_pb2.COMPARISON_ABOVE,
            threshold=type_pb2.Money(currency_code="USD", minor_units=self.uses),
            description=self.name("threshold"),
        )

    def recipe(self) -> recipe_pb2.Recipe:
        """A recipe of its own."""
        account = {"currency": "{amount.currency}", "type": "ACCOUNT_TYPE_ASSET"}
        amount = {"name": "amount", "type": "PARAMETER_TYPE_AMOUNT"}
        document = {
            "name": self.name("recipe"),
            "description": self.marker,
            "parameters": [amount],
            "accounts": [
                {"name": name, "account_id": f"{self.name(name)}:{{amount.currency}}", **account}
                for name in ("from", "to")
            ],
            "legs": [{"name": "moved", "debit": "to", "credit": "from", "amount": "amount"}],
        }
        return json_messages.parse(document, recipe_pb2.Recipe())

    def fact(self) -> ledger_service_pb2.RecipePosting:
        """What it posts by its recipe."""
        fact = ledger_service_pb2.RecipePosting(
            recipe=self.name("recipe"),
            reference=ledger_pb2.Reference(kind="move", id=self.name("move")),
        )
        amount = fact.parameters["amount"].amount
        amount.CopyFrom(type_pb2.Money(currency_code="USD", minor_units=self.uses))
        return fact

    def _put_recipe(self, client: Client) -> None:
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        put = ledger_service_pb2.PutRecipeRequest(request_id=str(uuid4()), recipe=self.recipe())
        assert client.call(stub.PutRecipe, put).recipe.version == 1
        post = ledger_service_pb2.PostRecipesRequest(postings=[self.fact()])
        (result,) = client.call(stub.PostRecipes, post).results
        self.ids["posting"] = result.posting.posting_id
        assert self.ids["posting"], result
        back = ledger_service_pb2.ReverseTransferRequest(
            request_id=str(uuid4()),
            transfer_id=result.posting.legs[0].transfer.transfer.transfer_id,
            reason="estate",
        )
        assert client.call(stub.ReverseTransfer, back).transfer.reverses_transfer_id

    def _pay(self, client: Client) -> None:
        body = external_request(
            self.name("shop"),
            self.name("order"),
            self.name("person"),
            f"{self.uses}.00",
            "USD",
            ["wallet"],
            org=self.name("org"),
        )
        payment = create_payment(client, body, str(uuid4())).payment
        assert payment.status == orchestration_pb2.PAYMENT_STATUS_SUCCEEDED
        self.ids["payment"] = payment.payment_id
        self.ids["attempt"] = payment.attempts[0].attempt_id
        # One that is only authorised, and let go: the books do not move.
        held = {
            "merchant_id": self.name("shop"),
            "order_id": self.name("held"),
            "person_id": self.name("person"),
            "amount": "1.00",
            "currency": "USD",
            "method": "wallet",
            "capture": "manual",
        }
        authorized = create_payment(client, json.dumps(held).encode(), str(uuid4())).payment
        stub = client.stub(orchestration_service_pb2_grpc.PaymentServiceStub)
        void = orchestration_service_pb2.VoidPaymentRequest(
            request_id=str(uuid4()), payment_id=authorized.payment_id, reason=self.name("why")
        )
        given = client.call(stub.VoidPayment, void).instruction
        assert given.status == orchestration_pb2.INSTRUCTION_STATUS_SUCCEEDED
        # One that cannot be charged: it is stored with what was sent.
        odd = json.dumps({"merchant_id": self.name("nobody"), "amount": "odd"}).encode()
        refused = create_payment(client, odd, str(uuid4())).payment
        assert refused.status == orchestration_pb2.PAYMENT_STATUS_REFUSED

    def _watch(self, client: Client) -> None:
        stub = client.stub(contracts_service_pb2_grpc.ContractMonitorServiceStub)
        contract = contracts_pb2.Contract(
            contract_id=f"{self.marker}/promise",
            title=self.name("promise"),
            owner=self.marker,
            severity="LOW",
            kind=contracts_pb2.CONTRACT_KIND_POLICY,
        )
        register = contracts_service_pb2.RegisterContractsRequest(contracts=[contract])
        client.call(stub.RegisterContracts, register)
        violation = contracts_pb2.ContractViolation(
            contract_id=contract.contract_id,
            request_id=self.name("seen"),
            severity="LOW",
            message=self.name("message"),
        )
        record = contracts_service_pb2.RecordViolationsRequest(violations=[violation])
        client.call(stub.RecordViolations, record)

    def event_type(self) -> events_pb2.EventType:
        """A type of events that every tenant has under the same subject, each its own way."""
        found = events_pb2.EventType(
            subject=SHARED_SUBJECT, owner=self.marker, description=self.name("description")
        )
        schema = {"type": "object", "required": ["who"], "title": self.name("schema")}
        found.versions.add(version=1, json_schema=json.dumps(schema))
        return found

    def told(self) -> events_pb2.Event:
        """An event that came from outside."""
        return events_pb2.Event(
            id=self.name("told"),
            subject=SHARED_SUBJECT,
            json=json.dumps({"who": self.marker}).encode(),
        )

    def told_as_cloud_event(self) -> bytes:
        """An event that came from outside as a CloudEvent, with a source to be kept."""
        attributes = {
            "specversion": "1.0",
            "id": self.name("cloud"),
            "source": f"/{self.marker}",
            "type": SHARED_SUBJECT,
            "data": {"who": self.marker},
        }
        return json.dumps(attributes).encode()

    def _register(self, client: Client) -> None:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        own = events_pb2.EventType(subject=f"{self.marker}.moved", owner=self.marker)
        for version in (1, 2):
            own.versions.add(version=version, json_schema="{}")
        register = events_service_pb2.RegisterEventTypesRequest(
            event_types=[self.event_type(), own]
        )
        for registered in client.call(stub.RegisterEventTypes, register).results:
            assert registered.outcome == type_pb2.OUTCOME_ACCEPTED, registered

    def _tell(self, client: Client) -> None:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        publish = events_service_pb2.PublishEventsRequest(events=[self.told()])
        (published,) = client.call(stub.PublishEvents, publish).results
        assert published.outcome == type_pb2.OUTCOME_ACCEPTED, published
        told = events_service_pb2.PublishCloudEventsRequest(
            content_type="application/cloudevents+json", raw_request=self.told_as_cloud_event()
        )
        (published,) = client.call(stub.PublishCloudEvents, told).results
        assert published.outcome == type_pb2.OUTCOME_ACCEPTED, published

    def webhook(self) -> events_service_pb2.CreateWebhookEndpointRequest:
        """An endpoint that no request reaches: it leads to this machine, which the operator does not list."""
        return events_service_pb2.CreateWebhookEndpointRequest(
            request_id=str(uuid4()),
            url=f"https://localhost/{self.marker}",
            subjects=[SHARED_SUBJECT],
        )

    def _hook(self, client: Client) -> None:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        made = client.call(stub.CreateWebhookEndpoint, self.webhook())
        self.ids["webhook"] = made.endpoint.endpoint_id

    def _unhook(self, client: Client) -> None:
        """Disable the endpoint once something was tried, so that nothing of it moves any more."""
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        attempts = events_service_pb2.ListWebhookAttemptsRequest(event_id=self.name("told"))
        self._await(lambda: client.call(stub.ListWebhookAttempts, attempts).attempts)
        update = events_service_pb2.UpdateWebhookEndpointRequest(
            request_id=str(uuid4()), endpoint_id=self.ids["webhook"], disabled=True
        )
        client.call(stub.UpdateWebhookEndpoint, update)
        skipped = events_service_pb2.ListWebhookDeliveriesRequest(
            endpoint_id=self.ids["webhook"], status=webhooks_pb2.WEBHOOK_DELIVERY_STATUS_SKIPPED
        )
        self._await(lambda: len(client.call(stub.ListWebhookDeliveries, skipped).deliveries) == 2)

    def _await(self, done: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + SETTLES_WITHIN_S
        while not done():
            assert time.monotonic() < give_up_at, "it did not settle"
            time.sleep(0.05)

    def schedule(self) -> timers_pb2.Schedule:
        """A schedule that every tenant has under the same name, each its own way."""
        return timers_pb2.Schedule(
            name=SHARED_SCHEDULE,
            cron="0 9 * * *",
            subject=SHARED_SUBJECT,
            json=json.dumps({"who": self.marker}).encode(),
        )

    def _await_times(self, client: Client) -> None:
        """Put a schedule, and remember the timer that waits for the cutover of a version."""
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        put = events_service_pb2.PutScheduleRequest(
            request_id=str(uuid4()), schedule=self.schedule()
        )
        client.call(stub.PutSchedule, put)
        timers = client.call(stub.ListTimers, events_service_pb2.ListTimersRequest()).timers
        (cutover,) = [timer for timer in timers if timer.key.startswith("event-type/")]
        self.ids["timer"] = cutover.timer_id

    def _replay(self, client: Client) -> None:
        """Have the monitor record its violations again, which changes nothing."""
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        replay = events_service_pb2.ReplayEventsRequest(
            request_id=str(uuid4()),
            consumer="monitoring.violations",
            period=periods.parse("2020-01-01/2100-01-01"),
        )
        assert client.call(stub.ReplayEvents, replay).replayed_count >= 1

    def _settle(self, client: Client) -> None:
        """Wait for the payment to be in the books, which it is soon after it was charged."""
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        request = ledger_service_pb2.GetAccountRequest(
            account_id=f"receivable:{self.name('org')}:USD"
        )
        give_up_at = time.monotonic() + SETTLES_WITHIN_S
        while client.call(stub.GetAccount, request).account.balances.credits_posted == 0:
            assert time.monotonic() < give_up_at, "the payment did not reach the ledger"
            time.sleep(0.05)

    def _put_policy(self, client: Client) -> None:
        """Have commissions paid at once, and a partner's own policy say nothing else."""
        stub = client.stub(settlement_service_pb2_grpc.SettlementServiceStub)
        for seller in ("", self.name("partner")):
            request = settlement_service_pb2.PutSettlementPolicyRequest(request_id=str(uuid4()))
            request.policy.seller = seller
            request.policy.payout_threshold.CopyFrom(usd(0))
            client.call(stub.PutSettlementPolicy, request)

    def _order(self, client: Client) -> None:
        """Make an order, and change all of it that may change."""
        stub = client.stub(order_service_pb2_grpc.OrderServiceStub)
        self.ids["person"], self.ids["seller"] = new_id("per"), new_id("org")
        order = orders_pb2.Order(
            person_id=self.ids["person"],
            organization_id=self.ids["seller"],
            amount_total=usd(self.total_minor),
            created_via=self.name("shop"),
            notes=self.name("notes"),
            operator_flags=[self.name("flag")],
        )
        create = order_service_pb2.CreateOrderRequest(request_id=str(uuid4()), order=order)
        self.ids["order"] = client.call(stub.CreateOrder, create).order.order_id
        cancel = order_service_pb2.CancelOrderRequest(
            request_id=str(uuid4()),
            order_id=self.ids["order"],
            reason=self.name("reason"),
            updated_via=self.name("desk"),
        )
        client.call(stub.CancelOrder, cancel)
        create.request_id = str(uuid4())
        self.ids["paid-order"] = client.call(stub.CreateOrder, create).order.order_id
        record = order_service_pb2.RecordPaymentRequest(
            request_id=str(uuid4()),
            order_id=self.ids["paid-order"],
            method="check",
            amount=usd(self.total_minor),
            operator=self.name("operator"),
            check_number=self.name("check"),
        )
        self.ids["action"] = client.call(
            stub.RecordPayment, record
        ).external_action.external_action_id
        refund = order_service_pb2.InitiateRefundRequest(
            request_id=str(uuid4()),
            order_id=record.order_id,
            amount=usd(self.uses),
            reason=self.name("refund-reason"),
            initiated_by=self.name("operator"),
        )
        self.ids["refund"] = client.call(stub.InitiateRefund, refund).refund.refund_id
        actions = order_service_pb2.ListExternalActionsRequest(order_id=record.order_id)
        give_up_at = time.monotonic() + SETTLES_WITHIN_S
        while not all(
            each.posting_id
            for each in client.call(stub.ListExternalActions, actions).external_actions
        ):
            assert time.monotonic() < give_up_at, "the check did not reach the ledger"
            time.sleep(0.05)

    def _credit(self, client: Client) -> None:
        """Give credits."""
        stub = client.stub(credit_service_pb2_grpc.CreditServiceStub)
        wanted = credits_pb2.Grant(
            owner_id=self.name("owner"),
            unit=self.name("unit"),
            amount=str(self.uses),
            source="PURCHASED",
            order_id=self.name("credit-order"),
        )
        wanted.expires_at.FromDatetime(datetime(2099, 1, 1, tzinfo=UTC))
        request = credit_service_pb2.GrantCreditsRequest(request_id=str(uuid4()), grant=wanted)
        self.ids["grant"] = client.call(stub.GrantCredits, request).grant.grant_id

    def _agree(self, client: Client) -> None:
        """Begin an agreement about one product."""
        begin = agreements_pb2.Create(
            buyer=self.name("buyer"), seller=self.name("vendor"), currency_code="USD"
        )
        begin.term.start_at.GetCurrentTime()
        product = agreements_pb2.Product(
            product_id=self.name("product"),
            sku=self.name("sku"),
            quantity=str(self.uses),
            unit_price="1",
        )
        request = agreement_service_pb2.ApplyEditsRequest(
            request_id=str(uuid4()),
            edits=[
                agreements_pb2.Edit(create=begin),
                agreements_pb2.Edit(add_product=agreements_pb2.AddProduct(product=product)),
            ],
        )
        stub = client.stub(agreement_service_pb2_grpc.AgreementServiceStub)
        # Before it begins there is nothing, and the mesh's clock is not the estate's.
        request.effective_at.CopyFrom(begin.term.start_at)
        self.ids["agreement"] = client.call(stub.ApplyEdits, request).agreement.agreement_id

    def _pay_out(self, client: Client) -> None:
        """Wait until the partner's tenth is claimed; sweep what is left, which is nothing."""
        stub = client.stub(payout_service_pb2_grpc.PayoutServiceStub)
        request = payout_service_pb2.ListPayoutsRequest(status=settlement_pb2.PAYOUT_STATUS_CLAIMED)
        give_up_at = time.monotonic() + SETTLES_WITHIN_S
        while not (found := client.call(stub.ListPayouts, request).payouts):
            assert time.monotonic() < give_up_at, "the commission was not claimed"
            time.sleep(0.05)
        self.ids["payout"] = found[0].payout_id
        sweep = payout_service_pb2.SweepCommissionsRequest(request_id=str(uuid4()))
        self.ids["sweep"] = client.call(stub.SweepCommissions, sweep).sweep.sweep_id

    def _prove(self, client: Client) -> None:
        """Verify the books, and wait until all that was posted is in a block."""
        stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
        give_up_at = time.monotonic() + SETTLES_WITHIN_S
        while True:
            transfers = 0
            verify = ledger_service_pb2.VerifyIntegrityRequest()
            for answer in client.stream(stub.VerifyIntegrity, verify):
                assert not answer.HasField("finding"), answer
                if answer.progress.integrity_check == integrity_pb2.INTEGRITY_CHECK_TRANSFERS:
                    transfers = answer.progress.looked_at
            blocks = ledger_service_pb2.ListBlocksRequest(newest_first=True, page_size=1)
            found = client.call(stub.ListBlocks, blocks).blocks
            if found and found[0].transfer_total == transfers:
                break
            assert time.monotonic() < give_up_at, "not all is in a block"
            time.sleep(0.2)
        client.call(stub.GetLedgerHead, ledger_service_pb2.GetLedgerHeadRequest())


def usd(minor_units: int) -> type_pb2.Money:
    """An amount in US dollars."""
    return type_pb2.Money(currency_code="USD", minor_units=minor_units)
