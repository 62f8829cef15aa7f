"""Rollups of all values together, beside those that keep the values of keys apart."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"

_KEY = "tenant_id, generation, org_id, sku, {keyed}minutes, bucket_at, series"
# From the rows that keep values apart; those of generations that count no more only wait to be deleted.
_ADD_TOTALS = """
INSERT INTO metering.usage_rollup
       (tenant_id, generation, org_id, sku, keyed, minutes, bucket_at, series, project_id, group_values, event_count,
        quantity, smallest, largest, latest, first_event_at, last_event_at, last_ordinal)
SELECT tenant_id, generation, org_id, sku, false, minutes, bucket_at,
       encode(substr(sha256(convert_to(to_json(ARRAY[project_id])::text, 'UTF8')), 1, 16), 'hex')::uuid,
       project_id, '{}', sum(event_count)::bigint, sum(quantity), min(smallest), max(largest),
       (max(CASE WHEN event_count > 0 THEN ARRAY[extract(epoch FROM last_event_at) * 1000000, latest] END))[2],
       min(first_event_at), max(last_event_at), max(last_ordinal)
  FROM metering.usage_rollup JOIN metering.rollup_state USING (tenant_id, generation)
 GROUP BY tenant_id, generation, org_id, sku, minutes, bucket_at, project_id
"""
# Where no key is named, those of all values are all that there is.
_DROP_KEYLESS = """
DELETE FROM metering.usage_rollup AS rollup USING metering.rollup_state AS state
 WHERE rollup.tenant_id = state.tenant_id AND rollup.generation = state.generation AND rollup.keyed
   AND state.group_keys = '{}'
"""
_RESTORE_KEYLESS = """
UPDATE metering.usage_rollup AS rollup
   SET keyed = true, group_values = ARRAY[NULL, NULL, NULL, NULL]::text[],
       series = encode(substr(sha256(convert_to(to_json(project_id || ARRAY[NULL, NULL, NULL, NULL]::text[])::text,
                                                'UTF8')), 1, 16), 'hex')::uuid
  FROM metering.rollup_state AS state
 WHERE rollup.tenant_id = state.tenant_id AND rollup.generation = state.generation AND NOT rollup.keyed
   AND state.group_keys = '{}'
"""


def upgrade() -> None:
    """Add the rows of all values, and put which kind a row is into the key."""
    op.execute("ALTER TABLE metering.usage_rollup ADD COLUMN keyed boolean NOT NULL DEFAULT true")
    op.execute("ALTER TABLE metering.usage_rollup ALTER COLUMN keyed DROP DEFAULT")
    _change_key("keyed, ")
    op.execute(_ADD_TOTALS)
    op.execute(_DROP_KEYLESS)


def downgrade() -> None:
    """Leave the rows that keep values apart, as they were for those without keys."""
    op.execute(_RESTORE_KEYLESS)
    op.execute("DELETE FROM metering.usage_rollup WHERE NOT keyed")
    _change_key("")
    op.execute("ALTER TABLE metering.usage_rollup DROP COLUMN keyed")


def _change_key(keyed: str) -> None:
    op.execute("ALTER TABLE metering.usage_rollup DROP CONSTRAINT usage_rollup_pkey")
    key = _KEY.format(keyed=keyed)
    op.execute(f"ALTER TABLE metering.usage_rollup ADD PRIMARY KEY ({key})")
