"""Attributes of CloudEvents that an event has no other place for."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0004"
down_revision = "0003"

_CLOUD_EVENT = """
CREATE TABLE events.cloud_event (
  tenant_id   text        NOT NULL,
  event_id    text        NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT transaction_timestamp(),
  attributes  jsonb       NOT NULL,
  PRIMARY KEY (tenant_id, event_id)
)
"""


def upgrade() -> None:
    """Make the table."""
    op.execute(_CLOUD_EVENT)
    op.execute("CREATE INDEX cloud_event_age ON events.cloud_event (tenant_id, recorded_at)")
    schema.protect(op, "events", "cloud_event")


def downgrade() -> None:
    """Remove it; events that came in as CloudEvents stay, with the mesh as their source."""
    op.execute("DROP TABLE events.cloud_event")
