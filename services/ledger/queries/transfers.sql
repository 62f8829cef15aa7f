Lists of transfers.

-- @read_reversals
SELECT t.reverses_id, t.transfer_id
  FROM ledger.transfer_id AS i
  JOIN LATERAL (SELECT * FROM ledger.transfer
                WHERE tenant_id = i.tenant_id AND transfer_id = i.transfer_id AND recorded_at = i.recorded_at
                LIMIT 1) AS t ON true
 WHERE i.tenant_id = %(tenant_id)s AND i.transfer_id = ANY (%(transfer_ids)s::uuid[]) AND t.reverses_id IS NOT NULL;
