
Refused events.

-- @insert_rejected
INSERT INTO metering.rejected_event (tenant_id, receipt_id, event_index, request_id, reason, message, content,
                                     org_id, sku)
SELECT %(tenant_id)s, %(receipt_id)s::uuid, *
  FROM unnest(%(indexes)s::int[], %(request_ids)s::text[], %(reasons)s::text[], %(messages)s::text[],
              %(contents)s::bytea[], %(org_ids)s::text[], %(skus)s::text[]);

-- @list_rejected
SELECT event.receipt_id::text AS receipt_id, event.event_index, event.content, event.reason, event.message,
       receipt.recorded_at, event.replayed_receipt_id::text AS replayed_receipt_id
  FROM metering.rejected_event AS event
  JOIN metering.receipt AS receipt
    ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = event.receipt_id
 WHERE event.tenant_id = %(tenant_id)s
   AND (event.receipt_id, event.event_index) > (%(after_receipt)s::uuid, %(after_index)s::int)
   AND (%(org_id)s = '' OR event.org_id = %(org_id)s) AND (%(sku)s = '' OR event.sku = %(sku)s)
   AND (%(reason)s = '' OR event.reason = %(reason)s)
   AND (%(start_at)s::timestamptz IS NULL OR receipt.recorded_at >= %(start_at)s)
   AND (%(end_at)s::timestamptz IS NULL OR receipt.recorded_at < %(end_at)s)
   AND (%(include_replayed)s::boolean OR event.replayed_receipt_id IS NULL)
 ORDER BY event.receipt_id, event.event_index
 LIMIT %(limit)s;

-- @find_rejected
SELECT event.receipt_id::text AS receipt_id, event.event_index, event.content, event.reason, event.message,
       receipt.recorded_at, event.replayed_receipt_id::text AS replayed_receipt_id
  FROM (SELECT DISTINCT receipt_id, event_index
          FROM unnest(%(receipt_ids)s::uuid[], %(indexes)s::int[]) AS id (receipt_id, event_index)) AS named
  JOIN metering.rejected_event AS event
    ON event.tenant_id = %(tenant_id)s AND event.receipt_id = named.receipt_id AND event.event_index = named.event_index
  JOIN metering.receipt AS receipt
    ON receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = event.receipt_id
 ORDER BY event.receipt_id, event.event_index;

-- @mark_replayed
UPDATE metering.rejected_event AS event SET replayed_receipt_id = %(receipt_id)s::uuid
  FROM unnest(%(receipt_ids)s::uuid[], %(indexes)s::int[]) AS named (receipt_id, event_index)
 WHERE event.tenant_id = %(tenant_id)s AND event.receipt_id = named.receipt_id
   AND event.event_index = named.event_index AND event.replayed_receipt_id IS NULL;
