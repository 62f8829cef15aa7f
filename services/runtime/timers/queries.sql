Statements of timers and schedules. Those of the pump run as the relay's role up to `take_tenant`, and from there on as
the services' role, for one tenant; all others run in units of work.

-- @set_timer
-- The same key again replaces: when the earlier timer is just being fired, this waits and then sets a new one.
INSERT INTO mesh.timer (tenant_id, key, timer_id, due_at, subject, schema_version, event_key, message_name, payload,
                        correlation_id, causation_id, traceparent, created_at)
VALUES (%(tenant_id)s, %(key)s, %(timer_id)s, %(due_at)s, %(subject)s, %(schema_version)s, %(event_key)s,
        %(message_name)s, %(payload)s, %(correlation_id)s, %(causation_id)s, %(traceparent)s, %(created_at)s)
ON CONFLICT (tenant_id, key) DO UPDATE SET
  timer_id = excluded.timer_id, due_at = excluded.due_at, subject = excluded.subject,
  schema_version = excluded.schema_version, event_key = excluded.event_key, message_name = excluded.message_name,
  payload = excluded.payload, correlation_id = excluded.correlation_id, causation_id = excluded.causation_id,
  traceparent = excluded.traceparent, created_at = excluded.created_at;

-- @cancel_timers
-- Locked in the order of their keys, so that two that cancel the same ones wait for each other.
WITH meant AS MATERIALIZED (
  SELECT key FROM mesh.timer WHERE tenant_id = %(tenant_id)s AND key = ANY(%(keys)s) ORDER BY key FOR UPDATE)
DELETE FROM mesh.timer t USING meant WHERE t.tenant_id = %(tenant_id)s AND t.key = meant.key;

-- @cancel_timer_by_id
DELETE FROM mesh.timer WHERE tenant_id = %(tenant_id)s AND timer_id = %(timer_id)s
RETURNING timer_id, key, due_at, subject, schema_version, event_key, correlation_id, causation_id, created_at;

-- @list_timers
SELECT timer_id, key, due_at, subject, schema_version, event_key, correlation_id, causation_id, created_at
  FROM mesh.timer
 WHERE tenant_id = %(tenant_id)s AND key > %(after)s AND key >= %(first)s AND key < %(end)s
   AND due_at < %(due_before)s
 ORDER BY key LIMIT %(limit)s;

-- @put_schedule
INSERT INTO mesh.schedule (tenant_id, name, cron, time_zone, missed, subject, schema_version, event_key, message_name,
                           payload, next_at, updated_at)
VALUES (%(tenant_id)s, %(name)s, %(cron)s, %(time_zone)s, %(missed)s, %(subject)s, %(schema_version)s, %(event_key)s,
        %(message_name)s, %(payload)s, %(next_at)s, %(now)s)
ON CONFLICT (tenant_id, name) DO UPDATE SET
  -- What it owes stays owed, unless it now fires at other times. One that moved on by a clock that was ahead comes
  -- back; the guard knows the fires that were made.
  next_at = CASE WHEN (schedule.cron, schedule.time_zone) = (excluded.cron, excluded.time_zone)
                 THEN least(schedule.next_at, excluded.next_at) ELSE excluded.next_at END,
  cron = excluded.cron, time_zone = excluded.time_zone, missed = excluded.missed, subject = excluded.subject,
  schema_version = excluded.schema_version, event_key = excluded.event_key, message_name = excluded.message_name,
  payload = excluded.payload, updated_at = excluded.updated_at;

-- @get_schedules
SELECT name, cron, time_zone, missed, subject, schema_version, event_key, message_name, payload, next_at, last_at,
       updated_at
  FROM mesh.schedule WHERE tenant_id = %(tenant_id)s AND name > %(after)s ORDER BY name LIMIT %(limit)s;

-- @get_schedule
SELECT name, cron, time_zone, missed, subject, schema_version, event_key, message_name, payload, next_at, last_at,
       updated_at
  FROM mesh.schedule WHERE tenant_id = %(tenant_id)s AND name = %(name)s;

-- @hold_schedules
-- Two that add schedules of one tenant take turns, so that both see how many there are.
SELECT pg_advisory_xact_lock(hashtextextended('tollmesh.schedules/' || %(tenant_id)s, 0));

-- @count_schedules
SELECT count(*) FROM mesh.schedule WHERE tenant_id = %(tenant_id)s;

-- @delete_schedule
DELETE FROM mesh.schedule WHERE tenant_id = %(tenant_id)s AND name = %(name)s RETURNING name;

-- @next_due
-- Two looks at the ends of two indexes.
SELECT least((SELECT due_at FROM mesh.timer ORDER BY due_at LIMIT 1),
             (SELECT next_at FROM mesh.schedule ORDER BY next_at LIMIT 1)) AS at;

-- @due_lag
SELECT count(*) AS due, min(w.at) AS oldest_at FROM (
  (SELECT due_at AS at FROM mesh.timer WHERE due_at <= %(now)s ORDER BY due_at LIMIT 10000)
  UNION ALL
  (SELECT next_at FROM mesh.schedule WHERE next_at <= %(now)s ORDER BY next_at LIMIT 10000)) w;

-- @due_tenants
-- Of the first that are due; `cut` when there are more, of whom one tenant may hold all that was looked at.
WITH due AS MATERIALIZED (
  (SELECT tenant_id FROM mesh.timer WHERE due_at <= %(now)s ORDER BY due_at LIMIT %(window)s)
  UNION ALL
  (SELECT tenant_id FROM mesh.schedule WHERE next_at <= %(now)s ORDER BY next_at LIMIT %(window)s))
SELECT array_agg(DISTINCT tenant_id ORDER BY tenant_id) AS tenants, count(*) >= %(window)s AS cut FROM due;

-- @walk_due_tenants
-- From tenant to tenant along each index, whatever the number of their timers.
WITH RECURSIVE timers AS (
  (SELECT tenant_id, due_at FROM mesh.timer WHERE tenant_id > %(after)s ORDER BY tenant_id, due_at LIMIT 1)
  UNION ALL
  SELECT n.tenant_id, n.due_at FROM timers l
    CROSS JOIN LATERAL (SELECT t.tenant_id, t.due_at FROM mesh.timer t WHERE t.tenant_id > l.tenant_id
                         ORDER BY t.tenant_id, t.due_at LIMIT 1) n),
schedules AS (
  (SELECT tenant_id, next_at FROM mesh.schedule WHERE tenant_id > %(after)s ORDER BY tenant_id, next_at LIMIT 1)
  UNION ALL
  SELECT n.tenant_id, n.next_at FROM schedules l
    CROSS JOIN LATERAL (SELECT s.tenant_id, s.next_at FROM mesh.schedule s WHERE s.tenant_id > l.tenant_id
                         ORDER BY s.tenant_id, s.next_at LIMIT 1) n)
SELECT tenant_id FROM timers WHERE due_at <= %(now)s
 UNION
SELECT tenant_id FROM schedules WHERE next_at <= %(now)s
 ORDER BY tenant_id LIMIT %(limit)s;

-- @take_tenant
-- One pump at a time fires for a tenant, so that its timers become events in the order of their times. No row when
-- another is at it.
SELECT set_config('statement_timeout', %(limit_ms)s, true),
       set_config('idle_in_transaction_session_timeout', %(limit_ms)s, true),
       set_config('mesh.tenant', %(tenant_id)s, true), set_config('role', %(role)s, true)
 WHERE pg_try_advisory_xact_lock(hashtextextended('tollmesh.timers/' || %(tenant_id)s, 0));

-- @take_timers
-- What a running transaction is just cancelling or replacing is left to it.
WITH due AS MATERIALIZED (
  SELECT key FROM mesh.timer WHERE tenant_id = %(tenant_id)s AND due_at <= %(now)s
   ORDER BY due_at, timer_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
DELETE FROM mesh.timer t USING due WHERE t.tenant_id = %(tenant_id)s AND t.key = due.key
RETURNING t.timer_id, t.due_at, t.subject, t.schema_version, t.event_key, t.message_name, t.payload, t.correlation_id,
          t.causation_id, t.traceparent;

-- @put_off_timer
-- Materialized: joined with the update it may be looked for again for each row, and each time another one is found.
WITH f AS MATERIALIZED (
  SELECT key FROM mesh.timer WHERE tenant_id = %(tenant_id)s AND due_at <= %(now)s
   ORDER BY due_at, timer_id LIMIT 1 FOR UPDATE SKIP LOCKED)
UPDATE mesh.timer t SET due_at = %(until)s
  FROM f
 WHERE t.tenant_id = %(tenant_id)s AND t.key = f.key
RETURNING t.key, t.timer_id;

-- @take_schedules
SELECT name, cron, time_zone, missed, subject, schema_version, event_key, message_name, payload, next_at
  FROM mesh.schedule WHERE tenant_id = %(tenant_id)s AND next_at <= %(now)s
 ORDER BY next_at, name LIMIT %(limit)s FOR UPDATE SKIP LOCKED;

-- @guard_fires
INSERT INTO mesh.schedule_fire (tenant_id, name, fire_at, event_id)
SELECT %(tenant_id)s, %(name)s, f.fire_at, f.event_id
  FROM unnest(%(fire_at)s::timestamptz[], %(event_id)s::text[]) AS f (fire_at, event_id) ORDER BY f.fire_at
ON CONFLICT DO NOTHING
RETURNING fire_at, event_id;

-- @move_schedule
UPDATE mesh.schedule SET next_at = %(next_at)s, last_at = coalesce(%(last_at)s::timestamptz, last_at)
 WHERE tenant_id = %(tenant_id)s AND name = %(name)s;

-- @forget_fires
DELETE FROM mesh.schedule_fire
 WHERE tenant_id = %(tenant_id)s AND name = %(name)s AND fire_at < %(before)s;
