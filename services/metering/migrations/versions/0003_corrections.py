"""What an adjustment has billed is late no more, and a charge that was taken back closes nothing."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Let the service move a closing on, and take it back."""
    service = schema.role_names(op).service
    op.execute(f'GRANT UPDATE (usage_snapshot), DELETE ON metering.closed_period TO "{service}"')
    op.execute(f'GRANT DELETE ON metering.late_event TO "{service}"')
    # Deleting a closing looks for what is late by it.
    op.execute(
        "CREATE INDEX late_event_by_charge ON metering.late_event (tenant_id, charge_id, event_key)"
    )


def downgrade() -> None:
    """Take the rights back. What was adjusted or taken back stays so."""
    op.execute("DROP INDEX metering.late_event_by_charge")
    service = schema.role_names(op).service
    op.execute(f'REVOKE DELETE ON metering.late_event FROM "{service}"')
    op.execute(f'REVOKE UPDATE (usage_snapshot), DELETE ON metering.closed_period FROM "{service}"')
