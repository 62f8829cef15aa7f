"""What an amount of usage costs: by a price of one's own, by the plan of an organisation, and so far."""

from datetime import datetime, timedelta, timezone

from payments_sdk.payments.pricing import v1 as pricing
from payments_sdk.payments.type.v1 import Period
from tollmesh_client import Client

tiers = [pricing.Tier(up_to="1000", unit_amount="0.02"), pricing.Tier(unit_amount="0.01")]
price = pricing.Price(graduated=pricing.GraduatedPrice(tiers=tiers))

with Client() as client:
    asked = pricing.EvaluatePriceRequest(
        currency_code="EUR", price=price, input=pricing.PriceInput(quantity="1500")
    )
    answer = client.pricing.evaluate_price(asked)
    print(f"1,500 units: {answer.amount.minor_units} cents, exactly {answer.exact_amount}")
    estimate = client.pricing.estimate(
        pricing.EstimateRequest(org_id="example-python", skus={"example.calls": "3"}, leads="200")
    )
    print(f"3 calls for each of 200 leads: {estimate.grand_total.minor_units} cents")
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    period = Period(start_at=today - timedelta(days=1), end_at=today)
    rated = client.pricing.rate_usage(
        pricing.RateUsageRequest(org_id="example-python", period=period)
    )
    for line in rated.lines:
        print(f"{line.sku}: {line.quantity} for {line.exact_amount}")
