"""Routing of a merchant's configuration, the hash of what was planned with it, and how processors fared lately."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0009"

_OF_PROCESSOR = """
CREATE INDEX attempt_of_processor ON orchestration.attempt (tenant_id, processor_id, created_at)
 WHERE operation IN ('CHARGE', 'AUTHORIZE')
"""


def upgrade() -> None:
    """Make room for them; versions and payments of earlier releases have none."""
    op.execute(
        "ALTER TABLE orchestration.merchant_config ADD COLUMN routing jsonb NOT NULL DEFAULT '{}'"
    )
    op.execute("ALTER TABLE orchestration.payment ADD COLUMN plan_hash text NOT NULL DEFAULT ''")
    op.execute(_OF_PROCESSOR)


def downgrade() -> None:
    """Forget them."""
    op.execute("DROP INDEX orchestration.attempt_of_processor")
    op.execute("ALTER TABLE orchestration.payment DROP COLUMN plan_hash")
    op.execute("ALTER TABLE orchestration.merchant_config DROP COLUMN routing")
