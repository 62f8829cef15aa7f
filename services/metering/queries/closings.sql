
Periods that charges closed.

-- @hold_closings
-- From here to the commit no period of the tenant is closed, and a closing that was waited for is seen by the next
-- statement, whose snapshot is younger. Batches share the lock.
SELECT pg_advisory_xact_lock_shared(hashtextextended('metering.closed_period/' || %(tenant_id)s, 0));

-- @wait_for_batches
-- Alone: each batch that is under way has committed its events, or will see the closing.
SELECT pg_advisory_xact_lock(hashtextextended('metering.closed_period/' || %(tenant_id)s, 0));

-- @close_period
INSERT INTO metering.closed_period (tenant_id, charge_id, org_id, start_at, end_at, usage_ordinal, heard_ordinal,
                                    heard_at)
VALUES (%(tenant_id)s, %(charge_id)s, %(org_id)s, %(start_at)s, %(end_at)s, %(usage_ordinal)s, %(heard_ordinal)s,
        %(heard_at)s)
ON CONFLICT (tenant_id, charge_id) DO NOTHING
RETURNING charge_id;

-- @carry_skus
-- What the charge read as levels, which hold on from before its period. What an adjustment reads is added: a SKU that is
-- no longer read so is told of once too often, and no other is lost.
INSERT INTO metering.carried_sku (tenant_id, org_id, sku, start_at, charge_id)
SELECT %(tenant_id)s, period.org_id, carried.sku, period.start_at, period.charge_id
  FROM metering.closed_period AS period, unnest(%(skus)s::text[]) AS carried (sku)
 WHERE period.tenant_id = %(tenant_id)s AND period.charge_id = %(charge_id)s
    ON CONFLICT DO NOTHING;

-- @advance_closing
-- Never back: what was billed once is billed.
UPDATE metering.closed_period SET usage_ordinal = greatest(usage_ordinal, %(usage_ordinal)s::bigint)
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s;

-- @forget_billed
-- What the adjustment saw is billed by it: events and changes of events that receipts up to its ordinal brought.
DELETE FROM metering.late_event AS late
 USING metering.receipt AS receipt
 WHERE late.tenant_id = %(tenant_id)s AND late.charge_id = %(charge_id)s
   AND receipt.tenant_id = %(tenant_id)s AND receipt.ordinal <= %(usage_ordinal)s::bigint
   AND receipt.receipt_id = CASE
         WHEN late.version = 0
         THEN (SELECT event.receipt_id FROM metering.usage_key AS event
                WHERE event.tenant_id = %(tenant_id)s AND event.event_key = late.event_key)
         ELSE (SELECT changed.receipt_id FROM metering.event_version AS changed
                WHERE changed.tenant_id = %(tenant_id)s AND changed.event_key = late.event_key
                  AND changed.version = late.version)
       END;

-- @forget_late
DELETE FROM metering.late_event WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s;

-- @forget_carried
DELETE FROM metering.carried_sku WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s;

-- @forget_closing
DELETE FROM metering.closed_period WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s;

-- @is_closed
SELECT org_id FROM metering.closed_period WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s;

-- @charges_of
-- The charges that have closed the periods in which usage counts; where several have, the oldest one. An event that sets
-- a level counts in every period that begins before the next event of the SKU in its project.
SELECT DISTINCT ON (used.place) used.place::int AS place, closed.charge_id
  FROM unnest(%(org_ids)s::text[], %(project_ids)s::text[], %(skus)s::text[], %(event_times)s::timestamptz[])
       WITH ORDINALITY AS used (org_id, project_id, sku, event_time, place)
 CROSS JOIN LATERAL (
        SELECT period.charge_id, period.heard_at
          FROM metering.closed_period AS period
         WHERE period.tenant_id = %(tenant_id)s AND period.org_id = used.org_id COLLATE "C"
           AND period.end_at > used.event_time AND period.start_at <= used.event_time
        UNION ALL
        SELECT period.charge_id, period.heard_at
          FROM metering.carried_sku AS carried
          JOIN metering.closed_period AS period
            ON period.tenant_id = %(tenant_id)s AND period.charge_id = carried.charge_id
         WHERE carried.tenant_id = %(tenant_id)s AND carried.org_id = used.org_id COLLATE "C"
           AND carried.sku = used.sku COLLATE "C" AND carried.start_at > used.event_time
           AND NOT metering.level_ends(%(tenant_id)s, used.org_id, used.project_id, used.sku, used.event_time,
                                       carried.start_at)
       ) AS closed
 WHERE %(heard_until_at)s::timestamptz IS NULL OR closed.heard_at <= %(heard_until_at)s::timestamptz
 ORDER BY used.place, closed.heard_at, closed.charge_id;

-- @touches_closed
-- One step of the index for each organisation of the batch; nearly always there is nothing.
SELECT EXISTS (
    SELECT FROM unnest(%(org_ids)s::text[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
                AS batch (org_id, first_at, last_at)
      JOIN metering.closed_period AS period
        ON period.tenant_id = %(tenant_id)s AND period.org_id = batch.org_id COLLATE "C"
       AND period.end_at > batch.first_at AND period.start_at <= batch.last_at)
    OR EXISTS (
    SELECT FROM unnest(%(org_ids)s::text[], %(skus)s::text[], %(firsts)s::timestamptz[])
                AS batch (org_id, sku, first_at)
      JOIN metering.carried_sku AS carried
        ON carried.tenant_id = %(tenant_id)s AND carried.org_id = batch.org_id COLLATE "C"
       AND carried.sku = batch.sku COLLATE "C" AND carried.start_at > batch.first_at) AS touched;
