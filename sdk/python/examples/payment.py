"""A payment that is split over two methods: planned, made, and found again."""

import json
from uuid import uuid4

from payments_sdk.payments.orchestration import v1 as orchestration
from tollmesh_client import Client, InvalidArgument

body = {
    "merchant_id": "example-shop",
    "order_id": f"order-{uuid4()}",
    "org_id": "example-python",
    "currency": "USD",
    "amount": "56.84",
    "payment_methods": [
        {"method": "wallet", "token": "tok_approve"},
        {"method": "card", "token": "tok_approve"},
    ],
}
raw = json.dumps(body).encode()

with Client(timeout=60) as client:
    planned = client.payment.plan_payment(orchestration.PlanPaymentRequest(raw_request=raw))
    print([(step.method, step.max_amount.minor_units) for step in planned.plan.steps])
    # With a request_id of your own, whoever does not get the answer asks again, and pays once.
    request = orchestration.CreatePaymentRequest(raw_request=raw, request_id=str(uuid4()))
    payment = client.payment.create_payment(request).payment
    again = client.payment.create_payment(request).payment
    print(payment.status.name, again.payment_id == payment.payment_id)
    found = client.payment.all_payments(
        orchestration.ListPaymentsRequest(order_id=body["order_id"])
    )
    print([one.result.total_processed.minor_units for one in found])
    try:
        client.payment.list_payments(orchestration.ListPaymentsRequest(page_size=-1))
    except InvalidArgument as error:
        print(error.field_violations[0].field)
