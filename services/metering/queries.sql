
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

-- @store_few
-- The same for a handful, which come as arrays: emptying the staging table costs more than they do.
WITH stored AS (
    INSERT INTO metering.usage_event
           (tenant_id, event_key, request_id, org_id, project_id, sku, quantity, event_time, source, metadata,
            fingerprint, receipt_id)
    SELECT %(tenant_id)s, event_key, request_id, org_id, project_id, sku, quantity,
           timestamptz 'epoch' + event_time_us * interval '1 microsecond', source, metadata::jsonb,
           fingerprint, %(receipt_id)s::uuid
      FROM unnest(%(request_ids)s::text[], %(org_ids)s::text[], %(project_ids)s::text[], %(skus)s::text[],
                  %(quantities)s::numeric[], %(event_times_us)s::float8[], %(sources)s::smallint[],
                  %(metadata)s::text[], %(event_keys)s::uuid[], %(fingerprints)s::uuid[])
           AS staged (request_id, org_id, project_id, sku, quantity, event_time_us, source, metadata, event_key,
                      fingerprint)
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
-- A statement of its own: its snapshot is younger than every winner that the storing statement waited for.
SELECT asked.request_id, event.fingerprint::text AS fingerprint
  FROM unnest(%(request_ids)s::text[], %(event_keys)s::uuid[]) AS asked (request_id, event_key)
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.event_key = asked.event_key
 WHERE event.receipt_id <> %(receipt_id)s::uuid;

-- @hold_closings
-- From here to the commit no period of the tenant is closed, and a closing that was waited for is seen by the next
-- statement, whose snapshot is younger. Batches share the lock.
SELECT pg_advisory_xact_lock_shared(hashtextextended('metering.closed_period/' || %(tenant_id)s, 0));

-- @wait_for_batches
-- Alone: each batch that is under way has committed its events, or will see the closing.
SELECT pg_advisory_xact_lock(hashtextextended('metering.closed_period/' || %(tenant_id)s, 0));

-- @close_period
INSERT INTO metering.closed_period (tenant_id, charge_id, org_id, start_at, end_at, usage_snapshot, heard_at)
VALUES (%(tenant_id)s, %(charge_id)s, %(org_id)s, %(start_at)s, %(end_at)s, %(usage_snapshot)s::pg_snapshot,
        %(heard_at)s)
ON CONFLICT (tenant_id, charge_id) DO NOTHING
RETURNING charge_id;

-- @advance_closing
UPDATE metering.closed_period SET usage_snapshot = %(usage_snapshot)s::pg_snapshot
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s;

-- @forget_billed
-- What the adjustment saw is billed by it.
DELETE FROM metering.late_event AS late
 USING metering.usage_event AS event
 WHERE late.tenant_id = %(tenant_id)s AND late.charge_id = %(charge_id)s
   AND event.tenant_id = %(tenant_id)s AND event.event_key = late.event_key
   AND pg_visible_in_snapshot(event.recorded_xid, %(usage_snapshot)s::pg_snapshot);

-- @forget_late
DELETE FROM metering.late_event WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s;

-- @forget_closing
DELETE FROM metering.closed_period WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s;

-- @is_closed
SELECT org_id FROM metering.closed_period WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s;

-- @touches_closed
-- One step of the index for each organisation of the batch; nearly always there is nothing.
SELECT EXISTS (
    SELECT FROM unnest(%(org_ids)s::text[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
                AS batch (org_id, first_at, last_at)
      JOIN metering.closed_period AS period
        ON period.tenant_id = %(tenant_id)s AND period.org_id = batch.org_id COLLATE "C"
       AND period.end_at > batch.first_at AND period.start_at <= batch.last_at) AS touched;

-- @mark_stored
-- What this batch stored lies in no snapshot of the past, so it need not be asked whether a charge saw it.
WITH late AS (
    INSERT INTO metering.late_event (tenant_id, org_id, event_time, event_key, charge_id)
    SELECT event.tenant_id, event.org_id, event.event_time, event.event_key, period.charge_id
      FROM metering.usage_event AS event
      JOIN unnest(%(event_keys)s::uuid[]) AS stored (event_key)
        ON event.tenant_id = %(tenant_id)s AND event.event_key = stored.event_key
       AND event.receipt_id = %(receipt_id)s::uuid
      JOIN metering.closed_period AS period
        ON period.tenant_id = %(tenant_id)s AND period.org_id = event.org_id
       AND period.start_at <= event.event_time AND period.end_at > event.event_time
        ON CONFLICT (tenant_id, event_key) DO NOTHING
 RETURNING event_key, charge_id
)
SELECT period.charge_id, period.start_at, period.end_at, event.org_id, event.sku, count(*)::int AS event_count,
       sum(event.quantity) AS quantity, min(event.event_time) AS first_event_at, max(event.event_time) AS last_event_at
  FROM late
  JOIN metering.usage_event AS event ON event.tenant_id = %(tenant_id)s AND event.event_key = late.event_key
  JOIN metering.closed_period AS period ON period.tenant_id = %(tenant_id)s AND period.charge_id = late.charge_id
 GROUP BY 1, 2, 3, 4, 5
 ORDER BY 4, 1, 5;

-- @mark_unseen
-- What the charge did not see although it was stored before the closing was heard of. Reads what the charge read.
WITH late AS (
    INSERT INTO metering.late_event (tenant_id, org_id, event_time, event_key, charge_id)
    SELECT event.tenant_id, event.org_id, event.event_time, event.event_key, period.charge_id
      FROM metering.closed_period AS period
      JOIN metering.usage_event AS event
        ON event.tenant_id = %(tenant_id)s AND event.org_id = period.org_id AND event.sku = ANY (%(skus)s::text[])
       AND event.event_time >= period.start_at AND event.event_time < period.end_at
     WHERE period.tenant_id = %(tenant_id)s AND period.charge_id = %(charge_id)s
       AND NOT pg_visible_in_snapshot(event.recorded_xid, period.usage_snapshot)
       AND pg_visible_in_snapshot(event.recorded_xid, period.heard_snapshot)
        ON CONFLICT (tenant_id, event_key) DO NOTHING
 RETURNING event_key, charge_id
)
SELECT period.charge_id, period.start_at, period.end_at, event.org_id, event.sku, count(*)::int AS event_count,
       sum(event.quantity) AS quantity, min(event.event_time) AS first_event_at, max(event.event_time) AS last_event_at
  FROM late
  JOIN metering.usage_event AS event ON event.tenant_id = %(tenant_id)s AND event.event_key = late.event_key
  JOIN metering.closed_period AS period ON period.tenant_id = %(tenant_id)s AND period.charge_id = late.charge_id
 GROUP BY 1, 2, 3, 4, 5
 ORDER BY 4, 1, 5;

-- @list_late
SELECT event.request_id, event.org_id, event.project_id, event.sku, event.quantity, event.event_time, event.source,
       event.metadata, event.event_key::text AS event_key, event.receipt_id::text AS receipt_id, late.charge_id,
       receipt.recorded_at
  FROM metering.late_event AS late
  JOIN metering.usage_event AS event ON event.tenant_id = %(tenant_id)s AND event.event_key = late.event_key
  JOIN metering.receipt AS receipt ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = event.receipt_id
 WHERE late.tenant_id = %(tenant_id)s AND (%(org_id)s = '' OR late.org_id = %(org_id)s)
   AND (%(start_at)s::timestamptz IS NULL OR late.event_time >= %(start_at)s)
   AND (%(end_at)s::timestamptz IS NULL OR late.event_time < %(end_at)s)
   AND (late.org_id, late.event_time, late.event_key) > (%(after_org)s, %(after_time)s, %(after_key)s::uuid)
 ORDER BY late.org_id, late.event_time, late.event_key
 LIMIT %(limit)s;

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
