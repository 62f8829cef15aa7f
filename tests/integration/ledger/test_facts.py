"""What was posted cannot be changed by the services' role: the catalogue says so of every table of the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from services.ledger import manifest as ledger
from tests.support.ledger.living import LivingBooks
from tests.support.mesh.serving import Mesh, running
from tests.support.postgres.server import DatabaseUrls

# What services may change of rows that stay, by table; of every other table they may only read and add rows. A table
# that is not here is one of facts.
CHANGING = {
    "balance": {
        "debits_posted",
        "credits_posted",
        "last_seq",
        "debits_pending",
        "credits_pending",
        "closed",
        "updated_at",
        "monitored",
    },
    "hold": {"remaining_minor", "state", "due_at", "lease_owner", "lease_until"},
    # In the transaction that claimed the id, or while its transfer waits, and in no other: see below.
    "transfer_id": {"fingerprint", "result", "recorded_at"},
    # What it is to move stays as it was sent.
    "scheduled": {
        "state",
        "refusal",
        "cancel_reason",
        "ended_at",
        "due_at",
        "lease_owner",
        "lease_until",
    },
    # Who verifies, and until when: nothing of the books.
    "verification": {"owner", "lease_until"},
    # No facts of the books: sums that are built anew, how far books are closed now, what watches.
    "account_day": {"debits", "credits", "first_seq", "last_seq"},
    "account_mark": {"summed_seq"},
    "period": {"closed_through", "reason", "updated_at"},
    "monitor": {
        "account_id",
        "account_prefix",
        "side",
        "comparison",
        "currency_code",
        "threshold_minor",
        "description",
        "updated_at",
    },
}
DELETING = {"transfer_id", "monitor"}
FACTS = {
    "account",
    "transfer",
    "entry",
    "recipe",
    "posting",
    "block",
    "signing_key",
    "signed_head",
    "reversal",
}

_TABLES = """
SELECT c.relname, c.relispartition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'ledger' AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
"""
_COLUMNS = """
SELECT a.attname FROM pg_attribute a
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
   AND has_column_privilege(%s, a.attrelid, a.attnum, 'UPDATE')
"""


@pytest.fixture(scope="module")
async def mesh(database: DatabaseUrls) -> AsyncIterator[Mesh]:
    async with running(database, [ledger.SERVICE]) as running_mesh:
        yield running_mesh


@pytest.fixture
async def books(mesh: Mesh) -> LivingBooks:
    made = LivingBooks(mesh)
    await made.live()
    return made


@pytest.fixture
def owner(database: DatabaseUrls) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.owner_admin) as connection:
        yield connection


@pytest.fixture
def service(database: DatabaseUrls, books: LivingBooks) -> Iterator[psycopg.Connection]:
    """The services' login, as a tenant with books."""
    with psycopg.connect(database.service) as connection:
        connection.execute("SELECT set_config('mesh.tenant', %s, false)", [books.tenant])
        connection.commit()
        yield connection


def may(owner: psycopg.Connection, role: str, table: str, right: str) -> bool:
    statement = "SELECT has_table_privilege(%s, %s, %s)"
    found = owner.execute(statement, [role, f"ledger.{table}", right]).fetchone()
    assert found is not None
    return bool(found[0])


def test_facts_can_be_read_and_added_and_nothing_else(
    mesh: Mesh, owner: psycopg.Connection, database: DatabaseUrls
) -> None:
    with psycopg.connect(database.service) as connection:
        role = connection.info.user
    tables = owner.execute(_TABLES).fetchall()
    assert {name for name, is_part in tables if not is_part} >= FACTS | CHANGING.keys()
    assert any(name.startswith("entry_y") for name, is_part in tables if is_part)
    for name, is_part in tables:
        rights = {
            right
            for right in (
                "SELECT",
                "INSERT",
                "UPDATE",
                "DELETE",
                "TRUNCATE",
                "REFERENCES",
                "TRIGGER",
            )
            if may(owner, role, name, right)
        }
        changeable = {row[0] for row in owner.execute(_COLUMNS, [f"ledger.{name}", role])}
        if is_part:
            assert (rights, changeable) == (set(), set()), f"nobody names the partition {name}"
            continue
        assert changeable == CHANGING.get(name, set()), name
        assert "SELECT" in rights, name
        assert "UPDATE" not in rights, name
        assert ("DELETE" in rights) == (name in DELETING), name
        assert not rights & {"TRUNCATE", "REFERENCES", "TRIGGER"}, name


def test_nobody_else_has_a_right_on_the_books(owner: psycopg.Connection) -> None:
    grantees = {
        row[0]
        for row in owner.execute(
            "SELECT DISTINCT grantee FROM information_schema.role_table_grants WHERE table_schema = 'ledger'"
        )
    }
    assert "PUBLIC" not in grantees
    assert {name.rpartition("_")[2] for name in grantees} <= {"owner", "service", "admin"}


@pytest.mark.parametrize("table", sorted(FACTS))
@pytest.mark.parametrize(
    "statement",
    ["UPDATE ledger.{} SET tenant_id = tenant_id", "DELETE FROM ledger.{}", "TRUNCATE ledger.{}"],
)
def test_a_change_of_facts_is_refused(
    table: str, statement: str, service: psycopg.Connection
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        service.execute(statement.format(table))
    service.rollback()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger.transfer_id SET result = 80",
        "UPDATE ledger.transfer_id SET fingerprint = decode(repeat('00', 16), 'hex')",
        "DELETE FROM ledger.transfer_id",
    ],
)
def test_an_id_is_corrected_by_the_transaction_that_claimed_it_and_no_other(
    change: str, service: psycopg.Connection, owner: psycopg.Connection, books: LivingBooks
) -> None:
    kept = "SELECT * FROM ledger.transfer_id WHERE tenant_id = %s ORDER BY transfer_id"
    before = owner.execute(kept, [books.tenant]).fetchall()
    owner.rollback()
    assert service.execute(change).rowcount == 0, "of those that were claimed before"
    claim = (
        "INSERT INTO ledger.transfer_id (tenant_id, transfer_id, fingerprint, result)"
        " VALUES (%s, %s, decode(repeat('11', 16), 'hex'), 1)"
    )
    service.execute(claim, [books.tenant, uuid4()])
    assert service.execute(change).rowcount == 1, "its own"
    service.execute("SAVEPOINT part")
    service.execute(claim, [books.tenant, uuid4()])
    assert service.execute(change).rowcount >= 1, "in a savepoint too"
    service.rollback()
    assert owner.execute(kept, [books.tenant]).fetchall() == before


def test_nobody_says_who_claimed_an_id(service: psycopg.Connection, books: LivingBooks) -> None:
    values: list[Any] = [books.tenant, uuid4()]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute(
            "INSERT INTO ledger.transfer_id (tenant_id, transfer_id, fingerprint, result, claimed_by)"
            " VALUES (%s, %s, decode(repeat('11', 16), 'hex'), 1, '1')",
            values,
        )
    service.rollback()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        service.execute("UPDATE ledger.transfer_id SET claimed_by = '1'")
    service.rollback()
