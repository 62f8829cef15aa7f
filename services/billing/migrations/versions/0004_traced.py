"""What a charge does later belongs to the trace of the call that made it."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column, with a default: a process of the release before can go on."""
    op.execute("ALTER TABLE billing.charge ADD COLUMN traceparent text NOT NULL DEFAULT ''")
    schema.drop_queue(op, "billing")
    schema.queue(op, "billing", "charge", "charge_id", traced=True)


def downgrade() -> None:
    """Drop the column."""
    schema.drop_queue(op, "billing")
    op.execute("ALTER TABLE billing.charge DROP COLUMN traceparent")
    schema.queue(op, "billing", "charge", "charge_id")
