"""SKUs, plans with their published price lists, who is on which plan, partners and their rates."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

_SKU = """
CREATE TABLE pricing.sku (
  tenant_id   text           NOT NULL,
  sku         text           NOT NULL,
  type        text           NOT NULL,
  unit        text           NOT NULL,
  aggregation text           NOT NULL,
  cost        numeric(38,18) CHECK (cost >= 0),
  retail      numeric(38,18) CHECK (retail >= 0),
  tax_code    text           NOT NULL,
  metadata    jsonb          NOT NULL,
  PRIMARY KEY (tenant_id, sku)
)
"""

_BUSINESS_MODEL = """
CREATE TABLE pricing.business_model (
  tenant_id       text    NOT NULL,
  model_id        text    NOT NULL,
  code            text    NOT NULL,
  name            text    NOT NULL,
  status          text    NOT NULL,
  version         integer NOT NULL,
  currency_code   text    NOT NULL,
  default_plan_id text    NOT NULL,
  PRIMARY KEY (tenant_id, model_id)
)
"""

_ORG_BUSINESS_MODEL = """
CREATE TABLE pricing.org_business_model (
  tenant_id   text NOT NULL,
  org_id      text NOT NULL,
  model_id    text NOT NULL,
  plan_id     text NOT NULL,
  assigned_by text NOT NULL,
  assigned_at timestamptz,
  notes       text NOT NULL,
  PRIMARY KEY (tenant_id, org_id),
  FOREIGN KEY (tenant_id, model_id) REFERENCES pricing.business_model
)
"""

_PLAN = """
CREATE TABLE pricing.plan (
  tenant_id text    NOT NULL,
  plan_id   text    NOT NULL,
  model_id  text    NOT NULL,
  name      text    NOT NULL,
  tier      text    NOT NULL,
  status    text    NOT NULL,
  notes     text    NOT NULL,
  version   integer NOT NULL,
  PRIMARY KEY (tenant_id, plan_id)
)
"""

# What is published stays: services may add versions and prices, never change or remove one.
_PLAN_VERSION = """
CREATE TABLE pricing.plan_version (
  tenant_id     text        NOT NULL,
  plan_id       text        NOT NULL,
  version       integer     NOT NULL CHECK (version > 0),
  currency_code text        NOT NULL,
  effective_at  timestamptz NOT NULL,
  published_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, plan_id, version),
  FOREIGN KEY (tenant_id, plan_id) REFERENCES pricing.plan
)
"""

_PLAN_PRICE = """
CREATE TABLE pricing.plan_price (
  tenant_id text    NOT NULL,
  plan_id   text    NOT NULL,
  version   integer NOT NULL,
  sku       text    NOT NULL,
  price     jsonb   NOT NULL,
  PRIMARY KEY (tenant_id, plan_id, version, sku),
  FOREIGN KEY (tenant_id, plan_id, version) REFERENCES pricing.plan_version,
  FOREIGN KEY (tenant_id, sku) REFERENCES pricing.sku
)
"""

_ENTITLEMENT = """
CREATE TABLE pricing.entitlement (
  tenant_id    text        NOT NULL,
  org_id       text        NOT NULL,
  effective_at timestamptz NOT NULL,
  plan_id      text        NOT NULL,
  overrides    jsonb       NOT NULL,
  PRIMARY KEY (tenant_id, org_id, effective_at),
  FOREIGN KEY (tenant_id, plan_id) REFERENCES pricing.plan
)
"""

_PARTNER = """
CREATE TABLE pricing.partner (
  tenant_id  text NOT NULL,
  partner_id text NOT NULL,
  name       text NOT NULL,
  tier       text NOT NULL,
  PRIMARY KEY (tenant_id, partner_id)
)
"""

_PARTNER_OF_RECORD = """
CREATE TABLE pricing.partner_of_record (
  tenant_id  text        NOT NULL,
  org_id     text        NOT NULL,
  partner_id text        NOT NULL,
  start_at   timestamptz NOT NULL,
  end_at     timestamptz CHECK (end_at > start_at),
  status     text        NOT NULL,
  PRIMARY KEY (tenant_id, org_id, partner_id, start_at),
  FOREIGN KEY (tenant_id, partner_id) REFERENCES pricing.partner
)
"""

_COMMISSION_RATE = """
CREATE TABLE pricing.commission_rate (
  tenant_id    text           NOT NULL,
  partner_tier text           NOT NULL,
  sku          text           NOT NULL,
  pct          numeric(38,18) NOT NULL CHECK (pct BETWEEN 0 AND 100),
  PRIMARY KEY (tenant_id, partner_tier, sku)
)
"""

_CHANGEABLE = {
    "sku": _SKU,
    "business_model": _BUSINESS_MODEL,
    "org_business_model": _ORG_BUSINESS_MODEL,
    "plan": _PLAN,
    "entitlement": _ENTITLEMENT,
    "partner": _PARTNER,
    "partner_of_record": _PARTNER_OF_RECORD,
    "commission_rate": _COMMISSION_RATE,
}
_PUBLISHED = {"plan_version": _PLAN_VERSION, "plan_price": _PLAN_PRICE}


def upgrade() -> None:
    """Make the tables."""
    for table, statement in {**_CHANGEABLE, **_PUBLISHED}.items():
        op.execute(statement)
        append_only = table in _PUBLISHED
        privileges = schema.APPEND_ONLY if append_only else ("SELECT", "INSERT", "UPDATE")
        schema.protect(op, "pricing", table, privileges=privileges)
    op.execute("CREATE INDEX plan_of_model ON pricing.plan (tenant_id, model_id)")
    op.execute(
        "CREATE UNIQUE INDEX business_model_code ON pricing.business_model (tenant_id, code)"
    )


def downgrade() -> None:
    """Remove them."""
    tables = [*_PUBLISHED, *_CHANGEABLE]
    op.execute("DROP TABLE " + ", ".join(f"pricing.{table}" for table in tables))
