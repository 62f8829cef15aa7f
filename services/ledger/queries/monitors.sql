Monitors of balances.

Monitors of an account change under the lock of its balance, which each batch that changes the balance holds. Monitors of
a prefix are put once no batch of the tenant is under way, so that each batch behind the put looks at them.

-- @share_monitors
SELECT pg_advisory_xact_lock_shared(hashtextextended('ledger.monitors/' || %(tenant_id)s::text, 0));

-- @await_batches
SELECT pg_advisory_xact_lock(hashtextextended('ledger.monitors/' || %(tenant_id)s::text, 0));

-- @one_at_a_time
-- Whoever puts or deletes a monitor of the tenant, so that none is counted that another is about to add.
SELECT pg_advisory_xact_lock(hashtextextended('ledger.put_monitor/' || %(tenant_id)s::text, 0));

-- @monitors_of_prefixes
SELECT monitor_id, account_id, account_prefix, side, comparison, currency_code, threshold_minor, description
  FROM ledger.monitor
 WHERE tenant_id = %(tenant_id)s AND account_prefix IS NOT NULL
 ORDER BY monitor_id;

-- @monitors_of_accounts
SELECT monitor_id, account_id, account_prefix, side, comparison, currency_code, threshold_minor, description
  FROM ledger.monitor
 WHERE tenant_id = %(tenant_id)s AND account_id = ANY (%(account_ids)s::text[])
 ORDER BY monitor_id;

-- @count_monitors
SELECT count(*), count(account_prefix) FROM ledger.monitor WHERE tenant_id = %(tenant_id)s;

-- @put_monitor
INSERT INTO ledger.monitor (tenant_id, monitor_id, account_id, account_prefix, side, comparison, currency_code,
                            threshold_minor, description, created_at, updated_at)
VALUES (%(tenant_id)s, %(monitor_id)s, %(account_id)s, %(account_prefix)s, %(side)s, %(comparison)s, %(currency_code)s,
        %(threshold_minor)s, %(description)s, %(now)s, %(now)s)
    ON CONFLICT (tenant_id, monitor_id) DO UPDATE
   SET account_id = excluded.account_id, account_prefix = excluded.account_prefix, side = excluded.side,
       comparison = excluded.comparison, currency_code = excluded.currency_code,
       threshold_minor = excluded.threshold_minor, description = excluded.description, updated_at = excluded.updated_at;

-- @delete_monitor
DELETE FROM ledger.monitor WHERE tenant_id = %(tenant_id)s AND monitor_id = %(monitor_id)s;

-- @mark_accounts
-- Locked before, sorted.
UPDATE ledger.balance AS b
   SET monitored = EXISTS (SELECT FROM ledger.monitor AS m
                            WHERE m.tenant_id = b.tenant_id AND m.account_id = b.account_id)
 WHERE b.tenant_id = %(tenant_id)s AND b.account_id = ANY (%(account_ids)s::text[]);

-- @read_monitor
SELECT m.monitor_id, m.account_id, m.account_prefix, m.side, m.comparison, m.currency_code, m.threshold_minor,
       m.description, m.created_at, m.updated_at, b.type, b.debits_posted, b.credits_posted, b.debits_pending,
       b.credits_pending
  FROM ledger.monitor AS m
  LEFT JOIN ledger.balance AS b ON b.tenant_id = m.tenant_id AND b.account_id = m.account_id
 WHERE m.tenant_id = %(tenant_id)s AND m.monitor_id = %(monitor_id)s;

-- @list_monitors
SELECT m.monitor_id, m.account_id, m.account_prefix, m.side, m.comparison, m.currency_code, m.threshold_minor,
       m.description, m.created_at, m.updated_at, b.type, b.debits_posted, b.credits_posted, b.debits_pending,
       b.credits_pending
  FROM ledger.monitor AS m
  LEFT JOIN ledger.balance AS b ON b.tenant_id = m.tenant_id AND b.account_id = m.account_id
 WHERE m.tenant_id = %(tenant_id)s AND m.monitor_id > %(after)s
   AND (%(account_id)s::text = '' OR m.account_id = %(account_id)s OR starts_with(%(account_id)s::text, m.account_prefix))
 ORDER BY m.monitor_id
 LIMIT %(limit)s;
