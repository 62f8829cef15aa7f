Statements of settlement. All run inside a unit of work, as the services' role, for the tenant of the transaction.

-- @put_policy
INSERT INTO settlement.policy (tenant_id, seller, threshold_currencies, thresholds_minor, threshold_first,
                               minimum_currencies, minimums_minor, sweep, time_zone, sweep_paused, updated_at)
VALUES (%(tenant_id)s, %(seller)s, %(threshold_currencies)s, %(thresholds_minor)s, %(threshold_first)s,
        %(minimum_currencies)s, %(minimums_minor)s, %(sweep)s, %(time_zone)s, %(sweep_paused)s, %(updated_at)s)
    ON CONFLICT (tenant_id, seller) DO UPDATE
   SET threshold_currencies = excluded.threshold_currencies, thresholds_minor = excluded.thresholds_minor,
       threshold_first = excluded.threshold_first, minimum_currencies = excluded.minimum_currencies,
       minimums_minor = excluded.minimums_minor, sweep = excluded.sweep, time_zone = excluded.time_zone,
       sweep_paused = excluded.sweep_paused, updated_at = excluded.updated_at;

-- @lock_policies
-- Two that put the policy of one seller follow one another, also when there is none yet.
SELECT pg_advisory_xact_lock(hashtextextended('settlement.policy:' || %(tenant_id)s, 0));

-- @policies
SELECT seller, threshold_currencies, thresholds_minor, threshold_first, minimum_currencies, minimums_minor, sweep,
       time_zone, sweep_paused, updated_at
  FROM settlement.policy
 WHERE tenant_id = %(tenant_id)s AND seller = ANY (%(sellers)s::text[]);

-- @insert_intake
INSERT INTO settlement.intake (tenant_id, charge_id, due_at, correlation_id, causation_id, traceparent, created_at)
VALUES (%(tenant_id)s, %(charge_id)s, %(now)s, %(correlation_id)s, %(causation_id)s, %(traceparent)s, %(now)s)
    ON CONFLICT (tenant_id, charge_id) DO NOTHING;

-- @take_in
-- Whoever has the lease: a charge is taken in once.
UPDATE settlement.intake SET taken_at = %(now)s, due_at = NULL, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s AND taken_at IS NULL
RETURNING charge_id;

-- @claim_intake
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM settlement.claim_intake(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @intake_lag
SELECT due, oldest_at FROM settlement.intake_lag(%(now)s);

-- @put_off_intake
UPDATE settlement.intake SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(item_id)s AND epoch = %(epoch)s AND taken_at IS NULL;

-- @earn
-- Sorted, so that two charges of the same parties wait for one another and never in a circle.
INSERT INTO settlement.balance AS b (tenant_id, party, currency_code, dispute_id, earned_minor, updated_at)
SELECT %(tenant_id)s, e.party, e.currency_code, e.dispute_id, e.earned_minor, %(now)s
  FROM unnest(%(parties)s::text[], %(currency_codes)s::text[], %(dispute_ids)s::text[], %(earned)s::bigint[])
       AS e (party, currency_code, dispute_id, earned_minor)
 ORDER BY e.party COLLATE "C", e.currency_code COLLATE "C", e.dispute_id COLLATE "C"
    ON CONFLICT (tenant_id, party, currency_code, dispute_id) DO UPDATE
   SET earned_minor = b.earned_minor + excluded.earned_minor, updated_at = excluded.updated_at
RETURNING party, currency_code, dispute_id, earned_minor, claimed_minor, paid_minor;

-- @insert_earnings
INSERT INTO settlement.earning (tenant_id, charge_id, line_no, org_id, sku, party, currency_code, amount_minor,
                                dispute_id, earned_at, payout_id, recorded_at)
SELECT %(tenant_id)s, %(charge_id)s, e.line_no, e.org_id, e.sku, e.party, e.currency_code, e.amount_minor,
       e.dispute_id, e.earned_at, e.payout_id, %(now)s
  FROM unnest(%(line_nos)s::integer[], %(org_ids)s::text[], %(skus)s::text[], %(parties)s::text[],
              %(currency_codes)s::text[], %(amounts)s::bigint[], %(dispute_ids)s::text[],
              %(earned_ats)s::timestamptz[], %(payout_ids)s::text[])
       AS e (line_no, org_id, sku, party, currency_code, amount_minor, dispute_id, earned_at, payout_id);

-- @lock_balance
SELECT party, currency_code, earned_minor, claimed_minor, paid_minor FROM settlement.balance
 WHERE tenant_id = %(tenant_id)s AND party = %(party)s AND currency_code = %(currency_code)s AND dispute_id = ''
   FOR UPDATE;

-- @lock_owed
-- The order in which a charge is taken in, too. What they stand at is read in a second statement, once they are ours.
SELECT party, currency_code FROM settlement.balance
 WHERE tenant_id = %(tenant_id)s AND dispute_id = ''
   AND (party, currency_code) > (%(after_party)s, %(after_currency)s)
   AND earned_minor > claimed_minor + paid_minor
 ORDER BY party, currency_code
 LIMIT %(limit)s
   FOR UPDATE;

-- @owed
-- What a later line was paid at once with has left what is carried as well, unless it came back.
SELECT b.party, b.currency_code, b.earned_minor, b.claimed_minor, b.paid_minor,
       (SELECT coalesce(sum(e.amount_minor - coalesce(p.amount_minor, 0)), 0)::bigint
          FROM settlement.earning AS e
          LEFT JOIN settlement.payout AS p
            ON e.payout_id <> '' AND p.tenant_id = e.tenant_id AND p.payout_id = e.payout_id AND p.status < 4
         WHERE e.tenant_id = b.tenant_id AND e.party = b.party AND e.currency_code = b.currency_code
           AND e.dispute_id = '' AND e.earned_at > %(through_at)s) AS later_minor
  FROM unnest(%(parties)s::text[], %(currency_codes)s::text[]) WITH ORDINALITY AS k (party, currency_code, place)
  JOIN settlement.balance AS b
    ON b.tenant_id = %(tenant_id)s AND b.party = k.party AND b.currency_code = k.currency_code AND b.dispute_id = ''
 ORDER BY k.place;

-- @move
-- What payouts take off balances, or give back to them; the rows are locked by now, in their order.
UPDATE settlement.balance AS b
   SET claimed_minor = b.claimed_minor + m.claimed, paid_minor = b.paid_minor + m.paid, updated_at = %(now)s
  FROM unnest(%(parties)s::text[], %(currency_codes)s::text[], %(claimed)s::bigint[], %(paid)s::bigint[])
       AS m (party, currency_code, claimed, paid)
 WHERE b.tenant_id = %(tenant_id)s AND b.party = m.party AND b.currency_code = m.currency_code AND b.dispute_id = '';

-- @insert_payouts
INSERT INTO settlement.payout (tenant_id, payout_id, party, currency_code, amount_minor, kind, status, destination,
                               charge_id, line_no, sweep_id, created_at)
SELECT %(tenant_id)s, p.payout_id, p.party, p.currency_code, p.amount_minor, p.kind, 1, p.destination, p.charge_id,
       p.line_no, p.sweep_id, p.created_at
  FROM unnest(%(payout_ids)s::text[], %(parties)s::text[], %(currency_codes)s::text[], %(amounts)s::bigint[],
              %(kinds)s::smallint[], %(destinations)s::text[], %(charge_ids)s::text[], %(line_nos)s::integer[],
              %(sweep_ids)s::text[], %(created_ats)s::timestamptz[])
       AS p (payout_id, party, currency_code, amount_minor, kind, destination, charge_id, line_no, sweep_id,
             created_at);

-- @insert_postings
INSERT INTO settlement.posting (tenant_id, item_id, payout_id, leg, effective_at, was_paid, due_at, correlation_id,
                                causation_id, traceparent, created_at)
SELECT %(tenant_id)s, p.item_id, p.payout_id, p.leg, p.effective_at, p.was_paid, %(now)s, %(correlation_id)s,
       %(causation_id)s, %(traceparent)s, %(now)s
  FROM unnest(%(item_ids)s::text[], %(payout_ids)s::text[], %(legs)s::smallint[], %(effective_ats)s::timestamptz[],
              %(paid)s::boolean[])
       AS p (item_id, payout_id, leg, effective_at, was_paid);

-- @lock_payout
SELECT FROM settlement.payout WHERE tenant_id = %(tenant_id)s AND payout_id = %(payout_id)s FOR UPDATE;

-- @postings_of
SELECT item_id, payout_id, leg, effective_at, was_paid, posting_id, posted_at FROM settlement.posting
 WHERE tenant_id = %(tenant_id)s AND payout_id = ANY (%(payout_ids)s::text[])
 ORDER BY payout_id, leg;

-- @claim_posting
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM settlement.claim_posting(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @posting_lag
SELECT due, oldest_at FROM settlement.posting_lag(%(now)s);

-- @put_off_posting
UPDATE settlement.posting SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND item_id = %(item_id)s AND epoch = %(epoch)s AND posted_at IS NULL;

-- @settle_posting
-- Whoever has the lease: the posting is the same for all.
UPDATE settlement.posting
   SET due_at = NULL, lease_owner = NULL, lease_until = NULL, posting_id = %(posting_id)s, posted_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND item_id = %(item_id)s AND posted_at IS NULL
RETURNING payout_id;

-- @claimed
UPDATE settlement.payout SET status = 2, claimed_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND payout_id = %(payout_id)s AND status = 1;

-- @paid
UPDATE settlement.payout SET status = 3, paid_at = %(paid_at)s, payment_reference = %(payment_reference)s
 WHERE tenant_id = %(tenant_id)s AND payout_id = %(payout_id)s AND status = 2;

-- @returned
UPDATE settlement.payout SET status = 4, returned_at = %(returned_at)s, return_code = %(return_code)s
 WHERE tenant_id = %(tenant_id)s AND payout_id = %(payout_id)s AND status IN (2, 3);

-- @insert_sweep
-- DO NOTHING answers to the index of the one that waits, and to a sweep of the same request.
INSERT INTO settlement.sweep (tenant_id, sweep_id, status, scheduled, due_at, lease_until, through_at, started_at,
                              correlation_id, causation_id, traceparent, created_at)
VALUES (%(tenant_id)s, %(sweep_id)s, %(status)s, %(scheduled)s, %(due_at)s,
        clock_timestamp() + make_interval(secs => %(lease_ms)s / 1000.0), %(through_at)s, %(started_at)s,
        %(correlation_id)s, %(causation_id)s, %(traceparent)s, %(created_at)s)
    ON CONFLICT DO NOTHING;

-- @has_waiting
SELECT EXISTS (SELECT FROM settlement.sweep WHERE tenant_id = %(tenant_id)s AND status = 1);

-- @schedule_waiting
UPDATE settlement.sweep SET due_at = %(due_at)s
 WHERE tenant_id = %(tenant_id)s AND status = 1
RETURNING sweep_id;

-- @lock_sweep
SELECT sweep_id, status, scheduled, created_at, due_at, through_at, started_at, ended_at, after_party, after_currency,
       payout_count, totals, epoch
  FROM settlement.sweep
 WHERE tenant_id = %(tenant_id)s AND sweep_id = %(sweep_id)s
   FOR UPDATE;

-- @begin_sweep
UPDATE settlement.sweep SET status = 2, through_at = %(now)s, started_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND sweep_id = %(sweep_id)s AND status = 1;

-- @advance_sweep
UPDATE settlement.sweep
   SET after_party = %(after_party)s, after_currency = %(after_currency)s, payout_count = %(payout_count)s,
       totals = %(totals)s::jsonb
 WHERE tenant_id = %(tenant_id)s AND sweep_id = %(sweep_id)s;

-- @end_sweep
UPDATE settlement.sweep
   SET status = 3, ended_at = %(now)s, due_at = NULL, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND sweep_id = %(sweep_id)s;

-- @claim_sweep
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM settlement.claim_sweep(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @sweep_lag
SELECT due, oldest_at FROM settlement.sweep_lag(%(now)s);

-- @put_off_sweep
UPDATE settlement.sweep SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND sweep_id = %(item_id)s AND epoch = %(epoch)s AND status < 3 AND due_at IS NOT NULL;

-- @balances
-- Each party and currency with what is held of it; a party of which all is held has a row too.
SELECT party, currency_code,
       coalesce(sum(earned_minor), 0)::bigint AS earned_minor,
       coalesce(sum(earned_minor) FILTER (WHERE dispute_id <> ''), 0)::bigint AS held_minor,
       coalesce(sum(claimed_minor), 0)::bigint AS claimed_minor,
       coalesce(sum(paid_minor), 0)::bigint AS paid_minor
  FROM settlement.balance
 WHERE tenant_id = %(tenant_id)s AND (%(party)s = '' OR party = %(party)s)
   AND (party, currency_code) > (%(after_party)s, %(after_currency)s)
 GROUP BY party, currency_code
 ORDER BY party, currency_code
 LIMIT %(limit)s;

-- @expected
-- What accounts should hold: what was claimed leaves one when it is posted, and not before. A dispute has one account,
-- whoever may earn under it.
WITH account AS (
  SELECT CASE b.dispute_id WHEN '' THEN b.party ELSE '' END AS party, b.currency_code, b.dispute_id,
         sum(b.earned_minor - b.claimed_minor - b.paid_minor)::bigint AS carried_minor
    FROM settlement.balance AS b
   WHERE b.tenant_id = %(tenant_id)s
   GROUP BY 1, 2, 3)
SELECT a.party, a.currency_code, a.dispute_id,
       a.carried_minor + coalesce(
         (SELECT sum(CASE o.leg WHEN 1 THEN p.amount_minor WHEN 3 THEN -p.amount_minor ELSE 0 END)::bigint
            FROM settlement.posting AS o
            JOIN settlement.payout AS p ON p.tenant_id = o.tenant_id AND p.payout_id = o.payout_id
           WHERE o.tenant_id = %(tenant_id)s AND o.posted_at IS NULL AND a.dispute_id = ''
             AND p.party = a.party AND p.currency_code = a.currency_code), 0) AS expected_minor,
       a.dispute_id = '' AND EXISTS (
         SELECT FROM settlement.posting AS o
           JOIN settlement.payout AS p ON p.tenant_id = o.tenant_id AND p.payout_id = o.payout_id
          WHERE o.tenant_id = %(tenant_id)s AND o.posted_at IS NULL
            AND p.party = a.party AND p.currency_code = a.currency_code) AS posting
  FROM account AS a
 WHERE (a.party, a.currency_code, a.dispute_id)
       > (%(after_party)s, %(after_currency)s, %(after_dispute)s)
 ORDER BY a.party, a.currency_code, a.dispute_id
 LIMIT %(limit)s;

-- @on_their_way
SELECT EXISTS (SELECT FROM settlement.intake WHERE tenant_id = %(tenant_id)s AND taken_at IS NULL);
