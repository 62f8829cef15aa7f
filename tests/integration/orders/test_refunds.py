"""Refunds of orders: what is given back of which payment, what is told, and never more than was received."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import uuid4

import pytest
from payments.orders.v1 import order_service_pb2 as service_pb
from payments.orders.v1 import orders_pb2 as pb

from services.runtime.ids import new_id
from tests.integration.orders.test_orders import check
from tests.support.billing.charging import refused
from tests.support.orders.desk import Customer, usd


async def sold(customer: Customer, total: int = 100, *payments: int) -> pb.Order:
    """An order that was paid in parts: by check first, then in cash."""
    order = await customer.create(total)
    for number, minor in enumerate(payments or (total,)):
        fields: dict[str, Any] = {} if number else {"method": "check", "check_number": "1042"}
        await customer.record(order.order_id, minor, **fields)
    return order


async def told(customer: Customer, order_id: str) -> list[tuple[str, dict[str, Any]]]:
    """What was published of an order behind its payments, sound by its schemas."""
    events = await customer.events(order_id)
    for subject, payload in events:
        check(subject, payload)
    moved = [subject for subject, _ in events].count("order.updated")
    assert moved
    return [
        (subject, payload)
        for subject, payload in events
        if subject == "refund.completed" or payload.get("status_to") == "REFUNDED"
    ]


@pytest.mark.parametrize(
    ("payments", "refunds", "statuses"),
    [
        ((100,), (100,), ("REFUNDED",)),
        ((100,), (40,), ("PAID",)),
        ((100,), (40, 60), ("PAID", "REFUNDED")),
        ((100,), (40, 0), ("PAID", "REFUNDED")),
        ((60,), (20,), ("PARTIALLY_PAID",)),
        ((60,), (60,), ("REFUNDED",)),
        ((60,), (20, 0), ("PARTIALLY_PAID", "REFUNDED")),
    ],
)
async def test_a_part_leaves_the_status_and_all_of_it_ends_the_order(
    customer: Customer, payments: tuple[int], refunds: tuple[int], statuses: tuple[str]
) -> None:
    order = await sold(customer, 100, *payments)
    given = 0
    for minor, status in zip(refunds, statuses, strict=True):
        given += (await customer.refund(order.order_id, minor)).amount.minor_units
        after = await customer.get(order.order_id)
        assert (after.status, after.amount_paid, after.amount_refunded) == (
            *(status, usd(sum(payments))),
            usd(given),
        )
    subjects = [subject for subject, _ in await told(customer, order.order_id)]
    wanted = ["refund.completed"] * len(refunds)
    if statuses[-1] == "REFUNDED":
        # Order-flow 4.3: both are told, and neither stands for the other.
        wanted.insert(len(wanted) - 1, "order.updated")
    assert subjects == wanted


async def test_the_latest_payment_is_given_back_first_each_as_it_came(customer: Customer) -> None:
    order = await sold(customer, 100, 50, 30, 20)
    first = await customer.refund(order.order_id, 35)
    second = await customer.refund(order.order_id)
    check_, cash, last = (await customer.actions(order.order_id))[:3]
    parts = [
        [
            (part.refunded_action_id, part.payment_method, part.amount.minor_units)
            for part in refund.external_actions
        ]
        for refund in (first, second)
    ]
    assert parts == [
        [(last.external_action_id, "cash", 20), (cash.external_action_id, "cash", 15)],
        [(cash.external_action_id, "cash", 15), (check_.external_action_id, "check", 50)],
    ]
    await customer.shop.posting.sweep()
    seller = customer.organization_id
    assert await customer.balance(f"cash:{seller}:USD") == 0
    assert await customer.balance(f"checks:{seller}:USD") == 0
    assert await customer.balance(f"receivable:{customer.person_id}:USD") == 0
    assert await customer.difference() == 0

    listed = await customer.refunds(order_id=order.order_id, page_size=1)
    assert [each.refund_id for each in listed] == [second.refund_id, first.refund_id]
    assert all(part.posting_id for refund in listed for part in refund.external_actions)
    got = await customer.stub.GetRefund(service_pb.GetRefundRequest(refund_id=first.refund_id))
    assert (got.refund.reason, got.refund.initiated_by) == ("too cold", "Grace")
    payload = (await told(customer, order.order_id))[0][1]
    assert payload.pop("completed_at")
    assert payload == {
        "refund_id": first.refund_id,
        "order_id": order.order_id,
        "person_id": customer.person_id,
        "currency": "USD",
        "amount_cents": 35,
        # That of the largest part.
        "provider_ref": first.external_actions[0].external_action_id,
    }


async def test_the_same_request_gives_back_once(customer: Customer) -> None:
    order = await sold(customer)
    request_id = str(uuid4())
    calls = [customer.refund(order.order_id, 40, request_id) for _ in range(3)]
    answers = await asyncio.gather(*calls)
    assert answers[0] == answers[1] == answers[2]
    assert (await customer.get(order.order_id)).amount_refunded == usd(40)
    info = await refused(customer.refund(order.order_id, 41, request_id))
    assert info.reason == "REQUEST_ID_REUSED"


async def test_never_more_than_was_received_whoever_gives_back_at_once(customer: Customer) -> None:
    order = await sold(customer, 100, 60)
    calls = [customer.refund(order.order_id, 25, initiated_by=f"by {n}") for n in range(6)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in done) == 2
    info = await refused(customer.refund(order.order_id, 11))
    assert (info.reason, info.metadata["refundable_minor"]) == ("ORDER_REFUND_EXCEEDED", "10")
    await customer.refund(order.order_id)
    for call in (
        customer.refund(order.order_id),
        customer.refund(order.order_id, 1),
        customer.record(order.order_id, 1),
        customer.cancel(order.order_id),
    ):
        info = await refused(call)
        assert (info.reason, info.metadata["status"]) == ("ORDER_STATUS_CONFLICT", "REFUNDED")


async def test_what_was_never_received_is_not_given_back(customer: Customer) -> None:
    order = await customer.create(100)
    free = await customer.create(0)
    draft = await customer.create(100, status="DRAFT")
    for each in (order, free, draft):
        for minor in (0, 5):
            info = await refused(customer.refund(each.order_id, minor))
            assert (info.reason, info.metadata["status"]) == ("ORDER_STATUS_CONFLICT", each.status)
    paid = await sold(customer)
    eur = usd(5)
    eur.currency_code = "EUR"
    bad: list[tuple[dict[str, Any], str]] = [
        ({"amount": eur}, "CURRENCY_MISMATCH"),
        ({"amount": usd(-1)}, "INVALID_FIELD"),
        ({"reason": ""}, "INVALID_FIELD"),
        ({"reason": " "}, "INVALID_FIELD"),
        ({"initiated_by": ""}, "INVALID_FIELD"),
        ({"initiated_by": "\u00a0 "}, "INVALID_FIELD"),
    ]
    for fields, reason in bad:
        assert (await refused(customer.refund(paid.order_id, **fields))).reason == reason
    assert await customer.refunds(order_id=paid.order_id) == []
    assert (await refused(customer.refund(new_id("ord")))).reason == "NOT_FOUND"
    assert (await refused(customer.refunds(order_id=new_id("ord")))).reason == "NOT_FOUND"
    request = service_pb.GetRefundRequest(refund_id=new_id("ref"))
    assert (await refused(customer.stub.GetRefund(request))).reason == "NOT_FOUND"


async def test_whatever_is_given_back_the_parts_are_the_whole(customer: Customer) -> None:
    dice = random.Random(15)
    payments = [dice.randint(1, 30) for _ in range(6)]
    order = await sold(customer, sum(payments), *payments)
    while (left := sum(payments)) > (
        given := (await customer.get(order.order_id)).amount_refunded.minor_units
    ):
        refund = await customer.refund(order.order_id, dice.randint(1, min(40, left - given)))
        parts = [part.amount.minor_units for part in refund.external_actions]
        assert sum(parts) == refund.amount.minor_units
        assert all(parts)
    actions = await customer.actions(order.order_id)
    for minor, action in zip(payments, actions, strict=False):
        back = [
            each.amount.minor_units
            for each in actions
            if each.refunded_action_id == action.external_action_id
        ]
        assert sum(back) == minor
    assert (await customer.get(order.order_id)).status == "REFUNDED"
