"""At every rest of a payment the processors' books, the payments and the ledger agree about the money."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from payments.ledger.v1 import ledger_service_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.orchestration.v1 import orchestration_pb2

from services.ledger import manifest as ledger
from services.monitoring import manifest as monitoring
from services.runtime.postgres.roles import DatabaseUrls
from tests.support.billing import books

from .conftest import CARD, IN_TURN, WALLET, Bench, Served, serving, status
from .test_operations import capture, refund


@pytest.fixture(scope="module")
async def served(database_url: DatabaseUrls) -> AsyncIterator[Served]:
    """Payments whose sweepers are worked by hand, with the ledger that they are booked in."""
    async with serving(database_url, [ledger.SERVICE, monitoring.SERVICE]) as served:
        yield served


async def booked(bench: Bench) -> tuple[int, list[str]]:
    """What the ledger says that the payer has paid, and what the three books do not agree on."""
    await bench.booker.sweep()
    await bench.mesh.drain_events()
    with psycopg.connect(bench.urls.owner_admin) as connection:
        apart = books.differences(books.read(connection, bench.tenant_id))
    stub = LedgerServiceStub(bench.mesh.channel(bench.tenant_id))
    accounts = (await stub.ListAccounts(ledger_service_pb2.ListAccountsRequest())).accounts
    paid = sum(
        account.balances.credits_posted - account.balances.debits_posted
        for account in accounts
        if account.account_id.startswith("receivable:")
    )
    return paid, apart


def told(bench: Bench) -> list[str]:
    """Contracts of the books that were broken."""
    rows = bench.rows(
        "SELECT contract_id FROM monitoring.violation"
        " WHERE tenant_id = %(tenant)s AND (starts_with(contract_id, 'ledger/') OR"
        " contract_id IN ('orchestration/payments-in-books', 'orchestration/booking-stuck'))"
    )
    return [row["contract_id"] for row in rows]


@pytest.mark.parametrize(
    ("wallet", "card", "end", "paid"),
    [
        ("tok_approve", "tok_approve", "SUCCEEDED", 5684),
        ("tok_timeout", "tok_pending", "SUCCEEDED", 5684),
        ("tok_decline", "tok_approve", "FAILED", 0),
        ("tok_approve", "tok_decline", "FAILED", 0),
        ("tok_refund_timeout", "tok_decline", "FAILED", 0),
        ("tok_refund_declined", "tok_decline", "COMPENSATION_STUCK", 5000),
        ("tok_refund_timeout_not_refunded", "tok_decline", "COMPENSATING", 5000),
        ("tok_approve", "tok_timeout_books_late", "RESOLVING", 5000),
        ("tok_approve", "tok_timeout_not_charged", "RESOLVING", 5000),
    ],
)
async def test_what_was_charged_and_not_given_back_is_in_the_books(
    bench: Bench, wallet: str, card: str, end: str, paid: int
) -> None:
    await bench.configure(WALLET, CARD, **IN_TURN)
    methods = [{"method": "wallet", "token": wallet}, {"method": "card", "token": card}]
    payment = await bench.pay(payment_methods=methods)
    assert status(payment) == end
    assert await booked(bench) == (paid, [])
    assert told(bench) == []


async def test_a_part_that_is_kept_is_in_the_books(bench: Bench) -> None:
    await bench.configure(WALLET, CARD, partial_allowed=True, **IN_TURN)
    methods: list[dict[str, Any]] = [
        {"method": "wallet"},
        {"method": "card", "token": "tok_decline"},
    ]
    payment = await bench.pay(payment_methods=methods)
    assert status(payment) == "PARTIALLY_PAID"
    assert await booked(bench) == (5000, [])
    assert told(bench) == []


@pytest.mark.parametrize(
    "token",
    [
        "tok_approve",
        "tok_capture_timeout",
        "tok_refund_timeout",
        "tok_refund_timeout_not_refunded",
        "tok_refund_pending",
    ],
)
async def test_what_is_captured_and_given_back_on_instruction_is_in_the_books(
    bench: Bench, token: str
) -> None:
    await bench.configure(CARD)
    payment = await bench.pay(capture="manual", method="card", token=token)
    assert await booked(bench) == (0, [])
    captured = await capture(bench, payment, 684, keep_open=True)
    assert captured.instruction.amount_done.minor_units == 684
    assert await booked(bench) == (684, [])
    await capture(bench, payment, 3000)
    assert await booked(bench) == (3684, [])
    for amount in (84, 3100):
        given = await refund(bench, payment, amount)
        while given.instruction.status == orchestration_pb2.INSTRUCTION_STATUS_PENDING:
            await bench.later(400)
            given.instruction.CopyFrom((await bench.get(payment.payment_id)).instructions[-1])
    payment = await bench.get(payment.payment_id)
    left = payment.amounts.refundable.minor_units
    assert left == (3684 if token.endswith("not_refunded") else 500)
    assert await booked(bench) == (left, [])
    assert bench.net_at_processors() == left
    assert told(bench) == []


async def test_the_comparison_sees_what_is_missing(bench: Bench) -> None:
    await bench.configure(WALLET, CARD, **IN_TURN)
    payment = await bench.pay()
    bench.execute(
        "DELETE FROM orchestration.sandbox_order WHERE tenant_id = %(tenant)s AND amount_minor = 684"
    )
    _, apart = await booked(bench)
    assert apart == [f"{payment.attempts[1].attempt_id}: payment and ledger without processor"]
