"""Types of events that tenants registered. What comes with the release stands in `registry/` instead."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

# Subjects are compared byte by byte, so that a page by subject is a range of the index.
_TYPE = """
CREATE TABLE events.event_type (
  tenant_id     text        NOT NULL,
  subject       text        NOT NULL COLLATE "C",
  owner         text        NOT NULL,
  consumers     text[]      NOT NULL,
  description   text        NOT NULL,
  key_field     text        NOT NULL,
  registered_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, subject)
)
"""

_VERSION = """
CREATE TABLE events.event_type_version (
  tenant_id    text        NOT NULL,
  subject      text        NOT NULL COLLATE "C",
  version      integer     NOT NULL CHECK (version > 0),
  json_schema  text        NOT NULL,
  published_at timestamptz NOT NULL,
  cutover_at   timestamptz,
  PRIMARY KEY (tenant_id, subject, version),
  FOREIGN KEY (tenant_id, subject) REFERENCES events.event_type (tenant_id, subject)
)
"""


def upgrade() -> None:
    """Make them."""
    op.execute(_TYPE)
    op.execute(_VERSION)
    for table in ("event_type", "event_type_version"):
        schema.protect(op, "events", table, privileges=("SELECT", "INSERT", "UPDATE"))


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TABLE events.event_type_version, events.event_type")
