Accounts with their balances.

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

-- @accounts_from
SELECT account_id, type
  FROM ledger.account
 WHERE tenant_id = %(tenant_id)s AND account_id >= %(start)s AND account_id < %(behind)s
 ORDER BY account_id
 LIMIT %(limit)s;
