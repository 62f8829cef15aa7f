"""A line keeps its taxes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_TAXED = sa.text("SELECT count(*) FROM billing.charge_line WHERE taxes IS NOT NULL")


def upgrade() -> None:
    """Add them. Nothing was taxed before."""
    op.execute("ALTER TABLE billing.charge_line ADD COLUMN taxes jsonb")


def downgrade() -> None:
    """Drop them.

    Raises:
        RuntimeError: lines are taxed, which the release before would neither show nor give back.
    """
    taxed = op.get_bind().execute(_TAXED).scalar_one()
    if taxed:
        raise RuntimeError(
            f"{taxed} lines are taxed, which the release before does not know: it cannot be gone back to without them"
        )
    op.execute("ALTER TABLE billing.charge_line DROP COLUMN taxes")
