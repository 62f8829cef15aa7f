Statements of payments that guard money. They run as the services' role, for the tenant of the transaction.

-- @claim_due
-- Takes the lease of payments that are due, of every tenant; another sweeper's are skipped.
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id
  FROM orchestration.claim_due(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @due_lag
SELECT due, oldest_at FROM orchestration.due_lag(%(now)s);

-- @hold
-- The first statement of every transition: locks the payment, and finds no row once another has taken the lease.
UPDATE orchestration.payment
   SET lease_until = clock_timestamp() + make_interval(secs => %(lease_ms)s / 1000.0),
       status = %(status)s, updated_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND payment_id = %(payment_id)s AND epoch = %(epoch)s
   AND due_at IS NOT NULL
RETURNING payment_id;

-- @release
-- Hands the payment back: due again at due_at, or never.
UPDATE orchestration.payment
   SET lease_owner = NULL, lease_until = NULL, tries = 0, due_at = %(due_at)s, status = %(status)s, updated_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND payment_id = %(payment_id)s AND epoch = %(epoch)s
   AND due_at IS NOT NULL
RETURNING payment_id;

-- @lock_merchant
-- Versions of one merchant are counted one at a time.
SELECT pg_advisory_xact_lock(hashtextextended('orchestration.merchant:' || %(tenant_id)s || ':' || %(merchant_id)s, 0));

-- @sandbox_refunded
SELECT coalesce(sum(amount_minor), 0)::bigint FROM orchestration.sandbox_order
 WHERE tenant_id = %(tenant_id)s AND processor_id = %(processor_id)s AND charge_key = %(charge_key)s
   AND operation = 'REFUND' AND done;
