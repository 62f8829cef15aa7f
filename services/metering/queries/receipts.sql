
Receipts of batches.

-- @insert_receipt
INSERT INTO metering.receipt (tenant_id, receipt_id, accepted, duplicate, conflict, rejected, first_event_at,
                              last_event_at, recorded_at, recorded_by, kind, batch_digest)
VALUES (%(tenant_id)s, %(receipt_id)s::uuid, %(accepted)s, %(duplicate)s, %(conflict)s, %(rejected)s,
        %(first_event_at)s, %(last_event_at)s, %(recorded_at)s, %(recorded_by)s, %(kind)s, %(batch_digest)s::uuid);

-- @receipts_of_batches
-- The first that each batch got, of those that refused as many of its events as now.
SELECT DISTINCT ON (batch_digest) batch_digest::text AS batch_digest, receipt_id::text AS receipt_id
  FROM metering.receipt
 WHERE tenant_id = %(tenant_id)s AND batch_digest = ANY (%(batch_digests)s::uuid[]) AND rejected = %(rejected)s
 ORDER BY batch_digest, recorded_at, receipt_id;

-- @insert_receipts
INSERT INTO metering.receipt (tenant_id, receipt_id, accepted, duplicate, conflict, rejected, first_event_at,
                              last_event_at, recorded_at, recorded_by, kind, batch_digest)
SELECT %(tenant_id)s, receipt_id, accepted, duplicate, conflict, rejected, first_event_at, last_event_at,
       %(recorded_at)s, recorded_by, %(kind)s, batch_digest
  FROM unnest(%(receipt_ids)s::uuid[], %(accepted)s::integer[], %(duplicate)s::integer[], %(conflict)s::integer[],
              %(rejected)s::integer[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[], %(recorded_by)s::text[],
              %(batch_digests)s::uuid[])
       AS given (receipt_id, accepted, duplicate, conflict, rejected, first_event_at, last_event_at, recorded_by,
                 batch_digest);
