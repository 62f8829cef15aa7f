Statements of the ledger. All run inside a unit of work, as the services' role, for the tenant of the transaction.

Locks are taken in one order everywhere: transfer ids, then holds, then balances, each sorted; so no two batches can
wait for each other in a circle. Collation "C" of the ids makes Postgres and Python sort alike.

-- @insert_accounts
INSERT INTO ledger.account (tenant_id, account_id, currency_code, type, debits_must_not_exceed_credits,
                            credits_must_not_exceed_debits, closed, owner, metadata, floor_minor, ceiling_minor,
                            created_at)
SELECT %(tenant_id)s, a.account_id, a.currency_code, a.type, a.no_overdraft, a.no_overpay, a.closed, a.owner,
       a.metadata::jsonb, a.floor_minor, a.ceiling_minor, %(now)s
  FROM unnest(%(account_ids)s::text[], %(currency_codes)s::text[], %(types)s::smallint[], %(no_overdrafts)s::boolean[],
              %(no_overpays)s::boolean[], %(closed)s::boolean[], %(owners)s::text[], %(metadata)s::text[],
              %(floors)s::bigint[], %(ceilings)s::bigint[])
       AS a (account_id, currency_code, type, no_overdraft, no_overpay, closed, owner, metadata, floor_minor,
             ceiling_minor)
 ORDER BY a.account_id COLLATE "C"
    ON CONFLICT DO NOTHING
RETURNING account_id;

-- @insert_balances
INSERT INTO ledger.balance (tenant_id, account_id, currency_code, type, debits_must_not_exceed_credits,
                            credits_must_not_exceed_debits, closed, floor_minor, ceiling_minor, updated_at)
SELECT tenant_id, account_id, currency_code, type, debits_must_not_exceed_credits, credits_must_not_exceed_debits,
       closed, floor_minor, ceiling_minor, created_at
  FROM ledger.account
 WHERE tenant_id = %(tenant_id)s AND account_id = ANY (%(account_ids)s::text[])
 ORDER BY account_id;

-- @read_accounts
SELECT account_id, currency_code, type, debits_must_not_exceed_credits, credits_must_not_exceed_debits, closed, owner,
       metadata, floor_minor, ceiling_minor
  FROM ledger.account
 WHERE tenant_id = %(tenant_id)s AND account_id = ANY (%(account_ids)s::text[]);

-- @read_account
SELECT a.account_id, a.currency_code, a.type, a.debits_must_not_exceed_credits, a.credits_must_not_exceed_debits,
       a.closed, a.owner, a.metadata, a.floor_minor, a.ceiling_minor, a.created_at, b.debits_posted, b.credits_posted,
       b.debits_pending, b.credits_pending, b.closed AS closed_now
  FROM ledger.account a
  JOIN ledger.balance b ON b.tenant_id = a.tenant_id AND b.account_id = a.account_id
 WHERE a.tenant_id = %(tenant_id)s AND a.account_id = %(account_id)s;

-- @claim_ids
-- Optimistic: most ids are posted, so they are claimed as such and only the others are corrected. A concurrent batch
-- with one of the same ids waits here until this one ends.
INSERT INTO ledger.transfer_id (tenant_id, transfer_id, fingerprint, result)
SELECT %(tenant_id)s, t.transfer_id, t.fingerprint, 1
  FROM unnest(%(transfer_ids)s::uuid[], %(fingerprints)s::bytea[]) AS t (transfer_id, fingerprint)
 ORDER BY t.transfer_id
    ON CONFLICT DO NOTHING
RETURNING transfer_id;

-- @read_ids
SELECT transfer_id, fingerprint, result FROM ledger.transfer_id
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @read_transfers
SELECT transfer_id, debit_account_id, credit_account_id, currency_code, amount_minor, code, kind, linked, effective_at,
       recorded_at, metadata, pending_id, timeout_ms, flags, asked_all, reverses_id
  FROM ledger.transfer
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @read_transfer
SELECT t.transfer_id, t.debit_account_id, t.credit_account_id, t.currency_code, t.amount_minor, t.code, t.kind, t.linked,
       t.effective_at, t.recorded_at, t.metadata, t.pending_id, t.timeout_ms, t.flags, t.asked_all, t.reverses_id,
       h.remaining_minor, h.state, h.expires_at, r.transfer_id AS reversed_by_id
  FROM ledger.transfer AS t
  LEFT JOIN ledger.hold AS h ON h.tenant_id = t.tenant_id AND h.transfer_id = t.transfer_id
  LEFT JOIN ledger.transfer AS r ON r.tenant_id = t.tenant_id AND r.reverses_id = t.transfer_id
 WHERE t.tenant_id = %(tenant_id)s AND t.transfer_id = %(transfer_id)s;

-- @read_posted
-- In one statement, so that no hold is taken for another transfer: it may have been committed since holds were looked for.
SELECT t.transfer_id, h.debit_account_id, h.credit_account_id
  FROM ledger.transfer AS t
  LEFT JOIN ledger.hold AS h ON h.tenant_id = t.tenant_id AND h.transfer_id = t.transfer_id
 WHERE t.tenant_id = %(tenant_id)s AND t.transfer_id = ANY (%(transfer_ids)s::uuid[]);

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

-- @booked_of_payment
-- Charges (2001) less refunds (2002); the index transfer_of_payment has the same condition.
-- Holds, and what gives them up, move nothing.
SELECT coalesce(sum(CASE code WHEN 2001 THEN amount_minor ELSE -amount_minor END), 0)
  FROM ledger.transfer
 WHERE tenant_id = %(tenant_id)s AND metadata ->> 'payment_id' = %(payment_id)s AND code IN (2001, 2002)
   AND kind IN (1, 3);

-- @lock_balances
SELECT account_id, currency_code, type, debits_must_not_exceed_credits, credits_must_not_exceed_debits, closed,
       debits_posted, credits_posted, last_seq, debits_pending, credits_pending, floor_minor, ceiling_minor
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
                             pending_id, timeout_ms, flags, asked_all, reverses_id)
SELECT %(tenant_id)s, t.transfer_id, %(batch_no)s, t.position, t.debit_account_id, t.credit_account_id, t.currency_code,
       t.amount_minor, t.code, t.kind, t.linked, coalesce(t.effective_at, %(now)s), %(now)s, t.metadata::jsonb,
       t.pending_id, t.timeout_ms, t.flags, t.asked_all, t.reverses_id
  FROM unnest(%(transfer_ids)s::uuid[], %(positions)s::integer[], %(debit_account_ids)s::text[],
              %(credit_account_ids)s::text[], %(currency_codes)s::text[], %(amounts)s::bigint[], %(codes)s::integer[],
              %(kinds)s::smallint[], %(linked)s::boolean[], %(effective_at)s::timestamptz[], %(metadata)s::text[],
              %(pending_ids)s::uuid[], %(timeouts_ms)s::bigint[], %(flags)s::smallint[], %(asked_all)s::boolean[],
              %(reverses_ids)s::uuid[])
       AS t (transfer_id, position, debit_account_id, credit_account_id, currency_code, amount_minor, code, kind,
             linked, effective_at, metadata, pending_id, timeout_ms, flags, asked_all, reverses_id);

-- @insert_entries
INSERT INTO ledger.entry (tenant_id, account_id, seq, transfer_id, amount_minor, balance_after_minor)
SELECT %(tenant_id)s, e.account_id, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor
  FROM unnest(%(account_ids)s::text[], %(seqs)s::bigint[], %(transfer_ids)s::uuid[], %(amounts)s::bigint[],
              %(balances)s::bigint[])
       AS e (account_id, seq, transfer_id, amount_minor, balance_after_minor);

-- @update_balances
UPDATE ledger.balance AS b
   SET debits_posted = u.debits_posted, credits_posted = u.credits_posted, last_seq = u.last_seq,
       debits_pending = u.debits_pending, credits_pending = u.credits_pending, closed = u.closed, updated_at = %(now)s
  FROM unnest(%(account_ids)s::text[], %(debits)s::bigint[], %(credits)s::bigint[], %(seqs)s::bigint[],
              %(debits_pending)s::bigint[], %(credits_pending)s::bigint[], %(closed)s::boolean[])
       AS u (account_id, debits_posted, credits_posted, last_seq, debits_pending, credits_pending, closed)
 WHERE b.tenant_id = %(tenant_id)s AND b.account_id = u.account_id;

-- @list_entries_oldest_first
-- The page is cut before the join: a page costs its own rows, however long the account's history is.
SELECT e.account_id, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor, t.debit_account_id,
       t.credit_account_id, t.currency_code, t.code, t.recorded_at, t.effective_at, t.metadata
  FROM (SELECT tenant_id, account_id, seq, transfer_id, amount_minor, balance_after_minor
          FROM ledger.entry
         WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND seq > %(after)s
         ORDER BY seq
         LIMIT %(limit)s) AS e
  JOIN ledger.transfer AS t ON t.tenant_id = e.tenant_id AND t.transfer_id = e.transfer_id
 ORDER BY e.seq;

-- @list_entries_newest_first
SELECT e.account_id, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor, t.debit_account_id,
       t.credit_account_id, t.currency_code, t.code, t.recorded_at, t.effective_at, t.metadata
  FROM (SELECT tenant_id, account_id, seq, transfer_id, amount_minor, balance_after_minor
          FROM ledger.entry
         WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND seq < %(after)s
         ORDER BY seq DESC
         LIMIT %(limit)s) AS e
  JOIN ledger.transfer AS t ON t.tenant_id = e.tenant_id AND t.transfer_id = e.transfer_id
 ORDER BY e.seq DESC;

-- @export_entries
-- By account and place, a page at a time: what is looked at is bounded, be it in the period or not. Arrays, since a row
-- object an entry would cost more than reading it.
WITH looked_at AS MATERIALIZED (
  SELECT a.account_id, a.type, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor
    FROM (SELECT account_id, type
            FROM ledger.account
           WHERE tenant_id = %(tenant_id)s AND account_id >= %(account_id)s
             AND (%(owner)s::text = '' OR owner = %(owner)s)
             AND (%(account_ids)s::text[] = '{}' OR account_id = ANY (%(account_ids)s::text[]))
           ORDER BY account_id) AS a
   CROSS JOIN LATERAL
         (SELECT seq, transfer_id, amount_minor, balance_after_minor
            FROM ledger.entry
           WHERE tenant_id = %(tenant_id)s AND account_id = a.account_id
             AND seq > CASE WHEN a.account_id = %(account_id)s THEN %(seq)s::bigint ELSE 0 END
           ORDER BY seq
           LIMIT %(limit)s) AS e
   LIMIT %(limit)s
), found AS (
  SELECT l.account_id, l.seq, l.transfer_id::text AS transfer_id, l.amount_minor, t.currency_code, t.code,
         CASE WHEN l.type = ANY (%(grow_by_debit)s::smallint[]) THEN l.balance_after_minor
              ELSE -l.balance_after_minor END AS balance_after_minor,
         CASE WHEN l.amount_minor > 0 THEN t.credit_account_id ELSE t.debit_account_id END AS counter_account_id,
         (extract(epoch FROM t.recorded_at) * 1000000)::bigint AS recorded_at_us,
         (extract(epoch FROM t.effective_at) * 1000000)::bigint AS effective_at_us,
         CASE WHEN t.metadata = '{}' THEN '' ELSE t.metadata::text END AS metadata
    FROM looked_at AS l
    JOIN ledger.transfer AS t ON t.tenant_id = %(tenant_id)s AND t.transfer_id = l.transfer_id
   WHERE (%(recorded_from)s::timestamptz IS NULL OR t.recorded_at >= %(recorded_from)s)
     AND (%(recorded_before)s::timestamptz IS NULL OR t.recorded_at < %(recorded_before)s)
   ORDER BY l.account_id, l.seq
)
SELECT (SELECT count(*) FROM looked_at) AS looked_at, last.account_id AS last_account_id, last.seq AS last_seq, page.*
  FROM (SELECT array_agg(account_id), array_agg(seq), array_agg(transfer_id), array_agg(amount_minor),
               array_agg(balance_after_minor), array_agg(currency_code), array_agg(counter_account_id), array_agg(code),
               array_agg(recorded_at_us), array_agg(effective_at_us), array_agg(metadata)
          FROM found) AS page
  LEFT JOIN (SELECT account_id, seq FROM looked_at ORDER BY account_id DESC, seq DESC LIMIT 1) AS last ON true;

-- @sum_accounts
SELECT currency_code, type, count(*) AS accounts, sum(debits_posted) AS debits, sum(credits_posted) AS credits
  FROM ledger.balance
 WHERE tenant_id = %(tenant_id)s
 GROUP BY currency_code, type;
