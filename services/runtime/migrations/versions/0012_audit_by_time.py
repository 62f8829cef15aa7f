"""The audit trail is read by time."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make its index."""
    op.execute("CREATE INDEX audit_by_time ON mesh.audit (tenant_id, recorded_at, audit_id)")


def downgrade() -> None:
    """Remove it."""
    op.execute("DROP INDEX mesh.audit_by_time")
