"""What a scheduled transfer is to move does not change while it waits: of its row only how it fares does."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0012"
down_revision = "0011"

_CHANGING = "state, refusal, cancel_reason, ended_at, due_at, lease_owner, lease_until"


def upgrade() -> None:
    """Leave the service the columns that it changes."""
    service = _service()
    op.execute(f"REVOKE UPDATE ON ledger.scheduled FROM {service}")
    op.execute(f"GRANT UPDATE ({_CHANGING}) ON ledger.scheduled TO {service}")


def downgrade() -> None:
    """Give all of them back."""
    service = _service()
    op.execute(f"REVOKE UPDATE ({_CHANGING}) ON ledger.scheduled FROM {service}")
    op.execute(f"GRANT UPDATE ON ledger.scheduled TO {service}")


def _service() -> str:
    return '"' + schema.role_names(op).service.replace('"', '""') + '"'
