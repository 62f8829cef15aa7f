"""What a payment does later belongs to the trace of the call that made it."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column, with a default: a process of the release before can go on."""
    op.execute("ALTER TABLE orchestration.payment ADD COLUMN traceparent text NOT NULL DEFAULT ''")
    schema.drop_queue(op, "orchestration")
    schema.queue(op, "orchestration", "payment", "payment_id", traced=True)


def downgrade() -> None:
    """Drop the column."""
    schema.drop_queue(op, "orchestration")
    op.execute("ALTER TABLE orchestration.payment DROP COLUMN traceparent")
    schema.queue(op, "orchestration", "payment", "payment_id")
