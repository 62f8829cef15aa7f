-- Statements of pricing that are more than a row by its key. Parameters are psycopg's %(name)s.

-- Two applies of one tenant take turns: each decides on what the other left. Released at the end of the transaction.
-- @lock_catalog
SELECT pg_advisory_xact_lock(hashtextextended('pricing.catalog:' || %(tenant_id)s, 0))

-- Plans with the newest price list of each, by id or by business model.
-- @newest_plans
SELECT p.plan_id, p.model_id, p.name, p.tier, p.status, p.notes, p.version, v.currency_code, v.effective_at,
       coalesce((SELECT jsonb_agg(jsonb_build_object('sku', q.sku, 'price', q.price))
                   FROM pricing.plan_price q
                  WHERE (q.tenant_id, q.plan_id, q.version) = (v.tenant_id, v.plan_id, v.version)), '[]')::text AS prices
  FROM pricing.plan p
  JOIN pricing.plan_version v ON (v.tenant_id, v.plan_id, v.version) = (p.tenant_id, p.plan_id, p.version)
 WHERE p.tenant_id = %(tenant_id)s
   AND p.plan_id = ANY (%(plan_ids)s::text[] || ARRAY(
         SELECT m.plan_id FROM pricing.plan m
          WHERE m.tenant_id = %(tenant_id)s AND m.model_id = ANY (%(model_ids)s::text[])))

-- One page of plans, each with its newest price list.
-- @page_of_plans
SELECT p.plan_id, p.model_id, p.name, p.tier, p.status, p.notes, p.version, v.currency_code, v.effective_at,
       coalesce((SELECT jsonb_agg(jsonb_build_object('sku', q.sku, 'price', q.price))
                   FROM pricing.plan_price q
                  WHERE (q.tenant_id, q.plan_id, q.version) = (v.tenant_id, v.plan_id, v.version)), '[]')::text AS prices
  FROM pricing.plan p
  JOIN pricing.plan_version v ON (v.tenant_id, v.plan_id, v.version) = (p.tenant_id, p.plan_id, p.version)
 WHERE p.tenant_id = %(tenant_id)s AND p.plan_id > %(after)s
   AND (%(model_id)s = '' OR p.model_id = %(model_id)s)
 ORDER BY p.plan_id
 LIMIT %(limit)s

-- A plan with one version of its price list.
-- @plan_at_version
SELECT p.plan_id, p.model_id, p.name, p.tier, p.status, p.notes, v.version, v.currency_code, v.effective_at,
       coalesce((SELECT jsonb_agg(jsonb_build_object('sku', q.sku, 'price', q.price))
                   FROM pricing.plan_price q
                  WHERE (q.tenant_id, q.plan_id, q.version) = (v.tenant_id, v.plan_id, v.version)), '[]')::text AS prices
  FROM pricing.plan p
  JOIN pricing.plan_version v ON (v.tenant_id, v.plan_id) = (p.tenant_id, p.plan_id)
 WHERE p.tenant_id = %(tenant_id)s AND p.plan_id = %(plan_id)s
   AND v.version = CASE WHEN %(version)s = 0 THEN p.version ELSE %(version)s END

-- The version whose list holds at a moment: the newest of those that hold since then or longer.
-- @version_in_force
SELECT v.version
  FROM pricing.plan_version v
 WHERE v.tenant_id = %(tenant_id)s AND v.plan_id = %(plan_id)s AND v.effective_at <= %(at)s
 ORDER BY v.version DESC
 LIMIT 1

-- The entitlement in force at the start of a period, and those that begin inside it, oldest first. The limit is one
-- more than anybody needs: the first that differs is an error already.
-- @entitlements_of_period
SELECT e.org_id, e.plan_id, e.overrides::text AS overrides, e.effective_at
  FROM pricing.entitlement e
 WHERE e.tenant_id = %(tenant_id)s AND e.org_id = %(org_id)s
   AND (e.effective_at < %(end_at)s OR e.effective_at = %(start_at)s)
   AND e.effective_at >= (
         SELECT coalesce(max(h.effective_at), '-infinity') FROM pricing.entitlement h
          WHERE h.tenant_id = %(tenant_id)s AND h.org_id = %(org_id)s AND h.effective_at <= %(start_at)s)
 ORDER BY e.effective_at
 LIMIT 1000

-- One page of entitlements by organisation and time.
-- @page_of_entitlements
SELECT e.org_id, e.plan_id, e.overrides::text AS overrides, e.effective_at
  FROM pricing.entitlement e
 WHERE e.tenant_id = %(tenant_id)s
   AND (e.org_id, e.effective_at) > (%(after_org)s, %(after_at)s::timestamptz)
   AND (%(org_id)s = '' OR e.org_id = %(org_id)s)
 ORDER BY e.org_id, e.effective_at
 LIMIT %(limit)s

-- The plan of an organisation on a business model: its own within the model, else the model's default.
-- @plan_of_model
SELECT o.plan_id AS own_plan_id, m.default_plan_id
  FROM pricing.org_business_model o
  JOIN pricing.business_model m ON (m.tenant_id, m.model_id) = (o.tenant_id, o.model_id)
 WHERE o.tenant_id = %(tenant_id)s AND o.org_id = %(org_id)s

-- The partner that earns on an organisation at a moment, and the rates of its tier. Active ones never overlap.
-- @commissions
SELECT r.partner_id, c.sku, c.pct
  FROM pricing.partner_of_record r
  JOIN pricing.partner n ON (n.tenant_id, n.partner_id) = (r.tenant_id, r.partner_id)
  JOIN pricing.commission_rate c ON (c.tenant_id, c.partner_tier) = (n.tenant_id, n.tier)
 WHERE r.tenant_id = %(tenant_id)s AND r.org_id = %(org_id)s AND r.status = 'STATUS_ACTIVE'
   AND r.start_at <= %(at)s AND (r.end_at IS NULL OR %(at)s < r.end_at)
   AND (c.sku = '' OR c.sku = ANY (%(skus)s::text[]))
