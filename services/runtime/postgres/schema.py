"""What migrations say about access to their tables.

Migrations run as the owner role of their database (see `roles`), so the other roles' names follow from
`current_user`. Tables get row-level security with ENABLE and not FORCE: the owner must be able to migrate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.runtime.postgres.roles import RoleNames

ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
APPEND_ONLY = ("SELECT", "INSERT")


class Operations(Protocol):
    """What is needed of `alembic.op`, which is a module."""

    def execute(self, sqltext: str, /) -> None:
        """Run a statement."""

    def get_bind(self) -> Connection:
        """The connection that migrates."""


def role_names(op: Operations) -> RoleNames:
    """Names of the roles of the database that is being migrated."""
    owner = op.get_bind().execute(sa.text("SELECT current_user")).scalar_one()
    return RoleNames.of_owner(str(owner))


def protect(op: Operations, schema: str, table: str, *, privileges: Sequence[str] = ALL) -> None:
    """Let services use a table, each transaction only the rows of the tenant that it named.

    A transaction that named no tenant gets an error from every statement on the table, and rows of other
    tenants are neither seen nor written. The comparison is with a sub-select, so the tenant is looked up once a
    statement, and it is leakproof, so indexes that lead with tenant_id are used.

    Args:
        op: Alembic's operations.
        schema: schema of the table.
        table: a table with a column tenant_id.
        privileges: what services may do with it, out of ALL.
    """
    service = _quoted(role_names(op).service)
    name = f"{_quoted(schema)}.{_quoted(table)}"
    own = "tenant_id = (SELECT mesh.current_tenant())"
    # A sub-select is evaluated when the first row is looked at, so an empty table would give no error. The
    # planner evaluates the function of the last comparison, to estimate it; no row ever gets that far.
    refuse = f"({own} OR tenant_id <> mesh.current_tenant())"
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON {name} TO {service} USING ({own} AND {refuse}) WITH CHECK ({own})"
    )
    op.execute(f"GRANT {_list(privileges)} ON {name} TO {service}")


def open_to_relay(
    op: Operations, schema: str, table: str, *, privileges: Sequence[str] = ("SELECT",)
) -> None:
    """Let the relay, which sequences and dispatches events, use the rows of every tenant.

    Args:
        op: Alembic's operations.
        schema: schema of the table.
        table: any table of the event log.
        privileges: what the relay may do with it, out of ALL.
    """
    relay = _quoted(role_names(op).relay)
    name = f"{_quoted(schema)}.{_quoted(table)}"
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    for privilege in privileges:
        # INSERT knows no USING, SELECT and DELETE know no WITH CHECK.
        using = "" if privilege == "INSERT" else "USING (true)"
        check = "WITH CHECK (true)" if privilege in ("INSERT", "UPDATE") else ""
        policy = f"relay_{privilege.lower()}"
        op.execute(f"CREATE POLICY {policy} ON {name} FOR {privilege} TO {relay} {using} {check}")
    op.execute(f"GRANT {_list(privileges)} ON {name} TO {relay}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _list(privileges: Sequence[str]) -> str:
    unknown = set(privileges) - set(ALL)
    if unknown or not privileges:
        raise ValueError(f"privileges must be some of {ALL}, not {tuple(privileges)}")
    return ", ".join(privileges)
