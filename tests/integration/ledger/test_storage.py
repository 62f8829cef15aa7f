"""What the services' role may do to the books, and that its reads use their indexes under row-level security."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.psycopg import dialect as psycopg_dialect

from services.ledger import manifest as ledger
from services.ledger.domain.accounts import AccountFilter
from services.ledger.domain.reads import Span, TransferPlace, TransfersWanted
from services.ledger.store.accounts import accounts_looked_at
from services.ledger.store.transfers import transfers_looked_at
from services.ledger.work.sums import Sums
from services.runtime.postgres import sql
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls, Server

QUERIES = {
    **sql.load("services.ledger", "queries/posting.sql"),
    **sql.load("services.ledger", "queries/entries.sql"),
    **sql.load("services.ledger", "queries/accounts.sql"),
    **sql.load("services.ledger", "queries/statements.sql"),
    **sql.load("services.ledger", "queries/balances.sql"),
    **sql.load("services.ledger", "queries/periods.sql"),
    **sql.load("services.ledger", "queries/transfers.sql"),
    **sql.load("services.ledger", "queries/integrity.sql"),
}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(postgres_server: Server) -> Iterator[DatabaseUrls]:
    """A database of these tests alone: plans change with what others have left in a table."""
    urls = postgres_server.new_database("storage")
    yield urls
    postgres_server.drop_database(urls)


@pytest.fixture(scope="module")
async def tenant(database: DatabaseUrls) -> AsyncIterator[str]:
    """A tenant with 2,000 accounts and 4,000 entries on one of them."""
    name = f"t-{uuid4().hex[:12]}"
    async with running(database, [ledger.SERVICE]) as mesh:
        await _post(mesh, name, 2000, 4000)
        await Sums(mesh.node.database).sweep()
        yield name


async def _post(mesh: Mesh, tenant: str, accounts: int, transfers: int) -> list[str]:
    """Open accounts and post transfers from the first to the others; return their ids."""
    stub = LedgerServiceStub(mesh.channel(tenant))
    opened = [
        pb.Account(
            account_id=f"a{n}",
            currency_code="USD",
            type=pb.ACCOUNT_TYPE_ASSET,
            owner=f"owner-{n % 500}",
        )
        for n in range(accounts)
    ]
    await stub.CreateAccounts(service_pb.CreateAccountsRequest(accounts=opened))
    posted = [
        pb.Transfer(
            transfer_id=str(uuid4()),
            debit_account_id="a0",
            credit_account_id=f"a{n % (accounts - 1) + 1}",
            amount=Money(currency_code="USD", minor_units=1),
            reference=pb.Reference(kind="charge", id=f"c{n % 400}"),
        )
        for n in range(transfers)
    ]
    await stub.PostTransfers(service_pb.PostTransfersRequest(transfers=posted))
    return [transfer.transfer_id for transfer in posted]


@pytest.fixture
def service(database: DatabaseUrls, tenant: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute("ANALYZE ledger.account, ledger.balance, ledger.entry, ledger.transfer")
        owner.execute("ANALYZE ledger.account_day, ledger.account_mark")
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, false)", (tenant,))
        yield connection


def plan(connection: psycopg.Connection, statement: str, parameters: Mapping[str, object]) -> str:
    connection.execute(QUERIES["by_index"].encode())
    rows = connection.execute(f"EXPLAIN {statement}".encode(), parameters)
    return "\n".join(row[0] for row in rows)


async def test_a_transfer_is_found_by_its_id_where_nothing_is_known_of_the_table(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    # All of a batch have one time: by it each would be looked for among all of them.
    urls = new_database()
    with psycopg.connect(urls.owner_admin, autocommit=True) as owner:
        parts = owner.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'ledger.transfer'::regclass"
        ).fetchall()
        for (part,) in parts:
            owner.execute(f"ALTER TABLE {part} SET (autovacuum_enabled = off)".encode())
    async with running(urls, [ledger.SERVICE]) as mesh:
        transfer_ids = await _post(mesh, "t", 2, 4000)
        for name in ("read_transfers", "read_transfer", "read_views", "read_posted", "places"):
            one = "transfer_id = %(transfer_id)s" in QUERIES[name]
            ids = {"transfer_id": transfer_ids[0]} if one else {"transfer_ids": transfer_ids[:500]}
            with psycopg.connect(urls.service) as connection:
                connection.execute("SELECT set_config('mesh.tenant', 't', false)")
                rows = connection.execute(
                    f"EXPLAIN {QUERIES[name]}".encode(), {"tenant_id": "t", **ids}
                ).fetchall()
            found = [row[0].strip() for row in rows]
            assert [
                line
                for line, before in zip(found[1:], found, strict=False)
                if re.search(r"using transfer_y\d+m\d+_pkey", before)
                and re.match(
                    r"Index Cond: \(\(tenant_id = .*\(transfer_id = (i.transfer_id|')", line
                )
            ], (name, [line[:200] for line in found])


@pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
def test_entries_are_read_by_their_key(
    service: psycopg.Connection, tenant: str, order: str
) -> None:
    parameters = {
        "tenant_id": tenant,
        "account_ids": ["a0", "a7"],
        "after_account_id": "a0",
        "after_seq": 2000,
        "limit": 100,
        "rows_max": 5000,
        "recorded_from": None,
        "recorded_before": None,
        "effective_from": NOON,
        "effective_before": None,
        "code": 7,
        "month_from": "-infinity",
        "month_before": "infinity",
    }
    found = plan(service, QUERIES[f"list_entries_{order}"], parameters)
    assert re.search(r"Index Scan( Backward)? using entry_y\d+m\d+_pkey", found), found
    assert re.search(r"Index Cond: .*account_id = a.account_id.*seq [<>] ", found), found
    assert "Seq Scan on entry" not in found, found
    assert "Sort Key: entry.seq" not in found or "Merge Append" in found, found


def compiled(query: Select[Any]) -> str:
    dialect: Any = psycopg_dialect
    return str(query.compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (TransfersWanted(), "tenant_id_recorded_at_batch_no_positi"),
        (TransfersWanted(account_id="a7"), "tenant_id_recorded_at_batch_no_positi"),
        (
            TransfersWanted(recorded_in=Span(NOON, NOON + timedelta(days=9000))),
            "tenant_id_recorded_at_batch_no_positi",
        ),
        (
            TransfersWanted(reference_kind="charge", reference_id="c7"),
            "tenant_id_reference_kind_reference_id",
        ),
    ],
)
@pytest.mark.parametrize("has_place", [False, True])
def test_transfers_are_read_by_time_or_by_reference(
    service: psycopg.Connection,
    tenant: str,
    wanted: TransfersWanted,
    index: str,
    newest_first: bool,
    has_place: bool,
) -> None:
    # At the beginning: of the little that is left at the end any index is good enough.
    after = TransferPlace(NOON, 2**40 if newest_first else 0, 6) if has_place else None
    asked = replace(wanted, newest_first=newest_first)
    found = plan(service, compiled(transfers_looked_at(tenant, asked, after, 100)), {})
    assert re.search(rf"Index Scan( Backward)? using transfer_(y\d+m\d+|rest)_{index}", found), (
        found
    )
    assert "Seq Scan on transfer" not in found, found
    assert "Sort Key: transfer" not in found or "Merge Append" in found, found
    if has_place:
        assert re.search(r"Index Cond: .*ROW\(.*batch_no", found), found


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (AccountFilter(prefix="a19"), "account_pkey"),
        (AccountFilter(prefix="a19", owner="owner-7"), "account_by_owner"),
    ],
)
def test_accounts_of_a_prefix_are_read_by_their_key(
    service: psycopg.Connection, tenant: str, wanted: AccountFilter, index: str
) -> None:
    found = plan(service, compiled(accounts_looked_at(tenant, wanted, "a1", 100)), {})
    assert index in found, found
    assert re.search(r"Index Cond: .*account_id >= .a19.*account_id < .a1:", found), found
    keys = {"tenant_id": tenant, "start": "a19", "behind": "a1:", "limit": 100}
    found = plan(service, QUERIES["accounts_from"], keys)
    assert re.search(r"Index Cond: .*account_id >= .a19.*account_id < .a1:", found), found


@pytest.mark.parametrize(
    ("statement", "index", "condition"),
    [
        ("net_recorded_before", "pkey", "account_id = 'a0'.*seq = "),
        ("net_effective_from", "tenant_id_account_id_effective_at_seq", "effective_at >= "),
        # All of the account in the months of the period, by either index.
        ("sums_recorded", "(pkey|tenant_id_account_id)", "account_id = 'a0'"),
        ("sums_effective", "tenant_id_account_id_effective_at_seq", "effective_at >= "),
        ("lines_recorded", "pkey", "seq > "),
        ("lines_effective", "tenant_id_account_id_effective_at_seq", r"ROW\(effective_at, seq"),
    ],
)
def test_statements_are_read_by_number_or_by_effect(
    service: psycopg.Connection, tenant: str, statement: str, index: str, condition: str
) -> None:
    # By effect a late time: of what takes effect from the first day on, the numbers are as good a way.
    parameters = {
        "tenant_id": tenant,
        "account_id": "a0",
        "last_seq": 3000,
        "before": NOON + timedelta(days=9000),
        "start_at": NOON + timedelta(days=8000 if "effective" in statement else 0),
        "end_at": NOON + timedelta(days=9000),
        "recorded_before": NOON + timedelta(days=9000),
        "after_at": NOON,
        "after_seq": 7,
        "limit": 100,
    }
    found = plan(service, QUERIES[statement], parameters)
    assert re.search(rf"Index (Only )?Scan using entry_y\d+m\d+_{index}", found), found
    assert re.search(rf"Index Cond: .*{condition}", found), found
    assert "Seq Scan on entry" not in found, found
    is_page = statement.startswith("lines_")
    assert not is_page or "Sort Key: entry." not in found or "Merge Append" in found, found


@pytest.mark.parametrize("owner", ["", "owner-7"])
@pytest.mark.parametrize("named", [[], ["a0", "a7"]])
def test_an_export_reads_its_page_by_keys(
    service: psycopg.Connection, tenant: str, owner: str, named: list[str]
) -> None:
    parameters = {
        "tenant_id": tenant,
        "account_id": "a0",
        "seq": 2000,
        "limit": 100,
        "owner": owner,
        "account_ids": named,
        "grow_by_debit": [1, 5],
        "recorded_from": None,
        "recorded_before": None,
        "month_from": "-infinity",
        "month_before": "infinity",
    }
    found = plan(service, QUERIES["export_entries"], parameters)
    assert re.search(r"Index Scan using entry_y\d+m\d+_pkey", found), found
    assert re.search(r"Index Cond: .*account_id = account.*seq > ", found), found
    assert re.search(r"Index Scan using transfer_y\d+m\d+_pkey", found), found
    assert "Seq Scan on entry" not in found, found
    assert "Sort Key: entry.seq" not in found or "Merge Append" in found, found


def test_accounts_of_an_owner_are_read_by_their_index(
    service: psycopg.Connection, tenant: str
) -> None:
    statement = (
        "SELECT account_id FROM ledger.account WHERE tenant_id = %(tenant_id)s AND owner = %(owner)s"
        " AND account_id > %(after)s ORDER BY account_id LIMIT 100"
    )
    found = plan(service, statement, {"tenant_id": tenant, "owner": "owner-7", "after": ""})
    assert "account_by_owner" in found, found


def test_balances_are_locked_by_their_key(service: psycopg.Connection, tenant: str) -> None:
    parameters = {"tenant_id": tenant, "account_ids": ["a1", "a2"]}
    assert "balance_pkey" in plan(service, QUERIES["lock_balances"], parameters)


TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
AS_OF = {
    f"{name}_{part}": value
    for name in ("effective", "recorded")
    for part, value in (
        ("at", TODAY + DAY),
        ("from", TODAY),
        ("day", TODAY.date()),
        ("month", TODAY.replace(day=1).date()),
    )
} | {"some_from": TODAY - DAY, "some_before": TODAY + DAY}


@pytest.mark.parametrize(("first", "last"), [("a0", "a0"), ("a1", "a1\x7f")])
@pytest.mark.parametrize(
    ("statement", "keys"),
    [
        ("sum_months", [r"Index Scan using account_day_pkey .*\n.*grain = 1.*account_id >= "]),
        (
            "sum_days",
            [
                r"Index Scan using account_day_pkey .*\n.*grain = 2.*account_id = .*effective_day >= "
            ],
        ),
        ("sum_recorded_days", [r"account_day_recorded .*\n.*account_id = .*recorded_day >= "]),
        (
            "sum_entries_of_day",
            [r"Scan using entry_y\d+m\d+_\w+ .*\n.*account_id = .*effective_at >= "],
        ),
        (
            "sum_entries_of_recorded_day",
            [
                r"account_day_recorded",
                r"Scan using entry_y\d+m\d+_pkey .*\n.*account_id = .*seq >= ",
            ],
        ),
        ("sum_unsummed_entries", [r"Scan using entry_y\d+m\d+_pkey .*\n.*account_id = .*seq > "]),
    ],
)
def test_balances_as_of_a_time_are_read_by_keys(
    service: psycopg.Connection,
    tenant: str,
    statement: str,
    keys: list[str],
    first: str,
    last: str,
) -> None:
    parameters = {"tenant_id": tenant, "first": first, "last": last, **AS_OF}
    service.execute(QUERIES["by_value"].encode())
    if statement != "sum_months":
        service.execute(QUERIES["by_key"].encode())
    found = plan(service, QUERIES[statement], parameters)
    for key in keys:
        assert re.search(key, found), found
    assert not re.search(r"Seq Scan on (entry|balance|account)", found), found


def test_timelines_are_read_by_when_entries_take_effect(
    service: psycopg.Connection, tenant: str
) -> None:
    parameters = {
        "tenant_id": tenant,
        "account_ids": ["a0"],
        "finals": [4000],
        "times": [TODAY],
        "first_at": TODAY,
    }
    service.execute(QUERIES["by_key"].encode())
    found = plan(service, QUERIES["read_timelines"], parameters)
    key = r"Only Scan using entry_y\d+m\d+_\w+ .*\n.*account_id = .*effective_at >= "
    assert re.search(key, found), found
    assert "Seq Scan on entry" not in found, found


def test_entries_are_summed_from_the_mark_on(service: psycopg.Connection, tenant: str) -> None:
    parameters = {
        "tenant_id": tenant,
        "account_ids": ["a0"],
        "summed_seqs": [3000],
        "limit": 100,
    }
    service.execute(QUERIES["by_key"].encode())
    found = plan(service, QUERIES["sum_entries"], parameters)
    assert re.search(r"Index Scan using entry_y\d+m\d+_pkey .*\n.*account_id = .*seq > ", found), (
        found
    )
    assert "Seq Scan on entry" not in found, found


def test_a_batch_probes_the_index_of_periods(service: psycopg.Connection, tenant: str) -> None:
    found = plan(service, QUERIES["read_closed"], {"tenant_id": tenant})
    assert "period_pkey" in found, found


@pytest.mark.parametrize("table", ["account_day", "account_mark", "period"])
def test_sums_and_periods_cannot_be_deleted(service: psycopg.Connection, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute(f"DELETE FROM ledger.{table}".encode())


@pytest.mark.parametrize("table", ["transfer", "entry", "account"])
@pytest.mark.parametrize(
    "statement", ["UPDATE ledger.{} SET tenant_id = tenant_id", "DELETE FROM ledger.{}"]
)
def test_what_is_posted_cannot_be_changed_or_deleted(
    service: psycopg.Connection, table: str, statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute(statement.format(table).encode())
