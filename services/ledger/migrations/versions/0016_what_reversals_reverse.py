"""What a reversal takes back is found by the reversal too."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Index it: whoever takes a reversal back takes again of what that one had given back."""
    op.execute("CREATE INDEX reversal_by_transfer ON ledger.reversal (tenant_id, transfer_id)")


def downgrade() -> None:
    """Leave the index; no row changes."""
    op.execute("DROP INDEX ledger.reversal_by_transfer")
