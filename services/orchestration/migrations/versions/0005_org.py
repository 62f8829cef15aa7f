"""The organisation whose debt a payment pays. Payments of earlier releases name none."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column. With a default the table is not rewritten, and a process of the release before can go on.

    Payments name an organisation already when the column was there before and dropped.
    """
    op.execute("ALTER TABLE orchestration.payment ADD COLUMN org_id text NOT NULL DEFAULT ''")
    op.execute(
        "UPDATE orchestration.payment SET org_id = context ->> 'org_id' WHERE context ->> 'org_id' <> ''"
    )


def downgrade() -> None:
    """Drop the column. What was understood of the request goes on naming the organisation."""
    op.execute("ALTER TABLE orchestration.payment DROP COLUMN org_id")
