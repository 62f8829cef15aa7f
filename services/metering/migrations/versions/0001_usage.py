"""Usage events, receipts, rejected events, ingest settings."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

# Fixed widths first: no padding. Ids compare bytewise (collation C), the cheapest order an index can have.
_USAGE_EVENT = """
CREATE TABLE metering.usage_event (
  event_time   timestamptz      NOT NULL,
  recorded_xid xid8             NOT NULL DEFAULT pg_current_xact_id(),
  event_key    uuid             NOT NULL,
  fingerprint  uuid             NOT NULL,
  receipt_id   uuid             NOT NULL,
  source       smallint         NOT NULL,
  tenant_id    text COLLATE "C" NOT NULL,
  org_id       text COLLATE "C" NOT NULL,
  project_id   text COLLATE "C" NOT NULL,
  sku          text COLLATE "C" NOT NULL,
  request_id   text COLLATE "C" NOT NULL,
  quantity     numeric(38, 18)  NOT NULL CHECK (quantity >= 0),
  metadata     jsonb,
  PRIMARY KEY (tenant_id, event_key)
)
"""

# Usage of an organisation over a period, by SKU: what is charged and what is asked for.
_USAGE_EVENT_BY_TIME = """
CREATE INDEX usage_event_by_time ON metering.usage_event (tenant_id, org_id, sku, event_time)
"""

# A table that only grows is vacuumed by its inserts; they also keep the statistics of new hours fresh.
_USAGE_EVENT_UPKEEP = """
ALTER TABLE metering.usage_event SET (
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_analyze_scale_factor = 0.02
)
"""

_RECEIPT = """
CREATE TABLE metering.receipt (
  tenant_id      text COLLATE "C" NOT NULL,
  receipt_id     uuid             NOT NULL,
  accepted       integer          NOT NULL,
  duplicate      integer          NOT NULL,
  conflict       integer          NOT NULL,
  rejected       integer          NOT NULL,
  first_event_at timestamptz,
  last_event_at  timestamptz,
  recorded_at    timestamptz      NOT NULL,
  recorded_by    text             NOT NULL,
  PRIMARY KEY (tenant_id, receipt_id),
  CHECK ((accepted > 0) = (first_event_at IS NOT NULL AND last_event_at IS NOT NULL))
)
"""

_REJECTED_EVENT = """
CREATE TABLE metering.rejected_event (
  tenant_id   text COLLATE "C" NOT NULL,
  receipt_id  uuid             NOT NULL,
  event_index integer          NOT NULL,
  request_id  text COLLATE "C" NOT NULL,
  reason      text             NOT NULL,
  message     text             NOT NULL,
  content     bytea            NOT NULL,
  PRIMARY KEY (tenant_id, receipt_id, event_index)
)
"""

_INGEST_SETTINGS = """
CREATE TABLE metering.ingest_settings (
  tenant_id        text COLLATE "C" NOT NULL PRIMARY KEY,
  accept_past_us   bigint           NOT NULL CHECK (accept_past_us >= 0),
  accept_future_us bigint           NOT NULL CHECK (accept_future_us >= 0),
  updated_at       timestamptz
)
"""


def upgrade() -> None:
    """Make the tables; usage, receipts and rejections are never changed by a service."""
    op.execute(_USAGE_EVENT)
    op.execute(_USAGE_EVENT_BY_TIME)
    op.execute(_USAGE_EVENT_UPKEEP)
    op.execute(_RECEIPT)
    op.execute(_REJECTED_EVENT)
    op.execute(_INGEST_SETTINGS)
    for table in ("usage_event", "receipt", "rejected_event"):
        schema.protect(op, "metering", table, privileges=schema.APPEND_ONLY)
    schema.protect(op, "metering", "ingest_settings", privileges=("SELECT", "INSERT", "UPDATE"))


def downgrade() -> None:
    """Drop the tables."""
    for table in ("ingest_settings", "rejected_event", "receipt", "usage_event"):
        op.execute(f"DROP TABLE metering.{table}")
