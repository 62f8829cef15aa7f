"""What stored usage takes, for whoever watches an installation."""

from __future__ import annotations

from alembic import op

from services.runtime.postgres import schema

revision = "0016"
down_revision = "0015"

# Sizes and bounds, nothing of what is stored. The rest is counted up to a number that is too many anyway.
_STORAGE = """
CREATE FUNCTION metering.usage_storage(
  OUT partitions integer, OUT seen_at timestamptz, OUT until_at timestamptz, OUT event_bytes bigint,
  OUT id_bytes bigint, OUT strays bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT (SELECT count(*)::integer FROM metering.usage_partitions()),
         now(),
         (SELECT to_timestamp(('x' || lpad(left(replace(last.until_id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint
                              / 1000.0)
            FROM metering.usage_partitions() AS last ORDER BY last.until_id DESC LIMIT 1),
         (SELECT sum(pg_total_relation_size(i.inhrelid))::bigint FROM pg_inherits AS i
           WHERE i.inhparent = 'metering.usage_event'::regclass),
         pg_total_relation_size('metering.usage_key'),
         (SELECT count(*) FROM (SELECT FROM metering.usage_event_rest LIMIT 100000) AS stray)
$$
"""


def upgrade() -> None:
    """Make the function."""
    op.execute(_STORAGE)
    schema.grant_function(op, "metering.usage_storage()")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP FUNCTION metering.usage_storage()")
