"""Replays that operators asked for."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0003"
down_revision = "0002"

# How far a replay got: the places of the feed behind after_position up to end_position are still to be gone through.
_REPLAY = """
CREATE TABLE events.replay (
  tenant_id      text        NOT NULL,
  consumer       text        NOT NULL,
  generation     int         NOT NULL CHECK (generation > 0),
  start_at       timestamptz NOT NULL,
  end_at         timestamptz NOT NULL,
  subjects       text[]      NOT NULL,
  after_position bigint      NOT NULL,
  end_position   bigint      NOT NULL,
  event_count    bigint      NOT NULL DEFAULT 0,
  requested_by   text        NOT NULL,
  created_at     timestamptz NOT NULL,
  ended_at       timestamptz,
  PRIMARY KEY (tenant_id, consumer, generation)
)
"""


def upgrade() -> None:
    """Make them."""
    op.execute(_REPLAY)
    schema.protect(op, "events", "replay", privileges=("SELECT", "INSERT", "UPDATE"))


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TABLE events.replay")
