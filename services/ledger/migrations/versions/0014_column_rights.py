"""Of sums, marks, periods and monitors, too, the service changes what changes and never whose it is."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0014"
down_revision = "0013"

_CHANGING = {
    "account_day": "debits, credits, first_seq, last_seq",
    "account_mark": "summed_seq",
    "period": "closed_through, reason, updated_at",
    "monitor": (
        "account_id, account_prefix, side, comparison, currency_code, threshold_minor, description,"
        " updated_at"
    ),
}


def upgrade() -> None:
    """Leave the service the columns that it changes."""
    service = _service()
    for table, columns in _CHANGING.items():
        op.execute(f"REVOKE UPDATE ON ledger.{table} FROM {service}")
        op.execute(f"GRANT UPDATE ({columns}) ON ledger.{table} TO {service}")


def downgrade() -> None:
    """Give all of them back."""
    service = _service()
    for table, columns in _CHANGING.items():
        op.execute(f"REVOKE UPDATE ({columns}) ON ledger.{table} FROM {service}")
        op.execute(f"GRANT UPDATE ON ledger.{table} TO {service}")


def _service() -> str:
    return '"' + schema.role_names(op).service.replace('"', '""') + '"'
