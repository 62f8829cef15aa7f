"""Every state of a tenant's catalogue has a stamp, so that what was computed from one is not shown for another."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0004"
down_revision = "0003"

_STAMP = """
CREATE TABLE pricing.catalog_stamp (
  tenant_id  text   NOT NULL,
  stamp      bigint NOT NULL,
  changed_in xid8   NOT NULL,
  PRIMARY KEY (tenant_id)
)
"""
# By a trigger, so that no writer forgets it. Once a transaction: a large declaration writes row by row.
_NOTE = """
CREATE FUNCTION pricing.note_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  INSERT INTO pricing.catalog_stamp AS s (tenant_id, stamp, changed_in)
  SELECT DISTINCT c.tenant_id, 1, pg_current_xact_id() FROM changed c
      ON CONFLICT (tenant_id) DO UPDATE SET stamp = s.stamp + 1, changed_in = excluded.changed_in
   WHERE s.changed_in <> excluded.changed_in;
  RETURN NULL;
END
$body$
"""
# What estimates read; partners earn on charges only.
_READ = (
    "sku",
    "business_model",
    "org_business_model",
    "plan",
    "plan_version",
    "plan_price",
    "entitlement",
)


def upgrade() -> None:
    """Let writes be noted from now on."""
    op.execute(_STAMP)
    schema.protect(op, "pricing", "catalog_stamp", privileges=("SELECT", "INSERT", "UPDATE"))
    op.execute(_NOTE)
    for table in _READ:
        for event in ("INSERT", "UPDATE"):
            op.execute(
                f"CREATE TRIGGER note_{event.lower()} AFTER {event} ON pricing.{table} "
                "REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION pricing.note_change()"
            )


def downgrade() -> None:
    """Remove it all."""
    for table in _READ:
        for event in ("insert", "update"):
            op.execute(f"DROP TRIGGER note_{event} ON pricing.{table}")
    op.execute("DROP FUNCTION pricing.note_change()")
    op.execute("DROP TABLE pricing.catalog_stamp")
