
Ingest settings of a tenant.

-- @read_settings
SELECT accept_past_us, accept_future_us, updated_at, late, metadata_allowed, rollup_keys
  FROM metering.ingest_settings
 WHERE tenant_id = %(tenant_id)s;

-- @ensure_settings
-- The row that lock_settings locks, so that two first updates do not pass each other.
INSERT INTO metering.ingest_settings (tenant_id, accept_past_us, accept_future_us, late, metadata_allowed, rollup_keys)
VALUES (%(tenant_id)s, %(accept_past_us)s, %(accept_future_us)s, %(late)s, %(metadata_allowed)s::text[],
        %(rollup_keys)s::text[])
ON CONFLICT DO NOTHING;

-- @lock_settings
SELECT accept_past_us, accept_future_us, updated_at, late, metadata_allowed, rollup_keys
  FROM metering.ingest_settings
 WHERE tenant_id = %(tenant_id)s FOR UPDATE;

-- @update_settings
UPDATE metering.ingest_settings
   SET accept_past_us = %(accept_past_us)s, accept_future_us = %(accept_future_us)s, late = %(late)s,
       metadata_allowed = %(metadata_allowed)s::text[], rollup_keys = %(rollup_keys)s::text[],
       updated_at = %(updated_at)s
 WHERE tenant_id = %(tenant_id)s;
