"""A partner of record may be disputed: why, with which evidence, and how that ended."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make room for it; each dispute is about one record."""
    op.execute("ALTER TABLE pricing.partner_of_record ADD COLUMN IF NOT EXISTS dispute jsonb")
    op.execute(
        "CREATE UNIQUE INDEX partner_of_record_dispute"
        " ON pricing.partner_of_record (tenant_id, (dispute ->> 'dispute_id'))"
    )


def downgrade() -> None:
    """Take the room away where nothing is disputed; else a later upgrade finds it again."""
    op.execute("DROP INDEX pricing.partner_of_record_dispute")
    query = "SELECT EXISTS (SELECT FROM pricing.partner_of_record WHERE dispute IS NOT NULL)"
    if not op.get_bind().exec_driver_sql(query).scalar_one():
        op.execute("ALTER TABLE pricing.partner_of_record DROP COLUMN dispute")
