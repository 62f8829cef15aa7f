"""Under the login that the services use, no table shows or takes a row of a tenant that was not named.

The tables come from the catalogue of the database, so that a new one is looked at too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from services.local.postgres.server import SUPERUSER
from services.runtime import manifests
from tests.integration.tenancy.estate import Estate
from tests.support.mesh.process import MeshProcess

pytestmark = pytest.mark.xdist_group("tenancy")

_TABLES = """
SELECT n.nspname, c.relname,
       EXISTS (SELECT FROM information_schema.columns i
                WHERE (i.table_schema, i.table_name) = (n.nspname, c.relname)
                  AND i.column_name = 'tenant_id'),
       has_any_column_privilege(%(service)s, c.oid, 'SELECT'),
       has_any_column_privilege(%(service)s, c.oid, 'INSERT')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema)'
 ORDER BY 1, 2
"""

# Columns that an INSERT of the services may name.
_INSERTABLE = """
SELECT a.attname FROM pg_attribute a
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
   AND a.attidentity <> 'a' AND a.attgenerated = ''
   AND has_column_privilege(a.attrelid, a.attnum, 'INSERT')
   AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
 ORDER BY a.attnum
"""

# Functions that run with their owner's rights and that services may call: each is a hole that must be a keyhole.
OWNERS_FUNCTIONS = {
    "billing.claim_due": "names charges that were left half-way, a few at a time, and their chain of calls",
    "billing.due_lag": "counts charges that wait, of all tenants, and says since when",
    "events.claim_webhooks": "names deliveries to send, a few at a time, nothing of what is in them",
    "events.prune_webhooks": "counts what is older than it is kept",
    "events.webhooks_lag": "counts deliveries that wait, of all tenants, and says since when",
    "ledger.claim_due": "names holds whose time is over, a few at a time, and their chain of calls",
    "ledger.claim_scheduled": "names transfers that are due, a few at a time, and their chain of calls",
    "ledger.scheduled_lag": "counts chains of transfers that are due, of all tenants, and says since when",
    "ledger.due_lag": "counts holds that are over, of all tenants, and says since when",
    "ledger.make_months": "makes partitions of months to come, which nobody has a right on, a few at a time",
    "ledger.unchained": "names tenants, some at a time, and says of each whether a block can be closed",
    "ledger.unsummed_accounts": "names accounts whose sums are behind, a few at a time, nothing of what they hold",
    "metering.claim_due_holds": "names holds whose time is over, a few at a time, and their chain of calls",
    "metering.due_holds_lag": "counts holds that are over, of all tenants, and says since when",
    "mesh.end_keys_made_by": "ends what a key of the transaction's tenant has made, of whichever tenant",
    "mesh.hold_api_key": "tells whether the key of a given id works, and holds it: its maker may be another tenant's",
    "mesh.is_of_key": "says of two keys, of any tenant, whether one was made with the other",
    "mesh.pass_on_keys_made_by": "gives what a key of the transaction's tenant has made to that one's maker",
    "mesh.replay_dead_letters": "puts letters of the transaction's tenant back into the queue",
    "mesh.replay_events": "puts events of the transaction's tenant into the queue again",
    "mesh.take_back_keys_made_by": "gives back to an ended key of the transaction's tenant what it had made",
    "mesh.resolve_api_key": "finds a key by the digest of its secret alone",
    "metering.make_months": "makes partitions of months to come, which nobody has a right on, a few at a time",
    "metering.usage_storage": "says what the usage of all tenants takes together, nothing of any of them",
    "metering.usage_partitions": "names partitions and their bounds, nothing of what is in them",
    "metering.unlogged": "names tenants whose newest receipt is not in their log, some at a time",
    "metering.unrolled": "names tenants whose usage is not all rolled up, some at a time",
    "metering.unsequenced": "names tenants that have receipts without ordinals, some at a time",
    "orchestration.booking_lag": "counts what waits to be booked, of all tenants, and says since when",
    "orchestration.claim_booking": "names attempts to be booked, a few at a time, and their chain of calls",
    "orchestration.claim_due": "names payments to go on with, a few at a time, and their chain of calls",
    "orchestration.due_lag": "counts payments that wait, of all tenants, and says since when",
    "orders.claim_posting": "names payments of orders to be posted, a few at a time, and their chain of calls",
    "orders.claim_credit": "names entries and grants that are due, a few at a time, and their chain of calls",
    "orders.credit_lag": "counts entries and grants that are due, of all tenants, and says since when",
    "orders.posting_lag": "counts payments of orders to be posted, of all tenants, and says since when",
    "settlement.claim_intake": "names charges to be taken in, a few at a time, and their chain of calls",
    "settlement.claim_posting": "names steps of payouts to be posted, a few at a time, and their chain of calls",
    "settlement.claim_sweep": "names sweeps that are due, a few at a time, and their chain of calls",
    "settlement.intake_lag": "counts charges to be taken in, of all tenants, and says since when",
    "settlement.posting_lag": "counts steps of payouts to be posted, of all tenants, and says since when",
    "settlement.sweep_lag": "counts sweeps that are due, of all tenants, and says since when",
    "orchestration.manual_outcomes": "counts attempts of all tenants that wait for an operator",
    "orchestration.unknown_outcomes": "counts attempts of all tenants, and says since when the oldest is",
}

SUMS_WITHIN_S = 120.0

# Tables that may be empty after a tenant has done everything once.
MAY_BE_EMPTY = {
    "mesh.dead_letter": "nothing failed",
    "mesh.delivery": "everything was delivered",
    "mesh.parked_key": "nothing failed",
}


# Rows to be copied, where a trigger looks at others before the wall does.
COPIED: dict[str, LiteralString] = {"orchestration.attempt": "WHERE parent_id = ''"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table and what the services may do with it."""

    schema: str
    name: str
    has_tenant: bool
    readable: bool
    writable: bool

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def quoted(self) -> sql.Composed:
        return sql.SQL("{}.{}").format(sql.Identifier(self.schema), sql.Identifier(self.name))


@pytest.fixture(scope="session")
def owner(mesh: MeshProcess) -> Iterator[psycopg.Connection]:
    """What is really there, as the superuser of the mesh's own Postgres sees it."""
    password = (mesh.data_dir / "superuser-password").read_text()
    url = make_conninfo(mesh.ready["database_url"], user=SUPERUSER, password=password)
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def service(mesh: MeshProcess) -> Iterator[psycopg.Connection]:
    """The login that `tollmesh up` prints."""
    with psycopg.connect(mesh.ready["database_url"]) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def tables(owner: psycopg.Connection, service: psycopg.Connection) -> list[Table]:
    rows = owner.execute(_TABLES, {"service": service.info.user}).fetchall()
    found = [Table(*row) for row in rows]
    own = {service.name for service in manifests.found() if service.migrations}
    assert {table.schema for table in found} >= own | {"mesh"}
    return found


def act_as(service: psycopg.Connection, tenant: str) -> None:
    service.execute("SELECT set_config('mesh.tenant', %s, true)", [tenant])


def count(connection: psycopg.Connection, statement: sql.Composed, *terms: object) -> int:
    row = connection.execute(statement, terms).fetchone()
    assert row is not None
    return int(row[0])


def await_sums(owner: psycopg.Connection, tenant: str) -> None:
    """Wait until the ledger has summed what was posted, which it does in the background."""
    give_up_at = time.monotonic() + SUMS_WITHIN_S
    behind = sql.SQL(
        "SELECT count(*) FROM ledger.balance b LEFT JOIN ledger.account_mark m USING (tenant_id, account_id)"
        " WHERE b.tenant_id = %s AND b.last_seq > coalesce(m.summed_seq, 0)"
    )
    while count(owner, sql.Composed([behind]), tenant):
        assert time.monotonic() < give_up_at, "the ledger does not sum its entries"
        owner.rollback()
        time.sleep(0.1)


def test_a_tenant_sees_its_own_rows_and_no_other(
    service: psycopg.Connection,
    owner: psycopg.Connection,
    tables: list[Table],
    amber: Estate,
    birch: Estate,
) -> None:
    for each in (amber, birch):
        await_sums(owner, each.tenant)
    empty = set()
    for table in tables:
        if not (table.has_tenant and table.readable):
            continue
        every = sql.SQL("SELECT count(*) FROM {}").format(table.quoted)
        own = sql.SQL("SELECT count(*) FROM {} WHERE tenant_id = %s").format(table.quoted)
        for seen, other in ((amber, birch), (birch, amber)):
            act_as(service, seen.tenant)
            there = count(owner, own, seen.tenant)
            assert count(service, every) == there, table.full_name
            assert count(service, own, other.tenant) == 0, table.full_name
            service.rollback()
            if there == 0:
                empty.add(table.full_name)
    assert empty <= set(MAY_BE_EMPTY), (
        "a table without rows proves nothing: have the estate fill it"
    )


def test_who_names_no_tenant_gets_an_error(
    service: psycopg.Connection, tables: list[Table], amber: Estate
) -> None:
    assert amber
    for table in tables:
        if table.has_tenant and table.readable:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="names no tenant"):
                service.execute(sql.SQL("SELECT * FROM {}").format(table.quoted))
            service.rollback()


def test_no_row_can_be_written_for_another(
    service: psycopg.Connection, tables: list[Table], amber: Estate, birch: Estate
) -> None:
    """A row of one's own, copied with the other's name on it."""
    tried = 0
    for table in tables:
        if not (table.has_tenant and table.readable and table.writable):
            continue
        act_as(service, amber.tenant)
        names = [row[0] for row in service.execute(_INSERTABLE, [table.full_name])]
        others = [sql.Identifier(name) for name in names if name != "tenant_id"]
        every = sql.SQL("SELECT count(*) FROM {}").format(table.quoted)
        if "tenant_id" in names and count(service, every):
            columns = sql.SQL(", ").join(others)
            copy = sql.SQL(
                "INSERT INTO {} (tenant_id, {}) SELECT %s, {} FROM {} {} LIMIT 1"
            ).format(
                table.quoted,
                columns,
                columns,
                table.quoted,
                sql.SQL(COPIED.get(table.full_name, "")),
            )
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                service.execute(copy, [birch.tenant])
            tried += 1
        service.rollback()
    assert tried > 20, "most tables take rows of the services"


def test_no_row_of_another_can_be_changed(
    service: psycopg.Connection, tables: list[Table], amber: Estate, birch: Estate
) -> None:
    for table in tables:
        if not table.has_tenant:
            continue
        to_other = sql.SQL("UPDATE {} SET tenant_id = %s").format(table.quoted)
        of_other = sql.SQL("DELETE FROM {} WHERE tenant_id = %s").format(table.quoted)
        act_as(service, amber.tenant)
        try:
            changed = service.execute(to_other, [birch.tenant]).rowcount
        except psycopg.errors.InsufficientPrivilege:
            changed = 0
        assert changed == 0, table.full_name
        service.rollback()
        act_as(service, amber.tenant)
        try:
            deleted = service.execute(of_other, [birch.tenant]).rowcount
        except psycopg.errors.InsufficientPrivilege:
            deleted = 0
        assert deleted == 0, table.full_name
        service.rollback()


def test_what_is_the_owners_alone_stays_so(
    service: psycopg.Connection, tables: list[Table], amber: Estate
) -> None:
    closed = [table for table in tables if not table.readable]
    assert {"mesh.tick", "mesh.lane_lease"} <= {table.full_name for table in closed}
    for table in closed:
        act_as(service, amber.tenant)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            service.execute(sql.SQL("SELECT * FROM {}").format(table.quoted))
        service.rollback()
    for table in tables:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute(
                sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(table.quoted)
            )
        service.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute(sql.SQL("TRUNCATE {}").format(table.quoted))
        service.rollback()


def test_the_services_login_can_become_nobody_else(
    service: psycopg.Connection, owner: psycopg.Connection
) -> None:
    base = service.info.user.removesuffix("_service")
    for role in (f"{base}_owner", f"{base}_relay", SUPERUSER):
        for statement in ("SET ROLE {}", "SET SESSION AUTHORIZATION {}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(sql.SQL(statement).format(sql.Identifier(role)))
            service.rollback()
    rights = owner.execute(
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles "
        "WHERE rolname = %s",
        [service.info.user],
    ).fetchone()
    assert rights == (False,) * 5
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute("CREATE SCHEMA own")
    service.rollback()


def test_row_security_cannot_be_switched_off(
    service: psycopg.Connection, tables: list[Table], amber: Estate
) -> None:
    for table in tables:
        if table.has_tenant and table.readable:
            act_as(service, amber.tenant)
            service.execute("SET LOCAL row_security = off")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                service.execute(sql.SQL("SELECT * FROM {}").format(table.quoted))
            service.rollback()


def test_every_function_with_its_owners_rights_is_known(
    service: psycopg.Connection, owner: psycopg.Connection
) -> None:
    found = owner.execute(
        "SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n "
        "ON n.oid = p.pronamespace WHERE p.prosecdef AND n.nspname !~ '^pg_' "
        "AND has_function_privilege(%s, p.oid, 'EXECUTE')",
        [service.info.user],
    ).fetchall()
    assert {row[0] for row in found} == set(OWNERS_FUNCTIONS)
