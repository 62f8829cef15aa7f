"""Transfers in the order of time, by an index that no search for one transfer can take for the primary key."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Leave the index to statements that say they want batches, which all transfers are in.

    Where the planner knows little of a table, the index of times seemed to find one transfer as well as the primary key
    does: each of a batch was then looked for among all of the batch, which have one time.
    """
    op.execute("DROP INDEX ledger.transfer_by_time")
    op.execute(
        "CREATE INDEX transfer_by_time ON ledger.transfer (tenant_id, recorded_at, batch_no, position)"
        " WHERE batch_no >= 0"
    )


def downgrade() -> None:
    """Offer it to all statements again; no row changes."""
    op.execute("DROP INDEX ledger.transfer_by_time")
    op.execute(
        "CREATE INDEX transfer_by_time ON ledger.transfer (tenant_id, recorded_at, batch_no, position)"
    )
