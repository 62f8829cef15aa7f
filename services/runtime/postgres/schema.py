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


_CLAIM_DUE = """
CREATE FUNCTION {schema}.{claim}(
  p_now timestamptz, p_owner text, p_lease_ms integer, p_batch integer,
  OUT tenant_id text, OUT item_id text, OUT epoch bigint, OUT tries integer, OUT correlation_id text,
  OUT causation_id text{out}
) RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  -- Materialized: joined with the update it may be run again for each row, and each time it finds others.
  WITH due AS MATERIALIZED (
    SELECT d.tenant_id, d.{item} FROM {schema}.{table} d
     WHERE d.due_at <= p_now AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp())
     ORDER BY d.due_at LIMIT p_batch FOR UPDATE SKIP LOCKED)
  UPDATE {schema}.{table} p
     SET lease_owner = p_owner, lease_until = clock_timestamp() + make_interval(secs => p_lease_ms / 1000.0),
         epoch = p.epoch + 1, tries = p.tries + 1
    FROM due WHERE p.tenant_id = due.tenant_id AND p.{item} = due.{item}
  RETURNING p.tenant_id, p.{item}::text, p.epoch, p.tries, p.correlation_id, p.causation_id{returned};
END
"""

_DUE_LAG = """
CREATE FUNCTION {schema}.{lag}(p_now timestamptz, OUT due bigint, OUT oldest_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT count(*), min(w.due_at) FROM (
    SELECT d.due_at FROM {schema}.{table} d
     WHERE d.due_at <= p_now AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp())
     ORDER BY d.due_at LIMIT 10000) w;
END
"""


def queue(
    op: Operations, schema: str, table: str, item: str, *, traced: bool = False, name: str = "due"
) -> None:
    """Make a table's rows due work (see `work`): functions that hand out what is due of all tenants.

    Work of every tenant is found by the owner's rights; what comes out are ids to be worked on as their tenant.

    Args:
        op: Alembic's operations.
        schema: schema of the table.
        table: has tenant_id, due_at (null: nothing to do), lease_owner, lease_until, epoch, tries, correlation_id and
            causation_id, and an index that begins with due_at.
        item: its column that names a row within its tenant.
        traced: it has a column traceparent too, which is handed out with the rest.
        name: of the queue within its schema; the functions are `claim_<name>` and `<name>_lag`.
    """
    names = {
        "claim": _quoted(f"claim_{name}"),
        "lag": _quoted(f"{name}_lag"),
        "schema": _quoted(schema),
        "table": _quoted(table),
        "item": _quoted(item),
        "out": ", OUT traceparent text" if traced else "",
        "returned": ", p.traceparent" if traced else "",
    }
    for text in (_CLAIM_DUE, _DUE_LAG):
        op.execute(text.format(**names))
    for signature in _signatures(schema, name):
        grant_function(op, signature)


def drop_queue(op: Operations, schema: str, *, name: str = "due") -> None:
    """Undo `queue`."""
    for signature in _signatures(schema, name):
        op.execute(f"DROP FUNCTION {signature}")


def _signatures(schema: str, name: str) -> tuple[str, str]:
    return (
        f"{_quoted(schema)}.{_quoted(f'claim_{name}')}(timestamptz, text, integer, integer)",
        f"{_quoted(schema)}.{_quoted(f'{name}_lag')}(timestamptz)",
    )


def grant_function(op: Operations, signature: str) -> None:
    """Let services, and nobody else, call a function that runs as the owner."""
    op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {_quoted(role_names(op).service)}")


# The order is that of the locks: no event is sequenced meanwhile, and who handles one ends first.
_DROP_CONSUMER = (
    "SELECT FROM mesh.tick WHERE feed = 'main' FOR UPDATE",
    "DELETE FROM mesh.subscription WHERE consumer = {consumer}",
    "DELETE FROM mesh.lane_lease WHERE consumer = {consumer}",
    "DELETE FROM mesh.back_fill WHERE consumer = {consumer}",
    "DELETE FROM mesh.delivery WHERE consumer = {consumer}",
    "DELETE FROM mesh.dead_letter WHERE consumer = {consumer}",
    "DELETE FROM mesh.parked_key WHERE consumer = {consumer}",
    "DELETE FROM mesh.consumer WHERE consumer = {consumer}",
)


def drop_consumer(op: Operations, consumer: str) -> None:
    """Take a consumer that no release has any more off the log: what waits for it would keep days of the log for ever.

    A process of the release before that still runs handles nothing under this name from then on. What it handled stays
    in the inbox: a release that has the consumer again goes on behind it.

    Args:
        op: Alembic's operations.
        consumer: its name, e.g. `ledger.payments`.
    """
    for statement in _DROP_CONSUMER:
        op.execute(statement.format(consumer=_literal(consumer)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _list(privileges: Sequence[str]) -> str:
    unknown = set(privileges) - set(ALL)
    if unknown or not privileges:
        raise ValueError(f"privileges must be some of {ALL}, not {tuple(privileges)}")
    return ", ".join(privileges)
