Statements of billing. All run inside a unit of work, as the services' role, for the tenant of the transaction.

-- @insert_charge
-- DO NOTHING answers to the exclusion constraint: a charge that overlaps is there, and the caller reads in a second
-- statement which. Calls of the same request hold its record, so that only one of them gets here.
INSERT INTO billing.charge (tenant_id, charge_id, org_id, start_at, end_at, currency_code, total_minor,
                            partner_total_minor, status, plan_id, plan_version, usage_snapshot, line_count,
                            transfer_count, posting_round, created_at, resume_at)
VALUES (%(tenant_id)s, %(charge_id)s, %(org_id)s, %(start_at)s, %(end_at)s, %(currency_code)s, %(total_minor)s,
        %(partner_total_minor)s, %(status)s, %(plan_id)s, %(plan_version)s, %(usage_snapshot)s, %(line_count)s,
        %(transfer_count)s, %(posting_round)s, %(created_at)s, clock_timestamp() + interval '60 seconds')
    ON CONFLICT DO NOTHING
RETURNING charge_id;

-- @insert_lines
INSERT INTO billing.charge_line (tenant_id, charge_id, line_no, sku, project_id, quantity, exact_amount, amount_minor,
                                 partner_id, partner_pct, partner_amount_minor, proof)
SELECT %(tenant_id)s, %(charge_id)s, l.*
  FROM unnest(%(line_nos)s::integer[], %(skus)s::text[], %(project_ids)s::text[], %(quantities)s::numeric[],
              %(exact_amounts)s::numeric[], %(amounts)s::bigint[], %(partner_ids)s::text[],
              %(partner_pcts)s::numeric[], %(partner_amounts)s::bigint[], %(proofs)s::bytea[]) AS l;

-- @insert_transfers
INSERT INTO billing.charge_transfer (tenant_id, charge_id, posting_round, transfer_no, transfer_id, line_no, leg,
                                     debit_account_id, debit_type, debit_owner, credit_account_id, credit_type,
                                     credit_owner, currency_code, amount_minor, code, effective_at)
SELECT %(tenant_id)s, %(charge_id)s, %(posting_round)s, t.*
  FROM unnest(%(transfer_nos)s::integer[], %(transfer_ids)s::uuid[], %(line_nos)s::integer[], %(legs)s::text[],
              %(debits)s::text[], %(debit_types)s::text[], %(debit_owners)s::text[], %(credits)s::text[],
              %(credit_types)s::text[], %(credit_owners)s::text[], %(currency_codes)s::text[], %(amounts)s::bigint[],
              %(codes)s::integer[], %(effective_ats)s::timestamptz[]) AS t;

-- @transfers_of
SELECT t.charge_id, t.transfer_id, t.line_no, t.leg, t.debit_account_id, t.debit_type, t.debit_owner,
       t.credit_account_id, t.credit_type, t.credit_owner, t.currency_code, t.amount_minor, t.code, t.effective_at
  FROM unnest(%(charge_ids)s::text[], %(posting_rounds)s::integer[]) AS c (charge_id, posting_round)
  JOIN billing.charge_transfer AS t
    ON t.tenant_id = %(tenant_id)s AND t.charge_id = c.charge_id AND t.posting_round = c.posting_round
 ORDER BY t.charge_id, t.transfer_no;

-- @overlapping
SELECT charge_id FROM billing.charge
 WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND start_at < %(end_at)s AND end_at > %(start_at)s
 ORDER BY start_at
 LIMIT 1;

-- @settle
UPDATE billing.charge SET status = 2, settled_at = %(now)s, resume_at = NULL
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s AND status = 1
RETURNING charge_id;

-- @next_round
UPDATE billing.charge SET posting_round = %(posting_round)s
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s AND status = 1
   AND posting_round = %(posting_round)s::integer - 1
RETURNING charge_id;

-- @tenants_to_resume
-- Runs as the owner of the tables and tells tenants' names only: a sweep must know for whom to ask.
SELECT tenant_id FROM billing.tenants_to_resume(%(limit)s) AS tenant_id;

-- @take_to_resume
-- Each try puts the next one off twice as long, up to an hour, so that a charge that cannot be posted does not keep
-- others waiting. SKIP LOCKED: two processes share the work.
WITH due AS MATERIALIZED (
  SELECT p.charge_id FROM billing.charge AS p
   WHERE p.tenant_id = %(tenant_id)s AND p.status = 1 AND p.resume_at <= clock_timestamp()
   ORDER BY p.resume_at
   LIMIT %(limit)s
     FOR UPDATE SKIP LOCKED)
UPDATE billing.charge AS c
   SET resume_at = clock_timestamp() + least(interval '1 hour', interval '60 seconds' * 2 ^ least(c.resume_tries, 10)),
       resume_tries = c.resume_tries + 1
 WHERE c.tenant_id = %(tenant_id)s
   AND c.charge_id IN (SELECT charge_id FROM due)
RETURNING c.charge_id;
