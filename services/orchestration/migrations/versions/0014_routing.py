"""Routing of a merchant's configuration, and the hash of what was planned with it."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0009"


def upgrade() -> None:
    """Make room for them; versions and payments of earlier releases have none."""
    op.execute(
        "ALTER TABLE orchestration.merchant_config ADD COLUMN routing jsonb NOT NULL DEFAULT '{}'"
    )
    op.execute("ALTER TABLE orchestration.payment ADD COLUMN plan_hash text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """Forget them."""
    op.execute("ALTER TABLE orchestration.payment DROP COLUMN plan_hash")
    op.execute("ALTER TABLE orchestration.merchant_config DROP COLUMN routing")
