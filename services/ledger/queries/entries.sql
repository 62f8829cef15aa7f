Reading the books.

-- @by_index
-- For the reads of a page: each month's entries come in the order of its index, whatever the statistics say of a month.
-- Where the planner thinks that an account has few entries it would read and sort all that are left, for every page.
SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true);

-- @list_entries_oldest_first
-- Account by account, in the order of the array. The page is cut before the join: it costs what it looks at, however long
-- the accounts' history is. Its last place comes with every row, and with an empty one where nothing was found.
WITH looked_at AS MATERIALIZED (
  SELECT e.*
    FROM unnest(%(account_ids)s::text[]) AS a (account_id)
   CROSS JOIN LATERAL
         (SELECT *
            FROM ledger.entry
           WHERE tenant_id = %(tenant_id)s AND account_id = a.account_id
             AND seq > CASE WHEN a.account_id = %(after_account_id)s THEN %(after_seq)s::bigint ELSE 0 END
             AND recorded_at >= %(month_from)s::timestamptz AND recorded_at < %(month_before)s::timestamptz
           ORDER BY seq
           LIMIT %(rows_max)s) AS e
   LIMIT %(rows_max)s
), found AS (
  SELECT *
    FROM looked_at
   WHERE (%(recorded_from)s::timestamptz IS NULL OR recorded_at >= %(recorded_from)s)
     AND (%(recorded_before)s::timestamptz IS NULL OR recorded_at < %(recorded_before)s)
     AND (%(effective_from)s::timestamptz IS NULL OR effective_at >= %(effective_from)s)
     AND (%(effective_before)s::timestamptz IS NULL OR effective_at < %(effective_before)s)
     AND (%(code)s::integer IS NULL OR code = %(code)s)
   ORDER BY account_id, seq
   LIMIT %(limit)s
)
SELECT (SELECT count(*) FROM looked_at) AS looked_at, last.account_id AS last_account_id, last.seq AS last_seq,
       e.account_id, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor, e.counter_account_id, e.currency_code,
       e.code, e.recorded_at, e.effective_at, t.metadata, t.reference_kind, t.reference_id, t.reference_part
  FROM (SELECT account_id, seq FROM looked_at ORDER BY account_id DESC, seq DESC LIMIT 1) AS last
  LEFT JOIN (found AS e
             JOIN LATERAL (SELECT * FROM ledger.transfer
                           WHERE tenant_id = e.tenant_id AND transfer_id = e.transfer_id AND recorded_at = e.recorded_at
                           LIMIT 1) AS t ON true)
    ON true
 ORDER BY e.account_id, e.seq;

-- @list_entries_newest_first
WITH looked_at AS MATERIALIZED (
  SELECT e.*
    FROM unnest(%(account_ids)s::text[]) AS a (account_id)
   CROSS JOIN LATERAL
         (SELECT *
            FROM ledger.entry
           WHERE tenant_id = %(tenant_id)s AND account_id = a.account_id
             AND seq < CASE WHEN a.account_id = %(after_account_id)s THEN %(after_seq)s::bigint ELSE 9223372036854775807 END
             AND recorded_at >= %(month_from)s::timestamptz AND recorded_at < %(month_before)s::timestamptz
           ORDER BY seq DESC
           LIMIT %(rows_max)s) AS e
   LIMIT %(rows_max)s
), found AS (
  SELECT *
    FROM looked_at
   WHERE (%(recorded_from)s::timestamptz IS NULL OR recorded_at >= %(recorded_from)s)
     AND (%(recorded_before)s::timestamptz IS NULL OR recorded_at < %(recorded_before)s)
     AND (%(effective_from)s::timestamptz IS NULL OR effective_at >= %(effective_from)s)
     AND (%(effective_before)s::timestamptz IS NULL OR effective_at < %(effective_before)s)
     AND (%(code)s::integer IS NULL OR code = %(code)s)
   ORDER BY account_id, seq DESC
   LIMIT %(limit)s
)
SELECT (SELECT count(*) FROM looked_at) AS looked_at, last.account_id AS last_account_id, last.seq AS last_seq,
       e.account_id, e.seq, e.transfer_id, e.amount_minor, e.balance_after_minor, e.counter_account_id, e.currency_code,
       e.code, e.recorded_at, e.effective_at, t.metadata, t.reference_kind, t.reference_id, t.reference_part
  FROM (SELECT account_id, seq FROM looked_at ORDER BY account_id DESC, seq LIMIT 1) AS last
  LEFT JOIN (found AS e
             JOIN LATERAL (SELECT * FROM ledger.transfer
                           WHERE tenant_id = e.tenant_id AND transfer_id = e.transfer_id AND recorded_at = e.recorded_at
                           LIMIT 1) AS t ON true)
    ON true
 ORDER BY e.account_id, e.seq DESC;

-- @export_entries
-- By account and place, a page at a time: what is looked at is bounded, be it in the period or not, and in the months of
-- the period only. Arrays, since a row object an entry would cost more than reading it.
WITH looked_at AS MATERIALIZED (
  SELECT a.type, e.*
    FROM (SELECT account_id, type
            FROM ledger.account
           WHERE tenant_id = %(tenant_id)s AND account_id >= %(account_id)s
             AND (%(owner)s::text = '' OR owner = %(owner)s)
             AND (%(account_ids)s::text[] = '{}' OR account_id = ANY (%(account_ids)s::text[]))
           ORDER BY account_id) AS a
   CROSS JOIN LATERAL
         (SELECT *
            FROM ledger.entry
           WHERE tenant_id = %(tenant_id)s AND account_id = a.account_id
             AND seq > CASE WHEN a.account_id = %(account_id)s THEN %(seq)s::bigint ELSE 0 END
             AND recorded_at >= %(month_from)s::timestamptz AND recorded_at < %(month_before)s::timestamptz
           ORDER BY seq
           LIMIT %(limit)s) AS e
   LIMIT %(limit)s
), found AS (
  SELECT l.account_id, l.seq, l.transfer_id::text AS transfer_id, l.amount_minor, l.currency_code, l.code,
         CASE WHEN l.type = ANY (%(grow_by_debit)s::smallint[]) THEN l.balance_after_minor
              ELSE -l.balance_after_minor END AS balance_after_minor,
         l.counter_account_id,
         (extract(epoch FROM l.recorded_at) * 1000000)::bigint AS recorded_at_us,
         (extract(epoch FROM l.effective_at) * 1000000)::bigint AS effective_at_us,
         CASE WHEN t.metadata = '{}' THEN '' ELSE t.metadata::text END AS metadata
    FROM looked_at AS l
    JOIN LATERAL (SELECT * FROM ledger.transfer
                  WHERE tenant_id = l.tenant_id AND transfer_id = l.transfer_id AND recorded_at = l.recorded_at
                  LIMIT 1) AS t ON true
   WHERE (%(recorded_from)s::timestamptz IS NULL OR l.recorded_at >= %(recorded_from)s)
     AND (%(recorded_before)s::timestamptz IS NULL OR l.recorded_at < %(recorded_before)s)
   ORDER BY l.account_id, l.seq
)
SELECT (SELECT count(*) FROM looked_at) AS looked_at, last.account_id AS last_account_id, last.seq AS last_seq, page.*
  FROM (SELECT array_agg(account_id), array_agg(seq), array_agg(transfer_id), array_agg(amount_minor),
               array_agg(balance_after_minor), array_agg(currency_code), array_agg(counter_account_id), array_agg(code),
               array_agg(recorded_at_us), array_agg(effective_at_us), array_agg(metadata)
          FROM found) AS page
  LEFT JOIN (SELECT account_id, seq FROM looked_at ORDER BY account_id DESC, seq DESC LIMIT 1) AS last ON true;
