"""What would change in the catalogue, and what stands in it."""

from payments_sdk.payments.pricing import v1 as pricing
from payments_sdk.payments.type.v1 import Aggregation
from tollmesh_client import Client, FailedPrecondition, InvalidArgument, NotFound

storage = pricing.Sku(
    sku="storage.gb", type=pricing.SkuType.HOSTING, unit="GB", aggregation=Aggregation.SUM
)

with Client() as client:
    request = pricing.ApplyCatalogRequest(
        catalog=pricing.Catalog(skus=[storage]), validate_only=True
    )
    for change in client.catalog.apply_catalog(request).changes:
        print("would change:", change.to_json())
    for sku in client.catalog.all_skus(pricing.ListSkusRequest()):
        print(sku.sku, "by the", sku.unit)
    for plan in client.catalog.all_plans(pricing.ListPlansRequest(page_size=1)):
        print(plan.plan_id, plan.currency_code, [price.sku for price in plan.prices])
    try:
        client.catalog.get_plan(pricing.GetPlanRequest(plan_id="no-such-plan"))
    except NotFound as error:
        print("not there:", error.reason, dict(error.metadata))
    broken = pricing.Catalog(skus=[pricing.Sku(sku="not a name")])
    try:
        client.catalog.apply_catalog(pricing.ApplyCatalogRequest(catalog=broken))
    except (InvalidArgument, FailedPrecondition) as error:
        print("refused:", error.reason, [at.field for at in error.field_violations])
