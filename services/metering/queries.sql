
Statements of schema metering. They run as the services' role, for the tenant of the transaction; tenant_id is named
all the same, so that each reads as what it does and finds its index.

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
-- Sorted by key: two batches that share ids wait for each other in one order and never deadlock. Microseconds up to
-- 2^53 (the year 2255) are exact as float8, the only type an interval multiplies with.
WITH stored AS (
    INSERT INTO metering.usage_event
           (tenant_id, event_key, request_id, org_id, project_id, sku, quantity, event_time, source, metadata,
            fingerprint, receipt_id)
    SELECT %(tenant_id)s, event_key, request_id, org_id, project_id, sku, quantity,
           timestamptz 'epoch' + event_time_us * interval '1 microsecond', source, metadata,
           fingerprint, %(receipt_id)s::uuid
      FROM pg_temp.metering_staging
     ORDER BY event_key
        ON CONFLICT (tenant_id, event_key) DO NOTHING
 RETURNING org_id, sku, quantity, event_time
)
SELECT org_id, sku, count(*)::int AS event_count, sum(quantity) AS quantity,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM stored
 GROUP BY org_id, sku
 ORDER BY org_id, sku;

-- @known_events
-- A statement of its own: its snapshot is younger than every winner that store_events waited for.
SELECT staging.request_id, event.fingerprint::text AS fingerprint
  FROM pg_temp.metering_staging AS staging
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.event_key = staging.event_key
 WHERE event.receipt_id <> %(receipt_id)s::uuid;

-- @insert_rejected
INSERT INTO metering.rejected_event (tenant_id, receipt_id, event_index, request_id, reason, message, content)
SELECT %(tenant_id)s, %(receipt_id)s::uuid, *
  FROM unnest(%(indexes)s::int[], %(request_ids)s::text[], %(reasons)s::text[], %(messages)s::text[],
              %(contents)s::bytea[]);

-- @insert_receipt
INSERT INTO metering.receipt (tenant_id, receipt_id, accepted, duplicate, conflict, rejected, first_event_at,
                              last_event_at, recorded_at, recorded_by)
VALUES (%(tenant_id)s, %(receipt_id)s::uuid, %(accepted)s, %(duplicate)s, %(conflict)s, %(rejected)s,
        %(first_event_at)s, %(last_event_at)s, %(recorded_at)s, %(recorded_by)s);

-- @skus_of_org
-- One step of the index for each SKU, however many events it has.
WITH RECURSIVE used (sku) AS (
    (SELECT sku FROM metering.usage_event
      WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s
      ORDER BY sku LIMIT 1)
    UNION ALL
    SELECT (SELECT event.sku FROM metering.usage_event AS event
             WHERE event.tenant_id = %(tenant_id)s AND event.org_id = %(org_id)s AND event.sku > used.sku
             ORDER BY event.sku LIMIT 1)
      FROM used WHERE used.sku IS NOT NULL
)
SELECT sku FROM used WHERE sku IS NOT NULL;

-- @query_usage
-- The windows come as their starts; width_bucket finds the one of an event. An absent key is null and groups by nothing.
SELECT sku, project_id, width_bucket(event_time, %(window_starts)s::timestamptz[]) AS window_number,
       metadata ->> %(key_1)s::text AS group_1, metadata ->> %(key_2)s::text AS group_2,
       metadata ->> %(key_3)s::text AS group_3,
       sum(quantity) AS quantity, count(*) AS event_count,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM metering.usage_event
 WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND sku = ANY (%(skus)s::text[])
   AND event_time >= %(start_at)s AND event_time < %(end_at)s
   AND (%(project_id)s = '' OR project_id = %(project_id)s)
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
 LIMIT %(rows_max)s;

-- @read_snapshot
SELECT pg_current_snapshot()::text AS snapshot;

-- @read_settings
SELECT accept_past_us, accept_future_us, updated_at FROM metering.ingest_settings WHERE tenant_id = %(tenant_id)s;

-- @ensure_settings
-- The row that lock_settings locks, so that two first updates do not pass each other.
INSERT INTO metering.ingest_settings (tenant_id, accept_past_us, accept_future_us)
VALUES (%(tenant_id)s, %(accept_past_us)s, %(accept_future_us)s)
ON CONFLICT DO NOTHING;

-- @lock_settings
SELECT accept_past_us, accept_future_us, updated_at FROM metering.ingest_settings
 WHERE tenant_id = %(tenant_id)s FOR UPDATE;

-- @update_settings
UPDATE metering.ingest_settings
   SET accept_past_us = %(accept_past_us)s, accept_future_us = %(accept_future_us)s, updated_at = %(updated_at)s
 WHERE tenant_id = %(tenant_id)s;
