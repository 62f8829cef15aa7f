"""Tables of schema orchestration, as SQLAlchemy Core sees them; the migrations hold the constraints."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

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
    sa.Column("created_at", _TIME),
    sa.Column("created_by", sa.Text),
)

PAYMENT = sa.Table(
    "payment",
    METADATA,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("payment_id", sa.Text, primary_key=True),
    sa.Column("request_key", UUID(as_uuid=False)),
    sa.Column("merchant_id", sa.Text),
    sa.Column("order_id", sa.Text),
    sa.Column("person_id", sa.Text),
    sa.Column("org_id", sa.Text),
    sa.Column("currency", sa.Text),
    sa.Column("total_minor", sa.BigInteger),
    sa.Column("context", JSONB),
    sa.Column("plan_id", sa.Text),
    sa.Column("config_version", sa.Integer),
    sa.Column("status", sa.Text),
    sa.Column("correlation_id", sa.Text),
    sa.Column("causation_id", sa.Text),
    sa.Column("due_at", _TIME),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until", _TIME),
    sa.Column("epoch", sa.BigInteger),
    sa.Column("created_at", _TIME),
    sa.Column("updated_at", _TIME),
)

STEP = sa.Table(
    "step",
    METADATA,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("payment_id", sa.Text, primary_key=True),
    sa.Column("step_index", sa.Integer, primary_key=True),
    sa.Column("method", sa.Text),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("processors", ARRAY(sa.Text)),
    sa.Column("token", sa.Text),
)

ATTEMPT = sa.Table(
    "attempt",
    METADATA,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("attempt_id", sa.Text, primary_key=True),
    sa.Column("payment_id", sa.Text),
    sa.Column("ordinal", sa.Integer),
    sa.Column("step_index", sa.Integer),
    sa.Column("number", sa.Integer),
    sa.Column("operation", sa.Text),
    sa.Column("parent_id", sa.Text),
    sa.Column("processor_id", sa.Text),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("status", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("failure_code", sa.Text),
    sa.Column("retryable", sa.Boolean),
    sa.Column("provider_ref", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("latency_ms", sa.BigInteger),
    sa.Column("created_at", _TIME),
    sa.Column("sent_at", _TIME),
    sa.Column("settled_at", _TIME),
    sa.Column("verify_count", sa.Integer),
    sa.Column("not_found_count", sa.Integer),
    sa.Column("verify_after", _TIME),
)
