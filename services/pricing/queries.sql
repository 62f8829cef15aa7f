-- Statements of pricing that are more than a row by its key. Parameters are psycopg's %(name)s.

-- Two applies of one tenant take turns: each decides on what the other left. Released at the end of the transaction.
-- @lock_catalog
SELECT pg_advisory_xact_lock(hashtextextended('pricing.catalog:' || %(tenant_id)s, 0))

-- Plans with the newest price list of each, or the list of a draft, by id or by business model.
-- @newest_plans
SELECT p.plan_id, p.model_id, p.name, p.tier, p.status, p.notes, p.version,
       coalesce(d.currency_code, v.currency_code) AS currency_code,
       coalesce(d.effective_at, v.effective_at) AS effective_at, coalesce(d.proration, v.proration) AS proration,
       coalesce(d.prices, (SELECT jsonb_agg(jsonb_build_object('sku', q.sku, 'price', q.price, 'tax_code', q.tax_code))
                   FROM pricing.plan_price q
                  WHERE (q.tenant_id, q.plan_id, q.version) = (v.tenant_id, v.plan_id, v.version)), '[]')::text AS prices
  FROM pricing.plan p
  LEFT JOIN pricing.plan_version v ON (v.tenant_id, v.plan_id, v.version) = (p.tenant_id, p.plan_id, p.version)
  LEFT JOIN pricing.plan_draft d ON (d.tenant_id, d.plan_id) = (p.tenant_id, p.plan_id) AND p.version = 0
 WHERE p.tenant_id = %(tenant_id)s
   AND p.plan_id = ANY (%(plan_ids)s::text[] || ARRAY(
         SELECT m.plan_id FROM pricing.plan m
          WHERE m.tenant_id = %(tenant_id)s AND m.model_id = ANY (%(model_ids)s::text[])))

-- One page of plans, each with its newest price list, or the list of a draft.
-- @page_of_plans
SELECT p.plan_id, p.model_id, p.name, p.tier, p.status, p.notes, p.version,
       coalesce(d.currency_code, v.currency_code) AS currency_code,
       coalesce(d.effective_at, v.effective_at) AS effective_at, coalesce(d.proration, v.proration) AS proration,
       coalesce(d.prices, (SELECT jsonb_agg(jsonb_build_object('sku', q.sku, 'price', q.price, 'tax_code', q.tax_code))
                   FROM pricing.plan_price q
                  WHERE (q.tenant_id, q.plan_id, q.version) = (v.tenant_id, v.plan_id, v.version)), '[]')::text AS prices
  FROM pricing.plan p
  LEFT JOIN pricing.plan_version v ON (v.tenant_id, v.plan_id, v.version) = (p.tenant_id, p.plan_id, p.version)
  LEFT JOIN pricing.plan_draft d ON (d.tenant_id, d.plan_id) = (p.tenant_id, p.plan_id) AND p.version = 0
 WHERE p.tenant_id = %(tenant_id)s AND p.plan_id > %(after)s
   AND (%(model_id)s = '' OR p.model_id = %(model_id)s)
 ORDER BY p.plan_id
 LIMIT %(limit)s

-- A plan with one version of its price list.
-- @plan_at_version
SELECT p.plan_id, p.model_id, p.name, p.tier, p.status, p.notes,
       coalesce(v.version, 0) AS version, coalesce(d.currency_code, v.currency_code) AS currency_code,
       coalesce(d.effective_at, v.effective_at) AS effective_at, coalesce(d.proration, v.proration) AS proration,
       coalesce(d.prices, (SELECT jsonb_agg(jsonb_build_object('sku', q.sku, 'price', q.price, 'tax_code', q.tax_code))
                   FROM pricing.plan_price q
                  WHERE (q.tenant_id, q.plan_id, q.version) = (v.tenant_id, v.plan_id, v.version)), '[]')::text AS prices
  FROM pricing.plan p
  LEFT JOIN pricing.plan_version v ON (v.tenant_id, v.plan_id) = (p.tenant_id, p.plan_id)
        AND v.version = CASE WHEN %(version)s = 0 THEN p.version ELSE %(version)s END
  LEFT JOIN pricing.plan_draft d ON (d.tenant_id, d.plan_id) = (p.tenant_id, p.plan_id) AND p.version = 0
        AND %(version)s = 0
 WHERE p.tenant_id = %(tenant_id)s AND p.plan_id = %(plan_id)s
   AND (v.plan_id IS NOT NULL OR d.plan_id IS NOT NULL)

-- The version whose list holds at a moment: the newest of those that hold since then or longer.
-- @version_in_force
SELECT v.version
  FROM pricing.plan_version v
 WHERE v.tenant_id = %(tenant_id)s AND v.plan_id = %(plan_id)s AND v.effective_at <= %(at)s
 ORDER BY v.version DESC
 LIMIT 1

-- The entitlement in force at the start of a period, and those that begin inside it, oldest first. A period with as many
-- as the limit is not rated.
-- @entitlements_of_period
SELECT e.org_id, e.plan_id, e.plan_version, e.overrides::text AS overrides, e.effective_at
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
SELECT e.org_id, e.plan_id, e.plan_version, e.overrides::text AS overrides, e.effective_at
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

-- Who earns on an organisation in a period, in the order of time: records that earn never overlap. A resolved dispute is
-- over, and who it names earns. A period with as many as the limit is not rated.
-- @earners_of_period
SELECT n.partner_id, n.tier, r.start_at, r.end_at,
       CASE WHEN r.dispute -> 'resolution' IS NULL THEN coalesce(r.dispute ->> 'dispute_id', '') ELSE '' END AS dispute_id
  FROM pricing.partner_of_record r
  JOIN pricing.partner n ON n.tenant_id = r.tenant_id
       AND n.partner_id = CASE WHEN r.dispute -> 'resolution' IS NULL THEN r.partner_id
                               ELSE r.dispute -> 'resolution' ->> 'partner_id' END
 WHERE r.tenant_id = %(tenant_id)s AND r.org_id = %(org_id)s
   AND (r.status = 'STATUS_ACTIVE' OR (r.status = 'STATUS_DISPUTED' AND r.dispute IS NOT NULL))
   AND r.start_at < %(end_at)s AND (r.end_at IS NULL OR r.end_at > %(start_at)s)
 ORDER BY r.start_at
 LIMIT 1000

-- Those of the billing accounts that pay for an organisation, while they do; a record ends with either.
-- @account_earners_of_period
SELECT n.partner_id, n.tier, o.billing_account_id, greatest(o.start_at, p.start_at) AS start_at,
       least(o.end_at, p.end_at) AS end_at
  FROM pricing.billing_account_org o
  JOIN pricing.billing_account_partner p
    ON p.tenant_id = o.tenant_id AND p.billing_account_id = o.billing_account_id AND p.status = 'STATUS_ACTIVE'
   AND p.start_at < coalesce(o.end_at, 'infinity') AND o.start_at < coalesce(p.end_at, 'infinity')
  JOIN pricing.partner n ON n.tenant_id = p.tenant_id AND n.partner_id = p.partner_id
 WHERE o.tenant_id = %(tenant_id)s AND o.org_id = %(org_id)s
   AND greatest(o.start_at, p.start_at) < %(end_at)s
   AND (least(o.end_at, p.end_at) IS NULL OR least(o.end_at, p.end_at) > %(start_at)s)
 ORDER BY 4
 LIMIT 1000

-- The rates of some tiers for some SKUs, and for all others.
-- @rates_of_tiers
SELECT c.partner_tier, c.sku, c.pct
  FROM pricing.commission_rate c
 WHERE c.tenant_id = %(tenant_id)s AND c.partner_tier = ANY (%(tiers)s::text[])
   AND (c.sku = '' OR c.sku = ANY (%(skus)s::text[]))

-- Every stored price of some SKUs, with the name of its place. Only asked when a SKU changes its aggregation.
-- @prices_of_skus
SELECT 'plan ' || q.plan_id || ' version ' || q.version AS place, q.sku, q.price::text AS price
  FROM pricing.plan_price q
 WHERE q.tenant_id = %(tenant_id)s AND q.sku = ANY (%(skus)s::text[])
 UNION ALL
SELECT 'the draft of plan ' || d.plan_id, o.value ->> 'sku', (o.value -> 'price')::text
  FROM pricing.plan_draft d
 CROSS JOIN jsonb_array_elements(d.prices) o
 WHERE d.tenant_id = %(tenant_id)s AND o.value ->> 'sku' = ANY (%(skus)s::text[])
 UNION ALL
SELECT 'the entitlement of ' || e.org_id, o.value ->> 'sku', (o.value -> 'price')::text
  FROM pricing.entitlement e
 CROSS JOIN jsonb_array_elements(e.overrides) o
 WHERE e.tenant_id = %(tenant_id)s AND o.value ->> 'sku' = ANY (%(skus)s::text[])

-- Organisations that are on a plan at an instant, or come onto it later, but for those on the target of a migration.
-- by_model: it has no entitlement at the instant, and its business model puts it on the plan.
-- @subscribers
WITH found AS (
  SELECT e.org_id, false AS by_model
    FROM pricing.entitlement e
   WHERE e.tenant_id = %(tenant_id)s AND e.plan_id = %(plan_id)s
     AND (%(any_version)s OR e.plan_version = %(version)s OR (%(unpinned)s AND e.plan_version = 0))
     AND NOT (e.plan_id = %(to_plan_id)s AND e.plan_version = %(to_version)s)
     AND (e.effective_at > %(effective_at)s OR NOT EXISTS (
           SELECT FROM pricing.entitlement h
            WHERE h.tenant_id = e.tenant_id AND h.org_id = e.org_id
              AND h.effective_at > e.effective_at AND h.effective_at <= %(effective_at)s))
   UNION ALL
  SELECT o.org_id, true
    FROM pricing.org_business_model o
    JOIN pricing.business_model m ON (m.tenant_id, m.model_id) = (o.tenant_id, o.model_id)
   WHERE o.tenant_id = %(tenant_id)s AND (%(any_version)s OR %(unpinned)s)
     AND CASE WHEN o.plan_id = '' THEN m.default_plan_id ELSE o.plan_id END = %(plan_id)s
     AND NOT (%(plan_id)s = %(to_plan_id)s AND %(to_version)s = 0)
     AND NOT EXISTS (
           SELECT FROM pricing.entitlement h
            WHERE h.tenant_id = o.tenant_id AND h.org_id = o.org_id AND h.effective_at <= %(effective_at)s)
)
SELECT f.org_id, bool_or(f.by_model) AS by_model, count(*) OVER () AS total
  FROM found f
 GROUP BY f.org_id
 ORDER BY f.org_id
 LIMIT %(limit)s

-- A business model in use that gives a plan by default.
-- @model_with_default
SELECT m.model_id
  FROM pricing.business_model m
 WHERE m.tenant_id = %(tenant_id)s AND m.default_plan_id = %(plan_id)s AND m.status = 'STATUS_ACTIVE'
 ORDER BY m.model_id
 LIMIT 1

-- Which of some versions of plans there are.
-- @versions_of_plans
SELECT v.plan_id, v.version
  FROM pricing.plan_version v
  JOIN unnest(%(plan_ids)s::text[], %(versions)s::int[]) AS wanted (plan_id, version)
    ON (v.plan_id, v.version) = (wanted.plan_id, wanted.version)
 WHERE v.tenant_id = %(tenant_id)s

-- What was a draft is published: its list is kept as a version.
-- @end_drafts
DELETE FROM pricing.plan_draft WHERE tenant_id = %(tenant_id)s AND plan_id = ANY (%(plan_ids)s::text[])

-- Which state of the catalogue a transaction sees.
-- @catalog_stamp
SELECT s.stamp FROM pricing.catalog_stamp s WHERE s.tenant_id = %(tenant_id)s

-- When the next list of a plan, entitlement or tax profile of an organisation, or tax rate comes into force.
-- @next_change
SELECT least(
  (SELECT min(e.effective_at) FROM pricing.entitlement e
    WHERE e.tenant_id = %(tenant_id)s AND e.org_id = %(org_id)s AND e.effective_at > %(now_at)s),
  (SELECT min(v.effective_at) FROM pricing.plan_version v
    WHERE v.tenant_id = %(tenant_id)s AND v.plan_id = %(plan_id)s AND v.effective_at > %(now_at)s),
  (SELECT min(x.effective_at) FROM pricing.tax_profile x
    WHERE x.tenant_id = %(tenant_id)s AND x.org_id = %(org_id)s AND x.effective_at > %(now_at)s),
  (SELECT min(t.effective_at) FROM pricing.tax_rate t
    WHERE t.tenant_id = %(tenant_id)s AND t.effective_at > %(now_at)s)) AS at

-- Whether a tenant is taxed at an instant, and the tax profile of an organisation then.
-- @tax_place
SELECT EXISTS (SELECT FROM pricing.tax_rate t
                WHERE t.tenant_id = %(tenant_id)s AND t.effective_at <= %(taxed_at)s) AS is_taxed, x.*
  FROM (VALUES (1)) AS one
  LEFT JOIN LATERAL (
    SELECT p.org_id, p.effective_at, p.country, p.region, p.tax_id, p.reverse_charge, p.exemptions
      FROM pricing.tax_profile p
     WHERE p.tenant_id = %(tenant_id)s AND p.org_id = %(org_id)s AND p.effective_at <= %(taxed_at)s
     ORDER BY p.effective_at DESC
     LIMIT 1) x ON true

-- The rates of some jurisdictions that are in force at an instant, for some tax codes and for all others.
-- @tax_rates_in_force
SELECT DISTINCT ON (t.jurisdiction, t.tax, t.tax_code)
       t.jurisdiction, t.tax, t.tax_code, t.effective_at, t.treatment, t.rate_percent, t.inclusive, t.compound,
       t.position, t.authority, t.reason
  FROM pricing.tax_rate t
 WHERE t.tenant_id = %(tenant_id)s AND t.jurisdiction = ANY (%(jurisdictions)s::text[])
   AND t.tax_code = ANY (%(tax_codes)s::text[]) AND t.effective_at <= %(taxed_at)s
 ORDER BY t.jurisdiction, t.tax, t.tax_code, t.effective_at DESC

-- Whether any rate is in force at an instant: a tenant is taxed from then on.
-- @has_tax_rates
SELECT EXISTS (SELECT FROM pricing.tax_rate t WHERE t.tenant_id = %(tenant_id)s AND t.effective_at <= %(taxed_at)s)

-- The policy of a country, else that of all others.
-- @tax_policy
SELECT p.country, p.missing, p.rounding
  FROM pricing.tax_policy p
 WHERE p.tenant_id = %(tenant_id)s AND p.country IN (%(country)s, '')
 ORDER BY p.country DESC
 LIMIT 1
