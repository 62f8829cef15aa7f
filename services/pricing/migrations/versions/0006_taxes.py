"""Tax rates, tax profiles of organisations, and tax policies."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0006"
down_revision = "0005"

_RATE = """
CREATE TABLE pricing.tax_rate (
  tenant_id    text           NOT NULL,
  jurisdiction text           NOT NULL,
  tax          text           NOT NULL,
  tax_code     text           NOT NULL,
  effective_at timestamptz    NOT NULL,
  treatment    text           NOT NULL,
  rate_percent numeric(38,18) CHECK (rate_percent > 0 AND rate_percent <= 100),
  inclusive    boolean        NOT NULL,
  compound     boolean        NOT NULL,
  position     integer        NOT NULL,
  authority    text           NOT NULL,
  reason       text           NOT NULL,
  PRIMARY KEY (tenant_id, jurisdiction, tax, tax_code, effective_at),
  CHECK ((treatment = 'TAX_TREATMENT_TAXED') = (rate_percent IS NOT NULL))
)
"""
_PROFILE = """
CREATE TABLE pricing.tax_profile (
  tenant_id      text        NOT NULL,
  org_id         text        NOT NULL,
  effective_at   timestamptz NOT NULL,
  country        text        NOT NULL,
  region         text        NOT NULL,
  tax_id         text        NOT NULL,
  reverse_charge boolean     NOT NULL,
  exemptions     jsonb       NOT NULL,
  PRIMARY KEY (tenant_id, org_id, effective_at),
  CHECK (NOT reverse_charge OR tax_id <> '')
)
"""
_POLICY = """
CREATE TABLE pricing.tax_policy (
  tenant_id text NOT NULL,
  country   text NOT NULL,
  missing   text NOT NULL,
  rounding  text NOT NULL,
  PRIMARY KEY (tenant_id, country)
)
"""
_TABLES = {"tax_rate": _RATE, "tax_profile": _PROFILE, "tax_policy": _POLICY}
# Whether any rate is in force yet, and when the next one is, is asked with each rating and estimate.
_BY_TIME = "CREATE INDEX tax_rate_by_time ON pricing.tax_rate (tenant_id, effective_at)"


def upgrade() -> None:
    """Make the tables. Estimates read them, so that each change gives the catalogue another stamp."""
    for table, statement in _TABLES.items():
        op.execute(statement)
        schema.protect(op, "pricing", table, privileges=("SELECT", "INSERT", "UPDATE"))
        for event in ("INSERT", "UPDATE"):
            op.execute(
                f"CREATE TRIGGER note_{event.lower()} AFTER {event} ON pricing.{table} "
                "REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION pricing.note_change()"
            )
    op.execute(_BY_TIME)


def downgrade() -> None:
    """Remove them.

    Raises:
        RuntimeError: taxes are declared, without which the release before would bill less than is owed.
    """
    counts = " + ".join(f"(SELECT count(*) FROM pricing.{table})" for table in _TABLES)
    if declared := op.get_bind().exec_driver_sql(f"SELECT {counts}").scalar_one():
        raise RuntimeError(
            f"{declared} tax rates, profiles and policies are declared, which the release before does not know: it"
            " cannot be gone back to without them"
        )
    op.execute("DROP TABLE " + ", ".join(f"pricing.{table}" for table in _TABLES))
