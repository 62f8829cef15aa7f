Statements of the transport. All run as the relay's role, but for those that write the log of the receiving site:
they run as the services' role, for the tenant of the events.

-- @identify
-- Which database this is: a copy of it on another server keeps the first number, a copy beside it the second.
SELECT t.system_id::text || '/' || d.oid::text AS owner
  FROM mesh.tick t, pg_database d WHERE t.feed = 'main' AND d.datname = current_database();

-- @details
-- Where the events of deliveries were born, and what their content is known by.
SELECT e.origin, i.content_hash
  FROM unnest(%(tenant_id)s::text[], %(recorded_at)s::timestamptz[], %(event_id)s::text[], %(id_hash)b::bytea[])
       WITH ORDINALITY AS w (tenant_id, recorded_at, event_id, id_hash, place)
  JOIN mesh.event e ON e.tenant_id = w.tenant_id AND e.recorded_at = w.recorded_at AND e.event_id = w.event_id
  LEFT JOIN mesh.event_identity i ON i.tenant_id = w.tenant_id AND i.id_hash = w.id_hash
 ORDER BY w.place;

-- @tail
SELECT sequence, number FROM mesh.transport_tail WHERE stream = %(stream)s AND lane = %(lane)s;

-- @store_tail
INSERT INTO mesh.transport_tail (stream, lane, sequence, number)
VALUES (%(stream)s, %(lane)s, %(sequence)s, %(number)s)
ON CONFLICT (stream, lane) DO UPDATE
   SET sequence = excluded.sequence, number = excluded.number, settled_at = clock_timestamp();

-- @settle_published
-- By the event's own id, not by its position: a database that was restored gives positions anew.
DELETE FROM mesh.delivery d
 USING unnest(%(tenant_id)s::text[], %(event_id)s::text[], %(generation)s::int[]) AS p (tenant_id, event_id, generation)
 WHERE d.consumer = %(consumer)s AND d.lane = %(lane)s
   AND d.tenant_id = p.tenant_id AND d.event_id = p.event_id AND d.generation = p.generation;

-- @make_shares
INSERT INTO mesh.lane_lease (consumer, lane)
SELECT %(consumer)s, share FROM generate_series(0, %(shares)s - 1) AS share ON CONFLICT DO NOTHING;

-- @claim_share
WITH free AS MATERIALIZED (
  SELECT l.consumer, l.lane FROM mesh.lane_lease l
   WHERE l.consumer = %(consumer)s AND l.lane < %(shares)s AND l.until_at <= clock_timestamp()
   ORDER BY l.until_at LIMIT 1 FOR UPDATE OF l SKIP LOCKED)
UPDATE mesh.lane_lease l
   SET owner = %(owner)s, epoch = l.epoch + 1, until_at = clock_timestamp() + %(ttl_ms)s * interval '1 ms'
  FROM free WHERE l.consumer = free.consumer AND l.lane = free.lane
RETURNING l.lane AS share, l.epoch;

-- @position
SELECT stream_made_at, sequence, numbers FROM mesh.transport_position
 WHERE site = %(site)s AND share = %(share)s;

-- @store_position
INSERT INTO mesh.transport_position (site, share, stream_made_at, sequence, numbers)
VALUES (%(site)s, %(share)s, %(stream_made_at)s, %(sequence)s, %(numbers)s)
ON CONFLICT (site, share) DO UPDATE
   SET stream_made_at = excluded.stream_made_at, sequence = excluded.sequence, numbers = excluded.numbers,
       taken_at = clock_timestamp();

-- @act_for
SELECT set_config('mesh.tenant', %(tenant_id)s, true), set_config('role', %(role)s, true);

-- @take_ids
-- Sorted, so that two transactions that bring the same ids wait for each other instead of dead-locking.
INSERT INTO mesh.event_identity (tenant_id, id_hash, content_hash)
SELECT %(tenant_id)s, i.id_hash, i.content_hash
  FROM unnest(%(id_hash)b::bytea[], %(content_hash)b::bytea[]) AS i (id_hash, content_hash)
 ORDER BY i.id_hash
ON CONFLICT DO NOTHING RETURNING id_hash;

-- @known_ids
-- In a statement of its own: the winner of a race is not visible to the one that lost it.
SELECT id_hash, content_hash FROM mesh.event_identity
 WHERE tenant_id = %(tenant_id)s AND id_hash = ANY(%(id_hash)b::bytea[]);

-- @append
INSERT INTO mesh.event (tenant_id, event_id, subject, schema_version, key, message_name, payload,
                        correlation_id, causation_id, traceparent, created_at, origin)
SELECT %(tenant_id)s, e.event_id, e.subject, e.schema_version, e.key, e.message_name, e.payload,
       e.correlation_id, e.causation_id, e.traceparent, e.created_at, %(origin)s
  FROM unnest(%(event_id)b::text[], %(subject)b::text[], %(schema_version)b::int[], %(key)b::text[],
              %(message_name)b::text[], %(payload)b::bytea[], %(correlation_id)b::text[], %(causation_id)b::text[],
              %(traceparent)b::text[], %(created_at)b::timestamptz[])
       WITH ORDINALITY AS e (event_id, subject, schema_version, key, message_name, payload, correlation_id,
                             causation_id, traceparent, created_at, place)
 ORDER BY e.place;

-- @refuse
INSERT INTO mesh.transport_refusal (site, stream_made_at, sequence, reason, tenant_id, event_id, detail, headers, payload)
VALUES (%(site)s, %(stream_made_at)s, %(sequence)s, %(reason)s, %(tenant_id)s, %(event_id)s, %(detail)s,
        %(headers)s, %(payload)b)
ON CONFLICT DO NOTHING;
