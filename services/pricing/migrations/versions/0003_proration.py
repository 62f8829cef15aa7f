"""How a period is rated in which an organisation moves from plan to plan: a setting of a plan's version."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_TABLES = ("plan_version", "plan_draft")


def upgrade() -> None:
    """Make room for it; plans of the release before say nothing."""
    for table in _TABLES:
        op.execute(f"ALTER TABLE pricing.{table} ADD COLUMN IF NOT EXISTS proration text")


def downgrade() -> None:
    """Take the room away where nothing is said; else a later upgrade finds it again."""
    for table in _TABLES:
        query = f"SELECT EXISTS (SELECT FROM pricing.{table} WHERE proration IS NOT NULL)"
        if not op.get_bind().exec_driver_sql(query).scalar_one():
            op.execute(f"ALTER TABLE pricing.{table} DROP COLUMN proration")
