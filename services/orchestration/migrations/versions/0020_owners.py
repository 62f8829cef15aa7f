"""Whose processor an attempt was made at: two merchants may call their own by the same name."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"

_OF_PROCESSOR = """
CREATE INDEX attempt_of_owned_processor ON orchestration.attempt (tenant_id, processor_id, processor_of, created_at)
 WHERE operation IN ('CHARGE', 'AUTHORIZE')
"""
_BEFORE = """
CREATE INDEX attempt_of_processor ON orchestration.attempt (tenant_id, processor_id, created_at)
 WHERE operation IN ('CHARGE', 'AUTHORIZE')
"""


def upgrade() -> None:
    """Attempts that stand count for nobody's own processor: how they fared is over within a day."""
    op.execute("ALTER TABLE orchestration.attempt ADD COLUMN processor_of text NOT NULL DEFAULT ''")
    op.execute(_OF_PROCESSOR)
    op.execute("DROP INDEX orchestration.attempt_of_processor")


def downgrade() -> None:
    """Forget it."""
    op.execute(_BEFORE)
    op.execute("DROP INDEX orchestration.attempt_of_owned_processor")
    op.execute("ALTER TABLE orchestration.attempt DROP COLUMN processor_of")
