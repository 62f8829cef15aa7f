Statements of billing. All run inside a unit of work, as the services' role, for the tenant of the transaction.

-- @insert_charge
-- Its caller has a minute to finish it.
-- DO NOTHING answers to the exclusion constraint: a charge that overlaps is there, and the caller reads in a second
-- statement which. Calls of the same request hold its record, so that only one of them gets here.
INSERT INTO billing.charge (tenant_id, charge_id, org_id, start_at, end_at, currency_code, total_minor,
                            partner_total_minor, status, plan_id, plan_version, usage_snapshot, line_count,
                            posting_round, created_at, due_at, lease_until, correlation_id, causation_id)
VALUES (%(tenant_id)s, %(charge_id)s, %(org_id)s, %(start_at)s, %(end_at)s, %(currency_code)s, %(total_minor)s,
        %(partner_total_minor)s, %(status)s, %(plan_id)s, %(plan_version)s, %(usage_snapshot)s, %(line_count)s,
        %(posting_round)s, %(created_at)s, %(created_at)s, clock_timestamp() + interval '60 seconds',
        %(correlation_id)s, %(causation_id)s)
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
UPDATE billing.charge SET status = 2, settled_at = %(now)s, due_at = NULL, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s AND status = 1
RETURNING charge_id;

-- @next_round
UPDATE billing.charge SET posting_round = posting_round + 1
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s AND status = 1 AND posting_round = %(posting_round)s;

-- @claim_due
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id
  FROM billing.claim_due(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @due_lag
SELECT due, oldest_at FROM billing.due_lag(%(now)s);

-- @put_off
UPDATE billing.charge SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s AND epoch = %(epoch)s AND status = 1;
