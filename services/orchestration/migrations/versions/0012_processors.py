"""Processors of a merchant's own stand in its configuration."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0015"


def upgrade() -> None:
    """Versions that stand have none."""
    op.execute(
        "ALTER TABLE orchestration.merchant_config ADD COLUMN processors jsonb NOT NULL DEFAULT '[]'"
    )


def downgrade() -> None:
    """Drop them."""
    op.execute("ALTER TABLE orchestration.merchant_config DROP COLUMN processors")
