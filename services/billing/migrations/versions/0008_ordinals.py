"""A charge keeps the ordinal of the usage that it saw."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add it. Charges from before have none: metering knows which usage they saw, by their closed periods."""
    op.execute(
        "ALTER TABLE billing.charge ADD COLUMN usage_ordinal bigint CHECK (usage_ordinal >= 0)"
    )


def downgrade() -> None:
    """Drop it."""
    op.execute("ALTER TABLE billing.charge DROP COLUMN usage_ordinal")
