"""Tables of schema orchestration, as SQLAlchemy Core sees them; the migrations hold the constraints."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

METADATA = sa.MetaData(schema="orchestration")
_TIME = sa.DateTime(timezone=True)

MERCHANT_CONFIG = sa.Table(
    "merchant_config",
    METADATA,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("merchant_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("methods", JSONB),
    sa.Column("attempts_per_processor_max", sa.Integer),
    sa.Column("call_timeout_ms", sa.Integer),
    sa.Column("partial_allowed", sa.Boolean),
    sa.Column("capture", sa.Text),
    sa.Column("processors", JSONB),
    sa.Column("routing", JSONB),
    sa.Column("limits", JSONB),
    sa.Column("split", sa.Text),
    sa.Column("backoff_ms", sa.Integer),
    sa.Column("created_at", _TIME),
    sa.Column("created_by", sa.Text),
)

# For the lists, whose filters make the statement; all others are named ones.
PAYMENT = sa.Table(
    "payment",
    METADATA,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("payment_id", sa.Text, primary_key=True),
    sa.Column("merchant_id", sa.Text),
    sa.Column("order_id", sa.Text),
    sa.Column("status", sa.Text),
)
