"""The books of the sandbox processors, as SQLAlchemy Core sees them."""

from __future__ import annotations

import sqlalchemy as sa

from services.orchestration.tables import METADATA

SANDBOX_ORDER = sa.Table(
    "sandbox_order",
    METADATA,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("processor_id", sa.Text, primary_key=True),
    sa.Column("idempotency_key", sa.Text, primary_key=True),
    sa.Column("merchant_ref", sa.Text),
    sa.Column("operation", sa.Text),
    sa.Column("charge_key", sa.Text),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("currency", sa.Text),
    sa.Column("token", sa.Text),
    sa.Column("done", sa.Boolean),
    sa.Column("error_code", sa.Text),
    sa.Column("failure_code", sa.Text),
    sa.Column("retryable", sa.Boolean),
    sa.Column("provider_ref", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("created_at", sa.DateTime(timezone=True)),
)
