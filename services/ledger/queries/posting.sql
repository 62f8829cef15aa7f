Statements of the ledger. All run inside a unit of work, as the services' role, for the tenant of the transaction.

Locks are taken in one order everywhere: periods (see periods.sql), then transfer ids, then holds, then balances, each
sorted; so no two batches can wait for each other in a circle. Collation "C" of the ids makes Postgres and Python sort alike.

-- @claim_ids
-- Optimistic: most ids are posted, so they are claimed as such and only the others are corrected. A concurrent batch
-- with one of the same ids waits here until this one ends.
WITH claimed AS (
  INSERT INTO ledger.transfer_id (tenant_id, transfer_id, fingerprint, result, recorded_at)
  SELECT %(tenant_id)s, t.transfer_id, substring(%(fingerprints)s::bytea FROM (16 * t.place - 15)::integer FOR 16), 1,
         %(now)s
    FROM unnest(%(transfer_ids)s::uuid[]) WITH ORDINALITY AS t (transfer_id, place)
   ORDER BY t.transfer_id
      ON CONFLICT DO NOTHING
  RETURNING transfer_id
)
-- No list where all of them were claimed, which is the rule.
SELECT CASE WHEN count(*) < %(count)s THEN coalesce(array_agg(transfer_id), '{}') END FROM claimed;

-- @read_ids
SELECT transfer_id, fingerprint, result FROM ledger.transfer_id
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @read_transfers
-- By the time of recording too, which says in which partition a transfer is: so in each statement that has ids. One
-- by one, since a planner that knows little of the table would rather join it to all that the tenant has.
SELECT t.transfer_id, t.debit_account_id, t.credit_account_id, t.currency_code, t.amount_minor, t.code, t.kind, t.linked,
       t.effective_at, t.recorded_at, t.metadata, t.pending_id, t.timeout_ms, t.flags, t.asked_all, t.reverses_id,
       t.reference_kind, t.reference_id, t.reference_part, t.posting_id, t.not_before
  FROM ledger.transfer_id AS i
  JOIN LATERAL (SELECT * FROM ledger.transfer
                WHERE tenant_id = i.tenant_id AND transfer_id = i.transfer_id AND recorded_at = i.recorded_at
                LIMIT 1) AS t ON true
 WHERE i.tenant_id = %(tenant_id)s AND i.transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @read_transfer
SELECT t.transfer_id, t.debit_account_id, t.credit_account_id, t.currency_code, t.amount_minor, t.code, t.kind, t.linked,
       t.effective_at, t.recorded_at, t.metadata, t.pending_id, t.timeout_ms, t.flags, t.asked_all, t.reverses_id,
       t.reference_kind, t.reference_id, t.reference_part, t.posting_id, t.not_before, h.remaining_minor, h.state,
       h.expires_at, r.transfer_id AS reversed_by_id
  FROM ledger.transfer_id AS i
  JOIN LATERAL (SELECT * FROM ledger.transfer
                WHERE tenant_id = i.tenant_id AND transfer_id = i.transfer_id AND recorded_at = i.recorded_at
                LIMIT 1) AS t ON true
  LEFT JOIN ledger.hold AS h ON h.tenant_id = t.tenant_id AND h.transfer_id = t.transfer_id
  LEFT JOIN ledger.transfer AS r ON r.tenant_id = t.tenant_id AND r.reverses_id = t.transfer_id
 WHERE i.tenant_id = %(tenant_id)s AND i.transfer_id = %(transfer_id)s;

-- @read_views
SELECT t.transfer_id, t.debit_account_id, t.credit_account_id, t.currency_code, t.amount_minor, t.code, t.kind, t.linked,
       t.effective_at, t.recorded_at, t.metadata, t.pending_id, t.timeout_ms, t.flags, t.asked_all, t.reverses_id,
       t.reference_kind, t.reference_id, t.reference_part, t.posting_id, t.not_before, h.remaining_minor, h.state,
       h.expires_at, r.transfer_id AS reversed_by_id
  FROM ledger.transfer_id AS i
  JOIN LATERAL (SELECT * FROM ledger.transfer
                WHERE tenant_id = i.tenant_id AND transfer_id = i.transfer_id AND recorded_at = i.recorded_at
                LIMIT 1) AS t ON true
  LEFT JOIN ledger.hold AS h ON h.tenant_id = t.tenant_id AND h.transfer_id = t.transfer_id
  LEFT JOIN ledger.transfer AS r ON r.tenant_id = t.tenant_id AND r.reverses_id = t.transfer_id
 WHERE i.tenant_id = %(tenant_id)s AND i.transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @read_posted
-- In one statement, so that no hold is taken for another transfer: it may have been committed since holds were looked for.
SELECT t.transfer_id, h.debit_account_id, h.credit_account_id
  FROM ledger.transfer_id AS i
  JOIN LATERAL (SELECT * FROM ledger.transfer
                WHERE tenant_id = i.tenant_id AND transfer_id = i.transfer_id AND recorded_at = i.recorded_at
                LIMIT 1) AS t ON true
  LEFT JOIN ledger.hold AS h ON h.tenant_id = t.tenant_id AND h.transfer_id = t.transfer_id
 WHERE i.tenant_id = %(tenant_id)s AND i.transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @read_hold_accounts
-- Without a lock, to know which balances to lock: the accounts of a hold never change.
SELECT transfer_id, debit_account_id, credit_account_id FROM ledger.hold
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @lock_holds
SELECT transfer_id, debit_account_id, credit_account_id, currency_code, code, amount_minor, remaining_minor, state,
       expires_at, closing_debit, closing_credit, multi_capture
  FROM ledger.hold
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[])
 ORDER BY transfer_id
   FOR NO KEY UPDATE;

-- @insert_holds
INSERT INTO ledger.hold (tenant_id, transfer_id, debit_account_id, credit_account_id, currency_code, code, amount_minor,
                         remaining_minor, state, expires_at, closing_debit, closing_credit, multi_capture, due_at,
                         correlation_id, causation_id, traceparent)
SELECT %(tenant_id)s, h.transfer_id, h.debit_account_id, h.credit_account_id, h.currency_code, h.code, h.amount_minor,
       h.remaining_minor, h.state, h.expires_at, h.closing_debit, h.closing_credit, h.multi_capture,
       CASE WHEN h.state = 1 THEN h.expires_at END, %(correlation_id)s, %(causation_id)s, %(traceparent)s
  FROM unnest(%(transfer_ids)s::uuid[], %(debit_account_ids)s::text[], %(credit_account_ids)s::text[],
              %(currency_codes)s::text[], %(codes)s::integer[], %(amounts)s::bigint[], %(remaining)s::bigint[],
              %(states)s::smallint[], %(expires_at)s::timestamptz[], %(closing_debits)s::boolean[],
              %(closing_credits)s::boolean[], %(multi_captures)s::boolean[])
       AS h (transfer_id, debit_account_id, credit_account_id, currency_code, code, amount_minor, remaining_minor, state,
             expires_at, closing_debit, closing_credit, multi_capture);

-- @update_holds
UPDATE ledger.hold AS h
   SET remaining_minor = u.remaining_minor, state = u.state, due_at = CASE WHEN u.state = 1 THEN h.due_at END,
       lease_owner = NULL, lease_until = NULL
  FROM unnest(%(transfer_ids)s::uuid[], %(remaining)s::bigint[], %(states)s::smallint[])
       AS u (transfer_id, remaining_minor, state)
 WHERE h.tenant_id = %(tenant_id)s AND h.transfer_id = u.transfer_id;

-- @claim_due
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM ledger.claim_due(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @due_lag
SELECT due, oldest_at FROM ledger.due_lag(%(now)s);

-- @lock_balances
SELECT account_id, currency_code, type, debits_must_not_exceed_credits, credits_must_not_exceed_debits, closed,
       debits_posted, credits_posted, last_seq, debits_pending, credits_pending, floor_minor, ceiling_minor,
       monitored, limits_at_every_instant
  FROM ledger.balance
 WHERE tenant_id = %(tenant_id)s AND account_id = ANY (%(account_ids)s::text[])
 ORDER BY account_id
   FOR NO KEY UPDATE;

-- @next_batch_no
-- Drawn behind the locks: of two batches that share an account, the one that posts first draws the lower number.
SELECT nextval('ledger.batch_no') AS batch_no;

-- @release_ids
DELETE FROM ledger.transfer_id
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @correct_ids
UPDATE ledger.transfer_id AS i
   SET fingerprint = t.fingerprint, result = t.result
  FROM unnest(%(transfer_ids)s::uuid[], %(fingerprints)s::bytea[], %(results)s::smallint[])
       AS t (transfer_id, fingerprint, result)
 WHERE i.tenant_id = %(tenant_id)s AND i.transfer_id = t.transfer_id;

-- @insert_transfers
INSERT INTO ledger.transfer (tenant_id, transfer_id, batch_no, position, debit_account_id, credit_account_id,
                             currency_code, amount_minor, code, kind, linked, effective_at, recorded_at, metadata,
                             pending_id, timeout_ms, flags, asked_all, reverses_id, reference_kind, reference_id,
                             reference_part, posting_id, not_before)
SELECT %(tenant_id)s, t.transfer_id, %(batch_no)s, t.position, t.debit_account_id, t.credit_account_id, t.currency_code,
       t.amount_minor, t.code, t.kind, t.linked, coalesce(t.effective_at, %(now)s), %(now)s, t.metadata::jsonb,
       t.pending_id, t.timeout_ms, t.flags, t.asked_all, t.reverses_id, t.reference_kind, t.reference_id,
       t.reference_part, t.posting_id, t.not_before
  FROM unnest(%(transfer_ids)s::uuid[], %(positions)s::integer[], %(debit_account_ids)s::text[],
              %(credit_account_ids)s::text[], %(currency_codes)s::text[], %(amounts)s::bigint[], %(codes)s::integer[],
              %(kinds)s::smallint[], %(linked)s::boolean[], %(effective_at)s::timestamptz[], %(metadata)s::text[],
              %(pending_ids)s::uuid[], %(timeouts_ms)s::bigint[], %(flags)s::smallint[], %(asked_all)s::boolean[],
              %(reverses_ids)s::uuid[], %(reference_kinds)s::text[], %(reference_ids)s::text[],
              %(reference_parts)s::text[], %(posting_ids)s::uuid[], %(not_before)s::timestamptz[])
       AS t (transfer_id, position, debit_account_id, credit_account_id, currency_code, amount_minor, code, kind,
             linked, effective_at, metadata, pending_id, timeout_ms, flags, asked_all, reverses_id, reference_kind,
             reference_id, reference_part, posting_id, not_before);

-- @insert_plain
-- Metadata and effective_at are null where no transfer of the part has any.
WITH t AS MATERIALIZED (
  SELECT a.*, coalesce((%(metadata)s::text[])[a.place]::jsonb, '{}') AS metadata,
         coalesce((%(effective_at)s::timestamptz[])[a.place], %(now)s) AS effective_at
    FROM unnest(%(transfer_ids)s::uuid[], %(positions)s::integer[], %(debit_account_ids)s::text[],
                %(debit_seqs)s::bigint[], %(debit_balances)s::bigint[], %(credit_account_ids)s::text[],
                %(credit_seqs)s::bigint[], %(credit_balances)s::bigint[], %(currency_codes)s::text[],
                %(amounts)s::bigint[], %(codes)s::integer[], %(linked)s::integer[]) WITH ORDINALITY
         AS a (transfer_id, position, debit_account_id, debit_seq, debit_balance, credit_account_id, credit_seq,
               credit_balance, currency_code, amount_minor, code, linked, place)
), transfers AS (
  INSERT INTO ledger.transfer (tenant_id, transfer_id, batch_no, position, debit_account_id, credit_account_id,
                               currency_code, amount_minor, code, kind, linked, effective_at, recorded_at, metadata)
  SELECT %(tenant_id)s, transfer_id, %(batch_no)s, position, debit_account_id, credit_account_id, currency_code,
         amount_minor, code, 1, linked = 1, effective_at, %(now)s, metadata
    FROM t
)
INSERT INTO ledger.entry (tenant_id, account_id, seq, transfer_id, amount_minor, balance_after_minor,
                          counter_account_id, currency_code, code, recorded_at, effective_at)
SELECT %(tenant_id)s, debit_account_id, debit_seq, transfer_id, amount_minor, debit_balance, credit_account_id,
       currency_code, code, %(now)s, effective_at
  FROM t
 UNION ALL
SELECT %(tenant_id)s, credit_account_id, credit_seq, transfer_id, -amount_minor, credit_balance, debit_account_id,
       currency_code, code, %(now)s, effective_at
  FROM t;

-- @insert_entries
INSERT INTO ledger.entry (tenant_id, account_id, seq, transfer_id, amount_minor, balance_after_minor,
                          counter_account_id, currency_code, code, recorded_at, effective_at)
SELECT %(tenant_id)s, e.account_id, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor, e.counter_account_id,
       e.currency_code, e.code, %(now)s, coalesce(e.effective_at, %(now)s)
  FROM unnest(%(account_ids)s::text[], %(seqs)s::bigint[], %(transfer_ids)s::uuid[], %(amounts)s::bigint[],
              %(balances)s::bigint[], %(counter_account_ids)s::text[], %(currency_codes)s::text[], %(codes)s::integer[],
              %(effective_at)s::timestamptz[])
       AS e (account_id, seq, transfer_id, amount_minor, balance_after_minor, counter_account_id, currency_code, code,
             effective_at);

-- @update_balances
UPDATE ledger.balance AS b
   SET debits_posted = u.debits_posted, credits_posted = u.credits_posted, last_seq = u.last_seq,
       debits_pending = u.debits_pending, credits_pending = u.credits_pending, closed = u.closed, updated_at = %(now)s
  FROM unnest(%(account_ids)s::text[], %(debits)s::bigint[], %(credits)s::bigint[], %(seqs)s::bigint[],
              %(debits_pending)s::bigint[], %(credits_pending)s::bigint[], %(closed)s::boolean[])
       AS u (account_id, debits_posted, credits_posted, last_seq, debits_pending, credits_pending, closed)
 WHERE b.tenant_id = %(tenant_id)s AND b.account_id = u.account_id;
