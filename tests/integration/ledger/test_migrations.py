"""Books go up and down between releases with all that is in them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import monitor_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money
from pydantic import SecretStr

from services.ledger import manifest as ledger
from services.ledger.work.sums import Sums
from services.runtime import migrations
from services.runtime.clock import ManualClock
from services.runtime.secrets import new_key
from tests.support.ledger.living import LivingBooks, move
from tests.support.ledger.posting_recipes import moving
from tests.support.ledger.recipes import RecipeBooks, recipe, reference, usd
from tests.support.ledger.tenant import Ear, Tenant, settled, stamp
from tests.support.mesh.serving import running
from tests.support.postgres.server import DatabaseUrls

ENVIRONMENT = "services.ledger.migrations"
_BOOKS = """
SELECT b.account_id, b.debits_posted, b.credits_posted, b.closed,
       (SELECT coalesce(sum(amount_minor), 0) FROM ledger.entry e WHERE e.account_id = b.account_id)
  FROM ledger.balance b ORDER BY 1
"""
_KINDS = "SELECT kind, count(*) FROM ledger.transfer GROUP BY 1 ORDER BY 1"


def transfer(amount: int | None, **more: object) -> pb.Transfer:
    fields = {"debit_account_id": "a", "credit_account_id": "b", **more}
    money = None if amount is None else Money(currency_code="USD", minor_units=amount)
    return pb.Transfer(transfer_id=str(uuid4()), amount=money, **fields)  # type: ignore[arg-type] # of several types


async def test_books_with_holds_go_down_and_up_again(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    plain = transfer(7, metadata={"why": "x"})
    held = transfer(10, kind=pb.KIND_PENDING)
    closing = transfer(0, kind=pb.KIND_PENDING, closing_credit=True, credit_account_id="c")
    ends = {"debit_account_id": "", "credit_account_id": "", "pending_id": held.transfer_id}
    part = transfer(4, kind=pb.KIND_POST_PENDING, **ends)
    burnt = transfer(1, kind=pb.KIND_VOID_PENDING, **{**ends, "pending_id": str(uuid4())})
    beyond = transfer(1_000, debit_account_id="limited")
    async with running(urls, [ledger.SERVICE]) as mesh:
        stub = LedgerServiceStub(mesh.channel("t"))
        limits = pb.AccountLimits(ceiling=Money(currency_code="USD", minor_units=5))
        accounts = [
            pb.Account(
                account_id=name,
                currency_code="USD",
                type=pb.ACCOUNT_TYPE_ASSET,
                limits=limits if name == "limited" else None,
            )
            for name in ("a", "b", "c", "limited")
        ]
        await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))
        batch = [plain, held, part, closing, burnt, beyond]
        answer = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=batch))
        assert [each.result for each in answer.results] == [
            *[service_pb.TRANSFER_RESULT_OK] * 4,
            service_pb.TRANSFER_RESULT_PENDING_TRANSFER_NOT_FOUND,
            service_pb.TRANSFER_RESULT_DEBIT_ACCOUNT_ABOVE_CEILING,
        ]
    with psycopg.connect(urls.owner_admin) as owner:
        before = owner.execute(_BOOKS).fetchall()
        assert [row[3] for row in before] == [False, False, True, False]
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0002")
    with psycopg.connect(urls.owner_admin) as owner:
        # The books are what they were; an account that only a hold had closed is open.
        assert owner.execute(_BOOKS).fetchall() == [(*row[:3], False, row[4]) for row in before]
        assert owner.execute(_KINDS).fetchall() == [(1, 2)]
        lost = owner.execute("SELECT count(*) FROM ledger.transfer_id WHERE result = 1").fetchone()
        assert lost == (2,)
        # As the release before would write it.
        owner.execute(
            "INSERT INTO ledger.transfer_id SELECT tenant_id, gen_random_uuid(), fingerprint, 1 FROM ledger.transfer_id"
            " LIMIT 1"
        )
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    async with running(urls, [ledger.SERVICE]) as mesh:
        stub = LedgerServiceStub(mesh.channel("t"))
        again = [plain, beyond, held, part, transfer(1)]
        answer = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=again))
        assert [each.result for each in answer.results] == [
            service_pb.TRANSFER_RESULT_EXISTS,
            service_pb.TRANSFER_RESULT_ID_ALREADY_FAILED,
            # Its hold went with the release that knew it.
            service_pb.TRANSFER_RESULT_OK,
            service_pb.TRANSFER_RESULT_EXISTS,
            service_pb.TRANSFER_RESULT_OK,
        ]


_INDEXES = """
SELECT indexname FROM pg_indexes WHERE schemaname = 'ledger' AND tablename IN ('transfer', 'entry') ORDER BY 1
"""


async def test_the_indexes_of_lists_come_and_go_and_no_row_changes(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    async with running(urls, [ledger.SERVICE]) as mesh:
        stub = LedgerServiceStub(mesh.channel("t"))
        accounts = [
            pb.Account(account_id=name, currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET)
            for name in ("a", "b")
        ]
        await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))
        batch = [transfer(amount) for amount in (1, 2, 3)]
        await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=batch))
        listed = await stub.ListTransfers(service_pb.ListTransfersRequest())
    with psycopg.connect(urls.owner_admin) as owner:
        books, indexes = owner.execute(_BOOKS).fetchall(), owner.execute(_INDEXES).fetchall()
        assert ("transfer_by_time",) in indexes
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0008")
    with psycopg.connect(urls.owner_admin) as owner:
        left = owner.execute(_INDEXES).fetchall()
        assert set(indexes) - set(left) == {("transfer_by_time",)}
        assert owner.execute(_BOOKS).fetchall() == books
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute(_INDEXES).fetchall() == indexes
        assert owner.execute(_BOOKS).fetchall() == books
    async with running(urls, [ledger.SERVICE]) as mesh:
        stub = LedgerServiceStub(mesh.channel("t"))
        assert await stub.ListTransfers(service_pb.ListTransfersRequest()) == listed


async def test_what_recipes_posted_stays_when_the_release_before_knows_none(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    order, owed = reference("order", "o-1"), {"debtor": "acme", "amount": usd(5)}
    async with running(urls, [ledger.SERVICE]) as mesh:
        books = RecipeBooks(LedgerServiceStub(mesh.channel("t")))
        await books.put(recipe(**moving()))
        posted = await books.post("write-off", order, owed)
        await books.post("move", order, {"amount": usd(7)})
    with psycopg.connect(urls.owner_admin) as owner:
        before = owner.execute(_BOOKS).fetchall()
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0004")
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute(_BOOKS).fetchall() == before
        tables = "SELECT to_regclass('ledger.recipe'), to_regclass('ledger.posting')"
        assert owner.execute(tables).fetchone() == (None, None)
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    async with running(urls, [ledger.SERVICE]) as mesh:
        books = RecipeBooks(LedgerServiceStub(mesh.channel("t")))
        refusal = await books.refusal("move", order, {"amount": usd(7)})
        assert refusal.reason == "RECIPE_NOT_FOUND", "recipes of tenants went with it"
        again = await books.post("write-off", order, owed)
        assert again.posting_id == posted.posting_id
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute(_BOOKS).fetchall() == before, (
            "what is in the books is not posted again"
        )


async def test_books_of_an_earlier_release_are_clean_and_chained(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    """Posted before there were months, references and blocks; and again after a downgrade, which keeps the books."""
    urls = new_database()
    keys = SecretStr(new_key())
    async with running(urls, [ledger.SERVICE], secrets_keys=keys) as mesh:
        books = LivingBooks(mesh, "t")
        await books.live(with_references=False)
        first = await books.seal()
        transfers = first.transfer_count
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0003")
    with psycopg.connect(urls.owner_admin) as owner:
        for table in ("block", "signing_key", "signed_head", "verification"):
            assert owner.execute("SELECT to_regclass(%s)", [f"ledger.{table}"]).fetchone() == (
                None,
            )
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    async with running(urls, [ledger.SERVICE], secrets_keys=keys) as mesh:
        books = LivingBooks(mesh, "t")
        assert await books.verify() == []
        head = await books.seal()
        assert head.transfer_count == transfers
        assert head.hash != first.hash
        assert await books.post(move("a", "b", 1)) == ["OK"]
        assert await books.verify(head) == []


async def test_books_with_what_waits_and_is_watched_go_down_and_up_again(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    start = datetime(2026, 3, 1, tzinfo=UTC)
    clock = ManualClock(start)
    due, never = stamp(start + timedelta(hours=1)), stamp(start + timedelta(days=1))
    posts, waits, gone = (
        transfer(7, not_before=due),
        transfer(8, not_before=never),
        transfer(9, not_before=never),
    )
    ear = Ear()
    async with running(urls, [ledger.SERVICE, ear.build], clock=clock) as mesh:
        books = Tenant(mesh, ear, "t")
        await books.open("a", "b")
        assert await books.post(posts, waits, gone) == ["SCHEDULED"] * 3
        await books.cancel(gone)
        await books.watch(
            "m",
            account_id="a",
            comparison=monitor_pb2.COMPARISON_ABOVE,
            threshold=Money(currency_code="USD", minor_units=100),
        )
        clock.advance(timedelta(hours=1))

        async def look() -> bool:
            return await books.state(posts) == "POSTED"

        await settled(look)
    with psycopg.connect(urls.owner_admin) as owner:
        before = owner.execute(_BOOKS).fetchall()
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0005")
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute(_BOOKS).fetchall() == before
        # What waited is lost and its id free; what was cancelled stays used, by a result that the release before knows.
        left = owner.execute("SELECT transfer_id::text, result FROM ledger.transfer_id").fetchall()
        assert dict(left) == {posts.transfer_id: 1, gone.transfer_id: 11}
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    async with running(urls, [ledger.SERVICE, ear.build], clock=clock) as mesh:
        books = Tenant(mesh, ear, "t")
        assert await books.post(gone, waits) == [
            "ID_ALREADY_FAILED: LINKED_EVENT_FAILED",
            "SCHEDULED",
        ]
        assert await books.post(posts) == ["EXISTS"]
        assert (await books.sums("a")) == (7, 0)


async def test_books_with_closed_periods_and_sums_go_down_and_up_again(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    closed = service_pb.TRANSFER_RESULT_EFFECTIVE_AT_IN_CLOSED_PERIOD
    posted, late = transfer(7), transfer(3)
    late.effective_at.FromDatetime(datetime(2026, 1, 31, tzinfo=UTC))
    close = service_pb.ClosePeriodRequest(request_id=str(uuid4()), currency_code="USD")
    close.closed_through.FromDatetime(datetime(2026, 1, 31, tzinfo=UTC))
    asked = service_pb.GetBalanceRequest(account_id="a")
    asked.effective_at.FromDatetime(datetime(2100, 1, 1, tzinfo=UTC))
    async with running(urls, [ledger.SERVICE]) as mesh:
        stub = LedgerServiceStub(mesh.channel("t"))
        accounts = [
            pb.Account(
                account_id=name,
                currency_code="USD",
                type=pb.ACCOUNT_TYPE_ASSET,
                flags=pb.AccountFlags(limits_at_every_instant=name == "a"),
            )
            for name in ("a", "b")
        ]
        await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))
        await stub.ClosePeriod(close)
        batch = service_pb.PostTransfersRequest(transfers=[posted, late])
        answer = await stub.PostTransfers(batch)
        assert [each.result for each in answer.results] == [service_pb.TRANSFER_RESULT_OK, closed]
        await Sums(mesh.node.database).sweep()
        before = (await stub.GetBalance(asked)).balance.lines
        assert [line.debits.minor_units for line in before] == [7]
    with psycopg.connect(urls.owner_admin) as owner:
        books = owner.execute(_BOOKS).fetchall()
        assert owner.execute(_SUMMED).fetchall() == [("a", 7, 0), ("b", 0, 7)]
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0004")
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute(_BOOKS).fetchall() == books
        burnt = owner.execute("SELECT result FROM ledger.transfer_id WHERE result <> 1").fetchall()
        assert burnt == [(service_pb.TRANSFER_RESULT_DEBIT_ACCOUNT_CLOSED,)]
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    async with running(urls, [ledger.SERVICE]) as mesh:
        stub = LedgerServiceStub(mesh.channel("t"))
        # Sums are built anew, and answers need none.
        assert (await stub.GetBalance(asked)).balance.lines == before
        await Sums(mesh.node.database).sweep()
        assert (await stub.GetBalance(asked)).balance.lines == before
        late.transfer_id = str(uuid4())
        again = service_pb.PostTransfersRequest(transfers=[posted, late])
        answer = await stub.PostTransfers(again)
        assert [each.result for each in answer.results] == [
            service_pb.TRANSFER_RESULT_EXISTS,
            service_pb.TRANSFER_RESULT_OK,
        ]
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute(_SUMMED).fetchall()[0][0] == "a"


_SUMMED = """
SELECT account_id, sum(debits)::bigint, sum(credits)::bigint
  FROM ledger.account_day WHERE grain = 1 GROUP BY 1 ORDER BY 1
"""
