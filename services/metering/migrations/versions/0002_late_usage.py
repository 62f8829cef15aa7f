"""Periods that charges closed, and the usage that was stored for them afterwards."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0002"
down_revision = "0001"

# What a charge saw of usage is `usage_snapshot`. Metering heard of it later: `heard_snapshot` parts the events that lie
# between the two, which the closing looks for once, from those that come behind, which their own batches tell of.
_CLOSED_PERIOD = """
CREATE TABLE metering.closed_period (
  tenant_id      text COLLATE "C" NOT NULL,
  charge_id      text COLLATE "C" NOT NULL,
  org_id         text COLLATE "C" NOT NULL,
  start_at       timestamptz      NOT NULL,
  end_at         timestamptz      NOT NULL,
  usage_snapshot pg_snapshot      NOT NULL,
  heard_snapshot pg_snapshot      NOT NULL DEFAULT pg_current_snapshot(),
  heard_at       timestamptz      NOT NULL,
  PRIMARY KEY (tenant_id, charge_id),
  CHECK (start_at < end_at)
)
"""

# A batch asks for periods of an organisation that end behind its first event: mostly there are none.
_CLOSED_PERIOD_BY_END = """
CREATE INDEX closed_period_by_end ON metering.closed_period (tenant_id, org_id, end_at)
"""

_LATE_EVENT = """
CREATE TABLE metering.late_event (
  event_time timestamptz      NOT NULL,
  event_key  uuid             NOT NULL,
  tenant_id  text COLLATE "C" NOT NULL,
  org_id     text COLLATE "C" NOT NULL,
  charge_id  text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, event_key),
  FOREIGN KEY (tenant_id, charge_id) REFERENCES metering.closed_period
)
"""

_LATE_EVENT_BY_TIME = """
CREATE INDEX late_event_by_time ON metering.late_event (tenant_id, org_id, event_time, event_key)
"""


def upgrade() -> None:
    """Make the tables; what was closed before is learnt from the event log, from its beginning on."""
    op.execute(_CLOSED_PERIOD)
    op.execute(_CLOSED_PERIOD_BY_END)
    op.execute(_LATE_EVENT)
    op.execute(_LATE_EVENT_BY_TIME)
    for table in ("closed_period", "late_event"):
        schema.protect(op, "metering", table, privileges=schema.APPEND_ONLY)


def downgrade() -> None:
    """Drop the tables. Usage itself is untouched; the next upgrade cannot learn again what the log has let go."""
    op.execute("DROP TABLE metering.late_event")
    op.execute("DROP TABLE metering.closed_period")
