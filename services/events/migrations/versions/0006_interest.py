"""Only tenants with webhook endpoints are of interest to the consumer that makes deliveries for them."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

_CONSUMER = "events.webhooks"


def upgrade() -> None:
    """Note the tenants that have endpoints, and from now on whoever makes one."""
    op.execute(
        "INSERT INTO mesh.interest (tenant_id, consumer)"
        f" SELECT DISTINCT tenant_id, '{_CONSUMER}' FROM events.webhook_endpoint"
    )
    op.execute(
        "CREATE TRIGGER note_interest AFTER INSERT ON events.webhook_endpoint"
        f" FOR EACH ROW EXECUTE FUNCTION mesh.note_interest('{_CONSUMER}')"
    )


def downgrade() -> None:
    """Drop the trigger."""
    op.execute("DROP TRIGGER note_interest ON events.webhook_endpoint")
    op.execute(f"DELETE FROM mesh.interest WHERE consumer = '{_CONSUMER}'")
