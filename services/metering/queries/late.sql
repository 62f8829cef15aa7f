
Usage that was stored for closed periods. `late_event.event_time` says from when it counts in the period.

-- @stored
-- What this batch stores gets a greater ordinal than any charge has seen, so it need not be asked.
SELECT event.event_key, 0 AS version, 0 AS side, event.org_id, event.project_id, event.sku, event.event_time,
       event.quantity
  FROM metering.usage_event AS event
  JOIN unnest(%(event_keys)s::uuid[]) AS stored (event_key)
    ON event.tenant_id = %(tenant_id)s AND event.receipt_id = %(receipt_id)s::uuid
   AND event.event_key = stored.event_key

-- @unseen
-- What the charge did not see although it was stored before the closing was heard of. Reads what the charge read.
SELECT event.event_key, 0 AS version, 0 AS side, event.org_id, event.project_id, event.sku, event.event_time,
       event.quantity
  FROM metering.closed_period AS period
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.org_id = period.org_id AND event.sku = ANY (%(skus)s::text[])
   AND event.event_time >= period.start_at AND event.event_time < period.end_at
  JOIN metering.receipt AS receipt
    ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = event.receipt_id
 WHERE period.tenant_id = %(tenant_id)s AND period.charge_id = %(charge_id)s
   AND receipt.ordinal > period.usage_ordinal AND receipt.ordinal <= period.heard_ordinal
UNION ALL
SELECT event.event_key, 0, 0, event.org_id, event.project_id, event.sku, event.event_time, event.quantity
  FROM metering.closed_period AS period
  JOIN (SELECT sku, start_at FROM metering.carried_sku
         WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s) AS carried ON true
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.org_id = period.org_id AND event.sku = carried.sku
   AND event.event_time < carried.start_at
  JOIN metering.receipt AS receipt
    ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = event.receipt_id
 WHERE period.tenant_id = %(tenant_id)s AND period.charge_id = %(charge_id)s
   AND receipt.ordinal > period.usage_ordinal AND receipt.ordinal <= period.heard_ordinal

-- @stored_changes
-- What this batch corrected.
SELECT event_key, version FROM metering.event_version
 WHERE tenant_id = %(tenant_id)s AND event_key = ANY (%(event_keys)s::uuid[]) AND receipt_id = %(receipt_id)s::uuid
   AND version > 0

-- @unseen_changes
-- What was corrected between the reading of a charge and the moment in which metering heard of it.
SELECT changed.event_key, changed.version
  FROM metering.closed_period AS period
  JOIN metering.event_version AS touched
    ON touched.tenant_id = %(tenant_id)s AND touched.org_id = period.org_id AND touched.sku = ANY (%(skus)s::text[])
   AND touched.event_time < period.end_at
   AND (touched.event_time >= period.start_at
        OR touched.sku IN (SELECT sku FROM metering.carried_sku
                            WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s))
  JOIN metering.event_version AS changed
    ON changed.tenant_id = %(tenant_id)s AND changed.event_key = touched.event_key AND changed.version > 0
   AND changed.version IN (touched.version, touched.version + 1)
  JOIN metering.receipt AS receipt
    ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = changed.receipt_id
   AND receipt.ordinal > period.usage_ordinal AND receipt.ordinal <= period.heard_ordinal
 WHERE period.tenant_id = %(tenant_id)s AND period.charge_id = %(charge_id)s

-- @sides over change of stored_changes, unseen_changes
-- A change has two sides: what it takes away and what it brings.
SELECT change.event_key, change.version, stored.version - change.version AS side, stored.org_id, stored.project_id,
       stored.sku, stored.event_time,
       CASE WHEN stored.version = change.version THEN stored.quantity ELSE -stored.quantity END AS quantity
  FROM (SELECT DISTINCT event_key, version FROM change) AS change
  JOIN metering.event_version AS stored
    ON stored.tenant_id = %(tenant_id)s AND stored.event_key = change.event_key
   AND stored.version IN (change.version - 1, change.version)
 WHERE NOT (stored.version = change.version AND stored.cancelled)

-- @mark over touched of stored, unseen, sides_of_stored_changes, sides_of_unseen_changes
-- Usage is late for the period in which it lies; what sets a level is for every period that begins before the next event
-- of its series, and counts in it from its start.
, hit AS (
    SELECT touched.event_key, touched.version, touched.side, touched.org_id, touched.sku, touched.event_time,
           touched.quantity, period.charge_id, period.start_at, period.end_at, touched.event_time AS counts_from_at
      FROM touched
      JOIN metering.closed_period AS period
        ON period.tenant_id = %(tenant_id)s AND period.org_id = touched.org_id
       AND period.start_at <= touched.event_time AND period.end_at > touched.event_time
       AND (%(charge_id)s::text IS NULL OR period.charge_id = %(charge_id)s)
     UNION ALL
    SELECT touched.event_key, touched.version, touched.side, touched.org_id, touched.sku, touched.event_time,
           touched.quantity, period.charge_id, period.start_at, period.end_at, period.start_at
      FROM touched
      JOIN metering.carried_sku AS carried
        ON carried.tenant_id = %(tenant_id)s AND carried.org_id = touched.org_id AND carried.sku = touched.sku
       AND carried.start_at > touched.event_time
       AND (%(charge_id)s::text IS NULL OR carried.charge_id = %(charge_id)s)
      JOIN metering.closed_period AS period
        ON period.tenant_id = %(tenant_id)s AND period.charge_id = carried.charge_id
     WHERE NOT metering.level_ends(%(tenant_id)s, touched.org_id, touched.project_id, touched.sku, touched.event_time,
                                   carried.start_at)
), late AS (
    INSERT INTO metering.late_event (tenant_id, org_id, event_time, event_key, charge_id, version)
    SELECT DISTINCT ON (event_key, version, charge_id)
           %(tenant_id)s, org_id, counts_from_at, event_key, charge_id, version
      FROM hit ORDER BY event_key, version, charge_id, side DESC
        ON CONFLICT DO NOTHING
 RETURNING event_key, version, charge_id
)
SELECT hit.charge_id, hit.start_at, hit.end_at, hit.org_id, hit.sku,
       count(DISTINCT (hit.event_key, hit.version))::int AS event_count, sum(hit.quantity) AS quantity,
       min(hit.event_time) AS first_event_at, max(hit.event_time) AS last_event_at
  FROM hit JOIN late USING (event_key, version, charge_id)
 GROUP BY 1, 2, 3, 4, 5
 ORDER BY 4, 1, 5;

-- @list_late
SELECT event.request_id, late.org_id AS place_org_id, late.event_time AS place_time, late.event_key::text AS event_key,
       late.version, late.charge_id, receipt.receipt_id::text AS receipt_id, receipt.recorded_at, receipt.ordinal,
       coalesce(changed.cancelled, false) AS cancelled,
       coalesce(changed.org_id, event.org_id) AS org_id, coalesce(changed.project_id, event.project_id) AS project_id,
       coalesce(changed.sku, event.sku) AS sku, coalesce(changed.quantity, event.quantity) AS quantity,
       coalesce(changed.event_time, event.event_time) AS event_time, coalesce(changed.source, event.source) AS source,
       CASE WHEN late.version = 0 THEN event.metadata ELSE changed.metadata END AS metadata,
       before.org_id AS before_org_id, before.project_id AS before_project_id, before.sku AS before_sku,
       before.quantity AS before_quantity, before.event_time AS before_event_time, before.source AS before_source,
       before.metadata AS before_metadata
  FROM metering.late_event AS late
  JOIN metering.usage_key AS key ON key.tenant_id = %(tenant_id)s AND key.event_key = late.event_key
  JOIN metering.usage_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.receipt_id = key.receipt_id AND event.event_key = key.event_key
  LEFT JOIN metering.event_version AS changed
    ON changed.tenant_id = %(tenant_id)s AND changed.event_key = late.event_key AND changed.version = late.version
   AND late.version > 0
  LEFT JOIN metering.event_version AS before
    ON before.tenant_id = %(tenant_id)s AND before.event_key = late.event_key AND before.version = late.version - 1
  JOIN metering.receipt AS receipt
    ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = coalesce(changed.receipt_id, event.receipt_id)
 WHERE late.tenant_id = %(tenant_id)s AND (%(org_id)s = '' OR late.org_id = %(org_id)s)
   AND (%(start_at)s::timestamptz IS NULL OR late.event_time >= %(start_at)s)
   AND (%(end_at)s::timestamptz IS NULL OR late.event_time < %(end_at)s)
   AND (late.org_id, late.event_time, late.event_key, late.version)
       > (%(after_org)s, %(after_time)s, %(after_key)s::uuid, %(after_version)s::int)
 ORDER BY late.org_id, late.event_time, late.event_key, late.version
 LIMIT %(limit)s;
