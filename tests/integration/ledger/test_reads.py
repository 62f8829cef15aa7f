"""Lists of transfers, entries and accounts: each filter finds what a plain list has, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import monitor_pb2, scheduled_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money, Period

from services.ledger import manifest as ledger
from services.ledger.app import reads
from services.ledger.domain.reversals import reversal_id
from services.ledger.store import accounts, entries, transfers
from services.ledger.work.months import Months
from tests.integration.ledger.test_ledger import reason
from tests.support.ledger.past import (
    ACCOUNTS,
    END,
    START,
    Entered,
    History,
    Posted,
    Watch,
    batches,
    period,
)
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

# A page that filters looks at so few rows here that it often finds none.
LOOKED_AT = 7
PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[tuple[Mesh, Watch]]:
    watch = Watch()
    async with running(database, [ledger.SERVICE], clock=watch) as running_mesh:
        await Months(running_mesh.node.database).make()
        yield running_mesh, watch


async def history_of(mesh: tuple[Mesh, Watch], number: int) -> History:
    found = History(LedgerServiceStub(mesh[0].channel(f"t-{uuid4().hex[:12]}")), mesh[1])
    await found.open()
    for batch, recorded_at in batches(7, number):
        await found.post(batch, recorded_at)
    return found


@pytest.fixture(scope="module")
async def history(mesh: tuple[Mesh, Watch]) -> History:
    return await history_of(mesh, 40)


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (accounts, entries, transfers):
        monkeypatch.setattr(module, "LOOKED_AT_MAX", LOOKED_AT)
    monkeypatch.setattr(reads, "ACCOUNTS_LOOKED_AT_MAX", 2)


async def pages(
    method: Callable[..., Awaitable[Any]], request: Any, name: str, size: int
) -> list[Any]:
    """Read a list to its end: pages are as long as was asked for at most, and no token comes twice."""
    found, tokens = [], set()
    request.page_size = size
    while True:
        answer = await method(request)
        items = list(getattr(answer, name))
        assert len(items) <= size
        found += items
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found
        assert request.page_token not in tokens
        tokens.add(request.page_token)


def is_in(moment: datetime, wanted: Period | None) -> bool:
    if wanted is None:
        return True
    start_at = wanted.start_at.ToDatetime(moment.tzinfo)
    return bool(start_at <= moment < wanted.end_at.ToDatetime(moment.tzinfo))


hours = st.integers(-1000, 24 * 75)
periods = st.none() | st.tuples(hours, hours).filter(lambda two: two[0] < two[1]).map(
    lambda two: period(START + timedelta(hours=two[0]), START + timedelta(hours=two[1]))
)
codes = st.none() | st.sampled_from((0, 7, 9, 11))
sizes = st.integers(3, 200)


@given(
    reference=st.none()
    | st.tuples(
        st.sampled_from(("charge", "order")),
        st.sampled_from(("no 1", "no 2", "no 4")),
        st.none() | st.sampled_from(("", "line-1")),
    ),
    account=st.none() | st.sampled_from(ACCOUNTS),
    code=codes,
    recorded_in=periods,
    newest_first=st.booleans(),
    size=sizes,
)
@PROPERTY
async def test_transfers_are_those_of_a_plain_list(
    history: History,
    reference: tuple[str, str, str | None] | None,
    account: str | None,
    code: int | None,
    recorded_in: Period | None,
    newest_first: bool,
    size: int,
) -> None:
    kind, id_, part = reference or ("", "", None)

    def is_wanted(item: Posted) -> bool:
        if reference and (item.reference or ("",) * 3)[:2] != (kind, id_):
            return False
        if part is not None and item.reference != (kind, id_, part):
            return False
        sides = (item.transfer.debit_account_id, item.transfer.credit_account_id)
        return (
            (account is None or account in sides)
            and code in (None, item.transfer.code)
            and is_in(item.recorded_at, recorded_in)
        )

    expected = [item for item in history.transfers if is_wanted(item)]
    if not reference:
        expected.sort(key=lambda item: (item.recorded_at, item.place))
    request = service_pb.ListTransfersRequest(
        reference_kind=kind,
        reference_id=id_,
        reference_part=part,
        account_id=account or "",
        code=code,
        recorded_in=recorded_in,
        newest_first=newest_first,
    )
    found = await pages(history.stub.ListTransfers, request, "transfers", size)
    ids = [item.transfer.transfer_id for item in found]
    assert ids == [item.transfer.transfer_id for item in expected][:: -1 if newest_first else 1]


@given(
    name=st.sampled_from(ACCOUNTS) | st.sampled_from(("w", "wallet:a", "wallet:a:", "zz", "bank")),
    is_prefix=st.booleans(),
    code=codes,
    recorded_in=periods,
    effective_in=periods,
    newest_first=st.booleans(),
    size=sizes,
)
@PROPERTY
async def test_entries_are_those_of_a_plain_list(
    history: History,
    name: str,
    is_prefix: bool,
    code: int | None,
    recorded_in: Period | None,
    effective_in: Period | None,
    newest_first: bool,
    size: int,
) -> None:
    is_prefix = is_prefix or name not in ACCOUNTS

    def is_wanted(item: Entered) -> bool:
        return (
            (item.account_id.startswith(name) if is_prefix else item.account_id == name)
            and code in (None, item.posted.transfer.code)
            and is_in(item.posted.recorded_at, recorded_in)
            and is_in(item.posted.effective_at, effective_in)
        )

    sign = -1 if newest_first else 1
    expected = sorted(
        filter(is_wanted, history.entries), key=lambda item: (item.account_id, sign * item.seq)
    )
    request = service_pb.ListEntriesRequest(
        account_id="" if is_prefix else name,
        account_prefix=name if is_prefix else "",
        code=code,
        recorded_in=recorded_in,
        effective_in=effective_in,
        newest_first=newest_first,
    )
    found = await pages(history.stub.ListEntries, request, "entries", size)
    assert [(e.account_id, e.seq, e.transfer_id) for e in found] == [
        (e.account_id, e.seq, e.posted.transfer.transfer_id) for e in expected
    ]


@given(
    prefix=st.sampled_from(("", "w", "wallet:a", "wallet:a:", "zz", *ACCOUNTS)),
    owner=st.sampled_from(("", "bank:USD", "wallet:a", "nobody")),
    kind=st.sampled_from((0, pb.ACCOUNT_TYPE_ASSET, pb.ACCOUNT_TYPE_INCOME)),
    size=sizes,
)
@PROPERTY
async def test_accounts_are_those_of_a_plain_list(
    history: History, prefix: str, owner: str, kind: pb.AccountType.ValueType, size: int
) -> None:
    everything = await pages(
        history.stub.ListAccounts, service_pb.ListAccountsRequest(), "accounts", 100
    )
    assert [item.account_id for item in everything] == sorted(ACCOUNTS)
    request = service_pb.ListAccountsRequest(account_prefix=prefix, owner=owner, type=kind)
    found = await pages(history.stub.ListAccounts, request, "accounts", size)
    assert found == [
        item
        for item in everything
        if item.account_id.startswith(prefix)
        and owner in ("", item.owner)
        and kind in (0, item.type)
    ]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_hold_still_while_posting_goes_on(
    mesh: tuple[Mesh, Watch], newest_first: bool
) -> None:
    """What was there at the first page is found once; what comes meanwhile disturbs no place."""
    found = await history_of(mesh, 12)
    later = batches(11, 12)
    before = {item.transfer.transfer_id for item in found.transfers}
    lists: dict[str, tuple[Any, Any]] = {
        "transfers": (found.stub.ListTransfers, service_pb.ListTransfersRequest()),
        "of one account": (
            found.stub.ListTransfers,
            service_pb.ListTransfersRequest(account_id="bank:USD"),
        ),
        "entries": (found.stub.ListEntries, service_pb.ListEntriesRequest(account_prefix="w")),
    }
    seen: dict[str, list[str]] = {name: [] for name in lists}
    open_lists = dict(lists)
    for _, request in lists.values():
        request.newest_first = newest_first
        request.page_size = 5
    while open_lists:
        if later:
            batch, recorded_at = later.pop(0)
            await found.post(batch, END + (recorded_at - START))
        for name, (method, request) in list(open_lists.items()):
            answer = await method(request)
            if name == "entries":
                seen[name] += [f"{item.account_id} {item.seq}" for item in answer.entries]
            else:
                seen[name] += [item.transfer.transfer_id for item in answer.transfers]
            request.page_token = answer.next_page_token
            if not request.page_token:
                del open_lists[name]
    assert not later
    assert all(len(set(names)) == len(names) for names in seen.values())
    assert before <= set(seen["transfers"])
    wanted = {t.transfer.transfer_id for t in found.transfers if "bank:USD" in sides(t)}
    assert before & wanted <= set(seen["of one account"]) <= wanted
    entered = {
        f"{item.account_id} {item.seq}"
        for item in found.entries
        if item.account_id.startswith("w") and item.posted.transfer.transfer_id in before
    }
    assert entered <= set(seen["entries"])


def sides(item: Posted) -> tuple[str, str]:
    return item.transfer.debit_account_id, item.transfer.credit_account_id


async def test_a_listed_transfer_is_the_one_that_is_got(mesh: tuple[Mesh, Watch]) -> None:
    found = await history_of(mesh, 3)
    wanted = next(t for t in found.transfers if t.transfer.kind == pb.KIND_POSTED)
    request = service_pb.ReverseTransferRequest(
        request_id=str(uuid4()), transfer_id=wanted.transfer.transfer_id, reason="twice"
    )
    reversal = (await found.stub.ReverseTransfer(request)).transfer
    listed = await pages(
        found.stub.ListTransfers, service_pb.ListTransfersRequest(), "transfers", 100
    )
    kinds = {item.transfer.kind for item in listed}
    assert {pb.KIND_POSTED, pb.KIND_PENDING} <= kinds, "a hold is among them"
    for item in listed:
        asked = service_pb.GetTransferRequest(transfer_id=item.transfer.transfer_id)
        assert (await found.stub.GetTransfer(asked)).transfer == item
    by_id = {item.transfer.transfer_id: item for item in listed}
    reversed_one = by_id[wanted.transfer.transfer_id]
    assert reversed_one.reversed_by_transfer_id == reversal.transfer.transfer_id


async def test_a_stranger_with_the_id_of_a_reversal_reverses_nothing(
    mesh: tuple[Mesh, Watch],
) -> None:
    found = await history_of(mesh, 1)
    wanted = next(t.transfer for t in found.transfers if t.transfer.kind == pb.KIND_POSTED)
    stranger = pb.Transfer(
        transfer_id=str(reversal_id(UUID(wanted.transfer_id))),
        debit_account_id="bank:USD",
        credit_account_id="wallet:ab",
        amount=Money(currency_code="USD", minor_units=1),
    )
    await found.post([stranger], START + timedelta(days=9))
    listed = await pages(
        found.stub.ListTransfers, service_pb.ListTransfersRequest(), "transfers", 100
    )
    assert {item.reversed_by_transfer_id for item in listed} == {""}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (service_pb.ListTransfersRequest(reference_kind="charge"), "reference_id"),
        (service_pb.ListTransfersRequest(reference_id="chg_1"), "reference_kind"),
        (service_pb.ListTransfersRequest(reference_part="line-1"), "reference_part"),
        (service_pb.ListEntriesRequest(), "account_id"),
        (service_pb.ListEntriesRequest(account_id="bank:USD", account_prefix="b"), "account_id"),
    ],
)
async def test_half_a_question_is_refused(history: History, request_: Any, field: str) -> None:
    is_transfers = isinstance(request_, service_pb.ListTransfersRequest)
    method: Any = history.stub.ListTransfers if is_transfers else history.stub.ListEntries
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await method(request_)
    assert reason(refused.value) == "INVALID_FIELD"
    assert (refused.value.details() or "").startswith(f"{field}: ")


async def test_a_page_token_belongs_to_its_filters(history: History) -> None:
    request = service_pb.ListTransfersRequest(code=0, page_size=1)
    token = (await history.stub.ListTransfers(request)).next_page_token
    assert token
    for other in (
        service_pb.ListTransfersRequest(page_size=1, page_token=token),
        service_pb.ListTransfersRequest(code=0, newest_first=True, page_token=token),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await history.stub.ListTransfers(other)
        assert reason(refused.value) == "INVALID_PAGE_TOKEN"
    request.page_token, request.page_size = token, 3
    assert len((await history.stub.ListTransfers(request)).transfers) in range(4)


async def test_pages_of_heavy_items_end_sooner_and_nothing_is_left_out(
    mesh: tuple[Mesh, Watch],
) -> None:
    channel = mesh[0].channel(f"t-{uuid4().hex[:12]}")
    stub = LedgerServiceStub(channel)
    heavy = {f"k{number}": "é" * 512 for number in range(32)}
    names = [f"a{number:03}" for number in range(220)]
    for start in range(0, len(names), 110):
        made = [
            pb.Account(
                account_id=name,
                currency_code="USD",
                type=pb.ACCOUNT_TYPE_ASSET,
                metadata=heavy,
            )
            for name in names[start : start + 110]
        ]
        await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=made))
        moves = [
            pb.Transfer(
                transfer_id=str(uuid4()),
                debit_account_id=names[0],
                credit_account_id=name,
                amount=Money(currency_code="USD", minor_units=1),
                metadata=heavy,
            )
            for name in names[start + 1 : start + 110]
        ]
        answer = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=moves))
        assert {each.result for each in answer.results} == {service_pb.TRANSFER_RESULT_OK}
    due = pb.Transfer(
        debit_account_id=names[0],
        credit_account_id=names[1],
        amount=Money(currency_code="USD", minor_units=1),
        metadata=heavy,
    )
    due.not_before.FromDatetime(datetime(2090, 1, 1, tzinfo=UTC))
    for _ in range(2):
        waiting = service_pb.PostTransfersRequest()
        for _ in range(110):
            due.transfer_id = str(uuid4())
            waiting.transfers.append(due)
        answer = await stub.PostTransfers(waiting)
        assert {each.result for each in answer.results} == {service_pb.TRANSFER_RESULT_SCHEDULED}
    ever = Period()
    ever.start_at.FromDatetime(datetime(2000, 1, 1, tzinfo=UTC))
    ever.end_at.FromDatetime(datetime(2080, 1, 1, tzinfo=UTC))
    statement = service_pb.GetStatementRequest(account_id=names[0], period=ever)
    # Each weighs 33 kB, so 220 of them are almost twice of what clients take.
    lists: list[tuple[Any, Any, str, int]] = [
        (stub.GetStatement, statement, "entries", 218),
        (
            stub.ListScheduledTransfers,
            scheduled_pb2.ListScheduledTransfersRequest(),
            "scheduled_transfers",
            220,
        ),
        (stub.ListAccounts, service_pb.ListAccountsRequest(), "accounts", 220),
        (stub.ListTransfers, service_pb.ListTransfersRequest(), "transfers", 218),
        (stub.ListEntries, service_pb.ListEntriesRequest(account_id=names[0]), "entries", 218),
    ]
    for method, request, field, count in lists:
        request.page_size = 1000
        found: list[bytes] = []
        pages = 0
        while pages == 0 or request.page_token:
            page = await method(request)
            assert page.ByteSize() < 4 * 1024 * 1024
            found += [item.SerializeToString(deterministic=True) for item in getattr(page, field)]
            request.page_token = page.next_page_token
            pages += 1
        assert (len(found), len(set(found))) == (count, count), field
        assert pages > 1, field


async def test_a_list_of_an_account_that_there_is_none_of_is_refused(
    mesh: tuple[Mesh, Watch],
) -> None:
    stub = LedgerServiceStub(mesh[0].channel(f"t-{uuid4().hex[:12]}"))
    for call in (
        stub.ListTransfers(service_pb.ListTransfersRequest(account_id="nobody")),
        stub.ListBalanceMonitors(monitor_pb2.ListBalanceMonitorsRequest(account_id="nobody")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
