"""Charges and their lines."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0001"
down_revision = None

# Contributed and trusted: who may create in the database may install it. It lets text stand in an exclusion constraint.
_EXTENSION = "CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA billing"

# The exclusion constraint is the rule "two charges of one organisation never overlap in time", kept by Postgres.
_CHARGE = """
CREATE TABLE billing.charge (
  tenant_id           text        NOT NULL,
  charge_id           text        NOT NULL,
  org_id              text        NOT NULL,
  start_at            timestamptz NOT NULL,
  end_at              timestamptz NOT NULL,
  currency_code       text        NOT NULL,
  total_minor         bigint      NOT NULL,
  partner_total_minor bigint      NOT NULL,
  status              smallint    NOT NULL CHECK (status IN (1, 2)),
  plan_id             text        NOT NULL,
  plan_version        integer     NOT NULL,
  usage_snapshot      text        NOT NULL,
  line_count          integer     NOT NULL CHECK (line_count >= 0),
  posting_round       integer     NOT NULL CHECK (posting_round > 0),
  created_at          timestamptz NOT NULL,
  settled_at          timestamptz,
  resume_at           timestamptz,
  resume_tries        integer     NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, charge_id),
  CHECK (start_at < end_at),
  CHECK ((status = 2) = (settled_at IS NOT NULL)),
  CONSTRAINT charge_overlap EXCLUDE USING gist
    (tenant_id WITH =, org_id WITH =, tstzrange(start_at, end_at) WITH &&)
)
"""
_BY_ORG = "CREATE INDEX charge_by_org ON billing.charge (tenant_id, org_id, start_at DESC, charge_id DESC)"
_BY_PERIOD = (
    "CREATE INDEX charge_by_period ON billing.charge (tenant_id, start_at DESC, charge_id DESC)"
)
_TO_RESUME = "CREATE INDEX charge_to_resume ON billing.charge (resume_at) WHERE status = 1"

_LINE = """
CREATE TABLE billing.charge_line (
  tenant_id            text           NOT NULL,
  charge_id            text           NOT NULL,
  line_no              integer        NOT NULL CHECK (line_no > 0),
  sku                  text           NOT NULL,
  project_id           text           NOT NULL,
  quantity             numeric(38,18) NOT NULL,
  exact_amount         numeric(38,18) NOT NULL,
  amount_minor         bigint         NOT NULL,
  partner_id           text           NOT NULL,
  partner_pct          numeric(38,18),
  partner_amount_minor bigint         NOT NULL,
  proof                bytea          NOT NULL,
  PRIMARY KEY (tenant_id, charge_id, line_no),
  FOREIGN KEY (tenant_id, charge_id) REFERENCES billing.charge
)
"""

# The sweep looks for what is due before it knows for whom, so this runs as the owner and tells names of tenants only.
_TENANTS_TO_RESUME = """
CREATE FUNCTION billing.tenants_to_resume(tenants_max integer) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT DISTINCT c.tenant_id FROM billing.charge c
   WHERE c.status = 1 AND c.resume_at <= clock_timestamp()
   LIMIT tenants_max;
END
"""


def upgrade() -> None:
    """Create the tables. Lines are frozen: services may not update or delete them."""
    for statement in (
        _EXTENSION,
        _CHARGE,
        _BY_ORG,
        _BY_PERIOD,
        _TO_RESUME,
        _LINE,
        _TENANTS_TO_RESUME,
    ):
        op.execute(statement)
    schema.protect(op, "billing", "charge", privileges=("SELECT", "INSERT", "UPDATE"))
    schema.protect(op, "billing", "charge_line", privileges=schema.APPEND_ONLY)
    service = schema.role_names(op).service
    op.execute("REVOKE ALL ON FUNCTION billing.tenants_to_resume(integer) FROM PUBLIC")
    op.execute(f'GRANT EXECUTE ON FUNCTION billing.tenants_to_resume(integer) TO "{service}"')


def downgrade() -> None:
    """Drop the charges."""
    op.execute("DROP FUNCTION billing.tenants_to_resume(integer)")
    op.execute("DROP TABLE billing.charge_line")
    op.execute("DROP TABLE billing.charge")
    op.execute("DROP EXTENSION btree_gist")
