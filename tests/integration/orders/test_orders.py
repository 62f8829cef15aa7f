"""Orders: what is stored, what is told and what is refused. Order-flow is the seed's contract of that name."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jsonschema
import psycopg
from payments.orders.v1 import order_service_pb2 as service_pb

from services.runtime.edge import values as edge
from services.runtime.ids import new_id
from tests.support.billing.charging import refused
from tests.support.events.outside import schema_of
from tests.support.orders.desk import Customer, usd

CARD = "4111 1111 1111 1111"
# As it fits where no blanks are allowed.
DASHED = CARD.replace(" ", "-")


def check(subject: str, payload: dict[str, Any]) -> None:
    """Hold a payload against the schema of its subject, by another validator than the product's."""
    validator = jsonschema.Draft202012Validator(
        schema_of(subject), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    validator.validate(payload)


async def told(customer: Customer, order_id: str) -> list[dict[str, Any]]:
    """Events of an order, each sound by its schema; the first is `order.created`, and no other is."""
    events = await customer.events(order_id)
    for subject, payload in events:
        check(subject, payload)
        assert "tenant_id" not in payload
    assert [subject for subject, _ in events] == ["order.created"] + ["order.updated"] * (
        len(events) - 1
    )
    return [payload for _, payload in events]


async def test_order_flow_4_1_created_is_told_once_and_to_the_letter(customer: Customer) -> None:
    request_id = str(uuid4())
    first = await customer.create(
        12000, request_id, created_via="webhook_growth_lead_close", notes="by phone"
    )
    again = await customer.create(
        12000, request_id, created_via="webhook_growth_lead_close", notes="by phone"
    )
    assert again == first == await customer.get(first.order_id)
    (payload,) = await told(customer, first.order_id)
    assert payload == {
        "order_id": first.order_id,
        "person_id": customer.person_id,
        "organization_id": customer.organization_id,
        "status": "OPEN",
        "currency": "USD",
        "amount_total_cents": 12000,
        "created_via": "webhook_growth_lead_close",
        "created_at": "2026-11-20T09:30:00.000000Z",
    }
    assert edge.moment_of(first.created_at) == customer.shop.clock.now()
    assert (first.amount_paid, first.amount_refunded) == (usd(0), usd(0))


async def test_order_flow_4_2_updated_tells_what_was_and_what_is(customer: Customer) -> None:
    order = await customer.create(status="DRAFT")
    assert order.status == "DRAFT"
    customer.shop.clock.advance(timedelta(hours=1))
    await customer.adjust(order.order_id, usd(9000), updated_via="cli")
    opened = await customer.open(order.order_id, updated_via="a_word_of_our_own")
    assert (opened.status, opened.updated_via) == ("OPEN", "a_word_of_our_own")
    cancelled = await customer.cancel(order.order_id)
    assert (cancelled.status, cancelled.cancel_reason) == ("CANCELLED", "ordered twice")
    assert cancelled.cancelled_at == cancelled.updated_at
    moves = [
        (each["status_from"], each["status_to"], each["amount_total_cents"], each["updated_via"])
        for each in (await told(customer, order.order_id))[1:]
    ]
    assert moves == [
        ("DRAFT", "DRAFT", 9000, "cli"),
        ("DRAFT", "OPEN", 9000, "a_word_of_our_own"),
        ("OPEN", "CANCELLED", 9000, "api"),
    ]


async def test_order_flow_5_notes_and_flags_are_not_told(customer: Customer) -> None:
    order = await customer.create()
    noted = await customer.note(
        order.order_id, notes="called twice", operator_flags=["vip", "late", "vip"]
    )
    assert (noted.notes, [*noted.operator_flags]) == ("called twice", ["vip", "late"])
    assert (noted.updated_via, noted.status) == ("", "OPEN")
    await customer.cancel(order.order_id)
    assert (await customer.note(order.order_id, notes="")).notes == ""
    assert len(await told(customer, order.order_id)) == 2


async def test_what_changes_nothing_is_not_told(customer: Customer) -> None:
    order = await customer.create(5000)
    request_id = str(uuid4())
    await customer.adjust(order.order_id, usd(5000))
    await customer.adjust(order.order_id, usd(6000), request_id)
    await customer.adjust(order.order_id, usd(6000), request_id)
    assert len(await told(customer, order.order_id)) == 2


async def test_an_order_of_zero_is_paid_at_once(customer: Customer) -> None:
    order = await customer.create(0)
    assert order.status == "PAID"
    draft = await customer.create(0, status="DRAFT")
    assert (await customer.open(draft.order_id)).status == "PAID"
    assert (await customer.adjust(order.order_id, usd(100))).status == "OPEN"
    assert (await customer.adjust(order.order_id, usd(0))).status == "PAID"
    assert (await customer.cancel(order.order_id)).status == "CANCELLED"
    moves = [
        (each["status_from"], each["status_to"])
        for each in (await told(customer, order.order_id))[1:]
    ]
    assert moves == [("PAID", "OPEN"), ("OPEN", "PAID"), ("PAID", "CANCELLED")]


async def test_what_is_refused_leaves_nothing(customer: Customer) -> None:
    order = await customer.create()
    bad: list[tuple[dict[str, Any], str]] = [
        ({"status": "PAID"}, "order.status"),
        ({"status": "NEVER_HEARD_OF"}, "order.status"),
        ({"order_id": order.order_id}, "order.order_id"),
        ({"amount_paid": usd(1)}, "order.amount_paid"),
        ({"notes": f"pays with {CARD}"}, "order.notes"),
        ({"created_via": DASHED}, "order.created_via"),
        ({"operator_flags": ["vip", DASHED]}, "order.operator_flags"),
        ({"operator_flags": CARD.split()}, "order.operator_flags"),
        ({"person_id": "per_1"}, "order.person_id"),
        # Of version 4.
        ({"organization_id": f"org_{uuid4()}"}, "order.organization_id"),
        ({"amount_total": usd(-1)}, "order.amount_total"),
        ({"amount_total": usd(10**15)}, "order.amount_total"),
    ]
    for fields, field in bad:
        info = await refused(customer.create(**fields))
        assert (info.reason, info.metadata["fields"]) == ("INVALID_FIELD", field), fields
    for call, field in (
        (customer.note(order.order_id, operator_flags=[DASHED]), "operator_flags"),
        (customer.adjust(order.order_id, usd(1), updated_via=DASHED), "updated_via"),
        (customer.cancel(order.order_id, updated_via=DASHED), "updated_via"),
    ):
        info = await refused(call)
        assert (info.reason, info.metadata["fields"]) == ("INVALID_FIELD", field)
    assert await customer.get(order.order_id) == order
    eur = service_pb.ListOrdersRequest()
    assert [each.order_id for each in (await customer.stub.ListOrders(eur)).orders] == [
        order.order_id
    ]


async def test_moves_that_are_not_in_the_table(customer: Customer) -> None:
    order = await customer.create()
    info = await refused(customer.open(order.order_id))
    assert (info.reason, info.metadata["status"]) == ("ORDER_STATUS_CONFLICT", "OPEN")
    await customer.cancel(order.order_id)
    for call in (
        customer.cancel(order.order_id),
        customer.adjust(order.order_id, usd(1)),
        customer.open(order.order_id),
    ):
        info = await refused(call)
        assert (info.reason, info.metadata["status"]) == ("ORDER_STATUS_CONFLICT", "CANCELLED")
    info = await refused(customer.get(new_id("ord")))
    assert info.reason == "NOT_FOUND"
    other = await customer.create()
    eur = usd(1)
    eur.currency_code = "EUR"
    info = await refused(customer.adjust(other.order_id, eur))
    assert info.reason == "CURRENCY_MISMATCH"
    info = await refused(customer.adjust(other.order_id, usd(10**15)))
    assert info.metadata["fields"] == "amount_total"
    assert len(await told(customer, other.order_id)) == 1


async def test_two_operators_at_once_on_one_order(customer: Customer) -> None:
    order = await customer.create()
    calls = [customer.adjust(order.order_id, usd(100 + n)) for n in range(4)]
    calls += [customer.cancel(order.order_id, reason=f"by {n}") for n in range(3)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    cancelled = [each for each in done[4:] if not isinstance(each, BaseException)]
    assert len(cancelled) == 1
    payloads = (await told(customer, order.order_id))[1:]
    # A chain: each begins where the one before ended.
    assert [each["status_to"] for each in payloads[:-1]] == [
        each["status_from"] for each in payloads[1:]
    ]
    assert payloads[-1]["status_to"] == "CANCELLED"
    adjusted = sum(not isinstance(each, BaseException) for each in done[:4])
    assert len(payloads) == adjusted + 1


async def test_lists_by_each_filter_page_by_page(customer: Customer) -> None:
    made = []
    for n in range(5):
        customer.shop.clock.advance(timedelta(minutes=n % 2))
        person = customer.person_id if n % 2 else new_id("per")
        made.append(await customer.create(n, person_id=person))

    async def listed(page_size: int, **filters: str) -> list[str]:
        found, token = [], ""
        while True:
            request = service_pb.ListOrdersRequest(page_size=page_size, page_token=token, **filters)
            page = await customer.stub.ListOrders(request)
            found += [each.order_id for each in page.orders]
            if not (token := page.next_page_token):
                return found

    wanted = [each.order_id for each in reversed(made)]
    assert await listed(2) == await listed(100) == wanted
    assert await listed(1, person_id=customer.person_id) == wanted[1::2]
    assert await listed(2, organization_id=customer.organization_id) == wanted
    assert await listed(2, status="PAID") == wanted[-1:]
    assert await listed(2, status="NEVER_HEARD_OF") == []


async def test_pages_are_read_off_an_index(customer: Customer) -> None:
    """A list of one person is not the price of all orders."""
    await customer.create()
    rows = await asyncio.to_thread(_plan, customer)
    assert "sales_order_by_person" in rows, rows


def _plan(customer: Customer) -> str:
    with psycopg.connect(customer.shop.database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, true)", [customer.tenant_id])
        connection.execute("SET LOCAL enable_seqscan = off")
        found = connection.execute(
            "EXPLAIN SELECT * FROM orders.sales_order WHERE tenant_id = %s AND person_id = %s"
            " ORDER BY created_at DESC, order_id DESC LIMIT 20",
            [customer.tenant_id, customer.person_id],
        ).fetchall()
    return "\n".join(row[0] for row in found)
