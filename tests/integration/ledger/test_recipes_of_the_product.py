"""What the product's own recipes make of facts, on a real server with real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from payments.contracts.v1 import contracts_service_pb2, contracts_service_pb2_grpc
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub

from services.ledger import manifest as ledger
from services.monitoring import manifest as monitoring
from tests.support.ledger.recipes import RecipeBooks, reference, usd
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

CHARGE = reference("charge", "chg_1")
PAID = reference("payment", "pay_1", "att_1")
REFUNDED = reference("payment", "pay_1", "att_2")
LINES = [
    {"line": "l1", "sku": "llm.requests", "gross": usd(1000), "partner": "p1", "share": usd(100)},
    {"line": "l2", "sku": "storage", "gross": usd(-300)},
    {"line": "l3", "sku": "storage", "gross": usd(0)},
]
PAYMENT = {
    "processor": "card-one",
    "debtor": "acme",
    "amount": usd(700),
    "payment": "pay_1",
    "attempt": "att_1",
    "order": "chg_1",
    "person": "ada@example.com",
    "org": "acme",
}
REFUND = {**PAYMENT, "attempt": "att_2", "refund_of": "att_1", "amount": usd(200)}


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE, monitoring.SERVICE]) as running_mesh:
        yield running_mesh


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
def books(mesh: Mesh, tenant: str) -> RecipeBooks:
    return RecipeBooks(LedgerServiceStub(mesh.channel(tenant)))


async def suspense_told(mesh: Mesh, tenant: str) -> list[str]:
    """Return what was told of money in suspense."""
    await mesh.drain_events()
    stub = contracts_service_pb2_grpc.ContractMonitorServiceStub(mesh.channel(tenant))
    request = contracts_service_pb2.ListViolationsRequest(contract_id="ledger/payment-in-suspense")
    return [item.subject_id for item in (await stub.ListViolations(request)).violations]


async def test_a_charge_is_owed_line_by_line_and_its_partner_is_owed_a_share(
    books: RecipeBooks,
) -> None:
    at = Timestamp()
    at.FromDatetime(datetime(2026, 10, 31, 23, 59, 59, 999999, tzinfo=UTC))
    posting = await books.post("charge", CHARGE, {"org": "acme", "lines": LINES}, effective_at=at)
    assert [(leg.leg, leg.group) for leg in posting.legs] == [
        ("gross", 0),
        ("partner", 0),
        ("gross", 1),
    ]
    assert await books.balances() == {
        "receivable:acme:USD": 700,
        "revenue:llm.requests:USD": -1000,
        "revenue:storage:USD": 300,
        "commission:USD": 100,
        "payable:partner:p1:USD": -100,
    }
    first = posting.legs[0].transfer
    assert dict(first.transfer.metadata) == {"charge_id": "chg_1", "line_id": "l1"}
    assert (first.transfer.code, first.posting_id) == (1001, posting.posting_id)
    assert first.transfer.effective_at == at
    assert first.transfer.reference == CHARGE
    assert (posting.recipe, posting.version, posting.reference) == ("charge", 3, CHARGE)


async def test_the_accounts_of_a_charge_have_their_types_and_owners(books: RecipeBooks) -> None:
    await books.post("charge", CHARGE, {"org": "acme", "lines": LINES})
    found = {name: await books.account(name) for name in await books.accounts()}
    assert {name: (account.type, account.owner) for name, account in found.items()} == {
        "receivable:acme:USD": (pb.ACCOUNT_TYPE_ASSET, "acme"),
        "revenue:llm.requests:USD": (pb.ACCOUNT_TYPE_INCOME, ""),
        "revenue:storage:USD": (pb.ACCOUNT_TYPE_INCOME, ""),
        "commission:USD": (pb.ACCOUNT_TYPE_EXPENSE, ""),
        "payable:partner:p1:USD": (pb.ACCOUNT_TYPE_LIABILITY, "p1"),
    }


async def test_a_charge_that_an_account_refuses_leaves_nothing_and_can_be_posted_later(
    books: RecipeBooks,
) -> None:
    await books.open("revenue:storage:USD", "EXPENSE")
    before = await books.accounts()
    refusal = await books.refusal("charge", CHARGE, {"org": "acme", "lines": LINES})
    assert refusal.reason == "RECIPE_REFUSED"
    assert dict(refusal.metadata) == {
        "recipe": "charge",
        "leg": "gross",
        "account_id": "revenue:storage:USD",
        "result": "EXISTS_WITH_DIFFERENT_TYPE",
    }
    assert await books.accounts() == before
    posting = await books.post("charge", CHARGE, {"org": "acme", "lines": LINES[:1]})
    assert len(posting.legs) == 2


async def test_a_payment_lowers_what_is_owed(books: RecipeBooks) -> None:
    posting = await books.post("payment-received", PAID, PAYMENT)
    assert await books.balances() == {"clearing:card-one:USD": 700, "receivable:acme:USD": -700}
    (leg,) = posting.legs
    assert leg.transfer.transfer.code == 2001
    assert dict(leg.transfer.transfer.metadata) == {
        "payment_id": "pay_1",
        "attempt_id": "att_1",
        "order_id": "chg_1",
        "person_id": "ada@example.com",
        "org_id": "acme",
    }


async def test_a_payment_of_a_person_says_nothing_of_an_organisation(books: RecipeBooks) -> None:
    payment = {**PAYMENT, "debtor": "Ada Lovelace", "org": ""}
    posting = await books.post("payment-received", PAID, payment)
    transfer = posting.legs[0].transfer.transfer
    assert "org_id" not in transfer.metadata
    assert transfer.credit_account_id.startswith("receivable:other-")


async def test_a_closed_account_is_stood_in_for_and_somebody_is_told(
    books: RecipeBooks, mesh: Mesh, tenant: str
) -> None:
    await books.open("receivable:acme:USD", flags=pb.AccountFlags(closed=True))
    await books.open("suspense:receivable:acme:USD", flags=pb.AccountFlags(closed=True))
    posting = await books.post("payment-received", PAID, PAYMENT)
    credited = posting.legs[0].transfer.transfer.credit_account_id
    assert credited.startswith("suspense:")
    assert await books.balances() == {"clearing:card-one:USD": 700, credited: -700}
    assert await suspense_told(mesh, tenant) == ["pay_1"]


async def test_an_account_of_another_type_is_stood_in_for(books: RecipeBooks) -> None:
    await books.open("clearing:card-one:USD", "LIABILITY")
    await books.post("payment-received", PAID, PAYMENT)
    assert await books.balances() == {
        "suspense:clearing:card-one:USD": 700,
        "receivable:acme:USD": -700,
    }


async def test_a_refund_goes_back_between_the_accounts_that_its_payment_came_to(
    books: RecipeBooks,
) -> None:
    await books.open("receivable:acme:USD", flags=pb.AccountFlags(closed=True))
    await books.post("payment-received", PAID, PAYMENT)
    refund = await books.post("payment-refunded", REFUNDED, REFUND)
    assert await books.balances() == {
        "clearing:card-one:USD": 500,
        "suspense:receivable:acme:USD": -500,
    }
    transfer = refund.legs[0].transfer.transfer
    assert (transfer.code, transfer.metadata["refund_of"]) == (2002, "att_1")


async def test_a_refund_without_its_payment_goes_between_the_accounts_of_processor_and_debtor(
    books: RecipeBooks,
) -> None:
    await books.post("payment-refunded", REFUNDED, REFUND)
    assert await books.balances() == {"clearing:card-one:USD": -200, "receivable:acme:USD": 200}


async def booked_by_hand(books: RecipeBooks, debit: str, credit: str, amount: int) -> str:
    """Post what no recipe has posted; returns its id."""
    for name in (debit, credit):
        await books.open(name)
    transfer = pb.Transfer(
        transfer_id=str(uuid4()),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=usd(amount),
    )
    request = service_pb.PostTransfersRequest(transfers=[transfer])
    (result,) = (await books.stub.PostTransfers(request)).results
    assert result.result == service_pb.TRANSFER_RESULT_OK
    return transfer.transfer_id


async def test_a_refund_of_what_no_recipe_posted_goes_back_between_the_accounts_of_its_transfer(
    books: RecipeBooks,
) -> None:
    charged_by = await booked_by_hand(books, "elsewhere:USD", "someone:USD", 700)
    refund = {**REFUND, "charged_by": charged_by}
    first = await books.post("payment-refunded", REFUNDED, refund)
    assert await books.post("payment-refunded", REFUNDED, refund) == first
    assert await books.balances() == {"elsewhere:USD": 500, "someone:USD": -500}


async def test_a_posting_counts_before_the_transfer_that_would_stand_for_it(
    books: RecipeBooks,
) -> None:
    charged_by = await booked_by_hand(books, "elsewhere:USD", "someone:USD", 700)
    await books.post("payment-received", PAID, PAYMENT)
    await books.post("payment-refunded", REFUNDED, {**REFUND, "charged_by": charged_by})
    held = await books.balances()
    assert (held["elsewhere:USD"], held["clearing:card-one:USD"]) == (700, 500)


async def test_a_transfer_that_there_is_not_stands_for_nothing(books: RecipeBooks) -> None:
    await books.post("payment-refunded", REFUNDED, {**REFUND, "charged_by": str(uuid4())})
    assert await books.balances() == {"clearing:card-one:USD": -200, "receivable:acme:USD": 200}


async def test_what_names_a_transfer_must_be_an_id(books: RecipeBooks) -> None:
    refusal = await books.refusal("payment-refunded", REFUNDED, {**REFUND, "charged_by": "none"})
    assert refusal.reason == "INVALID_FIELD"
    assert refusal.metadata["fields"] == "parameters.charged_by"
    assert await books.accounts() == set()


async def test_a_refund_in_another_currency_than_its_payment_is_refused(
    books: RecipeBooks,
) -> None:
    await books.post("payment-received", PAID, PAYMENT)
    euros = usd(1)
    euros.currency_code = "EUR"
    refusal = await books.refusal("payment-refunded", REFUNDED, {**REFUND, "amount": euros})
    assert (refusal.reason, refusal.metadata["fields"]) == ("INVALID_FIELD", "parameters.amount")


async def test_a_payment_is_posted_once_for_each_attempt(books: RecipeBooks) -> None:
    first = await books.post("payment-received", PAID, PAYMENT)
    again = await books.post("payment-received", PAID, PAYMENT)
    assert again == first
    other = {**PAYMENT, "amount": usd(701)}
    refusal = await books.refusal("payment-received", PAID, other)
    assert refusal.reason == "POSTING_EXISTS"
    assert refusal.metadata["posting_id"] == first.posting_id
    assert await books.balances() == {"clearing:card-one:USD": 700, "receivable:acme:USD": -700}


async def close(books: RecipeBooks, through: datetime) -> None:
    request = service_pb.ClosePeriodRequest(request_id=str(uuid4()), currency_code="USD")
    request.closed_through.FromDatetime(through)
    await books.stub.ClosePeriod(request)


async def test_a_charge_of_a_closed_period_is_refused_until_it_is_opened_again(
    books: RecipeBooks,
) -> None:
    at = Timestamp()
    at.FromDatetime(datetime(2025, 3, 31, tzinfo=UTC))
    await close(books, datetime(2025, 4, 30, tzinfo=UTC))
    values = {"org": "acme", "lines": LINES}
    refused = await books.refusal("charge", CHARGE, values, effective_at=at)
    assert refused.reason == "RECIPE_REFUSED"
    assert refused.metadata["result"] == "EFFECTIVE_AT_IN_CLOSED_PERIOD"
    reopen = service_pb.ReopenPeriodRequest(
        request_id=str(uuid4()), currency_code="USD", reason="a late charge"
    )
    await books.stub.ReopenPeriod(reopen)
    posting = await books.post("charge", CHARGE, values, effective_at=at)
    assert {leg.transfer.transfer.effective_at.seconds for leg in posting.legs} == {at.seconds}


async def test_a_payment_of_a_closed_period_is_booked_as_of_now_since_it_has_happened(
    books: RecipeBooks,
) -> None:
    at = Timestamp()
    at.FromDatetime(datetime(2025, 3, 31, tzinfo=UTC))
    await close(books, datetime(2025, 4, 30, tzinfo=UTC))
    posting = await books.post("payment-received", PAID, PAYMENT, effective_at=at)
    (leg,) = posting.legs
    assert leg.transfer.transfer.effective_at == leg.transfer.recorded_at
    assert not leg.transfer.transfer.credit_account_id.startswith("suspense:")
    assert await books.post("payment-received", PAID, PAYMENT, effective_at=at) == posting


async def test_a_limit_that_holds_at_every_instant_holds_for_recipes(books: RecipeBooks) -> None:
    """The account could take it by its final balance, and not by what it held at the time."""
    flags = pb.AccountFlags(credits_must_not_exceed_debits=True, limits_at_every_instant=True)
    await books.open("receivable:acme:USD", flags=flags, owner="acme")
    first, later = Timestamp(), Timestamp()
    first.FromDatetime(datetime(2025, 3, 1, tzinfo=UTC))
    later.FromDatetime(datetime(2025, 3, 31, tzinfo=UTC))
    await books.post("charge", CHARGE, {"org": "acme", "lines": LINES}, effective_at=later)
    posting = await books.post("payment-received", PAID, PAYMENT, effective_at=first)
    (leg,) = posting.legs
    assert leg.transfer.transfer.credit_account_id == "suspense:receivable:acme:USD"
    again = reference("payment", "pay_1", "att_9")
    posting = await books.post("payment-received", again, PAYMENT, effective_at=later)
    assert posting.legs[0].transfer.transfer.credit_account_id == "receivable:acme:USD"
