"""What processors charge and give back is posted to the books: once, whole, whatever stands in the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.ledger import manifest as ledger
from services.monitoring import manifest as monitoring
from services.orchestration.app import bookings as app
from services.orchestration.clients import LedgerClient
from services.orchestration.domain import booking as domain
from services.orchestration.domain.booking import Booked, Fact
from services.orchestration.work.bookings import TRIES_TOLD
from services.runtime import database as database_module
from services.runtime.errors import DependencyUnavailable
from services.runtime.ids import derived_uuid
from services.runtime.money import MINOR_UNITS_MAX
from services.runtime.postgres.roles import DatabaseUrls

from .conftest import CARD, IN_TURN, START, WALLET, Bench, Served, serving, status

CLEARING = "clearing:sandbox-wallet:USD"
CARDS = "clearing:sandbox-card:USD"
RECEIVABLE = "receivable:org-1:USD"
IN_FULL = {CLEARING: 5000, CARDS: 684, RECEIVABLE: -5684}
IN_SUSPENSE = "ledger/payment-in-suspense"
IN_BOOKS = "orchestration/payments-in-books"
STUCK = "orchestration/booking-stuck"
DECLINED = [{"method": "wallet"}, {"method": "card", "token": "tok_decline"}]
# The wallet is charged at once, and given back when it is proved that the card was not charged.
GIVEN_BACK_LATER = [{"method": "wallet"}, {"method": "card", "token": "tok_timeout_not_charged"}]
ENDS_LATER = [{"method": "wallet"}, {"method": "card", "token": "tok_timeout_books_late"}]


@pytest.fixture(scope="module")
async def served(database_url: DatabaseUrls) -> AsyncIterator[Served]:
    """Payments whose sweepers are worked by hand, with the ledger that they are booked in."""
    async with serving(database_url, [ledger.SERVICE, monitoring.SERVICE]) as served:
        yield served


@pytest.fixture
async def shop(bench: Bench) -> Bench:
    """A tenant that takes up to 50.00 by wallet, and the rest by card."""
    await bench.configure(WALLET, CARD, **IN_TURN)
    return bench


class Books:
    """The ledger of a tenant, as whoever looks into it sees it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._stub = LedgerServiceStub(bench.mesh.channel(bench.tenant_id))

    async def balances(self) -> dict[str, int]:
        """Debits less credits by account."""
        found = (await self._stub.ListAccounts(service_pb.ListAccountsRequest())).accounts
        return {a.account_id: a.balances.debits_posted - a.balances.credits_posted for a in found}

    async def entries(self, account_id: str) -> list[pb.Entry]:
        """Entries of an account, in their order."""
        request = service_pb.ListEntriesRequest(account_id=account_id)
        return list((await self._stub.ListEntries(request)).entries)

    async def create(self, *accounts: pb.Account) -> None:
        """Create accounts before payments come to them."""
        answer = await self._stub.CreateAccounts(
            service_pb.CreateAccountsRequest(accounts=accounts)
        )
        assert {item.result for item in answer.results} == {service_pb.ACCOUNT_RESULT_OK}

    async def post(self, *transfers: pb.Transfer) -> list[int]:
        """Post transfers; returns what became of them."""
        request = service_pb.PostTransfersRequest(transfers=transfers)
        return [item.result for item in (await self._stub.PostTransfers(request)).results]


@pytest.fixture
def books(bench: Bench) -> Books:
    return Books(bench)


def account(account_id: str, **fields: Any) -> pb.Account:
    values: dict[str, Any] = {"currency_code": "USD", "type": pb.ACCOUNT_TYPE_ASSET}
    return pb.Account(account_id=account_id, **values | fields)


def transfer(debit: str, credit: str, amount: int, **fields: Any) -> pb.Transfer:
    return pb.Transfer(
        **{"transfer_id": str(uuid4())} | fields,
        debit_account_id=debit,
        credit_account_id=credit,
        amount=Money(currency_code="USD", minor_units=amount),
    )


def by_old_chart(
    payment_id: str, attempt_id: str, debit: str, credit: str, amount: int, *rounds: str
) -> pb.Transfer:
    """How the release before booked a charge, when its payment had ended."""
    at = START + timedelta(hours=1)
    booked = transfer(
        debit,
        credit,
        amount,
        transfer_id=str(derived_uuid("payment.received", payment_id, attempt_id, *rounds)),
        code=2001,
        metadata={"payment_id": payment_id, "attempt_id": attempt_id},
    )
    booked.effective_at.FromDatetime(at)
    return booked


async def told(bench: Bench) -> list[str]:
    """Contracts that were broken, but for those that processors break in these tests."""
    await bench.mesh.drain_events()
    rows = bench.rows(
        "SELECT contract_id FROM monitoring.violation WHERE tenant_id = %(tenant)s ORDER BY 1"
    )
    return [row["contract_id"] for row in rows if row["contract_id"] != "router/timeout"]


def waiting(bench: Bench) -> int:
    """How much of a tenant is not booked yet."""
    (row,) = bench.rows(
        "SELECT count(*) AS n FROM orchestration.booking WHERE tenant_id = %(tenant)s AND due_at IS NOT NULL"
    )
    return int(row["n"])


async def until_it_ends(bench: Bench, payment_id: str) -> str:
    """Let business time pass until a payment has ended; returns how."""
    for _ in range(12):
        reached = status(await bench.get(payment_id))
        if reached in ("SUCCEEDED", "FAILED", "PARTIALLY_PAID"):
            return reached
        await bench.later(400)
    raise AssertionError(reached)


def mark_as_earlier(bench: Bench) -> None:
    """Make bookings those that a migration makes of the past."""
    bench.execute("UPDATE orchestration.booking SET earlier = true WHERE tenant_id = %(tenant)s")


# ---- when


async def test_a_charge_is_in_the_books_before_its_payment_ends(shop: Bench, books: Books) -> None:
    payment = await shop.pay(payment_methods=ENDS_LATER)
    assert await shop.booker.sweep() >= 1
    assert await books.balances() == {CLEARING: 5000, RECEIVABLE: -5000}
    assert await until_it_ends(shop, payment.payment_id) == "SUCCEEDED"
    for _ in range(2):
        await shop.booker.sweep()
        assert await books.balances() == IN_FULL
    found = await books.entries(RECEIVABLE)
    assert [entry.direction for entry in found] == [pb.DIRECTION_CREDIT] * 2
    assert dict(found[0].metadata) == {
        "payment_id": payment.payment_id,
        "attempt_id": payment.attempts[0].attempt_id,
        "order_id": "order-1",
        "person_id": "person-1",
        "org_id": "org-1",
    }
    settled_at = payment.attempts[0].settled_at.ToDatetime(UTC)
    assert found[0].effective_at.ToDatetime(UTC) == settled_at
    assert await told(shop) == []


async def test_what_was_given_back_nets_to_zero_with_both_entries(
    shop: Bench, books: Books
) -> None:
    payment = await shop.pay(payment_methods=DECLINED)
    assert status(payment) == "FAILED"
    await shop.booker.sweep()
    assert set((await books.balances()).values()) == {0}
    charge, _, refund = payment.attempts
    found = await books.entries(CLEARING)
    assert [(entry.direction, entry.amount.minor_units) for entry in found] == [
        (pb.DIRECTION_DEBIT, 5000),
        (pb.DIRECTION_CREDIT, 5000),
    ]
    assert found[1].metadata["refund_of"] == charge.attempt_id
    assert found[1].metadata["attempt_id"] == refund.attempt_id
    assert found[1].effective_at == refund.settled_at
    assert await told(shop) == []


async def test_a_refund_is_posted_after_its_charge_whichever_is_looked_at_first(
    shop: Bench, books: Books
) -> None:
    await shop.pay(payment_methods=DECLINED)
    shop.execute(
        "UPDATE orchestration.booking b SET due_at = due_at + interval '1 hour'"
        " FROM orchestration.attempt a WHERE a.tenant_id = b.tenant_id AND a.attempt_id = b.attempt_id"
        " AND b.tenant_id = %(tenant)s AND a.operation = 'CHARGE'"
    )
    await shop.booker.sweep()
    assert [entry.direction for entry in await books.entries(CLEARING)] == [
        pb.DIRECTION_DEBIT,
        pb.DIRECTION_CREDIT,
    ]
    assert waiting(shop) == 0, "the charge is in the books, and is not looked at again"


# ---- the comparison at the end


async def test_books_that_differ_from_what_was_kept_are_told_of_when_the_last_is_booked(
    shop: Bench,
) -> None:
    payment = await shop.pay(payment_methods=ENDS_LATER)
    await shop.booker.sweep()
    shop.execute("UPDATE orchestration.booking SET booked_minor = 4999 WHERE tenant_id=%(tenant)s")
    assert await until_it_ends(shop, payment.payment_id) == "SUCCEEDED"
    assert await told(shop) == [], "something of it is still to be booked"
    await shop.booker.sweep()
    assert await told(shop) == [IN_BOOKS]


async def test_books_that_differ_are_told_of_at_the_end_when_nothing_is_left_to_book(
    bench: Bench,
) -> None:
    await bench.configure(
        WALLET,
        CARD,
        partial_allowed=True,
        **IN_TURN,
        retry_policy={"attempts_per_processor_max": 1},
    )
    methods = [{"method": "wallet"}, {"method": "card", "token": "tok_timeout_not_charged"}]
    payment = await bench.pay(payment_methods=methods)
    await bench.booker.sweep()
    bench.execute("UPDATE orchestration.booking SET booked_minor = 1 WHERE tenant_id = %(tenant)s")
    assert await until_it_ends(bench, payment.payment_id) == "PARTIALLY_PAID"
    assert await told(bench) == [IN_BOOKS]


# ---- over an upgrade


async def test_what_the_release_before_booked_is_not_booked_again(
    shop: Bench, books: Books
) -> None:
    """It posted the steps as one chain, at the time of receipt, under ids of its own."""
    payment = await shop.pay()
    mark_as_earlier(shop)
    await books.create(*[account(name) for name in IN_FULL])
    first, second = payment.attempts
    chain = [
        by_old_chart(payment.payment_id, first.attempt_id, CLEARING, RECEIVABLE, 5000),
        by_old_chart(payment.payment_id, second.attempt_id, CARDS, RECEIVABLE, 684),
    ]
    chain[0].linked = True
    assert set(await books.post(*chain)) == {service_pb.TRANSFER_RESULT_OK}
    await shop.booker.sweep()
    assert waiting(shop) == 0
    assert await books.balances() == IN_FULL
    assert len(await books.entries(RECEIVABLE)) == 2
    assert await told(shop) == []


async def test_what_the_release_before_had_not_booked_is_booked(shop: Bench, books: Books) -> None:
    await shop.pay()
    mark_as_earlier(shop)
    await shop.booker.sweep()
    assert await books.balances() == IN_FULL


async def test_a_refund_goes_back_to_where_the_release_before_booked_its_charge(
    shop: Bench, books: Books
) -> None:
    payment = await shop.pay(payment_methods=GIVEN_BACK_LATER)
    mark_as_earlier(shop)
    await books.create(account(CLEARING), account(f"suspense:{RECEIVABLE}"), account(RECEIVABLE))
    attempt_id = payment.attempts[0].attempt_id
    booked = by_old_chart(payment.payment_id, attempt_id, CLEARING, f"suspense:{RECEIVABLE}", 5000)
    await books.post(booked)
    assert await until_it_ends(shop, payment.payment_id) == "FAILED"
    for _ in range(2):
        await shop.booker.sweep()
        assert await books.balances() == {
            CLEARING: 0,
            RECEIVABLE: 0,
            f"suspense:{RECEIVABLE}": 0,
        }
    assert len(await books.entries(f"suspense:{RECEIVABLE}")) == 2
    assert await told(shop) == []


async def test_a_refund_that_the_release_before_booked_is_not_booked_again(
    shop: Bench, books: Books
) -> None:
    payment = await shop.pay(payment_methods=DECLINED)
    mark_as_earlier(shop)
    charge, _, refund = payment.attempts
    await books.create(account(CLEARING), account(RECEIVABLE))
    booked = by_old_chart(payment.payment_id, charge.attempt_id, CLEARING, RECEIVABLE, 5000)
    back = transfer(
        RECEIVABLE,
        CLEARING,
        5000,
        transfer_id=str(derived_uuid("payment.refunded", payment.payment_id, refund.attempt_id)),
        code=2002,
        metadata={"attempt_id": refund.attempt_id, "refund_of": charge.attempt_id},
    )
    await books.post(booked, back)
    await shop.booker.sweep()
    assert waiting(shop) == 0
    assert len(await books.entries(CLEARING)) == 2


async def test_ids_that_others_took_from_the_release_before_do_not_count(
    shop: Bench, books: Books
) -> None:
    """It had passed over a hold and over an id that a refused transfer had used up."""
    payment = await shop.pay(payment_methods=[{"method": "wallet"}], amount="50.00")
    mark_as_earlier(shop)
    attempt_id = payment.attempts[0].attempt_id
    await books.create(account("a"), account("b"), account(CLEARING), account(RECEIVABLE))
    held = by_old_chart(payment.payment_id, attempt_id, "a", "b", 5000)
    held.kind = pb.KIND_PENDING
    burnt = by_old_chart(payment.payment_id, attempt_id, "a", "nowhere", 5000, "1")
    booked = by_old_chart(payment.payment_id, attempt_id, CLEARING, RECEIVABLE, 5000, "2")
    await books.post(held, burnt, booked)
    await shop.booker.sweep()
    assert (await books.balances())[RECEIVABLE] == -5000
    (row,) = shop.rows("SELECT transfer_id FROM orchestration.booking WHERE tenant_id=%(tenant)s")
    assert row["transfer_id"] == UUID(booked.transfer_id)


async def test_ids_that_are_all_taken_are_told_of_and_not_passed_over_for_ever(
    shop: Bench, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await shop.pay(payment_methods=[{"method": "wallet"}], amount="50.00")
    mark_as_earlier(shop)
    await books.create(account("a"), account("b"))
    attempt_id = payment.attempts[0].attempt_id
    taken = by_old_chart(payment.payment_id, attempt_id, "a", "b", 1)
    await books.post(taken)
    with monkeypatch.context() as patch:
        patch.setattr(app, "ROUNDS_MAX", 1)
        await shop.booker.sweep()
    assert waiting(shop) == 1
    shop.clock.advance(timedelta(seconds=2))
    await shop.booker.sweep()
    assert waiting(shop) == 0
    assert (await books.balances())[RECEIVABLE] == -5000


async def test_nothing_is_posted_while_the_ledger_may_still_book_by_itself(
    database_url: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger of the release before has no recipes; what is settled meanwhile it may have booked from events."""

    async def unknown(_self: LedgerClient) -> None:
        raise DependencyUnavailable("service ledger failed (UNIMPLEMENTED)", service="ledger")

    async with serving(database_url, [ledger.SERVICE, monitoring.SERVICE]) as served:
        mesh, runs, booker, clock, _ = served
        shop = Bench(mesh, runs, booker, clock, database_url, f"t-{uuid4().hex[:12]}")
        books = Books(shop)
        await shop.configure(WALLET, CARD, **IN_TURN)
        with monkeypatch.context() as patch:
            patch.setattr(LedgerClient, "check_recipes", unknown)
            payment = await shop.pay()
            await shop.booker.sweep()
            assert await books.balances() == {}
        await books.create(account(CLEARING), account(RECEIVABLE))
        first = payment.attempts[0].attempt_id
        await books.post(by_old_chart(payment.payment_id, first, CLEARING, RECEIVABLE, 5000))
        clock.advance(timedelta(seconds=5))
        await shop.booker.sweep()
        assert await books.balances() == IN_FULL
        await shop.pay(order_id="order-2")
        rows = shop.rows(
            "SELECT earlier, count(*) AS n FROM orchestration.booking WHERE tenant_id = %(tenant)s"
            " GROUP BY 1 ORDER BY 1"
        )
        assert [(row["earlier"], row["n"]) for row in rows] == [(False, 2), (True, 2)]


# ---- whose debt it was


@pytest.mark.parametrize(("org_id", "debtor"), [("acme", "acme"), (None, "meier")])
async def test_the_debt_of_the_organisation_is_paid_else_that_of_the_person(
    shop: Bench, books: Books, org_id: str | None, debtor: str
) -> None:
    await shop.pay(person_id="meier", org_id=org_id)
    await shop.booker.sweep()
    receivable = f"receivable:{debtor}:USD"
    assert await books.balances() == {CLEARING: 5000, CARDS: 684, receivable: -5684}
    entry = (await books.entries(receivable))[0]
    assert (entry.metadata["person_id"], entry.metadata.get("org_id")) == ("meier", org_id)


# ---- whatever stands in the way


@pytest.mark.parametrize(
    "own",
    [
        account(RECEIVABLE, flags=pb.AccountFlags(closed=True)),
        account(CLEARING, flags=pb.AccountFlags(closed=True)),
        account(RECEIVABLE, flags=pb.AccountFlags(credits_must_not_exceed_debits=True)),
        account(CLEARING, flags=pb.AccountFlags(debits_must_not_exceed_credits=True)),
        account(RECEIVABLE, type=pb.ACCOUNT_TYPE_LIABILITY),
        account(RECEIVABLE, currency_code="EUR"),
        account(CLEARING, currency_code="JPY"),
    ],
    ids=lambda own: f"{own.account_id} {own.currency_code} {own.type} {own.flags}".strip(),
)
async def test_an_account_that_refuses_is_stood_in_for(
    shop: Bench, books: Books, own: pb.Account
) -> None:
    await books.create(own)
    payment = await shop.pay(payment_methods=GIVEN_BACK_LATER)
    await shop.booker.sweep()
    held = await books.balances()
    assert held[f"suspense:{own.account_id}"] in (5000, -5000)
    assert held[own.account_id] == 0
    assert await told(shop) == [IN_SUSPENSE]
    assert await until_it_ends(shop, payment.payment_id) == "FAILED"
    await shop.booker.sweep()
    assert set((await books.balances()).values()) == {0}


async def test_stand_ins_that_refuse_too_are_stood_in_for(shop: Bench, books: Books) -> None:
    closed = pb.AccountFlags(closed=True)
    await books.create(
        account(RECEIVABLE, flags=closed), account(f"suspense:{RECEIVABLE}", flags=closed)
    )
    await shop.pay(payment_methods=[{"method": "wallet"}], amount="50.00")
    await shop.booker.sweep()
    held = await books.balances()
    assert sorted(held.values()) == [-5000, 0, 0, 5000]
    assert held[CLEARING] == 5000


async def test_accounts_that_are_full_are_stood_in_for(shop: Bench, books: Books) -> None:
    """Sums of an account only grow, so many payments fill it as well as one."""
    await books.create(*[account(name) for name in (RECEIVABLE, CLEARING, "a", "b")])
    await books.post(
        transfer(CLEARING, "a", MINOR_UNITS_MAX - 4999),
        transfer("b", RECEIVABLE, MINOR_UNITS_MAX - 4999),
    )
    wallet = [{"method": "wallet"}]
    await shop.pay(payment_methods=wallet, amount="50.00")
    await shop.booker.sweep()
    held = await books.balances()
    assert held[f"suspense:{CLEARING}"] == 5000
    assert held[f"suspense:{RECEIVABLE}"] == -5000
    await shop.pay(payment_methods=wallet, amount="49.99", order_id="order-2")
    await shop.booker.sweep()
    assert (await books.balances())[CLEARING] == MINOR_UNITS_MAX, "what fits goes where it belongs"


async def test_a_ledger_that_is_away_is_tried_until_it_is_back_and_somebody_is_told(
    shop: Bench, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_self: LedgerClient, _fact: Fact, _request_id: UUID) -> Booked:
        raise DependencyUnavailable("service ledger is unavailable", service="ledger")

    await shop.pay()
    with monkeypatch.context() as patch:
        patch.setattr(LedgerClient, "post", away)
        for tried in range(TRIES_TOLD):
            assert await told(shop) == [], tried
            await shop.booker.sweep()
            assert waiting(shop) == 2
            shop.clock.advance(timedelta(minutes=5))
    assert await told(shop) == [STUCK] * 2
    await shop.booker.sweep()
    assert waiting(shop) == 0
    assert await books.balances() == IN_FULL


async def test_what_the_ledger_refuses_is_posted_once_the_cause_is_gone(
    shop: Bench, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even though the ledger keeps the refusal as the answer of its request."""
    await shop.pay(payment_methods=[{"method": "wallet"}], amount="50.00")
    with monkeypatch.context() as patch:
        patch.setattr(app, "fact_of", _without_a_parameter(domain.fact_of))
        await shop.booker.sweep()
    assert waiting(shop) == 1
    shop.clock.advance(timedelta(seconds=2))
    await shop.booker.sweep()
    assert await books.balances() == {CLEARING: 5000, RECEIVABLE: -5000}


def _without_a_parameter(honest: Any) -> Any:
    def fact_of(*args: Any) -> Fact:
        fact: Fact = honest(*args)
        return Fact(
            fact.recipe, fact.payment_id, fact.attempt_id, fact.amount, {}, fact.effective_at
        )

    return fact_of


class Died(BaseException):
    """Stands for kill -9: no handler of Exception sees it."""


@pytest.mark.parametrize(
    "point",
    [
        "orchestration.booking.claim.after_commit",
        "orchestration.booking.before_post",
        "orchestration.booking.after_post",
        "orchestration.booking.settle.before_commit",
        "orchestration.booking.settle.after_commit",
    ],
)
async def test_a_death_at_any_point_books_once(
    shop: Bench, books: Books, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def crashpoint(at: str) -> None:
        if at == point:
            raise Died(at)

    await shop.pay(payment_methods=DECLINED)
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "crashpoint", crashpoint)
        patch.setattr(app, "crashpoint", crashpoint)
        try:
            tasks, _ = await shop.booker.take()
        except Died:
            tasks = []
        died = [isinstance(await _ended(task), Died) for task in tasks]
        assert any(died) or "claim" in point
    shop.execute("UPDATE orchestration.booking SET lease_until = NULL WHERE tenant_id = %(tenant)s")
    await shop.booker.sweep()
    assert waiting(shop) == 0
    assert [entry.direction for entry in await books.entries(CLEARING)] == [
        pb.DIRECTION_DEBIT,
        pb.DIRECTION_CREDIT,
    ]
    assert await told(shop) == []


async def _ended(task: Any) -> BaseException | None:
    try:
        await task
    except BaseException as error:
        return error
    return None
