"""Holds, balancing and closing transfers, and limits of accounts, on a real server with real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.ledger import manifest as ledger
from services.runtime.clock import ManualClock
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POST, VOID = pb.KIND_POST_PENDING, pb.KIND_VOID_PENDING


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls, clock: ManualClock) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE], clock=clock) as running_mesh:
        yield running_mesh


def usd(amount: int) -> Money:
    return Money(currency_code="USD", minor_units=amount)


@dataclass
class Books:
    """One tenant's ledger, in few words."""

    stub: LedgerServiceAsyncStub
    tenant: str

    async def open(self, name: str, account_type: str = "ASSET", **more: Any) -> None:
        """Create an account."""
        account = pb.Account(
            account_id=name,
            currency_code="USD",
            type=pb.AccountType.Value(f"ACCOUNT_TYPE_{account_type}"),
            **more,
        )
        request = service_pb.CreateAccountsRequest(accounts=[account])
        (answer,) = (await self.stub.CreateAccounts(request)).results
        assert answer.result == service_pb.ACCOUNT_RESULT_OK, answer

    async def post(self, *transfers: pb.Transfer) -> list[str]:
        """Post and name the results."""
        request = service_pb.PostTransfersRequest(transfers=transfers)
        answer = await self.stub.PostTransfers(request)
        return [
            service_pb.TransferResult.Name(each.result).removeprefix("TRANSFER_RESULT_")
            for each in answer.results
        ]

    async def sums(self, account_id: str) -> tuple[int, int, int, int]:
        """Debits and credits posted, debits and credits pending."""
        account = await self.account(account_id)
        found = account.balances
        return (
            found.debits_posted,
            found.credits_posted,
            found.debits_pending,
            found.credits_pending,
        )

    async def account(self, account_id: str) -> pb.Account:
        """Read an account."""
        request = service_pb.GetAccountRequest(account_id=account_id)
        return (await self.stub.GetAccount(request)).account

    async def entries(self, account_id: str) -> list[int]:
        """Amounts of the entries, in order."""
        request = service_pb.ListEntriesRequest(account_id=account_id)
        return [e.amount.minor_units for e in (await self.stub.ListEntries(request)).entries]


@pytest.fixture
def books(mesh: Mesh) -> Books:
    tenant = f"t-{uuid4().hex[:12]}"
    return Books(LedgerServiceStub(mesh.channel(tenant)), tenant)


def move(debit: str, credit: str, amount: int | None, **more: Any) -> pb.Transfer:
    return pb.Transfer(
        transfer_id=more.pop("transfer_id", "") or str(uuid4()),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=None if amount is None else usd(amount),
        **more,
    )


def hold(debit: str, credit: str, amount: int, **more: Any) -> pb.Transfer:
    return move(debit, credit, amount, kind=pb.KIND_PENDING, **more)


def end(held: pb.Transfer, kind: pb.Kind.ValueType, amount: int | None = None) -> pb.Transfer:
    return move("", "", amount, kind=kind, pending_id=held.transfer_id)


async def test_a_hold_is_posted_in_part_and_gives_up_the_rest(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    held = hold("a", "b", 10)
    assert await books.post(held, held) == ["OK", "EXISTS"]
    assert await books.sums("a") == (0, 0, 10, 0)
    assert await books.sums("b") == (0, 0, 0, 10)
    part = end(held, POST, 7)
    assert await books.post(part) == ["OK"]
    assert await books.sums("a") == (7, 0, 0, 0)
    assert await books.sums("b") == (0, 7, 0, 0)
    assert await books.entries("a") == [7]
    again = [part, held, end(held, POST), end(held, VOID), end(part, POST)]
    assert await books.post(*again) == [
        "EXISTS",
        "EXISTS",
        "PENDING_TRANSFER_ALREADY_POSTED",
        "PENDING_TRANSFER_ALREADY_POSTED",
        "PENDING_TRANSFER_NOT_PENDING",
    ]


async def test_a_hold_may_be_posted_in_several_parts(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    held = hold("a", "b", 10, multi_capture=True)
    assert await books.post(held, end(held, POST, 4), end(held, POST, 5)) == ["OK"] * 3
    assert await books.sums("a") == (9, 0, 1, 0)
    too_much = [end(held, POST, 2), end(held, VOID, 2), end(held, POST, 11)]
    assert await books.post(*too_much) == [
        "EXCEEDS_PENDING_TRANSFER_AMOUNT",
        "PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT",
        "EXCEEDS_PENDING_TRANSFER_AMOUNT",
    ]
    rest = end(held, POST)
    assert await books.post(rest, rest, end(held, POST)) == [
        "OK",
        "EXISTS",
        "PENDING_TRANSFER_ALREADY_POSTED",
    ]
    assert await books.sums("a") == (10, 0, 0, 0)
    assert await books.entries("b") == [4, 5, 1]


async def test_a_transfer_is_read_as_it_came_to_stand(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    day = Timestamp(seconds=86_400)
    metadata = {"why": "deposit"}
    more = {"code": 3, "effective_at": day, "metadata": metadata}
    held = hold("a", "b", 10, timeout=Duration(seconds=60), multi_capture=True, **more)
    part, rest = end(held, POST, 4), end(held, VOID)
    assert await books.post(held, part) == ["OK", "OK"]

    async def read(transfer_id: str) -> pb.RecordedTransfer:
        request = service_pb.GetTransferRequest(transfer_id=transfer_id)
        return (await books.stub.GetTransfer(request)).transfer

    found = await read(held.transfer_id)
    assert found.transfer == held
    assert (found.hold.state, found.hold.remaining) == (pb.HOLD_STATE_OPEN, usd(6))
    expires_in = found.hold.expires_at.ToDatetime() - found.recorded_at.ToDatetime()
    assert expires_in == timedelta(seconds=60)
    assert await books.post(rest) == ["OK"]
    ended = (await read(held.transfer_id)).hold
    assert (ended.state, ended.remaining) == (pb.HOLD_STATE_VOIDED, usd(0))
    posted = await read(part.transfer_id)
    assert not posted.HasField("hold")
    assert (posted.transfer.debit_account_id, posted.transfer.credit_account_id) == ("a", "b")
    assert (posted.transfer.amount, posted.transfer.code) == (usd(4), 3)
    assert posted.transfer.effective_at == posted.recorded_at
    assert (await read(rest.transfer_id)).transfer.amount == usd(6)
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await read(str(uuid4()))
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND


def reverse(transfer_id: str, request_id: str = "") -> service_pb.ReverseTransferRequest:
    return service_pb.ReverseTransferRequest(
        request_id=request_id or str(uuid4()), transfer_id=transfer_id, reason="typing error"
    )


async def refusal(call: Any) -> tuple[str, dict[str, str]]:
    """Reason and metadata of what a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type] # typed for the other API
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return info.reason, dict(info.metadata)


async def test_a_transfer_is_reversed_once(books: Books) -> None:
    await books.open("a")
    flags = pb.AccountFlags(debits_must_not_exceed_credits=True)
    await books.open("b", flags=flags)
    sent = move("a", "b", 10, code=3)
    spent = move("b", "a", 8)
    assert await books.post(sent, spent) == ["OK", "OK"]
    # The money is gone; once it is back, the same call reverses it.
    request = reverse(sent.transfer_id)
    expected = {"transfer_id": sent.transfer_id, "result": "EXCEEDS_CREDITS"}
    for _ in range(2):
        found = await refusal(books.stub.ReverseTransfer(request))
        assert found == ("REVERSAL_REFUSED", expected)
    await books.stub.ReverseTransfer(reverse(spent.transfer_id))
    made = (await books.stub.ReverseTransfer(request)).transfer
    assert (await books.stub.ReverseTransfer(request)).transfer == made
    assert await books.sums("a") == (18, 18, 0, 0)
    reversal = made.transfer
    assert (reversal.debit_account_id, reversal.credit_account_id, reversal.code) == ("b", "a", 3)
    assert (reversal.amount, dict(reversal.metadata)) == (usd(10), {"reason": "typing error"})
    assert made.reverses_transfer_id == sent.transfer_id
    reason, metadata = await refusal(books.stub.ReverseTransfer(reverse(sent.transfer_id)))
    assert (reason, metadata["reversal_id"]) == ("TRANSFER_ALREADY_REVERSED", reversal.transfer_id)

    async def read(transfer_id: str) -> pb.RecordedTransfer:
        asked = service_pb.GetTransferRequest(transfer_id=transfer_id)
        return (await books.stub.GetTransfer(asked)).transfer

    assert (await read(sent.transfer_id)).reversed_by_transfer_id == reversal.transfer_id
    assert await read(reversal.transfer_id) == made
    # A reversal that was a mistake is reversed itself.
    await books.stub.ReverseTransfer(reverse(reversal.transfer_id))
    assert (await read(reversal.transfer_id)).reversed_by_transfer_id


async def test_only_what_was_posted_is_reversed(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    held, other = hold("a", "b", 10), hold("a", "b", 10)
    part, void = end(held, POST, 4), end(other, VOID)
    assert await books.post(held, other, part, void) == ["OK"] * 4
    for transfer, kind in ((held, "PENDING"), (void, "VOID_PENDING")):
        reason, metadata = await refusal(books.stub.ReverseTransfer(reverse(transfer.transfer_id)))
        assert (reason, metadata["kind"]) == ("TRANSFER_NOT_REVERSIBLE", kind)
    reason, _ = await refusal(books.stub.ReverseTransfer(reverse(str(uuid4()))))
    assert reason == "NOT_FOUND"
    await books.stub.ReverseTransfer(reverse(part.transfer_id))
    assert await books.sums("a") == (4, 4, 0, 0)


async def test_of_many_reversals_at_once_one_is_posted(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    sent = move("a", "b", 10)
    await books.post(sent)
    calls = [books.stub.ReverseTransfer(reverse(sent.transfer_id)) for _ in range(8)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    made = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(made) == 1
    assert await books.sums("a") == (10, 10, 0, 0)


async def test_a_repeat_says_which_field_differs(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    held = hold("a", "b", 10, timeout=Duration(seconds=60), code=3)
    part = end(held, POST, 7)
    assert await books.post(held, part) == ["OK", "OK"]
    changed: dict[str, tuple[pb.Transfer, dict[str, Any]]] = {
        "TIMEOUT": (held, {"timeout": Duration(seconds=61)}),
        "FLAGS": (held, {"multi_capture": True}),
        "KIND": (held, {"kind": pb.KIND_POSTED}),
        "AMOUNT": (part, {"amount": usd(8)}),
        "PENDING_ID": (part, {"pending_id": str(uuid4())}),
        "EFFECTIVE_AT": (part, {"effective_at": NOW}),
        "CODE": (part, {"code": 4}),
        "CREDIT_ACCOUNT_ID": (part, {"credit_account_id": "c"}),
    }
    for name, (sent, fields) in changed.items():
        asked = pb.Transfer()
        asked.CopyFrom(sent)
        for field, value in fields.items():
            asked.ClearField(field)  # type: ignore[arg-type] # a name, known to be a field
            asked.MergeFrom(pb.Transfer(**{field: value}))
        assert await books.post(asked) == [f"EXISTS_WITH_DIFFERENT_{name}"], name
    same = pb.Transfer()
    same.CopyFrom(part)
    same.debit_account_id, same.credit_account_id, same.code = "a", "b", 3
    assert await books.post(same) == ["EXISTS"], "what was left open is what the hold says"


async def test_holds_count_against_every_limit(books: Books) -> None:
    flags = pb.AccountFlags(debits_must_not_exceed_credits=True)
    await books.open("wallet", "LIABILITY", flags=flags)
    await books.open("line", "LIABILITY", limits=pb.AccountLimits(floor=usd(-5)))
    await books.open("credit", limits=pb.AccountLimits(ceiling=usd(5)))
    await books.open("x")
    assert await books.post(move("x", "wallet", 10)) == ["OK"]
    held = hold("wallet", "x", 8)
    assert await books.post(held, move("wallet", "x", 3), move("wallet", "x", 2)) == [
        "OK",
        "EXCEEDS_CREDITS",
        "OK",
    ]
    # A hold that brings money in does not count until it is posted.
    assert await books.post(hold("x", "wallet", 100), move("wallet", "x", 1)) == [
        "OK",
        "EXCEEDS_CREDITS",
    ]
    assert await books.post(hold("line", "x", 4), hold("line", "x", 2), move("line", "x", 1)) == [
        "OK",
        "DEBIT_ACCOUNT_BELOW_FLOOR",
        "OK",
    ]
    assert await books.post(hold("credit", "x", 5), move("credit", "x", 1)) == [
        "OK",
        "DEBIT_ACCOUNT_ABOVE_CEILING",
    ]
    account = await books.account("line")
    assert (account.limits.floor, account.limits.HasField("ceiling")) == (usd(-5), False)


async def test_a_balancing_transfer_moves_what_there_is(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    await books.post(move("b", "a", 7))
    most = move("a", "b", 5, balancing_debit=True)
    rest = move("a", "b", None, balancing_debit=True)
    assert await books.post(most, rest, move("a", "b", 1, balancing_debit=True)) == [
        "OK",
        "OK",
        "EXCEEDS_CREDITS",
    ]
    assert await books.entries("a") == [7, 5, 2]
    assert await books.post(rest, most) == ["EXISTS", "EXISTS"]


async def test_a_closed_account_is_opened_by_voiding_what_closed_it(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    closing = hold("a", "b", 0, closing_debit=True)
    assert await books.post(closing, move("a", "b", 1)) == ["OK", "DEBIT_ACCOUNT_CLOSED"]
    assert (await books.account("a")).flags.closed
    assert await books.post(end(closing, VOID), move("a", "b", 1)) == ["OK", "OK"]
    assert not (await books.account("a")).flags.closed
    assert await books.entries("a") == [1]


async def test_a_chain_with_holds_is_posted_whole_or_not_at_all(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    held = hold("a", "b", 10, linked=True)
    refused = [held, end(held, POST, 4), end(held, VOID)]
    refused[1].linked = True
    assert await books.post(*refused) == [
        "LINKED_EVENT_FAILED",
        "LINKED_EVENT_FAILED",
        "PENDING_TRANSFER_ALREADY_POSTED",
    ]
    assert await books.sums("a") == (0, 0, 0, 0)
    refused[1].linked = False
    assert await books.post(*refused[:2]) == ["OK", "OK"]
    assert await books.sums("a") == (4, 0, 0, 0)


async def test_what_is_left_of_a_hold_is_given_up_in_time(
    books: Books, mesh: Mesh, clock: ManualClock
) -> None:
    await books.open("a")
    await books.open("b")
    short = hold("a", "b", 10, timeout=Duration(seconds=60), multi_capture=True)
    closing = hold("a", "b", 0, timeout=Duration(seconds=60), closing_credit=True)
    long = hold("a", "b", 3, timeout=Duration(seconds=3600))
    assert await books.post(short, end(short, POST, 1), long, closing) == ["OK"] * 4
    clock.advance(timedelta(seconds=60))
    # Whoever comes first, its time is over.
    assert await books.post(end(short, POST, 1)) == ["PENDING_TRANSFER_EXPIRED"]
    for _ in range(600):
        if await books.sums("a") == (1, 0, 3, 0):
            break
        await asyncio.sleep(0.1)
    assert await books.sums("a") == (1, 0, 3, 0)
    assert not (await books.account("b")).flags.closed
    assert await books.post(end(short, VOID)) == ["PENDING_TRANSFER_EXPIRED"]
    assert await books.post(end(long, POST)) == ["OK"]


async def test_of_two_ends_at_once_one_is_the_end(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    for _ in range(10):
        held = hold("a", "b", 10)
        await books.post(held)
        ends = [end(held, POST, 6), end(held, VOID), end(held, POST, 5)]
        answers = await asyncio.gather(*[books.post(each) for each in ends])
        assert sorted(answer == ["OK"] for answer in answers) == [False, False, True]
    debits, _, pending, _ = await books.sums("a")
    assert pending == 0
    assert debits == sum(await books.entries("a"))


async def test_an_end_that_waited_for_its_hold_is_judged_by_it(
    books: Books, database: DatabaseUrls
) -> None:
    await books.open("a")
    await books.open("b")
    waiting = (
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE NOT l.granted AND a.datname = current_database()"
    )

    async def queued(count: int) -> None:
        async with await psycopg.AsyncConnection.connect(database.owner_admin) as owner:
            while (await (await owner.execute(waiting)).fetchone()) != (count,):
                await owner.rollback()
                await asyncio.sleep(0.01)

    for chained in (False, True):
        held = hold("a", "b", 10)
        ending = move("a", "b", None, kind=POST, pending_id=held.transfer_id)
        async with await psycopg.AsyncConnection.connect(database.service) as other:
            await other.execute("SELECT set_config('mesh.tenant', %s, true)", [books.tenant])
            await other.execute("SELECT FROM ledger.balance WHERE account_id = 'a' FOR UPDATE")
            first = asyncio.create_task(books.post(held))
            await queued(1)
            again = [held, ending] if chained else [ending]
            second = asyncio.create_task(books.post(*again))
            await queued(2)
            await other.rollback()
        assert await first == ["OK"]
        assert await second == (["EXISTS", "OK"] if chained else ["OK"])
    assert await books.entries("a") == [10, 10]


async def test_fields_that_make_no_sense_are_named(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    held = hold("a", "b", 1)
    await books.post(held)
    odd = [
        move("", "b", 1),
        move("a", "b", None),
        move("a", "b", 1, kind=pb.KIND_PENDING, timeout=Duration(nanos=1_500_000)),
        end(held, POST, 0),
        move("", "", None, kind=VOID),
        move("", "", None, kind=VOID, pending_id=str(uuid4())),
        move("a", "b", 1, pending_id=held.transfer_id),
        move("a", "b", 1, timeout=Duration(seconds=1)),
        hold("a", "b", 1, timeout=Duration(seconds=3_155_760_001)),
    ]
    assert await books.post(*odd) == [
        "INVALID_TRANSFER",
        "INVALID_TRANSFER",
        "INVALID_TRANSFER",
        "AMOUNT_MUST_BE_POSITIVE",
        "PENDING_ID_MUST_NOT_BE_ZERO",
        "PENDING_TRANSFER_NOT_FOUND",
        "PENDING_ID_MUST_BE_ZERO",
        "TIMEOUT_RESERVED_FOR_PENDING_TRANSFER",
        "INVALID_TRANSFER",
    ]
    for limits in (
        pb.AccountLimits(floor=usd(1)),
        pb.AccountLimits(ceiling=Money(currency_code="EUR", minor_units=1)),
    ):
        account = pb.Account(
            account_id="odd", currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET, limits=limits
        )
        request = service_pb.CreateAccountsRequest(accounts=[account])
        (answer,) = (await books.stub.CreateAccounts(request)).results
        assert answer.result == service_pb.ACCOUNT_RESULT_INVALID_ACCOUNT, answer


async def test_the_reason_of_a_reversal_is_kept_without_card_numbers(books: Books) -> None:
    await books.open("a")
    await books.open("b")
    sent = move("a", "b", 10)
    await books.post(sent)
    request = reverse(sent.transfer_id)
    request.reason = "to 4111 1111 1111 1111"
    for _ in range(2):
        made = (await books.stub.ReverseTransfer(request)).transfer.transfer
        assert dict(made.metadata) == {"reason": "to [card number]"}
