Transfers that post themselves later.

The row of its id guards a scheduled transfer: who ends it, be it by posting, refusing or cancelling, locks that first,
those of a chain sorted.

-- @insert_scheduled
INSERT INTO ledger.scheduled (tenant_id, transfer_id, first_id, position, debit_account_id, credit_account_id,
                              currency_code, amount_minor, code, linked, effective_at, metadata, flags, reference_kind,
                              reference_id, reference_part, not_before, state, accepted_at, due_at, correlation_id,
                              causation_id, traceparent)
SELECT %(tenant_id)s, s.transfer_id, s.first_id, s.position, s.debit_account_id, s.credit_account_id, s.currency_code,
       s.amount_minor, s.code, s.linked, s.effective_at, s.metadata::jsonb, s.flags, s.reference_kind, s.reference_id,
       s.reference_part, s.not_before, 1, %(now)s, CASE WHEN s.transfer_id = s.first_id THEN s.not_before END,
       %(correlation_id)s, %(causation_id)s, %(traceparent)s
  FROM unnest(%(transfer_ids)s::uuid[], %(first_ids)s::uuid[], %(positions)s::integer[], %(debit_account_ids)s::text[],
              %(credit_account_ids)s::text[], %(currency_codes)s::text[], %(amounts)s::bigint[], %(codes)s::integer[],
              %(linked)s::boolean[], %(effective_at)s::timestamptz[], %(metadata)s::text[], %(flags)s::smallint[],
              %(reference_kinds)s::text[], %(reference_ids)s::text[], %(reference_parts)s::text[],
              %(not_before)s::timestamptz[])
       AS s (transfer_id, first_id, position, debit_account_id, credit_account_id, currency_code, amount_minor, code,
             linked, effective_at, metadata, flags, reference_kind, reference_id, reference_part, not_before);

-- @read_scheduled
SELECT * FROM ledger.scheduled
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @read_chain
-- Without a lock, to know which ids to lock: which transfers are a chain never changes.
SELECT transfer_id, first_id FROM ledger.scheduled
 WHERE tenant_id = %(tenant_id)s
   AND first_id = (SELECT first_id FROM ledger.scheduled
                    WHERE tenant_id = %(tenant_id)s AND transfer_id = %(transfer_id)s)
 ORDER BY position;

-- @lock_ids
SELECT transfer_id, result FROM ledger.transfer_id
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[])
 ORDER BY transfer_id
   FOR UPDATE;

-- @free_ids
-- Locked before, so that nobody else can claim them: who tries waits for the end of this transaction.
DELETE FROM ledger.transfer_id
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @burn_ids
INSERT INTO ledger.transfer_id (tenant_id, transfer_id, fingerprint, result, recorded_at)
SELECT %(tenant_id)s, t.transfer_id, t.fingerprint, t.result, %(now)s
  FROM unnest(%(transfer_ids)s::uuid[], %(fingerprints)s::bytea[], %(results)s::smallint[])
       AS t (transfer_id, fingerprint, result)
    ON CONFLICT (tenant_id, transfer_id) DO UPDATE SET result = excluded.result, recorded_at = excluded.recorded_at;

-- @end_scheduled
UPDATE ledger.scheduled AS s
   SET state = %(state)s, refusal = t.refusal, cancel_reason = %(cancel_reason)s, ended_at = %(now)s, due_at = NULL,
       lease_owner = NULL, lease_until = NULL
  FROM unnest(%(transfer_ids)s::uuid[], %(refusals)s::smallint[]) AS t (transfer_id, refusal)
 WHERE s.tenant_id = %(tenant_id)s AND s.transfer_id = t.transfer_id;

-- @list_scheduled
SELECT * FROM ledger.scheduled
 WHERE tenant_id = %(tenant_id)s AND state = %(state)s
   AND (not_before, transfer_id) > (%(not_before)s::timestamptz, %(transfer_id)s::uuid)
 ORDER BY not_before, transfer_id
 LIMIT %(limit)s;

-- @claim_scheduled
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM ledger.claim_scheduled(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @scheduled_lag
SELECT due, oldest_at FROM ledger.scheduled_lag(%(now)s);
