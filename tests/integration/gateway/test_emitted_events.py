"""What the mesh does is told: one real flow through every service emits every event type that they own."""

from __future__ import annotations

import asyncio
import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from payments.events.v1 import events_pb2, events_service_pb2, events_service_pb2_grpc

from services.runtime import manifests
from services.runtime.outbox import registry
from tests.integration.gateway.test_rest import CATALOG, JANUARY, event, new_id
from tests.support.http.rest import Reply, Rest
from tests.support.mesh.serving import Mesh

# What the event service tells of itself needs time to pass or an endpoint to fail; its own suites see them told:
# tests/integration/timers, tests/integration/events.
OF_EVENTS = {kind.subject for kind in registry.all_types().values() if kind.owner == "events"}
# Fields of an emitted payload that may be empty in a sound event, each with the reason.
MAY_BE_EMPTY = {
    ("usage.reported", "totals_omitted"): "false: the totals are told",
    ("usage.aggregated", "totals_omitted"): "false: the sums are told",
    ("usage.rated", "lines_omitted"): "false: the lines are told",
    ("usage.aggregated", "adjusts_charge_id"): "the charge adjusts none",
    ("usage.rated", "adjusts_charge_id"): "the charge adjusts none",
    ("charge.created", "adjusts_charge_id"): "the charge corrects none",
    ("charge.created", "partner_line_count"): "0: nobody earns on it",
    ("charge.created", "total_with_tax"): "absent: nothing of it is taxed",
    ("payout.claimed", "charge_id"): "it is of a sweep",
    ("payout.claimed", "line_id"): "it is of a sweep",
    ("payout.claimed", "sweep_id"): "it was paid at once",
    ("payout.claimed", "destination"): "nobody asked for it",
    ("commissions.swept", "scheduled"): "false: it was asked for",
    ("usage.late", "totals_omitted"): "false: the totals are told",
    ("payment.step.succeeded", "step_index"): "the first step is 0",
    ("payment.step.succeeded", "latency_ms"): "the sandbox may answer within a millisecond",
    ("payment.step.refunded", "step_index"): "the first step is 0",
    ("payment.step.refunded", "latency_ms"): "as above",
    ("payment.step.failed", "step_index"): "the first step is 0",
    ("payment.step.failed", "latency_ms"): "as above",
    ("payment.step.failed", "retryable"): "false for a refusal",
    ("contract.violated", "service"): "the contract's id leads with it",
    ("ledger.batch.posted", "references"): "its transfers may be for nothing that has a name",
    ("ledger.batch.posted", "references_left_out"): "none is left out",
    ("ledger.period.closed", "closed_through_before"): "absent: the books were open",
}
DUE_WITHIN_S = 60.0


async def test_a_real_flow_emits_every_event_of_the_services(
    mesh: Mesh, rest: Rest, tenant: str
) -> None:
    await sold(rest)
    await used_and_charged(rest)
    await mesh.drain_events()  # metering hears of the charge, and that its period is closed
    await done(rest, "/v1/metering/events", [event("e3", 1)], 202)
    await paid(rest)
    await earned(rest)
    await kept(rest)
    await agreed(rest)
    await mesh.drain_events()
    told = await told_when_due(mesh, tenant, "ledger.scheduled.refused")
    owned = {kind.subject for kind in registry.all_types().values()}
    assert {item.subject for item in told} == owned - OF_EVENTS
    for item in told:
        check_complete(item)


async def test_only_services_of_the_mesh_own_events() -> None:
    """An owner that is no service could never emit what nobody else may publish."""
    services = {service.name for service in manifests.found()}
    assert {kind.owner for kind in registry.all_types().values()} <= services


async def sold(rest: Rest) -> None:
    """A plan that is created, changed and, for newcomers, ended."""
    catalog = copy.deepcopy(CATALOG)
    disk = {"sku": "disk", "type": "SKU_TYPE_HOSTING", "unit": "hour"}
    catalog["skus"].append({**disk, "aggregation": "AGGREGATION_WEIGHTED_SUM"})
    catalog["plans"][0]["prices"].append({**catalog["plans"][0]["prices"][0], "sku": "disk"})
    catalog["entitlements"].append({**catalog["entitlements"][0], "org_id": "gamma"})
    catalog["partners"] = [{"partner_id": "north", "name": "Northwind", "tier": "gold"}]
    catalog["partners_of_record"] = [{"org_id": "gamma", "partner_id": "north"}]
    catalog["commission_rates"] = [{"partner_tier": "gold", "pct": "10"}]
    await done(rest, "/v1/pricing/catalog", {"request_id": new_id(), "catalog": catalog})
    catalog["plans"][0]["name"] = "P, renamed"
    await done(rest, "/v1/pricing/catalog", {"request_id": new_id(), "catalog": catalog})
    catalog["plans"][0]["status"] = "STATUS_DEPRECATED"
    await done(rest, "/v1/pricing/catalog", {"request_id": new_id(), "catalog": catalog})
    window = {"request_id": new_id(), "accept_past": "315360000s"}
    answer = await rest.acall("PATCH", "/v1/metering/ingest-settings", window)
    assert answer.status == 200, answer.body


async def used_and_charged(rest: Rest) -> None:
    """Usage that reaches a budget, of which one event is refused; a charge, and one that cannot be rated."""
    budget = {
        "budget_id": "sms:acme",
        "org_id": "acme",
        "sku": "sms",
        "period": "BUDGET_PERIOD_CALENDAR_MONTH",
        "time_zone": "Europe/Berlin",
        "limit_amount": usd(500),
        "mode": "BUDGET_MODE_SOFT",
        "thresholds_pct": [100],
    }
    await done(rest, "/v1/metering/budgets", {"request_id": new_id(), "budget": budget})
    await done(rest, "/v1/metering/events", [event("e1", 100), event("e2", 1, sku="fax")], 202)
    charge = {"request_id": new_id(), "org_id": "acme", "period": JANUARY}
    await done(rest, "/v1/billing/charges", charge, 201)
    await taken_back(rest)
    charge = {"request_id": new_id(), "org_id": "nobody", "period": JANUARY}
    refused = await rest.acall("POST", "/v1/billing/charges", charge)
    assert (refused.status, refused.reason) == (400, "NO_PLAN"), refused.body


async def taken_back(rest: Rest) -> None:
    """A charge of December that is reversed."""
    december = {"start_at": "2025-12-01T00:00:00Z", "end_at": "2026-01-01T00:00:00Z"}
    late = event("e0", 3) | {"time": "2025-12-24T18:00:00Z"}
    await done(rest, "/v1/metering/events", [late], 202)
    charge: dict[str, Any] = {"request_id": new_id(), "org_id": "acme", "period": december}
    made = json.loads((await done(rest, "/v1/billing/charges", charge, 201)).body)
    reversal = {"request_id": new_id(), "reason": "sent to the wrong organisation"}
    await done(rest, f"/v1/billing/charges/{made['charge_id']}:reverse", reversal)


async def earned(rest: Rest) -> None:
    """A commission that is claimed at once and paid, comes back, and is swept."""
    policy = {"request_id": new_id(), "policy": {"payout_threshold": usd(1500)}}
    await done(rest, "/v1/settlement/policies", policy)
    await done(rest, "/v1/metering/events", [{**event("e-gamma", 4000), "org_id": "gamma"}], 202)
    charge = {"request_id": new_id(), "org_id": "gamma", "period": JANUARY}
    await done(rest, "/v1/billing/charges", charge, 201)
    payout = (await claimed(rest))[0]["payout_id"]
    payment = {"request_id": new_id(), "payment_reference": "E2E-1"}
    await done(rest, f"/v1/payouts/{payout}:record-payment", payment)
    back = {"request_id": new_id(), "return_code": "R03"}
    await done(rest, f"/v1/payouts/{payout}:record-return", back)
    await done(rest, "/v1/commissions:sweep", {"request_id": new_id()})
    await claimed(rest)


async def claimed(rest: Rest) -> list[dict[str, Any]]:
    """Wait until a payout is claimed."""
    path = "/v1/payouts?status=PAYOUT_STATUS_CLAIMED"
    for _ in range(int(DUE_WITHIN_S / 0.1)):
        found: list[dict[str, Any]] = json.loads((await rest.acall("GET", path)).body)["payouts"]
        if found:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("nothing was claimed")


async def paid(rest: Rest) -> None:
    """A payment whose first processor is down, one that every processor refuses, one of which a step is given back."""
    config = {
        "merchant_id": "shop",
        "methods": [
            {
                "method": "card",
                "processor_id": "sandbox-card-down",
                "fallback_processor_ids": ["sandbox-card"],
            },
            {"method": "wallet", "processor_id": "sandbox-wallet"},
        ],
        "split": "SPLIT_CHARGE_IN_TURN",
    }
    answer = await rest.acall(
        "PUT", "/v1/merchant-configs/shop", {"request_id": new_id(), "config": config}
    )
    assert answer.status == 200, answer.body
    declined = {"method": "card", "token": "tok_decline"}
    part = {"method": "wallet", "max_amount": "2.00"}
    for order, methods in (
        ("o-1", [{"method": "card", "token": "tok_approve"}]),
        ("o-2", [declined]),
        ("o-3", [part, declined]),
    ):
        request = {
            "merchant_id": "shop",
            "order_id": order,
            "person_id": "meier",
            "org_id": "acme",
            "amount": "5.00",
            "currency": "USD",
            "payment_methods": methods,
        }
        answer = await rest.acall(
            "POST", "/v1/payments", json.dumps(request).encode(), {"Idempotency-Key": new_id()}
        )
        assert answer.status == 201, answer.body


async def agreed(rest: Rest) -> None:
    """A contract through all that may change of it."""
    term = {"start_at": "2026-01-01T00:00:00Z", "end_at": "2027-01-01T00:00:00Z"}
    begin = {"buyer": "acme", "seller": "north", "currency_code": "USD", "term": term}
    rack = {"product_id": "rack", "sku": "colo", "quantity": "2", "unit_price": "450.00"}
    party = {"role": "ROLE_PARTNER", "party_id": "p-1", "share_pct": "10"}
    edits: list[dict[str, Any]] = [
        {"create": begin},
        {"add_product": {"product": rack}},
        {"add_product": {"product": rack | {"product_id": "ups"}}},
        {"change_price": {"product_id": "rack", "unit_price": "400"}},
        {"change_quantity": {"product_id": "rack", "quantity": "3"}},
        {"remove_product": {"product_id": "ups"}},
        {"assign_party": {"party": party}},
        {"change_terms": {"net_days": 30, "reference": "MSA 7"}},
        {"activate": {}},
        {"renew": {"months": 12, "price_change_pct": "2"}},
    ]
    whole = {"request_id": new_id(), "effective_at": "2026-01-01T00:00:00Z", "edits": edits}
    await done(rest, "/v1/agreements:apply-edits", whole)


async def kept(rest: Rest) -> None:
    """Books: a balance that is watched, months closed and reopened, and a transfer that is refused when it is due."""
    names = ("cash:USD", "sales:USD")
    accounts = [
        {
            "account_id": name,
            "currency_code": "USD",
            "type": "ACCOUNT_TYPE_ASSET",
            "limits": {"ceiling": usd(1_000)},
        }
        for name in names
    ]
    await done(rest, "/v1/ledger/accounts", {"accounts": accounts})
    monitor = {
        "monitor_id": "much",
        "account_id": names[0],
        "side": "BALANCE_SIDE_POSTED",
        "comparison": "COMPARISON_ABOVE",
        "threshold": usd(80),
        "description": "take it to the bank",
    }
    await done(rest, "/v1/ledger/monitors", {"request_id": new_id(), "monitor": monitor})
    due = datetime.now(UTC) + timedelta(seconds=1)
    reference = {"kind": "order", "id": "ord_1", "part": "rest"}
    for amount, more in (
        (50, {}),
        (50, {}),
        (1_000, {"not_before": due.isoformat(), "reference": reference}),
    ):
        sides = {"debit_account_id": names[0], "credit_account_id": names[1]}
        transfer = {"transfer_id": new_id(), **sides, "amount": usd(amount), **more}
        await done(rest, "/v1/ledger/transfers", {"transfers": [transfer]})
    for how, end, why in (
        ("close", "2025-11-30", {}),
        ("close", "2025-12-31", {}),
        ("reopen", "2025-11-30", {"reason": "a late invoice"}),
    ):
        period = {
            "currency_code": "USD",
            "closed_through": f"{end}T23:59:59.999999Z",
            **why,
        }
        await done(rest, f"/v1/ledger/periods:{how}", {"request_id": new_id(), **period})


def usd(minor_units: int) -> dict[str, Any]:
    return {"currency_code": "USD", "minor_units": str(minor_units)}


async def told_when_due(mesh: Mesh, tenant: str, subject: str) -> list[events_pb2.Event]:
    """The feed, as soon as an event that takes time is in it."""
    async with asyncio.timeout(DUE_WITHIN_S):
        while True:
            told = await feed(mesh, tenant)
            if any(item.subject == subject for item in told):
                return told
            await asyncio.sleep(0.2)


async def done(rest: Rest, path: str, body: Any, status: int = 200) -> Reply:
    answer = await rest.acall("POST", path, body)
    assert answer.status == status, answer.body
    return answer


async def feed(mesh: Mesh, tenant: str) -> list[events_pb2.Event]:
    stub = events_service_pb2_grpc.EventServiceStub(mesh.channel(tenant))
    return list(
        (await stub.ListEvents(events_service_pb2.ListEventsRequest(page_size=1000))).events
    )


def check_complete(event: events_pb2.Event) -> None:
    """Every field of the payload says something."""
    name = event.message.type_url.partition("/")[2]
    payload = registry.unpack(name, event.message.value)
    for field in payload.DESCRIPTOR.fields:
        if (event.subject, field.name) not in MAY_BE_EMPTY:
            assert _says_something(payload, field), f"{event.subject}: {field.name} is empty"
    kind = registry.all_types()[name]
    assert event.key == kind.key(payload)
    assert event.metadata.correlation_id


def _says_something(payload: Message, field: Any) -> bool:
    value = getattr(payload, field.name)
    if field.is_repeated:
        return len(value) > 0
    return payload.HasField(field.name) if field.message_type else bool(value)
