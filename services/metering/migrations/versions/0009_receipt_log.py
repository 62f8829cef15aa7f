"""Receipts become the leaves of a log that only grows; a batch that is sent again whole finds its receipt."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0009"
down_revision = "0008"

_HASH = "bytea NOT NULL CHECK (octet_length({0}) = 32)"
_LEAF = f"""
CREATE TABLE metering.log_leaf (
  tenant_id   text COLLATE "C" NOT NULL,
  ordinal     bigint           NOT NULL CHECK (ordinal > 0),
  closed_at   timestamptz      NOT NULL,
  events_root {_HASH.format("events_root")},
  hash        {_HASH.format("hash")},
  PRIMARY KEY (tenant_id, ordinal)
)
"""
# Complete nodes above the leaves; the leaf with ordinal N has index N - 1.
_NODE = f"""
CREATE TABLE metering.log_node (
  tenant_id  text COLLATE "C" NOT NULL,
  level      smallint         NOT NULL CHECK (level > 0),
  node_index bigint           NOT NULL CHECK (node_index >= 0),
  hash       {_HASH.format("hash")},
  PRIMARY KEY (tenant_id, level, node_index)
)
"""
_HEAD = f"""
CREATE TABLE metering.log_head (
  tenant_id text COLLATE "C" NOT NULL,
  tree_size bigint           NOT NULL CHECK (tree_size > 0),
  closed_at timestamptz      NOT NULL,
  root_hash {_HASH.format("root_hash")},
  PRIMARY KEY (tenant_id, tree_size)
)
"""
_INDEXES = (
    # Ids of receipts grow, and one stands for a whole batch: an insert touches the last page.
    "CREATE INDEX usage_event_by_receipt ON metering.usage_event (tenant_id, receipt_id)",
    "CREATE INDEX event_version_by_receipt ON metering.event_version (tenant_id, receipt_id) WHERE version > 0",
    "CREATE INDEX receipt_by_digest ON metering.receipt (tenant_id, batch_digest) WHERE batch_digest IS NOT NULL",
)
# Tenants behind one whose newest receipt is no leaf yet.
_UNLOGGED = """
CREATE FUNCTION metering.unlogged(p_after text, p_tenants integer, OUT tenant_id text)
RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT c.tenant_id FROM metering.receipt_counter c
   WHERE c.tenant_id > p_after COLLATE "C" AND c.last_ordinal > 0
     AND NOT EXISTS (SELECT FROM metering.log_leaf l WHERE l.tenant_id = c.tenant_id AND l.ordinal = c.last_ordinal)
   ORDER BY c.tenant_id LIMIT p_tenants;
END
"""


def upgrade() -> None:
    """Make the tables. The log is closed behind the upgrade, from the first receipt on."""
    # What the batch said, in 16 bytes; null for batches from before, and where nothing is asked of it.
    op.execute("ALTER TABLE metering.receipt ADD COLUMN batch_digest uuid")
    for statement in (_LEAF, _NODE, _HEAD, *_INDEXES):
        op.execute(statement)
    for table in ("log_leaf", "log_node", "log_head"):
        schema.protect(op, "metering", table, privileges=schema.APPEND_ONLY)
    op.execute(_UNLOGGED)
    schema.grant_function(op, "metering.unlogged(text, integer)")


def downgrade() -> None:
    """Drop them. A later upgrade closes the same log again, but for the times of its heads."""
    op.execute("DROP FUNCTION metering.unlogged(text, integer)")
    for table in ("log_head", "log_node", "log_leaf"):
        op.execute(f"DROP TABLE metering.{table}")
    op.execute("DROP INDEX metering.usage_event_by_receipt, metering.event_version_by_receipt")
    op.execute("ALTER TABLE metering.receipt DROP COLUMN batch_digest")
