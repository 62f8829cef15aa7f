Balances at any time: what is added up, and the sums by day and month that are built behind the postings.

An entry counts once: in a month, a day, or by itself. `effective_at` is E and `recorded_at` is R below, 'infinity' for
none. Whole months before those of E and R come from the months; what is left of the months of E and R up to their days,
from the days; what is left of these two days, and what is in no sum yet, from the entries. All run in one snapshot, and
those that have nothing to add are left out: planning for many partitions takes longer than reading a few rows.

-- @by_value
-- Plans are of their values: those of an infinite bound, or of a whole tenant, are no measure for others.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true);

-- @by_key
-- Each account is looked up by its keys, however many the planner expects: hashing would read those of all others. A
-- subquery is kept apart (OFFSET 0), with just the conditions of the key that it is to be read by, and the order where
-- another key would do.
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true);

-- @count_accounts
SELECT count(*) FROM (SELECT FROM ledger.balance
                       WHERE tenant_id = %(tenant_id)s AND account_id >= %(first)s AND account_id <= %(last)s
                       LIMIT %(most)s) AS b;

-- @sum_balances
-- As they stand now, in one statement and so in one snapshot.
SELECT currency_code, type, count(*) AS accounts, sum(debits_posted) AS debits, sum(credits_posted) AS credits,
       sum(debits_pending) AS debits_pending, sum(credits_pending) AS credits_pending
  FROM ledger.balance
 WHERE tenant_id = %(tenant_id)s AND account_id >= %(first)s AND account_id <= %(last)s
 GROUP BY currency_code, type;

-- @sum_months
-- Whole months, of all accounts in one scan; and how many accounts have entries that are in no sum yet.
SELECT b.currency_code, b.type, count(*) AS accounts, coalesce(sum(d.debits), 0) AS debits,
       coalesce(sum(d.credits), 0) AS credits,
       count(*) FILTER (WHERE b.last_seq > coalesce(m.summed_seq, 0)) AS unsummed
  FROM ledger.balance AS b
  LEFT JOIN ledger.account_mark AS m
    ON m.tenant_id = b.tenant_id AND m.account_id = b.account_id
   AND m.tenant_id = %(tenant_id)s AND m.account_id >= %(first)s AND m.account_id <= %(last)s
  LEFT JOIN (SELECT account_id, sum(debits) AS debits, sum(credits) AS credits
               FROM ledger.account_day
              WHERE tenant_id = %(tenant_id)s AND grain = 1
                AND account_id >= %(first)s AND account_id <= %(last)s
                AND effective_day < %(effective_month)s::date AND recorded_day < %(recorded_month)s::date
              GROUP BY account_id) AS d
    ON d.account_id = b.account_id
 WHERE b.tenant_id = %(tenant_id)s AND b.account_id >= %(first)s AND b.account_id <= %(last)s
 GROUP BY b.currency_code, b.type;

-- @sum_days
-- Whole days of the month of E, and when entries of the day of E were recorded.
SELECT b.currency_code, b.type, coalesce(sum(d.debits), 0) AS debits, coalesce(sum(d.credits), 0) AS credits,
       min(d.first_recorded) AS first_recorded, max(d.last_recorded) AS last_recorded
  FROM ledger.balance AS b
 CROSS JOIN LATERAL (
    SELECT sum(debits) FILTER (WHERE is_whole) AS debits, sum(credits) FILTER (WHERE is_whole) AS credits,
           min(recorded_day) FILTER (WHERE is_of_e) AS first_recorded,
           max(recorded_day) FILTER (WHERE is_of_e) AS last_recorded
      FROM (SELECT debits, credits, recorded_day, effective_day = %(effective_day)s::date AS is_of_e,
                   effective_day < %(effective_day)s::date AND recorded_day < %(recorded_day)s::date AS is_whole
              FROM ledger.account_day
             WHERE tenant_id = %(tenant_id)s AND grain = 2 AND account_id = b.account_id
               AND effective_day >= %(effective_month)s::date AND effective_day <= %(effective_day)s::date
             ORDER BY effective_day
            OFFSET 0) AS days
     WHERE recorded_day <= %(recorded_day)s::date) AS d
 WHERE b.tenant_id = %(tenant_id)s AND b.account_id >= %(first)s AND b.account_id <= %(last)s
 GROUP BY b.currency_code, b.type;

-- @sum_recorded_days
-- Whole days of the month of R that take effect before the month of E.
SELECT b.currency_code, b.type, coalesce(sum(d.debits), 0) AS debits, coalesce(sum(d.credits), 0) AS credits
  FROM ledger.balance AS b
 CROSS JOIN LATERAL (
    SELECT sum(debits) AS debits, sum(credits) AS credits
      FROM ledger.account_day
     WHERE tenant_id = %(tenant_id)s AND grain = 2 AND account_id = b.account_id
       AND recorded_day >= %(recorded_month)s::date AND recorded_day < %(recorded_day)s::date
       AND effective_day < %(effective_month)s::date) AS d
 WHERE b.tenant_id = %(tenant_id)s AND b.account_id >= %(first)s AND b.account_id <= %(last)s
 GROUP BY b.currency_code, b.type;

-- @sum_entries_of_day
-- Entries of the day of E, in the months in which some were recorded.
SELECT b.currency_code, b.type, coalesce(sum(greatest(e.amount_minor, 0)), 0) AS debits,
       coalesce(sum(greatest(-e.amount_minor, 0)), 0) AS credits
  FROM ledger.balance AS b
  JOIN ledger.account_mark AS m
    ON m.tenant_id = %(tenant_id)s AND m.account_id = b.account_id
 CROSS JOIN LATERAL (
    SELECT amount_minor, seq
      FROM ledger.entry
     WHERE tenant_id = %(tenant_id)s AND account_id = b.account_id
       AND effective_at >= %(effective_from)s::timestamptz AND effective_at <= %(effective_at)s::timestamptz
       AND recorded_at >= %(some_from)s::timestamptz AND recorded_at < %(some_before)s::timestamptz
       AND recorded_at <= %(recorded_at)s::timestamptz
    OFFSET 0) AS e
 WHERE e.seq <= m.summed_seq
   AND b.tenant_id = %(tenant_id)s AND b.account_id >= %(first)s AND b.account_id <= %(last)s
 GROUP BY b.currency_code, b.type;

-- @sum_entries_of_recorded_day
-- Entries of the day of R that take effect before the day of E.
SELECT b.currency_code, b.type, coalesce(sum(greatest(e.amount_minor, 0)), 0) AS debits,
       coalesce(sum(greatest(-e.amount_minor, 0)), 0) AS credits
  FROM ledger.balance AS b
 CROSS JOIN LATERAL (
    SELECT min(first_seq) AS first_seq, max(last_seq) AS last_seq
      FROM ledger.account_day
     WHERE tenant_id = %(tenant_id)s AND grain = 2 AND account_id = b.account_id
       AND recorded_day = %(recorded_day)s::date AND effective_day < %(effective_day)s::date
    HAVING count(*) > 0) AS d
 CROSS JOIN LATERAL (
    SELECT amount_minor, effective_at
      FROM ledger.entry
     WHERE tenant_id = %(tenant_id)s AND account_id = b.account_id
       AND seq >= d.first_seq AND seq <= d.last_seq
       AND recorded_at >= %(recorded_from)s::timestamptz AND recorded_at <= %(recorded_at)s::timestamptz
     ORDER BY seq
    OFFSET 0) AS e
 WHERE e.effective_at < %(effective_from)s::timestamptz
   AND b.tenant_id = %(tenant_id)s AND b.account_id >= %(first)s AND b.account_id <= %(last)s
 GROUP BY b.currency_code, b.type;

-- @sum_unsummed_entries
-- Entries that are in no sum yet, of the accounts that have some.
SELECT b.currency_code, b.type, coalesce(sum(greatest(e.amount_minor, 0)), 0) AS debits,
       coalesce(sum(greatest(-e.amount_minor, 0)), 0) AS credits
  FROM (SELECT a.account_id, a.currency_code, a.type, coalesce(m.summed_seq, 0) AS summed_seq
          FROM ledger.balance AS a
          LEFT JOIN ledger.account_mark AS m
            ON m.tenant_id = %(tenant_id)s AND m.account_id = a.account_id
         WHERE a.tenant_id = %(tenant_id)s AND a.account_id >= %(first)s AND a.account_id <= %(last)s
           AND a.last_seq > coalesce(m.summed_seq, 0)
        OFFSET 0) AS b
 CROSS JOIN LATERAL (
    SELECT amount_minor, effective_at, recorded_at
      FROM ledger.entry
     WHERE tenant_id = %(tenant_id)s AND account_id = b.account_id AND seq > b.summed_seq
     ORDER BY seq
    OFFSET 0) AS e
 WHERE e.effective_at <= %(effective_at)s::timestamptz AND e.recorded_at <= %(recorded_at)s::timestamptz
 GROUP BY b.currency_code, b.type;

-- @read_timelines
-- The lowest and highest balance of each account in each span of effective time: after each instant it is what the
-- account comes to, less all that takes effect later. Spans begin at the times, which are instants at which nothing moves.
SELECT account_id, width_bucket(at, %(times)s::timestamptz[]) AS span, min(balance) AS low, max(balance) AS high
  FROM (SELECT account_id, at,
               final - coalesce(sum(net) OVER (PARTITION BY account_id ORDER BY at DESC
                                               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS balance
          FROM (SELECT a.account_id, a.final, m.at, sum(m.net) AS net
                  FROM unnest(%(account_ids)s::text[], %(finals)s::bigint[]) AS a (account_id, final)
                 CROSS JOIN LATERAL (
                    SELECT effective_at AS at, amount_minor AS net
                      FROM ledger.entry
                     WHERE tenant_id = %(tenant_id)s AND account_id = a.account_id
                       AND effective_at >= %(first_at)s::timestamptz
                     UNION ALL
                    SELECT at, 0 FROM unnest(%(times)s::timestamptz[]) AS t (at)) AS m
                 GROUP BY a.account_id, a.final, m.at) AS instants) AS balances
 GROUP BY account_id, span
 ORDER BY account_id, span;

-- @unsummed_accounts
SELECT tenant_id, account_id, is_behind
  FROM ledger.unsummed_accounts(%(tenant_id)s, %(account_id)s, %(accounts)s);

-- @make_marks
INSERT INTO ledger.account_mark (tenant_id, account_id, summed_seq)
SELECT %(tenant_id)s, a.account_id, 0
  FROM unnest(%(account_ids)s::text[]) AS a (account_id)
 ORDER BY a.account_id COLLATE "C"
    ON CONFLICT DO NOTHING;

-- @lock_marks
-- One that another process works on is left to it.
SELECT account_id, summed_seq
  FROM ledger.account_mark
 WHERE tenant_id = %(tenant_id)s AND account_id = ANY (%(account_ids)s::text[])
 ORDER BY account_id
   FOR UPDATE SKIP LOCKED;

-- @sum_entries
-- Adds the next entries of each account to its sums and moves its mark; both in one statement, of one snapshot.
WITH unsummed AS MATERIALIZED (
  SELECT m.account_id, m.summed_seq, e.seq, e.amount_minor,
         (e.effective_at AT TIME ZONE 'UTC')::date AS effective_day,
         (e.recorded_at AT TIME ZONE 'UTC')::date AS recorded_day
    FROM unnest(%(account_ids)s::text[], %(summed_seqs)s::bigint[]) AS m (account_id, summed_seq)
   CROSS JOIN LATERAL (
      SELECT seq, amount_minor, effective_at, recorded_at
        FROM ledger.entry
       WHERE tenant_id = %(tenant_id)s AND account_id = m.account_id AND seq > m.summed_seq
       ORDER BY seq
       LIMIT %(limit)s) AS e
), grains AS (
  SELECT u.account_id, g.grain, u.seq, u.amount_minor,
         CASE g.grain WHEN 1 THEN date_trunc('month', u.effective_day::timestamp)::date ELSE u.effective_day END
           AS effective_day,
         CASE g.grain WHEN 1 THEN date_trunc('month', u.recorded_day::timestamp)::date ELSE u.recorded_day END
           AS recorded_day
    FROM unsummed AS u
   CROSS JOIN (VALUES (1::smallint), (2::smallint)) AS g (grain)
), summed AS (
  INSERT INTO ledger.account_day AS d (tenant_id, account_id, grain, effective_day, recorded_day, debits, credits,
                                       first_seq, last_seq)
  SELECT %(tenant_id)s, g.account_id, g.grain, g.effective_day, g.recorded_day,
         sum(greatest(g.amount_minor, 0)), sum(greatest(-g.amount_minor, 0)), min(g.seq), max(g.seq)
    FROM grains AS g
   GROUP BY g.account_id, g.grain, g.effective_day, g.recorded_day
      ON CONFLICT (tenant_id, grain, account_id, effective_day, recorded_day) DO UPDATE
     SET debits = d.debits + excluded.debits, credits = d.credits + excluded.credits,
         first_seq = least(d.first_seq, excluded.first_seq), last_seq = greatest(d.last_seq, excluded.last_seq)
), ends AS (
  SELECT account_id, summed_seq, max(seq) AS last_seq, count(*) AS entries FROM unsummed GROUP BY account_id, summed_seq
), marked AS (
  UPDATE ledger.account_mark AS m
     SET summed_seq = e.last_seq
    FROM ends AS e
   WHERE m.tenant_id = %(tenant_id)s AND m.account_id = e.account_id
)
SELECT account_id, last_seq, entries, last_seq - summed_seq AS expected FROM ends;
