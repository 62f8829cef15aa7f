"""Receipts get ordinals, which say what became visible when, in this cluster and in any other."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0005"
down_revision = "0004"

# The transaction of a receipt from before ordinals parts what charges from then saw: their facts may still be on their
# way. Receipts from now on have none.
_RECEIPT = """
ALTER TABLE metering.receipt
  ADD COLUMN ordinal bigint CHECK (ordinal > 0),
  ADD COLUMN recorded_xid xid8
"""
_COUNTER = """
CREATE TABLE metering.receipt_counter (
  tenant_id    text COLLATE "C" NOT NULL PRIMARY KEY,
  last_ordinal bigint           NOT NULL CHECK (last_ordinal >= 0)
)
"""
_INDEXES = (
    "CREATE UNIQUE INDEX receipt_by_ordinal ON metering.receipt (tenant_id, ordinal) WHERE ordinal IS NOT NULL",
    # Of next to none: what was not sequenced yet.
    "CREATE INDEX receipt_unsequenced ON metering.receipt (tenant_id) WHERE ordinal IS NULL",
    # Each row is written twice.
    "ALTER TABLE metering.receipt SET (autovacuum_vacuum_scale_factor = 0.05)",
)

_XIDS = """
UPDATE metering.receipt AS r SET recorded_xid = e.recorded_xid
  FROM (SELECT DISTINCT ON (tenant_id, receipt_id) tenant_id, receipt_id, recorded_xid FROM metering.usage_event) AS e
 WHERE r.tenant_id = e.tenant_id AND r.receipt_id = e.receipt_id
"""
# Snapshots of one cluster contain one another, so each has a place; a receipt is missing in all up to a place and in
# none behind it. Ordered by that, what a snapshot contains is a beginning of the ordinals, exactly.
_SNAPSHOTS = """
CREATE TEMP TABLE metering_snapshots ON COMMIT DROP AS
SELECT tenant_id, charge_id, kind, snapshot,
       row_number() OVER (PARTITION BY tenant_id
                          ORDER BY pg_snapshot_xmax(snapshot),
                                   (SELECT count(*) FROM pg_snapshot_xip(snapshot)) DESC) AS place
  FROM (SELECT tenant_id, charge_id, 'usage' AS kind, usage_snapshot AS snapshot FROM metering.closed_period
        UNION ALL
        SELECT tenant_id, charge_id, 'heard', heard_snapshot FROM metering.closed_period) AS closings
"""
# Not in a snapshot: what began behind it, and what was under way then. A receipt without events is in no question.
_RECEIPTS = """
CREATE TEMP TABLE metering_receipts ON COMMIT DROP AS
WITH begun AS (
    SELECT tenant_id, receipt_id, xid,
           sum(is_snapshot) OVER (PARTITION BY tenant_id ORDER BY xid, is_snapshot DESC
                                  ROWS UNBOUNDED PRECEDING) AS missed
      FROM (SELECT tenant_id, receipt_id, recorded_xid AS xid, 0 AS is_snapshot
              FROM metering.receipt WHERE recorded_xid IS NOT NULL
            UNION ALL
            SELECT tenant_id, NULL, pg_snapshot_xmax(snapshot), 1 FROM metering_snapshots) AS both_kinds
), under_way AS (
    SELECT tenant_id, xid, count(*) AS missed
      FROM metering_snapshots, pg_snapshot_xip(snapshot) AS xid GROUP BY tenant_id, xid
)
SELECT r.tenant_id, r.receipt_id, r.recorded_at, coalesce(b.missed, 0) + coalesce(u.missed, 0) AS missed
  FROM metering.receipt AS r
  LEFT JOIN begun AS b ON b.tenant_id = r.tenant_id AND b.receipt_id = r.receipt_id
  LEFT JOIN under_way AS u ON u.tenant_id = r.tenant_id AND u.xid = r.recorded_xid
"""
_NUMBER = """
UPDATE metering.receipt AS r SET ordinal = n.ordinal
  FROM (SELECT tenant_id, receipt_id,
               row_number() OVER (PARTITION BY tenant_id ORDER BY missed, recorded_at, receipt_id) AS ordinal
          FROM metering_receipts) AS n
 WHERE r.tenant_id = n.tenant_id AND r.receipt_id = n.receipt_id
"""
_COUNT = """
INSERT INTO metering.receipt_counter (tenant_id, last_ordinal)
SELECT tenant_id, max(ordinal) FROM metering.receipt GROUP BY tenant_id
"""
# The snapshot at a place contains the receipts that are missing in fewer.
_CLOSE = """
UPDATE metering.closed_period AS p SET {kind}_ordinal = s.contained
  FROM (SELECT tenant_id, charge_id, kind,
               sum(is_receipt) OVER (PARTITION BY tenant_id ORDER BY place, is_receipt DESC
                                     ROWS UNBOUNDED PRECEDING) AS contained
          FROM (SELECT tenant_id, charge_id, kind, place, 0 AS is_receipt FROM metering_snapshots
                UNION ALL
                SELECT tenant_id, NULL, NULL, missed + 1, 1 FROM metering_receipts) AS both_kinds) AS s
 WHERE s.kind = '{kind}' AND p.tenant_id = s.tenant_id AND p.charge_id = s.charge_id
"""

# Back: an ordinal takes the place of the transaction's number, in events and snapshots alike, of the tenants for which
# there is a closing that asks. Numbers of transactions to come are greater: each receipt took one.
_NUMBER_REST = """
UPDATE metering.receipt AS r SET ordinal = n.ordinal
  FROM (SELECT u.tenant_id, u.receipt_id,
               coalesce(c.last_ordinal, 0)
               + row_number() OVER (PARTITION BY u.tenant_id ORDER BY u.recorded_at, u.receipt_id) AS ordinal
          FROM metering.receipt AS u LEFT JOIN metering.receipt_counter AS c ON c.tenant_id = u.tenant_id
         WHERE u.ordinal IS NULL) AS n
 WHERE r.tenant_id = n.tenant_id AND r.receipt_id = n.receipt_id
"""
_EVENTS_BACK = """
UPDATE metering.usage_event AS e SET recorded_xid = r.ordinal::text::xid8
  FROM metering.receipt AS r
 WHERE r.tenant_id = e.tenant_id AND r.receipt_id = e.receipt_id
   AND r.tenant_id IN (SELECT tenant_id FROM metering.closed_period)
"""


def upgrade() -> None:
    """Number what there is, so that each closed period keeps exactly the usage that its charge saw."""
    op.execute(_RECEIPT)
    op.execute(_COUNTER)
    op.execute(
        "ALTER TABLE metering.closed_period ADD usage_ordinal bigint, ADD heard_ordinal bigint"
    )
    for statement in (_XIDS, _SNAPSHOTS, _RECEIPTS, _NUMBER, _COUNT):
        op.execute(statement)
    for kind in ("usage", "heard"):
        op.execute(_CLOSE.format(kind=kind))
    op.execute("DROP TABLE metering_snapshots, metering_receipts")
    op.execute(
        "ALTER TABLE metering.closed_period DROP usage_snapshot, DROP heard_snapshot,"
        " ALTER usage_ordinal SET NOT NULL, ALTER heard_ordinal SET NOT NULL"
    )
    op.execute("ALTER TABLE metering.usage_event DROP COLUMN recorded_xid")
    for index in _INDEXES:
        op.execute(index)
    schema.protect(op, "metering", "receipt_counter", privileges=("SELECT", "INSERT", "UPDATE"))
    op.execute(f"GRANT UPDATE (ordinal) ON metering.receipt TO {_service()}")
    op.execute(f"GRANT UPDATE (usage_ordinal) ON metering.closed_period TO {_service()}")
    op.execute(_UNSEQUENCED)
    schema.grant_function(op, "metering.unsequenced(text, integer)")


# Tenants behind one that have receipts without an ordinal.
_UNSEQUENCED = """
CREATE FUNCTION metering.unsequenced(p_after text, p_tenants integer, OUT tenant_id text)
RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT DISTINCT r.tenant_id FROM metering.receipt r
   WHERE r.ordinal IS NULL AND r.tenant_id > p_after COLLATE "C"
   ORDER BY r.tenant_id LIMIT p_tenants;
END
"""


def downgrade() -> None:
    """Put transactions in the place of ordinals again."""
    op.execute("DROP FUNCTION metering.unsequenced(text, integer)")
    op.execute(_NUMBER_REST)
    op.execute("ALTER TABLE metering.usage_event ADD COLUMN recorded_xid xid8 NOT NULL DEFAULT '3'")
    op.execute(_EVENTS_BACK)
    op.execute(
        "ALTER TABLE metering.usage_event ALTER recorded_xid SET DEFAULT pg_current_xact_id()"
    )
    op.execute(
        "ALTER TABLE metering.closed_period ADD usage_snapshot pg_snapshot, ADD heard_snapshot pg_snapshot"
    )
    op.execute(
        "UPDATE metering.closed_period"
        " SET usage_snapshot = format('%1$s:%1$s:', usage_ordinal + 1)::pg_snapshot,"
        " heard_snapshot = format('%1$s:%1$s:', heard_ordinal + 1)::pg_snapshot"
    )
    op.execute(
        "ALTER TABLE metering.closed_period DROP usage_ordinal, DROP heard_ordinal,"
        " ALTER usage_snapshot SET NOT NULL, ALTER heard_snapshot SET NOT NULL,"
        " ALTER heard_snapshot SET DEFAULT pg_current_snapshot()"
    )
    op.execute(f"GRANT UPDATE (usage_snapshot) ON metering.closed_period TO {_service()}")
    op.execute("DROP TABLE metering.receipt_counter")
    op.execute(f"REVOKE UPDATE (ordinal) ON metering.receipt FROM {_service()}")
    op.execute("DROP INDEX metering.receipt_unsequenced, metering.receipt_by_ordinal")
    op.execute("ALTER TABLE metering.receipt RESET (autovacuum_vacuum_scale_factor)")
    op.execute("ALTER TABLE metering.receipt DROP COLUMN ordinal, DROP COLUMN recorded_xid")


def _service() -> str:
    return '"' + schema.role_names(op).service.replace('"', '""') + '"'
