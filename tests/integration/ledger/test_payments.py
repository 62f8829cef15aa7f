"""Received payments reach the books as events: once, whole, whatever the payer is called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from payments.events.v1.orchestration_events_pb2 import PaymentReceived
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub

from services.ledger.app import book_payment
from services.ledger.bootstrap import build
from services.ledger.domain.payments import (
    PaymentNotBookable,
    ReceivedPayment,
    ReceivedStep,
    book,
)
from services.runtime.context import CallContext, acting
from tests.support.mesh import Mesh, running
from tests.support.postgres import DatabaseUrls


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [build]) as running_mesh:
        yield running_mesh


@pytest.fixture
def call() -> CallContext:
    return CallContext(f"t-{uuid4().hex[:12]}", "test", frozenset({"*"}), "r", "c")


def received(person_id: str = "acme", payment_id: str = "pay_1") -> PaymentReceived:
    fact = PaymentReceived(
        payment_id=payment_id,
        order_id="chg_1",
        person_id=person_id,
        payment_method="wallet",
        amount_cents=5684,
        currency="USD",
        merchant_id="m",
    )
    fact.received_at.FromDatetime(datetime(2026, 11, 20, tzinfo=UTC))
    fact.steps.add(step_index=0, processor_id="wallet-one", amount_cents=5000, attempt_id="att_1")
    fact.steps.add(step_index=1, processor_id="card-two", amount_cents=684, attempt_id="att_3")
    return fact


async def publish(mesh: Mesh, call: CallContext, fact: PaymentReceived) -> None:
    with acting(call):
        async with mesh.node.database.unit_of_work("ledger.post_transfers") as work:
            work.publish(fact)
    await mesh.drain_events()


async def balances(mesh: Mesh, call: CallContext) -> dict[str, int]:
    stub = LedgerServiceStub(mesh.channel(call.tenant_id))
    found = (await stub.ListAccounts(service_pb.ListAccountsRequest())).accounts
    return {a.account_id: a.balances.debits_posted - a.balances.credits_posted for a in found}


async def test_each_step_of_a_payment_is_booked_once(mesh: Mesh, call: CallContext) -> None:
    await publish(mesh, call, received())
    expected = {
        "clearing:wallet-one:USD": 5000,
        "clearing:card-two:USD": 684,
        "receivable:acme:USD": -5684,
    }
    assert await balances(mesh, call) == expected
    await publish(mesh, call, received())
    assert await balances(mesh, call) == expected, "the same payment as another event books nothing"
    stub = LedgerServiceStub(mesh.channel(call.tenant_id))
    entries = await stub.ListEntries(
        service_pb.ListEntriesRequest(account_id="receivable:acme:USD")
    )
    assert [e.direction for e in entries.entries] == [pb.DIRECTION_CREDIT] * 2
    assert entries.entries[0].metadata["payment_id"] == "pay_1"
    assert entries.entries[0].effective_at.ToDatetime(UTC) == datetime(2026, 11, 20, tzinfo=UTC)


async def test_money_from_a_payer_with_an_odd_name_is_booked(mesh: Mesh, call: CallContext) -> None:
    await publish(mesh, call, received("Zoë <zoe@example.org>"))
    names = set(await balances(mesh, call))
    [receivable] = [name for name in names if name.startswith("receivable:")]
    assert receivable.startswith("receivable:other-")
    assert len(names) == 3


async def test_a_payment_that_cannot_be_booked_changes_nothing(
    mesh: Mesh, call: CallContext
) -> None:
    stub = LedgerServiceStub(mesh.channel(call.tenant_id))
    closed = pb.Account(
        account_id="receivable:acme:USD",
        currency_code="USD",
        type=pb.ACCOUNT_TYPE_ASSET,
        flags=pb.AccountFlags(closed=True),
    )
    await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=[closed]))
    steps = [ReceivedStep("att_1", "wallet-one", 100), ReceivedStep("att_2", "card-two", 1)]
    payment = ReceivedPayment("pay_9", "chg_1", "acme", "USD", None, steps)
    with acting(call), pytest.raises(PaymentNotBookable) as refused:
        async with mesh.node.database.unit_of_work("ledger.post_transfers") as work:
            await book_payment(work, payment)
    assert refused.value.metadata["result"] == "CREDIT_ACCOUNT_CLOSED"
    assert await balances(mesh, call) == {"receivable:acme:USD": 0}


def test_a_payment_in_no_currency_is_not_bookable() -> None:
    step = ReceivedStep("att_1", "card", 100)
    with pytest.raises(PaymentNotBookable):
        book(ReceivedPayment("pay_1", "chg_1", "acme", "XXQ", None, [step]))
