"""Billing accounts pay for organisations, and may have a partner that earns on all of them."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0007"
down_revision = "0006"

_ORG = """
CREATE TABLE pricing.billing_account_org (
  tenant_id          text        NOT NULL,
  org_id             text        NOT NULL,
  billing_account_id text        NOT NULL,
  start_at           timestamptz NOT NULL,
  end_at             timestamptz CHECK (end_at > start_at),
  PRIMARY KEY (tenant_id, org_id, billing_account_id, start_at)
)
"""
_PARTNER = """
CREATE TABLE pricing.billing_account_partner (
  tenant_id          text        NOT NULL,
  billing_account_id text        NOT NULL,
  partner_id         text        NOT NULL,
  start_at           timestamptz NOT NULL,
  end_at             timestamptz CHECK (end_at > start_at),
  status             text        NOT NULL,
  PRIMARY KEY (tenant_id, billing_account_id, partner_id, start_at),
  FOREIGN KEY (tenant_id, partner_id) REFERENCES pricing.partner
)
"""
_TABLES = {"billing_account_org": _ORG, "billing_account_partner": _PARTNER}


def upgrade() -> None:
    """Make the tables."""
    for table, statement in _TABLES.items():
        op.execute(statement)
        schema.protect(op, "pricing", table, privileges=("SELECT", "INSERT", "UPDATE"))


def downgrade() -> None:
    """Drop them: each organisation's own partner earns then."""
    for table in reversed(_TABLES):
        op.execute(f"DROP TABLE pricing.{table}")
