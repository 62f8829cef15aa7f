
Ordinals of receipts: which became visible when.

-- @position
-- All of one snapshot: what it says of the newest ordinal, it says of the events too.
SELECT coalesce((SELECT last_ordinal FROM metering.receipt_counter WHERE tenant_id = %(tenant_id)s), 0) AS last_ordinal,
       EXISTS (SELECT FROM metering.receipt WHERE tenant_id = %(tenant_id)s AND ordinal IS NULL) AS unsequenced;

-- @lock_counter
-- One at a time; who waited reads what the one before has given.
INSERT INTO metering.receipt_counter AS held (tenant_id, last_ordinal) VALUES (%(tenant_id)s, 0)
    ON CONFLICT (tenant_id) DO UPDATE SET last_ordinal = held.last_ordinal
RETURNING last_ordinal;

-- @sequence
-- A statement of its own behind the lock: its snapshot is younger than every number given, so what it does not see
-- becomes visible later than all that it numbers, and gets a greater one.
WITH numbered AS (
    SELECT receipt_id, row_number() OVER (ORDER BY recorded_at, receipt_id) AS place
      FROM metering.receipt WHERE tenant_id = %(tenant_id)s AND ordinal IS NULL
), given AS (
    UPDATE metering.receipt AS receipt SET ordinal = %(last_ordinal)s::bigint + numbered.place
      FROM numbered
     WHERE receipt.tenant_id = %(tenant_id)s AND receipt.receipt_id = numbered.receipt_id
 RETURNING receipt.ordinal
)
UPDATE metering.receipt_counter
   SET last_ordinal = greatest(last_ordinal, (SELECT max(ordinal) FROM given))
 WHERE tenant_id = %(tenant_id)s
RETURNING last_ordinal;

-- @unsequenced
SELECT tenant_id FROM metering.unsequenced(%(after)s, %(tenants)s);

-- @ordinal_of_snapshot
-- For charges that were made before ordinals, and are heard of behind the upgrade. Below the first receipt that the
-- snapshot misses: what it may have seen beyond that counts as late, and a person sees it.
SELECT coalesce((SELECT min(ordinal) - 1 FROM metering.receipt
                  WHERE tenant_id = %(tenant_id)s AND accepted > 0
                    AND (recorded_xid IS NULL OR NOT pg_visible_in_snapshot(recorded_xid, %(snapshot)s::pg_snapshot))),
                (SELECT last_ordinal FROM metering.receipt_counter WHERE tenant_id = %(tenant_id)s), 0) AS ordinal;
