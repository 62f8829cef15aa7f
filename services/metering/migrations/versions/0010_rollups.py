"""Usage rolled up by quarter of an hour and hour, behind ingest by a known ordinal."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0010"
down_revision = "0009"

# One series of a bucket is what a project used with one combination of values. `series` stands for both in the key:
# sixteen bytes, however long the values are. What nothing of is left in a bucket stays as a row of zero events: it says
# that the bucket was another one before `last_ordinal`.
_ROLLUP = """
CREATE TABLE metering.usage_rollup (
  bucket_at      timestamptz      NOT NULL,
  first_event_at timestamptz,
  last_event_at  timestamptz,
  event_count    bigint           NOT NULL CHECK (event_count >= 0),
  last_ordinal   bigint           NOT NULL CHECK (last_ordinal > 0),
  series         uuid             NOT NULL,
  generation     integer          NOT NULL,
  minutes        smallint         NOT NULL CHECK (minutes IN (15, 60)),
  tenant_id      text COLLATE "C" NOT NULL,
  org_id         text COLLATE "C" NOT NULL,
  sku            text COLLATE "C" NOT NULL,
  project_id     text COLLATE "C" NOT NULL,
  group_values   text[] COLLATE "C" NOT NULL,
  quantity       numeric          NOT NULL,
  smallest       numeric,
  largest        numeric,
  latest         numeric,
  PRIMARY KEY (tenant_id, generation, org_id, sku, minutes, bucket_at, series),
  CHECK ((event_count > 0) = (num_nonnulls(smallest, largest, latest, first_event_at, last_event_at) = 5)),
  CHECK ((event_count = 0) = (num_nulls(smallest, largest, latest, first_event_at, last_event_at) = 5))
)
WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)
"""
_STATE = """
CREATE TABLE metering.rollup_state (
  tenant_id         text COLLATE "C" NOT NULL PRIMARY KEY,
  generation        integer          NOT NULL CHECK (generation >= oldest_generation),
  oldest_generation integer          NOT NULL,
  rolled_ordinal    bigint           NOT NULL CHECK (rolled_ordinal >= 0),
  group_keys        text[]           NOT NULL
)
WITH (fillfactor = 50)
"""
# Hours of which an event was taken out: nothing of them is read until they are rolled up anew.
_STALE = """
CREATE TABLE metering.rollup_stale (
  hour_at   timestamptz      NOT NULL,
  tenant_id text COLLATE "C" NOT NULL,
  org_id    text COLLATE "C" NOT NULL,
  sku       text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, org_id, sku, hour_at)
)
"""
# Tenants behind one whose rollups have something left to do.
_UNROLLED = """
CREATE FUNCTION metering.unrolled(p_after text, p_tenants integer, OUT tenant_id text)
RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT c.tenant_id FROM metering.receipt_counter c
    LEFT JOIN metering.rollup_state s ON s.tenant_id = c.tenant_id
    LEFT JOIN metering.ingest_settings i ON i.tenant_id = c.tenant_id
   WHERE c.tenant_id > p_after COLLATE "C" AND c.last_ordinal > 0
     AND (s.tenant_id IS NULL OR s.rolled_ordinal < c.last_ordinal OR s.oldest_generation < s.generation
          OR s.group_keys <> coalesce(i.rollup_keys, '{}')
          OR EXISTS (SELECT FROM metering.rollup_stale r WHERE r.tenant_id = c.tenant_id))
   ORDER BY c.tenant_id LIMIT p_tenants;
END
"""


def upgrade() -> None:
    """Make the tables. What is stored already is rolled up behind the upgrade, from the first receipt on."""
    for statement in (_ROLLUP, _STATE, _STALE):
        op.execute(statement)
    for table in ("usage_rollup", "rollup_state", "rollup_stale"):
        schema.protect(op, "metering", table)
    op.execute(
        "ALTER TABLE metering.ingest_settings ADD COLUMN rollup_keys text[] NOT NULL DEFAULT '{}'"
        " CHECK (cardinality(rollup_keys) <= 4)"
    )
    op.execute(f"GRANT UPDATE (rollup_keys) ON metering.ingest_settings TO {_service()}")
    op.execute(_UNROLLED)
    schema.grant_function(op, "metering.unrolled(text, integer)")


def downgrade() -> None:
    """Drop them: all of it follows from the events."""
    op.execute("DROP FUNCTION metering.unrolled(text, integer)")
    for table in ("rollup_stale", "rollup_state", "usage_rollup"):
        op.execute(f"DROP TABLE metering.{table}")
    op.execute("ALTER TABLE metering.ingest_settings DROP COLUMN rollup_keys")


def _service() -> str:
    return '"' + schema.role_names(op).service.replace('"', '""') + '"'
