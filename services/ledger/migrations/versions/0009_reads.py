"""Transfers by the time of recording, entries of an account by when they take effect."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0005"

# The first grows at its right end only, as batches come; so does the second, account by account, but for what is
# backdated.
_INDEXES = (
    "CREATE INDEX transfer_by_time ON ledger.transfer (tenant_id, recorded_at, batch_no, position)",
    "CREATE INDEX entry_by_effective ON ledger.entry (tenant_id, account_id, effective_at, seq)",
)


def upgrade() -> None:
    """Create the indexes, in all months and in those to come."""
    for statement in _INDEXES:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; no row changes."""
    op.execute("DROP INDEX ledger.entry_by_effective")
    op.execute("DROP INDEX ledger.transfer_by_time")
