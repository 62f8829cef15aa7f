
Stored events, one by one, as they count at an ordinal.

-- @list_plain
-- Events without corrections. The pairs of organisation and SKU are found by steps of the index, each with how many of
-- its events fit on the page, so that what is read follows from the page and the pairs, however many events there are. A
-- pair without any gives a row too: the place to go on from.
WITH RECURSIVE pair (org_id, sku, taken, looked, total) AS (
    SELECT %(after_org)s::text COLLATE "C", %(after_sku)s::text COLLATE "C", counted.taken, 1, counted.taken
      FROM (SELECT count(*) AS taken
              FROM (SELECT FROM metering.usage_event AS event
                     WHERE event.tenant_id = %(tenant_id)s AND event.org_id = %(after_org)s AND event.sku = %(after_sku)s
                       AND event.event_time >= %(start_at)s AND event.event_time < %(end_at)s
                       AND (event.event_time, event.event_key) > (%(after_at)s, %(after_key)s::uuid)
                     LIMIT %(limit)s) AS seen) AS counted
    UNION ALL
    SELECT next.org_id, next.sku, counted.taken, pair.looked + 1, pair.total + counted.taken
      FROM pair
     CROSS JOIN LATERAL (SELECT event.org_id, event.sku FROM metering.usage_event AS event
                          WHERE event.tenant_id = %(tenant_id)s AND (event.org_id, event.sku) > (pair.org_id, pair.sku)
                            AND (%(org_id)s = '' OR event.org_id = %(org_id)s)
                            AND (%(sku)s = '' OR event.sku = %(sku)s)
                          ORDER BY event.org_id, event.sku LIMIT 1) AS next
     CROSS JOIN LATERAL (SELECT count(*) AS taken
                           FROM (SELECT FROM metering.usage_event AS event
                                  WHERE event.tenant_id = %(tenant_id)s AND event.org_id = next.org_id
                                    AND event.sku = next.sku
                                    AND event.event_time >= %(start_at)s AND event.event_time < %(end_at)s
                                  LIMIT %(limit)s - pair.total) AS seen) AS counted
     WHERE pair.total < %(limit)s AND pair.looked < %(pairs_max)s
)
SELECT pair.org_id AS pair_org_id, pair.sku AS pair_sku, pair.looked, pair.total, event.event_key::text AS event_key,
       event.request_id, event.org_id, event.project_id, event.sku, event.quantity, event.event_time, event.source,
       event.metadata,
       NOT EXISTS (SELECT FROM metering.receipt AS later
                    WHERE later.tenant_id = %(tenant_id)s AND later.receipt_id = event.receipt_id
                      AND (later.ordinal > %(ordinal)s OR later.ordinal IS NULL))
       AND NOT EXISTS (SELECT FROM metering.event_version AS version
                        WHERE version.tenant_id = %(tenant_id)s AND version.event_key = event.event_key) AS is_listed
  FROM pair
  LEFT JOIN LATERAL (SELECT * FROM metering.usage_event AS stored
                      WHERE stored.tenant_id = %(tenant_id)s AND stored.org_id = pair.org_id AND stored.sku = pair.sku
                        AND stored.event_time >= %(start_at)s AND stored.event_time < %(end_at)s
                        AND (pair.looked > 1
                             OR (stored.event_time, stored.event_key) > (%(after_at)s, %(after_key)s::uuid))
                      ORDER BY stored.event_time, stored.event_key
                      LIMIT pair.taken) AS event ON true
 ORDER BY pair.looked, event.event_time, event.event_key;

-- @list_orgs
-- Organisations with an event in a period, by steps of the index from one pair of organisation and SKU to the next; what
-- an organisation has behind its first such pair is passed over. The last SKU comes behind all.
WITH RECURSIVE pair (org_id, sku, is_used, looked, found) AS (
    SELECT %(after_org)s::text COLLATE "C", %(after_sku)s::text COLLATE "C", false, 0, 0
    UNION ALL
    SELECT next.org_id, next.sku, used.is_used, pair.looked + 1, pair.found + used.is_used::integer
      FROM pair
     CROSS JOIN LATERAL (SELECT event.org_id, event.sku FROM metering.usage_event AS event
                          WHERE event.tenant_id = %(tenant_id)s
                            AND (event.org_id, event.sku)
                                > (pair.org_id, CASE WHEN pair.is_used THEN %(last_sku)s ELSE pair.sku END)
                          ORDER BY event.org_id, event.sku LIMIT 1) AS next
     CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM metering.usage_event AS event
                                         WHERE event.tenant_id = %(tenant_id)s AND event.org_id = next.org_id
                                           AND event.sku = next.sku AND event.event_time >= %(start_at)s
                                           AND event.event_time < %(end_at)s) AS is_used) AS used
     WHERE pair.found < %(limit)s AND pair.looked < %(pairs_max)s
)
SELECT org_id, sku, is_used, looked FROM pair WHERE looked > 0 ORDER BY looked;

-- @list_corrected
-- Of events that were corrected, the newest version up to the ordinal.
SELECT touched.event_key::text AS event_key, newest.version, newest.cancelled, event.request_id, newest.org_id,
       newest.project_id, newest.sku, newest.quantity, newest.event_time, newest.source, newest.metadata,
       coalesce(newest.event_time >= %(start_at)s AND newest.event_time < %(end_at)s
                AND (%(org_id)s = '' OR newest.org_id = %(org_id)s) AND (%(sku)s = '' OR newest.sku = %(sku)s)
                AND (%(include_cancelled)s::boolean OR NOT newest.cancelled), false) AS is_listed
  FROM (SELECT DISTINCT version.event_key FROM metering.event_version AS version
         WHERE version.tenant_id = %(tenant_id)s AND version.event_key > %(after_key)s::uuid
           AND version.event_time >= %(start_at)s AND version.event_time < %(end_at)s
           AND (%(org_id)s = '' OR version.org_id = %(org_id)s) AND (%(sku)s = '' OR version.sku = %(sku)s)
         ORDER BY version.event_key LIMIT %(limit)s) AS touched
  JOIN metering.usage_key AS key ON key.tenant_id = %(tenant_id)s AND key.event_key = touched.event_key
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.receipt_id = key.receipt_id AND event.event_key = key.event_key
  LEFT JOIN LATERAL (SELECT version.* FROM metering.event_version AS version
                       JOIN metering.receipt AS receipt
                         ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = version.receipt_id
                        AND receipt.ordinal <= %(ordinal)s
                      WHERE version.tenant_id = %(tenant_id)s AND version.event_key = touched.event_key
                      ORDER BY version.version DESC LIMIT 1) AS newest ON true
 ORDER BY touched.event_key;
