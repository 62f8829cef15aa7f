"""Transfers by the time of recording."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the index, in all months and in those to come; it grows at its right end, as batches come."""
    op.execute(
        "CREATE INDEX transfer_by_time ON ledger.transfer (tenant_id, recorded_at, batch_no, position)"
    )


def downgrade() -> None:
    """Drop it; no row changes."""
    op.execute("DROP INDEX ledger.transfer_by_time")
