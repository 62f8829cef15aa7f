What was taken back of transfers.

-- @lock_reversed
-- As for postings, so many keys for all.
SELECT pg_advisory_xact_lock(hashtext('ledger.reversal'), k.key)
  FROM unnest(%(keys)s::integer[]) AS k (key);

-- @sum_reversed
-- A reversal that was itself reversed counts for what is left of it, and so on: of one that went the same way again,
-- too. One that is a hold counts for what was posted of it and what still may be.
WITH RECURSIVE taken (reversed_id, transfer_id, amount_minor, sign) AS (
  SELECT r.reversed_id, r.transfer_id, r.amount_minor, 1
    FROM ledger.reversal AS r
   WHERE r.tenant_id = %(tenant_id)s AND r.reversed_id = ANY (%(transfer_ids)s::uuid[])
   UNION ALL
  SELECT t.reversed_id, r.transfer_id, r.amount_minor, -t.sign * sign(t.amount_minor)::integer
    FROM taken AS t
    JOIN ledger.reversal AS r ON r.tenant_id = %(tenant_id)s AND r.reversed_id = t.transfer_id
)
SELECT t.reversed_id,
       sum(t.sign * sign(t.amount_minor)
           * CASE WHEN h.transfer_id IS NULL THEN abs(t.amount_minor) ELSE h.remaining_minor + coalesce(p.posted, 0) END
       )::numeric
  FROM taken AS t
  LEFT JOIN ledger.hold AS h ON h.tenant_id = %(tenant_id)s AND h.transfer_id = t.transfer_id
  LEFT JOIN LATERAL (SELECT sum(e.amount_minor) AS posted
                       FROM ledger.transfer AS e
                      WHERE h.transfer_id IS NOT NULL AND e.tenant_id = %(tenant_id)s AND e.pending_id = h.transfer_id
                        AND e.kind = 3) AS p ON true
 GROUP BY t.reversed_id;

-- @read_above
-- What reversals touch further up. Taking one back gives again to what it took of, and takes again of what that took of.
WITH RECURSIVE above (of_id, transfer_id, way) AS (
  SELECT r.transfer_id, r.reversed_id, -sign(r.amount_minor)::integer
    FROM ledger.reversal AS r
   WHERE r.tenant_id = %(tenant_id)s AND r.transfer_id = ANY (%(transfer_ids)s::uuid[])
   UNION ALL
  SELECT a.of_id, r.reversed_id, -a.way * sign(r.amount_minor)::integer
    FROM above AS a
    JOIN ledger.reversal AS r ON r.tenant_id = %(tenant_id)s AND r.transfer_id = a.transfer_id
)
SELECT a.of_id, a.transfer_id, a.way,
       CASE WHEN h.transfer_id IS NULL THEN t.amount_minor ELSE h.remaining_minor + coalesce(p.posted, 0) END::numeric
         AS posted_minor
  FROM above AS a
  JOIN ledger.transfer_id AS i ON i.tenant_id = %(tenant_id)s AND i.transfer_id = a.transfer_id
  JOIN LATERAL (SELECT amount_minor
                  FROM ledger.transfer
                 WHERE tenant_id = i.tenant_id AND transfer_id = i.transfer_id AND recorded_at = i.recorded_at
                 LIMIT 1) AS t ON true
  LEFT JOIN ledger.hold AS h ON h.tenant_id = %(tenant_id)s AND h.transfer_id = a.transfer_id
  LEFT JOIN LATERAL (SELECT sum(e.amount_minor) AS posted
                       FROM ledger.transfer AS e
                      WHERE h.transfer_id IS NOT NULL AND e.tenant_id = %(tenant_id)s AND e.pending_id = h.transfer_id
                        AND e.kind = 3) AS p ON true;

-- @insert_reversal
INSERT INTO ledger.reversal (tenant_id, reversed_id, transfer_id, amount_minor)
VALUES (%(tenant_id)s, %(reversed_id)s, %(transfer_id)s, %(amount_minor)s);
