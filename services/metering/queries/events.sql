
Usage events on their way in. Statements of schema metering run as the services' role, for the tenant of the
transaction; tenant_id is named all the same, so that each reads as what it does and finds its index.

-- @create_staging
-- A batch enters by COPY, which tables under row-level security refuse: it goes to this table of the connection's
-- own, which each commit empties, and from there by INSERT … SELECT.
CREATE TEMP TABLE IF NOT EXISTS metering_staging (
    request_id text COLLATE "C",
    org_id text COLLATE "C",
    project_id text COLLATE "C",
    sku text COLLATE "C",
    quantity numeric,
    event_time_us float8,
    source smallint,
    metadata jsonb,
    event_key uuid,
    fingerprint uuid
) ON COMMIT DELETE ROWS;

-- @copy_staging
COPY pg_temp.metering_staging FROM STDIN;

-- @store_events
-- The ids are stored first: an id counts once, in whichever partition the event lies. Sorted by key: two batches that share ids wait for each other in one order and never deadlock. Microseconds up to
-- 2^53 (the year 2255) are exact as float8, the only type an interval multiplies with.
WITH new AS (
    INSERT INTO metering.usage_key (tenant_id, event_key, fingerprint, receipt_id)
    SELECT %(tenant_id)s, event_key, fingerprint, %(receipt_id)s::uuid
      FROM pg_temp.metering_staging
     ORDER BY event_key
        ON CONFLICT (tenant_id, event_key) DO NOTHING
 RETURNING event_key
), stored AS (
    INSERT INTO metering.usage_event
           (tenant_id, event_key, request_id, org_id, project_id, sku, quantity, event_time, source, metadata,
            fingerprint, receipt_id)
    SELECT %(tenant_id)s, event_key, request_id, org_id, project_id, sku, quantity,
           timestamptz 'epoch' + event_time_us * interval '1 microsecond', source, metadata,
           fingerprint, %(receipt_id)s::uuid
      FROM new JOIN pg_temp.metering_staging USING (event_key)
 RETURNING org_id, sku, quantity, event_time
)
SELECT org_id, sku, count(*)::int AS event_count, sum(quantity) AS quantity,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM stored
 GROUP BY org_id, sku
 ORDER BY org_id, sku;

-- @store_few
-- The same for a handful, which come as arrays: emptying the staging table costs more than they do.
WITH staged AS MATERIALIZED (
    SELECT * FROM unnest(%(request_ids)s::text[], %(org_ids)s::text[], %(project_ids)s::text[], %(skus)s::text[],
                  %(quantities)s::numeric[], %(event_times_us)s::float8[], %(sources)s::smallint[],
                  %(metadata)s::text[], %(event_keys)s::uuid[], %(fingerprints)s::uuid[])
           AS sent (request_id, org_id, project_id, sku, quantity, event_time_us, source, metadata, event_key,
                    fingerprint)
), new AS (
    INSERT INTO metering.usage_key (tenant_id, event_key, fingerprint, receipt_id)
    SELECT %(tenant_id)s, event_key, fingerprint, %(receipt_id)s::uuid FROM staged
     ORDER BY event_key
        ON CONFLICT (tenant_id, event_key) DO NOTHING
 RETURNING event_key
), stored AS (
    INSERT INTO metering.usage_event
           (tenant_id, event_key, request_id, org_id, project_id, sku, quantity, event_time, source, metadata,
            fingerprint, receipt_id)
    SELECT %(tenant_id)s, event_key, request_id, org_id, project_id, sku, quantity,
           timestamptz 'epoch' + event_time_us * interval '1 microsecond', source, metadata::jsonb,
           fingerprint, %(receipt_id)s::uuid
      FROM new JOIN staged USING (event_key)
 RETURNING org_id, sku, quantity, event_time
)
SELECT org_id, sku, count(*)::int AS event_count, sum(quantity) AS quantity,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM stored
 GROUP BY org_id, sku
 ORDER BY org_id, sku;

-- @store_shared
-- The events of several batches, whose ids are all different, each with the receipt of its own.
WITH staged AS MATERIALIZED (
    SELECT * FROM unnest(%(request_ids)s::text[], %(org_ids)s::text[], %(project_ids)s::text[], %(skus)s::text[],
                  %(quantities)s::numeric[], %(event_times_us)s::float8[], %(sources)s::smallint[],
                  %(metadata)s::text[], %(event_keys)s::uuid[], %(fingerprints)s::uuid[], %(receipt_ids)s::uuid[])
           AS sent (request_id, org_id, project_id, sku, quantity, event_time_us, source, metadata, event_key,
                    fingerprint, receipt_id)
), new AS (
    INSERT INTO metering.usage_key (tenant_id, event_key, fingerprint, receipt_id)
    SELECT %(tenant_id)s, event_key, fingerprint, receipt_id FROM staged
     ORDER BY event_key
        ON CONFLICT (tenant_id, event_key) DO NOTHING
 RETURNING event_key
)
INSERT INTO metering.usage_event
       (tenant_id, event_key, request_id, org_id, project_id, sku, quantity, event_time, source, metadata,
        fingerprint, receipt_id)
SELECT %(tenant_id)s, event_key, request_id, org_id, project_id, sku, quantity,
       timestamptz 'epoch' + event_time_us * interval '1 microsecond', source, metadata::jsonb,
       fingerprint, receipt_id
  FROM new JOIN staged USING (event_key)
RETURNING event_key::text AS event_key, org_id, sku, quantity, event_time;

-- @stored_fingerprints
-- A statement of its own, as known_events.
SELECT event_key::text AS event_key, fingerprint::text AS fingerprint FROM metering.usage_key
 WHERE tenant_id = %(tenant_id)s AND event_key = ANY (%(event_keys)s::uuid[]);

-- @stored_keys
SELECT event_key::text AS event_key FROM metering.usage_key
 WHERE tenant_id = %(tenant_id)s AND event_key = ANY (%(event_keys)s::uuid[]);

-- @known_events
-- A statement of its own: its snapshot is younger than every winner that the storing statement waited for.
SELECT asked.request_id, event.fingerprint::text AS fingerprint
  FROM unnest(%(request_ids)s::text[], %(event_keys)s::uuid[]) AS asked (request_id, event_key)
  JOIN metering.usage_key AS event
    ON event.tenant_id = %(tenant_id)s AND event.event_key = asked.event_key
 WHERE event.receipt_id <> %(receipt_id)s::uuid;
