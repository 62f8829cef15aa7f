What a verification reads, page by page; each page in one snapshot.

-- @lease
-- Of the one who verifies, taken or held on to; nobody's once it has run out.
INSERT INTO ledger.verification AS v (tenant_id, owner, lease_until)
VALUES (%(tenant_id)s, %(owner)s, clock_timestamp() + make_interval(secs => %(lease_ms)s / 1000.0))
    ON CONFLICT (tenant_id) DO UPDATE
       SET owner = excluded.owner, lease_until = excluded.lease_until
     WHERE v.owner = excluded.owner OR v.lease_until < clock_timestamp()
RETURNING owner;

-- @end_lease
UPDATE ledger.verification SET lease_until = '-infinity' WHERE tenant_id = %(tenant_id)s AND owner = %(owner)s;

-- @sum_currencies
SELECT currency_code, sum(debits_posted)::numeric, sum(credits_posted)::numeric, sum(debits_pending)::numeric,
       sum(credits_pending)::numeric
  FROM ledger.balance
 WHERE tenant_id = %(tenant_id)s
 GROUP BY currency_code
 ORDER BY currency_code;

-- @differing_pending_sums
-- A hold that was posted leaves the account closed that it closed; one that was voided or has expired opens it.
SELECT b.account_id, b.debits_pending, b.credits_pending, b.closed, coalesce(h.debits, 0)::bigint AS held_debits,
       coalesce(h.credits, 0)::bigint AS held_credits, coalesce(a.closed, false) OR coalesce(h.closes, false) AS closes
  FROM ledger.balance AS b
  LEFT JOIN ledger.account AS a ON a.tenant_id = b.tenant_id AND a.account_id = b.account_id
  LEFT JOIN (SELECT sides.account_id, sum(sides.debit) AS debits, sum(sides.credit) AS credits,
                    bool_or(sides.closes) AS closes
               FROM (SELECT debit_account_id AS account_id, remaining_minor AS debit, 0 AS credit,
                            closing_debit AND state IN (1, 2) AS closes
                       FROM ledger.hold WHERE tenant_id = %(tenant_id)s
                      UNION ALL
                     SELECT credit_account_id, 0, remaining_minor, closing_credit AND state IN (1, 2)
                       FROM ledger.hold WHERE tenant_id = %(tenant_id)s) AS sides
              GROUP BY sides.account_id) AS h ON h.account_id = b.account_id
 WHERE b.tenant_id = %(tenant_id)s
   AND (b.debits_pending <> coalesce(h.debits, 0) OR b.credits_pending <> coalesce(h.credits, 0)
        OR b.closed <> (coalesce(a.closed, false) OR coalesce(h.closes, false)))
 ORDER BY b.account_id
 LIMIT %(limit)s;

-- @count_accounts
SELECT count(*) AS accounts FROM ledger.balance WHERE tenant_id = %(tenant_id)s;

-- @balances_page
-- Of the names of both tables: what is gone from one is found by the other.
SELECT names.account_id, coalesce(b.debits_posted, 0), coalesce(b.credits_posted, 0), coalesce(b.last_seq, 0),
       b.account_id IS NOT NULL, a.account_id IS NOT NULL,
       coalesce((a.currency_code, a.type, a.debits_must_not_exceed_credits, a.credits_must_not_exceed_debits)
                = (b.currency_code, b.type, b.debits_must_not_exceed_credits, b.credits_must_not_exceed_debits), false)
       AND a.floor_minor IS NOT DISTINCT FROM b.floor_minor AND a.ceiling_minor IS NOT DISTINCT FROM b.ceiling_minor
  FROM ((SELECT account_id
           FROM ledger.balance
          WHERE tenant_id = %(tenant_id)s AND account_id >= %(account_id)s
            AND (%(inclusive)s::boolean OR account_id <> %(account_id)s)
          ORDER BY account_id
          LIMIT %(limit)s)
         UNION
        (SELECT account_id
           FROM ledger.account
          WHERE tenant_id = %(tenant_id)s AND account_id >= %(account_id)s
            AND (%(inclusive)s::boolean OR account_id <> %(account_id)s)
          ORDER BY account_id
          LIMIT %(limit)s)
         ORDER BY account_id
         LIMIT %(limit)s) AS names
  LEFT JOIN ledger.balance AS b ON b.tenant_id = %(tenant_id)s AND b.account_id = names.account_id
  LEFT JOIN ledger.account AS a ON a.tenant_id = %(tenant_id)s AND a.account_id = names.account_id
 ORDER BY names.account_id;

-- @entries_page
SELECT e.account_id, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor, e.currency_code,
       EXISTS (SELECT FROM ledger.transfer AS t
                WHERE t.tenant_id = e.tenant_id AND t.transfer_id = e.transfer_id AND t.recorded_at = e.recorded_at)
  FROM (SELECT *
          FROM ledger.entry
         WHERE tenant_id = %(tenant_id)s AND (account_id, seq) > (%(account_id)s, %(seq)s::bigint)
           AND (%(last_account_id)s::text IS NULL OR account_id <= %(last_account_id)s)
         ORDER BY account_id, seq
         LIMIT %(limit)s) AS e
 ORDER BY e.account_id, e.seq;

-- @transfers_beside
-- What is kept of transfers elsewhere; a transfer whose row of ids is gone is among them.
SELECT asked.transfer_id, i.fingerprint, i.result, i.recorded_at, h.transfer_id IS NOT NULL AS has_hold,
       p.transfer_id IS NOT NULL AS ends_hold
  FROM unnest(%(transfer_ids)s::uuid[], %(pending_ids)s::uuid[]) AS asked (transfer_id, pending_id)
  LEFT JOIN ledger.transfer_id AS i ON i.tenant_id = %(tenant_id)s AND i.transfer_id = asked.transfer_id
  LEFT JOIN ledger.hold AS h ON h.tenant_id = %(tenant_id)s AND h.transfer_id = asked.transfer_id
  LEFT JOIN ledger.hold AS p ON p.tenant_id = %(tenant_id)s AND p.transfer_id = asked.pending_id;

-- @transfers_by_id
-- Without their ids' rows, which may be what is wrong.
SELECT transfer_id, debit_account_id, credit_account_id, currency_code, amount_minor, code, kind, linked, effective_at,
       recorded_at, metadata, pending_id, timeout_ms, flags, asked_all, reverses_id, reference_kind, reference_id,
       reference_part, posting_id, not_before
  FROM ledger.transfer
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @ids_page
SELECT i.transfer_id, i.result,
       EXISTS (SELECT FROM ledger.transfer AS t
                WHERE t.tenant_id = i.tenant_id AND t.transfer_id = i.transfer_id AND t.recorded_at = i.recorded_at)
  FROM (SELECT *
          FROM ledger.transfer_id
         WHERE tenant_id = %(tenant_id)s AND transfer_id >= %(after)s
           AND (%(is_first)s::boolean OR transfer_id <> %(after)s)
         ORDER BY transfer_id
         LIMIT %(limit)s) AS i
 ORDER BY i.transfer_id;

-- @holds_page
SELECT transfer_id, debit_account_id, credit_account_id, currency_code, code, amount_minor, remaining_minor, state,
       expires_at, closing_debit, closing_credit, multi_capture
  FROM ledger.hold
 WHERE tenant_id = %(tenant_id)s AND transfer_id >= %(after)s AND (%(is_first)s::boolean OR transfer_id <> %(after)s)
 ORDER BY transfer_id
 LIMIT %(limit)s;

-- @reversals_page
SELECT r.reversed_id, r.transfer_id, r.amount_minor, m.amount_minor AS moved_minor,
       CASE WHEN h.transfer_id IS NULL THEN o.amount_minor
            ELSE h.remaining_minor + (SELECT coalesce(sum(e.amount_minor), 0)
                                        FROM ledger.transfer AS e
                                       WHERE e.tenant_id = r.tenant_id AND e.pending_id = h.transfer_id AND e.kind = 3)
       END::numeric AS posted_minor
  FROM (SELECT *
          FROM ledger.reversal
         WHERE tenant_id = %(tenant_id)s
           AND (reversed_id, transfer_id) > (%(reversed_id)s::uuid, %(transfer_id)s::uuid)
         ORDER BY reversed_id, transfer_id
         LIMIT %(limit)s) AS r
  LEFT JOIN ledger.transfer AS m ON m.tenant_id = r.tenant_id AND m.transfer_id = r.transfer_id
  LEFT JOIN ledger.transfer AS o ON o.tenant_id = r.tenant_id AND o.transfer_id = r.reversed_id
  LEFT JOIN ledger.hold AS h ON h.tenant_id = r.tenant_id AND h.transfer_id = r.reversed_id
 ORDER BY r.reversed_id, r.transfer_id;

-- @notes_of_reversals
SELECT transfer_id, reversed_id, amount_minor
  FROM ledger.reversal
 WHERE tenant_id = %(tenant_id)s AND transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @ends_of_holds
SELECT pending_id, kind, debit_account_id, credit_account_id, currency_code, code, count(*)::bigint AS ends,
       sum(amount_minor)::numeric AS amount_minor
  FROM ledger.transfer
 WHERE tenant_id = %(tenant_id)s AND pending_id = ANY (%(transfer_ids)s::uuid[])
 GROUP BY pending_id, kind, debit_account_id, credit_account_id, currency_code, code;

-- @postings_page
SELECT posting_id, recipe, version, reference_kind, reference_id, reference_part, parameters, legs, groups, transfer_ids,
       effective_at
  FROM ledger.posting
 WHERE tenant_id = %(tenant_id)s AND posting_id > %(after)s
 ORDER BY posting_id
 LIMIT %(limit)s;

-- @postings_by_id
SELECT posting_id, recipe, version, reference_kind, reference_id, reference_part, parameters, legs, groups, transfer_ids,
       effective_at
  FROM ledger.posting
 WHERE tenant_id = %(tenant_id)s AND posting_id = ANY (%(posting_ids)s::uuid[]);

-- @places
SELECT t.transfer_id, t.batch_no, t.position
  FROM ledger.transfer_id AS i
  JOIN LATERAL (SELECT * FROM ledger.transfer
                WHERE tenant_id = i.tenant_id AND transfer_id = i.transfer_id AND recorded_at = i.recorded_at
                LIMIT 1) AS t ON true
 WHERE i.tenant_id = %(tenant_id)s AND i.transfer_id = ANY (%(transfer_ids)s::uuid[]);

-- @named_page
SELECT t.batch_no, t.position, t.transfer_id, t.posting_id,
       coalesce(t.transfer_id = ANY (p.transfer_ids), false) AS is_named
  FROM (SELECT tenant_id, batch_no, position, transfer_id, posting_id
          FROM ledger.transfer
         WHERE tenant_id = %(tenant_id)s AND (batch_no, position) > (%(batch_no)s::bigint, %(position)s::integer)
         ORDER BY batch_no, position
         LIMIT %(limit)s) AS t
  LEFT JOIN ledger.posting AS p ON p.tenant_id = t.tenant_id AND p.posting_id = t.posting_id
 ORDER BY t.batch_no, t.position;
