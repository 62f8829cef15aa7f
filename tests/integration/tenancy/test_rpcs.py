"""Through no RPC does a tenant see, or touch, what is another's.

Which RPCs there are comes from the descriptors: one without an entry here fails the suite.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from payments.access.v1 import access_service_pb2
from payments.agreements.v1 import agreement_service_pb2, agreements_pb2
from payments.billing.v1 import charge_service_pb2
from payments.config.v1 import config_pb2
from payments.contracts.v1 import contracts_pb2, contracts_service_pb2
from payments.events.v1 import events_service_pb2
from payments.ledger.v1 import (
    integrity_pb2,
    ledger_pb2,
    ledger_service_pb2,
    monitor_pb2,
    posting_pb2,
    scheduled_pb2,
)
from payments.metering.v1 import (
    corrections_pb2,
    drift_pb2,
    guardrail_service_pb2,
    metering_service_pb2,
    receipts_pb2,
    rollups_pb2,
    spool_pb2,
)
from payments.orchestration.v1 import orchestration_pb2, orchestration_service_pb2
from payments.orders.v1 import credit_service_pb2, credits_pb2, order_service_pb2, orders_pb2
from payments.pricing.v1 import catalog_service_pb2, pricing_service_pb2
from payments.settlement.v1 import payout_service_pb2, settlement_pb2, settlement_service_pb2
from payments.type.v1 import type_pb2

from services.cli import periods
from services.cli.commands.catalog import parse_catalog
from services.runtime.edge.status import DETAILS_KEY
from tests.integration.tenancy.estate import (
    PERIOD,
    SHARED_ACCOUNT,
    SHARED_ORG,
    SHARED_SCHEDULE,
    SHARED_SUBJECT,
    USED_AT,
    Estate,
    usd,
)
from tools import schemas

pytestmark = pytest.mark.xdist_group("tenancy")

METHODS = {
    method.full_name.removeprefix("payments."): method
    for method in schemas.compiled(Path(__file__).parents[3]).methods
}
STREAM_ANSWERS_MAX = 500
DECEMBER = periods.parse("2025-12")
STREAM_QUIET_S = 3.0

# What each read answers when a tenant asks for something of its own; without ids where it lists everything.
OWN: dict[str, Callable[[Estate], Message]] = {
    "access.v1.AccessService.ListApiKeys": lambda own: access_service_pb2.ListApiKeysRequest(
        page_size=1000
    ),
    "billing.v1.ChargeService.GetCharge": lambda own: charge_service_pb2.GetChargeRequest(
        charge_id=own.ids["charge"]
    ),
    "billing.v1.ChargeService.ListCharges": lambda own: charge_service_pb2.ListChargesRequest(
        page_size=1000
    ),
    "billing.v1.ChargeService.ExplainCharge": lambda own: charge_service_pb2.ExplainChargeRequest(
        charge_id=own.ids["charge"]
    ),
    "billing.v1.ChargeService.PreviewCharge": lambda own: charge_service_pb2.PreviewChargeRequest(
        org_id=own.name("org"), period=DECEMBER
    ),
    "contracts.v1.ContractMonitorService.ListContracts": lambda own: (
        contracts_service_pb2.ListContractsRequest(page_size=1000)
    ),
    "contracts.v1.ContractMonitorService.ListViolations": lambda own: (
        contracts_service_pb2.ListViolationsRequest(page_size=1000)
    ),
    "events.v1.EventService.ListConsumers": lambda _own: events_service_pb2.ListConsumersRequest(),
    "events.v1.EventService.ListDeadLetters": lambda _own: (
        events_service_pb2.ListDeadLettersRequest()
    ),
    "events.v1.EventService.ListEvents": lambda own: events_service_pb2.ListEventsRequest(
        page_size=1000
    ),
    "events.v1.EventService.TailEvents": lambda own: events_service_pb2.TailEventsRequest(
        after=first_cursor(own)
    ),
    "events.v1.EventService.ListEventTypes": lambda own: events_service_pb2.ListEventTypesRequest(
        page_size=1000
    ),
    "events.v1.EventService.GetEventType": lambda own: events_service_pb2.GetEventTypeRequest(
        subject=SHARED_SUBJECT
    ),
    "events.v1.EventService.GetWebhookEndpoint": lambda own: (
        events_service_pb2.GetWebhookEndpointRequest(endpoint_id=own.ids["webhook"])
    ),
    "events.v1.EventService.ListWebhookEndpoints": lambda own: (
        events_service_pb2.ListWebhookEndpointsRequest(page_size=1000)
    ),
    "events.v1.EventService.ListWebhookDeliveries": lambda own: (
        events_service_pb2.ListWebhookDeliveriesRequest(endpoint_id=own.ids["webhook"])
    ),
    "events.v1.EventService.ListWebhookAttempts": lambda own: (
        events_service_pb2.ListWebhookAttemptsRequest(page_size=1000)
    ),
    "events.v1.EventService.ListTimers": lambda own: events_service_pb2.ListTimersRequest(
        page_size=1000
    ),
    "events.v1.EventService.ListSchedules": lambda own: events_service_pb2.ListSchedulesRequest(
        page_size=1000
    ),
    "events.v1.EventService.ListJourneys": lambda own: events_service_pb2.ListJourneysRequest(
        page_size=1000
    ),
    "events.v1.EventService.GetJourney": lambda own: events_service_pb2.GetJourneyRequest(
        journey_type="seasoning", journey_id=own.name("journey")
    ),
    "ledger.v1.LedgerService.GetAccount": lambda own: ledger_service_pb2.GetAccountRequest(
        account_id=SHARED_ACCOUNT
    ),
    "ledger.v1.LedgerService.ListAccounts": lambda own: ledger_service_pb2.ListAccountsRequest(
        page_size=1000
    ),
    "ledger.v1.LedgerService.ListEntries": lambda own: ledger_service_pb2.ListEntriesRequest(
        account_id="commission:USD"
    ),
    "ledger.v1.LedgerService.GetTransfer": lambda own: ledger_service_pb2.GetTransferRequest(
        transfer_id=own.ids["hold"]
    ),
    "ledger.v1.LedgerService.ListTransfers": lambda own: ledger_service_pb2.ListTransfersRequest(
        page_size=1000
    ),
    "ledger.v1.LedgerService.GetStatement": lambda own: statement_of("commission:USD"),
    "ledger.v1.LedgerService.GetRecipe": lambda own: ledger_service_pb2.GetRecipeRequest(
        name=own.name("recipe")
    ),
    "ledger.v1.LedgerService.ListRecipes": lambda own: ledger_service_pb2.ListRecipesRequest(),
    "ledger.v1.LedgerService.ListScheduledTransfers": lambda own: (
        scheduled_pb2.ListScheduledTransfersRequest(page_size=1000)
    ),
    "ledger.v1.LedgerService.ListBalanceMonitors": lambda own: (
        monitor_pb2.ListBalanceMonitorsRequest(page_size=1000)
    ),
    "ledger.v1.LedgerService.ExportEntries": lambda own: ledger_service_pb2.ExportEntriesRequest(),
    "ledger.v1.LedgerService.GetTrialBalance": lambda own: (
        ledger_service_pb2.GetTrialBalanceRequest()
    ),
    "ledger.v1.LedgerService.GetLedgerHead": lambda own: ledger_service_pb2.GetLedgerHeadRequest(),
    "ledger.v1.LedgerService.ListBlocks": lambda own: ledger_service_pb2.ListBlocksRequest(),
    "ledger.v1.LedgerService.VerifyIntegrity": lambda own: (
        ledger_service_pb2.VerifyIntegrityRequest()
    ),
    "ledger.v1.LedgerService.GetBalance": lambda own: ledger_service_pb2.GetBalanceRequest(
        account_id=SHARED_ACCOUNT
    ),
    "ledger.v1.LedgerService.ListPeriods": lambda own: ledger_service_pb2.ListPeriodsRequest(),
    "metering.v1.GuardrailService.ListBudgets": lambda own: (
        guardrail_service_pb2.ListBudgetsRequest(page_size=1000)
    ),
    "metering.v1.GuardrailService.GetBudgetStatus": lambda own: (
        guardrail_service_pb2.GetBudgetStatusRequest(budget_id=own.name("budget"))
    ),
    "metering.v1.GuardrailService.ListHolds": lambda own: guardrail_service_pb2.ListHoldsRequest(
        page_size=1000
    ),
    "metering.v1.MeteringService.GetIngestSettings": lambda own: (
        metering_service_pb2.GetIngestSettingsRequest()
    ),
    "metering.v1.MeteringService.QueryUsage": lambda own: usage_of(SHARED_ORG),
    "metering.v1.MeteringService.ListLateEvents": lambda own: (
        metering_service_pb2.ListLateEventsRequest(page_size=1000)
    ),
    "metering.v1.MeteringService.ListStoredEvents": lambda own: drift_pb2.ListStoredEventsRequest(
        period=PERIOD, page_size=1000
    ),
    "metering.v1.MeteringService.ListUsageOrgs": lambda own: (
        metering_service_pb2.ListUsageOrgsRequest(period=PERIOD, page_size=1000)
    ),
    "metering.v1.MeteringService.GetEvent": lambda own: corrections_pb2.GetEventRequest(
        event_id=f"{own.name('org')}-use-0"
    ),
    "metering.v1.MeteringService.ListEvents": lambda own: metering_service_pb2.ListEventsRequest(
        org_id=SHARED_ORG, period=PERIOD, page_size=1000
    ),
    "metering.v1.MeteringService.GetReceipt": lambda own: receipts_pb2.GetReceiptRequest(
        receipt_id=own.ids["receipt"]
    ),
    "metering.v1.MeteringService.GetSpooledBatch": lambda own: spool_pb2.GetSpooledBatchRequest(
        receipt_id=own.ids["spooled"]
    ),
    "metering.v1.MeteringService.ListReceiptEvents": lambda own: (
        receipts_pb2.ListReceiptEventsRequest(receipt_id=own.ids["receipt"], page_size=1000)
    ),
    "metering.v1.MeteringService.GetLogHead": lambda own: receipts_pb2.GetLogHeadRequest(),
    "metering.v1.MeteringService.ListLogHeads": lambda own: receipts_pb2.ListLogHeadsRequest(
        page_size=1000
    ),
    "metering.v1.MeteringService.GetLogConsistency": lambda own: (
        receipts_pb2.GetLogConsistencyRequest(first_tree_size=1)
    ),
    "metering.v1.MeteringService.VerifyLog": lambda own: receipts_pb2.VerifyLogRequest(
        page_size=1000
    ),
    "metering.v1.MeteringService.VerifyRollups": lambda own: rollups_pb2.VerifyRollupsRequest(
        page_size=1000
    ),
    "metering.v1.MeteringService.ListRejectedEvents": lambda own: (
        corrections_pb2.ListRejectedEventsRequest(page_size=1000, include_replayed=True)
    ),
    "orchestration.v1.MerchantConfigService.GetMerchantConfig": lambda own: (
        orchestration_service_pb2.GetMerchantConfigRequest(merchant_id=own.name("shop"))
    ),
    "orchestration.v1.MerchantConfigService.ListMerchantConfigs": lambda own: (
        orchestration_service_pb2.ListMerchantConfigsRequest(page_size=1000)
    ),
    "orchestration.v1.MerchantConfigService.ListMerchantConfigVersions": lambda own: (
        orchestration_service_pb2.ListMerchantConfigVersionsRequest(merchant_id=own.name("shop"))
    ),
    "orchestration.v1.MerchantConfigService.SimulateRouting": lambda own: (
        orchestration_service_pb2.SimulateRoutingRequest(
            config=config_pb2.MerchantConfig(
                merchant_id=own.name("shop"),
                methods=[config_pb2.MethodConfig(method="wallet", processor_id=own.name("till"))],
                processors=[
                    config_pb2.ProcessorConfig(processor_id=own.name("till"), adapter="sandbox")
                ],
            )
        )
    ),
    "orchestration.v1.PaymentService.GetPayment": lambda own: (
        orchestration_service_pb2.GetPaymentRequest(payment_id=own.ids["payment"])
    ),
    "orchestration.v1.PaymentService.ListPayments": lambda own: (
        orchestration_service_pb2.ListPaymentsRequest(page_size=1000)
    ),
    "orchestration.v1.PaymentService.WatchPayment": lambda own: (
        orchestration_service_pb2.WatchPaymentRequest(payment_id=own.ids["payment"])
    ),
    "orchestration.v1.PaymentService.ListProcessors": lambda own: (
        orchestration_service_pb2.ListProcessorsRequest(merchant_id=own.name("shop"))
    ),
    "orchestration.v1.PaymentService.GetProcessorHealth": lambda own: (
        orchestration_service_pb2.GetProcessorHealthRequest(
            processor_id=own.name("till"), merchant_id=own.name("shop")
        )
    ),
    "orchestration.v1.PaymentService.PlanPayment": lambda own: (
        orchestration_service_pb2.PlanPaymentRequest(raw_request=payment_at(own.name("shop")))
    ),
    "pricing.v1.CatalogService.GetPlan": lambda own: catalog_service_pb2.GetPlanRequest(
        plan_id=own.name("plan")
    ),
    "pricing.v1.CatalogService.ListPlans": lambda own: catalog_service_pb2.ListPlansRequest(
        page_size=1000
    ),
    "pricing.v1.CatalogService.ListSkus": lambda own: catalog_service_pb2.ListSkusRequest(
        page_size=1000
    ),
    "pricing.v1.CatalogService.ListEntitlements": lambda own: (
        catalog_service_pb2.ListEntitlementsRequest(page_size=1000)
    ),
    "access.v1.AccessService.ListAuditEntries": lambda own: (
        access_service_pb2.ListAuditEntriesRequest(kinds=["plan", "entitlement"])
    ),
    "pricing.v1.CatalogService.ListBusinessModels": lambda own: (
        catalog_service_pb2.ListBusinessModelsRequest(page_size=1000)
    ),
    "pricing.v1.CatalogService.ListOrgBusinessModels": lambda own: (
        catalog_service_pb2.ListOrgBusinessModelsRequest(page_size=1000)
    ),
    "pricing.v1.CatalogService.ListPartners": lambda own: catalog_service_pb2.ListPartnersRequest(
        page_size=1000
    ),
    "pricing.v1.CatalogService.ListPartnersOfRecord": lambda own: (
        catalog_service_pb2.ListPartnersOfRecordRequest(page_size=1000)
    ),
    "pricing.v1.CatalogService.ListCommissionRates": lambda own: (
        catalog_service_pb2.ListCommissionRatesRequest(page_size=1000)
    ),
    "pricing.v1.CatalogService.ListTaxRates": lambda own: catalog_service_pb2.ListTaxRatesRequest(
        page_size=1000
    ),
    "pricing.v1.CatalogService.ListTaxProfiles": lambda own: (
        catalog_service_pb2.ListTaxProfilesRequest(page_size=1000)
    ),
    "pricing.v1.CatalogService.ListTaxPolicies": lambda own: (
        catalog_service_pb2.ListTaxPoliciesRequest(page_size=1000)
    ),
    "pricing.v1.CatalogService.ListBillingAccountOrgs": lambda own: (
        catalog_service_pb2.ListBillingAccountOrgsRequest(page_size=1000)
    ),
    "pricing.v1.CatalogService.ListBillingAccountPartners": lambda own: (
        catalog_service_pb2.ListBillingAccountPartnersRequest(page_size=1000)
    ),
    "pricing.v1.PricingService.Estimate": lambda own: pricing_service_pb2.EstimateRequest(
        org_id=SHARED_ORG, skus={own.name("calls"): "1"}, leads="1"
    ),
    "pricing.v1.PricingService.RateUsage": lambda own: pricing_service_pb2.RateUsageRequest(
        org_id=SHARED_ORG, period=PERIOD
    ),
    "pricing.v1.PricingService.CalculateTax": lambda own: pricing_service_pb2.CalculateTaxRequest(
        org_id=SHARED_ORG,
        items=[
            pricing_service_pb2.TaxableItem(
                amount=type_pb2.Money(currency_code="USD", minor_units=100)
            )
        ],
    ),
    "agreements.v1.AgreementService.GetAgreement": lambda own: (
        agreement_service_pb2.GetAgreementRequest(agreement_id=own.ids["agreement"])
    ),
    "agreements.v1.AgreementService.ListAgreements": lambda own: (
        agreement_service_pb2.ListAgreementsRequest()
    ),
    "agreements.v1.AgreementService.ListEdits": lambda own: agreement_service_pb2.ListEditsRequest(
        agreement_id=own.ids["agreement"]
    ),
    "orders.v1.CreditService.ListGrants": lambda own: credit_service_pb2.ListGrantsRequest(),
    "orders.v1.CreditService.GetCreditBalance": lambda own: (
        credit_service_pb2.GetCreditBalanceRequest(
            owner_id=own.name("owner"), unit=own.name("unit")
        )
    ),
    "orders.v1.OrderService.GetOrder": lambda own: order_service_pb2.GetOrderRequest(
        order_id=own.ids["order"]
    ),
    "orders.v1.OrderService.ListOrders": lambda own: order_service_pb2.ListOrdersRequest(),
    "orders.v1.OrderService.GetRefund": lambda own: order_service_pb2.GetRefundRequest(
        refund_id=own.ids["refund"]
    ),
    "orders.v1.OrderService.ListRefunds": lambda own: order_service_pb2.ListRefundsRequest(),
    "orders.v1.OrderService.ListExternalActions": lambda own: (
        order_service_pb2.ListExternalActionsRequest(order_id=own.ids["paid-order"])
    ),
    "settlement.v1.SettlementService.GetSettlementPolicy": lambda own: (
        settlement_service_pb2.GetSettlementPolicyRequest(seller=own.name("partner"))
    ),
    "settlement.v1.PayoutService.GetPayout": lambda own: payout_service_pb2.GetPayoutRequest(
        payout_id=own.ids["payout"]
    ),
    "settlement.v1.PayoutService.ListPayouts": lambda own: payout_service_pb2.ListPayoutsRequest(),
    "settlement.v1.PayoutService.GetCommissionSweep": lambda own: (
        payout_service_pb2.GetCommissionSweepRequest(sweep_id=own.ids["sweep"])
    ),
    "settlement.v1.PayoutService.ListCommissionSweeps": lambda own: (
        payout_service_pb2.ListCommissionSweepsRequest()
    ),
    "settlement.v1.PayoutService.ListCommissions": lambda own: (
        payout_service_pb2.ListCommissionsRequest()
    ),
    "settlement.v1.PayoutService.ListCommissionBalances": lambda own: (
        payout_service_pb2.ListCommissionBalancesRequest()
    ),
    "settlement.v1.PayoutService.VerifyCommissions": lambda own: (
        payout_service_pb2.VerifyCommissionsRequest()
    ),
}

# Answers with nothing but what was asked: neither stores nor reads anything.
STATELESS = {"pricing.v1.PricingService.EvaluatePrice"}

# Answers of numbers alone, which no marker tells apart: see the test of what is named the same. Of consumers and
# dead letters: what fails is tried in tests/integration/events/test_operations.py.
NUMBERS_ALONE = {
    "events.v1.EventService.ListConsumers",
    "events.v1.EventService.ListDeadLetters",
    "ledger.v1.LedgerService.GetBalance",
    "ledger.v1.LedgerService.GetTrialBalance",
    "orders.v1.CreditService.GetCreditBalance",
    "ledger.v1.LedgerService.ListBlocks",
    "ledger.v1.LedgerService.VerifyIntegrity",
    "metering.v1.MeteringService.GetIngestSettings",
    "metering.v1.MeteringService.VerifyLog",
    "pricing.v1.CatalogService.ListTaxPolicies",
    "settlement.v1.PayoutService.GetCommissionSweep",
    "settlement.v1.PayoutService.ListCommissionSweeps",
    "metering.v1.MeteringService.VerifyRollups",
}

# Reads that name something of another tenant, and what they must be told.
FOREIGN: dict[str, tuple[Callable[[Estate], Message], str]] = {
    "billing.v1.ChargeService.GetCharge": (
        OWN["billing.v1.ChargeService.GetCharge"],
        "NOT_FOUND",
    ),
    "billing.v1.ChargeService.ListCharges": (
        lambda other: charge_service_pb2.ListChargesRequest(org_id=other.name("org")),
        "",
    ),
    "billing.v1.ChargeService.ExplainCharge": (
        OWN["billing.v1.ChargeService.ExplainCharge"],
        "NOT_FOUND",
    ),
    "billing.v1.ChargeService.PreviewCharge": (
        OWN["billing.v1.ChargeService.PreviewCharge"],
        "NO_PLAN",
    ),
    "agreements.v1.AgreementService.GetAgreement": (
        OWN["agreements.v1.AgreementService.GetAgreement"],
        "NOT_FOUND",
    ),
    "agreements.v1.AgreementService.ListEdits": (
        OWN["agreements.v1.AgreementService.ListEdits"],
        "NOT_FOUND",
    ),
    "agreements.v1.AgreementService.ListAgreements": (
        OWN["agreements.v1.AgreementService.ListAgreements"],
        "",
    ),
    "orders.v1.CreditService.ListGrants": (
        lambda other: credit_service_pb2.ListGrantsRequest(owner_id=other.name("owner")),
        "",
    ),
    "orders.v1.CreditService.GetCreditBalance": (
        OWN["orders.v1.CreditService.GetCreditBalance"],
        "",
    ),
    "orders.v1.OrderService.GetOrder": (OWN["orders.v1.OrderService.GetOrder"], "NOT_FOUND"),
    "orders.v1.OrderService.GetRefund": (OWN["orders.v1.OrderService.GetRefund"], "NOT_FOUND"),
    "orders.v1.OrderService.ListRefunds": (
        lambda other: order_service_pb2.ListRefundsRequest(order_id=other.ids["paid-order"]),
        "NOT_FOUND",
    ),
    "orders.v1.OrderService.ListExternalActions": (
        OWN["orders.v1.OrderService.ListExternalActions"],
        "NOT_FOUND",
    ),
    "orders.v1.OrderService.ListOrders": (
        lambda other: order_service_pb2.ListOrdersRequest(person_id=other.ids["person"]),
        "",
    ),
    "settlement.v1.PayoutService.GetPayout": (
        OWN["settlement.v1.PayoutService.GetPayout"],
        "NOT_FOUND",
    ),
    "settlement.v1.PayoutService.GetCommissionSweep": (
        OWN["settlement.v1.PayoutService.GetCommissionSweep"],
        "NOT_FOUND",
    ),
    "settlement.v1.PayoutService.ListPayouts": (
        lambda other: payout_service_pb2.ListPayoutsRequest(party=other.name("partner")),
        "",
    ),
    "settlement.v1.PayoutService.ListCommissions": (
        lambda other: payout_service_pb2.ListCommissionsRequest(party=other.name("partner")),
        "",
    ),
    "settlement.v1.PayoutService.ListCommissionBalances": (
        lambda other: payout_service_pb2.ListCommissionBalancesRequest(party=other.name("partner")),
        "",
    ),
    "contracts.v1.ContractMonitorService.ListViolations": (
        lambda other: contracts_service_pb2.ListViolationsRequest(
            contract_id=f"{other.marker}/promise"
        ),
        "NOT_FOUND",
    ),
    "events.v1.EventService.ListEvents": (
        lambda other: events_service_pb2.ListEventsRequest(after=first_cursor(other)),
        "INVALID_PAGE_TOKEN",
    ),
    "events.v1.EventService.TailEvents": (
        OWN["events.v1.EventService.TailEvents"],
        "INVALID_PAGE_TOKEN",
    ),
    "events.v1.EventService.GetEventType": (
        lambda other: events_service_pb2.GetEventTypeRequest(subject=f"{other.marker}.moved"),
        "NOT_FOUND",
    ),
    "events.v1.EventService.GetWebhookEndpoint": (
        OWN["events.v1.EventService.GetWebhookEndpoint"],
        "NOT_FOUND",
    ),
    "events.v1.EventService.ListWebhookDeliveries": (
        OWN["events.v1.EventService.ListWebhookDeliveries"],
        "NOT_FOUND",
    ),
    "events.v1.EventService.ListWebhookAttempts": (
        lambda other: events_service_pb2.ListWebhookAttemptsRequest(
            endpoint_id=other.ids["webhook"]
        ),
        "NOT_FOUND",
    ),
    "events.v1.EventService.ListTimers": (
        lambda other: events_service_pb2.ListTimersRequest(
            key_prefix=f"event-type/{other.marker}.moved"
        ),
        "",
    ),
    "events.v1.EventService.GetJourney": (
        OWN["events.v1.EventService.GetJourney"],
        "NOT_FOUND",
    ),
    "ledger.v1.LedgerService.GetAccount": (
        lambda other: ledger_service_pb2.GetAccountRequest(account_id=receivable(other)),
        "NOT_FOUND",
    ),
    "ledger.v1.LedgerService.GetBalance": (
        lambda other: ledger_service_pb2.GetBalanceRequest(account_id=receivable(other)),
        "NOT_FOUND",
    ),
    "ledger.v1.LedgerService.ListAccounts": (
        lambda other: ledger_service_pb2.ListAccountsRequest(owner=other.name("owner")),
        "",
    ),
    "ledger.v1.LedgerService.ListEntries": (
        lambda other: ledger_service_pb2.ListEntriesRequest(account_id=receivable(other)),
        "NOT_FOUND",
    ),
    "ledger.v1.LedgerService.GetTransfer": (
        OWN["ledger.v1.LedgerService.GetTransfer"],
        "NOT_FOUND",
    ),
    "ledger.v1.LedgerService.ListTransfers": (
        lambda other: ledger_service_pb2.ListTransfersRequest(account_id=receivable(other)),
        "NOT_FOUND",
    ),
    "ledger.v1.LedgerService.GetStatement": (
        lambda other: statement_of(receivable(other)),
        "NOT_FOUND",
    ),
    "ledger.v1.LedgerService.GetRecipe": (
        OWN["ledger.v1.LedgerService.GetRecipe"],
        "RECIPE_NOT_FOUND",
    ),
    "ledger.v1.LedgerService.ListBalanceMonitors": (
        lambda other: monitor_pb2.ListBalanceMonitorsRequest(account_id=other.name("held")),
        "NOT_FOUND",
    ),
    "ledger.v1.LedgerService.ExportEntries": (
        lambda other: ledger_service_pb2.ExportEntriesRequest(account_ids=[receivable(other)]),
        "NOT_FOUND",
    ),
    "ledger.v1.LedgerService.VerifyIntegrity": (
        lambda other: ledger_service_pb2.VerifyIntegrityRequest(heads=[head_of(other)]),
        "",
    ),
    "metering.v1.GuardrailService.ListBudgets": (
        lambda other: guardrail_service_pb2.ListBudgetsRequest(org_id=other.name("org")),
        "",
    ),
    "metering.v1.GuardrailService.GetBudgetStatus": (
        OWN["metering.v1.GuardrailService.GetBudgetStatus"],
        "NOT_FOUND",
    ),
    "metering.v1.GuardrailService.ListHolds": (
        lambda other: guardrail_service_pb2.ListHoldsRequest(org_id=other.name("org")),
        "",
    ),
    "metering.v1.MeteringService.QueryUsage": (lambda other: usage_of(other.name("org")), ""),
    "metering.v1.MeteringService.ListLateEvents": (
        lambda other: metering_service_pb2.ListLateEventsRequest(org_id=other.name("org")),
        "",
    ),
    "metering.v1.MeteringService.ListStoredEvents": (
        lambda other: drift_pb2.ListStoredEventsRequest(period=PERIOD, org_id=other.name("org")),
        "",
    ),
    "metering.v1.MeteringService.GetEvent": (
        OWN["metering.v1.MeteringService.GetEvent"],
        "NOT_FOUND",
    ),
    "metering.v1.MeteringService.GetSpooledBatch": (
        OWN["metering.v1.MeteringService.GetSpooledBatch"],
        "NOT_FOUND",
    ),
    "metering.v1.MeteringService.GetReceipt": (
        OWN["metering.v1.MeteringService.GetReceipt"],
        "NOT_FOUND",
    ),
    "metering.v1.MeteringService.ListReceiptEvents": (
        OWN["metering.v1.MeteringService.ListReceiptEvents"],
        "NOT_FOUND",
    ),
    "metering.v1.MeteringService.ListEvents": (
        lambda other: metering_service_pb2.ListEventsRequest(
            org_id=other.name("org"), period=PERIOD
        ),
        "",
    ),
    "metering.v1.MeteringService.ListRejectedEvents": (
        lambda other: corrections_pb2.ListRejectedEventsRequest(sku=other.name("none")),
        "",
    ),
    "orchestration.v1.MerchantConfigService.GetMerchantConfig": (
        OWN["orchestration.v1.MerchantConfigService.GetMerchantConfig"],
        "NOT_FOUND",
    ),
    "orchestration.v1.MerchantConfigService.ListMerchantConfigVersions": (
        OWN["orchestration.v1.MerchantConfigService.ListMerchantConfigVersions"],
        "NOT_FOUND",
    ),
    "orchestration.v1.PaymentService.GetPayment": (
        OWN["orchestration.v1.PaymentService.GetPayment"],
        "NOT_FOUND",
    ),
    "orchestration.v1.PaymentService.ListPayments": (
        lambda other: orchestration_service_pb2.ListPaymentsRequest(
            merchant_id=other.name("shop"), order_id=other.name("order")
        ),
        "NOT_FOUND",
    ),
    "orchestration.v1.MerchantConfigService.SimulateRouting": (
        OWN["orchestration.v1.MerchantConfigService.SimulateRouting"],
        "",
    ),
    "orchestration.v1.PaymentService.WatchPayment": (
        OWN["orchestration.v1.PaymentService.WatchPayment"],
        "NOT_FOUND",
    ),
    "orchestration.v1.PaymentService.ListProcessors": (
        OWN["orchestration.v1.PaymentService.ListProcessors"],
        "NOT_FOUND",
    ),
    "orchestration.v1.PaymentService.GetProcessorHealth": (
        OWN["orchestration.v1.PaymentService.GetProcessorHealth"],
        "NOT_FOUND",
    ),
    "pricing.v1.CatalogService.GetPlan": (OWN["pricing.v1.CatalogService.GetPlan"], "NOT_FOUND"),
    "pricing.v1.CatalogService.ListSkus": (
        lambda other: catalog_service_pb2.ListSkusRequest(skus=[other.name("calls")]),
        "",
    ),
    "pricing.v1.CatalogService.ListEntitlements": (
        lambda other: catalog_service_pb2.ListEntitlementsRequest(org_id=other.name("org")),
        "",
    ),
    "access.v1.AccessService.ListAuditEntries": (
        lambda other: access_service_pb2.ListAuditEntriesRequest(subject_id=other.name("plan")),
        "",
    ),
    "pricing.v1.CatalogService.ListOrgBusinessModels": (
        lambda other: catalog_service_pb2.ListOrgBusinessModelsRequest(
            model_id=other.name("model")
        ),
        "NOT_FOUND",
    ),
    "pricing.v1.CatalogService.ListPartnersOfRecord": (
        lambda other: catalog_service_pb2.ListPartnersOfRecordRequest(org_id=other.name("org")),
        "",
    ),
    "pricing.v1.PricingService.Estimate": (
        lambda other: pricing_service_pb2.EstimateRequest(
            org_id=other.name("org"), skus={other.name("calls"): "1"}, leads="1"
        ),
        "NO_PLAN",
    ),
    "pricing.v1.PricingService.RateUsage": (
        lambda other: pricing_service_pb2.RateUsageRequest(org_id=other.name("org"), period=PERIOD),
        "NO_PLAN",
    ),
}


def test_every_read_has_its_entry() -> None:
    reads = {name for name, method in METHODS.items() if not schemas.access(method).mutates}
    assert set(OWN) | STATELESS == reads


def test_every_write_has_its_entry() -> None:
    writes = {name for name, method in METHODS.items() if schemas.access(method).mutates}
    assert set(WRITES) == writes


@pytest.mark.parametrize("name", sorted(OWN))
def test_reads_hold_nothing_of_others(name: str, amber: Estate, birch: Estate) -> None:
    answer = ask(METHODS[name], birch, OWN[name](birch))
    assert_silent(answer, amber)
    if name not in NUMBERS_ALONE:
        assert birch.marker.encode() in answer, "an answer without anything proves nothing"


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_what_is_anothers_does_not_exist(name: str, amber: Estate, birch: Estate) -> None:
    build, reason = FOREIGN[name]
    request = build(amber)
    assert ask(METHODS[name], amber, request), "its owner finds it"
    if reason:
        with pytest.raises(Refused) as refused:
            ask(METHODS[name], birch, request)
        assert refused.value.reason == reason
    else:
        assert_silent(ask(METHODS[name], birch, request), amber)


def test_a_dry_run_does_not_use_anothers_configuration(amber: Estate, birch: Estate) -> None:
    method = METHODS["orchestration.v1.PaymentService.PlanPayment"]
    request = orchestration_service_pb2.PlanPaymentRequest(
        raw_request=payment_at(amber.name("shop"))
    )
    answers = [
        orchestration_service_pb2.PlanPaymentResponse.FromString(ask(method, asking, request))
        for asking in (amber, birch)
    ]
    assert [len(answer.plan.steps) for answer in answers] == [1, 0]
    codes = [issue.code for issue in answers[1].context.validation_errors]
    assert "MERCHANT_NOT_CONFIGURED" in codes


def test_what_is_named_the_same_is_each_tenants_own(amber: Estate, birch: Estate) -> None:
    for own in (amber, birch):
        used = metering_service_pb2.QueryUsageResponse.FromString(
            ask(METHODS["metering.v1.MeteringService.QueryUsage"], own, usage_of(SHARED_ORG))
        )
        assert [row.value for row in used.rows] == [str(own.uses)]
        name = "metering.v1.MeteringService.GetIngestSettings"
        settings = metering_service_pb2.GetIngestSettingsResponse.FromString(
            ask(METHODS[name], own, OWN[name](own))
        )
        assert settings.ingest_settings.accept_past.seconds == own.accept_past_seconds
        name = "ledger.v1.LedgerService.GetTrialBalance"
        books = ledger_service_pb2.GetTrialBalanceResponse.FromString(
            ask(METHODS[name], own, OWN[name](own))
        )
        (dollars,) = books.trial_balance.currencies
        # The charge, its tax, the partner's tenth of it and its claim, the payment, the check for an order, what
        # was given back of it, and what its recipe moved there and back.
        assert dollars.debits.minor_units == own.total_minor * 339 // 100 + 3 * own.uses
        name = "ledger.v1.LedgerService.GetBalance"
        shared = ledger_service_pb2.GetBalanceResponse.FromString(
            ask(METHODS[name], own, OWN[name](own))
        )
        assert [line.debits_pending for line in shared.balance.lines] == [usd(own.uses)]


# ---- Writes: what another tenant does to things that are named as ours leaves ours as they are.


def other_cloud_event(other: Estate) -> bytes:
    """Usage of another's organisation as a CloudEvent."""
    found = {
        "specversion": "1.0",
        "id": "use-0",
        "source": "/depot",
        "type": other.name("calls"),
        "subject": other.name("org"),
        "time": USED_AT.isoformat(),
        "data": {"quantity": 5},
    }
    return json.dumps(found).encode()


def other_finding(other: Estate) -> drift_pb2.DriftFinding:
    """A finding about another's organisation."""
    finding = drift_pb2.DriftFinding(
        kind=drift_pb2.DRIFT_KIND_MISSING,
        org_id=other.name("org"),
        sku=other.name("calls"),
        event_count=1,
    )
    finding.start_at.FromDatetime(USED_AT)
    return finding


def other_usage(other: Estate) -> metering_service_pb2.IngestEventsRequest:
    """An event with another's id and other content."""
    request = metering_service_pb2.IngestEventsRequest()
    event = request.events.add(
        request_id=f"{other.name('org')}-use-0",
        org_id=other.name("org"),
        project_id=other.name("project"),
        sku=other.name("calls"),
        quantity="5",
    )
    event.event_time.FromDatetime(USED_AT)
    return request


# What the looking tenant tries with the names of the other; whether it is refused, or makes something of its own.
WRITES: dict[str, Callable[[Estate], Message]] = {
    "access.v1.AccessService.CreateApiKey": lambda other: access_service_pb2.CreateApiKeyRequest(
        request_id=str(uuid4()), name="theirs", scopes=["*"], tenant_id=other.tenant
    ),
    "access.v1.AccessService.RevokeApiKey": lambda other: access_service_pb2.RevokeApiKeyRequest(
        request_id=str(uuid4()), key_id=other.ids["key"]
    ),
    "pricing.v1.CatalogService.ApplyCatalog": lambda other: catalog_service_pb2.ApplyCatalogRequest(
        request_id=str(uuid4()), catalog=parse_catalog(other.catalog(), "theirs")
    ),
    "pricing.v1.CatalogService.PublishPlan": lambda other: catalog_service_pb2.PublishPlanRequest(
        request_id=str(uuid4()), plan_id=other.name("draft")
    ),
    "pricing.v1.CatalogService.ArchivePlan": lambda other: catalog_service_pb2.ArchivePlanRequest(
        request_id=str(uuid4()), plan_id=other.name("spare")
    ),
    "pricing.v1.CatalogService.MigratePlan": lambda other: catalog_service_pb2.MigratePlanRequest(
        request_id=str(uuid4()),
        plan_id=other.name("plan"),
        to_plan_id=other.name("draft"),
        effective_at=PERIOD.start_at,
    ),
    "pricing.v1.CatalogService.AssignBusinessModel": lambda other: (
        catalog_service_pb2.AssignBusinessModelRequest(
            request_id=str(uuid4()), org_id=other.name("org"), model_id=other.name("model")
        )
    ),
    "metering.v1.GuardrailService.PutBudget": lambda other: guardrail_service_pb2.PutBudgetRequest(
        request_id=str(uuid4()), budget=other.budget("1")
    ),
    "metering.v1.GuardrailService.DeleteBudget": lambda other: (
        guardrail_service_pb2.DeleteBudgetRequest(
            request_id=str(uuid4()), budget_id=other.name("budget")
        )
    ),
    "metering.v1.GuardrailService.Reserve": lambda other: guardrail_service_pb2.ReserveRequest(
        request_id=str(uuid4()), org_id=other.name("org"), sku=other.name("calls"), quantity="5"
    ),
    "metering.v1.GuardrailService.Commit": lambda other: guardrail_service_pb2.CommitRequest(
        request_id=str(uuid4()), hold_id=other.ids["budget hold"]
    ),
    "metering.v1.GuardrailService.Release": lambda other: guardrail_service_pb2.ReleaseRequest(
        request_id=str(uuid4()), hold_id=other.ids["budget hold"]
    ),
    "metering.v1.MeteringService.IngestEvents": other_usage,
    "metering.v1.MeteringService.IngestCloudEvents": lambda other: (
        metering_service_pb2.IngestCloudEventsRequest(
            content_type="application/cloudevents+json", raw_request=other_cloud_event(other)
        )
    ),
    "metering.v1.MeteringService.ReportUsageDrift": lambda other: drift_pb2.ReportUsageDriftRequest(
        request_id=str(uuid4()), provider="depot", findings=[other_finding(other)]
    ),
    "metering.v1.MeteringService.StreamEvents": lambda other: (
        metering_service_pb2.StreamEventsRequest(batch=other_usage(other))
    ),
    "metering.v1.MeteringService.AmendEvents": lambda other: corrections_pb2.AmendEventsRequest(
        request_id=str(uuid4()),
        amendments=[corrections_pb2.EventAmendment(event=other_usage(other).events[0])],
    ),
    "metering.v1.MeteringService.CancelEvents": lambda other: corrections_pb2.CancelEventsRequest(
        request_id=str(uuid4()), request_ids=[f"{SHARED_ORG}-use-0"], reason="theirs"
    ),
    "metering.v1.MeteringService.ReplayRejectedEvents": lambda other: (
        corrections_pb2.ReplayRejectedEventsRequest(
            request_id=str(uuid4()),
            sku=other.name("none"),
            fix=corrections_pb2.EventFix(sku=other.name("calls")),
        )
    ),
    "metering.v1.MeteringService.UpdateIngestSettings": lambda other: (
        metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid4()))
    ),
    "billing.v1.ChargeService.CreateCharge": lambda other: charge_service_pb2.CreateChargeRequest(
        request_id=str(uuid4()), org_id=other.name("org"), period=PERIOD
    ),
    "billing.v1.ChargeService.AdjustCharge": lambda other: charge_service_pb2.AdjustChargeRequest(
        request_id=str(uuid4()), charge_id=other.ids["charge"]
    ),
    "billing.v1.ChargeService.ReverseCharge": lambda other: charge_service_pb2.ReverseChargeRequest(
        request_id=str(uuid4()), charge_id=other.ids["charge"], reason="not ours"
    ),
    "agreements.v1.AgreementService.ApplyEdits": lambda other: (
        agreement_service_pb2.ApplyEditsRequest(
            request_id=str(uuid4()),
            agreement_id=other.ids["agreement"],
            edits=[agreements_pb2.Edit(terminate=agreements_pb2.Terminate(reason="not ours"))],
        )
    ),
    "orders.v1.CreditService.GrantCredits": lambda other: credit_service_pb2.GrantCreditsRequest(
        request_id=str(uuid4()),
        grant=credits_pb2.Grant(
            owner_id=other.name("owner"), unit="USD", amount="1.00", source="PROMOTION"
        ),
    ),
    "orders.v1.CreditService.ReverseGrant": lambda other: credit_service_pb2.ReverseGrantRequest(
        request_id=str(uuid4()), grant_id=other.ids["grant"], reason="not ours"
    ),
    "orders.v1.OrderService.CreateOrder": lambda other: order_service_pb2.CreateOrderRequest(
        request_id=str(uuid4()),
        order=orders_pb2.Order(
            person_id=other.ids["person"],
            organization_id=other.ids["seller"],
            amount_total=usd(1),
        ),
    ),
    "orders.v1.OrderService.OpenOrder": lambda other: order_service_pb2.OpenOrderRequest(
        request_id=str(uuid4()), order_id=other.ids["order"]
    ),
    "orders.v1.OrderService.UpdateOrderNotes": lambda other: (
        order_service_pb2.UpdateOrderNotesRequest(
            request_id=str(uuid4()), order_id=other.ids["order"], notes="not ours"
        )
    ),
    "orders.v1.OrderService.AdjustOrderTotal": lambda other: (
        order_service_pb2.AdjustOrderTotalRequest(
            request_id=str(uuid4()), order_id=other.ids["order"], amount_total=usd(1)
        )
    ),
    "orders.v1.OrderService.InitiateRefund": lambda other: order_service_pb2.InitiateRefundRequest(
        request_id=str(uuid4()),
        order_id=other.ids["paid-order"],
        reason="not theirs",
        initiated_by="not theirs",
    ),
    "orders.v1.OrderService.RecordPayment": lambda other: order_service_pb2.RecordPaymentRequest(
        request_id=str(uuid4()),
        order_id=other.ids["order"],
        method="cash",
        amount=usd(1),
        operator="not theirs",
    ),
    "orders.v1.OrderService.CancelOrder": lambda other: order_service_pb2.CancelOrderRequest(
        request_id=str(uuid4()), order_id=other.ids["order"], reason="not ours"
    ),
    "settlement.v1.SettlementService.PutSettlementPolicy": lambda other: (
        settlement_service_pb2.PutSettlementPolicyRequest(
            request_id=str(uuid4()),
            policy=settlement_pb2.SettlementPolicy(seller=other.name("partner")),
        )
    ),
    "settlement.v1.PayoutService.CreatePayout": lambda other: (
        payout_service_pb2.CreatePayoutRequest(
            request_id=str(uuid4()), party=other.name("partner"), amount=usd(1)
        )
    ),
    "settlement.v1.PayoutService.RecordPayoutPayment": lambda other: (
        payout_service_pb2.RecordPayoutPaymentRequest(
            request_id=str(uuid4()), payout_id=other.ids["payout"]
        )
    ),
    "settlement.v1.PayoutService.RecordPayoutReturn": lambda other: (
        payout_service_pb2.RecordPayoutReturnRequest(
            request_id=str(uuid4()), payout_id=other.ids["payout"], return_code="R03"
        )
    ),
    "settlement.v1.PayoutService.SweepCommissions": lambda other: (
        payout_service_pb2.SweepCommissionsRequest(request_id=str(uuid4()))
    ),
    "events.v1.EventService.RegisterEventTypes": lambda other: (
        events_service_pb2.RegisterEventTypesRequest(event_types=[other.event_type()])
    ),
    "events.v1.EventService.PublishEvents": lambda other: events_service_pb2.PublishEventsRequest(
        events=[other.told()]
    ),
    "events.v1.EventService.PublishCloudEvents": lambda other: (
        events_service_pb2.PublishCloudEventsRequest(
            content_type="application/cloudevents+json", raw_request=other.told_as_cloud_event()
        )
    ),
    "events.v1.EventService.ReplayDeadLetters": lambda other: (
        events_service_pb2.ReplayDeadLettersRequest(
            request_id=str(uuid4()), consumer="monitoring.violations", key=other.ids["payment"]
        )
    ),
    "events.v1.EventService.ReplayEvents": lambda _other: events_service_pb2.ReplayEventsRequest(
        request_id=str(uuid4()),
        consumer="monitoring.violations",
        period=periods.parse("2020-01-01/2100-01-01"),
    ),
    "events.v1.EventService.CreateWebhookEndpoint": lambda other: other.webhook(),
    "events.v1.EventService.UpdateWebhookEndpoint": lambda other: (
        events_service_pb2.UpdateWebhookEndpointRequest(
            request_id=str(uuid4()), endpoint_id=other.ids["webhook"], disabled=False
        )
    ),
    "events.v1.EventService.DeleteWebhookEndpoint": lambda other: (
        events_service_pb2.DeleteWebhookEndpointRequest(
            request_id=str(uuid4()), endpoint_id=other.ids["webhook"]
        )
    ),
    "events.v1.EventService.RotateWebhookSecret": lambda other: (
        events_service_pb2.RotateWebhookSecretRequest(
            request_id=str(uuid4()), endpoint_id=other.ids["webhook"]
        )
    ),
    "events.v1.EventService.TestWebhookEndpoint": lambda other: (
        events_service_pb2.TestWebhookEndpointRequest(
            request_id=str(uuid4()), endpoint_id=other.ids["webhook"]
        )
    ),
    "events.v1.EventService.RedeliverWebhook": lambda other: (
        events_service_pb2.RedeliverWebhookRequest(
            request_id=str(uuid4()), endpoint_id=other.ids["webhook"], event_id=other.name("told")
        )
    ),
    "events.v1.EventService.CancelTimer": lambda other: events_service_pb2.CancelTimerRequest(
        request_id=str(uuid4()), timer_id=other.ids["timer"]
    ),
    "events.v1.EventService.DeleteSchedule": lambda other: events_service_pb2.DeleteScheduleRequest(
        request_id=str(uuid4()), name=SHARED_SCHEDULE
    ),
    "events.v1.EventService.PutSchedule": lambda other: events_service_pb2.PutScheduleRequest(
        request_id=str(uuid4()), schedule=other.schedule()
    ),
    "ledger.v1.LedgerService.CreateAccounts": lambda other: (
        ledger_service_pb2.CreateAccountsRequest(
            accounts=[
                ledger_pb2.Account(
                    account_id=receivable(other),
                    currency_code="USD",
                    type=ledger_pb2.ACCOUNT_TYPE_LIABILITY,
                )
            ]
        )
    ),
    "ledger.v1.LedgerService.CancelScheduledTransfer": lambda other: (
        scheduled_pb2.CancelScheduledTransferRequest(
            request_id=str(uuid4()), transfer_id=other.ids["scheduled"], reason="not ours"
        )
    ),
    # There is none of this name, until it is put.
    "ledger.v1.LedgerService.DeleteBalanceMonitor": lambda other: (
        monitor_pb2.DeleteBalanceMonitorRequest(
            request_id=str(uuid4()), monitor_id=other.name("monitor")
        )
    ),
    "ledger.v1.LedgerService.PutBalanceMonitor": lambda other: monitor_pb2.PutBalanceMonitorRequest(
        request_id=str(uuid4()),
        monitor=monitor_pb2.BalanceMonitor(
            monitor_id=other.name("monitor"),
            account_id=SHARED_ACCOUNT,
            comparison=monitor_pb2.COMPARISON_BELOW,
            threshold=usd(99),
            description="theirs",
        ),
    ),
    "ledger.v1.LedgerService.ClosePeriod": lambda other: ledger_service_pb2.ClosePeriodRequest(
        request_id=str(uuid4()),
        currency_code="USD",
        closed_through=periods.parse("2026-02").start_at,
    ),
    "ledger.v1.LedgerService.ReopenPeriod": lambda other: ledger_service_pb2.ReopenPeriodRequest(
        request_id=str(uuid4()), currency_code="USD", reason="not ours"
    ),
    "ledger.v1.LedgerService.ReverseTransfer": lambda other: (
        ledger_service_pb2.ReverseTransferRequest(
            request_id=str(uuid4()), transfer_id=other.ids["transfer 0"], reason="not ours"
        )
    ),
    "ledger.v1.LedgerService.PutRecipe": lambda other: ledger_service_pb2.PutRecipeRequest(
        request_id=str(uuid4()), recipe=other.recipe()
    ),
    "ledger.v1.LedgerService.PostRecipes": lambda other: ledger_service_pb2.PostRecipesRequest(
        postings=[other.fact()]
    ),
    "ledger.v1.LedgerService.PostRecipe": lambda other: ledger_service_pb2.PostRecipeRequest(
        request_id=str(uuid4()),
        recipe="write-off",
        reference=ledger_pb2.Reference(kind="move", id=other.name("move")),
        parameters={
            "debtor": posting_pb2.Parameter(text=other.name("org")),
            "amount": posting_pb2.Parameter(amount=usd(1)),
        },
    ),
    "ledger.v1.LedgerService.PostTransfers": lambda other: ledger_service_pb2.PostTransfersRequest(
        transfers=[
            ledger_pb2.Transfer(
                transfer_id=other.ids["transfer 0"],
                debit_account_id=receivable(other),
                credit_account_id=f"revenue:{other.name('calls')}:USD",
                amount=usd(99),
                code=9,
                kind=ledger_pb2.KIND_POSTED,
            ),
            ledger_pb2.Transfer(
                transfer_id=str(uuid4()),
                pending_id=other.ids["hold"],
                kind=ledger_pb2.KIND_VOID_PENDING,
            ),
        ]
    ),
    "contracts.v1.ContractMonitorService.RegisterContracts": lambda other: (
        contracts_service_pb2.RegisterContractsRequest(
            contracts=[
                contracts_pb2.Contract(
                    contract_id=f"{other.marker}/promise",
                    title="theirs",
                    owner="theirs",
                    severity="HIGH",
                    kind=contracts_pb2.CONTRACT_KIND_POLICY,
                )
            ]
        )
    ),
    "contracts.v1.ContractMonitorService.RecordViolations": lambda other: (
        contracts_service_pb2.RecordViolationsRequest(
            violations=[
                contracts_pb2.ContractViolation(
                    contract_id=f"{other.marker}/promise",
                    request_id=other.name("seen"),
                    severity="HIGH",
                    message="theirs",
                )
            ]
        )
    ),
    "orchestration.v1.MerchantConfigService.PutMerchantConfig": lambda other: (
        orchestration_service_pb2.PutMerchantConfigRequest(
            request_id=str(uuid4()), config=config_of(other.name("shop"))
        )
    ),
    "orchestration.v1.PaymentService.CreatePayment": lambda other: (
        orchestration_service_pb2.CreatePaymentRequest(
            request_id=str(uuid4()), raw_request=payment_at(other.name("shop"))
        )
    ),
    "orchestration.v1.PaymentService.CapturePayment": lambda other: (
        orchestration_service_pb2.CapturePaymentRequest(
            request_id=str(uuid4()), payment_id=other.ids["payment"]
        )
    ),
    "orchestration.v1.PaymentService.VoidPayment": lambda other: (
        orchestration_service_pb2.VoidPaymentRequest(
            request_id=str(uuid4()), payment_id=other.ids["payment"]
        )
    ),
    "orchestration.v1.PaymentService.RefundPayment": lambda other: (
        orchestration_service_pb2.RefundPaymentRequest(
            request_id=str(uuid4()), payment_id=other.ids["payment"]
        )
    ),
    "orchestration.v1.PaymentService.ResolveAttempt": lambda other: (
        orchestration_service_pb2.ResolveAttemptRequest(
            request_id=str(uuid4()),
            attempt_id=other.ids["attempt"],
            verdict=orchestration_pb2.VERDICT_NOT_CHARGED,
            evidence="a guess",
        )
    ),
    "orchestration.v1.PaymentService.ReceiveWebhook": lambda other: (
        orchestration_service_pb2.ReceiveWebhookRequest(
            processor_id=other.name("till"), raw_request=b"{}", headers={"webhook-id": "msg_1"}
        )
    ),
}
# Says which transactions had ended when the usage was read.
USAGE_SNAPSHOT = re.compile(r'usage_snapshot: "[^"]*"')
# What finds nothing of the sort, and says so by an answer without content.
NOTHING = {
    "events.v1.EventService.ReplayDeadLetters",
    "metering.v1.MeteringService.ReplayRejectedEvents",
}
REFUSED = {
    "access.v1.AccessService.CreateApiKey": "TENANT_MISMATCH",
    "access.v1.AccessService.RevokeApiKey": "NOT_FOUND",
    "metering.v1.GuardrailService.Commit": "NOT_FOUND",
    "metering.v1.GuardrailService.Release": "NOT_FOUND",
    "events.v1.EventService.CancelTimer": "NOT_FOUND",
    "billing.v1.ChargeService.AdjustCharge": "NOT_FOUND",
    "orchestration.v1.PaymentService.CapturePayment": "NOT_FOUND",
    "orchestration.v1.PaymentService.VoidPayment": "NOT_FOUND",
    "orchestration.v1.PaymentService.RefundPayment": "NOT_FOUND",
    "orchestration.v1.PaymentService.ResolveAttempt": "NOT_FOUND",
    "orchestration.v1.PaymentService.ReceiveWebhook": "NOT_FOUND",
    "billing.v1.ChargeService.ReverseCharge": "NOT_FOUND",
    "agreements.v1.AgreementService.ApplyEdits": "NOT_FOUND",
    "orders.v1.CreditService.ReverseGrant": "NOT_FOUND",
    "orders.v1.OrderService.OpenOrder": "NOT_FOUND",
    "orders.v1.OrderService.UpdateOrderNotes": "NOT_FOUND",
    "orders.v1.OrderService.AdjustOrderTotal": "NOT_FOUND",
    "orders.v1.OrderService.InitiateRefund": "NOT_FOUND",
    "orders.v1.OrderService.RecordPayment": "NOT_FOUND",
    "orders.v1.OrderService.CancelOrder": "NOT_FOUND",
    "settlement.v1.PayoutService.CreatePayout": "PAYOUT_EXCEEDS_BALANCE",
    "settlement.v1.PayoutService.RecordPayoutPayment": "NOT_FOUND",
    "settlement.v1.PayoutService.RecordPayoutReturn": "NOT_FOUND",
    "ledger.v1.LedgerService.ReverseTransfer": "NOT_FOUND",
    "ledger.v1.LedgerService.CancelScheduledTransfer": "NOT_FOUND",
    "ledger.v1.LedgerService.DeleteBalanceMonitor": "NOT_FOUND",
    "events.v1.EventService.UpdateWebhookEndpoint": "NOT_FOUND",
    "events.v1.EventService.DeleteWebhookEndpoint": "NOT_FOUND",
    "events.v1.EventService.RotateWebhookSecret": "NOT_FOUND",
    "events.v1.EventService.TestWebhookEndpoint": "NOT_FOUND",
    "events.v1.EventService.RedeliverWebhook": "NOT_FOUND",
}


def test_writes_of_others_change_nothing_of_ours(amber: Estate, birch: Estate) -> None:
    """Birch does all it can with amber's names: things of its own come of it, and amber's stay."""
    before = everything(amber)
    for name, build in WRITES.items():
        try:
            answer = ask(METHODS[name], birch, build(amber))
        except Refused as refused:
            assert refused.reason == REFUSED.get(name), (name, refused.reason)
        else:
            assert name not in REFUSED, name
            assert answer or name in NOTHING
    assert everything(amber) == before


def everything(own: Estate) -> dict[str, str]:
    """All that a tenant can read of itself, as text, but the moments of the reading."""
    found: dict[str, str] = {}
    for name, request in OWN.items():
        method = METHODS[name]
        message = response_type(method).FromString(ask(method, own, request(own)))
        if isinstance(message, ledger_service_pb2.GetTrialBalanceResponse):
            message.trial_balance.ClearField("recorded_at")
        if isinstance(message, ledger_service_pb2.GetBalanceResponse):
            message.balance.ClearField("recorded_at")
        if isinstance(message, ledger_service_pb2.GetStatementResponse):
            message.ClearField("recorded_at")
        if isinstance(message, agreement_service_pb2.GetAgreementResponse):
            message.agreement.ClearField("effective_at")
        if isinstance(message, agreement_service_pb2.ListAgreementsResponse):
            for agreement in message.agreements:
                agreement.ClearField("effective_at")
        if isinstance(message, events_service_pb2.ListConsumersResponse):
            for consumer in message.consumers:
                # Events of its own may still be on their way.
                consumer.ClearField("waiting_count")
                consumer.ClearField("oldest_recorded_at")
        found[name] = USAGE_SNAPSHOT.sub("", str(message))
    return found


def response_type(method: MethodDescriptor) -> type[Message]:
    pool = descriptor_pool.Default()
    found: type[Message] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName(method.output_type.full_name)
    )
    return found


# ---- Calls


class Refused(Exception):
    """An RPC was refused; `reason` is that of its ErrorInfo."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def ask(method: MethodDescriptor, asking: Estate, request: Message) -> bytes:
    """Call an RPC as a tenant; returns its answers, serialized one behind the other. Raises Refused."""
    metadata = (("authorization", f"Bearer {asking.session.api_key}"),)
    with grpc.insecure_channel(asking.session.grpc) as channel:
        try:
            return b"".join(_answers(channel, method, request, metadata))
        except grpc.RpcError as error:
            raise Refused(reason_of(error)) from error


def _answers(
    channel: grpc.Channel,
    method: MethodDescriptor,
    request: Message,
    metadata: tuple[tuple[str, str], ...],
) -> Iterator[bytes]:
    path = f"/{method.containing_service.full_name}/{method.name}"
    if not method.server_streaming:
        call = channel.unary_unary(path, serialized, plain)
        yield call(request, metadata=metadata, timeout=30)
        return
    if method.client_streaming:
        both = channel.stream_stream(path, serialized, plain)
        yield from both(iter([request]), metadata=metadata, timeout=30)
        return
    # A feed without an end: what there is arrives at once, then it is quiet.
    feed = channel.unary_stream(path, serialized, plain)
    answers = feed(request, metadata=metadata, timeout=STREAM_QUIET_S)
    try:
        yield from itertools.islice(answers, STREAM_ANSWERS_MAX)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise


def serialized(request: Message) -> bytes:
    return request.SerializeToString()


def plain(answer: bytes) -> bytes:
    return answer


def reason_of(error: grpc.RpcError) -> str:
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == DETAILS_KEY:
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return f"{error.code()}: {error.details()}"


def assert_silent(answer: bytes, other: Estate) -> None:
    for mark in other.marks():
        assert mark not in answer, mark


def first_cursor(own: Estate) -> str:
    """The cursor behind a tenant's first event."""
    method = METHODS["events.v1.EventService.ListEvents"]
    page = ask(method, own, events_service_pb2.ListEventsRequest(page_size=1))
    return events_service_pb2.ListEventsResponse.FromString(page).next_cursor


def head_of(own: Estate) -> integrity_pb2.LedgerHead:
    """The head of a tenant's chain."""
    method = METHODS["ledger.v1.LedgerService.GetLedgerHead"]
    answer = ask(method, own, ledger_service_pb2.GetLedgerHeadRequest())
    return ledger_service_pb2.GetLedgerHeadResponse.FromString(answer).head


def usage_of(org_id: str) -> metering_service_pb2.QueryUsageRequest:
    return metering_service_pb2.QueryUsageRequest(
        org_id=org_id, period=PERIOD, aggregation=type_pb2.AGGREGATION_SUM
    )


def statement_of(account_id: str) -> ledger_service_pb2.GetStatementRequest:
    found = ledger_service_pb2.GetStatementRequest(account_id=account_id)
    found.period.start_at.FromJsonString("2001-01-01T00:00:00Z")
    found.period.end_at.FromJsonString("2101-01-01T00:00:00Z")
    return found


def receivable(own: Estate) -> str:
    return f"receivable:{own.name('org')}:USD"


def payment_at(merchant_id: str) -> bytes:
    methods = [{"method": "wallet"}]
    document = {"merchant_id": merchant_id, "amount": "1.00", "payment_methods": methods}
    return json.dumps({**document, "currency": "USD", "order_id": "o", "person_id": "p"}).encode()


def config_of(merchant_id: str) -> config_pb2.MerchantConfig:
    config = config_pb2.MerchantConfig(merchant_id=merchant_id)
    config.methods.add(method="card", processor_id="sandbox-card")
    return config
