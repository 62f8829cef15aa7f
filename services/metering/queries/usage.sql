
Usage, aggregated.

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
SELECT sku FROM used WHERE sku IS NOT NULL
UNION
SELECT sku FROM metering.event_version WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s
 ORDER BY sku;

-- @usage_now
-- What the snapshot has is all of the reading's: nearly always so.
SELECT org_id, project_id, sku, event_time, quantity, metadata
  FROM metering.usage_event
 WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND sku = ANY (%(skus)s::text[])
   AND event_time >= %(start_at)s AND event_time < %(end_at)s

-- @is_corrected
-- Whether an event of the period was corrected, or one was brought into it.
SELECT EXISTS (SELECT FROM metering.event_version
                WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND sku = ANY (%(skus)s::text[])
                  AND event_time >= %(start_at)s AND event_time < %(end_at)s) AS is_corrected;

-- @usage_at
-- Without what receipts behind the ordinal brought; they are few, or none but those of the last second. Of events that
-- were corrected, the newest version up to the ordinal.
SELECT org_id, project_id, sku, event_time, quantity, metadata
  FROM metering.usage_event AS event
 WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND sku = ANY (%(skus)s::text[])
   AND event_time >= %(start_at)s AND event_time < %(end_at)s
   AND NOT EXISTS (SELECT FROM metering.receipt AS later
                    WHERE later.tenant_id = %(tenant_id)s AND later.receipt_id = event.receipt_id
                      AND (later.ordinal > %(ordinal)s OR later.ordinal IS NULL))
   AND NOT EXISTS (SELECT FROM metering.event_version AS version
                    WHERE version.tenant_id = %(tenant_id)s AND version.event_key = event.event_key)
UNION ALL
SELECT org_id, project_id, sku, event_time, quantity, metadata
  FROM (SELECT DISTINCT ON (version.event_key) version.*
          FROM metering.event_version AS version
          JOIN metering.receipt AS receipt
            ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = version.receipt_id
           AND receipt.ordinal <= %(ordinal)s
         WHERE version.tenant_id = %(tenant_id)s
           AND version.event_key IN (SELECT touched.event_key FROM metering.event_version AS touched
                                      WHERE touched.tenant_id = %(tenant_id)s AND touched.org_id = %(org_id)s
                                        AND touched.sku = ANY (%(skus)s::text[])
                                        AND touched.event_time >= %(start_at)s AND touched.event_time < %(end_at)s)
         ORDER BY version.event_key, version.version DESC) AS newest
 WHERE NOT cancelled AND org_id = %(org_id)s AND sku = ANY (%(skus)s::text[])
   AND event_time >= %(start_at)s AND event_time < %(end_at)s

-- @stretches_now
-- As usage_now, of several stretches of time.
SELECT org_id, project_id, sku, event_time, quantity, metadata
  FROM unnest(%(firsts)s::timestamptz[], %(untils)s::timestamptz[]) AS stretch (first_at, until_at)
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.org_id = %(org_id)s AND event.sku = ANY (%(skus)s::text[])
   AND event.event_time >= stretch.first_at AND event.event_time < stretch.until_at

-- @stretches_at
-- As usage_at, of several stretches of time, which lie apart: what has an odd number of their edges before it lies in one.
SELECT org_id, project_id, sku, event_time, quantity, metadata
  FROM unnest(%(firsts)s::timestamptz[], %(untils)s::timestamptz[]) AS stretch (first_at, until_at)
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.org_id = %(org_id)s AND event.sku = ANY (%(skus)s::text[])
   AND event.event_time >= stretch.first_at AND event.event_time < stretch.until_at
   AND NOT EXISTS (SELECT FROM metering.receipt AS later
                    WHERE later.tenant_id = %(tenant_id)s AND later.receipt_id = event.receipt_id
                      AND (later.ordinal > %(ordinal)s OR later.ordinal IS NULL))
   AND NOT EXISTS (SELECT FROM metering.event_version AS version
                    WHERE version.tenant_id = %(tenant_id)s AND version.event_key = event.event_key)
UNION ALL
SELECT org_id, project_id, sku, event_time, quantity, metadata
  FROM (SELECT DISTINCT ON (version.event_key) version.*
          FROM metering.event_version AS version
          JOIN metering.receipt AS receipt
            ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = version.receipt_id
           AND receipt.ordinal <= %(ordinal)s
         WHERE version.tenant_id = %(tenant_id)s
           AND version.event_key IN
               (SELECT touched.event_key
                  FROM unnest(%(firsts)s::timestamptz[], %(untils)s::timestamptz[]) AS stretch (first_at, until_at)
                  JOIN metering.event_version AS touched
                    ON touched.tenant_id = %(tenant_id)s AND touched.org_id = %(org_id)s
                   AND touched.sku = ANY (%(skus)s::text[])
                   AND touched.event_time >= stretch.first_at AND touched.event_time < stretch.until_at)
         ORDER BY version.event_key, version.version DESC) AS newest
 WHERE NOT cancelled AND org_id = %(org_id)s AND sku = ANY (%(skus)s::text[])
   AND width_bucket(event_time, %(stretch_edges)s::timestamptz[]) %% 2 = 1

-- @delta
-- What receipts behind the rollups brought of a period, outside of its stretches.
SELECT org_id, project_id, sku, event_time, quantity, metadata
  FROM metering.usage_event
 WHERE tenant_id = %(tenant_id)s AND receipt_id = ANY (%(receipt_ids)s::uuid[])
   AND org_id = %(org_id)s AND sku = ANY (%(skus)s::text[])
   AND event_time >= %(start_at)s AND event_time < %(end_at)s
   AND width_bucket(event_time, %(stretch_edges)s::timestamptz[]) %% 2 = 0

-- @placed over usage of usage_now, usage_at, stretches_now, stretches_at, delta
-- Each event in its place: the windows come as their starts, width_bucket finds the one of an event, 0 before the
-- first. An absent key is null and groups by nothing.
SELECT sku, project_id, width_bucket(event_time, %(window_starts)s::timestamptz[]) AS window_number,
       (metadata ->> %(key_1)s::text) COLLATE "C" AS group_1, (metadata ->> %(key_2)s::text) COLLATE "C" AS group_2,
       (metadata ->> %(key_3)s::text) COLLATE "C" AS group_3, event_time, quantity
  FROM usage
 WHERE (%(project_id)s = '' OR project_id = %(project_id)s)
   AND (%(metadata)s::jsonb IS NULL OR metadata @> %(metadata)s::jsonb)

-- @summed over placed of placed_of_usage_now, placed_of_usage_at
SELECT sku, project_id, window_number, group_1, group_2, group_3,
       sum(quantity) AS quantity, count(*) AS event_count,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM placed
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
 LIMIT %(rows_max)s;

-- @extremes over placed of placed_of_usage_now, placed_of_usage_at
SELECT sku, project_id, window_number, group_1, group_2, group_3,
       min(quantity) AS smallest, max(quantity) AS largest, count(*) AS event_count,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM placed
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
 LIMIT %(rows_max)s;

-- @latest over placed of placed_of_usage_now, placed_of_usage_at
-- Of the events of the last instant the largest. Sorted, not collected: memory stays that of a sort, which spills.
SELECT sku, project_id, window_number, group_1, group_2, group_3,
       max(quantity) FILTER (WHERE event_time = last_at) AS quantity, count(*) AS event_count,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM (SELECT placed.*,
               first_value(event_time) OVER (PARTITION BY sku, project_id, window_number, group_1, group_2, group_3
                                             ORDER BY event_time DESC) AS last_at
          FROM placed) AS dated
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
 LIMIT %(rows_max)s;

-- @ranked over placed of placed_of_usage_now, placed_of_usage_at
-- Equal quantities are one value with a count. By nearest rank a percentile is the smallest value up to which there are
-- that many per cent of the events: whole numbers are compared, nothing is rounded.
SELECT sku, project_id, window_number, group_1, group_2, group_3,
       min(quantity) FILTER (WHERE events_up_to * 100 >= events_in_all * %(percent)s::integer) AS quantity,
       count(*) AS value_count, sum(events)::bigint AS event_count,
       min(first_event_at) AS first_event_at, max(last_event_at) AS last_event_at
  FROM (SELECT counted.*, sum(events) OVER (whole ORDER BY quantity) AS events_up_to, sum(events) OVER whole AS events_in_all
          FROM (SELECT sku, project_id, window_number, group_1, group_2, group_3, quantity, count(*) AS events,
                       min(event_time) AS first_event_at, max(event_time) AS last_event_at
                  FROM placed
                 GROUP BY 1, 2, 3, 4, 5, 6, 7) AS counted
        WINDOW whole AS (PARTITION BY sku, project_id, window_number, group_1, group_2, group_3)) AS ranked
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
 LIMIT %(rows_max)s;

-- @levels over placed of placed_of_usage_now, placed_of_usage_at
-- An event sets the level of its series from its instant on; of several at one instant the largest does. Each window's
-- events give the integral from the first of them to the window's end; of what was before the period, window 0, only
-- the last level is of interest, and none if it is zero. What holds over a window's start is added to it elsewhere.
SELECT sku, project_id, window_number, group_1, group_2, group_3,
       CASE WHEN window_number = 0 THEN 0
            ELSE sum(level * 1000000 * (extract(epoch FROM coalesce(next_at, (%(window_ends)s::timestamptz[])[window_number]))
                                        - extract(epoch FROM event_time))) END AS level_microseconds,
       max(level) FILTER (WHERE next_at IS NULL) AS closing_level, sum(events)::bigint AS event_count,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM (SELECT instant.*, lead(event_time) OVER (PARTITION BY sku, project_id, group_1, group_2, group_3, window_number
                                                 ORDER BY event_time) AS next_at
          FROM (SELECT sku, project_id, window_number, group_1, group_2, group_3, event_time,
                       max(quantity) AS level, count(*) AS events
                  FROM placed
                 GROUP BY 1, 2, 3, 4, 5, 6, 7) AS instant) AS followed
 GROUP BY 1, 2, 3, 4, 5, 6
HAVING window_number > 0 OR max(level) FILTER (WHERE next_at IS NULL) > 0
 ORDER BY 1, 2, 4, 5, 6, 3
 LIMIT %(rows_max)s;

-- @parts over placed of placed_of_stretches_now, placed_of_stretches_at, placed_of_delta
-- What can be put together with what rollups have. An array compares by its first member first.
SELECT sku, project_id, window_number, group_1, group_2, group_3, count(*) AS event_count, sum(quantity) AS quantity,
       min(quantity) AS smallest, max(quantity) AS largest,
       (max(CASE WHEN %(with_latest)s::boolean
                 THEN ARRAY[extract(epoch FROM event_time) * 1000000, quantity] END))[2] AS latest,
       min(event_time) AS first_event_at, max(event_time) AS last_event_at
  FROM placed
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
 LIMIT %(rows_max)s;

-- @rolled
-- Buckets lie in one window each: those that a window's edge cuts are left out, and quarters of an hour stand in.
SELECT sku, project_id, width_bucket(bucket_at, %(window_starts)s::timestamptz[]) AS window_number,
       group_values[%(position_1)s::integer] AS group_1, group_values[%(position_2)s::integer] AS group_2,
       group_values[%(position_3)s::integer] AS group_3, sum(event_count)::bigint AS event_count,
       sum(quantity) AS quantity, min(smallest) AS smallest, max(largest) AS largest,
       (max(CASE WHEN %(with_latest)s::boolean
                 THEN ARRAY[extract(epoch FROM last_event_at) * 1000000, latest] END))[2] AS latest,
       min(first_event_at) AS first_event_at, max(last_event_at) AS last_event_at
  FROM (SELECT * FROM metering.usage_rollup
         WHERE tenant_id = %(tenant_id)s AND generation = %(generation)s AND org_id = %(org_id)s
           AND sku = ANY (%(skus)s::text[]) AND keyed = %(keyed)s::boolean AND minutes = %(minutes)s
           AND bucket_at >= %(from_at)s AND bucket_at < %(until_at)s
           AND NOT bucket_at = ANY (%(cut)s::timestamptz[])
        UNION ALL
        SELECT * FROM metering.usage_rollup
         WHERE tenant_id = %(tenant_id)s AND generation = %(generation)s AND org_id = %(org_id)s
           AND sku = ANY (%(skus)s::text[]) AND keyed = %(keyed)s::boolean AND minutes = 15
           AND bucket_at = ANY (%(quarters)s::timestamptz[])) AS bucket
 WHERE event_count > 0 AND (%(project_id)s = '' OR project_id = %(project_id)s)
   AND (%(wanted_1)s::text IS NULL OR group_values[1] = %(wanted_1)s)
   AND (%(wanted_2)s::text IS NULL OR group_values[2] = %(wanted_2)s)
   AND (%(wanted_3)s::text IS NULL OR group_values[3] = %(wanted_3)s)
   AND (%(wanted_4)s::text IS NULL OR group_values[4] = %(wanted_4)s)
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
 LIMIT %(rows_max)s;

-- @events_at
-- The next events behind a place, as usage_at counts them: some of each SKU, and of these the first.
SELECT event.*
  FROM unnest(%(skus)s::text[]) AS wanted (sku)
 CROSS JOIN LATERAL (
       (SELECT request_id, event_key, org_id, project_id, sku, event_time, quantity, source, metadata
          FROM metering.usage_event AS plain
         WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND sku = wanted.sku
           AND event_time >= %(from_at)s AND event_time < %(end_at)s
           AND (event_time, event_key) > (%(from_at)s, %(after_key)s::uuid)
           AND NOT EXISTS (SELECT FROM metering.receipt AS later
                            WHERE later.tenant_id = %(tenant_id)s AND later.receipt_id = plain.receipt_id
                              AND (later.ordinal > %(ordinal)s OR later.ordinal IS NULL))
           AND NOT EXISTS (SELECT FROM metering.event_version AS version
                            WHERE version.tenant_id = %(tenant_id)s AND version.event_key = plain.event_key)
         ORDER BY event_time, event_key
         LIMIT %(limit)s)
        UNION ALL
       (SELECT sent.request_id, newest.event_key, newest.org_id, newest.project_id, newest.sku, newest.event_time,
               newest.quantity, newest.source, newest.metadata
          FROM (SELECT DISTINCT ON (version.event_key) version.*
                  FROM metering.event_version AS version
                  JOIN metering.receipt AS receipt
                    ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = version.receipt_id
                   AND receipt.ordinal <= %(ordinal)s
                 WHERE version.tenant_id = %(tenant_id)s
                   AND version.event_key IN (SELECT touched.event_key FROM metering.event_version AS touched
                                              WHERE touched.tenant_id = %(tenant_id)s AND touched.org_id = %(org_id)s
                                                AND touched.sku = wanted.sku
                                                AND touched.event_time >= %(from_at)s
                                                AND touched.event_time < %(end_at)s)
                 ORDER BY version.event_key, version.version DESC) AS newest
          JOIN metering.usage_key AS key ON key.tenant_id = %(tenant_id)s AND key.event_key = newest.event_key
          JOIN metering.usage_event AS sent
            ON sent.tenant_id = %(tenant_id)s AND sent.receipt_id = key.receipt_id AND sent.event_key = key.event_key
         WHERE NOT newest.cancelled AND newest.org_id = %(org_id)s AND newest.sku = wanted.sku
           AND newest.event_time >= %(from_at)s AND newest.event_time < %(end_at)s
           AND (newest.event_time, newest.event_key) > (%(from_at)s, %(after_key)s::uuid)
         ORDER BY newest.event_time, newest.event_key
         LIMIT %(limit)s)
       ) AS event
 ORDER BY event.event_time, event.event_key
 LIMIT %(limit)s;
