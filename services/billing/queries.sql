Statements of billing. All run inside a unit of work, as the services' role, for the tenant of the transaction.

-- @insert_charge
-- Its caller has a minute to finish it.
-- DO NOTHING answers to the exclusion constraint: a charge that overlaps is there, and the caller reads in a second
-- statement which. Calls of the same request hold its record, so that only one of them gets here.
INSERT INTO billing.charge (tenant_id, charge_id, org_id, start_at, end_at, currency_code, total_minor,
                            partner_total_minor, status, plan_id, plan_version, usage_snapshot, usage_ordinal,
                            line_count, transfer_round, created_at, due_at, lease_until, correlation_id, causation_id,
                            traceparent, kind, adjusts_charge_id, correction_no, cause)
VALUES (%(tenant_id)s, %(charge_id)s, %(org_id)s, %(start_at)s, %(end_at)s, %(currency_code)s, %(total_minor)s,
        %(partner_total_minor)s, %(status)s, %(plan_id)s, %(plan_version)s, %(usage_snapshot)s, %(usage_ordinal)s,
        %(line_count)s, %(transfer_round)s, %(created_at)s, %(created_at)s,
        clock_timestamp() + interval '60 seconds', %(correlation_id)s, %(causation_id)s, %(traceparent)s,
        %(kind)s, %(adjusts_charge_id)s, %(correction_no)s, %(cause)s)
    ON CONFLICT DO NOTHING
RETURNING charge_id;

-- @insert_lines
INSERT INTO billing.charge_line (tenant_id, charge_id, line_no, sku, project_id, quantity, exact_amount, amount_minor,
                                 partner_id, partner_pct, partner_amount_minor, proof, quantity_before,
                                 amount_before_minor, partner_amount_before_minor, dispute_id, taxes)
SELECT %(tenant_id)s, %(charge_id)s, l.*
  FROM unnest(%(line_nos)s::integer[], %(skus)s::text[], %(project_ids)s::text[], %(quantities)s::numeric[],
              %(exact_amounts)s::numeric[], %(amounts)s::bigint[], %(partner_ids)s::text[],
              %(partner_pcts)s::numeric[], %(partner_amounts)s::bigint[], %(proofs)s::bytea[],
              %(quantities_before)s::numeric[], %(amounts_before)s::bigint[],
              %(partner_amounts_before)s::bigint[], %(dispute_ids)s::text[], %(taxes)s::jsonb[]) AS l;

-- @insert_transfers
-- The types and owners of the accounts are the ledger's business; only what earlier releases stored has them here.
INSERT INTO billing.charge_transfer (tenant_id, charge_id, posting_round, transfer_no, transfer_id, line_no, leg,
                                     debit_account_id, credit_account_id, currency_code, amount_minor, code,
                                     effective_at)
SELECT %(tenant_id)s, %(charge_id)s, %(posting_round)s, t.*
  FROM unnest(%(transfer_nos)s::integer[], %(transfer_ids)s::uuid[], %(line_nos)s::integer[], %(legs)s::text[],
              %(debits)s::text[], %(credits)s::text[], %(currency_codes)s::text[], %(amounts)s::bigint[],
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
   AND kind = 1 AND status < 3
 ORDER BY start_at
 LIMIT 1;

-- @corrections_of
SELECT charge_id FROM billing.charge
 WHERE tenant_id = %(tenant_id)s AND adjusts_charge_id = %(charge_id)s
 ORDER BY correction_no;

-- @lock_billed
-- Of two corrections of one charge the second waits here, and then sees the first.
SELECT status FROM billing.charge
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s
   FOR UPDATE;

-- @mark_reversed
UPDATE billing.charge
   SET status = 3, reversed_by_charge_id = %(reversal_id)s
 WHERE tenant_id = %(tenant_id)s AND charge_id = ANY (%(charge_ids)s::text[]) AND status = 2
RETURNING charge_id;

-- @settle
UPDATE billing.charge
   SET status = 2, settled_at = %(now)s, transfer_round = %(transfer_round)s, transfer_count = %(transfer_count)s,
       posting_id = %(posting_id)s, recipe = %(recipe)s, recipe_version = %(recipe_version)s,
       due_at = NULL, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s AND status = 1
RETURNING charge_id;

-- @claim_due
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM billing.claim_due(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @due_lag
SELECT due, oldest_at FROM billing.due_lag(%(now)s);

-- @put_off
UPDATE billing.charge SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND charge_id = %(charge_id)s AND epoch = %(epoch)s AND status = 1;
