Accounting periods: how far the books of a currency are closed.

A batch holds the tenant's periods shared until it ends, and takes them before all else: ids, holds and balances come
behind. Whoever closes or reopens holds them alone, and no other lock of the ledger. So no two wait for each other in a
circle. It is an advisory lock: before the first close there is no row to lock, and sharing a row would write to it.

-- @share_periods
SELECT pg_advisory_xact_lock_shared(hashtextextended(%(lock)s::text, 0));

-- @own_periods
SELECT pg_advisory_xact_lock(hashtextextended(%(lock)s::text, 0));

-- @read_closed
-- In a statement of its own: its snapshot must be taken once the lock is held.
SELECT currency_code, closed_through FROM ledger.period
 WHERE tenant_id = %(tenant_id)s AND closed_through IS NOT NULL;

-- @read_period
SELECT currency_code, closed_through, reason, updated_at FROM ledger.period
 WHERE tenant_id = %(tenant_id)s AND currency_code = %(currency_code)s;

-- @put_period
INSERT INTO ledger.period (tenant_id, currency_code, closed_through, reason, updated_at)
VALUES (%(tenant_id)s, %(currency_code)s, %(closed_through)s::timestamptz, %(reason)s, %(now)s)
    ON CONFLICT (tenant_id, currency_code) DO UPDATE
   SET closed_through = excluded.closed_through, reason = excluded.reason, updated_at = excluded.updated_at;

-- @list_periods
SELECT currency_code, closed_through, reason, updated_at FROM ledger.period
 WHERE tenant_id = %(tenant_id)s AND currency_code > %(after)s
 ORDER BY currency_code
 LIMIT %(limit)s;
