Statements of accounts. Entries up to a number that were recorded by a moment: none is ever added to them.

-- @head
SELECT a.account_id, a.currency_code, a.type, a.owner, b.last_seq
  FROM ledger.account a
  JOIN ledger.balance b ON b.tenant_id = a.tenant_id AND b.account_id = a.account_id
 WHERE a.tenant_id = %(tenant_id)s AND a.account_id = %(account_id)s;

-- @net_recorded_before
-- The balance behind the entries that all were recorded before, which the last of them holds, and the few stragglers
-- behind: a batch that waited for its locks is recorded earlier than one that did not, and numbered later.
WITH first AS (
  SELECT coalesce(
           (SELECT seq
              FROM ledger.entry
             WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND seq <= %(last_seq)s
               AND recorded_at >= %(before)s
             ORDER BY seq
             LIMIT 1),
           %(last_seq)s::bigint + 1) AS seq
)
SELECT coalesce((SELECT balance_after_minor
                   FROM ledger.entry
                  WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s
                    AND seq = (SELECT seq FROM first) - 1), 0)
     + coalesce((SELECT sum(amount_minor)
                   FROM ledger.entry
                  WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND seq <= %(last_seq)s
                    AND seq > (SELECT seq FROM first) AND recorded_at < %(before)s), 0) AS net;

-- @net_effective_from
SELECT coalesce(sum(amount_minor), 0) AS net
  FROM ledger.entry
 WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND seq <= %(last_seq)s
   AND recorded_at < %(recorded_before)s AND effective_at >= %(start_at)s;

-- @sums_recorded
SELECT coalesce(sum(amount_minor) FILTER (WHERE amount_minor > 0), 0) AS debits,
       coalesce(-sum(amount_minor) FILTER (WHERE amount_minor < 0), 0) AS credits, count(*) AS entries,
       coalesce(min(seq), 0) AS first_seq, coalesce(max(seq), 0) AS last_seq
  FROM ledger.entry
 WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND seq <= %(last_seq)s
   AND recorded_at >= %(start_at)s AND recorded_at < %(end_at)s AND recorded_at < %(recorded_before)s;

-- @sums_effective
SELECT coalesce(sum(amount_minor) FILTER (WHERE amount_minor > 0), 0) AS debits,
       coalesce(-sum(amount_minor) FILTER (WHERE amount_minor < 0), 0) AS credits, count(*) AS entries,
       coalesce(min(seq), 0) AS first_seq, coalesce(max(seq), 0) AS last_seq
  FROM ledger.entry
 WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND seq <= %(last_seq)s
   AND effective_at >= %(start_at)s AND effective_at < %(end_at)s AND recorded_at < %(recorded_before)s;

-- @lines_recorded
SELECT e.account_id, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor, e.counter_account_id, e.currency_code,
       e.code, e.recorded_at, e.effective_at, t.metadata, t.reference_kind, t.reference_id, t.reference_part
  FROM (SELECT *
          FROM ledger.entry
         WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND seq > %(after_seq)s
           AND seq <= %(last_seq)s AND recorded_at >= %(start_at)s AND recorded_at < %(end_at)s
           AND recorded_at < %(recorded_before)s
         ORDER BY seq
         LIMIT %(limit)s) AS e
  JOIN LATERAL (SELECT * FROM ledger.transfer
                WHERE tenant_id = e.tenant_id AND transfer_id = e.transfer_id AND recorded_at = e.recorded_at
                LIMIT 1) AS t ON true
 ORDER BY e.seq;

-- @lines_effective
SELECT e.account_id, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor, e.counter_account_id, e.currency_code,
       e.code, e.recorded_at, e.effective_at, t.metadata, t.reference_kind, t.reference_id, t.reference_part
  FROM (SELECT *
          FROM ledger.entry
         WHERE tenant_id = %(tenant_id)s AND account_id = %(account_id)s AND seq <= %(last_seq)s
           AND (effective_at, seq) > (%(after_at)s, %(after_seq)s::bigint) AND effective_at < %(end_at)s
           AND recorded_at < %(recorded_before)s
         ORDER BY effective_at, seq
         LIMIT %(limit)s) AS e
  JOIN LATERAL (SELECT * FROM ledger.transfer
                WHERE tenant_id = e.tenant_id AND transfer_id = e.transfer_id AND recorded_at = e.recorded_at
                LIMIT 1) AS t ON true
 ORDER BY e.effective_at, e.seq;
