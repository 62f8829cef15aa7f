"""Payments that operators record. Payment-flow is the seed's contract of that name."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from payments.orders.v1 import order_service_pb2 as service_pb
from payments.orders.v1.order_service_pb2_grpc import OrderServiceStub

from services.orders.app.payments import Payments
from services.orders.domain.actions import ExternalAction, not_bookable
from services.orders.work.payments import posting
from services.runtime.ids import new_id
from tests.integration.orders.test_orders import DASHED, told
from tests.support.billing.charging import refused
from tests.support.orders.desk import Customer, usd


async def test_payment_flow_4_1_who_sees_the_event_finds_the_order_paid(customer: Customer) -> None:
    """State and event have one commit: what a reader of the log sees beside `payment.received` is PAID, always."""
    order = await customer.create(100)
    seen: list[tuple[str, int]] = []

    def look() -> None:
        with psycopg.connect(customer.shop.database.owner_admin) as connection:
            while not seen:
                seen.extend(
                    connection.execute(
                        "SELECT o.status, o.paid_minor FROM mesh.event AS e JOIN orders.sales_order AS o"
                        " ON o.tenant_id = e.tenant_id"
                        " WHERE e.tenant_id = %s AND e.subject = 'payment.received'",
                        [customer.tenant_id],
                    ).fetchall()
                )
                connection.commit()

    looking = asyncio.create_task(asyncio.to_thread(look))
    await customer.record(order.order_id, 100)
    await looking
    assert seen == [("PAID", 100)]


async def test_payment_flow_4_3_cash_and_check_end_in_the_books(customer: Customer) -> None:
    order = await customer.create(12000)
    at = Timestamp()
    at.FromDatetime(datetime(2026, 11, 19, 17, 0, tzinfo=UTC))
    cash = await customer.record(order.order_id, 5000, received_at=at, updated_via="portal")
    assert (cash.order.status, cash.order.amount_paid) == ("PARTIALLY_PAID", usd(5000))
    check = await customer.record(
        order.order_id, 7000, method="check", check_number="1042", operator="Grace"
    )
    assert (check.order.status, check.order.amount_paid) == ("PAID", usd(12000))
    await customer.shop.posting.sweep()

    first, second = await customer.actions(order.order_id, page_size=1)
    assert (first.payment_method, first.operator, first.check_number) == ("cash", "Ada", "")
    assert (second.payment_method, second.operator, second.check_number) == (
        *("check", "Grace"),
        "1042",
    )
    assert first.occurred_at == at
    assert first.principal_id == f"test:{customer.tenant_id}"
    assert first.posting_id
    assert second.posting_id
    assert len(first.request_sha256) == 32
    seller = customer.organization_id
    assert await customer.balance(f"cash:{seller}:USD") == 5000
    assert await customer.balance(f"checks:{seller}:USD") == 7000
    assert await customer.balance(f"receivable:{customer.person_id}:USD") == -12000
    assert await customer.difference() == 0

    received = await customer.received(order.order_id)
    assert [
        (each.payment_method, each.payment_path, each.amount_cents, each.currency, each.person_id)
        for each in received
    ] == [
        ("cash", "invoice_paid", 5000, "USD", customer.person_id),
        ("check", "invoice_paid", 7000, "USD", customer.person_id),
    ]
    # Payment-flow §5: never empty, and `ext_` where no provider was called.
    assert [each.provider_ref for each in received] == [
        first.external_action_id,
        second.external_action_id,
    ]
    assert all(each.provider_ref.startswith("ext_") for each in received)
    assert received[0].received_at == at
    moves = [
        (each["status_from"], each["status_to"], each["amount_paid_cents_to"])
        for each in (await told(customer, order.order_id))[1:]
    ]
    assert moves == [("OPEN", "PARTIALLY_PAID", 5000), ("PARTIALLY_PAID", "PAID", 12000)]


async def test_payment_flow_5_once_for_each_payment(customer: Customer) -> None:
    order = await customer.create(100)
    request_id = str(uuid4())
    calls = [customer.record(order.order_id, 40, request_id) for _ in range(3)]
    answers = await asyncio.gather(*calls)
    assert answers[0] == answers[1] == answers[2]
    await customer.record(order.order_id, 60, method="check", check_number="7")
    info = await refused(customer.record(order.order_id, 60, request_id))
    assert info.reason == "REQUEST_ID_REUSED"
    assert len(await customer.received(order.order_id)) == 2
    await customer.shop.posting.sweep()
    # Posted again, as by one who died before it was noted: the books have it once.
    with psycopg.connect(customer.shop.database.owner_admin) as owner:
        owner.execute(
            "UPDATE orders.posting SET posting_id = NULL, posted_at = NULL, due_at = now() - interval '1 day'"
            " WHERE tenant_id = %s",
            [customer.tenant_id],
        )
    await customer.shop.posting.sweep()
    assert await customer.balance(f"receivable:{customer.person_id}:USD") == -100


async def test_the_same_check_is_no_second_payment(customer: Customer) -> None:
    order = await customer.create(100)
    calls = [
        customer.record(order.order_id, 30, method="check", check_number="1042") for _ in range(4)
    ]
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in done) == 1
    info = await refused(customer.record(order.order_id, 30, method="check", check_number="1042"))
    (action,) = await customer.actions(order.order_id)
    assert info.reason == "ORDER_CHECK_RECORDED"
    assert info.metadata["external_action_id"] == action.external_action_id
    assert (await customer.get(order.order_id)).amount_paid == usd(30)


async def test_never_more_than_is_due_whoever_records_at_once(customer: Customer) -> None:
    order = await customer.create(100)
    calls = [customer.record(order.order_id, 30, operator=f"by {n}") for n in range(8)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in done) == 3
    info = await refused(customer.record(order.order_id, 11))
    assert (info.reason, info.metadata["due_minor"]) == ("ORDER_AMOUNT_EXCEEDED", "10")
    assert (await customer.record(order.order_id, 10)).order.status == "PAID"
    info = await refused(customer.record(order.order_id, 1))
    assert (info.reason, info.metadata["status"]) == ("ORDER_STATUS_CONFLICT", "PAID")
    assert sum(each.amount_cents for each in await customer.received(order.order_id)) == 100


async def test_what_is_paid_binds_the_order(customer: Customer) -> None:
    order = await customer.create(100)
    await customer.record(order.order_id, 40)
    info = await refused(customer.cancel(order.order_id))
    assert info.metadata["status"] == "PARTIALLY_PAID"
    info = await refused(customer.adjust(order.order_id, usd(39)))
    assert (info.reason, info.metadata["paid_minor"]) == ("ORDER_TOTAL_TOO_LOW", "40")
    assert (await customer.adjust(order.order_id, usd(40))).status == "PAID"
    assert (await customer.adjust(order.order_id, usd(50))).status == "PARTIALLY_PAID"


EUR = usd(5)
EUR.currency_code = "EUR"
AHEAD = Timestamp()
AHEAD.FromDatetime(datetime(2100, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"method": "check"}, "INVALID_FIELD", "check_number"),
        ({"check_number": "1042"}, "INVALID_FIELD", "check_number"),
        ({"method": "check", "check_number": DASHED}, "INVALID_FIELD", "check_number"),
        ({"updated_via": DASHED}, "INVALID_FIELD", "updated_via"),
        ({"method": "card"}, "INVALID_FIELD", "method"),
        ({"method": "credit_balance"}, "INVALID_FIELD", "method"),
        ({"operator": ""}, "INVALID_FIELD", "operator"),
        ({"operator": " \t"}, "INVALID_FIELD", "operator"),
        ({"amount": usd(0)}, "INVALID_FIELD", "amount"),
        ({"amount": usd(-5)}, "INVALID_FIELD", "amount"),
        ({"received_at": AHEAD}, "INVALID_FIELD", "received_at"),
        ({"amount": EUR}, "CURRENCY_MISMATCH", ""),
        ({"amount": usd(101)}, "ORDER_AMOUNT_EXCEEDED", ""),
    ],
)
async def test_what_is_refused_leaves_nothing(
    customer: Customer, fields: dict[str, Any], reason: str, field: str
) -> None:
    order = await customer.create(100)
    info = await refused(customer.record(order.order_id, 5, **fields))
    assert (info.reason, info.metadata.get("fields", "")) == (reason, field)
    assert await customer.get(order.order_id) == order
    assert await customer.actions(order.order_id) == []
    assert await customer.received(order.order_id) == []


async def test_drafts_and_what_is_not_there_are_not_paid(customer: Customer) -> None:
    draft = await customer.create(100, status="DRAFT")
    info = await refused(customer.record(draft.order_id, 5))
    assert (info.reason, info.metadata["status"]) == ("ORDER_STATUS_CONFLICT", "DRAFT")
    nobody = new_id("ord")
    for call in (customer.record(nobody, 5), customer.actions(nobody)):
        assert (await refused(call)).reason == "NOT_FOUND"


async def test_an_operator_needs_the_scope(customer: Customer) -> None:
    order = await customer.create(100)
    reader = OrderServiceStub(customer.shop.mesh.channel(customer.tenant_id, {"orders:read"}))
    request = service_pb.RecordPaymentRequest(
        request_id=str(uuid4()),
        order_id=order.order_id,
        method="cash",
        amount=usd(5),
        operator="Ada",
    )
    info = await refused(reader.RecordPayment(request))
    assert (info.reason, info.metadata["scope"]) == ("SCOPE_MISSING", "orders:write")


async def test_both_operator_and_key_are_audited(customer: Customer) -> None:
    order = await customer.create(100)
    action = (await customer.record(order.order_id, 5)).external_action
    with psycopg.connect(customer.shop.database.owner_admin) as owner:
        rows = owner.execute(
            "SELECT actor, after FROM mesh.audit WHERE tenant_id = %s AND entity = 'order_payment'"
            " AND entity_id = %s",
            [customer.tenant_id, action.external_action_id],
        ).fetchall()
    ((actor, after),) = rows
    after = after if isinstance(after, dict) else json.loads(after)
    assert actor == f"test:{customer.tenant_id}"
    assert (after["operator"], after["amount_minor"]) == ("Ada", 5)


class Refusing:
    """Books that take nothing."""

    async def post(self, action: ExternalAction) -> UUID:
        raise not_bookable(action, "ACCOUNT_CLOSED")


async def test_what_the_ledger_refuses_is_tried_again(customer: Customer) -> None:
    order = await customer.create(100)
    await customer.record(order.order_id, 100)
    runtime = customer.shop.runtime
    refusing = Payments(runtime.database, Refusing())
    await posting(runtime.database, refusing, runtime.telemetry).sweep()
    await customer.shop.posting.sweep()
    (action,) = await customer.actions(order.order_id)
    assert not action.posting_id, "it waits"
    customer.shop.clock.advance(timedelta(minutes=1))
    await customer.shop.posting.sweep()
    (action,) = await customer.actions(order.order_id)
    assert action.posting_id
