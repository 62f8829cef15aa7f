Statements of the event log, its sequencer and its dispatcher. Three kinds of session run them:

* publish: the services' role, inside the transaction whose facts the events are;
* everything else: the relay's role, which sees the log of all tenants and changes none of it.

-- @publish_one
-- What nearly every transaction does. seq, xid and recorded_at are Postgres's to give.
WITH named AS (
  INSERT INTO mesh.event_identity (tenant_id, id_hash, content_hash)
  VALUES (%(tenant_id)s, %(id_hash)b, %(content_hash)b))
INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name, payload,
                        correlation_id, causation_id, traceparent, created_at)
VALUES (%(tenant_id)s, %(event_id)s, %(subject)s, %(schema_version)s, %(key)s, %(message_name)s, %(payload)b,
        %(correlation_id)s, %(causation_id)s, %(traceparent)s, %(created_at)s);

-- @publish_many
-- The ids go in sorted, so that two transactions that bring the same ones wait for each other instead of
-- dead-locking; the log keeps the order of publishing. Arrays travel in binary, at half the cost of text.
WITH named AS (
  INSERT INTO mesh.event_identity (tenant_id, id_hash, content_hash)
  SELECT %(tenant_id)s, i.id_hash, i.content_hash
    FROM unnest(%(id_hash)b::bytea[], %(content_hash)b::bytea[]) AS i (id_hash, content_hash)
   ORDER BY i.id_hash)
INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name, payload,
                        correlation_id, causation_id, traceparent, created_at)
SELECT %(tenant_id)s, e.event_id, e.subject, e.schema_version, e.key, e.message_name, e.payload,
       e.correlation_id, e.causation_id, %(traceparent)s, %(created_at)s
  FROM unnest(%(event_id)b::text[], %(subject)b::text[], %(schema_version)b::int[], %(key)b::text[],
              %(message_name)b::text[], %(payload)b::bytea[], %(correlation_id)b::text[], %(causation_id)b::text[])
       WITH ORDINALITY AS e (event_id, subject, schema_version, key, message_name, payload, correlation_id,
                             causation_id, place)
 ORDER BY e.place;

-- @probe_snapshot
-- Costs no transaction id; the same text twice means that no transaction ended in between.
SELECT pg_current_snapshot()::text AS snapshot;

-- @probe_rows
-- Is there an event that became visible since the last tick? Reads only what the last snapshot left open.
WITH last AS MATERIALIZED (SELECT snapshot AS s FROM mesh.tick WHERE feed = 'main'),
cur AS MATERIALIZED (SELECT pg_current_snapshot() AS s),
done AS MATERIALIZED (
  SELECT x FROM last, cur, pg_snapshot_xip(last.s) AS x WHERE pg_visible_in_snapshot(x, cur.s))
SELECT EXISTS (
         SELECT 1 FROM mesh.event e
          WHERE e.xid >= (SELECT pg_snapshot_xmax(s) FROM last) AND e.xid < (SELECT pg_snapshot_xmax(s) FROM cur)
            AND pg_visible_in_snapshot(e.xid, (SELECT s FROM cur)))
    OR EXISTS (SELECT 1 FROM done JOIN mesh.event e ON e.xid = done.x)
    -- An interval that another tick left half used up.
    OR (SELECT target IS NOT NULL FROM mesh.tick WHERE feed = 'main') AS moved;

-- @tick
SELECT moved, last_position, more FROM mesh.tick(%(page_max)s);

-- @hold_feed
-- Holds the sequencer off while subscriptions change, so that each event meets either the old or the new set.
SELECT position FROM mesh.tick WHERE feed = 'main' FOR UPDATE;

-- @drop_subscriptions
DELETE FROM mesh.subscription s
 WHERE s.consumer = %(consumer)s
   AND NOT EXISTS (SELECT 1 FROM unnest(%(texts)s::text[], %(prefixes)s::bool[]) AS w (text, is_prefix)
                    WHERE w.text = s.text AND w.is_prefix = s.is_prefix);

-- @add_subscriptions
INSERT INTO mesh.subscription (consumer, text, is_prefix)
SELECT %(consumer)s, w.text, w.is_prefix FROM unnest(%(texts)s::text[], %(prefixes)s::bool[]) AS w (text, is_prefix)
ON CONFLICT DO NOTHING
RETURNING text, is_prefix;

-- @register_consumer
INSERT INTO mesh.consumer (consumer, replayable, parks_keys, by_tenant)
VALUES (%(consumer)s, %(replayable)s, %(parks_keys)s, %(by_tenant)s)
ON CONFLICT (consumer) DO UPDATE
   SET replayable = excluded.replayable, parks_keys = excluded.parks_keys, by_tenant = excluded.by_tenant,
       seen_at = clock_timestamp();

-- @shut_lanes
-- Before anything but the tick inserts deliveries: an owner may remember that it has read past their place. The
-- lanes stay shut until all of them are in.
INSERT INTO mesh.lane_lease (consumer, lane, until_at)
SELECT %(consumer)s, lane, 'infinity' FROM generate_series(0, 255) AS lane
ON CONFLICT (consumer, lane) DO UPDATE SET epoch = lane_lease.epoch + 1, owner = NULL, until_at = 'infinity';

-- @begin_back_fill
-- A new reader starts with the first event: a service that is started after others loses nothing.
INSERT INTO mesh.back_fill (consumer, texts, prefixes, last_position)
VALUES (%(consumer)s, %(texts)s, %(prefixes)s, %(last_position)s);

-- @hold_back_fill
-- Whoever fills, one at a time.
SELECT * FROM mesh.back_fill ORDER BY back_fill_id LIMIT 1 FOR UPDATE;

-- @take_turns
-- No replay puts anything into the consumer's queue as long as this transaction lasts: neither would see the other's.
SELECT pg_advisory_xact_lock(hashtextextended('tollmesh.back_fill/' || %(consumer)s, 0));

-- @keep_days
-- No day of the log goes as long as this transaction lasts.
SELECT pg_advisory_xact_lock_shared(hashtextextended('tollmesh.feed', 0));

-- @fill_page
-- So many places of the feed, tenant by tenant: nobody reads these lanes yet, so the order is of no matter.
WITH page AS MATERIALIZED (
  SELECT f.* FROM mesh.feed f
   WHERE (f.tenant_id, f.position) > (%(after_tenant)s, %(after_position)s) AND f.position <= %(last_position)s
   ORDER BY f.tenant_id, f.position LIMIT %(limit)s),
filled AS (
  INSERT INTO mesh.delivery (consumer, lane, position, tenant_id, key, event_id, recorded_at)
  SELECT %(consumer)s, f.lane, f.position, f.tenant_id, f.key, f.event_id, f.recorded_at
    FROM page f
   WHERE EXISTS (SELECT 1 FROM unnest(%(texts)s::text[], %(prefixes)s::bool[]) AS w (text, is_prefix)
                  WHERE CASE WHEN w.is_prefix THEN starts_with(f.subject, w.text) ELSE f.subject = w.text END)
     AND (NOT EXISTS (SELECT FROM mesh.consumer c WHERE c.consumer = %(consumer)s AND c.by_tenant)
          OR EXISTS (SELECT FROM mesh.interest n WHERE n.tenant_id = f.tenant_id AND n.consumer = %(consumer)s))
     AND NOT EXISTS (SELECT 1 FROM mesh.inbox i
                      WHERE i.tenant_id = f.tenant_id AND i.consumer = %(consumer)s AND i.event_id = f.event_id
                        AND i.recorded_at = f.recorded_at)
     AND NOT EXISTS (SELECT 1 FROM mesh.dead_letter l
                      WHERE l.tenant_id = f.tenant_id AND l.consumer = %(consumer)s AND l.event_id = f.event_id)
     -- A replay may have brought it meanwhile. A scalar, never a join with all that was filled in so far.
     AND (SELECT true FROM mesh.delivery d
           WHERE d.consumer = %(consumer)s AND d.lane = f.lane AND d.position = f.position LIMIT 1) IS NULL
  ON CONFLICT DO NOTHING)
UPDATE mesh.back_fill b SET after_tenant = last.tenant_id, after_position = last.position
  FROM (SELECT tenant_id, position FROM page ORDER BY tenant_id DESC, position DESC LIMIT 1) AS last
 WHERE b.back_fill_id = %(back_fill_id)s;

-- @end_back_fill
WITH ended AS (DELETE FROM mesh.back_fill WHERE back_fill_id = %(back_fill_id)s)
UPDATE mesh.lane_lease l SET until_at = clock_timestamp()
 WHERE l.consumer = %(consumer)s AND l.until_at = 'infinity'
   AND NOT EXISTS (SELECT 1 FROM mesh.back_fill b
                    WHERE b.consumer = %(consumer)s AND b.back_fill_id <> %(back_fill_id)s);

-- @claim
-- The lane that was served longest ago comes first. How far its last owner went is its lowest position, as long as
-- the epoch is still the one under which that was noted: whoever puts deliveries into a lane from the side starts
-- a new one. A candidate that another dispatcher is just taking is passed over.
WITH waiting AS (
  SELECT l.consumer, l.lane, CASE WHEN l.low_epoch = l.epoch THEN l.low ELSE -1 END AS low
    FROM mesh.lane_lease l
   WHERE l.until_at <= clock_timestamp() AND l.consumer = ANY(%(consumers)s)
   ORDER BY l.until_at),
candidate AS MATERIALIZED (
  SELECT w.consumer, w.lane FROM waiting w
   -- A scalar, which is asked lane by lane until there are enough, never a join of all lanes.
   WHERE (SELECT true FROM mesh.delivery d
           WHERE d.consumer = w.consumer AND d.lane = w.lane AND d.position > w.low
             AND (d.next_at IS NULL OR d.next_at <= clock_timestamp())
             AND NOT EXISTS (SELECT 1 FROM mesh.parked_key k
                              WHERE k.consumer = d.consumer AND k.lane = d.lane
                                AND k.tenant_id = d.tenant_id AND k.key = d.key)
           LIMIT 1)
   LIMIT %(limit)s + 8),
free AS MATERIALIZED (
  SELECT l.consumer, l.lane, l.owner, CASE WHEN l.low_epoch = l.epoch THEN l.low ELSE -1 END AS low
    FROM mesh.lane_lease l JOIN candidate c ON c.consumer = l.consumer AND c.lane = l.lane
   WHERE l.until_at <= clock_timestamp()
   ORDER BY l.until_at LIMIT %(limit)s FOR UPDATE OF l SKIP LOCKED)
UPDATE mesh.lane_lease l
   SET owner = %(owner)s, epoch = l.epoch + 1, until_at = clock_timestamp() + %(ttl_ms)s * interval '1 ms'
  FROM free WHERE l.consumer = free.consumer AND l.lane = free.lane
RETURNING l.consumer, l.lane, l.epoch, free.owner IS NOT NULL AS unclean, free.low;

-- @renew
UPDATE mesh.lane_lease SET until_at = clock_timestamp() + %(ttl_ms)s * interval '1 ms'
 WHERE consumer = %(consumer)s AND lane = %(lane)s AND epoch = %(epoch)s;

-- @release
-- Now, not -infinity: the lane that was served longest ago comes first, else expired ones starve.
UPDATE mesh.lane_lease SET owner = NULL, until_at = clock_timestamp(), low = %(low)s, low_epoch = epoch
 WHERE consumer = %(consumer)s AND lane = %(lane)s AND epoch = %(epoch)s;

-- @lease_owners
SELECT DISTINCT owner FROM mesh.lane_lease WHERE owner IS NOT NULL AND until_at > clock_timestamp();

-- @end_leases
-- The owner stays: whoever has the lane next sees that it vanished. What another transaction is changing it ends
-- itself, or has ended.
UPDATE mesh.lane_lease l SET until_at = clock_timestamp()
  FROM (SELECT consumer, lane FROM mesh.lane_lease
         WHERE owner = ANY(%(owners)s) AND until_at > clock_timestamp()
         ORDER BY consumer, lane FOR NO KEY UPDATE SKIP LOCKED) AS h
 WHERE l.consumer = h.consumer AND l.lane = h.lane;

-- @fetch
-- A waiting or parked event holds back the later ones of its key, no others. The position `low` spares
-- the read of what was deleted but not yet vacuumed. Large events come in fewer: so many bytes, and the one that
-- is too much for them; how long a payload is stands in its row, so none is read for it.
WITH held AS MATERIALIZED (
  SELECT tenant_id, key, min(position) AS position FROM mesh.delivery
   -- The 0 keeps the planner from going through the whole lane: who waits has an index of its own.
   WHERE consumer = %(consumer)s AND lane + 0 = %(lane)s AND next_at > statement_timestamp() GROUP BY 1, 2
  UNION ALL
  SELECT tenant_id, key, 0 FROM mesh.parked_key WHERE consumer = %(consumer)s AND lane = %(lane)s)
SELECT position, generation, attempts, tenant_id, key, event_id, recorded_at,
       EXISTS (SELECT 1 FROM held) AS held,
       subject, schema_version, message_name, payload, correlation_id, causation_id, traceparent, created_at
  FROM (
    SELECT p.*, sum(octet_length(p.payload)) OVER (
                  ORDER BY p.position, p.generation ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
      FROM (
        SELECT d.position, d.generation, d.attempts, d.tenant_id, d.key, d.event_id, d.recorded_at,
               e.subject, e.schema_version, e.message_name, e.payload, e.correlation_id, e.causation_id, e.traceparent,
               e.created_at
          FROM mesh.delivery d
          JOIN mesh.event e ON e.tenant_id = d.tenant_id AND e.recorded_at = d.recorded_at AND e.event_id = d.event_id
         WHERE d.consumer = %(consumer)s AND d.lane = %(lane)s AND d.position > %(low)s
           AND NOT EXISTS (SELECT 1 FROM held h
                            WHERE h.tenant_id = d.tenant_id AND h.key = d.key AND h.position <= d.position)
         ORDER BY d.position, d.generation LIMIT %(limit)s) AS p) AS w
 WHERE bytes_before IS NULL OR bytes_before <= %(bytes_max)s
 ORDER BY position, generation;

-- @limit_transaction
SELECT set_config('statement_timeout', %(limit_ms)s, true), set_config('lock_timeout', %(limit_ms)s, true),
       set_config('idle_in_transaction_session_timeout', %(limit_ms)s, true);

-- @fence
-- FOR KEY SHARE: the owner's renewal passes, a thief's new epoch waits for this transaction. Who holds it is ended
-- by the server when it goes silent.
WITH held AS MATERIALIZED (
  SELECT 1 FROM mesh.lane_lease
   WHERE consumer = %(consumer)s AND lane = %(lane)s AND epoch = %(epoch)s FOR KEY SHARE)
SELECT set_config('statement_timeout', %(limit_ms)s, true), set_config('lock_timeout', %(limit_ms)s, true),
       set_config('idle_in_transaction_session_timeout', %(limit_ms)s, true)
  FROM held;

-- @enter_inbox
-- Before the handler: of two that carry the same event one waits here for the other, then gets no row. Who
-- got in goes on as the services' role, for the event's tenant, until the savepoint or transaction ends.
WITH entered AS (
  INSERT INTO mesh.inbox (tenant_id, consumer, event_id, generation, recorded_at)
  VALUES (%(tenant_id)s, %(consumer)s, %(event_id)s, %(generation)s, %(recorded_at)s)
  ON CONFLICT DO NOTHING RETURNING tenant_id)
SELECT set_config('mesh.tenant', tenant_id, true), set_config('role', %(role)s, true) FROM entered;

-- @enter_group
-- The same for all events of one tenant at once: they leave the queue and enter the inbox. When all entered, as
-- nearly always, their names need not travel back.
WITH gone AS (
  DELETE FROM mesh.delivery d
   USING unnest(%(positions)s::text::bigint[], %(generations)s::text::int[]) AS s (position, generation)
   WHERE d.consumer = %(consumer)s AND d.lane = %(lane)s AND d.position = s.position AND d.generation = s.generation
  RETURNING d.tenant_id, d.event_id, d.generation, d.recorded_at),
entered AS (
  INSERT INTO mesh.inbox (tenant_id, consumer, event_id, generation, recorded_at)
  SELECT tenant_id, %(consumer)s, event_id, generation, recorded_at FROM gone
  ON CONFLICT DO NOTHING RETURNING event_id, generation)
SELECT count(*) AS entered, CASE WHEN count(*) < %(count)s THEN array_agg(event_id) END AS event_ids,
       CASE WHEN count(*) < %(count)s THEN array_agg(generation) END AS generations,
       set_config('mesh.tenant', %(tenant_id)s, true), set_config('role', %(role)s, true)
  FROM entered;

-- @act_for
-- The relay's session goes on as the services' role, for a tenant, until the savepoint or transaction ends.
SELECT set_config('mesh.tenant', %(tenant_id)s, true), set_config('role', %(role)s, true);

-- @settle
DELETE FROM mesh.delivery d USING unnest(%(positions)s::text::bigint[], %(generations)s::text::int[]) AS s (position, generation)
 WHERE d.consumer = %(consumer)s AND d.lane = %(lane)s AND d.position = s.position AND d.generation = s.generation;

-- @count_attempt
UPDATE mesh.delivery SET attempts = attempts + 1
 WHERE consumer = %(consumer)s AND lane = %(lane)s AND position = %(position)s AND generation = %(generation)s
RETURNING attempts;

-- @retry_later
UPDATE mesh.delivery SET attempts = %(attempts)s, last_error = %(error)s,
       next_at = clock_timestamp() + %(delay_ms)s * interval '1 ms'
 WHERE consumer = %(consumer)s AND lane = %(lane)s AND position = %(position)s AND generation = %(generation)s;

-- @bury
WITH dead AS (
  DELETE FROM mesh.delivery
   WHERE consumer = %(consumer)s AND lane = %(lane)s AND position = %(position)s AND generation = %(generation)s
  RETURNING *),
parked AS (
  INSERT INTO mesh.parked_key (tenant_id, consumer, lane, key)
  SELECT tenant_id, consumer, lane, key FROM dead WHERE %(park)s ON CONFLICT DO NOTHING),
calmed AS (
  -- Behind a replayed event that died, a later one of its key may wait for its next try: nobody is to look for it
  -- as long as the key is parked.
  UPDATE mesh.delivery d SET next_at = NULL FROM dead
   WHERE %(park)s AND d.consumer = dead.consumer AND d.lane + 0 = dead.lane AND d.next_at IS NOT NULL
     AND d.tenant_id = dead.tenant_id AND d.key = dead.key
     AND (d.position, d.generation) <> (dead.position, dead.generation))
INSERT INTO mesh.dead_letter (tenant_id, consumer, event_id, generation, lane, position, key, recorded_at, attempts, last_error)
SELECT tenant_id, consumer, event_id, generation, lane, position, key, recorded_at, %(attempts)s, %(error)s FROM dead;

-- @has_work
-- Asked all the time, so it reads no queue: has the feed grown since the lanes were gone through, or has an event
-- waited long enough for its next try?
SELECT position,
       position > %(covered)s
       OR EXISTS (SELECT 1 FROM mesh.delivery
                   WHERE consumer = ANY(%(consumers)s) AND next_at <= clock_timestamp()) AS work
  FROM mesh.tick WHERE feed = 'main';

-- @lanes_freed
-- Given back, run out or emptied of their owner just now; the margin is for who took its time to commit.
SELECT EXISTS (
  SELECT 1 FROM mesh.lane_lease
   WHERE consumer = ANY(%(consumers)s)
     AND until_at <= clock_timestamp() AND until_at > clock_timestamp() - interval '3 s') AS freed;

-- @is_quiet
-- In one snapshot: nothing waits to be sequenced, and nothing waits to be handled but what stands behind
-- a dead letter.
WITH last AS MATERIALIZED (SELECT snapshot AS s FROM mesh.tick WHERE feed = 'main'),
cur AS MATERIALIZED (SELECT pg_current_snapshot() AS s),
done AS MATERIALIZED (
  SELECT x FROM last, cur, pg_snapshot_xip(last.s) AS x WHERE pg_visible_in_snapshot(x, cur.s))
SELECT NOT EXISTS (
         SELECT 1 FROM mesh.event e
          WHERE e.xid >= (SELECT pg_snapshot_xmax(s) FROM last) AND e.xid < (SELECT pg_snapshot_xmax(s) FROM cur)
            AND pg_visible_in_snapshot(e.xid, (SELECT s FROM cur)))
   AND NOT EXISTS (SELECT 1 FROM done JOIN mesh.event e ON e.xid = done.x)
   AND (SELECT target IS NULL FROM mesh.tick WHERE feed = 'main')
   AND NOT EXISTS (SELECT 1 FROM mesh.back_fill b WHERE b.consumer = ANY(%(consumers)s))
   AND NOT EXISTS (
         SELECT 1 FROM mesh.delivery d
          WHERE d.consumer = ANY(%(consumers)s)
            AND NOT EXISTS (SELECT 1 FROM mesh.parked_key k
                             WHERE k.consumer = d.consumer AND k.lane = d.lane
                               AND k.tenant_id = d.tenant_id AND k.key = d.key)) AS quiet;

-- @owner_role
SELECT pg_get_userbyid(nspowner) AS owner FROM pg_namespace WHERE nspname = 'mesh';

-- @time_of_day
SELECT clock_timestamp() AS now;

-- @make_day
SELECT mesh.make_day(%(day)s) AS result;

-- @retire
SELECT step, name, removed FROM mesh.retire(%(before)s);

-- @strays
SELECT events, days FROM mesh.strays();

-- @sessions
-- Of this role: without pg_read_all_stats what others do is not shown.
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)), 0)::float AS transaction_s,
       coalesce(max(age(a.backend_xmin)), 0)::bigint AS xmin_age
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid();

-- @condition
-- What holds vacuum and the sequencer back, and how much waits. Counts are cut off: they tell much from little.
SELECT (SELECT extract(epoch FROM clock_timestamp() - t.ticked_at)::float FROM mesh.tick t WHERE t.feed = 'main')
         AS tick_age_s,
       EXISTS (SELECT 1 FROM mesh.event e, mesh.tick t
                WHERE t.feed = 'main' AND e.xid >= pg_snapshot_xmax(t.snapshot)
                  AND e.xid < pg_snapshot_xmin(pg_current_snapshot())) AS unsequenced,
       (SELECT count(*) FROM pg_prepared_xacts x WHERE x.database = current_database()) AS prepared,
       (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - x.prepared)), 0)::float
          FROM pg_prepared_xacts x WHERE x.database = current_database()) AS prepared_s,
       (SELECT coalesce(max(greatest(age(s.xmin), age(s.catalog_xmin))), 0)::bigint FROM pg_replication_slots s)
         AS slot_xmin_age,
       (SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)), 0)::bigint
          FROM pg_replication_slots s) AS slot_wal_bytes,
       (SELECT count(*) FROM mesh.dead_letter) AS dead_letters;

-- @waiting
SELECT c.consumer, w.waiting FROM mesh.consumer c
 CROSS JOIN LATERAL (
   SELECT count(*) AS waiting FROM (
     SELECT FROM mesh.delivery d WHERE d.consumer = c.consumer LIMIT %(limit)s) AS r) AS w;
