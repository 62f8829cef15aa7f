Lists of transfers.

-- @read_reversals
SELECT t.reverses_id, t.transfer_id
  FROM ledger.transfer_id AS i
  JOIN ledger.transfer AS t
    ON t.tenant_id = i.tenant_id AND t.transfer_id = i.transfer_id AND t.recorded_at = i.recorded_at
 WHERE i.tenant_id = %(tenant_id)s AND i.transfer_id = ANY (%(transfer_ids)s::uuid[]) AND t.reverses_id IS NOT NULL;
