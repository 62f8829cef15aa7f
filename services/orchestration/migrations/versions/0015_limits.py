"""Limits of a merchant's configuration, and what is counted against them in sliding windows."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0015"
down_revision = "0010"

_VELOCITY = """
CREATE TABLE orchestration.velocity (
  tenant_id    text        NOT NULL,
  merchant_id  text        NOT NULL,
  scope        text        NOT NULL CHECK (scope IN ('PAYER', 'MERCHANT', 'INSTRUMENT')),
  -- A payer's id, or the digest of an instrument's token; empty for the merchant.
  subject      text        NOT NULL,
  slot_s       integer     NOT NULL CHECK (slot_s >= 1),
  slot_at      timestamptz NOT NULL,
  currency     text        NOT NULL,
  payments     bigint      NOT NULL CHECK (payments >= 1),
  amount_minor numeric(30) NOT NULL CHECK (amount_minor >= 1),
  expires_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, merchant_id, scope, subject, slot_s, slot_at, currency)
)
"""


def upgrade() -> None:
    """Make room for them."""
    op.execute(
        "ALTER TABLE orchestration.merchant_config ADD COLUMN limits jsonb NOT NULL DEFAULT '[]'"
    )
    op.execute(_VELOCITY)
    op.execute("CREATE INDEX velocity_over ON orchestration.velocity (tenant_id, expires_at)")
    schema.protect(op, "orchestration", "velocity", privileges=schema.ALL)


def downgrade() -> None:
    """Forget them."""
    op.execute("DROP TABLE orchestration.velocity")
    op.execute("ALTER TABLE orchestration.merchant_config DROP COLUMN limits")
