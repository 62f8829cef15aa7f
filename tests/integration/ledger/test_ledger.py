"""Each RPC of LedgerService on a real server with real Postgres."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money, Period

from services.ledger import manifest as ledger
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE]) as running_mesh:
        yield running_mesh


@dataclass
class Books:
    """One tenant's ledger, in few words."""

    stub: LedgerServiceAsyncStub
    tenant: str

    async def open(self, *names: str, currency: str = "USD", **flags: bool) -> None:
        """Create asset accounts."""
        response = await self.stub.CreateAccounts(
            service_pb.CreateAccountsRequest(
                accounts=[account(name, currency, **flags) for name in names]
            )
        )
        assert {r.result for r in response.results} == {service_pb.ACCOUNT_RESULT_OK}

    async def post(self, *transfers: pb.Transfer) -> list[str]:
        """Post and name the results."""
        response = await self.stub.PostTransfers(
            service_pb.PostTransfersRequest(transfers=transfers)
        )
        assert [r.index for r in response.results] == list(range(len(transfers)))
        assert [r.transfer_id for r in response.results] == [t.transfer_id for t in transfers]
        return [name(r.result) for r in response.results]

    async def balances(self, account_id: str) -> tuple[int, int]:
        """Debits and credits."""
        found = (
            await self.stub.GetAccount(service_pb.GetAccountRequest(account_id=account_id))
        ).account
        return found.balances.debits_posted, found.balances.credits_posted


@pytest.fixture
def books(mesh: Mesh) -> Books:
    tenant = f"t-{uuid4().hex[:12]}"
    return Books(LedgerServiceStub(mesh.channel(tenant)), tenant)


def account(name: str, currency: str = "USD", **flags: bool) -> pb.Account:
    return pb.Account(
        account_id=name,
        currency_code=currency,
        type=pb.ACCOUNT_TYPE_ASSET,
        flags=pb.AccountFlags(**flags) if flags else None,
    )


def transfer(
    debit: str, credit: str, amount: int, transfer_id: str = "", **more: object
) -> pb.Transfer:
    return pb.Transfer(
        transfer_id=transfer_id or str(uuid4()),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=Money(currency_code="USD", minor_units=amount),
        **more,  # type: ignore[arg-type]
    )


def name(result: service_pb.TransferResult.ValueType) -> str:
    return service_pb.TransferResult.Name(result).removeprefix("TRANSFER_RESULT_")


def reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return str(info.reason)


async def test_accounts_are_created_once_and_answered_one_by_one(books: Books) -> None:
    asked = [
        pb.Account(
            account_id="receivable:acme:USD",
            currency_code="USD",
            type=pb.ACCOUNT_TYPE_ASSET,
            owner="acme",
            metadata={"k": "v"},
        ),
        account("bad id!"),
        account("x:XXQ", "XXQ"),
        account("both", debits_must_not_exceed_credits=True, credits_must_not_exceed_debits=True),
        account("twice"),
        account("twice", closed=True),
    ]
    response = await books.stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=asked))
    names = [
        service_pb.AccountResult.Name(r.result).removeprefix("ACCOUNT_RESULT_")
        for r in response.results
    ]
    assert names == [
        "OK",
        "INVALID_ACCOUNT",
        "UNKNOWN_CURRENCY",
        "INVALID_ACCOUNT",
        "OK",
        "EXISTS_WITH_DIFFERENT_FLAGS",
    ]
    assert "account_id" in response.results[1].message
    asked[0].metadata["k"] = "w"
    again = await books.stub.CreateAccounts(
        service_pb.CreateAccountsRequest(
            accounts=[
                asked[0],
                asked[4],
                account("twice", "EUR"),
                pb.Account(account_id="twice", currency_code="USD", type=pb.ACCOUNT_TYPE_INCOME),
                pb.Account(
                    account_id="twice", currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET, owner="o"
                ),
            ]
        )
    )
    assert [r.result for r in again.results] == [
        service_pb.ACCOUNT_RESULT_EXISTS_WITH_DIFFERENT_METADATA,
        service_pb.ACCOUNT_RESULT_EXISTS,
        service_pb.ACCOUNT_RESULT_EXISTS_WITH_DIFFERENT_CURRENCY,
        service_pb.ACCOUNT_RESULT_EXISTS_WITH_DIFFERENT_TYPE,
        service_pb.ACCOUNT_RESULT_EXISTS_WITH_DIFFERENT_OWNER,
    ]
    got = await books.stub.GetAccount(
        service_pb.GetAccountRequest(account_id="receivable:acme:USD")
    )
    assert (got.account.owner, dict(got.account.metadata)) == ("acme", {"k": "v"})


async def test_a_key_that_would_be_passed_over_is_refused(books: Books) -> None:
    request = service_pb.CreateAccountsRequest(accounts=[account("keyed")])
    await books.stub.CreateAccounts(request, metadata=(("idempotency-key", ""),))
    with pytest.raises(grpc.aio.AioRpcError, match="leave the header out") as refused:
        await books.stub.CreateAccounts(request, metadata=(("idempotency-key", "k"),))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_transfer_shows_in_balances_entries_and_trial_balance(books: Books) -> None:
    await books.open("cash", "clearing")
    effective = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC)
    first = transfer("cash", "clearing", 500, code=7, metadata={"order": "o1"})
    first.effective_at.FromDatetime(effective)
    assert await books.post(first, transfer("clearing", "cash", 200)) == ["OK", "OK"]
    assert await books.balances("cash") == (500, 200)
    entries = (
        await books.stub.ListEntries(service_pb.ListEntriesRequest(account_id="cash"))
    ).entries
    assert [
        (e.seq, e.direction, e.amount.minor_units, e.balance_after.minor_units) for e in entries
    ] == [
        (1, pb.DIRECTION_DEBIT, 500, 500),
        (2, pb.DIRECTION_CREDIT, 200, 300),
    ]
    assert entries[0].transfer_id == first.transfer_id
    assert entries[0].counter_account_id == "clearing"
    assert (entries[0].code, dict(entries[0].metadata)) == (7, {"order": "o1"})
    assert entries[0].effective_at.ToDatetime(UTC) == effective
    assert entries[1].effective_at == entries[1].recorded_at
    [usd] = (await trial_balance(books)).currencies
    assert (usd.debits.minor_units, usd.credits.minor_units, usd.difference.minor_units) == (
        700,
        700,
        0,
    )
    assert [(t.type, t.accounts) for t in usd.types] == [(pb.ACCOUNT_TYPE_ASSET, 2)]


async def trial_balance(books: Books) -> pb.TrialBalance:
    return (await books.stub.GetTrialBalance(service_pb.GetTrialBalanceRequest())).trial_balance


async def test_a_liability_grows_by_credits(books: Books) -> None:
    await books.open("commission")
    payable = pb.Account(account_id="payable", currency_code="USD", type=pb.ACCOUNT_TYPE_LIABILITY)
    await books.stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=[payable]))
    await books.post(transfer("commission", "payable", 568))
    entries = (
        await books.stub.ListEntries(service_pb.ListEntriesRequest(account_id="payable"))
    ).entries
    assert entries[0].balance_after.minor_units == 568
    types = (await trial_balance(books)).currencies[0].types
    assert [(t.type, t.balance.minor_units) for t in types] == [
        (pb.ACCOUNT_TYPE_ASSET, 568),
        (pb.ACCOUNT_TYPE_LIABILITY, 568),
    ]


async def test_every_refusal_is_answered_for_its_item_only(books: Books) -> None:
    await books.open("a", "b")
    await books.open("euro", currency="EUR")
    await books.open("closed", closed=True)
    await books.open("wallet", debits_must_not_exceed_credits=True)
    await books.open("owed", credits_must_not_exceed_debits=True)
    burnt = str(uuid4())
    results = await books.post(
        transfer("a", "b", 1),
        transfer("a", "b", 1, "no-uuid"),
        transfer("a", "a", 1),
        transfer("a", "b", 0),
        transfer("nobody", "b", 1),
        transfer("a", "nobody", 1),
        transfer("a", "euro", 1),
        transfer("closed", "b", 1),
        transfer("a", "closed", 1),
        transfer("wallet", "a", 1, burnt),
        transfer("a", "owed", 1),
        transfer("a", "b", 2**63 - 1),
        transfer("a", "b", 1, code=70000),
        transfer("a", "b", 4, linked=True),
        transfer("a", "b", 4, linked=True),
    )
    assert results == [
        "OK",
        "INVALID_TRANSFER",
        "ACCOUNTS_MUST_BE_DIFFERENT",
        "AMOUNT_MUST_BE_POSITIVE",
        "DEBIT_ACCOUNT_NOT_FOUND",
        "CREDIT_ACCOUNT_NOT_FOUND",
        "ACCOUNTS_MUST_HAVE_THE_SAME_CURRENCY",
        "DEBIT_ACCOUNT_CLOSED",
        "CREDIT_ACCOUNT_CLOSED",
        "EXCEEDS_CREDITS",
        "EXCEEDS_DEBITS",
        "OVERFLOWS_DEBITS",
        "INVALID_TRANSFER",
        "LINKED_EVENT_FAILED",
        "LINKED_EVENT_CHAIN_OPEN",
    ]
    assert await books.balances("a") == (1, 0)
    assert await books.post(transfer("a", "wallet", 5), transfer("wallet", "a", 1, burnt)) == [
        "OK",
        "ID_ALREADY_FAILED",
    ]
    [answer] = (
        await books.stub.PostTransfers(
            service_pb.PostTransfersRequest(transfers=[transfer("wallet", "a", 1, burnt)])
        )
    ).results
    assert name(answer.original_result) == "EXCEEDS_CREDITS"


async def test_a_lost_reply_is_asked_for_again(books: Books) -> None:
    await books.open("a", "b", "c")
    chain = [transfer("a", "b", 3, linked=True), transfer("b", "c", 3), transfer("c", "a", 1)]
    assert await books.post(*chain) == ["OK", "OK", "OK"]
    assert await books.post(*chain) == ["EXISTS", "EXISTS", "EXISTS"]
    assert await books.balances("a") == (3, 1)
    other = [pb.Transfer.FromString(t.SerializeToString()) for t in chain]
    other[2].metadata["k"] = "v"
    other[2].amount.minor_units = 2
    assert await books.post(other[2]) == ["EXISTS_WITH_DIFFERENT_AMOUNT"]
    other[2].amount.minor_units = 1
    assert await books.post(other[2]) == ["EXISTS_WITH_DIFFERENT_METADATA"]
    other[0].linked = False
    other[1].effective_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    assert await books.post(other[0], other[1]) == [
        "EXISTS_WITH_DIFFERENT_LINKED",
        "EXISTS_WITH_DIFFERENT_EFFECTIVE_AT",
    ]


async def test_an_id_that_a_failed_chain_released_is_free(books: Books) -> None:
    await books.open("a", "b")
    kept = str(uuid4())
    assert await books.post(transfer("a", "b", 1, kept, linked=True), transfer("a", "x", 1)) == [
        "LINKED_EVENT_FAILED",
        "CREDIT_ACCOUNT_NOT_FOUND",
    ]
    assert await books.post(
        transfer("a", "b", 0, kept), transfer("a", "b", 9, kept), transfer("a", "b", 9, kept)
    ) == ["AMOUNT_MUST_BE_POSITIVE", "OK", "EXISTS"]
    assert await books.post(transfer("a", "b", 9, kept)) == ["EXISTS"]


async def test_batches_are_bounded(books: Books) -> None:
    await books.open("a", "b")
    batch = [transfer("a", "b", 1, str(UUID(int=i))) for i in range(8191)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.post(*batch)
    assert reason(refused.value) == "BATCH_TOO_LARGE"
    assert set(await books.post(*batch[:8190])) == {"OK"}
    assert await books.balances("a") == (8190, 0)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.post()
    assert reason(refused.value) == "INVALID_FIELD"


async def test_lists_page_to_the_end_and_refuse_foreign_tokens(books: Books) -> None:
    await books.open(*[f"acct:{n}" for n in range(7)])
    await books.open("eur", currency="EUR")
    await books.post(*[transfer("acct:0", "acct:1", n + 1) for n in range(5)])
    seen, token = [], ""
    while True:
        page = await books.stub.ListAccounts(
            service_pb.ListAccountsRequest(currency_code="USD", page_size=3, page_token=token)
        )
        seen += [a.account_id for a in page.accounts]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"acct:{n}" for n in range(7)]
    for newest_first, expected in ((False, [1, 2, 3, 4, 5]), (True, [5, 4, 3, 2, 1])):
        seqs: list[int] = []
        token = ""
        while True:
            entries = await books.stub.ListEntries(
                service_pb.ListEntriesRequest(
                    account_id="acct:0", newest_first=newest_first, page_size=2, page_token=token
                )
            )
            seqs += [entry.seq for entry in entries.entries]
            token = entries.next_page_token
            if not token:
                break
        assert seqs == expected
    first = await books.stub.ListEntries(
        service_pb.ListEntriesRequest(account_id="acct:0", page_size=1)
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.stub.ListEntries(
            service_pb.ListEntriesRequest(account_id="acct:1", page_token=first.next_page_token)
        )
    assert reason(refused.value) == "INVALID_PAGE_TOKEN"


async def exported(
    books: Books, page_size: int = 0, **asked: Any
) -> tuple[list[tuple[Any, ...]], int]:
    """Return the entries of all pages, each as what all columns say of it, and the number of pages."""
    entries: list[tuple[Any, ...]] = []
    pages, token = 0, ""
    while True:
        page = await books.stub.ExportEntries(
            service_pb.ExportEntriesRequest(page_size=page_size, page_token=token, **asked)
        )
        columns = [getattr(page.entries, field.name) for field in page.entries.DESCRIPTOR.fields]
        entries += zip(*columns, strict=True)
        pages, token = pages + 1, page.next_page_token
        if not token:
            return entries, pages


async def test_entries_are_exported_by_column_as_they_are_listed(books: Books) -> None:
    await books.open("a", "b", "empty")
    owed = account("owed")
    owed.type, owed.owner = pb.ACCOUNT_TYPE_LIABILITY, "acme"
    await books.stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=[owed]))
    posted = [
        transfer("a", "b", 5, code=7),
        transfer("b", "owed", 3, metadata={"ä": 'quote " and \\ and\nline', "z": ""}),
        transfer("owed", "a", 1, effective_at=Timestamp(seconds=86_400, nanos=123_456_000)),
    ]
    assert await books.post(*posted) == ["OK"] * 3
    listed = []
    for account_id in ("a", "b", "owed"):
        page = await books.stub.ListEntries(service_pb.ListEntriesRequest(account_id=account_id))
        listed += [
            (
                entry.account_id,
                entry.seq,
                entry.transfer_id,
                entry.amount.minor_units * (1 if entry.direction == pb.DIRECTION_DEBIT else -1),
                entry.balance_after.minor_units,
                entry.amount.currency_code,
                entry.counter_account_id,
                entry.code,
                entry.recorded_at.ToMicroseconds(),
                entry.effective_at.ToMicroseconds(),
                dict(entry.metadata),
            )
            for entry in page.entries
        ]

    def read(entries: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [(*entry[:-1], json.loads(entry[-1] or "{}")) for entry in entries]

    for page_size in (0, 1, 2, 6):
        entries, pages = await exported(books, page_size)
        assert read(entries) == listed
        # A full page may be the last.
        assert pages == (6 // page_size + 1 if page_size else 1)
    assert [entry[4] for entry in listed if entry[0] == "owed"] == [3, 2]
    assert listed[-1][9] == 86_400_123_456
    assert read((await exported(books, owner="acme"))[0]) == listed[4:]
    assert read((await exported(books, 1, account_ids=["owed", "b", "b"]))[0]) == listed[2:]
    assert (await exported(books, account_ids=["empty"]))[0] == []


async def test_an_export_of_a_period_looks_at_all_and_keeps_what_was_recorded_in_it(
    books: Books,
) -> None:
    await books.open("a", "b")
    await books.post(transfer("a", "b", 1), transfer("b", "a", 1))
    (first, *_), _ = await exported(books)
    recorded = Timestamp()
    recorded.FromMicroseconds(first[8])
    after = Timestamp()
    after.FromMicroseconds(first[8] + 1)
    within = Period(start_at=recorded, end_at=after)
    before = Period(start_at=Timestamp(seconds=1), end_at=recorded)
    assert len((await exported(books, 1, recorded_in=within))[0]) == 4
    entries, pages = await exported(books, 1, recorded_in=before)
    assert (entries, pages) == ([], 5)


async def test_an_export_refuses_what_it_cannot_mean(books: Books) -> None:
    await books.open("a", "b")
    await books.post(transfer("a", "b", 1))
    page = await books.stub.ExportEntries(service_pb.ExportEntriesRequest(page_size=1))
    for asked, expected in (
        ({"account_ids": ["nobody", "a"]}, "NOT_FOUND"),
        ({"account_ids": ["a"], "owner": "acme"}, "INVALID_FIELD"),
        ({"account_ids": ["a b"]}, "INVALID_FIELD"),
        ({"page_size": 5001}, "INVALID_FIELD"),
        ({"account_ids": ["a"], "page_token": page.next_page_token}, "INVALID_PAGE_TOKEN"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await books.stub.ExportEntries(service_pb.ExportEntriesRequest(**asked))
        assert reason(refused.value) == expected


async def test_missing_accounts_scopes_and_bad_fields_are_typed(mesh: Mesh, books: Books) -> None:
    for call in (
        books.stub.GetAccount(service_pb.GetAccountRequest(account_id="nobody")),
        books.stub.ListEntries(service_pb.ListEntriesRequest(account_id="nobody")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert reason(refused.value) == "NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await books.stub.GetAccount(service_pb.GetAccountRequest(account_id="a b"))
    assert reason(refused.value) == "INVALID_FIELD"
    reader = LedgerServiceStub(mesh.channel(books.tenant, {"ledger:read"}))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await reader.PostTransfers(service_pb.PostTransfersRequest())
    assert reason(refused.value) == "SCOPE_MISSING"


async def test_a_trial_balance_beyond_64_bits_is_a_typed_error(books: Books) -> None:
    await books.open("a", "b", "c", "d")
    await books.post(transfer("a", "b", 2**63 - 1), transfer("c", "d", 1))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trial_balance(books)
    assert reason(refused.value) == "AMOUNT_OVERFLOW"


async def test_tenants_do_not_see_each_other(mesh: Mesh, books: Books) -> None:
    await books.open("a", "b")
    shared_id = str(uuid4())
    assert await books.post(transfer("a", "b", 5, shared_id)) == ["OK"]
    other = Books(LedgerServiceStub(mesh.channel(f"{books.tenant}-other")), "other")
    assert (await trial_balance(other)).currencies == []
    assert (await other.stub.ListAccounts(service_pb.ListAccountsRequest())).accounts == []
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await other.balances("a")
    assert reason(refused.value) == "NOT_FOUND"
    assert await other.post(transfer("a", "b", 1)) == ["DEBIT_ACCOUNT_NOT_FOUND"]
    await other.open("a", "b")
    assert await other.post(transfer("a", "b", 7, shared_id)) == ["OK"], "ids are the tenant's own"
    assert await books.balances("a") == (5, 0)
