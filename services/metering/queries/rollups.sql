
Rollups of usage: how they stand, and how they are kept up behind ingest.

-- @standing
SELECT generation, oldest_generation, rolled_ordinal, group_keys FROM metering.rollup_state
 WHERE tenant_id = %(tenant_id)s;

-- @receipts_behind_rollups
-- What may concern a period: the receipts say of which times their events are.
SELECT receipt_id::text AS receipt_id, kind, accepted FROM metering.receipt
 WHERE tenant_id = %(tenant_id)s AND ordinal > %(after)s AND ordinal <= %(up_to)s AND accepted > 0
   AND first_event_at < %(end_at)s AND last_event_at >= %(start_at)s
 ORDER BY ordinal
 LIMIT %(limit)s;

-- @opening
-- What an answer starts from, all of one snapshot: what it says of the newest ordinal, it says of the events too.
SELECT pg_current_snapshot()::text AS snapshot, coalesce(counter.last_ordinal, 0) AS last_ordinal,
       EXISTS (SELECT FROM metering.receipt WHERE tenant_id = %(tenant_id)s AND ordinal IS NULL) AS unsequenced,
       state.generation, state.oldest_generation, state.rolled_ordinal, state.group_keys, behind.recorded_at AS behind_since
  FROM (VALUES (%(tenant_id)s)) AS asked (tenant_id)
  LEFT JOIN metering.receipt_counter AS counter ON counter.tenant_id = %(tenant_id)s
  LEFT JOIN metering.rollup_state AS state ON state.tenant_id = %(tenant_id)s
  LEFT JOIN LATERAL (SELECT min(recorded_at) AS recorded_at
                       FROM ((SELECT recorded_at FROM metering.receipt
                               WHERE tenant_id = %(tenant_id)s AND ordinal = state.rolled_ordinal + 1)
                             UNION ALL
                             (SELECT min(recorded_at) FROM metering.receipt
                               WHERE tenant_id = %(tenant_id)s AND ordinal IS NULL)) AS unrolled) AS behind
    ON %(with_behind)s::boolean;

-- @broken_hours
-- Hours whose buckets are not those of the ordinal: an event was taken out of them, or they have changed since it.
SELECT hour_at FROM metering.rollup_stale
 WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND sku = ANY (%(skus)s::text[])
   AND hour_at >= %(from_at)s AND hour_at < %(end_at)s
UNION
SELECT bucket_at FROM metering.usage_rollup
 WHERE %(ordinal)s::bigint < %(rolled_ordinal)s::bigint
   AND tenant_id = %(tenant_id)s AND generation = %(generation)s AND org_id = %(org_id)s
   AND sku = ANY (%(skus)s::text[]) AND NOT keyed AND minutes = 60
   AND bucket_at >= %(from_at)s AND bucket_at < %(end_at)s AND last_ordinal > %(ordinal)s::bigint
UNION
SELECT date_bin('1 hour', touched.event_time, timestamptz 'epoch')
  FROM metering.event_version AS changed
  JOIN metering.event_version AS touched
    ON touched.tenant_id = %(tenant_id)s AND touched.event_key = changed.event_key
   AND touched.version IN (changed.version - 1, changed.version)
 WHERE changed.tenant_id = %(tenant_id)s AND changed.receipt_id = ANY (%(corrected)s::uuid[]) AND changed.version > 0
   AND touched.org_id = %(org_id)s AND touched.sku = ANY (%(skus)s::text[])
   AND touched.event_time >= %(start_at)s AND touched.event_time < %(end_at)s
 LIMIT %(limit)s;

-- @lock_state
-- One rolls up at a time; who waited reads what the one before has left.
INSERT INTO metering.rollup_state AS held (tenant_id, generation, oldest_generation, rolled_ordinal, group_keys)
VALUES (%(tenant_id)s, 1, 1, 0, '{}')
    ON CONFLICT (tenant_id) DO UPDATE SET rolled_ordinal = held.rolled_ordinal
RETURNING generation, oldest_generation, rolled_ordinal, group_keys;

-- @begin_generation
-- Of other keys: all is rolled up anew, and what was kept by the keys of before goes a bit at a time.
UPDATE metering.rollup_state SET generation = generation + 1, rolled_ordinal = 0, group_keys = %(group_keys)s::text[]
 WHERE tenant_id = %(tenant_id)s;

-- @forget_stale
DELETE FROM metering.rollup_stale WHERE tenant_id = %(tenant_id)s;

-- @clear_generations
DELETE FROM metering.usage_rollup
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM metering.usage_rollup
                          WHERE tenant_id = %(tenant_id)s AND generation = %(oldest_generation)s LIMIT %(limit)s))
   AND tenant_id = %(tenant_id)s
RETURNING 1 AS gone;

-- @forget_generation
UPDATE metering.rollup_state SET oldest_generation = %(oldest_generation)s::integer + 1
 WHERE tenant_id = %(tenant_id)s AND oldest_generation = %(oldest_generation)s;

-- @brought
-- What receipts brought, event by event, each in its quarter of an hour.
SELECT org_id, sku, project_id, date_bin('15 minutes', event_time, timestamptz 'epoch') AS bucket_at,
       ARRAY[metadata ->> %(key_1)s::text, metadata ->> %(key_2)s::text, metadata ->> %(key_3)s::text,
             metadata ->> %(key_4)s::text] AS group_values, event_time, quantity
  FROM metering.usage_event
 WHERE tenant_id = %(tenant_id)s AND receipt_id = ANY (%(receipt_ids)s::uuid[])

-- @counting
-- The events of a SKU of some time, as usage_at counts them.
SELECT org_id, sku, project_id, event_time, quantity, metadata
  FROM metering.usage_event AS event
 WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND sku = %(sku)s
   AND event_time >= %(from_at)s AND event_time < %(until_at)s
   AND NOT EXISTS (SELECT FROM metering.receipt AS later
                    WHERE later.tenant_id = %(tenant_id)s AND later.receipt_id = event.receipt_id
                      AND (later.ordinal > %(ordinal)s OR later.ordinal IS NULL))
   AND NOT EXISTS (SELECT FROM metering.event_version AS version
                    WHERE version.tenant_id = %(tenant_id)s AND version.event_key = event.event_key)
UNION ALL
SELECT org_id, sku, project_id, event_time, quantity, metadata
  FROM (SELECT DISTINCT ON (version.event_key) version.*
          FROM metering.event_version AS version
          JOIN metering.receipt AS receipt
            ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = version.receipt_id
           AND receipt.ordinal <= %(ordinal)s
         WHERE version.tenant_id = %(tenant_id)s
           AND version.event_key IN (SELECT touched.event_key FROM metering.event_version AS touched
                                      WHERE touched.tenant_id = %(tenant_id)s AND touched.org_id = %(org_id)s
                                        AND touched.sku = %(sku)s
                                        AND touched.event_time >= %(from_at)s AND touched.event_time < %(until_at)s)
         ORDER BY version.event_key, version.version DESC) AS newest
 WHERE NOT cancelled AND org_id = %(org_id)s AND sku = %(sku)s
   AND event_time >= %(from_at)s AND event_time < %(until_at)s

-- @counted over counting of counting
SELECT org_id, sku, project_id, date_bin('15 minutes', event_time, timestamptz 'epoch') AS bucket_at,
       ARRAY[metadata ->> %(key_1)s::text, metadata ->> %(key_2)s::text, metadata ->> %(key_3)s::text,
             metadata ->> %(key_4)s::text] AS group_values, event_time, quantity
  FROM counting

-- @quarters over event of brought, counted_of_counting
SELECT org_id, sku, project_id, bucket_at, group_values, count(*) AS event_count, sum(quantity) AS quantity,
       min(quantity) AS smallest, max(quantity) AS largest,
       max(ARRAY[extract(epoch FROM event_time) * 1000000, quantity]) AS latest_at,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM event
 GROUP BY 1, 2, 3, 4, 5

-- @buckets over quarter of quarters_of_brought, quarters_of_counted_of_counting
-- Of all values together, and where keys are named of each combination of theirs too; hours are made of their quarters.
-- The key is the bytes of project and values: an array of texts says where each ends.
SELECT bucket.*, latest_at[2] AS latest,
       encode(substr(sha256(convert_to(to_json(project_id || group_values)::text, 'UTF8')), 1, 16), 'hex')::uuid AS series
  FROM (SELECT 15 AS minutes, true AS keyed, quarter.* FROM quarter WHERE %(key_1)s::text IS NOT NULL
        UNION ALL
        SELECT 60, true, org_id, sku, project_id, date_bin('1 hour', bucket_at, timestamptz 'epoch'), group_values,
               sum(event_count)::bigint, sum(quantity), min(smallest), max(largest), max(latest_at),
               min(first_event_at), max(last_event_at)
          FROM quarter WHERE %(key_1)s::text IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7
        UNION ALL
        SELECT length.minutes, false, org_id, sku, project_id,
               date_bin(make_interval(mins => length.minutes), bucket_at, timestamptz 'epoch'), '{}'::text[],
               sum(event_count)::bigint, sum(quantity), min(smallest), max(largest), max(latest_at),
               min(first_event_at), max(last_event_at)
          FROM quarter CROSS JOIN (VALUES (15), (60)) AS length (minutes) GROUP BY 1, 2, 3, 4, 5, 6) AS bucket

-- @add over bucket of buckets_of_quarters_of_brought
-- Of the greatest ordinal for all that it touches: a reading at one of those before reads the events of their hours.
INSERT INTO metering.usage_rollup AS held
       (tenant_id, generation, org_id, sku, keyed, minutes, bucket_at, series, project_id, group_values, event_count,
        quantity, smallest, largest, latest, first_event_at, last_event_at, last_ordinal)
SELECT %(tenant_id)s, %(generation)s::integer, org_id, sku, keyed, minutes, bucket_at, series, project_id, group_values,
       event_count, quantity, smallest, largest, latest, first_event_at, last_event_at, %(up_to)s::bigint
  FROM bucket
 ORDER BY org_id, sku, keyed, minutes, bucket_at, series
    ON CONFLICT (tenant_id, generation, org_id, sku, keyed, minutes, bucket_at, series) DO UPDATE
   SET event_count = held.event_count + excluded.event_count, quantity = held.quantity + excluded.quantity,
       smallest = least(held.smallest, excluded.smallest), largest = greatest(held.largest, excluded.largest),
       latest = CASE WHEN held.last_event_at > excluded.last_event_at THEN held.latest
                     WHEN held.last_event_at = excluded.last_event_at THEN greatest(held.latest, excluded.latest)
                     ELSE excluded.latest END,
       first_event_at = least(held.first_event_at, excluded.first_event_at),
       last_event_at = greatest(held.last_event_at, excluded.last_event_at), last_ordinal = excluded.last_ordinal;

-- @advance
UPDATE metering.rollup_state SET rolled_ordinal = %(rolled_ordinal)s WHERE tenant_id = %(tenant_id)s;

-- @mark_stale
-- A correction takes an event out of an hour and brings one into an hour.
INSERT INTO metering.rollup_stale (tenant_id, org_id, sku, hour_at)
SELECT DISTINCT %(tenant_id)s, touched.org_id, touched.sku,
       date_bin('1 hour', touched.event_time, timestamptz 'epoch')
  FROM metering.event_version AS changed
  JOIN metering.event_version AS touched
    ON touched.tenant_id = %(tenant_id)s AND touched.event_key = changed.event_key
   AND touched.version IN (changed.version - 1, changed.version)
 WHERE changed.tenant_id = %(tenant_id)s AND changed.receipt_id = ANY (%(corrected)s::uuid[]) AND changed.version > 0
    ON CONFLICT DO NOTHING;

-- @stale_hours
-- An hour of more events than that stays as it is, and is read from them: what it takes would hold up all others.
SELECT stale.org_id, stale.sku, stale.hour_at, held.event_count
  FROM metering.rollup_stale AS stale
 CROSS JOIN LATERAL (SELECT coalesce(sum(rollup.event_count), 0)::bigint AS event_count
                       FROM metering.usage_rollup AS rollup
                      WHERE rollup.tenant_id = %(tenant_id)s AND rollup.generation = %(generation)s
                        AND rollup.org_id = stale.org_id AND rollup.sku = stale.sku AND NOT rollup.keyed
                        AND rollup.minutes = 60 AND rollup.bucket_at = stale.hour_at) AS held
 WHERE stale.tenant_id = %(tenant_id)s AND held.event_count <= %(events_max)s
 ORDER BY stale.org_id, stale.sku, stale.hour_at
 LIMIT %(limit)s;

-- @empty_hour
-- What no event is left of stays as a row of none: the hour was another one at the ordinals before.
UPDATE metering.usage_rollup
   SET event_count = 0, quantity = 0, smallest = NULL, largest = NULL, latest = NULL, first_event_at = NULL,
       last_event_at = NULL, last_ordinal = %(ordinal)s
 WHERE tenant_id = %(tenant_id)s AND generation = %(generation)s AND org_id = %(org_id)s AND sku = %(sku)s
   AND keyed IN (false, true) AND minutes IN (15, 60) AND bucket_at >= %(from_at)s AND bucket_at < %(until_at)s;

-- @fill_hour over bucket of buckets_of_quarters_of_counted_of_counting
INSERT INTO metering.usage_rollup AS held
       (tenant_id, generation, org_id, sku, keyed, minutes, bucket_at, series, project_id, group_values, event_count,
        quantity, smallest, largest, latest, first_event_at, last_event_at, last_ordinal)
SELECT %(tenant_id)s, %(generation)s::integer, org_id, sku, keyed, minutes, bucket_at, series, project_id, group_values,
       event_count, quantity, smallest, largest, latest, first_event_at, last_event_at, %(ordinal)s::bigint
  FROM bucket
    ON CONFLICT (tenant_id, generation, org_id, sku, keyed, minutes, bucket_at, series) DO UPDATE
   SET event_count = excluded.event_count, quantity = excluded.quantity, smallest = excluded.smallest,
       largest = excluded.largest, latest = excluded.latest, first_event_at = excluded.first_event_at,
       last_event_at = excluded.last_event_at;

-- @forget_stale_hour
DELETE FROM metering.rollup_stale
 WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND sku = %(sku)s AND hour_at = %(hour_at)s;

-- @next_pair
-- The next organisation and SKU that have events, or buckets.
SELECT org_id, sku
  FROM ((SELECT org_id, sku FROM metering.usage_event
          WHERE tenant_id = %(tenant_id)s AND (org_id, sku) > (%(after_org)s::text, %(after_sku)s::text)
          ORDER BY org_id, sku LIMIT 1)
        UNION ALL
        (SELECT org_id, sku FROM metering.event_version
          WHERE tenant_id = %(tenant_id)s AND (org_id, sku) > (%(after_org)s::text, %(after_sku)s::text)
          ORDER BY org_id, sku LIMIT 1)
        UNION ALL
        (SELECT org_id, sku FROM metering.usage_rollup
          WHERE tenant_id = %(tenant_id)s AND generation = %(generation)s
            AND (org_id, sku) > (%(after_org)s::text, %(after_sku)s::text)
          ORDER BY org_id, sku LIMIT 1)) AS pair
 ORDER BY org_id, sku
 LIMIT 1;

-- @hours_of_pair
-- The next hours that have buckets, and how many events they have by them.
SELECT bucket_at, sum(event_count)::bigint AS event_count FROM metering.usage_rollup
 WHERE tenant_id = %(tenant_id)s AND generation = %(generation)s AND org_id = %(org_id)s AND sku = %(sku)s
   AND NOT keyed AND minutes = 60 AND bucket_at >= %(from_at)s
 GROUP BY 1
 ORDER BY 1
 LIMIT %(limit)s;

-- @differing over expected of buckets_of_quarters_of_counted_of_counting
-- Buckets that are not what their events come to, and those of which one of the two is missing.
SELECT minutes, bucket_at, coalesce(expected.project_id, stored.project_id) AS project_id,
       expected.event_count AS expected_event_count, expected.quantity AS expected_quantity,
       expected.smallest AS expected_smallest, expected.largest AS expected_largest, expected.latest AS expected_latest,
       expected.first_event_at AS expected_first_event_at, expected.last_event_at AS expected_last_event_at,
       expected.group_values AS expected_group_values, stored.event_count, stored.quantity, stored.smallest,
       stored.largest, stored.latest, stored.first_event_at, stored.last_event_at, stored.group_values
  FROM expected
  FULL JOIN (SELECT * FROM metering.usage_rollup
              WHERE tenant_id = %(tenant_id)s AND generation = %(generation)s AND org_id = %(org_id)s AND sku = %(sku)s
                AND keyed IN (false, true) AND minutes IN (15, 60)
                AND bucket_at >= %(from_at)s AND bucket_at < %(until_at)s
                AND event_count > 0) AS stored USING (keyed, minutes, bucket_at, series)
 WHERE (expected.project_id, expected.group_values, expected.event_count, expected.quantity, expected.smallest,
        expected.largest, expected.latest, expected.first_event_at, expected.last_event_at)
       IS DISTINCT FROM
       (stored.project_id, stored.group_values, stored.event_count, stored.quantity, stored.smallest, stored.largest,
        stored.latest, stored.first_event_at, stored.last_event_at)
   AND NOT EXISTS (SELECT FROM metering.rollup_stale AS stale
                    WHERE stale.tenant_id = %(tenant_id)s AND stale.org_id = %(org_id)s AND stale.sku = %(sku)s
                      AND stale.hour_at = date_bin('1 hour', bucket_at, timestamptz 'epoch'))
 ORDER BY bucket_at, minutes, keyed, series
 LIMIT %(limit)s;

-- @unrolled
SELECT tenant_id FROM metering.unrolled(%(after)s, %(tenants)s);

-- @recorded_at
-- Of the receipt with an ordinal.
SELECT recorded_at FROM metering.receipt WHERE tenant_id = %(tenant_id)s AND ordinal = %(ordinal)s;
