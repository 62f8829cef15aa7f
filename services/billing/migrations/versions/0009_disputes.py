"""A line says under which dispute the partner's share is held."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_HELD = sa.text("SELECT count(*) FROM billing.charge_line WHERE dispute_id <> ''")


def upgrade() -> None:
    """Add it. Nothing was held before."""
    op.execute("ALTER TABLE billing.charge_line ADD COLUMN dispute_id text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """Drop it.

    Raises:
        RuntimeError: shares are held, which the release before would give back as the partner's.
    """
    held = op.get_bind().execute(_HELD).scalar_one()
    if held:
        raise RuntimeError(
            f"the shares of {held} lines were held under disputes, which the release before does not know: it cannot be"
            " gone back to without them"
        )
    op.execute("ALTER TABLE billing.charge_line DROP COLUMN dispute_id")
