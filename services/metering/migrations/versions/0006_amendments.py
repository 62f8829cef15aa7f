"""Events have versions; late usage may be a change; what is late may be refused."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0006"
down_revision = "0005"

# All versions of those events that were corrected, and only of those: version 0 is a copy of the event as it was sent,
# so that one index finds what a correction takes out of a period and what it brings in.
_EVENT_VERSION = """
CREATE TABLE metering.event_version (
  event_time  timestamptz      NOT NULL,
  event_key   uuid             NOT NULL,
  fingerprint uuid             NOT NULL,
  receipt_id  uuid             NOT NULL,
  version     integer          NOT NULL CHECK (version >= 0),
  source      smallint         NOT NULL,
  cancelled   boolean          NOT NULL CHECK (version > 0 OR NOT cancelled),
  tenant_id   text COLLATE "C" NOT NULL,
  org_id      text COLLATE "C" NOT NULL,
  project_id  text COLLATE "C" NOT NULL,
  sku         text COLLATE "C" NOT NULL,
  quantity    numeric(38, 18)  NOT NULL CHECK (quantity >= 0),
  metadata    jsonb,
  reason      text             NOT NULL,
  PRIMARY KEY (tenant_id, event_key, version),
  FOREIGN KEY (tenant_id, event_key) REFERENCES metering.usage_event
)
"""
_BY_TIME = """
CREATE INDEX event_version_by_time ON metering.event_version (tenant_id, org_id, sku, event_time)
"""
# A change may concern the charge whose period it takes usage out of, and the one whose period it brings it into.
_LATE_KEY = (
    "ALTER TABLE metering.late_event ADD COLUMN version integer NOT NULL DEFAULT 0",
    "ALTER TABLE metering.late_event ALTER version DROP DEFAULT, DROP CONSTRAINT late_event_pkey,"
    " ADD PRIMARY KEY (tenant_id, event_key, version, charge_id)",
)
_KIND = (
    "ALTER TABLE metering.receipt ADD COLUMN kind text NOT NULL DEFAULT 'INGEST'"
    " CHECK (kind IN ('INGEST', 'AMEND', 'CANCEL', 'REPLAY'))"
)
_LATE_POLICY = (
    "ALTER TABLE metering.ingest_settings ADD COLUMN late text NOT NULL DEFAULT 'ADJUST'"
    " CHECK (late IN ('ADJUST', 'REJECT'))"
)


def upgrade() -> None:
    """Make the table; nothing was corrected yet."""
    op.execute(_EVENT_VERSION)
    op.execute(_BY_TIME)
    schema.protect(op, "metering", "event_version", privileges=schema.APPEND_ONLY)
    for statement in (*_LATE_KEY, _KIND, _LATE_POLICY):
        op.execute(statement)


def downgrade() -> None:
    """Drop it.

    Raises:
        RuntimeError: events were corrected; the release before would count them as they were sent.
    """
    corrected = op.get_bind().exec_driver_sql(
        "SELECT count(*) FROM metering.event_version WHERE version > 0"
    )
    if corrected.scalar_one():
        raise RuntimeError(
            "usage was amended or cancelled, and the release before would count it as it was sent: stay on this release"
        )
    op.execute("ALTER TABLE metering.ingest_settings DROP COLUMN late")
    op.execute("ALTER TABLE metering.receipt DROP COLUMN kind")
    op.execute(
        "ALTER TABLE metering.late_event DROP CONSTRAINT late_event_pkey, ADD PRIMARY KEY (tenant_id, event_key)"
    )
    op.execute("ALTER TABLE metering.late_event DROP COLUMN version")
    op.execute("DROP TABLE metering.event_version")
