"""What processors charge and give back reaches the books as events: once, whole, whatever stands in the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from payments.contracts.v1 import contracts_service_pb2, contracts_service_pb2_grpc
from payments.events.v1.orchestration_events_pb2 import (
    PaymentFailed,
    PaymentReceived,
    StepRefunded,
    StepSucceeded,
)
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money
from services.ledger.domain.payments import Charge, PaymentNotBookable

from services.ledger import manifest as ledger
from services.ledger.app import payments as app
from services.ledger.app.posting import post_transfers
from services.ledger.domain.transfers import Transfer
from services.monitoring import manifest as monitoring
from services.runtime.context import CallContext, acting
from services.runtime.ids import derived_uuid
from services.runtime.money import MINOR_UNITS_MAX
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

AT = datetime(2026, 11, 20, tzinfo=UTC)
IN_FULL = {
    "clearing:wallet-one:USD": 5000,
    "clearing:card-two:USD": 684,
    "receivable:acme:USD": -5684,
}
FIRST = ("att_1", "wallet-one", 5000)
SECOND = ("att_3", "card-two", 684)


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE, monitoring.SERVICE]) as running_mesh:
        yield running_mesh


@pytest.fixture
def call() -> CallContext:
    return CallContext(f"t-{uuid4().hex[:12]}", "test", frozenset({"*"}), "r", "c")


def charged(
    step: tuple[str, str, int] = FIRST, person_id: str = "acme", org_id: str = ""
) -> StepSucceeded:
    attempt_id, processor_id, amount = step
    fact = StepSucceeded(
        payment_id="pay_1",
        order_id="chg_1",
        person_id=person_id,
        org_id=org_id,
        attempt_id=attempt_id,
        processor_id=processor_id,
        amount=amount,
        currency="USD",
        payment_method="wallet",
    )
    fact.settled_at.FromDatetime(AT)
    return fact


def charged_in_old_form(step: tuple[str, str, int] = FIRST) -> StepSucceeded:
    fact = charged(step)
    for name in ("order_id", "person_id", "settled_at"):
        fact.ClearField(name)
    return fact


def refunded(
    step: tuple[str, str, int] = FIRST, person_id: str = "acme", org_id: str = ""
) -> StepRefunded:
    attempt_id, processor_id, amount = step
    fact = StepRefunded(
        payment_id="pay_1",
        order_id="chg_1",
        person_id=person_id,
        org_id=org_id,
        attempt_id=f"{attempt_id}-back",
        charge_attempt_id=attempt_id,
        processor_id=processor_id,
        amount=amount,
        currency="USD",
    )
    fact.charged_at.FromDatetime(AT)
    fact.settled_at.FromDatetime(AT + timedelta(minutes=1))
    return fact


def received(
    *steps: tuple[str, str, int],
    amount: int | None = None,
    person_id: str = "acme",
    org_id: str = "",
) -> PaymentReceived:
    steps = steps or (FIRST, SECOND)
    fact = PaymentReceived(
        payment_id="pay_1",
        order_id="chg_1",
        person_id=person_id,
        org_id=org_id,
        payment_method="wallet",
        amount_cents=sum(step[2] for step in steps) if amount is None else amount,
        currency="USD",
        merchant_id="m",
    )
    fact.received_at.FromDatetime(AT)
    for index, (attempt_id, processor_id, minor) in enumerate(steps):
        fact.steps.add(
            step_index=index, processor_id=processor_id, amount_cents=minor, attempt_id=attempt_id
        )
    return fact


def failed() -> PaymentFailed:
    return PaymentFailed(payment_id="pay_1", order_id="chg_1", person_id="acme", currency="USD")


async def publish(mesh: Mesh, call: CallContext, *facts: Message) -> None:
    with acting(call):
        async with mesh.node.database.unit_of_work("ledger.post_transfers") as work:
            for fact in facts:
                work.publish(fact)
    await mesh.drain_events()


async def balances(mesh: Mesh, call: CallContext) -> dict[str, int]:
    stub = LedgerServiceStub(mesh.channel(call.tenant_id))
    found = (await stub.ListAccounts(service_pb.ListAccountsRequest())).accounts
    return {a.account_id: a.balances.debits_posted - a.balances.credits_posted for a in found}


async def entries(mesh: Mesh, call: CallContext, account_id: str) -> list[pb.Entry]:
    stub = LedgerServiceStub(mesh.channel(call.tenant_id))
    listed = await stub.ListEntries(service_pb.ListEntriesRequest(account_id=account_id))
    return list(listed.entries)


async def told(mesh: Mesh, call: CallContext) -> list[str]:
    stub = contracts_service_pb2_grpc.ContractMonitorServiceStub(mesh.channel(call.tenant_id))
    listed = await stub.ListViolations(contracts_service_pb2.ListViolationsRequest())
    return sorted(v.contract_id for v in listed.violations)


async def create(mesh: Mesh, call: CallContext, *accounts: pb.Account) -> None:
    stub = LedgerServiceStub(mesh.channel(call.tenant_id))
    answer = await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))
    assert {item.result for item in answer.results} == {service_pb.ACCOUNT_RESULT_OK}


def account(account_id: str, **fields: object) -> pb.Account:
    values = {"currency_code": "USD", "type": pb.ACCOUNT_TYPE_ASSET} | fields
    return pb.Account(account_id=account_id, **values)  # type: ignore[arg-type]


async def post(mesh: Mesh, call: CallContext, debit: str, credit: str, amount: int) -> None:
    stub = LedgerServiceStub(mesh.channel(call.tenant_id))
    transfer = pb.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=Money(currency_code="USD", minor_units=amount),
    )
    answer = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=[transfer]))
    assert answer.results[0].result == service_pb.TRANSFER_RESULT_OK


# ---- when


async def test_a_charge_is_in_the_books_before_its_payment_ends(
    mesh: Mesh, call: CallContext
) -> None:
    await publish(mesh, call, charged())
    assert await balances(mesh, call) == {
        "clearing:wallet-one:USD": 5000,
        "receivable:acme:USD": -5000,
    }
    await publish(mesh, call, charged(SECOND), received())
    assert await balances(mesh, call) == IN_FULL
    await publish(mesh, call, charged(), charged(SECOND), received())
    assert await balances(mesh, call) == IN_FULL, "the same facts as other events book nothing"
    found = await entries(mesh, call, "receivable:acme:USD")
    assert [e.direction for e in found] == [pb.DIRECTION_CREDIT] * 2
    assert found[0].metadata["payment_id"] == "pay_1"
    assert found[0].effective_at.ToDatetime(UTC) == AT
    assert await told(mesh, call) == []


async def test_what_was_given_back_nets_to_zero_with_both_entries(
    mesh: Mesh, call: CallContext
) -> None:
    await publish(mesh, call, charged(), charged(SECOND), refunded(SECOND))
    assert await balances(mesh, call) == {**IN_FULL, "clearing:card-two:USD": 0} | {
        "receivable:acme:USD": -5000
    }
    for _ in range(2):
        await publish(mesh, call, refunded(SECOND), refunded(), failed())
    assert set((await balances(mesh, call)).values()) == {0}
    found = await entries(mesh, call, "clearing:wallet-one:USD")
    assert [(e.direction, e.amount.minor_units) for e in found] == [
        (pb.DIRECTION_DEBIT, 5000),
        (pb.DIRECTION_CREDIT, 5000),
    ]
    assert found[1].metadata["refund_of"] == "att_1"
    assert found[1].effective_at.ToDatetime(UTC) == AT + timedelta(minutes=1)
    assert await told(mesh, call) == []


async def test_what_differs_from_the_books_at_the_end_is_told(
    mesh: Mesh, call: CallContext
) -> None:
    await publish(mesh, call, charged(), failed())
    assert await told(mesh, call) == ["ledger/payments-in-books"]
    await publish(mesh, call, received(FIRST, amount=4999))
    assert await told(mesh, call) == ["ledger/payments-in-books"] * 2


# ---- over an upgrade


async def test_steps_in_old_form_are_booked_by_what_comes_later(
    mesh: Mesh, call: CallContext
) -> None:
    await publish(mesh, call, charged_in_old_form())
    assert await balances(mesh, call) == {}, "it does not say who paid"
    await publish(mesh, call, charged(SECOND), received())
    assert await balances(mesh, call) == IN_FULL
    assert await told(mesh, call) == []


async def test_a_refund_books_the_charge_that_an_old_release_had_not(
    mesh: Mesh, call: CallContext
) -> None:
    await publish(mesh, call, charged_in_old_form(), refunded(), failed())
    assert await balances(mesh, call) == {"clearing:wallet-one:USD": 0, "receivable:acme:USD": 0}
    assert len(await entries(mesh, call, "clearing:wallet-one:USD")) == 2
    assert await told(mesh, call) == []


async def test_what_an_old_release_booked_at_the_end_is_not_booked_again(
    mesh: Mesh, call: CallContext
) -> None:
    """It posted the steps as one chain, at the time of receipt, under the same ids."""
    await create(mesh, call, *[account(name) for name in IN_FULL])
    chain = [
        Transfer(
            transfer_id=derived_uuid("payment.received", "pay_1", attempt_id),
            debit_account_id=f"clearing:{processor_id}:USD",
            credit_account_id="receivable:acme:USD",
            currency_code="USD",
            amount_minor=amount,
            code=2001,
            linked=linked,
            effective_at=AT + timedelta(hours=1),
            metadata={
                "payment_id": "pay_1",
                "attempt_id": attempt_id,
                "order_id": "chg_1",
                "person_id": "acme",
            },
        )
        for (attempt_id, processor_id, amount), linked in ((FIRST, True), (SECOND, False))
    ]
    with acting(call):
        async with mesh.node.database.unit_of_work("ledger.post_transfers") as work:
            await post_transfers(chain, work)
    await publish(mesh, call, charged(), charged(SECOND), received())
    assert await balances(mesh, call) == IN_FULL
    assert len(await entries(mesh, call, "receivable:acme:USD")) == 2
    assert await told(mesh, call) == []


# ---- whose debt it was


@pytest.mark.parametrize("first", ["charged", "refunded", "received"])
async def test_the_debt_of_the_organisation_is_paid_whoever_pays_and_whichever_fact_comes_first(
    mesh: Mesh, call: CallContext, first: str
) -> None:
    person_id, org_id = "meier", "acme"
    if first == "refunded":
        await publish(mesh, call, refunded(FIRST, person_id, org_id))
        assert await balances(mesh, call) == {
            "clearing:wallet-one:USD": 0,
            "receivable:acme:USD": 0,
        }
        assert len(await entries(mesh, call, "receivable:acme:USD")) == 2
        return
    of_step = charged(FIRST, person_id, org_id)
    of_end = received(FIRST, person_id=person_id, org_id=org_id)
    await publish(mesh, call, of_step if first == "charged" else of_end, of_step, of_end)
    assert await balances(mesh, call) == {
        "clearing:wallet-one:USD": 5000,
        "receivable:acme:USD": -5000,
    }
    [entry] = await entries(mesh, call, "receivable:acme:USD")
    assert (entry.metadata["person_id"], entry.metadata["org_id"]) == ("meier", "acme")


async def test_what_was_booked_on_a_person_stays_there(mesh: Mesh, call: CallContext) -> None:
    """Else a fact of the same payment that names an organisation would move money that is in the books."""
    await publish(mesh, call, charged(person_id="meier"))
    await publish(mesh, call, received(FIRST, person_id="meier", org_id="acme"))
    await publish(mesh, call, refunded(person_id="meier", org_id="acme"))
    assert await balances(mesh, call) == {"clearing:wallet-one:USD": 0, "receivable:meier:USD": 0}
    assert "org_id" not in (await entries(mesh, call, "receivable:meier:USD"))[0].metadata


# ---- whatever stands in the way


async def test_money_from_a_payer_with_an_odd_name_is_booked(mesh: Mesh, call: CallContext) -> None:
    await publish(mesh, call, charged(person_id="Zoë <zoe@example.org>"))
    names = set(await balances(mesh, call))
    [receivable] = [name for name in names if name.startswith("receivable:")]
    assert receivable.startswith("receivable:other-")
    assert len(names) == 2


@pytest.mark.parametrize(
    "own",
    [
        account("receivable:acme:USD", flags=pb.AccountFlags(closed=True)),
        account("clearing:wallet-one:USD", flags=pb.AccountFlags(closed=True)),
        account("receivable:acme:USD", flags=pb.AccountFlags(credits_must_not_exceed_debits=True)),
        account(
            "clearing:wallet-one:USD", flags=pb.AccountFlags(debits_must_not_exceed_credits=True)
        ),
        account("receivable:acme:USD", type=pb.ACCOUNT_TYPE_LIABILITY),
        account("receivable:acme:USD", currency_code="EUR"),
        account("clearing:wallet-one:USD", currency_code="JPY"),
    ],
    ids=lambda own: f"{own.account_id} {own.currency_code} {own.type} {own.flags}".strip(),
)
async def test_an_account_that_refuses_is_stood_in_for(
    mesh: Mesh, call: CallContext, own: pb.Account
) -> None:
    await create(mesh, call, own)
    await publish(mesh, call, charged(), received(FIRST))
    held = await balances(mesh, call)
    assert held[f"suspense:{own.account_id}"] in (5000, -5000)
    assert held[own.account_id] == 0
    assert await told(mesh, call) == ["ledger/payment-in-suspense"]
    await publish(mesh, call, refunded(), failed())
    assert set((await balances(mesh, call)).values()) == {0}


async def test_stand_ins_that_refuse_too_are_stood_in_for(mesh: Mesh, call: CallContext) -> None:
    closed = pb.AccountFlags(closed=True)
    name = "receivable:acme:USD"
    await create(mesh, call, account(name, flags=closed), account(f"suspense:{name}", flags=closed))
    await publish(mesh, call, charged(), received(FIRST))
    held = await balances(mesh, call)
    assert sorted(held.values()) == [-5000, 0, 0, 5000]
    assert held["clearing:wallet-one:USD"] == 5000


async def test_accounts_that_are_full_are_stood_in_for(mesh: Mesh, call: CallContext) -> None:
    """Sums of an account only grow, so many payments fill it as well as one."""
    names = ["receivable:acme:USD", "clearing:wallet-one:USD", "a", "b"]
    await create(mesh, call, *[account(name) for name in names])
    await post(mesh, call, "clearing:wallet-one:USD", "a", MINOR_UNITS_MAX - 4999)
    await post(mesh, call, "b", "receivable:acme:USD", MINOR_UNITS_MAX - 4999)
    await publish(mesh, call, charged(), received(FIRST))
    held = await balances(mesh, call)
    assert held["suspense:clearing:wallet-one:USD"] == 5000
    assert held["suspense:receivable:acme:USD"] == -5000
    await publish(mesh, call, charged(("att_9", "wallet-one", 4999)))
    held = await balances(mesh, call)
    assert held["clearing:wallet-one:USD"] == MINOR_UNITS_MAX, "what fits goes where it belongs"


async def test_an_id_that_somebody_took_is_passed_over_but_not_for_ever(
    mesh: Mesh, call: CallContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(mesh, call, account("a"), account("b"))
    taken = pb.Transfer(
        transfer_id=str(derived_uuid("payment.received", "pay_1", "att_1")),
        debit_account_id="a",
        credit_account_id="b",
        amount=Money(currency_code="USD", minor_units=1),
    )
    burnt = pb.Transfer(
        transfer_id=str(derived_uuid("payment.received", "pay_1", "att_1", "1")),
        debit_account_id="a",
        credit_account_id="nowhere",
        amount=Money(currency_code="USD", minor_units=1),
    )
    stub = LedgerServiceStub(mesh.channel(call.tenant_id))
    for transfer in (taken, burnt):
        await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=[transfer]))
    charge = Charge("pay_1", "att_1", "wallet-one", "chg_1", "acme", "", "USD", 5000, AT)
    with acting(call), monkeypatch.context() as patch:
        patch.setattr(app, "BOOKING_TRIES", 2)
        with pytest.raises(PaymentNotBookable, match="IDS_TAKEN"):
            async with mesh.node.database.unit_of_work("ledger.post_transfers") as work:
                await app.book_charge(work, charge)
    for _ in range(2):
        await publish(mesh, call, charged(), received(FIRST))
        assert (await balances(mesh, call))["receivable:acme:USD"] == -5000
    (entry,) = await entries(mesh, call, "clearing:wallet-one:USD")
    assert UUID(entry.transfer_id) == derived_uuid("payment.received", "pay_1", "att_1", "2")


async def test_what_is_only_held_does_not_count_as_booked(mesh: Mesh, call: CallContext) -> None:
    await create(mesh, call, account("x"), account("y"))
    held = pb.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id="x",
        credit_account_id="y",
        amount=Money(currency_code="USD", minor_units=700),
        code=2001,
        kind=pb.KIND_PENDING,
        metadata={"payment_id": "pay_1"},
    )
    stub = LedgerServiceStub(mesh.channel(call.tenant_id))
    answer = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=[held]))
    assert answer.results[0].result == service_pb.TRANSFER_RESULT_OK
    await publish(mesh, call, charged(), charged(SECOND), received())
    assert await told(mesh, call) == []
