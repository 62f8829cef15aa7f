Statements of orders. All run inside a unit of work, as the services' role, for the tenant of the transaction.

-- @insert_order
INSERT INTO orders.sales_order (tenant_id, order_id, person_id, organization_id, status, currency_code, total_minor,
                                created_via, notes, operator_flags, created_at)
VALUES (%(tenant_id)s, %(order_id)s, %(person_id)s, %(organization_id)s, %(status)s, %(currency_code)s,
        %(total_minor)s, %(created_via)s, %(notes)s, %(operator_flags)s, %(created_at)s);

-- @lock_order
-- Two that change an order follow one another, and the second sees what the first has left.
SELECT * FROM orders.sales_order WHERE tenant_id = %(tenant_id)s AND order_id = %(order_id)s FOR UPDATE;

-- @read_order
SELECT * FROM orders.sales_order WHERE tenant_id = %(tenant_id)s AND order_id = %(order_id)s;

-- @update_order
UPDATE orders.sales_order
   SET status = %(status)s, total_minor = %(total_minor)s, paid_minor = %(paid_minor)s,
       refunded_minor = %(refunded_minor)s, updated_via = %(updated_via)s, notes = %(notes)s,
       operator_flags = %(operator_flags)s, cancel_reason = %(cancel_reason)s, cancelled_at = %(cancelled_at)s,
       updated_at = %(updated_at)s
 WHERE tenant_id = %(tenant_id)s AND order_id = %(order_id)s;

-- @insert_action
INSERT INTO orders.external_action (tenant_id, external_action_id, order_id, person_id, organization_id, action,
                                    payment_method, payment_path, provider_ref, currency_code, amount_minor, operator,
                                    principal_id, check_number, request_sha256, occurred_at, recorded_at, refund_id,
                                    refunded_action_id)
VALUES (%(tenant_id)s, %(external_action_id)s, %(order_id)s, %(person_id)s, %(organization_id)s, %(action)s,
        %(payment_method)s, %(payment_path)s, %(provider_ref)s, %(currency_code)s, %(amount_minor)s, %(operator)s,
        %(principal_id)s, %(check_number)s, %(request_sha256)s, %(occurred_at)s, %(recorded_at)s, %(refund_id)s,
        %(refunded_action_id)s);

-- @insert_posting
INSERT INTO orders.posting (tenant_id, external_action_id, due_at, correlation_id, causation_id, traceparent, created_at)
VALUES (%(tenant_id)s, %(external_action_id)s, %(now)s, %(correlation_id)s, %(causation_id)s, %(traceparent)s, %(now)s);

-- @recorded_check
-- Under the lock of the order, so that two that record one check follow one another.
SELECT a.*, p.posting_id FROM orders.external_action AS a
  JOIN orders.posting AS p USING (tenant_id, external_action_id)
 WHERE a.tenant_id = %(tenant_id)s AND a.order_id = %(order_id)s AND a.check_number = %(check_number)s
   AND a.check_number <> '' AND a.action = 'payment.received';

-- @read_action
SELECT a.*, p.posting_id FROM orders.external_action AS a
  JOIN orders.posting AS p USING (tenant_id, external_action_id)
 WHERE a.tenant_id = %(tenant_id)s AND a.external_action_id = %(external_action_id)s;

-- @actions_of_order
SELECT a.*, p.posting_id FROM orders.external_action AS a
  JOIN orders.posting AS p USING (tenant_id, external_action_id)
 WHERE a.tenant_id = %(tenant_id)s AND a.order_id = %(order_id)s
   AND (a.recorded_at, a.external_action_id) > (%(after_time)s, %(after_action)s)
 ORDER BY a.recorded_at, a.external_action_id
 LIMIT %(limit)s;

-- @tenders
-- Under the lock of the order; of those of which something is left, the latest first.
SELECT a.*, NULL::uuid AS posting_id, a.amount_minor - coalesce(r.refunded_minor, 0) AS rest_minor
  FROM orders.external_action AS a
  LEFT JOIN (SELECT b.refunded_action_id, sum(b.amount_minor)::bigint AS refunded_minor
               FROM orders.external_action AS b
              WHERE b.tenant_id = %(tenant_id)s AND b.order_id = %(order_id)s AND b.refunded_action_id <> ''
              GROUP BY b.refunded_action_id) AS r ON r.refunded_action_id = a.external_action_id
 WHERE a.tenant_id = %(tenant_id)s AND a.order_id = %(order_id)s AND a.action = 'payment.received'
   AND a.amount_minor > coalesce(r.refunded_minor, 0)
 ORDER BY a.recorded_at DESC, a.external_action_id DESC;

-- @insert_refund
INSERT INTO orders.refund (tenant_id, refund_id, order_id, person_id, currency_code, amount_minor, reason, initiated_by,
                           principal_id, completed_at)
VALUES (%(tenant_id)s, %(refund_id)s, %(order_id)s, %(person_id)s, %(currency_code)s, %(amount_minor)s, %(reason)s,
        %(initiated_by)s, %(principal_id)s, %(completed_at)s);

-- @parts_of
SELECT a.*, p.posting_id FROM orders.external_action AS a
  JOIN orders.posting AS p USING (tenant_id, external_action_id)
 WHERE a.tenant_id = %(tenant_id)s AND a.refund_id = ANY (%(refund_ids)s::text[]) AND a.refund_id <> ''
 ORDER BY a.refund_id, a.external_action_id;

-- @settle_posting
-- Whoever has the lease: the posting is the same for all.
UPDATE orders.posting
   SET due_at = NULL, lease_owner = NULL, lease_until = NULL, posting_id = %(posting_id)s, posted_at = %(now)s
 WHERE tenant_id = %(tenant_id)s AND external_action_id = %(external_action_id)s AND posted_at IS NULL;

-- @claim_posting
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM orders.claim_posting(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @posting_lag
SELECT due, oldest_at FROM orders.posting_lag(%(now)s);

-- @put_off_posting
UPDATE orders.posting SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND external_action_id = %(item_id)s AND epoch = %(epoch)s AND posted_at IS NULL;

-- @open_credit_account
INSERT INTO orders.credit_account (tenant_id, owner_id, unit, created_at)
VALUES (%(tenant_id)s, %(owner_id)s, %(unit)s, %(now)s)
ON CONFLICT DO NOTHING;

-- @lock_credit_account
-- Two that take of an owner's credits follow one another, and the second sees what the first has left.
SELECT owner_id FROM orders.credit_account
 WHERE tenant_id = %(tenant_id)s AND owner_id = %(owner_id)s AND unit = %(unit)s FOR NO KEY UPDATE;

-- @insert_grant
INSERT INTO orders.credit_grant (tenant_id, grant_id, owner_id, unit, amount, source, priority, order_id, granted_at,
                                 effective_at, expires_at, rollover_max, rollovers_left, period_days)
VALUES (%(tenant_id)s, %(grant_id)s, %(owner_id)s, %(unit)s, %(amount)s, %(source)s, %(priority)s, %(order_id)s,
        %(granted_at)s, %(effective_at)s, %(expires_at)s, %(rollover_max)s, %(rollovers_left)s, %(period_days)s);

-- @update_grant
UPDATE orders.credit_grant
   SET expires_at = %(expires_at)s, rollovers_left = %(rollovers_left)s, held = %(held)s, used = %(used)s,
       lapsed = %(lapsed)s, taken_back = %(taken_back)s, reversed_at = %(reversed_at)s
 WHERE tenant_id = %(tenant_id)s AND grant_id = %(grant_id)s;

-- @read_grant
SELECT * FROM orders.credit_grant WHERE tenant_id = %(tenant_id)s AND grant_id = %(grant_id)s;

-- @live_grants
-- Of which something is available or held, whether they count at the moment or not.
SELECT * FROM orders.credit_grant
 WHERE tenant_id = %(tenant_id)s AND owner_id = %(owner_id)s AND unit = %(unit)s
   AND used + lapsed + taken_back < amount;

-- @grants_before
-- As they stood at a time.
SELECT g.tenant_id, g.grant_id, g.owner_id, g.unit, g.amount, g.source, g.priority, g.order_id, g.granted_at,
       g.effective_at, g.expires_at, g.rollover_max, g.rollovers_left, g.period_days,
       coalesce(e.held, 0) AS held, coalesce(e.used, 0) AS used, coalesce(e.lapsed, 0) AS lapsed,
       coalesce(e.taken_back, 0) AS taken_back, g.reversed_at
  FROM orders.credit_grant AS g
  LEFT JOIN (
    SELECT grant_id,
           (coalesce(sum(amount) FILTER (WHERE kind = 'HELD'), 0)
            - coalesce(sum(amount) FILTER (WHERE kind IN ('RELEASED', 'CONSUMED')), 0))::bigint AS held,
           coalesce(sum(amount) FILTER (WHERE kind IN ('CONSUMED', 'APPLIED')), 0)::bigint AS used,
           coalesce(sum(amount) FILTER (WHERE kind = 'LAPSED'), 0)::bigint AS lapsed,
           coalesce(sum(amount) FILTER (WHERE kind = 'TAKEN_BACK'), 0)::bigint AS taken_back
      FROM orders.credit_entry
     WHERE tenant_id = %(tenant_id)s AND owner_id = %(owner_id)s AND unit = %(unit)s
       AND recorded_at <= %(told_at)s
     GROUP BY grant_id) AS e ON e.grant_id = g.grant_id
 WHERE g.tenant_id = %(tenant_id)s AND g.owner_id = %(owner_id)s AND g.unit = %(unit)s
   AND g.granted_at <= %(told_at)s;

-- @insert_credit_entry
INSERT INTO orders.credit_entry (tenant_id, entry_id, grant_id, owner_id, unit, source, kind, amount, reservation_id,
                                 order_id, recorded_at)
VALUES (%(tenant_id)s, %(entry_id)s, %(grant_id)s, %(owner_id)s, %(unit)s, %(source)s, %(kind)s, %(amount)s,
        %(reservation_id)s, %(order_id)s, %(recorded_at)s);

-- @read_credit_entry
SELECT e.*, d.posting_id FROM orders.credit_entry AS e
  JOIN orders.credit_due AS d ON d.tenant_id = e.tenant_id AND d.item_id = e.entry_id
 WHERE e.tenant_id = %(tenant_id)s AND e.entry_id = %(entry_id)s;

-- @insert_credit_due
INSERT INTO orders.credit_due (tenant_id, item_id, due_at, correlation_id, causation_id, traceparent, created_at)
VALUES (%(tenant_id)s, %(item_id)s, %(due_at)s, %(correlation_id)s, %(causation_id)s, %(traceparent)s, %(now)s);

-- @settle_credit_due
-- Whoever has the lease: a posting is the same for all, and a time that is over is over.
UPDATE orders.credit_due
   SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL, posting_id = %(posting_id)s
 WHERE tenant_id = %(tenant_id)s AND item_id = %(item_id)s AND due_at IS NOT NULL;

-- @claim_credit
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM orders.claim_credit(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @credit_lag
SELECT due, oldest_at FROM orders.credit_lag(%(now)s);

-- @put_off_credit
UPDATE orders.credit_due SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL
 WHERE tenant_id = %(tenant_id)s AND item_id = %(item_id)s AND epoch = %(epoch)s AND due_at IS NOT NULL;
