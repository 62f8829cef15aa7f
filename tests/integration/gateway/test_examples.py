"""Every operation of the OpenAPI description has an example, and each is a call that was really made.

`make examples` writes them anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
import stripe

from services.runtime.ids import new_id as new_prefixed
from tests.integration.gateway.conftest import MakeCaller
from tests.integration.gateway.test_http import event_stream, read_events
from tests.integration.gateway.test_rest import CATALOG, JANUARY, event, new_id
from tests.support.billing.spooled import leave_spooled
from tests.support.http import examples
from tests.support.http.examples import Recorder
from tests.support.http.rest import Rest, facade
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls
from tests.support.timers.journeys import start_seasoning
from tests.support.webhooks.lab import receiving

WRITES = bool(os.environ.get("TOLLMESH_WRITE_EXAMPLES"))
ALWAYS = "period.start_at=2026-01-01T00:00:00Z&period.end_at=2100-01-01T00:00:00Z"
PERIOD = f"period.start_at={JANUARY['start_at']}&period.end_at={JANUARY['end_at']}"
SETTLES_WITHIN_S = 30
TAXES = {
    "tax_rates": [{"jurisdiction": "US-CA", "tax": "SALES", "rate_percent": "7.25"}],
    "tax_profiles": [{"org_id": "acme", "country": "US", "region": "CA"}],
    "tax_policies": [{"missing": "TAX_MISSING_UNTAXED"}],
}


async def settled(recorder: Recorder, path: str, name: str, status: str = "") -> Any:
    """Ask a list until it holds something that came to a status."""
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    while True:
        found = (await recorder.rest.acall("GET", path)).json()[name]
        if found and (not status or all(item["status"] == status for item in found)):
            return found
        assert time.monotonic() < give_up_at, (path, found)
        await asyncio.sleep(0.05)


async def usage_to_money(play: Any) -> None:
    """Catalogue, usage, a charge and how it came about, the books."""
    catalog = json.loads(json.dumps(CATALOG).replace("0.05", '"0.05"'))
    applied = {"request_id": new_id(), "catalog": {**catalog, **TAXES}}
    await play("POST", "/v1/pricing/catalog", applied)
    for path in ("tax-rates?jurisdiction=US-CA", "tax-profiles?org_id=acme", "tax-policies"):
        await play("GET", f"/v1/pricing/{path}")
    items = [{"tax_code": "", "amount": usd(10000)}]
    await play("POST", "/v1/pricing/calculate-tax", {"org_id": "acme", "items": items})
    for path in ("skus", "plans", "plans/p", "entitlements?org_id=acme"):
        await play("GET", f"/v1/pricing/{path}")
    await catalogue_at_work(play)
    price = {"per_unit": {"unit_amount": "0.05"}, "included_qty": "100"}
    evaluated = {"currency_code": "USD", "price": price, "input": {"quantity": "150"}}
    await play("POST", "/v1/pricing/evaluate", evaluated)
    asked = {"org_id": "acme", "project_id": "web", "skus": {"sms": "2"}, "leads": "100"}
    await play("POST", "/v1/pricing/estimate", asked)
    window = {"request_id": new_id(), "accept_past": "315360000s"}
    await play("PATCH", "/v1/metering/ingest-settings", window)
    await play("GET", "/v1/metering/ingest-settings")
    await play("POST", "/v1/metering/events", [event("use-1", "40"), event("use-2", "2.5")])
    await play("GET", f"/v1/metering/usage?org_id=acme&{PERIOD}&window=WINDOW_DAY")
    await play("POST", "/v1/pricing/rate-usage", {"org_id": "acme", "period": JANUARY})
    wanted = {"request_id": new_id(), "org_id": "acme", "period": JANUARY}
    await play("GET", f"/v1/billing/charges:preview?org_id=acme&{PERIOD}")
    charge = (await play("POST", "/v1/billing/charges", wanted))["charge_id"]
    await play("GET", f"/v1/billing/charges?org_id=acme&{PERIOD}&page_size=20")
    await play("GET", f"/v1/billing/charges/{charge}")
    await play("GET", f"/v1/billing/charges/{charge}/explanation")
    await play("POST", "/v1/metering/events", [event("use-3", "10")])
    adjusting = {"request_id": new_id()}
    await play("POST", f"/v1/billing/charges/{charge}:adjust", adjusting)
    reversing = {"request_id": new_id(), "reason": "sent to the wrong organisation"}
    await play("POST", f"/v1/billing/charges/{charge}:reverse", reversing)
    await play("POST", "/v1/billing/charges", {**wanted, "request_id": new_id()})


async def catalogue_at_work(play: Any) -> None:
    """A draft that is published, a plan that is left for it and ends; a business model, partners, the audit trail."""
    price = {"per_unit": {"unit_amount": "0.04"}}
    plan = {"currency_code": "USD", "prices": [{"sku": "sms", "price": price, "tax_code": "T1"}]}
    more = {
        "plans": [
            {"plan_id": "p-2027", "name": "P 2027", "status": "STATUS_DRAFT", **plan},
            {"plan_id": "trial", "name": "Trial", **plan},
        ],
        "business_models": [{"model_id": "api", "name": "API", "currency_code": "USD"}],
        "entitlements": [{"org_id": "newcomer", "plan_id": "trial"}],
        "partners": [{"partner_id": "north", "name": "Northwind", "tier": "gold"}],
        "partners_of_record": [{"org_id": "newcomer", "partner_id": "north"}],
        "commission_rates": [{"partner_tier": "gold", "pct": "10"}],
        "billing_account_orgs": [{"billing_account_id": "group-1", "org_id": "newcomer"}],
        "billing_account_partners": [{"billing_account_id": "group-1", "partner_id": "north"}],
    }
    await play("POST", "/v1/pricing/catalog", {"request_id": new_id(), "catalog": more})
    await play("POST", "/v1/pricing/plans/p-2027:publish", {"request_id": new_id()})
    moving = {
        "request_id": new_id(),
        "to_plan_id": "p-2027",
        "effective_at": "2025-06-01T00:00:00Z",
        "limit": 100,
    }
    moved = await play("POST", "/v1/pricing/plans/trial:migrate", moving)
    assert [move["org_id"] for move in moved["moves"]] == ["newcomer"]
    await play("POST", "/v1/pricing/plans/trial:archive", {"request_id": new_id()})
    put = {"request_id": new_id(), "org_id": "beta", "model_id": "api", "notes": "by contract 7"}
    await play("POST", "/v1/pricing/org-business-models", {**put, "plan_id": "p-2027"})
    for path in (
        "business-models",
        "org-business-models?model_id=api",
        "partners",
        "partners-of-record?org_id=newcomer",
        "commission-rates",
        "billing-account-orgs",
        "billing-account-partners",
    ):
        await play("GET", f"/v1/pricing/{path}")
    await play("GET", "/v1/audit/entries?kinds=org_business_model&page_size=20")


def usd(minor_units: int) -> dict[str, str]:
    return {"currency_code": "USD", "minor_units": str(minor_units)}


def transfers_of_every_form() -> list[dict[str, Any]]:
    """One at once; a hold, captured in part; a hold that is voided; what balances; a hold that closes an account."""
    sides = {"debit_account_id": "cash:USD", "credit_account_id": "fees:USD"}
    held, voided = new_id(), new_id()
    back = {"debit_account_id": "fees:USD", "credit_account_id": "cash:USD"}
    of_old = {"debit_account_id": "old:USD", "credit_account_id": "fees:USD"}
    forms: list[dict[str, Any]] = [
        {
            **sides,
            "amount": usd(1250),
            "code": 7,
            "kind": "KIND_POSTED",
            "reference": {"kind": "order", "id": "o-1", "part": "line-1"},
        },
        {
            "transfer_id": held,
            "kind": "KIND_PENDING",
            **sides,
            "amount": usd(500),
            "timeout": "604800s",
            "multi_capture": True,
        },
        {"kind": "KIND_POST_PENDING", "pending_id": held, "amount": usd(300)},
        {"transfer_id": voided, "kind": "KIND_PENDING", **sides, "amount": usd(80)},
        {"kind": "KIND_VOID_PENDING", "pending_id": voided},
        {**back, "amount": usd(100), "balancing_debit": True},
        {"kind": "KIND_PENDING", **of_old, "amount": usd(0), "closing_debit": True},
    ]
    return [{"transfer_id": new_id(), **form} for form in forms]


async def books(play: Any) -> None:
    """Accounts and transfers of one's own."""
    limits = {"floor": usd(0), "ceiling": usd(100_000)}
    accounts = [
        {"account_id": account, "currency_code": "USD", "type": kind, "owner": "shop", **more}
        for account, kind, more in (
            ("cash:USD", "ACCOUNT_TYPE_ASSET", {"limits": limits}),
            ("fees:USD", "ACCOUNT_TYPE_INCOME", {}),
            ("old:USD", "ACCOUNT_TYPE_ASSET", {}),
        )
    ]
    await play("POST", "/v1/ledger/accounts", {"accounts": accounts})
    await play("GET", "/v1/ledger/accounts?owner=shop&page_size=1")
    forms = transfers_of_every_form()
    posted = await play("POST", "/v1/ledger/transfers", {"transfers": forms})
    assert {item["result"] for item in posted["results"]} == {"TRANSFER_RESULT_OK"}
    cash = await play("GET", "/v1/ledger/accounts/cash:USD")
    assert cash["balances"] == {
        "debits_posted": "1550",
        "credits_posted": "100",
        "debits_pending": "200",
        "credits_pending": "0",
    }
    held = await play("GET", f"/v1/ledger/transfers/{forms[1]['transfer_id']}")
    assert (held["hold"]["state"], held["hold"]["remaining"]) == ("HOLD_STATE_OPEN", usd(200))
    await play("GET", "/v1/ledger/accounts/cash:USD/entries?newest_first=true")
    await play("GET", "/v1/ledger/entries?account_prefix=cash:&code=7&page_size=1")
    await play("GET", "/v1/ledger/transfers?reference_kind=order&reference_id=o-1")
    await play("GET", f"/v1/ledger/accounts/cash:USD/statement?{ALWAYS}&by=TIME_EFFECTIVE")
    await play("GET", "/v1/ledger/entries:export?account_ids=cash:USD")
    await play("GET", "/v1/ledger/trial-balance")
    await recipes(play)
    found = await play("GET", "/v1/ledger/balance?account_prefix=cash:")
    assert [line["balance"] for line in found["lines"]] == [usd(1450)]
    month_end = {"currency_code": "USD", "closed_through": "2026-01-31T23:59:59.999999Z"}
    await play("POST", "/v1/ledger/periods:close", {"request_id": new_id(), **month_end})
    reopening = {"request_id": new_id(), "currency_code": "USD", "reason": "a late invoice"}
    reopening["closed_through"] = "2025-12-31T23:59:59.999999Z"
    await play("POST", "/v1/ledger/periods:reopen", reopening)
    await play("GET", "/v1/ledger/periods")
    reversal = {"request_id": new_id(), "reason": "booked twice"}
    await play("POST", f"/v1/ledger/transfers/{forms[0]['transfer_id']}:reverse", reversal)
    await later_and_watched(play)


async def later_and_watched(play: Any) -> None:
    """A transfer that waits and is taken back; a balance that is watched."""
    sides = {"debit_account_id": "cash:USD", "credit_account_id": "fees:USD"}
    rent = {
        **sides,
        "transfer_id": new_id(),
        "amount": usd(900),
        "not_before": "2100-01-01T00:00:00Z",
        "reference": {"kind": "lease", "id": "lea_1"},
    }
    answer = await play("POST", "/v1/ledger/transfers", {"transfers": [rent]})
    assert answer["results"][0]["result"] == "TRANSFER_RESULT_SCHEDULED"
    await play("GET", f"/v1/ledger/transfers/{rent['transfer_id']}")
    await play("GET", "/v1/ledger/scheduled-transfers?state=SCHEDULE_STATE_WAITING&page_size=20")
    cancel = {"request_id": new_id(), "reason": "moved out"}
    await play("POST", f"/v1/ledger/transfers/{rent['transfer_id']}:cancel", cancel)
    monitor = {
        "monitor_id": "low-cash",
        "account_id": "cash:USD",
        "side": "BALANCE_SIDE_AVAILABLE",
        "comparison": "COMPARISON_BELOW",
        "threshold": usd(1000),
        "description": "call the bank",
    }
    put = {"request_id": new_id(), "monitor": monitor}
    await play("POST", "/v1/ledger/monitors", put)
    await play("GET", "/v1/ledger/monitors?account_id=cash:USD")
    ended = {"request_id": new_id()}
    await play("POST", "/v1/ledger/monitors/low-cash:delete", ended)
    await play("POST", "/v1/ledger/monitors", {"request_id": new_id(), "monitor": monitor})
    await play("DELETE", "/v1/ledger/monitors/low-cash", None, {"Idempotency-Key": "low cash"})


async def recipes(play: Any) -> None:
    """A recipe of one's own, and what it makes of facts."""
    account = {"currency": "{price.currency}", "type": "ACCOUNT_TYPE_LIABILITY"}
    recipe = {
        "name": "sale",
        "description": "A sale at a market: ten percent are ours.",
        "reference_kind": "order",
        "parameters": [
            {"name": "seller", "type": "PARAMETER_TYPE_PARTY"},
            {"name": "price", "type": "PARAMETER_TYPE_AMOUNT"},
        ],
        "accounts": [
            {"name": "escrow", "account_id": "escrow:{price.currency}", **account},
            {
                "name": "seller",
                "account_id": "payable:{seller}:{price.currency}",
                "owner": "{seller}",
                **account,
            },
            {
                "name": "fees",
                "account_id": "market-fees:{price.currency}",
                **account,
                "type": "ACCOUNT_TYPE_INCOME",
            },
        ],
        "allocations": [
            {
                "name": "split",
                "of": "price",
                "residual_owner": "seller",
                "parts": [{"name": "fee", "percent": "10"}, {"name": "seller", "rest": True}],
            }
        ],
        "legs": [
            {"name": "seller", "debit": "escrow", "credit": "seller", "amount": "split.seller"},
            {"name": "fee", "debit": "escrow", "credit": "fees", "amount": "split.fee"},
        ],
    }
    await play("POST", "/v1/ledger/recipes", {"request_id": new_id(), "recipe": recipe})
    await play("GET", "/v1/ledger/recipes/sale")
    await play("GET", "/v1/ledger/recipes?page_size=2")
    values = {"seller": {"text": "ada"}, "price": {"amount": usd(1999)}}
    fact = {"parameters": values, "reference": {"kind": "order", "id": "o-7"}}
    posted = await play("POST", "/v1/ledger/recipes/sale:post", {"request_id": new_id(), **fact})
    assert [leg["leg"] for leg in posted["legs"]] == ["seller", "fee"]
    another = {"recipe": "sale", "parameters": values, "reference": {"kind": "order", "id": "o-8"}}
    missing = {**another, "recipe": "sail"}
    answer = await play("POST", "/v1/ledger/recipes:post", {"postings": [another, missing]})
    assert answer["results"][1]["refusal"]["reason"] == "RECIPE_NOT_FOUND"


async def proof(recorder: Recorder) -> None:
    """The chain of what was posted, its head, and a verification by it."""
    path, body = "/v1/ledger/integrity:verify", {"checks": ["INTEGRITY_CHECK_CHAIN"]}
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    while (await recorder.rest.acall("GET", "/v1/ledger/head")).status == 404:
        assert time.monotonic() < give_up_at, "no block was closed"
        await asyncio.sleep(0.1)
    head = await recorder.play("GET", "/v1/ledger/head")
    await recorder.play("GET", "/v1/ledger/blocks?newest_first=true&page_size=2")
    whole = {"checks": [*body["checks"], "INTEGRITY_CHECK_HEADS"], "heads": [head]}

    async def verified() -> list[dict[str, Any]]:
        reply = await recorder.rest.acall("POST", path, whole)
        assert reply.status == 200, reply.body
        lines = [json.loads(line) for line in reply.body.splitlines()]
        assert all("progress" in line["result"] for line in lines), lines
        assert lines[-1]["result"]["progress"]["done"]
        return lines

    accept = {"Accept": "text/event-stream"}
    lines = await verified()
    while True:
        before = lines
        events = (await recorder.rest.acall("POST", path, whole, accept)).body.decode()
        lines = await verified()
        if len(lines) == len(before):
            break
        # A block was closed meanwhile.
        assert time.monotonic() < give_up_at, "blocks are closed all the time"
    assert events.count("data: {") == len(lines), events
    shown = f"data: {json.dumps(lines[-1]['result'])}\n\n"
    recorder.keep("POST", path, whole, lines[-1], event_stream=shown)


async def receipts(recorder: Recorder, tenant: str, database: DatabaseUrls) -> None:
    """A receipt in the log, what it accepted, and proofs of the log; a batch that was held."""
    play = recorder.play
    sent = await play("POST", "/v1/metering/events", [event("use-4", "1"), event("use-5", "2")])
    path = f"/v1/metering/receipts/{sent['receipt_id']}"
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    while (await recorder.rest.acall("GET", path)).json()["status"] == "RECEIPT_STATUS_PENDING":
        assert time.monotonic() < give_up_at, "the log was not closed"
        await asyncio.sleep(0.1)
    receipt = await play("GET", path)
    await play("GET", f"{path}/events?page_size=2")
    await play("GET", "/v1/metering/log/head")
    await play("GET", "/v1/metering/log/heads?page_size=2")
    size = receipt["head"]["tree_size"]
    asked = f"first_tree_size=1&second_tree_size={size}"
    await play("GET", f"/v1/metering/log/consistency?{asked}")
    found = await play("POST", "/v1/metering/log:verify", {"page_size": 1000})
    assert found["findings"] == []
    found = await play("POST", "/v1/metering/rollups:verify", {"page_size": 1000})
    assert found["findings"] == []
    held = leave_spooled(database.service, tenant, "use-5")
    await play("GET", f"/v1/metering/spooled-batches/{held}")


async def heard(recorder: Recorder, folder: Path, tenant: str) -> None:
    """What a processor tells by itself."""
    (folder / tenant).mkdir()
    kept = {"secret": "sk_test_x", "webhook_secrets": ["whsec_x"]}
    (folder / tenant / "stripe-test.json").write_text(json.dumps(kept))
    account = {"processor_id": "stripe", "adapter": "stripe", "credential_ref": "stripe-test"}
    methods = [{"method": "card", "processor_id": "stripe"}]
    config = {"methods": methods, "processors": [account]}
    path = "/v1/merchant-configs/boutique"
    await recorder.play("PUT", path, {"request_id": new_id(), "config": config})
    intent = {"object": "payment_intent", "metadata": {"merchant_ref": "order-1"}}
    told = {"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": intent}}
    signature = stripe.WebhookSignature.generate_signature_header(json.dumps(told), "whsec_x")
    headers = {"Stripe-Signature": signature}
    await recorder.play("POST", "/v1/processors/stripe/webhooks", told, headers)


async def payments(recorder: Recorder) -> None:
    """A merchant's configuration and a payment."""
    play = recorder.play
    methods = [
        {"method": "card", "processor_id": "sandbox-card"},
        {"method": "other", "processor_id": "sandbox-card-mute"},
    ]
    config = {
        "request_id": new_id(),
        "config": {"methods": methods, "timeouts": {"call_timeout": "1s"}},
    }
    await play("PUT", "/v1/merchant-configs/shop", config)
    await play("GET", "/v1/merchant-configs/shop")
    await play("GET", "/v1/merchant-configs")
    await play("GET", "/v1/merchant-configs/shop/versions")
    wanted = {
        "merchant_id": "shop",
        "order_id": "o-1",
        "amount": "12.50",
        "currency": "USD",
        "payment_methods": ["card"],
    }
    await play("POST", "/v1/payments:plan", wanted)
    made = await play("POST", "/v1/payments", wanted, {"Idempotency-Key": "order o-1"})
    assert made["status"] == "PAYMENT_STATUS_SUCCEEDED", made
    await play("GET", f"/v1/payments/{made['payment_id']}")
    await play("GET", "/v1/payments?merchant_id=shop&status=PAYMENT_STATUS_SUCCEEDED")
    path = f"/v1/payments/{made['payment_id']}:watch"
    (line,) = (await recorder.rest.acall("GET", path)).body.splitlines()
    state = json.loads(line)
    accept = {"Accept": "text/event-stream"}
    told = (await recorder.rest.acall("GET", path, None, accept)).body.decode()
    assert told.count("data: {") == 1, told
    shown = f"data: {json.dumps(state['result'])}\n\n"
    recorder.keep("GET", path, None, state, event_stream=shown)
    await play("GET", "/v1/processors?merchant_id=shop")
    fees = [{"processor_id": "sandbox-card", "percent": "2.9"}]
    fees += [{"processor_id": "sandbox-card-second", "percent": "1.5"}]
    other = {"methods": [{"method": "card", "processor_id": "sandbox-card-second"}], "fees": fees}
    await play("POST", "/v1/merchant-configs/shop:simulate", {"config": other})
    await play("GET", "/v1/processors/sandbox-card/health?window=3600s")
    back = {"amount": {"currency_code": "USD", "minor_units": "250"}, "reason": "damaged"}
    given = await play(
        "POST", f"/v1/payments/{made['payment_id']}:refund", back, {"Idempotency-Key": "r-1"}
    )
    assert given["instruction"]["status"] == "INSTRUCTION_STATUS_SUCCEEDED", given
    held = wanted | {"order_id": "o-2", "capture": "manual"}
    made = await play("POST", "/v1/payments", held, {"Idempotency-Key": "order o-2"})
    assert made["status"] == "PAYMENT_STATUS_AUTHORIZED", made
    part = {"amount": {"currency_code": "USD", "minor_units": "1000"}, "keep_open": True}
    await play(
        "POST", f"/v1/payments/{made['payment_id']}:capture", part, {"Idempotency-Key": "c-2"}
    )
    await play("POST", f"/v1/payments/{made['payment_id']}:void", {}, {"Idempotency-Key": "v-2"})
    unknown = {name: wanted[name] for name in ("merchant_id", "amount", "currency")} | {
        "order_id": "o-3",
        "method": "other",
        "token": "tok_timeout",
    }
    made = await play("POST", "/v1/payments", unknown, {"Idempotency-Key": "order o-3"})
    (attempt,) = made["attempts"]
    while attempt["status"] != "ATTEMPT_STATUS_MANUAL":
        await asyncio.sleep(0.2)
        found = await play("GET", f"/v1/payments/{made['payment_id']}")
        (attempt,) = found["attempts"]
    verdict = {"verdict": "VERDICT_SUCCEEDED", "evidence": "charge ch_1 in their books"}
    found = await play(
        "POST", f"/v1/attempts/{attempt['attempt_id']}:resolve", verdict, {"Idempotency-Key": "a-3"}
    )
    assert found["payment"]["status"] == "PAYMENT_STATUS_SUCCEEDED", found


async def commissions(recorder: Recorder) -> None:
    """What a partner earns is claimed at once and comes back; a part is asked for and paid, the rest is swept."""
    play = recorder.play
    policy = {"payout_threshold": usd(1500), "payout_minimums": [usd(100)], "sweep": "0 6 * * FRI"}
    await play("POST", "/v1/settlement/policies", {"request_id": new_id(), "policy": policy})
    await play("GET", "/v1/settlement/policies?seller=north")
    more = {
        "entitlements": [
            {"org_id": "gamma", "plan_id": "p", "effective_at": "2025-01-01T00:00:00Z"}
        ],
        "partners_of_record": [{"org_id": "gamma", "partner_id": "north"}],
    }
    catalog = {"request_id": new_id(), "catalog": more}
    assert (await recorder.rest.acall("POST", "/v1/pricing/catalog", catalog)).status == 200
    used = {**event("use-gamma", "4000"), "org_id": "gamma"}
    assert (await recorder.rest.acall("POST", "/v1/metering/events", [used])).status == 202
    charging = {"request_id": new_id(), "org_id": "gamma", "period": JANUARY}
    assert (await recorder.rest.acall("POST", "/v1/billing/charges", charging)).status == 201
    claimed = "PAYOUT_STATUS_CLAIMED"
    (payout,) = await settled(recorder, "/v1/payouts?party=north", "payouts", claimed)
    await play("GET", "/v1/commissions?party=north&page_size=2")
    await play("GET", f"/v1/payouts/{payout['payout_id']}")
    back = {"request_id": new_id(), "return_code": "R03"}
    await play("POST", f"/v1/payouts/{payout['payout_id']}:record-return", back)
    asked = {"request_id": new_id(), "party": "north", "amount": usd(500)}
    made = await play("POST", "/v1/payouts", {**asked, "destination": "account on file"})
    await settled(recorder, f"/v1/payouts?status={claimed}", "payouts")
    paid = {"request_id": new_id(), "payment_reference": "E2E-2031"}
    await play("POST", f"/v1/payouts/{made['payout_id']}:record-payment", paid)
    sweep = await play("POST", "/v1/commissions:sweep", {"request_id": new_id()})
    # Its steps are posted within milliseconds or not: the examples show it posted.
    await settled(recorder, f"/v1/payouts?sweep_id={sweep['sweep_id']}", "payouts", claimed)
    await play("GET", f"/v1/commissions/sweeps/{sweep['sweep_id']}")
    await play("GET", "/v1/commissions/sweeps?page_size=1")
    await play("GET", f"/v1/payouts?sweep_id={sweep['sweep_id']}&page_size=20")
    await play("GET", "/v1/commissions/balances?party=north")
    await play("POST", "/v1/commissions:verify", {"page_size": 20})


async def orders(recorder: Recorder) -> None:
    """A draft that is adjusted and opened, noted and cancelled."""
    play = recorder.play
    order = {
        "person_id": new_prefixed("per"),
        "organization_id": new_prefixed("org"),
        "status": "DRAFT",
        "amount_total": usd(12000),
        "created_via": "portal",
    }
    made = await play("POST", "/v1/orders", {"request_id": new_id(), "order": order})
    path = f"/v1/orders/{made['order_id']}"
    total = {"amount_total": usd(10000), "updated_via": "portal"}
    await play("POST", f"{path}:adjust-total", {"request_id": new_id(), **total})
    await play("POST", f"{path}:open", {"request_id": new_id(), "updated_via": "portal"})
    notes = {"notes": "called twice", "operator_flags": ["vip"]}
    await play("POST", f"{path}:update-notes", {"request_id": new_id(), **notes})
    why = {"reason": "ordered twice", "updated_via": "portal"}
    await play("POST", f"{path}:cancel", {"request_id": new_id(), **why})
    await play("GET", path)
    await play("GET", f"/v1/orders?person_id={order['person_id']}&page_size=20")
    sold = {"request_id": new_id(), "order": {**order, "status": "OPEN"}}
    made = (await recorder.rest.acall("POST", "/v1/orders", sold)).json()
    path = f"/v1/orders/{made['order_id']}"
    check = {"method": "check", "check_number": "1042", "amount": usd(12000), "operator": "Grace"}
    await play("POST", f"{path}:record-payment", {"request_id": new_id(), **check})
    back = {"amount": usd(2000), "reason": "too cold", "initiated_by": "Grace"}
    refund = await play("POST", f"{path}:refund", {"request_id": new_id(), **back})
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    while True:
        actions = await settled(recorder, f"{path}/external-actions", "external_actions")
        if all(each["posting_id"] for each in actions):
            break
        assert time.monotonic() < give_up_at, actions
        await asyncio.sleep(0.05)
    await play("GET", f"{path}/external-actions")
    await play("GET", f"/v1/refunds/{refund['refund_id']}")
    await play("GET", f"/v1/refunds?order_id={made['order_id']}&page_size=20")


async def credits(recorder: Recorder) -> None:
    """Credits that are bought, and taken back."""
    play = recorder.play
    grant = {
        "owner_id": new_prefixed("per"),
        "unit": "USD",
        "amount": "120.00",
        "source": "PURCHASED",
        "order_id": new_prefixed("ord"),
        "expires_at": "2099-01-01T00:00:00Z",
    }
    made = await play("POST", "/v1/credits/grants", {"request_id": new_id(), "grant": grant})
    owner = f"owner_id={grant['owner_id']}&unit=USD"
    await play("GET", f"/v1/credits/balance?{owner}")
    why = {"request_id": new_id(), "reason": "bought twice"}
    await play("POST", f"/v1/credits/grants/{made['grant_id']}:reverse", why)
    await play("GET", f"/v1/credits/grants?{owner}&page_size=20")


async def agreements(recorder: Recorder) -> None:
    """A contract that is drafted, activated and corrected for the past."""
    play = recorder.play
    term = {"start_at": "2026-01-01T00:00:00Z", "end_at": "2027-01-01T00:00:00Z"}
    begin = {"buyer": "acme", "seller": "north", "currency_code": "USD", "term": term}
    rack = {"product_id": "rack", "sku": "colo", "quantity": "2", "unit_price": "450.00"}
    edits = [{"create": begin}, {"add_product": {"product": rack}}, {"activate": {}}]
    whole = {"request_id": new_id(), "effective_at": "2026-01-01T00:00:00Z", "edits": edits}
    made = await play("POST", "/v1/agreements:apply-edits", whole)
    path = f"/v1/agreements/{made['agreement']['agreement_id']}"
    await play("GET", f"{path}?effective_at=2026-02-01T00:00:00Z")
    await play("GET", f"{path}/edits?page_size=20")
    await play("GET", "/v1/agreements?page_size=20")


async def events(recorder: Recorder, mesh: Mesh, url: str) -> str:
    """Events of one's own, and webhooks; gives the id of an event."""
    play = recorder.play
    schema = '{"type": "object", "required": ["sku"]}'
    soon = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    first = {"version": 1, "json_schema": schema}
    kind = {"subject": "stock.moved", "owner": "depot", "description": "Goods came or went."}
    await play("POST", "/v1/event-types", {"event_types": [{**kind, "versions": [first]}]})
    await play("GET", "/v1/event-types/stock.moved")
    await play("GET", "/v1/event-types?page_size=2")
    hook = {"request_id": new_id(), "url": f"{url}/hook", "subjects": ["stock.*"]}
    endpoint = (await play("POST", "/v1/webhook-endpoints", hook))["endpoint"]["endpoint_id"]
    path = f"/v1/webhook-endpoints/{endpoint}"
    moved = {"id": "m-1", "subject": "stock.moved", "key": "bolt", "data": {"sku": "bolt"}}
    await play("POST", "/v1/events", {"events": [moved]})
    cloud = {"specversion": "1.0", "id": "m-2", "source": "/depot/7", "type": "stock.moved"}
    body = json.dumps({**cloud, "data": {"sku": "nut"}}).encode()
    media = {"Content-Type": "application/cloudevents+json"}
    await play("POST", "/v1/events:cloudevents", body, media)
    await mesh.drain_events()
    await play("GET", "/v1/events?subjects=stock.moved&page_size=10")
    tail = "subjects=stock.moved&from_start=true"
    async with event_stream(recorder.rest, tail) as stream:
        ((cursor, data),) = await asyncio.to_thread(read_events, stream, 1)
    text = recorder.stable({"cursor": cursor, "data": data})
    shown = f"id: {text['cursor']}\ndata: {json.dumps(text['data'])}\n\n"
    line = {"result": data}
    recorder.keep("GET", f"/v1/events:tail?{tail}", None, line, event_stream=shown)
    delivered = "WEBHOOK_DELIVERY_STATUS_DELIVERED"
    await settled(
        recorder, f"/v1/webhook-deliveries?endpoint_id={endpoint}", "deliveries", delivered
    )
    await play("GET", path)
    await play("GET", "/v1/webhook-endpoints")
    await play("GET", f"/v1/webhook-deliveries?endpoint_id={endpoint}&status={delivered}")
    await play("GET", f"/v1/webhook-attempts?endpoint_id={endpoint}")
    await play("POST", f"{path}:test", {"request_id": new_id()})
    again = {"request_id": new_id(), "event_id": "m-1"}
    await play("POST", f"{path}:redeliver", again)
    await play("POST", f"{path}:rotate-secret", {"request_id": new_id(), "overlap": "86400s"})
    await play("PATCH", path, {"request_id": new_id(), "description": "stock of the depot"})
    await play("DELETE", path, None, {"Idempotency-Key": "endpoint of the depot"})
    second = {"version": 2, "json_schema": schema, "cutover_at": soon}
    await play("POST", "/v1/event-types", {"event_types": [{**kind, "versions": [first, second]}]})
    return "m-1"


async def time_and_failures(
    recorder: Recorder, mesh: Mesh, tenant: str, urls: DatabaseUrls
) -> None:
    """Schedules, timers, journeys, consumers and what failed."""
    play = recorder.play
    schedule = {
        "name": "monday-report",
        "cron": "0 8 * * MON",
        "time_zone": "Europe/Berlin",
        "subject": "stock.moved",
        "data": {"sku": "bolt"},
    }
    for method, path in (("POST", ":delete"), ("DELETE", "")):
        await play("POST", "/v1/schedules", {"request_id": new_id(), "schedule": schedule})
        await play("GET", "/v1/schedules")
        body = {"request_id": new_id()} if path else None
        headers = None if path else {"Idempotency-Key": "no more reports"}
        await play(method, f"/v1/schedules/monday-report{path}", body, headers)
    timers = (await play("GET", "/v1/timers?key_prefix=event-type"))["timers"]
    cancel = {"request_id": new_id()}
    await play("POST", f"/v1/timers/{timers[0]['timer_id']}:cancel", cancel)
    await asyncio.to_thread(start_seasoning, urls.service, tenant, "pay-7")
    await play("GET", "/v1/journeys?journey_type=seasoning")
    await play("GET", "/v1/journeys/seasoning/pay-7")
    await mesh.drain_events()
    await play("GET", "/v1/consumers?page_size=2")
    await play("GET", "/v1/dead-letters?consumer=monitoring.violations")
    replayed = {"request_id": new_id(), "consumer": "monitoring.violations"}
    await play("POST", "/v1/dead-letters:replay", replayed)
    now = datetime.now(UTC)
    period = {
        "start_at": (now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "end_at": (now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    again = {"request_id": new_id(), "consumer": "monitoring.violations", "period": period}
    await play("POST", "/v1/events:replay", again)


async def guardrails(play: Any) -> None:
    """A budget, holds that ask before an action is taken, and their ends."""
    budget = {
        "budget_id": "tokens:acme",
        "org_id": "acme",
        "sku": "sms",
        "period": "BUDGET_PERIOD_CALENDAR_MONTH",
        "time_zone": "Europe/Berlin",
        "limit_quantity": "1000000",
        "mode": "BUDGET_MODE_HARD",
        "thresholds_pct": [80, 100],
        "description": "What acme has agreed to use in a month.",
    }
    put = {"request_id": new_id(), "budget": budget}
    await play("POST", "/v1/metering/budgets", put)
    ask = {"org_id": "acme", "sku": "sms", "quantity": "4000", "hold_for": "60s"}
    holds = [
        (await play("POST", "/v1/metering/holds", {"request_id": new_id(), **ask}))["hold_id"]
        for _ in range(2)
    ]
    await play("GET", "/v1/metering/holds?org_id=acme")
    done = {"request_id": new_id(), "quantity": "3120"}
    await play("POST", f"/v1/metering/holds/{quote(holds[0])}:commit", done)
    await play("POST", f"/v1/metering/holds/{quote(holds[1])}:release", {"request_id": new_id()})
    await play("GET", "/v1/metering/budgets?org_id=acme")
    await play("GET", "/v1/metering/budgets/tokens:acme/status")
    await play("POST", "/v1/metering/budgets/tokens:acme:delete", {"request_id": new_id()})
    await play("POST", "/v1/metering/budgets", {"request_id": new_id(), "budget": budget})
    path = "/v1/metering/budgets/tokens:acme"
    await play("DELETE", path, None, {"Idempotency-Key": "tokens of acme"})


async def promises_and_keys(play: Any) -> None:
    """Contracts with their violations, late usage, keys."""
    contract = {
        "contract_id": "checkout/answers",
        "title": "Checkout answers",
        "kind": "CONTRACT_KIND_OBJECTIVE",
        "severity": "high",
        "owner": "checkout",
        "description": "Every checkout is answered within 2 s.",
        "runbook": "https://runbooks.example/checkout",
    }
    await play("POST", "/v1/monitoring/contracts", {"contracts": [contract]})
    await play("GET", "/v1/monitoring/contracts?page_size=2")
    violation = {
        "contract_id": "checkout/answers",
        "service": "checkout",
        "severity": "high",
        "message": "answered after 2350 ms",
        "occurred_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    await play("POST", "/v1/monitoring/violations", {"violations": [violation]})
    await play("GET", "/v1/monitoring/violations?contract_id=checkout/answers")
    await play("POST", "/v1/metering/events", [event("use-late", "1")])
    await play("GET", f"/v1/metering/late-events?org_id=acme&{PERIOD}")
    amended = {"event": event("use-late", "2"), "reason": "counted one too few"}
    amend = {"request_id": new_id(), "amendments": [amended]}
    await play("POST", "/v1/metering/events:amend", amend)
    cancel = {"request_id": new_id(), "request_ids": ["use-late"], "reason": "a test run"}
    await play("POST", "/v1/metering/events:cancel", cancel)
    await play("GET", "/v1/metering/event?event_id=use-late")
    used = {"specversion": "1.0", "id": "use-9", "source": "/api/eu", "type": "api.calls"}
    used |= {"subject": "acme", "time": event("x", "1")["time"]}
    body = json.dumps({**used, "data": {"quantity": 3, "region": "eu"}}).encode()
    media = {"Content-Type": "application/cloudevents+json"}
    await play("POST", "/v1/metering/events:cloudevents", body, media)
    await play("GET", f"/v1/metering/stored-events?org_id=acme&page_size=2&{PERIOD}")
    await play("GET", f"/v1/metering/usage-orgs?{PERIOD}")
    missing: dict[str, Any] = {"kind": "DRIFT_KIND_MISSING", "org_id": "acme", "quantity": "3"}
    missing |= {"sku": "api.calls", "start_at": "2026-01-15T00:00:00Z", "event_count": "1"}
    drift = {"request_id": new_id(), "provider": "api-eu", "findings": [missing]}
    await play("POST", "/v1/metering/usage-drift", drift)
    await play("GET", f"/v1/metering/events?org_id=acme&page_size=2&{PERIOD}")
    await play("POST", "/v1/metering/events", [{**event("use-lost", "1"), "sku": "api.cals"}])
    await play("GET", "/v1/metering/rejected-events?sku=api.cals")
    replay = {"request_id": new_id(), "sku": "api.cals", "fix": {"sku": "api.calls"}}
    await play("POST", "/v1/metering/rejected-events:replay", replay)
    await guardrails(play)
    named = {"request_id": new_id(), "name": "reports", "scopes": ["billing:read"]}
    key = (await play("POST", "/v1/access/keys", named))["api_key"]["key_id"]
    await play("GET", "/v1/access/keys?page_size=1")
    await play("POST", f"/v1/access/keys/{quote(key)}:revoke", {"request_id": new_id()})


async def errors(recorder: Recorder, mesh: Mesh, reader: Rest) -> None:
    """One error of each status that the description names."""
    rest = recorder.rest
    ask = "/v1/billing/charges"
    keep = recorder.keep_error
    keep(await rest.acall("GET", f"{ask}?page_size=1001"), 400)
    keep(await Rest(rest.url).acall("GET", ask), 401)
    keep(await reader.acall("GET", "/v1/ledger/accounts"), 403)
    keep(await rest.acall("GET", f"{ask}/chg_nothing"), 404)
    used = {"Idempotency-Key": "order o-1"}
    keep(await rest.acall("POST", "/v1/payments", {"order_id": "o-2"}, used), 409)
    keep(await rest.acall("POST", ask, {"org_id": "acme"}, {"Content-Type": "text/plain"}), 415)
    keep(await rest.acall("GET", ask, None, {"Grpc-Timeout": "1n"}), 504)
    with facade(mesh.address, "--streams-max", "1", "--body-bytes-max", "1048576") as busy:
        small = Rest(busy, rest.key)
        keep(await small.acall("POST", ask, b" " * 1_048_577), 413)
        async with event_stream(small, ""):
            keep(await small.acall("GET", "/v1/events:tail"), 429)
    with facade("127.0.0.1:9") as alone:
        keep(await Rest(alone, rest.key).acall("GET", ask), 503)


@pytest_asyncio.fixture
async def recorder(
    mesh: Mesh,
    rest: Rest,
    caller: MakeCaller,
    tenant: str,
    database: DatabaseUrls,
    credentials: Path,
) -> AsyncIterator[Recorder]:
    """Every operation was called."""
    recorder = Recorder(rest)
    await usage_to_money(recorder.play)
    await books(recorder.play)
    await proof(recorder)
    await receipts(recorder, tenant, database)
    await payments(recorder)
    await heard(recorder, credentials, tenant)
    await commissions(recorder)
    await orders(recorder)
    await credits(recorder)
    await agreements(recorder)
    async with receiving() as receiver:
        await events(recorder, mesh, receiver.url)
    await time_and_failures(recorder, mesh, tenant, database)
    await promises_and_keys(recorder.play)
    await errors(recorder, mesh, await caller("billing:read"))
    yield recorder


async def test_every_operation_has_an_example_that_is_true(recorder: Recorder) -> None:
    described = examples.operations()
    assert recorder.calls.keys() == described.keys(), "the scenario calls every operation"
    if WRITES:
        recorder.write()
        return  # the description is made of them next
    wrong: list[str] = []
    for name, (_, _, operation) in described.items():
        file = examples.FOLDER / f"{name}.json"
        if not file.exists():
            wrong.append(f"{name}: has no example")
            continue
        kept, made = json.loads(file.read_text()), recorder.calls[name]
        if examples.shape(kept) != examples.shape(made):
            wrong.append(f"{name}: calls look different now: {json.dumps(made)[:2000]}")
        checks = [(kept["response"], examples.answer_of(operation)["schema"], "response")]
        if "request" in kept:
            checks.append((kept["request"], examples.request_schema(operation), "request"))
        schemas = examples.parameter_schemas(operation)
        checks += [
            (kept["parameters"][key], schemas[key], key) for key in kept.get("parameters", {})
        ]
        for value, schema, what in checks:
            wrong += [f"{name}, {what}: {fault}" for fault in examples.faults(value, schema)]
        if examples.answer_of(operation).get("example") != kept["response"]:
            wrong.append(f"{name}: the description holds another example; run `make generate`")
    kept_errors = json.loads((examples.FOLDER / f"{examples.ERRORS}.json").read_text())
    status = {"$ref": "#/components/schemas/google.rpc.Status"}
    if examples.shape(kept_errors) != examples.shape(recorder.errors):
        wrong.append("errors look different now")
    for code, error in kept_errors.items():
        wrong += [f"error {code}: {fault}" for fault in examples.faults(error, status)]
    assert not wrong, "\n".join([*wrong, "`make examples` writes them anew."])


def test_an_example_that_does_not_fit_is_found() -> None:
    _, _, operation = examples.operations()["ChargeService_GetCharge"]
    schema = examples.answer_of(operation)["schema"]
    assert examples.faults({"charge_id": 5}, schema)
    assert examples.shape({"a": [{"b": 1}, {"c": ""}]}) == {"a": [{"b": "int", "c": "str"}]}
    assert examples.shape({"a": []}) != examples.shape({"a": [1]})
    with pytest.raises(LookupError):
        examples.operation_of("GET", "/v1/nothing")
    name, variables = examples.operation_of("POST", "/v1/webhook-endpoints/x:test")
    assert (name, variables) == ("EventService_TestWebhookEndpoint", {"endpoint_id": "x"})
