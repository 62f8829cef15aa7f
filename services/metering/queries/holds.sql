
Holds. They are locked by id, before the counters of their budgets.

-- @insert_holds
INSERT INTO metering.hold (tenant_id, hold_id, org_id, sku, quantity, status, accounted, reported, shares, reserved_at,
                           expires_at, due_at, correlation_id, causation_id, traceparent)
SELECT %(tenant_id)s, h.hold_id, h.org_id, h.sku, h.quantity, 'HELD', 0, 0, h.shares, h.reserved_at, h.expires_at,
       h.expires_at, %(correlation_id)s, %(causation_id)s, %(traceparent)s
  FROM jsonb_to_recordset(%(rows)s::jsonb)
       AS h (hold_id uuid, org_id text, sku text, quantity numeric, shares jsonb, reserved_at timestamptz,
             expires_at timestamptz);

-- @write_holds
UPDATE metering.hold AS h
   SET status = w.status, accounted = w.accounted, reported = w.reported, shares = w.shares, ended_at = w.ended_at,
       due_at = CASE WHEN w.status = 'HELD' THEN h.due_at END, lease_owner = NULL, lease_until = NULL
  FROM jsonb_to_recordset(%(rows)s::jsonb)
       AS w (hold_id uuid, status text, accounted numeric, reported numeric, shares jsonb, ended_at timestamptz)
 WHERE h.tenant_id = %(tenant_id)s AND h.hold_id = w.hold_id;

-- @lock_holds
SELECT hold_id, org_id, sku, quantity, status, accounted, reported, shares, reserved_at, expires_at, ended_at
  FROM metering.hold
 WHERE tenant_id = %(tenant_id)s AND hold_id = ANY (%(hold_ids)s::uuid[])
 ORDER BY hold_id
   FOR UPDATE;

-- @list_holds
SELECT hold_id, org_id, sku, quantity, status, accounted, reported, shares, reserved_at, expires_at, ended_at
  FROM metering.hold
 WHERE tenant_id = %(tenant_id)s AND status = 'HELD' AND hold_id > %(after)s::uuid
   AND (%(org_id)s::text = '' OR org_id = %(org_id)s)
 ORDER BY hold_id
 LIMIT %(limit)s;

-- @claim_due
SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id, traceparent
  FROM metering.claim_due_holds(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s);

-- @due_lag
SELECT due, oldest_at FROM metering.due_holds_lag(%(now)s);
