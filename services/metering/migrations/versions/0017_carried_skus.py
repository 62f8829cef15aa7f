"""Levels that hold on into the period of a charge: what sets one before the period is late for it as well."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0017"
down_revision = "0016"

# A batch asks by organisation and SKU for periods that begin behind its events: nearly always there is none.
_CARRIED_SKU = """
CREATE TABLE metering.carried_sku (
  start_at  timestamptz      NOT NULL,
  tenant_id text COLLATE "C" NOT NULL,
  org_id    text COLLATE "C" NOT NULL,
  sku       text COLLATE "C" NOT NULL,
  charge_id text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, org_id, sku, start_at, charge_id),
  FOREIGN KEY (tenant_id, charge_id) REFERENCES metering.closed_period
)
"""
_BY_CHARGE = "CREATE INDEX carried_sku_by_charge ON metering.carried_sku (tenant_id, charge_id)"

# Whether a level that an event sets has ended by an instant, as things are now: by another event of its series.
_LEVEL_ENDS = """
CREATE FUNCTION metering.level_ends(
  p_tenant_id text, p_org_id text, p_project_id text, p_sku text, p_event_time timestamptz,
  p_until_at timestamptz)
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
           SELECT FROM metering.usage_event AS event
            WHERE event.tenant_id = p_tenant_id AND event.org_id = p_org_id AND event.sku = p_sku
              AND event.event_time > p_event_time AND event.event_time <= p_until_at AND event.project_id = p_project_id
              AND NOT EXISTS (SELECT FROM metering.event_version AS version
                               WHERE version.tenant_id = p_tenant_id AND version.event_key = event.event_key))
      OR EXISTS (
           SELECT FROM metering.event_version AS event
            WHERE event.tenant_id = p_tenant_id AND event.org_id = p_org_id AND event.sku = p_sku
              AND event.event_time > p_event_time AND event.event_time <= p_until_at AND event.project_id = p_project_id
              AND NOT event.cancelled
              AND NOT EXISTS (SELECT FROM metering.event_version AS newer
                               WHERE newer.tenant_id = p_tenant_id AND newer.event_key = event.event_key
                                 AND newer.version > event.version))
$$
"""
_LEVEL_ENDS_SIGNATURE = "metering.level_ends(text, text, text, text, timestamptz, timestamptz)"


def upgrade() -> None:
    """Make them. Of charges from before, nobody told what they read as levels; adjusting one does."""
    op.execute(_CARRIED_SKU)
    op.execute(_BY_CHARGE)
    schema.protect(op, "metering", "carried_sku", privileges=(*schema.APPEND_ONLY, "DELETE"))
    op.execute(_LEVEL_ENDS)
    schema.grant_function(op, _LEVEL_ENDS_SIGNATURE)


def downgrade() -> None:
    """Drop them; what was marked as late stays marked."""
    op.execute(f"DROP FUNCTION {_LEVEL_ENDS_SIGNATURE}")
    op.execute("DROP TABLE metering.carried_sku")
