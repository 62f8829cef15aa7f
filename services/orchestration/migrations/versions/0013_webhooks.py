"""What processors told by themselves, so that the same word is taken once."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0013"
down_revision = "0018"

_EVENT = """
CREATE TABLE orchestration.processor_event (
  tenant_id    text        NOT NULL,
  processor_id text        NOT NULL,
  event_id     text        NOT NULL CHECK (length(event_id) BETWEEN 1 AND 255),
  -- What it was about; empty for nothing of ours.
  attempt_id   text        NOT NULL,
  received_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, processor_id, event_id)
)
"""


def upgrade() -> None:
    """Make room for them."""
    op.execute(_EVENT)
    op.execute(
        "CREATE INDEX processor_event_over ON orchestration.processor_event (tenant_id, received_at)"
    )
    schema.protect(op, "orchestration", "processor_event", privileges=schema.ALL)
    op.execute(
        "CREATE INDEX merchant_config_processors ON orchestration.merchant_config"
        " USING gin (processors jsonb_path_ops)"
    )


def downgrade() -> None:
    """Forget them."""
    op.execute("DROP INDEX orchestration.merchant_config_processors")
    op.execute("DROP TABLE orchestration.processor_event")
