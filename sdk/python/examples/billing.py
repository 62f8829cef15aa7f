"""From prices over usage to a bill in the books. TOLLMESH_ADDRESS and TOLLMESH_API_KEY say where.

Ids that are derived from the day make the whole repeatable: run twice, it bills once.
"""

from datetime import datetime, timedelta, timezone
from uuid import NAMESPACE_URL, uuid5

from payments_sdk.payments.billing.v1 import CreateChargeRequest
from payments_sdk.payments.ledger.v1 import ListEntriesRequest
from payments_sdk.payments.metering.v1 import UsageEvent
from payments_sdk.payments.pricing import v1 as pricing
from payments_sdk.payments.type.v1 import Aggregation, Period
from tollmesh_client import Client, UsageIngester

ORG, SKU = "example-python", "example.calls"
today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
yesterday = Period(start_at=today - timedelta(days=1), end_at=today)
price = pricing.Price(per_unit=pricing.PerUnitPrice(unit_amount="0.05"), included_qty="100")
plan = pricing.Plan(
    plan_id=ORG, name="Python example", currency_code="USD", status=pricing.PlanStatus.ACTIVE
)
plan.prices = [pricing.PlanPrice(sku=SKU, price=price)]
sku = pricing.Sku(sku=SKU, type=pricing.SkuType.ACTION, unit="call", aggregation=Aggregation.SUM)
buys = pricing.Entitlement(org_id=ORG, plan_id=ORG, effective_at=yesterday.start_at)

with Client() as client:
    catalog = pricing.Catalog(skus=[sku], plans=[plan], entitlements=[buys])
    client.catalog.apply_catalog(pricing.ApplyCatalogRequest(catalog=catalog))
    with UsageIngester(client) as ingester:
        for hour in range(24):
            at = yesterday.start_at + timedelta(hours=hour)
            event = UsageEvent(org_id=ORG, sku=SKU, quantity="10", event_time=at)
            event.request_id = f"{ORG} {at:%Y-%m-%dT%H}"
            ingester.add(event)
    asked = CreateChargeRequest(org_id=ORG, period=yesterday)
    asked.request_id = str(uuid5(NAMESPACE_URL, f"{ORG} {today:%Y-%m-%d}"))
    charge = client.charge.create_charge(asked).charge
    print(f"{charge.charge_id}: {charge.total.minor_units} {charge.total.currency_code}")
    for entry in client.ledger.all_entries(ListEntriesRequest(account_id=f"receivable:{ORG}:USD")):
        print(
            f"{entry.account_id} {entry.direction.name} {entry.amount.minor_units}, from {entry.counter_account_id}"
        )
