Statements of billing. All run inside a unit of work, as the services' role, for the tenant of the transaction.

-- @insert_charge
-- DO NOTHING answers to the exclusion constraint: a charge that overlaps is there, and the caller reads in a second
-- statement which. Calls of the same request hold its record, so that only one of them gets here.
INSERT INTO billing.charge (tenant_id, charge_id, org_id, start_at, end_at, currency_code, total_minor,
                            partner_total_minor, status, plan_id, plan_version, usage_snapshot, line_count,
                            posting_round, created_at, resume_at)
VALUES (%(tenant_id)s, %(charge_id)s, %(org_id)s, %(start_at)s, %(end_at)s, %(currency_code)s, %(total_minor)s,
        %(partner_total_minor)s, %(status)s, %(plan_id)s, %(plan_version)s, %(usage_snapshot)s, %(line_count)s,
        %(posting_round)s, %(created_at)s, clock_timestamp() + interval '60 seconds')
    ON CONFLICT DO NOTHING
RETURNING charge_id;

-- @insert_lines
INSERT INTO billing.charge_line (tenant_id, charge_id, line_no, sku, project_id, quantity, exact_amount, amount_minor,
                                 partner_id, partner_pct, partner_amount_minor, proof)
SELECT %(tenant_id)s, %(charge_id)s, l.*
  FROM unnest(%(line_nos)s::integer[], %(skus)s::text[], %(project_ids)s::text[], %(quantities)s::numeric[],
              %(exact_amounts)s::numeric[], %(amounts)s::bigint[], %(partner_ids)s::text[],
              %(partner_pcts)s::numeric[], %(partner_amounts)s::bigint[], %(proofs)s::bytea[]) AS l;

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
UPDATE billing.charge SET posting_round = posting_round + 1
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s AND status = 1 AND posting_round = %(posting_round)s;

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
