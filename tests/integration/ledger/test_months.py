"""The books lie in months: made ahead, read as far as a time asks for, and never missed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.ledger import manifest as ledger
from services.ledger.domain.months import month_after, month_of
from services.ledger.work.months import MONTHS_AHEAD, Months
from services.runtime.clock import ManualClock
from tests.support.mesh.serving import running
from tests.support.postgres.server import DatabaseUrls

FAR = datetime(2031, 12, 30, tzinfo=UTC)
_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'ledger.entry'::regclass ORDER BY 1
"""
_WHERE = "SELECT DISTINCT tableoid::regclass::text FROM ledger.entry ORDER BY 1"


async def test_months_are_made_ahead_and_rows_find_theirs(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    clock = ManualClock(FAR)
    async with running(urls, [ledger.SERVICE], clock=clock) as mesh:
        months = Months(mesh.node.database)
        await months.make()
        await months.make()
        with psycopg.connect(urls.owner_admin) as owner:
            names = [row[0] for row in owner.execute(_PARTITIONS)]
            assert {"entry_y2032m01", "entry_y2032m02", "entry_y2032m03"} <= set(names)
            assert "entry_y2031m12" not in names, "the month that is may be written to just now"
            assert MONTHS_AHEAD == 3
        stub = LedgerServiceStub(mesh.channel("t"))
        accounts = [
            pb.Account(account_id=name, currency_code="USD", type=pb.ACCOUNT_TYPE_ASSET)
            for name in ("a", "b")
        ]
        await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=accounts))
        asked = []
        for _ in range(3):
            asked.append(
                pb.Transfer(
                    transfer_id=str(uuid4()),
                    debit_account_id="a",
                    credit_account_id="b",
                    amount=Money(currency_code="USD", minor_units=5),
                )
            )
            answer = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=asked[-1:]))
            assert answer.results[0].result == service_pb.TRANSFER_RESULT_OK
            clock.advance(timedelta(days=31))
        with psycopg.connect(urls.owner_admin) as owner:
            assert [row[0] for row in owner.execute(_WHERE)] == [
                "ledger.entry_rest",
                "ledger.entry_y2032m01",
                "ledger.entry_y2032m03",
            ]
        # Each is known again, whatever month it lies in, and the account is one.
        answer = await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=asked))
        assert [item.result for item in answer.results] == [service_pb.TRANSFER_RESULT_EXISTS] * 3
        listed = await stub.ListEntries(service_pb.ListEntriesRequest(account_id="a"))
        assert [entry.seq for entry in listed.entries] == [1, 2, 3]
        assert [entry.balance_after.minor_units for entry in listed.entries] == [5, 10, 15]


def test_a_month_ends_where_the_next_begins() -> None:
    last = datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert month_of(last) == datetime(2026, 12, 1, tzinfo=UTC)
    assert month_after(last) == datetime(2027, 1, 1, tzinfo=UTC)
    assert month_after(datetime.max.replace(tzinfo=UTC)) == datetime.max.replace(tzinfo=UTC)
