
Batches that were held while the database was away.

-- @take_turn
-- Of several processes that drain one is at work on a tenant; who has to wait looks at other tenants meanwhile.
SELECT pg_try_advisory_xact_lock(hashtextextended('metering.spool/' || %(tenant_id)s, 0)) AS taken;

-- @find_drained
SELECT receipt_id::text AS receipt_id, stored_receipt_id::text AS stored_receipt_id, events, accepted, duplicate,
       conflict, rejected, problems, received_at, drained_at
  FROM metering.spooled_batch
 WHERE tenant_id = %(tenant_id)s AND receipt_id = %(receipt_id)s::uuid;

-- @which_are_drained
SELECT receipt_id::text AS receipt_id FROM metering.spooled_batch
 WHERE tenant_id = %(tenant_id)s AND receipt_id = ANY (%(receipt_ids)s::uuid[]);

-- @insert_drained
INSERT INTO metering.spooled_batch (tenant_id, receipt_id, stored_receipt_id, events, accepted, duplicate, conflict,
                                    rejected, problems, received_at, drained_at)
VALUES (%(tenant_id)s, %(receipt_id)s::uuid, %(stored_receipt_id)s::uuid, %(events)s, %(accepted)s, %(duplicate)s,
        %(conflict)s, %(rejected)s, %(problems)s, %(received_at)s, %(drained_at)s);
