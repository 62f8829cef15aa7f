
Budgets and what counts against them.

Whoever counts shares a lock of the tenant, and whoever puts or deletes a budget holds it alone: budgets stand still while
they are counted by, and what was counted before a budget is put is all committed then. Rows of budget_use are locked by
series and start; behind the holds that are locked with them, and before the usage events that are stored.

-- @share_budgets
SELECT pg_advisory_xact_lock_shared(hashtextextended('metering.budgets/' || %(tenant_id)s::text, 0));

-- @hold_budgets
SELECT pg_advisory_xact_lock(hashtextextended('metering.budgets/' || %(tenant_id)s::text, 0));

-- @same_budgets
-- A statement behind the lock: what it sees holds to the end of the transaction.
SELECT metering.same_budgets(%(version)s::bigint);

-- @read_version
SELECT version FROM metering.budget_version WHERE tenant_id = %(tenant_id)s;

-- @next_version
INSERT INTO metering.budget_version (tenant_id, version) VALUES (%(tenant_id)s, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET version = budget_version.version + 1;

-- @all_budgets
SELECT budget_id, series, org_id, sku, period, time_zone, limit_value, currency_code, mode, thresholds_pct,
       enforce_in_ingest, description, created_at, updated_at
  FROM metering.budget
 WHERE tenant_id = %(tenant_id)s
 ORDER BY budget_id;

-- @find_budget
SELECT budget_id, series, org_id, sku, period, time_zone, limit_value, currency_code, mode, thresholds_pct,
       enforce_in_ingest, description, created_at, updated_at
  FROM metering.budget
 WHERE tenant_id = %(tenant_id)s AND budget_id = %(budget_id)s;

-- @list_budgets
SELECT budget_id, series, org_id, sku, period, time_zone, limit_value, currency_code, mode, thresholds_pct,
       enforce_in_ingest, description, created_at, updated_at
  FROM metering.budget
 WHERE tenant_id = %(tenant_id)s AND budget_id > %(after)s AND (%(org_id)s::text = '' OR org_id = %(org_id)s)
 ORDER BY budget_id
 LIMIT %(limit)s;

-- @count_budgets
SELECT count(*) FROM metering.budget WHERE tenant_id = %(tenant_id)s;

-- @put_budget
INSERT INTO metering.budget (tenant_id, budget_id, series, org_id, sku, period, time_zone, limit_value, currency_code,
                             mode, thresholds_pct, enforce_in_ingest, description, created_at, updated_at)
VALUES (%(tenant_id)s, %(budget_id)s, %(series)s, %(org_id)s, %(sku)s, %(period)s, %(time_zone)s, %(limit_value)s,
        %(currency_code)s, %(mode)s, %(thresholds_pct)s::integer[], %(enforce_in_ingest)s, %(description)s, %(now)s,
        %(now)s)
    ON CONFLICT (tenant_id, budget_id) DO UPDATE
   SET limit_value = excluded.limit_value, mode = excluded.mode, thresholds_pct = excluded.thresholds_pct,
       enforce_in_ingest = excluded.enforce_in_ingest, description = excluded.description,
       updated_at = excluded.updated_at;

-- @delete_budget
DELETE FROM metering.budget WHERE tenant_id = %(tenant_id)s AND budget_id = %(budget_id)s;

-- @delete_use
DELETE FROM metering.budget_use WHERE tenant_id = %(tenant_id)s AND series = %(series)s;

-- @lock_use
SELECT u.series, u.start_at, u.used, u.held, u.told, u.quantities
  FROM unnest(%(series)s::uuid[], %(starts)s::timestamptz[]) AS k (series, start_at)
  JOIN metering.budget_use AS u
    ON u.tenant_id = %(tenant_id)s AND u.series = k.series AND u.start_at = k.start_at
 ORDER BY u.series, u.start_at
   FOR UPDATE OF u;

-- @read_use
SELECT u.series, u.start_at, u.used, u.held, u.told, u.quantities
  FROM unnest(%(series)s::uuid[], %(starts)s::timestamptz[]) AS k (series, start_at)
  JOIN metering.budget_use AS u
    ON u.tenant_id = %(tenant_id)s AND u.series = k.series AND u.start_at = k.start_at;

-- @open_use
-- Of two that open a period at once one waits, and finds the other's row.
INSERT INTO metering.budget_use (tenant_id, series, start_at, used, held, told, quantities)
VALUES (%(tenant_id)s, %(series)s, %(start_at)s, %(used)s, 0, '{}', %(quantities)s::jsonb)
    ON CONFLICT DO NOTHING;

-- @write_use
UPDATE metering.budget_use AS u
   SET used = w.used, held = w.held, told = w.told, quantities = w.quantities
  FROM jsonb_to_recordset(%(rows)s::jsonb)
       AS w (series uuid, start_at timestamptz, used numeric, held numeric, told integer[], quantities jsonb)
 WHERE u.tenant_id = %(tenant_id)s AND u.series = w.series AND u.start_at = w.start_at;

-- @usage_so_far
-- Of events that were corrected, the newest version.
SELECT sku, sum(quantity) AS quantity
  FROM (SELECT sku, quantity
          FROM metering.usage_event AS event
         WHERE tenant_id = %(tenant_id)s AND org_id = %(org_id)s AND sku = ANY (%(skus)s::text[])
           AND event_time >= %(start_at)s AND event_time < %(end_at)s
           AND NOT EXISTS (SELECT FROM metering.event_version AS version
                            WHERE version.tenant_id = %(tenant_id)s AND version.event_key = event.event_key)
        UNION ALL
        SELECT touched.sku, touched.quantity
          FROM metering.event_version AS touched
         WHERE touched.tenant_id = %(tenant_id)s AND touched.org_id = %(org_id)s
           AND touched.sku = ANY (%(skus)s::text[])
           AND touched.event_time >= %(start_at)s AND touched.event_time < %(end_at)s AND NOT touched.cancelled
           AND NOT EXISTS (SELECT FROM metering.event_version AS newer
                            WHERE newer.tenant_id = %(tenant_id)s AND newer.event_key = touched.event_key
                              AND newer.version > touched.version)) AS used
 GROUP BY sku;
