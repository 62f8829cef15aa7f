"""Statements of accounts: sums and lines of a period, the same for ever once they were made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from uuid import uuid4

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import statement_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub

from services.ledger import manifest as ledger
from services.ledger.messages.reads import STATEMENT_PLACE, scope
from services.ledger.work.months import Months
from services.runtime.edge.paging import decode_token, encode_token
from tests.integration.ledger.test_ledger import reason
from tests.support.ledger.past import (
    ACCOUNTS,
    END,
    START,
    TYPES,
    Entered,
    History,
    Watch,
    batches,
    period,
)
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

RECORDED, EFFECTIVE = statement_pb2.TIME_RECORDED, statement_pb2.TIME_EFFECTIVE
ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[tuple[Mesh, Watch]]:
    watch = Watch()
    async with running(database, [ledger.SERVICE], clock=watch) as running_mesh:
        await Months(running_mesh.node.database).make()
        yield running_mesh, watch


async def history_of(mesh: tuple[Mesh, Watch], number: int) -> History:
    found = History(LedgerServiceStub(mesh[0].channel(f"t-{uuid4().hex[:12]}")), mesh[1])
    await found.open()
    for batch, recorded_at in batches(5, number):
        await found.post(batch, recorded_at)
    mesh[1].moment = END
    return found


@pytest.fixture(scope="module")
async def history(mesh: tuple[Mesh, Watch]) -> History:
    return await history_of(mesh, 40)


async def read(
    history: History, request: service_pb.GetStatementRequest, size: int = 1000
) -> service_pb.GetStatementResponse:
    """Read a statement to its end as if it were one page."""
    request.page_size = size
    request.page_token = ""
    whole = await history.stub.GetStatement(request)
    page = whole
    while page.next_page_token:
        assert len(page.entries) == size
        request.page_token = page.next_page_token
        page = await history.stub.GetStatement(request)
        for part in (page, whole):
            part_sums = service_pb.GetStatementResponse.FromString(part.SerializeToString())
            part_sums.ClearField("entries")
            part_sums.ClearField("next_page_token")
            assert part_sums == sums_of(whole)
        whole.entries.extend(page.entries)
    whole.next_page_token = ""
    request.page_token = ""
    return whole


def sums_of(found: service_pb.GetStatementResponse) -> service_pb.GetStatementResponse:
    copy = service_pb.GetStatementResponse.FromString(found.SerializeToString())
    copy.ClearField("entries")
    copy.ClearField("next_page_token")
    return copy


def asked(
    account: str, span: tuple[datetime, datetime] = ALWAYS, **more: object
) -> service_pb.GetStatementRequest:
    recorded_at = more.pop("recorded_at", None)
    found = service_pb.GetStatementRequest(
        account_id=account,
        period=period(*span),
        **more,  # type: ignore[arg-type] # of several types
    )
    if isinstance(recorded_at, datetime):
        found.recorded_at.FromDatetime(recorded_at)
    return found


hours = st.integers(-1000, 24 * 75)


@given(
    account=st.sampled_from(ACCOUNTS),
    bounds=st.tuples(hours, hours).filter(lambda two: two[0] < two[1]),
    by=st.sampled_from((0, RECORDED, EFFECTIVE)),
    as_of=st.none() | st.integers(0, 24 * 70),
    last_seq=st.none() | st.integers(0, 40),
    size=st.integers(1, 60),
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_a_statement_is_what_a_plain_list_adds_up_to(
    history: History,
    account: str,
    bounds: tuple[int, int],
    by: statement_pb2.Time.ValueType,
    as_of: int | None,
    last_seq: int | None,
    size: int,
) -> None:
    span = (START + timedelta(hours=bounds[0]), START + timedelta(hours=bounds[1]))
    recorded_at = END if as_of is None else START + timedelta(hours=as_of)
    of_account = [item for item in history.entries if item.account_id == account]

    def time_of(item: Entered) -> datetime:
        return item.posted.effective_at if by == EFFECTIVE else item.posted.recorded_at

    known = [
        item
        for item in of_account
        if item.posted.recorded_at <= recorded_at and (last_seq is None or item.seq <= last_seq)
    ]
    expected = [item for item in known if span[0] <= time_of(item) < span[1]]
    if by == EFFECTIVE:
        expected.sort(key=lambda item: (item.posted.effective_at, item.seq))
    opening = sum(item.amount for item in known if time_of(item) < span[0])
    sign = 1 if TYPES[account] == pb.ACCOUNT_TYPE_ASSET else -1
    found = await read(
        history,
        asked(
            account,
            span,
            by=by,
            recorded_at=None if as_of is None else recorded_at,
            last_seq=last_seq,
        ),
        size,
    )
    amounts = [item.amount for item in expected]
    assert [line.entry.seq for line in found.entries] == [item.seq for item in expected]
    assert [line.entry.balance_after.minor_units for line in found.entries] == [
        sign * item.balance for item in expected
    ]
    assert [line.balance.minor_units for line in found.entries] == [
        sign * balance for balance in accumulate(amounts, initial=opening)
    ][1:]
    assert found.opening.minor_units == sign * opening
    assert found.closing.minor_units == sign * (opening + sum(amounts))
    assert found.debits.minor_units == sum(amount for amount in amounts if amount > 0)
    assert found.credits.minor_units == -sum(amount for amount in amounts if amount < 0)
    assert found.entry_count == len(expected)
    assert found.by == (by or RECORDED)
    assert found.recorded_at.ToDatetime(UTC) == recorded_at
    assert found.last_seq == (len(of_account) if last_seq is None else last_seq)
    assert (found.currency_code, found.owner) == ("USD", account[:8])


@pytest.mark.parametrize("by", [RECORDED, EFFECTIVE])
async def test_a_statement_can_be_made_again_byte_for_byte(
    mesh: tuple[Mesh, Watch], by: statement_pb2.Time.ValueType
) -> None:
    found = await history_of(mesh, 8)
    span = (START, START + timedelta(days=20))
    mesh[1].moment = START + timedelta(days=15)
    first = await read(found, asked("bank:USD", span, by=by))
    assert first.entries
    for batch, _ in batches(12, 6):
        # By a machine whose clock is behind, or that waited: recorded within what the statement is of.
        await found.post(batch, START + timedelta(days=14))
    again = asked(
        "bank:USD",
        span,
        by=by,
        recorded_at=first.recorded_at.ToDatetime(UTC),
        last_seq=first.last_seq,
    )
    assert await read(found, again, 3) == first
    now = await read(found, asked("bank:USD", span, by=by))
    assert now.entry_count > first.entry_count, "and without a place it is of what is known now"


async def test_pages_of_a_statement_are_of_one_instant(mesh: tuple[Mesh, Watch]) -> None:
    found = await history_of(mesh, 10)
    request = asked("wallet:a:1", by=EFFECTIVE, page_size=2)
    expected = await read(found, asked("wallet:a:1", by=EFFECTIVE))
    page = await found.stub.GetStatement(request)
    lines = list(page.entries)
    for batch, _ in batches(13, 40):
        if not page.next_page_token:
            break
        await found.post(batch, START + timedelta(days=3))
        request.page_token = page.next_page_token
        page = await found.stub.GetStatement(request)
        assert sums_of(page) == sums_of(expected)
        lines += page.entries
    assert not page.next_page_token
    assert lines == list(expected.entries)


async def test_an_account_without_entries_has_a_statement(mesh: tuple[Mesh, Watch]) -> None:
    found = await history_of(mesh, 0)
    answer = await read(found, asked("bank:USD"))
    assert (answer.entry_count, answer.last_seq, len(answer.entries)) == (0, 0, 0)
    assert answer.opening == answer.closing == answer.debits == answer.credits
    assert answer.opening.currency_code == "USD"


async def test_no_statement_of_no_account_and_none_beyond_the_last_entry(history: History) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await history.stub.GetStatement(asked("nobody"))
    assert reason(refused.value) == "NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await history.stub.GetStatement(asked("bank:USD", last_seq=10_000))
    assert reason(refused.value) == "INVALID_FIELD"
    assert "last_seq" in (refused.value.details() or "")


async def test_a_place_that_nobody_gave_is_refused(history: History) -> None:
    request = asked("bank:USD", page_size=1)
    spelt = scope("statement", request)
    token = (await history.stub.GetStatement(request)).next_page_token
    place = decode_token(token, spelt, STATEMENT_PLACE)
    place |= {"opening": 2**63 - 1, "debits": 2**63 - 1}
    written = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in place.items()
    }
    request.page_token = encode_token(written, spelt)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await history.stub.GetStatement(request)
    assert reason(refused.value) == "AMOUNT_OVERFLOW"
